"""Runs: the list, one Run from logged rows to pairs, and why its verdicts are what they are."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.attempts import FailureClass
from app.domain.results import CaseResult
from app.web.cases import is_final, primary_of
from app.web.overview import report_parts
from app.web.ports import Pages, Row
from app.web.rendering import MissingPage, Page
from app.web.svg import pulse_svg
from app.web.verdicts import STATUSES

PAGE_SIZE = 40
BUCKETS = 48
_HIDDEN = "(hidden)"
#: Names under which a set-up could hold a secret; the stored one holds none, and this makes sure.
_SECRET_WORDS = ("api_key", "token", "secret", "password", "webhook_url", "authorization", "dsn")
_PUBLIC_WORDS = frozenset({"max_tokens", "max_input_tokens", "mean_logged_output_tokens"})


async def run_list(pages: Pages, plan_name: str, *, page: int) -> Page:
    """The Runs of a plan, newest first.

    Raises:
        MissingPage: If the page number is none.
    """
    if page < 1:
        raise MissingPage
    rows = await pages.runs(plan_name, limit=PAGE_SIZE + 1, offset=(page - 1) * PAGE_SIZE)
    if not rows and page > 1:
        raise MissingPage
    data = {
        "plan": plan_name,
        "page": page,
        "has_more": len(rows) > PAGE_SIZE,
        "runs": [dict(row) for row in rows[:PAGE_SIZE]],
    }
    return Page(template="runs.html", title="Runs", data=data)


async def run_page(pages: Pages, run: Row) -> Page:
    """One Run: its result, its funnel, its calls and its set-up."""
    results = await pages.case_results(run["run_id"], is_final=is_final(run))
    calls = await pages.calls(run["run_id"])
    pulse = await pages.pulse(run["run_id"], buckets=BUCKETS)
    frozen: Mapping[str, Any] = run["frozen"] or {}
    facts = {name: run[name] for name in run if name not in {"frozen", "document"}}
    data = {
        "plan": run["plan_name"],
        "run": facts,
        "funnel": _funnel(run, results),
        "calls": [dict(row) for row in calls],
        "set_up": without_secrets(frozen),
        "report": run["document"],
    }
    drawn: dict[str, Any] = {
        "timeline": _timeline(run),
        "pulse": pulse_svg(_buckets(pulse), key="pulse") if pulse else None,
        "pulse_rows": _pulse_rows(pulse),
        "set_up_text": json.dumps(without_secrets(frozen), indent=2, ensure_ascii=False),
        "run": run,
    }
    if run["document"]:
        drawn |= report_parts(run["document"])
    slot = run["slot"].replace("T", " ")
    return Page(template="run.html", title=f"Run of {slot}", data=data, drawn=drawn)


def explain_page(run: Row) -> Page:
    """Every test of the policy with its figures.

    Raises:
        MissingPage: If the Run has not ended.
    """
    document = run["document"]
    if document is None:
        raise MissingPage
    kept = ("candidate", "primary", "verdict", "state", "reasons", "caveats", "epoch_reason")
    data = {
        "plan": run["plan_name"],
        "run_id": run["run_id"],
        "slot": run["slot"],
        "comparisons": [
            {**{name: one.get(name) for name in kept}, "tests": one.get("tests") or {}}
            for one in document["comparisons"]
        ],
    }
    drawn = {"policy": ((run["frozen"] or {}).get("config") or {}).get("policy") or {}}
    return Page(template="explain.html", title="Why this verdict", data=data, drawn=drawn)


def without_secrets(value: Any) -> Any:
    """The value with whatever stands under a secret's name hidden; already hidden marks stay."""
    if isinstance(value, Mapping):
        return {key: _hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value


def _hidden(key: str, item: Any) -> Any:
    is_secret = key not in _PUBLIC_WORDS and any(word in key.lower() for word in _SECRET_WORDS)
    if is_secret and isinstance(item, str) and item not in {"", "…"} and "://" not in item:
        return _HIDDEN
    return without_secrets(item)


def _funnel(run: Row, results: Sequence[CaseResult]) -> dict[str, Any]:
    """From logged rows to pairs, with the reason of every loss."""
    primary = primary_of(run)
    base = {row.case_id: row for row in results if row.model_name == primary}
    names = sorted({row.model_name for row in results}, key=lambda name: (name != primary, name))
    skipped: Mapping[str, int] = run["skipped"] or {}
    fresh = run["cases_sampled"] or 0
    return {
        "frame": run["frame"],
        "requested": run["cases_requested"],
        "drawn": run["drawn"],
        "skipped": dict(skipped),
        "duplicates": max((run["drawn"] or 0) - fresh, 0),
        "sampled": fresh,
        "models": [
            _model_funnel(name, [row for row in results if row.model_name == name], base)
            for name in names
        ],
    }


def _model_funnel(
    name: str, rows: Sequence[CaseResult], base: Mapping[str, CaseResult]
) -> dict[str, Any]:
    replayed = [row for row in rows if row.failure_class is not FailureClass.BREAKER_OPEN]
    evaluated = [row for row in replayed if row.quality is not None]
    paired = [row for row in evaluated if _is_scored(base.get(row.case_id))]
    losses = Counter(
        f"no call: {FailureClass.BREAKER_OPEN.value}" for _ in range(len(rows) - len(replayed))
    )
    losses.update(
        f"unscored: {row.unscored_reason or 'no score'}" for row in replayed if row.quality is None
    )
    losses.update(
        "the primary has no score on this case"
        for row in evaluated
        if not _is_scored(base.get(row.case_id))
    )
    return {
        "model": name,
        "is_primary": any(row is base.get(row.case_id) for row in rows),
        "cases": len(rows),
        "anchors": sum(row.is_anchor for row in rows),
        "replayed": len(replayed),
        "successful": sum(row.is_success for row in replayed),
        "evaluated": len(evaluated),
        "paired": len(paired),
        "failures": dict(Counter(r.failure_class.value for r in rows if r.failure_class)),
        "losses": dict(losses),
    }


def _is_scored(row: CaseResult | None) -> bool:
    return row is not None and row.quality is not None


def _timeline(run: Row) -> list[tuple[str, Any, str]]:
    """What happened when."""
    status = STATUSES[run["status"]].label
    ended = run["error_message"] or ""
    steps = (
        ("Asked for", run["created_at"], f"by {run['trigger'].replace('_', ' ')}"),
        ("Started", run["started_at"], _restarts(run["restarts"])),
        (status, run["finished_at"], ended),
    )
    return [step for step in steps if step[1] is not None]


def _restarts(count: int) -> str:
    if not count:
        return ""
    return "begun again once" if count == 1 else f"begun again {count} times"


def _buckets(pulse: Sequence[Row]) -> list[tuple[int, int, int]]:
    """Replays, judgements and failures of each part of the Run."""
    counts: Counter[tuple[int, str]] = Counter()
    for row in pulse:
        kind = "failure" if row["is_failure"] else row["purpose"]
        counts[row["bucket"], kind] += row["calls"]
    return [
        (counts[number, "replay"], counts[number, "judge"], counts[number, "failure"])
        for number in range(1, BUCKETS + 1)
    ]


def _pulse_rows(pulse: Sequence[Row]) -> list[tuple[str, list[int]]]:
    """The chart as a table of eight parts."""
    if not pulse:
        return []
    buckets, parts = _buckets(pulse), 8
    width = BUCKETS // parts
    seconds = (pulse[0]["high"] - pulse[0]["low"]) / parts
    return [
        (
            f"{part * seconds:,.1f}–{(part + 1) * seconds:,.1f} s",
            [sum(bucket[kind] for bucket in buckets[part * width :][:width]) for kind in range(3)],
        )
        for part in range(parts)
    ]
