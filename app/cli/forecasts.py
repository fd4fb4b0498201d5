"""What a Run of a plan would sample, call, cost and be able to show."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from app.cli.figures import counted, dollars, whole
from app.cli.session import Session
from app.cli.tables import Table, terminal_table
from app.daemon.slots import next_slots
from app.domain.cases import Sample, Window
from app.domain.plans import Plan
from app.domain.runs import Run, RunStatus
from app.pipeline import known_prices
from app.ports import Clock
from app.sampling.draw import DrawRequest, draw_sample
from app.stats.evidence import Evidence
from app.storage.migrations import SchemaState, status
from app.summary.forecast import CostRange, Forecast, forecast
from app.wiring import clock_for, log_source, logs_dsn, open_storage, price_book, results_database

Found = Mapping[str, Any]


def forecast_run(session: Session, plan: Plan) -> dict[str, Any]:
    """Draw a Sample as a Run now would, and forecast from it; writes and sends nothing.

    Raises:
        UnknownPrice: If nothing could be spent on some model.
        LogSourceError: If the log cannot be read.
        NothingToReplay: If the window holds nothing to replay.
    """
    clock = clock_for(session.settings)
    book = price_book(plan)
    prices = known_prices(plan.models, lambda model: book.price(model, clock.now()))
    with results_database(session.settings) as dsn:
        sample, query_plan = asyncio.run(_sample(session, plan, dsn, clock))
        history, last = asyncio.run(_history(plan, dsn, clock))
    return _told(plan, sample, forecast(plan, sample, prices, history), query_plan, clock, last)


def print_forecast(found: Found, console: Console) -> None:
    """Print it."""
    sample = found["sample"]
    console.print(Text(f"{found['plan']}: a run now", style="bold"))
    console.print(
        Text(
            f"{whole(sample['cases'])} cases from {whole(sample['drawn'])} of "
            f"{whole(sample['frame'])} logged prompts of the last {sample['days']:g} days; "
            f"{whole(sample['duplicates'])} duplicates folded"
        )
    )
    if sample["skipped"]:
        console.print(Text(f"skipped: {counted(sample['skipped'])}"))
    if sample["strata"]:
        console.print(Text(f"strata: {counted(sample['strata'])}"))
    if found["query_plan"]:
        console.print(Text(f"log query: {found['query_plan']}", style="dim"))
    rows = [
        (one["name"], whole(one["calls"]), *_cost_cells(one["cost"])) for one in found["models"]
    ]
    rows.append(("judge", whole(found["judge_calls"]), *_cost_cells(found["judge_cost"])))
    if found["embedding_calls"]:
        cells = _cost_cells(found["embedding_cost"])
        rows.append(("embeddings", whole(found["embedding_calls"]), *cells))
    rows.append(("total", "", *_cost_cells(found["cost"])))
    console.print(
        terminal_table(
            Table(
                title="Calls and cost",
                columns=("Model", "Calls", "At least", "Expected", "At most"),
                right=frozenset({"Calls", "At least", "Expected", "At most"}),
                rows=rows,
                emphasised=frozenset({len(rows) - 1}),
            )
        )
    )
    for sentence in (*found["sentences"], *found["notes"]):
        console.print(Text(sentence))
    if found["budget_usd"]:
        console.print(Text(f"Budget of a run: {dollars(found['budget_usd'])}."))
    console.print(Text("Nothing was sent.", style="dim"))


async def _sample(
    session: Session, plan: Plan, dsn: str, clock: Clock
) -> tuple[Sample, str | None]:
    now = clock.now()
    window = Window(start=now - plan.sample.window, end=now)
    source = log_source(plan, logs_dsn(plan, session.settings, dsn))
    request = DrawRequest(
        run_id="plan", window=window, seed=1, settings=plan.sample, privacy=plan.privacy
    )
    try:
        return await draw_sample(source, request), await source.explain(window)
    finally:
        await source.close()


async def _history(plan: Plan, dsn: str, clock: Clock) -> tuple[list[Evidence], Run | None]:
    """The plan's stored weeks; none where the database holds no schema yet."""
    if (await asyncio.to_thread(status, dsn)).state is not SchemaState.CURRENT:
        return [], None
    async with open_storage(dsn, clock, [plan]) as storage:
        weeks = await storage.runs.evidence(plan.name, since_week="")
        last = await storage.runs.latest_run(plan.name, statuses=(RunStatus.DONE,))
    return [week.evidence for week in weeks if week.primary == plan.primary.name], last


def _told(
    plan: Plan,
    sample: Sample,
    found: Forecast,
    query_plan: str | None,
    clock: Clock,
    last: Run | None,
) -> dict[str, Any]:
    upcoming = next_slots(plan.schedule, clock.now(), 1) if plan.schedule else ()
    budget = plan.budget.per_run_usd
    return {
        "plan": plan.name,
        "config_hash": plan.config_hash,
        "sample": _sample_facts(sample),
        "models": [
            {
                "name": model.name,
                "model": model.model,
                "role": model.role.value,
                "calls": len(sample.cases) + (len(sample.anchors) if model is plan.primary else 0),
                "cost": _cost(found.models.get(model.name)),
            }
            for model in plan.contestants
        ],
        "calls": found.calls,
        "judge_calls": found.judge_calls,
        "judge_cost": _cost(found.judging),
        "embedding_calls": found.embedding_calls,
        "embedding_cost": _cost(found.embedding),
        "cost": _cost(found.total),
        "budget_usd": None if budget is None else format(budget, "f"),
        "detectable": {
            "quality_delta": found.detectable_difference,
            "value_ratio": found.detectable_ratio,
        },
        "weeks_to_decision": [
            {
                "quality_delta": one.difference,
                "value_ratio": one.ratio,
                "pairs": one.pairs,
                "median_weeks": one.median_weeks,
                "likely_weeks": one.likely_weeks,
            }
            for one in found.weeks
        ],
        "sentences": list(found.sentences),
        "notes": list(found.notes),
        "query_plan": query_plan,
        "last_run": last.run_id if last else None,
        "next_slot": upcoming[0].key if upcoming else None,
    }


def _sample_facts(sample: Sample) -> dict[str, Any]:
    strata = Counter(case.stratum for case in sample.cases if case.stratum)
    return {
        "frame": sample.frame,
        "requested": sample.requested,
        "drawn": sample.drawn,
        "cases": len(sample.cases),
        "duplicates": sample.drawn - len(sample.cases),
        "skipped": dict(sample.skipped),
        "strata": dict(strata),
        "days": sample.window.days,
        "window": {
            "start": sample.window.start.isoformat(),
            "end": sample.window.end.isoformat(),
        },
    }


def _cost(cost: CostRange | None) -> dict[str, str] | None:
    if cost is None:
        return None
    return {
        "low_usd": f"{cost.low_usd:.6f}",
        "expected_usd": f"{cost.expected_usd:.6f}",
        "high_usd": f"{cost.high_usd:.6f}",
    }


def _cost_cells(cost: Mapping[str, str] | None) -> tuple[str, str, str]:
    found = cost or {}
    return (
        dollars(found.get("low_usd")),
        dollars(found.get("expected_usd")),
        dollars(found.get("high_usd")),
    )
