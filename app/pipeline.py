"""The story of a Run: sample -> replay -> evaluate -> summarise -> decide -> alert.

A Run is a row, a Sample and shards of a few Cases. `next_shards` hands out the shards of a block,
`work_shard` replays and evaluates one of them, `conclude` turns what is stored into a verdict.
Each may be repeated by anyone at any time: what is settled is never paid again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar
from zoneinfo import ZoneInfo

from app.alerting.compose import Messages, Outcome, compose_alerts
from app.alerting.outcome import regression_key
from app.alerting.phrases import bill_warnings
from app.decision.adaptive import drop_candidates
from app.decision.decide import decide
from app.decision.readings import STORED_PREFIX
from app.domain.attempts import Purpose, Reply, ShardRef
from app.domain.cases import Case, Sample
from app.domain.errors import (
    BudgetExhausted,
    GatewayRefused,
    LogSourceAway,
    NothingToReplay,
    PlanChanged,
    RunStuck,
    ShardDeferred,
    StorageUnavailable,
    SwitchwiseError,
    UnknownPrice,
)
from app.domain.json_values import JsonObject
from app.domain.models import ModelSpec
from app.domain.plans import Plan
from app.domain.prices import Price
from app.domain.results import AdaptiveReport, JudgeReport
from app.domain.runs import Run, RunStatus, Shard, SpendLine, Trigger
from app.domain.scores import ScoreRecord
from app.evaluation.human_labels import human_evidence
from app.evaluation.reliability import judge_report
from app.ports import RunResults
from app.replay.cases import ReplayOrder, replay_case
from app.replay.set_up import changed_parts
from app.replay.shards import cut_shards, shards_at_once, work_in_process
from app.run_tools import EndTools, Progress, RunTools
from app.sampling.anchors import choose_anchors, is_new_month
from app.sampling.draw import DrawRequest, draw_sample
from app.sampling.identity import case_id_of
from app.sampling.redaction import scrub_for
from app.sampling.windows import window_of
from app.summary.document import RunFigures, document
from app.summary.summaries import summarise
from app.weekly_evidence import (
    adaptive_report,
    drift_of_week,
    finishing_usd,
    month_usd,
    week_of_evidence,
    week_so_far,
)

LEASE_S = 20.0
MOST_RESTARTS = 3
#: A prompt that the primary never answered in so many Attempts is left out of later Samples.
MOST_LIFETIME_ATTEMPTS = 6
PATIENCE_S = 900.0
CANARY_ORDINAL = -1
_STORAGE_PAUSE_S = 2.0
_ANCHOR_POOL = 400
_T = TypeVar("_T")
_Passing = tuple[type[SwitchwiseError], ...]


async def execute(run: Run, tools: RunTools) -> JsonObject:
    """Work a Run to its end in this process and return its document.

    Raises:
        RunInProgress: If another Run of the Plan is active.
        RunInterrupted: If asked to stop; resume it later.
        StorageUnavailable: If the database stayed away; resume it later.
    """
    try:
        run = await begin(run, tools)
    except RunStuck:
        told = await tools.runs.document(run.run_id)
        if told is None:
            raise
        return told
    holding = asyncio.create_task(_hold(run, tools))
    try:
        return await _to_the_end(run, tools)
    finally:
        holding.cancel()


async def _to_the_end(run: Run, tools: RunTools) -> JsonObject:
    """Work a Run that is ours; trouble with the database is waited out."""
    try:
        sample = await _patiently(tools, lambda: ensure_sample(run, tools), _passing(run))
        begun = replace(run, window=sample.window)
        while shards := await _patiently(tools, lambda: next_shards(begun, sample, tools)):
            await _work_all(begun, shards, tools)
    except BudgetExhausted as error:
        why = str(error)
        return await _patiently(
            tools, lambda: _once(run, tools, conclude, status=RunStatus.PARTIAL, why=why)
        )
    except (GatewayRefused, NothingToReplay, PlanChanged) as error:
        refusal = error
        return await _patiently(tools, lambda: _once(run, tools, fail, error=refusal))
    return await _patiently(tools, lambda: _once(begun, tools, conclude, status=RunStatus.DONE))


async def _once(
    run: Run, tools: RunTools, end: Callable[..., Awaitable[JsonObject]], **how: object
) -> JsonObject:
    """End the Run, unless a commit whose answer was lost has ended it already."""
    stored = await tools.runs.run(run.run_id)
    if stored is not None and stored.status.is_final:
        told = await tools.runs.document(run.run_id)
        if told is not None:
            return told
    return await end(run, tools, **how)


def _passing(run: Run) -> _Passing:
    """What is waited out: nobody watches a slot's Run, an operator had better be told at once."""
    if run.trigger is Trigger.SCHEDULE:
        return (StorageUnavailable, LogSourceAway)
    return (StorageUnavailable,)


