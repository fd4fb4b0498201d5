"""Samples, shards, Attempts and scores of a Run, made by hand for tests of storage."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.domain.attempts import (
    AttemptOpening,
    AttemptOutcome,
    Completion,
    Failure,
    FailureClass,
    Purpose,
    ShardRef,
    StopReason,
)
from app.domain.cases import Case, Message, Prompt, Sample, Window
from app.domain.plans import Plan, Schedule
from app.domain.prices import Usage
from app.domain.results import AdaptiveReport, JudgeReport
from app.domain.runs import Run, RunStatus, Shard, Slot, Trigger
from app.domain.scores import Score, ScoreRecord
from app.ports import RunResults, RunStore
from app.sampling.identity import case_id_of
from tests.fakes.small_plans import plan as small_plan

MODELS = ("p", "a")
LEASE_S = 60.0


def weekly_plan(name: str = "support-bot") -> Plan:
    """A plan of two contestants that runs on Sundays."""
    schedule = Schedule(cron="0 6 * * sun", timezone=ZoneInfo("UTC"))
    return replace(small_plan("a"), name=name, schedule=schedule, config_hash="c0ffee")


def slot(week: int = 0) -> Slot:
    """The slot of a Sunday, weeks after 29 March 2026."""
    at = datetime(2026, 3, 29, 6, 0, tzinfo=UTC) + timedelta(weeks=week)
    return Slot(key=at.strftime("%Y-%m-%dT%H:%M"), at=at)


def cases_for(
    run: Run, n: int, *, text: str = "How are you?", copies_of: str = "row"
) -> list[Case]:
    """Cases of a Run, five to a block."""
    return [
        Case(
            case_id=case_id_of(run.run_id, ordinal),
            source_id=f"{copies_of}-{ordinal}",
            ordinal=ordinal,
            prompt=Prompt(messages=(Message(role="user", content=text),), system="Be brief."),
            weight=1.0 / n,
            block=ordinal // 5,
            segments={"route": "chat"},
            logged_response="Fine.",
            logged_at=run.slot.at - timedelta(days=1),
        )
        for ordinal in range(n)
    ]


def sample_for(run: Run, n: int = 4, *, text: str = "How are you?") -> Sample:
    """A Sample of the week before the slot."""
    return Sample(
        window=Window(start=run.slot.at - timedelta(days=7), end=run.slot.at),
        seed=run.seed,
        frame=700,
        requested=n,
        drawn=n,
        cases=tuple(cases_for(run, n, text=text)),
        skipped={"empty": 2},
        mean_logged_output_tokens=200.0,
    )


def shard_for(run: Run, cases: Sequence[Case], *, shard_no: int = 0, block: int = 0) -> Shard:
    """A shard in which both contestants answer these Cases."""
    return Shard(
        run_id=run.run_id,
        shard_no=shard_no,
        block=block,
        models=MODELS,
        case_ids=tuple(case.case_id for case in cases),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A Run in work, its plan, its Sample and one shard in our hands."""

    plan: Plan
    run: Run
    sample: Sample
    ref: ShardRef


async def begin_run(
    runs: RunStore,
    *,
    plan: Plan | None = None,
    week: int = 0,
    n: int = 4,
    trigger: Trigger = Trigger.SCHEDULE,
) -> Begun:
    """Request a slot's Run, begin it, save its Sample, plan one shard and claim it."""
    plan = plan or weekly_plan()
    asked = await runs.request(plan, slot(week), trigger, seed=7)
    assert asked is not None
    run = await runs.begin(asked, plan, owner="us", now=asked.created_at, lease_s=LEASE_S)
    sample = sample_for(run, n)
    await runs.save_sample(run, sample, {"policy": "frozen"})
    await runs.plan_shards(run.run_id, [shard_for(run, sample.cases)])
    claimed = await runs.claim(run.run_id, 0, owner="us", at=run.created_at)
    ref = ShardRef(run_id=run.run_id, shard_no=0, fence=claimed.shard.fence)
    return Begun(plan=plan, run=run, sample=sample, ref=ref)


def opening(
    begun: Begun,
    *,
    case: int = 0,
    model_name: str = "p",
    reserved_usd: str = "0.10",
    attempt_no: int = 1,
    sent_at: datetime | None = None,
    ref: ShardRef | None = None,
    purpose: Purpose = Purpose.REPLAY,
) -> AttemptOpening:
    """An Attempt about to be sent for one Case of the Run."""
    return AttemptOpening(
        attempt_id=str(uuid.uuid4()),
        shard=ref or begun.ref,
        plan_name=begun.plan.name,
        case_id=begun.sample.cases[case].case_id,
        model_name=model_name,
        model=f"{model_name}-1",
        purpose=purpose,
        call_key=f"{purpose}:{model_name}",
        attempt_no=attempt_no,
        sent_at=sent_at or begun.run.created_at,
        reserved_usd=Decimal(reserved_usd),
        price={"input": "3", "output": "15"},
    )


def completion(text: str = "Fine.") -> Completion:
    """A proper reply."""
    return Completion(
        text=text,
        stop_reason=StopReason.END_TURN,
        usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=5),
        latency_s=0.8,
        ttft_s=0.2,
        request_id="req-1",
    )


def failure(failure_class: FailureClass = FailureClass.SERVER) -> Failure:
    """A call that brought no reply."""
    return Failure(
        failure_class=failure_class, message="the endpoint answered 500", http_status=500
    )


def outcome(
    opened: AttemptOpening,
    result: Completion | Failure | None = None,
    *,
    cost_usd: str | None = "0.01",
    is_final: bool = True,
) -> AttemptOutcome:
    """How the Attempt ended: with a proper reply unless told otherwise."""
    return AttemptOutcome(
        attempt_id=opened.attempt_id,
        shard=opened.shard,
        result=result or completion(),
        cost_usd=None if cost_usd is None else Decimal(cost_usd),
        settled_at=opened.sent_at + timedelta(seconds=1),
        is_final=is_final,
        felt_latency_s=0.9 if is_final else None,
    )


def record(
    begun: Begun, value: float = 1.0, *, case: int = 0, model_name: str = "p", reason: str = "good"
) -> ScoreRecord:
    """A judge's word on one reply."""
    return ScoreRecord(
        case_id=begun.sample.cases[case].case_id,
        model_name=model_name,
        evaluator="judge",
        evaluator_version="1",
        result=Score(value=value, reason=reason, detail={"grade": 5}),
        judge_model="judge",
    )


def ending(run: Run, *, status: RunStatus = RunStatus.DONE, **changes: object) -> RunResults:
    """The end of a Run that found nothing."""
    plain = RunResults(
        run_id=run.run_id,
        status=status,
        finished_at=run.created_at + timedelta(hours=1),
        summaries=(),
        comparisons=(),
        evidence=(),
        states=(),
        drift=None,
        judge=JudgeReport(),
        adaptive=AdaptiveReport(),
        document={"run_id": run.run_id},
        alerts=(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]
