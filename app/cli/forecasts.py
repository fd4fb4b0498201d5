"""What a Run of a plan would sample, call, cost and be able to show."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

from app.cli.figures import counted, dollar_range, dollars, whole
from app.cli.session import Session
from app.cli.tables import Table, terminal_table
from app.daemon.slots import next_slots
from app.domain.cases import Sample, Window
from app.domain.plans import Plan
from app.domain.runs import Run, RunStatus
from app.domain.wording import count, percent, signed
from app.pipeline import known_prices
from app.ports import Clock
from app.sampling.draw import DrawRequest, draw_sample
from app.stats.critical_values import WINDOWS
from app.stats.evidence import Evidence
from app.storage.migrations import SchemaState, status
from app.summary.forecast import Forecast, forecast
from app.summary.run_costs import CallRange, CostRange
from app.summary.track_record import TrackRecord, uses_of
from app.wiring import clock_for, log_source, logs_dsn, open_storage, price_book, results_database

_MONTH = timedelta(days=30)
_SLOTS_LOOKED_AT = 53

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
        record, last = asyncio.run(_record(plan, dsn, clock))
    told = forecast(plan, sample, prices, record)
    return _told(plan, sample, told, query_plan, clock, last)


def print_forecast(found: Found, console: Console) -> None:
    """Print it."""
    sample = found["sample"]
    console.print(Text(f"{found['plan']}: a run now", style="bold"))
    console.print(
        Text(
            f"{whole(sample['cases'])} cases from {whole(sample['drawn'])} of "
            f"{whole(sample['frame'])} logged prompts of the last {sample['days']:g} days; "
            f"{whole(sample['duplicates'])} duplicates folded; {whole(found['anchors'])} anchors"
        )
    )
    if sample["skipped"]:
        console.print(Text(f"skipped: {counted(sample['skipped'])}"))
    if sample["strata"]:
        console.print(Text(f"strata: {counted(sample['strata'])}"))
    if found["query_plan"]:
        console.print(Text(f"log query: {found['query_plan']}", style="dim"))
    console.print()
    console.print(terminal_table(_cost_table(found)))
    for sentence in (_rhythm(found["monthly"]), *_budgets(found), *found["notes"]):
        console.print(Text(sentence))
    console.print()
    console.print(Text("What it can show", style="bold"))
    first, *_, basis = found["sentences"]
    console.print(Text(first))
    console.print()
    console.print(terminal_table(_effect_table(found)))
    console.print(Text(basis))
    console.print(Text("Nothing was sent.", style="dim"))


def _cost_table(found: Found) -> Table:
    """What a Run and a month of Runs cost, per model and for judging."""
    monthly = found["monthly"]
    rows = [
        (
            one["name"],
            whole(one["calls"]),
            _range(one["cost"]),
            _range(monthly["models"].get(one["name"])),
        )
        for one in found["models"]
    ]
    rows.append(
        (
            "judge",
            whole(found["judge_calls"]),
            _range(found["judge_cost"]),
            _range(monthly["judge"]),
        )
    )
    if found["embedding_calls"]:
        cost, month = _range(found["embedding_cost"]), _range(monthly["embedding"])
        rows.append(("embeddings", whole(found["embedding_calls"]), cost, month))
    rows.append(("total", "", _range(found["cost"]), _range(monthly["cost"])))
    columns = ("Model", "Calls at most", "A run (low to high)", "A month (low to high)")
    return Table(
        title="Calls and cost",
        columns=columns,
        right=frozenset(columns[1:]),
        rows=rows,
        emphasised=frozenset({len(rows) - 1}),
    )


def _effect_table(found: Found) -> Table:
    """How long candidates of a few kinds take to be found."""
    primary = found["models"][0]["name"]
    columns = ("Quality", f"Cost per quality of {primary}'s", "Prompts", "Even chance", "4 in 5")
    return Table(
        title="Weeks until a candidate like this is found",
        columns=columns,
        right=frozenset(columns[1:]),
        rows=[
            (
                "as good" if one["quality_delta"] == 0 else signed(one["quality_delta"]),
                percent(one["value_ratio"]),
                whole(one["pairs"]),
                _weeks(one["median_weeks"]),
                _weeks(one["likely_weeks"]),
            )
            for one in found["weeks_to_decision"]
        ],
    )


def _weeks(weeks: int | None) -> str:
    return f"more than {max(WINDOWS)}" if weeks is None else count(weeks, "week")


def _rhythm(monthly: Found) -> str:
    runs = f"{monthly['runs']:.1f}".removesuffix(".0")
    if monthly["is_scheduled"]:
        return f"A month is 30 days: {runs} runs by the schedule."
    return f"A month is 30 days: {runs} runs, if there is one a week (the plan has no schedule)."


def _budgets(found: Found) -> Iterator[str]:
    """How the cost lies to the plan's caps."""
    for cap, cost, what in (
        (found["budget_usd"], found["cost"], "a run"),
        (found["monthly"]["budget_usd"], found["monthly"]["cost"], "a month"),
    ):
        if cap is None:
            yield f"There is no budget of {what}."
        elif Decimal(cost["high_usd"]) <= Decimal(cap):
            yield f"The budget of {what}, {dollars(cap)}, holds even the high figure."
        elif Decimal(cost["expected_usd"]) <= Decimal(cap):
            yield f"The budget of {what}, {dollars(cap)}, holds the expected figure, not the high."
        else:
            yield f"The budget of {what}, {dollars(cap)}, is too small: a run would end as partial."


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