async def _patiently(
    tools: RunTools,
    step: Callable[[], Awaitable[_T]],
    passing: _Passing = (StorageUnavailable,),
) -> _T:
    """Take a step that may be repeated, again while a database is away for minutes."""
    began = tools.clock.monotonic()
    while True:
        try:
            return await step()
        except passing:
            if tools.clock.monotonic() - began > PATIENCE_S:
                raise
            await tools.caller.pause(_STORAGE_PAUSE_S)


async def _hold(run: Run, tools: RunTools) -> None:
    """Renew the Run's lease; when it is in other hands, stop making calls."""
    while True:
        await asyncio.sleep(LEASE_S / 4)
        try:
            is_ours = await tools.runs.renew(
                run.run_id, owner=tools.owner, now=tools.clock.now(), lease_s=LEASE_S
            )
        except StorageUnavailable:
            continue
        if not is_ours:
            tools.caller.interrupt(f"run {run.run_id} is in other hands")
            return


async def begin(run: Run, tools: RunTools) -> Run:
    """Take the Run's lease; a Run that was restarted in vain too often fails.

    Raises:
        RunInProgress: If another Run of the Plan is active.
        RunStuck: If three restarts settled nothing.
        PlanChanged: If a partial Run was begun under another plan; what it has is kept.
    """
    if run.status is RunStatus.PARTIAL:
        _require_same_plan(run, tools)
    run = await tools.runs.begin(
        run, tools.plan, owner=tools.owner, now=tools.clock.now(), lease_s=LEASE_S
    )
    if run.restarts > MOST_RESTARTS:
        stuck = RunStuck(f"run {run.run_id} was restarted {MOST_RESTARTS} times without progress")
        await fail(run, tools, stuck)
        raise stuck
    return run


# --- sample -------------------------------------------------------------------------------------


async def ensure_sample(run: Run, tools: RunTools) -> Sample:
    """Return the Run's Sample without its texts, drawn and committed on first use.

    Raises:
        PlanChanged: If it was committed under another plan.
    """
    stored = await _stored_sample(run, tools)
    if stored is not None:
        _require_same_plan(run, tools)
        return stored
    plan = tools.plan
    quarantined = await tools.runs.quarantined(
        plan.name, primary=plan.primary.name, attempts=MOST_LIFETIME_ATTEMPTS
    )
    anchors = await _anchors(run, tools)
    done = await tools.runs.runs(plan.name, statuses=(RunStatus.DONE,))
    sample = await draw_sample(
        tools.logs,
        DrawRequest(
            run_id=run.run_id,
            window=window_of(run, plan.sample.window, done),
            seed=run.seed,
            settings=plan.sample,
            privacy=plan.privacy,
            anchors=[one for one in anchors if one.prompt.fingerprint not in quarantined],
            quarantined=quarantined,
        ),
    )
    await tools.runs.save_sample(run, sample, tools.frozen)
    return await _stored_sample(run, tools) or sample.without_texts()


async def _stored_sample(run: Run, tools: EndTools) -> Sample | None:
    """The Run's Sample; its texts are read shard by shard, where they are needed."""
    sample = await tools.runs.sample(run.run_id)
    return None if sample is None else sample.without_texts()


def _require_same_plan(run: Run, tools: RunTools) -> None:
    changed = changed_parts(run.frozen, tools.frozen)
    if changed:
        raise PlanChanged(
            f"the plan was changed while run {run.run_id} was under way "
            f"({', '.join(changed)}): its halves cannot be compared. Put it back to finish the "
            "run, or begin a new one: switchwise run"
        )


async def _anchors(run: Run, tools: RunTools) -> Sequence[Case]:
    """The Cases of earlier weeks to repeat; a quarter leaves each month.

    While the primary is worse than it was none leaves and none is added: whether it heals shows
    only on Cases that it answered when it was well.
    """
    plan = tools.plan
    if plan.sample.anchors == 0 or plan.privacy.store_bodies == "none":
        return ()
    current = await tools.runs.anchors(plan.name, before_run=run.run_id)
    if current and await _is_regressed(tools):
        return current
    pool = await tools.runs.earlier_cases(plan.name, before_run=run.run_id, limit=_ANCHOR_POOL)
    scored = await tools.runs.baselines([case.case_id for case in pool], plan.primary.name)
    pool = [
        case for case in pool if case.case_id in scored and scored[case.case_id].quality is not None
    ]
    done = await tools.runs.runs(plan.name, statuses=(RunStatus.DONE,))
    last = next((one for one in done if one.trigger.counts), None)
    zone = plan.schedule.timezone if plan.schedule else ZoneInfo("UTC")
    rotate = last is not None and is_new_month(last.slot.at, run.slot.at, zone)
    return choose_anchors(current, pool, wanted=plan.sample.anchors, seed=run.seed, rotate=rotate)


