"""What a verdict rests on: this week's pairs beside earlier weeks, what drifted, what it cost."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from app.decision.adaptive import drop_candidates
from app.decision.decide import WeekOfEvidence
from app.decision.epochs import PricePair, repriced, stale_weeks
from app.decision.readings import WEEKS_READ, drift_of, last_price, reading_of
from app.domain.cases import Sample
from app.domain.json_values import JsonObject
from app.domain.plans import Plan
from app.domain.results import AdaptiveReport, CaseResult, DriftReport, JudgeReport, PairedEvidence
from app.domain.runs import Run, SpendLine
from app.domain.scores import ScoreRecord
from app.evaluation.canaries import canary_scores
from app.evaluation.human_labels import human_evidence
from app.ports import StoredEvidence
from app.run_tools import RunTools
from app.stats.critical_values import WINDOWS
from app.summary.pairs import compare, merge_runs


async def week_of_evidence(
    run: Run,
    sample: Sample | None,
    results: Sequence[CaseResult],
    judge: JudgeReport,
    tools: RunTools,
    why: str | None,
) -> WeekOfEvidence:
    """This week's pairs beside the weeks before them; a Run by hand stands alone."""
    pairs = await _pairs(results, tools.plan, by_segment=True)
    week = await _week(run, sample, results, pairs, tools)
    return replace(week, judge=judge, incomplete=why)


async def week_so_far(
    run: Run, sample: Sample, results: Sequence[CaseResult], tools: RunTools
) -> WeekOfEvidence:
    """As `week_of_evidence`, between blocks: without segments, which cost most to compute."""
    pairs = await _pairs(results, tools.plan, by_segment=False)
    return await _week(run, sample, results, pairs, tools)


async def _pairs(
    results: Sequence[CaseResult], plan: Plan, *, by_segment: bool
) -> Mapping[str, PairedEvidence]:
    """This week's pairs of every candidate that was asked."""
    names = {row.model_name for row in results}
    return {
        candidate.name: await asyncio.to_thread(
            compare,
            results,
            primary=plan.primary.name,
            candidate=candidate.name,
            by_segment=by_segment,
        )
        for candidate in plan.candidates
        if candidate.name in names
    }


async def _week(
    run: Run,
    sample: Sample | None,
    results: Sequence[CaseResult],
    pairs: Mapping[str, PairedEvidence],
    tools: RunTools,
) -> WeekOfEvidence:
    plan = tools.plan
    people = human_evidence(plan, tools.evaluation, await tools.labels.labelled(plan.name))
    counts = run.trigger.counts
    history = await tools.runs.evidence(plan.name, since_week="") if counts else ()
    earlier = await _earlier_this_week(history, run, tools)

    def with_earlier(run_ids: Sequence[str], candidate: str) -> PairedEvidence | None:
        if not all(earlier.get(run_id) for run_id in run_ids):
            return None
        joined = merge_runs([*(earlier[run_id] for run_id in run_ids), results])
        return compare(joined, primary=plan.primary.name, candidate=candidate)

    return WeekOfEvidence(
        plan=plan,
        week=run.slot.iso_week,
        run_ids=(run.run_id,),
        now=tools.clock.now(),
        pairs=pairs,
        prices=tools.prices,
        evaluation=tools.evaluation,
        history=history,
        repriced=await _repriced(history, run, tools),
        states=await tools.runs.states(plan.name) if counts else (),
        judge=JudgeReport(),
        requests_per_month=sample.requests_per_month if sample else None,
        incomplete=None,
        counts=counts,
        closes_week=run.slot.closes_week,
        rectifiers=people.rectifiers,
        head_to_head=lambda first, second: (
            compare(results, primary=second, candidate=first).evidence
        ),
        with_earlier=with_earlier,
    )


async def _earlier_this_week(
    history: Sequence[StoredEvidence], run: Run, tools: RunTools
) -> Mapping[str, Sequence[CaseResult]]:
    """Results of the week's earlier Runs, charged at today's prices, by Run."""
    run_ids = {
        run_id for row in history if row.week == run.slot.iso_week for run_id in row.run_ids
    } - {run.run_id}
    return {
        run_id: await tools.runs.repriced_results(run_id, tools.prices)
        for run_id in sorted(run_ids)
    }