async def _record(plan: Plan, dsn: str, clock: Clock) -> tuple[TrackRecord, Run | None]:
    """What earlier Runs of the plan tell; why they tell nothing, where they do not."""
    schema = (await asyncio.to_thread(status, dsn)).state
    if schema is SchemaState.ABSENT:
        return TrackRecord(), None
    if schema is not SchemaState.CURRENT:
        return TrackRecord(missing="the results database waits for `switchwise db upgrade`"), None
    async with open_storage(dsn, clock, [plan]) as storage:
        names = {candidate.name for candidate in plan.candidates}
        held: dict[str, list[Evidence]] = {}
        for week in await storage.runs.evidence(plan.name, since_week=""):
            if week.primary == plan.primary.name and week.candidate in names:
                held.setdefault(week.candidate, []).append(week.evidence)
        last = await storage.runs.latest_run(plan.name, statuses=(RunStatus.DONE,))
        if last is None:
            return TrackRecord(weeks=held), None
        results = await storage.runs.results(last.run_id)
        document: Found = await storage.runs.document(last.run_id) or {}
    record = TrackRecord(
        weeks=held,
        uses=uses_of(results),
        anchors=len({row.case_id for row in results if row.is_anchor}),
        judged_usd=_judged_usd(document),
        run_at=last.slot.at,
    )
    return record, last


def _judged_usd(document: Found) -> Decimal | None:
    judge: Found = document.get("judge") or {}
    if not judge.get("judged") or judge.get("spend_usd") is None:
        return None
    return Decimal(judge["spend_usd"]) / int(judge["judged"])


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
                "calls": len(sample.cases) + (found.anchors if model is plan.primary else 0),
                "cost": _cost(found.models.get(model.name)),
            }
            for model in plan.contestants
        ],
        "calls": found.calls,
        "anchors": found.anchors,
        "judge_calls": found.judge_calls,
        "judge_cost": _cost(found.judging),
        "embedding_calls": found.embedding_calls,
        "embedding_cost": _cost(found.embedding),
        "cost": _cost(found.total),
        "budget_usd": None if budget is None else format(budget, "f"),
        "monthly": _monthly(plan, found, clock),
        "detectable": {
            "quality_delta": found.detectable_difference,
            "value_ratio": found.detectable_ratio,
        },
        "weeks_to_decision": [
            {
                "quality_delta": one.difference,
                "value_ratio": one.ratio,
                "pairs": one.pairs,
                "likely_pairs": one.likely_pairs,
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


def _monthly(plan: Plan, found: Forecast, clock: Clock) -> dict[str, Any]:
    """The same for 30 days of Runs."""
    runs = _runs_a_month(plan, clock)
    calls = CallRange.exactly(runs)
    budget = plan.budget.per_month_usd
    return {
        "runs": runs,
        "is_scheduled": plan.schedule is not None,
        "models": {
            name: None if cost is None else _cost(cost.of(calls))
            for name, cost in found.models.items()
        },
        "judge": None if found.judging is None else _cost(found.judging.of(calls)),
        "embedding": None if found.embedding is None else _cost(found.embedding.of(calls)),
        "cost": _cost(found.total.of(calls)),
        "budget_usd": None if budget is None else format(budget, "f"),
    }


def _runs_a_month(plan: Plan, clock: Clock) -> float:
    """Runs in 30 days by the schedule, over as many slots as a weekly plan has in a year."""
    slots = next_slots(plan.schedule, clock.now(), _SLOTS_LOOKED_AT) if plan.schedule else ()
    if len(slots) < 2:
        return _MONTH / timedelta(weeks=1)
    return (len(slots) - 1) * (_MONTH / (slots[-1].at - slots[0].at))


def _cost(cost: CostRange | None) -> dict[str, str] | None:
    if cost is None:
        return None
    return {
        "low_usd": f"{cost.low_usd:.6f}",
        "expected_usd": f"{cost.expected_usd:.6f}",
        "high_usd": f"{cost.high_usd:.6f}",
    }


def _range(cost: Mapping[str, str] | None) -> str:
    if cost is None:
        return dollars(None)
    ends = {"value": cost["expected_usd"], "low": cost["low_usd"], "high": cost["high_usd"]}
    return dollar_range(ends)