async def _is_regressed(tools: RunTools) -> bool:
    known = await tools.alerts.open_alerts(tools.plan.name)
    return any(alert.key == regression_key(tools.plan) for alert in known)


# --- replay and evaluate ------------------------------------------------------------------------


async def next_shards(run: Run, sample: Sample, tools: RunTools) -> Sequence[Shard]:
    """Return the shards still to be worked: of the block under way, or of the next one.

    The primary alone answers the anchors; candidates that have no chance left sit out.
    """
    shards = await tools.runs.shards(run.run_id)
    unfinished = [shard for shard in shards if not shard.is_done]
    if unfinished:
        return unfinished
    block = max((shard.block for shard in shards), default=-1) + 1
    cases = [case for case in sample.cases if case.block == block]
    if not cases:
        return ()
    models = await _models_of_block(run, sample, block, tools)
    if len(models) < 2 and not _needs_fresh_level(tools.plan):
        return ()
    fresh = list(cut_shards(run.run_id, cases, block=block, models=models, first_no=len(shards)))
    if block == 0:
        fresh += _opening_shards(run, sample, tools, first_no=len(fresh))
    await tools.runs.plan_shards(run.run_id, fresh)
    return fresh


def _opening_shards(run: Run, sample: Sample, tools: RunTools, *, first_no: int) -> Sequence[Shard]:
    """The shards of anchors, and one without Cases in which the judge grades its canaries."""
    anchors = cut_shards(
        run.run_id,
        sample.anchors,
        block=0,
        models=(tools.plan.primary.name,),
        first_no=first_no,
    )
    canaries = Shard(
        run_id=run.run_id,
        shard_no=first_no + len(anchors),
        block=0,
        models=(),
        case_ids=(),
    )
    return (*anchors, canaries)


def _needs_fresh_level(plan: Plan) -> bool:
    """Whether the primary answers the whole Sample, also when every candidate sits out.

    A change of the traffic shows in the primary's mean on fresh prompts alone; on one block of them
    it would not. Without anchors there is no such reading, and nothing left to compare.
    """
    return plan.sample.anchors > 0 and plan.privacy.store_bodies != "none"


async def _models_of_block(
    run: Run, sample: Sample, block: int, tools: RunTools
) -> tuple[str, ...]:
    """Names of the models called in a block."""
    dropped: Mapping[str, str] = {}
    if block > 0 and tools.plan.sample.adaptive:
        results = await tools.runs.results(run.run_id)
        week = await week_so_far(run, sample, results, tools)
        dropped = await asyncio.to_thread(drop_candidates, week, blocks_done=block)
    return tuple(model.name for model in tools.plan.contestants if model.name not in dropped)


async def work_shard(run: Run, shard: Shard, tools: RunTools) -> None:
    """Replay and evaluate the Cases of one shard; what earlier owners settled is kept.

    Raises:
        FenceLost: If a newer owner took the shard.
        ShardDeferred: If the gateway asked for a long wait.
        BudgetExhausted, GatewayRefused, RunInterrupted: If the Run cannot go on.
    """
    claimed = await tools.runs.claim(
        run.run_id,
        shard.shard_no,
        owner=tools.owner,
        at=tools.clock.now(),
        holder=tools.holder or tools.owner,
    )
    if claimed.shard.is_done:
        return
    ref = ShardRef(run_id=run.run_id, shard_no=shard.shard_no, fence=claimed.shard.fence)
    scored: list[ScoreRecord] = []
    if claimed.shard.fence > 1:
        tools.caller.recall(await tools.runs.settled(claimed.shard))
        scored = list(await tools.runs.scored(claimed.shard))
    if not claimed.shard.case_ids:
        await _grade_canaries(ref, tools, scored)
    order = ReplayOrder(
        plan_name=tools.plan.name,
        models=[tools.plan.model(name) for name in claimed.shard.models],
        prices=tools.prices,
    )
    stored = await _stored_replies(claimed.cases, tools)
    ended = await asyncio.gather(
        *(
            _work_case(
                case,
                order,
                ref,
                tools,
                [r for r in scored if r.case_id == case.case_id],
                stored.get(case.case_id, ()),
            )
            for case in claimed.cases
        ),
        return_exceptions=True,
    )
    broken = [outcome for outcome in ended if isinstance(outcome, BaseException)]
    if broken:  # what ends the Run comes before what only has to wait
        raise min(broken, key=lambda error: isinstance(error, ShardDeferred))
    await tools.runs.close_shard(ref, at=tools.clock.now())
    tools.caller.forget(claimed.shard.case_ids)