async def drift_of_week(
    run: Run,
    results: Sequence[CaseResult],
    records: Sequence[ScoreRecord],
    tools: RunTools,
    why: str | None,
) -> tuple[DriftReport | None, JsonObject | None]:
    """What moved since earlier weeks, and this week's reading for later ones.

    Looked at once a week, as candidates are; a Run that fills a slot of the past reads for later
    ones, but what moved since is theirs to say.
    """
    if why is not None or not run.trigger.counts:
        return None, None
    plan = tools.plan
    origins = [row.anchor_of for row in results if row.anchor_of is not None]
    reading = reading_of(
        plan,
        run.slot.iso_week,
        results,
        records,
        await tools.runs.baselines(origins, plan.primary.name),
        canary_scores(records),
    )
    if reading is None:
        return None, None
    earlier = await tools.runs.drift_readings(plan.name, limit=WEEKS_READ)
    price = tools.prices[plan.primary.name]
    priced = {**reading, "price": price.to_json()}
    is_past = any(str(one["week"]) > run.slot.iso_week for one in earlier)
    if is_past or not run.slot.closes_week:
        return None, priced
    then = last_price(earlier, reading)
    return drift_of(plan, [*earlier, reading], results, price, then), priced


async def _repriced(
    history: Sequence[StoredEvidence], run: Run, tools: RunTools
) -> Sequence[StoredEvidence]:
    """Stored weeks charged at today's prices, so that a change of price counts at once."""
    fresh: list[StoredEvidence] = []
    results: dict[str, Sequence[CaseResult]] = {}
    recent = [row for row in history if row.week in _last_weeks(history, run.slot.iso_week)]
    for row in stale_weeks(recent, tools.prices):
        for run_id in row.run_ids:
            if run_id not in results:
                results[run_id] = await tools.runs.repriced_results(run_id, tools.prices)
        week = merge_runs([results[run_id] for run_id in row.run_ids])
        pairs = compare(week, primary=row.primary, candidate=row.candidate)
        today = PricePair(primary=tools.prices[row.primary], candidate=tools.prices[row.candidate])
        fresh.append(repriced(row, pairs, today))
    return fresh


def _last_weeks(history: Sequence[StoredEvidence], week: str) -> frozenset[str]:
    """The weeks that a window can still reach."""
    weeks = sorted({row.week for row in history if row.week <= week})
    return frozenset(weeks[-max(WINDOWS) :])


def adaptive_report(
    sample: Sample | None, results: Sequence[CaseResult], week: WeekOfEvidence
) -> AdaptiveReport:
    """What adaptive spending left out: calls not made, and why which candidate sat out."""
    if sample is None:
        return AdaptiveReport()
    asked: dict[str, int] = {}
    for row in results:
        if not row.is_anchor:
            asked[row.model_name] = asked.get(row.model_name, 0) + 1
    blocks = max((case.block for case in sample.cases), default=0) + 1
    reasons = drop_candidates(week, blocks_done=blocks) if week.plan.sample.adaptive else {}
    anchors = len(sample.anchors)
    return AdaptiveReport(
        planned_calls=len(sample.cases) * len(week.plan.contestants) + anchors,
        made_calls=len(results),
        dropped={
            name: reason
            for name, reason in reasons.items()
            if asked.get(name, 0) < len(sample.cases)
        },
    )


def finishing_usd(adaptive: AdaptiveReport, spend: Sequence[SpendLine]) -> Decimal | None:
    """About what the calls that were not made would cost, at what those made have cost."""
    if adaptive.made_calls == 0:
        return None
    left = max(0, adaptive.planned_calls - adaptive.made_calls)
    return sum((line.spend_usd for line in spend), Decimal(0)) * left / adaptive.made_calls


async def month_usd(now: datetime, tools: RunTools) -> Decimal:
    """What the Plan was charged this month, in its own time zone."""
    zone = tools.plan.schedule.timezone if tools.plan.schedule else now.tzinfo
    month = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return await tools.runs.spend_since(tools.plan.name, month)
