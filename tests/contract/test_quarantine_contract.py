"""Which prompts every run store holds for poison."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.domain.attempts import Completion, Failure, ShardRef
from app.domain.cases import Message, Prompt
from app.domain.runs import Trigger
from tests.fakes.storage import Storage
from tests.fakes.work import (
    LEASE_S,
    Begun,
    completion,
    ending,
    failure,
    opening,
    outcome,
    sample_for,
    shard_for,
    slot,
    weekly_plan,
)

PLAN = weekly_plan()
POISON = Prompt(messages=(Message(role="user", content="poison"),))
FAILED = [failure()] * 3
ANSWERED = [completion()]

Ends = Sequence[Completion | Failure]


async def a_run(
    storage: Storage, week: int, tried: Mapping[str, Ends], *, model_name: str = "p"
) -> None:
    """A complete Run in which these prompts were tried on a model, and how each try ended."""
    run = await storage.runs.request(PLAN, slot(week), Trigger.SCHEDULE, seed=7)
    assert run is not None
    run = await storage.runs.begin(run, PLAN, owner="us", now=storage.clock.now(), lease_s=LEASE_S)
    sample = sample_for(run, len(tried))
    cases = tuple(
        replace(case, prompt=Prompt(messages=(Message(role="user", content=text),)))
        for case, text in zip(sample.cases, tried, strict=True)
    )
    sample = replace(sample, cases=cases)
    await storage.runs.save_sample(run, sample, {})
    await storage.runs.plan_shards(run.run_id, [shard_for(run, cases)])
    claimed = await storage.runs.claim(run.run_id, 0, owner="us", at=run.created_at)
    ref = ShardRef(run_id=run.run_id, shard_no=0, fence=claimed.shard.fence)
    begun = Begun(plan=PLAN, run=run, sample=sample, ref=ref)
    for number, ends in enumerate(tried.values()):
        for attempt_no, end in enumerate(ends, start=1):
            opened = opening(begun, case=number, model_name=model_name, attempt_no=attempt_no)
            assert await storage.journal.open(opened) is None
            await storage.journal.settle(outcome(opened, end, is_final=attempt_no == len(ends)))
    await storage.runs.finish(ending(run))


async def quarantined(storage: Storage) -> frozenset[str]:
    return await storage.runs.quarantined(PLAN.name, primary="p", attempts=6)


async def test_a_prompt_that_failed_in_six_attempts_is_poison(storage: Storage) -> None:
    await a_run(storage, 0, {"poison": FAILED, "fine": ANSWERED})
    assert await quarantined(storage) == frozenset()
    await a_run(storage, 1, {"poison": FAILED, "other": ANSWERED})
    assert await quarantined(storage) == {POISON.fingerprint}


async def test_a_prompt_that_was_answered_once_is_not_poison(storage: Storage) -> None:
    await a_run(storage, 0, {"poison": [failure(), completion()], "fine": ANSWERED})
    await a_run(storage, 1, {"poison": FAILED, "fine": ANSWERED})
    await a_run(storage, 2, {"poison": FAILED, "fine": ANSWERED})
    assert await quarantined(storage) == frozenset()


async def test_an_outage_of_the_primary_condemns_no_prompt(storage: Storage) -> None:
    for week in range(3):
        await a_run(storage, week, {"poison": FAILED, "a": FAILED, "b": FAILED, "c": ANSWERED})
    assert await quarantined(storage) == frozenset()


async def test_failures_of_a_candidate_are_its_own(storage: Storage) -> None:
    for week in range(3):
        await a_run(storage, week, {"poison": FAILED, "fine": ANSWERED}, model_name="a")
    assert await quarantined(storage) == frozenset()