async def _grade_canaries(ref: ShardRef, tools: RunTools, done: Sequence[ScoreRecord]) -> None:
    """Have the judge grade replies whose worth is known, once per Run."""
    records = await tools.panel.grade_canaries(
        case_id_of(ref.run_id, CANARY_ORDINAL), shard=ref, done=done
    )
    if records:
        await tools.journal.score(ref, records)


async def _work_case(
    case: Case,
    order: ReplayOrder,
    ref: ShardRef,
    tools: RunTools,
    done: Sequence[ScoreRecord],
    stored: Sequence[Reply],
) -> None:
    """Replay one Case on every model, evaluate the replies, store the scores."""
    rng = random.Random(f"{ref.run_id}/{case.ordinal}")  # noqa: S311 - order, not secrecy
    replies = await replay_case(
        case, order, shard=ref, calls=tools.caller, rng=rng, load=tools.load
    )
    replies += stored
    records = await tools.panel.evaluate(case, replies, shard=ref, done=done)
    if records:
        await tools.journal.score(ref, records)


async def _stored_replies(cases: Sequence[Case], tools: RunTools) -> Mapping[str, Sequence[Reply]]:
    """The primary's stored replies to anchors, to be judged again beside the new ones, by Case."""
    primary = tools.plan.primary.name
    origins = {case.case_id: case.anchor_of for case in cases if case.anchor_of is not None}
    found = await tools.runs.baselines(list(origins.values()), primary)
    return {
        case_id: [replace(found[origin].reply, case_id=case_id, model_name=STORED_PREFIX + primary)]
        for case_id, origin in origins.items()
        if origin in found
    }


async def _work_all(run: Run, shards: Sequence[Shard], tools: RunTools) -> None:
    """Work shards in this process, as many at once as keep every slot busy, or hand them out.

    Open load is offered by one process, which keeps to one schedule.
    """
    is_open = tools.plan.replay.rate_per_s is not None  # then no call may wait for a shard
    if tools.hand_out is not None and not is_open:
        await tools.hand_out(run, shards, tools)
        return
    total, done = sum(len(shard.case_ids) for shard in shards), 0
    endpoints = {model.endpoint.key: model.endpoint for model in tools.plan.contestants}
    slots = sum(endpoint.concurrency for endpoint in endpoints.values())

    async def work(shard: Shard) -> None:
        nonlocal done
        await work_shard(run, shard, tools)
        done += len(shard.case_ids)
        tools.on_progress(Progress(cases_done=done, cases_total=total))

    await work_in_process(
        shards,
        work,
        at_once=len(shards) if is_open else shards_at_once(shards, slots),
        pause=tools.caller.pause,
        clock=tools.clock,
    )


# --- summarise, decide, alert -------------------------------------------------------------------


