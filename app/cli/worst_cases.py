"""Pairs in which a candidate did worse than the primary, worst first; without any prompt text."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from app.cli.figures import number
from app.cli.session import nearest_of
from app.cli.stored import chosen_run
from app.cli.tables import Table, terminal_table
from app.domain.errors import ConfigError
from app.domain.results import CaseResult
from app.wiring import Storage


async def worst_cases(
    storage: Storage, plan_name: str, run_id: str | None, *, candidate: str | None, limit: int
) -> dict[str, Any]:
    """The pairs of a Run that got worse.

    Raises:
        ConfigError: If there is no such Run or candidate.
    """
    run = await chosen_run(storage, plan_name, run_id)
    document: Any = await storage.runs.document(run.run_id) or {"models": []}
    roles = {one["name"]: one["role"] for one in document["models"]}
    primary = next((name for name, role in roles.items() if role == "primary"), None)
    candidates = [name for name, role in roles.items() if role == "candidate"]
    if candidate is not None and candidate not in candidates:
        raise ConfigError(
            f"the run has no candidate {candidate!r}{nearest_of(candidate, candidates)}"
        )
    results = [row for row in await storage.runs.results(run.run_id) if not row.is_anchor]
    pairs = _pairs(results, primary, candidate)
    worse = sorted((pair for pair in pairs if pair["quality_delta"] < 0), key=_badness)
    return {
        "run_id": run.run_id,
        "plan": run.plan_name,
        "primary": primary,
        "pairs": len(pairs),
        "worse": len(worse),
        "cases": worse[:limit],
    }


def print_worst(found: Mapping[str, Any], console: Console) -> None:
    """Print the pairs."""
    if not found["pairs"]:
        console.print(Text("No pair of this run has scores: they may have been pruned."))
        return
    console.print(
        Text(f"{found['worse']:,} of {found['pairs']:,} pairs are worse than {found['primary']}")
    )
    columns = ("Candidate", "Case", "Log row", "Segments", "Quality", "Primary", "Change", "Why")
    table = Table(
        title=f"Worst first (run {found['run_id']})",
        columns=columns,
        right=frozenset({"Quality", "Primary", "Change"}),
        rows=[
            (
                pair["candidate"],
                pair["case_id"][:8],
                pair["source_id"],
                " ".join(f"{name}={value}" for name, value in pair["segments"].items()),
                number(pair["quality"]),
                number(pair["primary_quality"]),
                number(pair["quality_delta"]),
                (pair["failure_class"] or "").replace("_", " "),
            )
            for pair in found["cases"]
        ],
    )
    if table.rows:
        console.print(terminal_table(table))


def _pairs(
    results: Sequence[CaseResult], primary: str | None, candidate: str | None
) -> list[dict[str, Any]]:
    mine = {row.case_id: row for row in results if row.model_name == primary}
    return [
        _pair(row, mine[row.case_id])
        for row in results
        if row.model_name != primary
        and candidate in {None, row.model_name}
        and row.case_id in mine
        and row.quality is not None
        and mine[row.case_id].quality is not None
    ]


def _pair(row: CaseResult, mine: CaseResult) -> dict[str, Any]:
    quality, before = row.quality or 0.0, mine.quality or 0.0
    return {
        "candidate": row.model_name,
        "case_id": row.case_id,
        "source_id": row.source_id,
        "segments": dict(row.segments),
        "quality": quality,
        "primary_quality": before,
        "quality_delta": quality - before,
        "failure_class": row.failure_class.value if row.failure_class else None,
        "cost_usd": format(row.spend_usd, "f"),
        "primary_cost_usd": format(mine.spend_usd, "f"),
    }


def _badness(pair: Mapping[str, Any]) -> tuple[float, str, str]:
    return pair["quality_delta"], pair["candidate"], pair["case_id"]
