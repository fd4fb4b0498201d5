"""The trend of every model over Runs, from their documents."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from app.cli.figures import dollar_range, dollars, interval, milliseconds, share
from app.cli.tables import Table, terminal_table

Row = Mapping[str, Any]

_NOTE = "* the configuration changed since the run before: figures may not be comparable"


def history_rows(
    documents: Sequence[Mapping[str, Any]], *, model: str | None = None
) -> list[dict[str, Any]]:
    """One row per Run and model, oldest Run first.

    Args:
        documents: Documents of Runs, oldest first.
        model: The only model of interest.
    """
    rows: list[dict[str, Any]] = []
    before: str | None = None
    for document in documents:
        verdicts = {one["candidate"]: one["verdict"] for one in document["comparisons"]}
        digest = document.get("config_hash")
        rows += [
            {
                "slot": document["slot"],
                "run_id": document["run_id"],
                "name": one["name"],
                "role": one["role"],
                "cases": one["cases"],
                "quality": one["quality"],
                "success_rate": one["success_rate"],
                "cost_per_success_usd": one["cost_per_success_usd"],
                "cost_per_quality_usd": one["cost_per_quality_usd"],
                "latency_p95_ms": (one["latency_ms"] or {}).get("p95"),
                "verdict": verdicts.get(one["name"]),
                "is_new_configuration": before is not None and digest != before,
            }
            for one in document["models"]
            if model in {None, one["name"]}
        ]
        before = digest
    return rows


def print_history(rows: Sequence[Row], console: Console) -> None:
    """Print one table per model."""
    if not rows:
        console.print(Text("No scheduled run is complete yet."))
        return
    names = list(dict.fromkeys((row["name"], row["role"]) for row in rows))
    for name, role in names:
        mine = [row for row in rows if row["name"] == name]
        console.print(terminal_table(_table(name, role, mine)))
    if any(row["is_new_configuration"] for row in rows):
        console.print(Text(_NOTE, style="dim"))


def history_csv(rows: Sequence[Row]) -> str:
    """One line per Run and model, intervals in columns of their own."""
    flat = [_flat(row) for row in rows]
    text = io.StringIO()
    if flat:
        writer = csv.DictWriter(text, fieldnames=list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    return text.getvalue()


def _table(name: str, role: str, rows: Sequence[Row]) -> Table:
    columns = ("Run", "Cases", "Quality", "Success", "Per success", "Per quality point", "p95")
    return Table(
        title=f"{name} ({role})",
        columns=(*columns, "Verdict") if role != "primary" else columns,
        right=frozenset(columns[1:]),
        rows=[
            (
                _when(row),
                f"{row['cases']:,}",
                interval(row["quality"]),
                share(row["success_rate"]),
                dollars(row["cost_per_success_usd"]),
                dollar_range(row["cost_per_quality_usd"]),
                milliseconds(row["latency_p95_ms"]),
                *((row["verdict"] or "",) if role != "primary" else ()),
            )
            for row in rows
        ],
    )


def _when(row: Row) -> str:
    mark = " *" if row["is_new_configuration"] else ""
    return str(row["slot"]).replace("T", " ") + mark


def _flat(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if name in {"quality", "cost_per_quality_usd"}:
            stem, unit = name.removesuffix("_usd"), "_usd" if name.endswith("_usd") else ""
            figure = value or {}
            cells[name] = figure.get("value")
            cells[f"{stem}_low{unit}"] = figure.get("low")
            cells[f"{stem}_high{unit}"] = figure.get("high")
        else:
            cells[name] = value
    return cells