async def conclude(
    run: Run, tools: RunTools, *, status: RunStatus, why: str | None = None
) -> JsonObject:
    """Turn what is stored into Summaries, Comparisons, Verdicts and Alerts, and commit them.

    Returns:
        The Run's document.
    """
    plan = tools.plan
    sample = await _stored_sample(run, tools)
    results = await tools.runs.results(run.run_id)
    spend = await tools.runs.spend(run.run_id)
    bills = [line.check for line in spend if line.check]
    summaries = await asyncio.to_thread(summarise, results, plan.contestants)
    records = await tools.runs.scores(run.run_id)
    people = human_evidence(plan, tools.evaluation, await tools.labels.labelled(plan.name))
    judge = people.told_in(judge_report(plan, records=records, results=results, spend=spend))
    week = await week_of_evidence(run, sample, results, judge, tools, why)
    drift, reading = await drift_of_week(run, results, records, tools, why)
    week = replace(week, ill_weeks=frozenset(drift.ill_weeks if drift else ()))
    decision = await asyncio.to_thread(decide, week)
    adaptive = adaptive_report(sample, results, week)
    finished_at = tools.clock.now()
    outcome = Outcome(
        plan=plan,
        run=replace(run, cases_sampled=len(sample.cases) if sample else 0),
        status=status,
        summaries=summaries,
        comparisons=decision.comparisons,
        drift=drift,
        judge=judge,
        models_usd=_sum(spend, Purpose.REPLAY),
        judge_usd=_sum(spend, Purpose.JUDGE),
        month_usd=await month_usd(finished_at, tools),
        bills=bills,
        skipped=sample.skipped if sample else {},
        next_slot=tools.next_slot,
        incomplete=why,
        finishing_usd=finishing_usd(adaptive, spend) if status is RunStatus.PARTIAL else None,
    )
    messages = await _messages(outcome, tools, finished_at)
    figures = RunFigures(
        run=run,
        status=status,
        sample=sample,
        summaries=summaries,
        comparisons=decision.comparisons,
        judge=judge,
        drift=drift,
        adaptive=adaptive,
        spend=spend,
        bill_warnings=bill_warnings(bills),
        budget_usd=plan.budget.per_run_usd,
        alerts=messages.alerts,
        error=why,
        embedder=plan.embedder.name if plan.embedder else None,
    )
    told = document(figures)
    await tools.runs.finish(
        RunResults(
            run_id=run.run_id,
            status=status,
            finished_at=finished_at,
            summaries=summaries,
            comparisons=decision.comparisons,
            evidence=decision.evidence,
            states=decision.states,
            drift=drift,
            drift_reading=reading,
            judge=judge,
            adaptive=adaptive,
            document=told,
            alerts=messages.alerts,
            open_alerts=messages.states,
            error_code=None if status is RunStatus.DONE else status.value,
            error_message=why,
            scrub=scrub_for(tools.plan.privacy),
        )
    )
    return told


async def _messages(outcome: Outcome, tools: EndTools, now: datetime) -> Messages:
    """What the Run has to say; nothing when it was asked to keep quiet."""
    if not tools.is_told:
        return Messages()
    known = {alert.key: alert for alert in await tools.alerts.open_alerts(tools.plan.name)}
    return compose_alerts(outcome, known, now=now)


async def fail(run: Run, tools: EndTools, error: Exception) -> JsonObject:
    """End a Run that cannot go on: stored as failed, told once with what to mend and its cost."""
    finished_at = tools.clock.now()
    sample = await _stored_sample(run, tools)
    spend = await tools.runs.spend(run.run_id)
    outcome = Outcome(
        plan=tools.plan,
        run=replace(run, cases_sampled=len(sample.cases) if sample else 0),
        status=RunStatus.FAILED,
        models_usd=_sum(spend, Purpose.REPLAY),
        judge_usd=_sum(spend, Purpose.JUDGE),
        attempts=sum(line.attempts for line in spend),
        incomplete=str(error),
        next_slot=tools.next_slot,
    )
    messages = await _messages(outcome, tools, finished_at)
    told = document(
        RunFigures(
            run=run,
            status=RunStatus.FAILED,
            sample=sample,
            spend=spend,
            alerts=messages.alerts,
            error=str(error),
            embedder=tools.plan.embedder.name if tools.plan.embedder else None,
        )
    )
    await tools.runs.finish(
        RunResults(
            run_id=run.run_id,
            status=RunStatus.FAILED,
            finished_at=finished_at,
            summaries=(),
            comparisons=(),
            evidence=(),
            states=(),
            drift=None,
            judge=JudgeReport(),
            adaptive=AdaptiveReport(),
            document=told,
            alerts=messages.alerts,
            open_alerts=messages.states,
            error_code=type(error).__name__,
            error_message=str(error),
            scrub=scrub_for(tools.plan.privacy),
        )
    )
    return told


def _sum(spend: Sequence[SpendLine], purpose: Purpose) -> Decimal:
    return sum((line.spend_usd for line in spend if line.purpose is purpose), Decimal(0))


def known_prices(
    models: Sequence[ModelSpec], price: Callable[[ModelSpec], Price | None]
) -> Mapping[str, Price]:
    """Find the price of every model before anything is spent.

    Raises:
        UnknownPrice: Naming every model without one: never a default, never 0.
    """
    found = {model.name: price(model) for model in models}
    unknown = [model for model in models if found[model.name] is None]
    if unknown:
        names = ", ".join(f"{model.name} ({model.model})" for model in unknown)
        raise UnknownPrice(
            f"no price is known for {names}: set price_as to a listed name or give price: "
            "{input: …, output: …} in USD per million tokens"
        )
    return {name: one for name, one in found.items() if one is not None}


__all__ = [
    "begin",
    "conclude",
    "ensure_sample",
    "execute",
    "fail",
    "known_prices",
    "next_shards",
    "work_shard",
]
