"""The first page: what to do, why, and what it rests on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.domain.charts import Scatter, scatter
from app.domain.runs import Slot
from app.web.ports import Pages, Row
from app.web.rendering import MissingPage, Page
from app.web.svg import scatter_svg
from app.web.verdicts import headline

RECENT_RUNS = 8
_DRIFT = (
    ("traffic", "Traffic", "change in quality because other prompts came"),
    ("primary", "Primary model", "change on prompts repeated every week"),
    ("judge", "Judge", "change when stored replies are judged again"),
    ("price", "Price", "change in the primary's cost per request"),
)


async def overview(
    pages: Pages,
    plan_name: str,
    *,
    now: datetime,
    next_slot: Slot | None,
    run_id: str | None = None,
) -> Page:
    """The overview of a plan, on its newest verdict or on the Run that is named.

    Args:
        pages: The reads.
        plan_name: The plan.
        now: The instant of the request.
        next_slot: When the plan runs next, None when it is run by hand.
        run_id: The Run to show.

    Raises:
        MissingPage: If there is no such Run.
    """
    shown = await _shown_run(pages, plan_name, run_id)
    recent = await pages.runs(plan_name, limit=RECENT_RUNS)
    alerts = await pages.open_alerts(plan_name)
    month_start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    data: dict[str, Any] = {
        "plan": plan_name,
        "next_slot": None if next_slot is None else next_slot.key,
        "alerts": [dict(alert) for alert in alerts],
        "runs": [_run_line(row) for row in recent],
        "report": None if shown is None else shown["document"],
        "month": {
            "since": month_start,
            "spend_usd": await pages.spend_since(plan_name, month_start),
            "budget_usd": _budget(shown),
        },
    }
    drawn = (
        {"newer": _newer(recent, shown), "run": shown} if shown else {"newer": None, "run": None}
    )
    if shown is not None:
        drawn |= report_parts(shown["document"])
    return Page(template="overview.html", title="Overview", data=data, drawn=drawn)


def report_parts(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the pages draw of a Run's document: headline, chart, leaderboard styles, drift."""
    drawn = scatter(_chart(document))
    styles = _styles(document, drawn)
    return {
        "headline": headline(document),
        "scatter": None if drawn is None else scatter_svg(drawn, key="value"),
        "frontier": () if drawn is None else drawn.best,
        "styles": styles,
        "compared": {one["candidate"]: one for one in document["comparisons"]},
        "drift": [
            {"name": name, "what": what, "figure": (document["drift"] or {}).get(key)}
            for key, name, what in _DRIFT
        ],
    }


async def _shown_run(pages: Pages, plan_name: str, run_id: str | None) -> Row | None:
    if run_id is not None:
        run = await pages.run(run_id)
        if run is None or run["document"] is None or run["plan_name"] != plan_name:
            raise MissingPage
        return run
    verdict = await pages.newest_run(plan_name, is_verdict=True)
    return verdict or await pages.newest_run(plan_name, is_verdict=False)


def _run_line(row: Row) -> dict[str, Any]:
    kept = ("run_id", "slot", "slot_at", "status", "trigger", "error_message", "verdicts")
    return {name: row[name] for name in kept}


def _newer(recent: Sequence[Row], shown: Row) -> Row | None:
    """A Run of a slot after the one that is shown that says no verdict."""
    for row in recent:
        if row["slot_at"] <= shown["slot_at"]:
            return None
        if row["trigger"] != "hand" and row["status"] not in {"skipped", "missed"}:
            return row
    return None


def _budget(shown: Row | None) -> Decimal | None:
    config = (shown or {}).get("frozen") or {}
    cap = ((config.get("config") or {}).get("budget") or {}).get("per_month_usd")
    return None if cap is None else Decimal(cap)


def _styles(document: Mapping[str, Any], drawn: Scatter | None) -> dict[str, int]:
    """The mark of every model, as the chart draws it."""
    styles = {mark.name: mark.style for mark in drawn.marks} if drawn else {}
    for model in document["models"]:
        styles.setdefault(model["name"], len(styles))
    return styles


def _chart(document: Mapping[str, Any]) -> dict[str, object]:
    return {
        "points": [
            {
                "name": model["name"],
                "role": model["role"],
                "cases": model["cases"],
                "cost": _bounds(model["intervals"]["cost_per_success_usd"]),
                "quality": _bounds(model["quality"]),
            }
            for model in document["models"]
            if model["quality"] and model["intervals"]["cost_per_success_usd"]
        ]
    }


def _bounds(figure: Mapping[str, Any]) -> list[float]:
    return [float(figure[end]) for end in ("low", "value", "high")]
