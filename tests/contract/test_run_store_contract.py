"""What every run store promises: one Run per slot, one owner at a time, nothing settled lost."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.domain.alerts import Alert, AlertKind, News, OpenAlert
from app.domain.attempts import FailureClass, Purpose, ShardRef
from app.domain.errors import FenceLost, RunInProgress
from app.domain.prices import Price, Rates
from app.domain.results import CandidateState
from app.domain.runs import Run, RunStatus, Slot, Trigger
from app.domain.scores import Unscored
from app.ports import Scrub, StoredEvidence, StoredState
from app.summary.pairs import compare
from tests.fakes.case_results import case_result
from tests.fakes.clocks import START
from tests.fakes.storage import Storage
from tests.fakes.work import (
    LEASE_S,
    Begun,
    begin_run,
    cases_for,
    completion,
    ending,
    failure,
    opening,
    outcome,
    record,
    sample_for,
    shard_for,
    slot,
    weekly_plan,
)

PLAN = weekly_plan()


async def requested(storage: Storage, week: int = 0, *, trigger: Trigger = Trigger.SCHEDULE) -> Run:
    run = await storage.runs.request(PLAN, slot(week), trigger, seed=7)
    assert run is not None
    return run


async def begun_by(storage: Storage, run: Run, owner: str = "us") -> Run:
    return await storage.runs.begin(
        run, PLAN, owner=owner, now=storage.clock.now(), lease_s=LEASE_S
    )


async def call(
    storage: Storage, begun: Begun, *, case: int = 0, model_name: str = "p", cost_usd: str = "0.01"
) -> None:
    """One proper reply, sent and settled."""
    opened = opening(begun, case=case, model_name=model_name)
    assert await storage.journal.open(opened) is None
    await storage.journal.settle(outcome(opened, cost_usd=cost_usd))


async def outcomes_of(*tries: Awaitable[Run]) -> tuple[list[Run], list[BaseException]]:
    """What succeeded and what failed, all begun at once."""
    ended = await asyncio.gather(*tries, return_exceptions=True)
    return (
        [one for one in ended if not isinstance(one, BaseException)],
        [one for one in ended if isinstance(one, BaseException)],
    )


# --- slots --------------------------------------------------------------------------------------


async def test_a_slot_that_many_ask_for_at_once_gets_one_run(storage: Storage) -> None:
    asked = await asyncio.gather(
        *(storage.runs.request(PLAN, slot(), Trigger.SCHEDULE, seed=7) for _ in range(6))
    )
    (run,) = [run for run in asked if run is not None]
    assert (run.status, run.slot, run.seed, run.plan_name) == (RunStatus.DUE, slot(), 7, PLAN.name)
    assert await storage.runs.run(run.run_id) == run


async def test_runs_by_hand_share_a_slot_and_keep_its_key(storage: Storage) -> None:
    await requested(storage)
    by_hand = [await requested(storage, trigger=Trigger.HAND) for _ in range(2)]
    assert [run.slot for run in by_hand] == [slot(), slot()]
    assert len({run.run_id for run in by_hand}) == 2


async def test_the_newest_slot_is_that_of_any_run_but_those_by_hand(storage: Storage) -> None:
    assert await storage.runs.newest_slot(PLAN.name) is None
    await requested(storage, 1)
    await requested(storage, 0)
    await requested(storage, 5, trigger=Trigger.HAND)
    assert await storage.runs.newest_slot(PLAN.name) == slot(1)
    await requested(storage, 2, trigger=Trigger.AS_OF)
    assert await storage.runs.newest_slot(PLAN.name) == slot(2)
    await storage.runs.record_missed(
        PLAN, [replace(slot(3), closes_week=False)], status=RunStatus.MISSED, now=START
    )
    assert await storage.runs.newest_slot(PLAN.name) == replace(slot(3), closes_week=False)


async def test_missed_slots_are_recorded_once(storage: Storage) -> None:
    await requested(storage, 1)
    slots = [slot(0), slot(1), slot(2)]
    counts = await asyncio.gather(
        *(
            storage.runs.record_missed(PLAN, slots, status=RunStatus.MISSED, now=START)
            for _ in range(3)
        )
    )
    assert sum(counts) == 2
    assert await storage.runs.record_missed(PLAN, [], status=RunStatus.MISSED, now=START) == 0
    missed = await storage.runs.runs(PLAN.name, statuses=(RunStatus.MISSED,))
    assert [run.slot.key for run in missed] == [slot(2).key, slot(0).key]
    assert {run.finished_at for run in missed} == {START}


async def test_slots_that_are_missed_are_told_once_in_the_commit_that_records_them(
    storage: Storage,
) -> None:
    alert = Alert(
        key=f"{PLAN.name}/run", kind=AlertKind.RUN, news=News.NEW, run_id=None, title="m", lead="m"
    )
    await asyncio.gather(
        *(
            storage.runs.record_missed(
                PLAN, [slot(0), slot(1)], status=RunStatus.MISSED, now=START, alert=alert
            )
            for _ in range(3)
        )
    )
    waiting = await storage.alerts.lease_outbox(owner="us", now=storage.clock.now(), lease_s=9.0)
    assert [item.alert for item in waiting] == [alert]


# --- leases -------------------------------------------------------------------------------------


async def test_of_many_who_begin_a_run_one_owns_it(storage: Storage) -> None:
    run = await requested(storage)
    won, lost = await outcomes_of(*(begun_by(storage, run, f"owner-{n}") for n in range(5)))
    assert [(one.status, one.restarts) for one in won] == [(RunStatus.RUNNING, 0)]
    assert [type(error) for error in lost] == [RunInProgress] * 4


async def test_of_two_runs_of_a_plan_begun_at_once_one_is_active(storage: Storage) -> None:
    runs = [await requested(storage, week) for week in range(3)]
    won, lost = await outcomes_of(*(begun_by(storage, run) for run in runs))
    assert len(won) == 1
    assert [type(error) for error in lost] == [RunInProgress] * 2
    assert await storage.runs.active_run(PLAN.name) == won[0]


async def test_plans_do_not_wait_for_each_other(storage: Storage) -> None:
    await begun_by(storage, await requested(storage))
    other = await begin_run(storage.runs, plan=weekly_plan("another"))
    assert other.run.status is RunStatus.RUNNING
    assert list(await storage.runs.plan_names()) == ["another", PLAN.name]


async def test_a_run_is_taken_over_when_the_lease_of_its_owner_has_run_out(
    storage: Storage,
) -> None:
    run = await begun_by(storage, await requested(storage), "dead")
    storage.clock.advance(LEASE_S)
    with pytest.raises(RunInProgress, match="held by dead"):
        await begun_by(storage, run)
    storage.clock.advance(1)
    taken = await begun_by(storage, run)
    assert (taken.restarts, taken.started_at) == (1, run.started_at)
    assert not await storage.runs.renew(
        run.run_id, owner="dead", now=storage.clock.now(), lease_s=LEASE_S
    )


async def test_a_renewed_lease_holds(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    storage.clock.advance(50)
    assert await storage.runs.renew(
        run.run_id, owner="us", now=storage.clock.now(), lease_s=LEASE_S
    )
    storage.clock.advance(50)
    with pytest.raises(RunInProgress):
        await begun_by(storage, run, "them")
    assert await storage.runs.orphans(PLAN.name, now=storage.clock.now()) == []


async def test_a_final_run_cannot_be_renewed(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    await storage.runs.finish(ending(run, status=RunStatus.FAILED))
    assert not await storage.runs.renew(run.run_id, owner="us", now=START, lease_s=LEASE_S)


async def test_a_released_run_can_be_begun_at_once_and_only_by_its_owner_released(
    storage: Storage,
) -> None:
    run = await begun_by(storage, await requested(storage))
    await storage.runs.release(run.run_id, owner="them")
    with pytest.raises(RunInProgress):
        await begun_by(storage, run, "them")
    assert await storage.runs.holder(run.run_id) == "us"
    await storage.runs.release(run.run_id, owner="us")
    assert await storage.runs.holder(run.run_id) is None
    assert (await begun_by(storage, run, "them")).restarts == 1


async def test_restarts_without_progress_are_counted_and_progress_begins_anew(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    restarts = [(await begun_by(storage, begun.run)).restarts for _ in range(3)]
    await call(storage, begun)
    restarts += [(await begun_by(storage, begun.run)).restarts for _ in range(2)]
    assert restarts == [1, 2, 3, 1, 2]


async def test_orphans_are_scheduled_runs_that_nobody_holds(storage: Storage) -> None:
    held = await begun_by(storage, await requested(storage, 1))
    due = await requested(storage, 2)
    await requested(storage, 3, trigger=Trigger.HAND)
    now = storage.clock.now()
    assert list(await storage.runs.orphans(PLAN.name, now=now)) == [due]
    storage.clock.advance(LEASE_S + 1)
    found = await storage.runs.orphans(PLAN.name, now=storage.clock.now())
    assert [run.run_id for run in found] == [held.run_id, due.run_id]


async def test_a_run_as_of_a_slot_is_given_time_to_begin_and_is_then_an_orphan(
    storage: Storage,
) -> None:
    asked = await requested(storage, 1, trigger=Trigger.AS_OF)
    assert list(await storage.runs.orphans(PLAN.name, now=storage.clock.now())) == []
    storage.clock.advance(61)
    assert list(await storage.runs.orphans(PLAN.name, now=storage.clock.now())) == [asked]
    begun = await begun_by(storage, asked)
    assert list(await storage.runs.orphans(PLAN.name, now=storage.clock.now())) == []
    storage.clock.advance(LEASE_S + 1)
    found = await storage.runs.orphans(PLAN.name, now=storage.clock.now())
    assert [run.run_id for run in found] == [begun.run_id]


async def test_a_run_by_hand_that_nobody_works_is_ended_so_that_it_blocks_nothing(
    storage: Storage,
) -> None:
    run = await begun_by(storage, await requested(storage, 1, trigger=Trigger.HAND))
    storage.clock.advance(LEASE_S + 59)
    assert (
        list(await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=None)) == []
    )
    storage.clock.advance(2)
    (ended,) = await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=None)
    assert (ended.run_id, ended.status) == (run.run_id, RunStatus.PARTIAL)
    assert await storage.runs.active_run(PLAN.name) is None
    await begun_by(storage, await requested(storage, 2))


async def test_a_run_by_hand_that_was_ended_as_abandoned_can_be_gone_on_with(
    storage: Storage,
) -> None:
    run = await begun_by(storage, await requested(storage, 1, trigger=Trigger.HAND))
    await storage.runs.release(run.run_id, owner="us")
    await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=None)
    resumed = await begun_by(storage, run, "them")
    assert (resumed.status, resumed.error_code) == (RunStatus.RUNNING, None)


async def test_a_run_by_hand_that_is_abandoned_and_resumed_in_vain_counts_its_restarts(
    storage: Storage,
) -> None:
    run = await begun_by(storage, await requested(storage, 1, trigger=Trigger.HAND))
    restarts = []
    for _ in range(4):
        await storage.runs.release(run.run_id, owner="us")
        await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=None)
        restarts.append((await begun_by(storage, run)).restarts)
    assert restarts == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("scrub", "lost"),
    [
        (Scrub(), "prompts were removed"),
        (Scrub(clean=lambda text: text.replace("How", "[word]")), "prompts were redacted"),
    ],
)
async def test_an_abandoned_run_keeps_no_text_that_the_plan_forbids_and_says_what_that_costs(
    storage: Storage, scrub: Scrub, lost: str
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, trigger=Trigger.HAND)
    await call(storage, begun)
    await storage.runs.release(begun.run.run_id, owner="us")
    (ended,) = await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=scrub)
    assert ended == await storage.runs.run(begun.run.run_id)
    assert lost in (ended.error_message or "")
    assert "--resume" not in (ended.error_message or "")
    kept = await storage.runs.sample(begun.run.run_id)
    assert kept is not None
    assert not any("How" in case.prompt.last_user_text for case in kept.cases)
    with pytest.raises(RunInProgress, match=f"{lost}.*switchwise run"):
        await begun_by(storage, begun.run)


@pytest.mark.parametrize("scrub", [None, Scrub(clean=lambda text: text.replace("Ann", "[name]"))])
async def test_an_abandoned_run_whose_prompts_stayed_as_they_were_can_be_gone_on_with(
    storage: Storage, scrub: Scrub | None
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, trigger=Trigger.HAND)
    await storage.runs.release(begun.run.run_id, owner="us")
    (ended,) = await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=scrub)
    assert "--resume" in (ended.error_message or "")
    assert (await begun_by(storage, begun.run)).status is RunStatus.RUNNING


async def test_an_abandoned_run_that_had_drawn_nothing_yet_can_be_begun_again(
    storage: Storage,
) -> None:
    for clean in (None, str.upper):
        run = await begun_by(storage, await requested(storage, 1, trigger=Trigger.HAND))
        await storage.runs.release(run.run_id, owner="us")
        (ended,) = await storage.runs.end_abandoned(
            PLAN.name, now=storage.clock.now(), scrub=Scrub(clean=clean)
        )
        assert (await begun_by(storage, ended)).status is RunStatus.RUNNING
        await storage.runs.finish(ending(run))


async def test_runs_of_slots_are_never_ended_as_abandoned(storage: Storage) -> None:
    for week, trigger in enumerate((Trigger.SCHEDULE, Trigger.AS_OF)):
        run = await begun_by(storage, await requested(storage, week, trigger=trigger))
        await storage.runs.release(run.run_id, owner="us")
        assert (
            list(await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=None))
            == []
        )
        await storage.runs.finish(ending(run))


async def test_a_run_that_is_done_cannot_be_begun_and_a_partial_one_can(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    await storage.runs.finish(ending(run, status=RunStatus.PARTIAL, error_code="partial"))
    resumed = await begun_by(storage, run)
    assert (resumed.status, resumed.finished_at) == (RunStatus.RUNNING, None)
    await storage.runs.finish(ending(run))
    with pytest.raises(RunInProgress, match="done already"):
        await begun_by(storage, run)


async def test_a_partial_run_whose_prompts_were_removed_cannot_be_resumed(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await storage.runs.finish(ending(begun.run, status=RunStatus.PARTIAL))
    await storage.runs.scrub(begun.run.run_id, None)
    with pytest.raises(RunInProgress, match="prompts were removed"):
        await begun_by(storage, begun.run)


async def test_a_partial_run_whose_prompts_were_redacted_cannot_be_resumed(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await storage.runs.finish(ending(begun.run, status=RunStatus.PARTIAL))
    await storage.runs.scrub(begun.run.run_id, lambda text: text.replace("Ann", "[name]"))
    assert (await begun_by(storage, begun.run)).status is RunStatus.RUNNING
    await storage.runs.finish(ending(begun.run, status=RunStatus.PARTIAL))
    await storage.runs.scrub(begun.run.run_id, lambda text: text.replace("How", "[word]"))
    with pytest.raises(RunInProgress, match="prompts were redacted"):
        await begun_by(storage, begun.run)


# --- ends ---------------------------------------------------------------------------------------


async def finished_as_failed(storage: Storage, begun: Begun) -> None:
    await storage.runs.finish(ending(begun.run, status=RunStatus.FAILED, scrub=Scrub()))


async def finished_as_partial(storage: Storage, begun: Begun) -> None:
    await storage.runs.finish(ending(begun.run, status=RunStatus.PARTIAL))


async def left_by_its_hand(storage: Storage, begun: Begun) -> None:
    await storage.runs.release(begun.run.run_id, owner="us")
    (ended,) = await storage.runs.end_abandoned(PLAN.name, now=storage.clock.now(), scrub=None)
    assert ended.run_id == begun.run.run_id


@pytest.mark.parametrize("end", [finished_as_failed, finished_as_partial, left_by_its_hand])
async def test_who_still_works_for_a_run_that_has_ended_pays_and_writes_nothing_more(
    storage: Storage, end: Callable[[Storage, Begun], Awaitable[None]]
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, trigger=Trigger.HAND)
    await call(storage, begun)
    in_flight = opening(begun, case=1, reserved_usd="0.30")
    await storage.journal.open(in_flight)
    await end(storage, begun)
    with pytest.raises(FenceLost):
        await storage.journal.settle(outcome(in_flight, completion("late")))
    with pytest.raises(FenceLost):
        await storage.journal.open(opening(begun, case=2, purpose=Purpose.JUDGE))
    with pytest.raises(FenceLost):
        await storage.journal.score(begun.ref, [record(begun)])
    with pytest.raises(FenceLost):
        await storage.runs.close_shard(begun.ref, at=START)
    assert list(await storage.runs.scores(begun.run.run_id)) == []
    (line,) = await storage.runs.spend(begun.run.run_id)
    assert (line.attempts, line.spend_usd, line.unknown_cost) == (2, Decimal("0.01"), 1)
    assert await storage.runs.spend_since(PLAN.name, START) == Decimal("0.31")


async def test_a_worker_gets_no_shard_of_a_run_that_has_ended(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await finished_as_failed(storage, begun)
    with pytest.raises(FenceLost):
        await storage.runs.claim(begun.run.run_id, 0, owner="w", at=START, holder="us")


async def test_a_partial_run_is_gone_on_with_where_it_stood(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await call(storage, begun)
    in_flight = opening(begun, case=1)
    await storage.journal.open(in_flight)
    await finished_as_partial(storage, begun)
    await begun_by(storage, begun.run, "them")
    claimed = await storage.runs.claim(begun.run.run_id, 0, owner="them", at=START, holder="them")
    settled = await storage.runs.settled(claimed.shard)
    assert [reply.result for reply in settled.replies.values()] == [completion()]
    assert list(settled.tried_at) == [(in_flight.case_id, in_flight.call_key)]
    ref = ShardRef(run_id=begun.run.run_id, shard_no=0, fence=claimed.shard.fence)
    again = opening(begun, case=1, ref=ref, attempt_no=2)
    assert await storage.journal.open(again) is None
    await storage.journal.settle(outcome(again))
    await storage.runs.close_shard(ref, at=START)
    await storage.runs.finish(ending(begun.run))


async def test_the_normal_end_of_a_run_leaves_its_figures_as_they_were(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    for case in range(4):
        await call(storage, begun, case=case)
    await storage.runs.close_shard(begun.ref, at=START)
    before = await storage.runs.results(begun.run.run_id)
    await storage.runs.finish(ending(begun.run))
    assert await storage.runs.results(begun.run.run_id) == before
    (line,) = await storage.runs.spend(begun.run.run_id)
    assert (line.attempts, line.unknown_cost) == (4, 0)


# --- runs ---------------------------------------------------------------------------------------


async def test_a_run_is_found_by_a_prefix_that_no_other_has(storage: Storage) -> None:
    runs = [await requested(storage, week) for week in range(3)]
    assert await storage.runs.run(runs[0].run_id[:20]) == runs[0]
    assert await storage.runs.run("") is None
    assert await storage.runs.run("%") is None
    assert await storage.runs.run("no-such-run") is None


async def test_runs_are_listed_newest_first_by_status(storage: Storage) -> None:
    first, second = await requested(storage, 0), await requested(storage, 1)
    await storage.runs.finish(
        ending(
            first,
            status=RunStatus.SKIPPED,
            finished_at=START,
            error_code="overlap",
            error_message="nul \x00",
        )
    )
    assert [r.run_id for r in await storage.runs.runs(PLAN.name)] == [second.run_id, first.run_id]
    assert len(await storage.runs.runs(PLAN.name, limit=1)) == 1
    latest = await storage.runs.latest_run(PLAN.name, statuses=(RunStatus.SKIPPED,))
    assert latest is not None
    assert (latest.run_id, latest.error_code, latest.finished_at) == (
        first.run_id,
        "overlap",
        START,
    )
    assert await storage.runs.latest_run(PLAN.name, statuses=(RunStatus.DONE,)) is None


async def test_a_run_that_is_done_stays_done(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    await storage.runs.finish(ending(run))
    await storage.runs.finish(ending(run, status=RunStatus.FAILED))
    found = await storage.runs.run(run.run_id)
    assert found is not None
    assert found.status is RunStatus.DONE


# --- samples ------------------------------------------------------------------------------------


async def test_a_sample_is_saved_once_and_read_back_as_it_was(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    assert await storage.runs.sample(run.run_id) is None
    anchor = replace(
        cases_for(run, 6)[5],
        weight=0.0,
        anchor_of=cases_for(await requested(storage, 1), 1)[0].case_id,
    )
    first = replace(sample_for(run, 5), anchors=(anchor,), replayable=512.5)
    saved = await storage.runs.save_sample(run, first, {"policy": {"quality_margin": 0.05}})
    again = await storage.runs.save_sample(run, sample_for(run, 2), {"policy": "later"})
    assert await storage.runs.sample(run.run_id) == first
    assert saved == again
    assert (saved.cases_sampled, saved.frame, saved.window, saved.frozen) == (
        5,
        700,
        first.window,
        {"policy": {"quality_margin": 0.05}},
    )


async def test_prompts_that_postgres_cannot_hold_are_saved_with_replacements(
    storage: Storage,
) -> None:
    run = await begun_by(storage, await requested(storage))
    text = "nul \x00 half \ud83d end"
    case = replace(
        cases_for(run, 1, text=text)[0],
        source_id="row\x00",
        stratum="\ud800",
        segments={"\x00": "\udfff"},
        reference=text,
        tool_calls=({"name": "n", "input": {"x": float("inf")}},),
    )
    await storage.runs.save_sample(run, replace(sample_for(run, 1), cases=(case,)), {})
    kept = await storage.runs.sample(run.run_id)
    assert kept is not None
    assert kept.cases[0].prompt.last_user_text.startswith("nul ")
    assert kept.cases[0].prompt.last_user_text.endswith(" end")


async def test_a_megabyte_prompt_is_kept(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    sample = sample_for(run, 2, text="ü" * 500_000)
    await storage.runs.save_sample(run, sample, {})
    assert await storage.runs.sample(run.run_id) == sample


async def test_anchors_come_from_the_last_complete_run_that_counts(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=3)
    await call(storage, begun, case=1)
    await storage.runs.finish(ending(begun.run))
    later = await requested(storage, 1)
    assert list(await storage.runs.anchors(PLAN.name, before_run=later.run_id)) == []
    answered = await storage.runs.earlier_cases(PLAN.name, before_run=later.run_id, limit=9)
    assert list(answered) == [begun.sample.cases[1]]
    run = await begun_by(storage, later)
    anchor = replace(cases_for(run, 1)[0], weight=0.0, anchor_of=begun.sample.cases[1].case_id)
    await storage.runs.save_sample(
        run, replace(sample_for(run, 0), cases=(), anchors=(anchor,)), {}
    )
    await storage.runs.finish(ending(run))
    third = await requested(storage, 2)
    assert list(await storage.runs.anchors(PLAN.name, before_run=third.run_id)) == [anchor]


async def test_what_redaction_changed_is_not_repeated_as_an_anchor(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    for case, words in enumerate(("write to Ann", "write")):
        sent = opening(begun, case=case)
        await storage.journal.open(sent)
        await storage.journal.settle(outcome(sent, completion(words)))
    await storage.runs.finish(ending(begun.run))
    later = await requested(storage, 1)

    async def usable() -> list[str]:
        found = await storage.runs.earlier_cases(PLAN.name, before_run=later.run_id, limit=9)
        return [case.source_id for case in found]

    assert await usable() == ["row-0", "row-1"]
    await storage.runs.scrub(begun.run.run_id, lambda text: text.replace("Ann", "[name]"))
    assert await usable() == ["row-1"]
    await storage.runs.scrub(begun.run.run_id, lambda text: text.replace("How are", "[words]"))
    assert await usable() == []


# --- shards -------------------------------------------------------------------------------------


async def test_shards_are_planned_once_and_listed_in_order(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    cases = begun.sample.cases
    more = [shard_for(begun.run, cases[:2], shard_no=n, block=1) for n in (2, 1, 0)]
    await storage.runs.plan_shards(begun.run.run_id, more)
    await storage.runs.plan_shards(begun.run.run_id, [])
    shards = await storage.runs.shards(begun.run.run_id)
    assert [(s.shard_no, s.block, s.fence, s.is_done) for s in shards] == [
        (0, 0, 1, False),
        (1, 1, 0, False),
        (2, 1, 0, False),
    ]


async def test_every_claim_of_a_shard_has_a_higher_fence(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    claims = await asyncio.gather(
        *(storage.runs.claim(begun.run.run_id, 0, owner=f"owner-{n}", at=START) for n in range(5))
    )
    assert sorted(claim.shard.fence for claim in claims) == [2, 3, 4, 5, 6]
    assert [claim.cases for claim in claims] == [begun.sample.cases] * 5


async def test_a_worker_of_a_former_holder_gets_no_shard(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    storage.clock.advance(LEASE_S + 1)
    await begun_by(storage, begun.run, "them")
    with pytest.raises(FenceLost):
        await storage.runs.claim(begun.run.run_id, 0, owner="w", at=START, holder="us")
    claimed = await storage.runs.claim(begun.run.run_id, 0, owner="w", at=START, holder="them")
    assert claimed.shard.fence == 2


async def test_a_new_owner_learns_what_was_paid_and_what_is_ambiguous(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    first, retried = opening(begun), opening(begun, attempt_no=2)
    await storage.journal.open(first)
    await storage.journal.settle(outcome(first, failure(), cost_usd="0", is_final=False))
    await storage.journal.open(retried)
    await storage.journal.settle(outcome(retried, cost_usd="0.03"))
    in_flight = opening(begun, case=1)
    await storage.journal.open(in_flight)
    claimed = await storage.runs.claim(begun.run.run_id, 0, owner="them", at=START)
    settled = await storage.runs.settled(claimed.shard)
    reply = settled.replies[(first.case_id, first.call_key)]
    assert (reply.result, reply.attempts, reply.spend_usd, reply.is_cost_known) == (
        completion(),
        2,
        Decimal("0.03"),
        True,
    )
    assert settled.tried_at == {(in_flight.case_id, in_flight.call_key): (in_flight.sent_at,)}


async def test_an_ambiguous_attempt_leaves_the_cost_of_its_case_unknown(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await storage.journal.open(opening(begun))
    claimed = await storage.runs.claim(begun.run.run_id, 0, owner="us", at=START)
    ref = ShardRef(run_id=begun.run.run_id, shard_no=0, fence=claimed.shard.fence)
    again = opening(begun, ref=ref, attempt_no=2)
    await storage.journal.open(again)
    await storage.journal.settle(outcome(again))
    settled = await storage.runs.settled(claimed.shard)
    assert not settled.replies[(again.case_id, again.call_key)].is_cost_known
    (result,) = await storage.runs.results(begun.run.run_id)
    assert (result.is_cost_known, result.attempts) == (False, 2)


async def test_scores_of_earlier_owners_are_found(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    canary = replace(record(begun), case_id=begun.run.run_id, model_name="canary")
    await storage.journal.score(begun.ref, [record(begun), canary])
    (shard,) = await storage.runs.shards(begun.run.run_id)
    assert list(await storage.runs.scored(shard)) == [record(begun)]
    assert list(await storage.runs.scored(replace(shard, case_ids=()))) == [canary]


async def test_of_shards_closed_at_once_exactly_one_is_the_last_of_its_block(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    run_id, cases = begun.run.run_id, begun.sample.cases
    await storage.runs.plan_shards(
        run_id, [shard_for(begun.run, cases[:1], shard_no=n) for n in range(1, 6)]
    )
    await storage.runs.plan_shards(run_id, [shard_for(begun.run, [], shard_no=6, block=1)])
    refs = [begun.ref]
    for n in range(1, 6):
        claimed = await storage.runs.claim(run_id, n, owner="us", at=START)
        refs.append(ShardRef(run_id=run_id, shard_no=n, fence=claimed.shard.fence))
    are_last = await asyncio.gather(*(storage.runs.close_shard(ref, at=START) for ref in refs))
    assert are_last.count(True) == 1
    assert [s.is_done for s in await storage.runs.shards(run_id)] == [True] * 6 + [False]


async def test_a_shard_in_newer_hands_cannot_be_closed(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await storage.runs.claim(begun.run.run_id, 0, owner="them", at=START)
    with pytest.raises(FenceLost):
        await storage.runs.close_shard(begun.ref, at=START)
    (shard,) = await storage.runs.shards(begun.run.run_id)
    assert not shard.is_done


# --- results ------------------------------------------------------------------------------------


async def test_results_are_recomputed_from_attempts_and_scores(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=2)
    first = opening(begun)
    await storage.journal.open(first)
    await storage.journal.settle(outcome(first, failure(), cost_usd="0", is_final=False))
    await call(storage, begun, cost_usd="0.02")
    refused = opening(begun, model_name="a")
    await storage.journal.open(refused)
    await storage.journal.settle(outcome(refused, failure(FailureClass.OVERLOADED), cost_usd="0"))
    await storage.journal.score(begun.ref, [record(begun, 0.75)])
    candidate, primary = await storage.runs.results(begun.run.run_id)
    assert (primary.model_name, primary.quality, primary.failure_class) == ("p", 0.75, None)
    assert (primary.attempts, primary.retries, primary.spend_usd) == (2, 1, Decimal("0.02"))
    assert (primary.input_tokens, primary.output_tokens) == (105, 20)
    assert (primary.ttft_s, primary.latency_s, primary.felt_latency_s) == (0.2, 0.8, 0.9)
    assert primary.segments == {"route": "chat"}
    assert (candidate.quality, candidate.failure_class) == (0.0, FailureClass.OVERLOADED)
    assert candidate.latency_s is None


async def test_calls_of_a_done_shard_that_were_never_made_were_held_back(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=1)
    await call(storage, begun)
    assert [r.model_name for r in await storage.runs.results(begun.run.run_id)] == ["p"]
    await storage.runs.close_shard(begun.ref, at=START)
    held_back, _ = await storage.runs.results(begun.run.run_id)
    assert (held_back.model_name, held_back.failure_class, held_back.attempts) == (
        "a",
        FailureClass.BREAKER_OPEN,
        0,
    )


async def test_a_reply_without_a_score_is_unscored_with_the_reason(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=1)
    await call(storage, begun)
    unscored = replace(record(begun), result=Unscored(reason="two numbers"))
    await storage.journal.score(begun.ref, [unscored])
    (result,) = await storage.runs.results(begun.run.run_id)
    assert result.quality is None
    assert result.unscored_reason == "judge: two numbers"


async def test_judge_calls_are_no_part_of_a_models_results(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=1)
    await call(storage, begun)
    judged = opening(begun, purpose=Purpose.JUDGE)
    await storage.journal.open(judged)
    await storage.journal.settle(outcome(judged, cost_usd="0.50"))
    (result,) = await storage.runs.results(begun.run.run_id)
    assert result.spend_usd == Decimal("0.01")


async def test_results_can_be_charged_at_other_prices(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=1)
    await call(storage, begun)
    dear = Price(rates=Rates(input=Decimal(1000), output=Decimal(5000)), source="plan")
    (result,) = await storage.runs.repriced_results(begun.run.run_id, {"p": dear})
    assert result.spend_usd == Decimal("0.205")
    (result,) = await storage.runs.repriced_results(begun.run.run_id, {})
    assert result.spend_usd == Decimal("0.01")


async def test_spend_is_told_by_model_and_purpose(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await call(storage, begun, cost_usd="0.02")
    await call(storage, begun, case=1, cost_usd="0.03")
    failed = opening(begun, model_name="a")
    await storage.journal.open(failed)
    await storage.journal.settle(outcome(failed, failure(), cost_usd=None))
    candidate, primary = await storage.runs.spend(begun.run.run_id)
    assert (primary.model_name, primary.attempts, primary.spend_usd) == ("p", 2, Decimal("0.05"))
    assert (primary.unknown_cost, primary.failures) == (0, {})
    assert (candidate.unknown_cost, candidate.failures) == (1, {FailureClass.SERVER: 1})


async def test_what_was_charged_since_an_instant_counts_open_reservations(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    await call(storage, begun)
    later = begun.run.created_at + timedelta(days=1)
    await storage.journal.open(opening(begun, case=1, sent_at=later))
    assert await storage.runs.spend_since(PLAN.name, later) == Decimal("0.10")
    assert await storage.runs.spend_since(PLAN.name, begun.run.created_at) == Decimal("0.11")
    assert await storage.runs.spend_since("another", begun.run.created_at) == 0


# --- the end of a run ---------------------------------------------------------------------------


def stored_state(week: str, state: CandidateState = CandidateState.WATCH) -> StoredState:
    return StoredState(
        plan_name=PLAN.name,
        primary="p",
        candidate="a",
        epoch="e1",
        state=state,
        week=week,
        since_week="2026-W10",
        changed_at=START,
        detail={"looks": 3, "bounds": [0.5, 1.5]},
    )


def stored_evidence(run: Run, *, week: str = "2026-W13", epoch: str = "e1") -> StoredEvidence:
    results = [
        case_result(name, case, quality=(case % 4) / 3, cost=0.01 + case / 1000)
        for name in ("p", "a")
        for case in range(40)
    ]
    evidence = compare(results, primary="p", candidate="a").evidence
    assert evidence is not None
    return StoredEvidence(
        plan_name=PLAN.name,
        primary="p",
        candidate="a",
        week=week,
        epoch=epoch,
        identity={"primary": "p-1", "price": "0.0000001"},
        run_ids=(run.run_id,),
        evidence=evidence,
        primary_price={"input": "3"},
        candidate_price={"input": "1"},
        segments={"route=chat": evidence},
    )


async def test_evidence_is_read_back_exactly_and_oldest_first(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    weeks = [stored_evidence(run, week=week) for week in ("2026-W13", "2026-W09", "2025-W52")]
    await storage.runs.finish(ending(run, evidence=tuple(weeks)))
    assert list(await storage.runs.evidence(PLAN.name, since_week="")) == weeks[::-1]
    assert list(await storage.runs.evidence(PLAN.name, since_week="2026-W09")) == weeks[1::-1]
    assert await storage.runs.evidence("another", since_week="") == []


async def test_evidence_of_the_same_week_and_epoch_is_replaced(storage: Storage) -> None:
    first = await begun_by(storage, await requested(storage))
    await storage.runs.finish(ending(first, evidence=(stored_evidence(first),)))
    second = await begun_by(storage, await requested(storage, 1))
    merged = replace(stored_evidence(second), run_ids=(first.run_id, second.run_id))
    other_epoch = stored_evidence(second, week="2026-W14", epoch="e2")
    await storage.runs.finish(ending(second, evidence=(merged, other_epoch)))
    assert list(await storage.runs.evidence(PLAN.name, since_week="")) == [merged, other_epoch]


async def test_drift_is_read_once_a_week_however_many_runs_a_week_had(storage: Storage) -> None:
    for number in range(2):
        for hour in range(3):
            at = slot(number).at + timedelta(hours=hour)
            asked = await storage.runs.request(
                PLAN, Slot(key=f"{at:%Y-%m-%dT%H:%M}", at=at), Trigger.SCHEDULE, seed=7
            )
            assert asked is not None
            run = await begun_by(storage, asked)
            told = None if hour == 2 else {"week": run.slot.iso_week, "hour": hour}
            await storage.runs.finish(ending(run, drift_reading=told))
    weeks = [slot(number).iso_week for number in range(2)]
    assert list(await storage.runs.drift_readings(PLAN.name, limit=2)) == [
        {"week": week, "hour": 1} for week in weeks
    ]
    assert list(await storage.runs.drift_readings(PLAN.name, limit=1)) == [
        {"week": weeks[1], "hour": 1}
    ]


async def test_the_end_of_a_run_is_committed_together(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    alert = Alert(
        key=f"{PLAN.name}/switch:a",
        kind=AlertKind.SWITCH,
        news=News.NEW,
        run_id=run.run_id,
        title="Switch",
        lead="a is cheaper",
    )
    opened = OpenAlert(
        key=alert.key, kind=alert.kind, opened_at=START, last_sent_at=START, title="Switch"
    )
    await storage.runs.finish(
        ending(
            run,
            document={"verdict": "switch", "n": Decimal("0.10")},
            states=(stored_state("2026-W13"),),
            alerts=(alert,),
            open_alerts=(opened,),
            drift_reading={"week": "2026-W13"},
        )
    )
    done = await storage.runs.run(run.run_id)
    assert done is not None
    assert (done.status, done.finished_at) == (RunStatus.DONE, START + timedelta(hours=1))
    assert await storage.runs.document(run.run_id) == {"verdict": "switch", "n": "0.10"}
    assert list(await storage.runs.states(PLAN.name)) == [stored_state("2026-W13")]
    assert list(await storage.alerts.open_alerts(PLAN.name)) == [opened]
    assert list(await storage.runs.drift_readings(PLAN.name, limit=5)) == [{"week": "2026-W13"}]
    items = await storage.alerts.lease_outbox(owner="us", now=START + timedelta(days=1), lease_s=9)
    assert [item.alert for item in items] == [alert]


async def test_ending_a_run_twice_changes_nothing(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    alert = Alert(
        key=f"{PLAN.name}/run",
        kind=AlertKind.RUN,
        news=News.NEW,
        run_id=None,
        title="t",
        lead="l",
    )
    ends = [ending(run, document={"n": n}, alerts=(alert,)) for n in range(3)]
    await asyncio.gather(*map(storage.runs.finish, ends))
    items = await storage.alerts.lease_outbox(owner="us", now=START + timedelta(days=1), lease_s=9)
    assert len(items) == 1
    assert await storage.runs.document(run.run_id) in [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_a_resumed_partial_run_replaces_its_document(storage: Storage) -> None:
    run = await begun_by(storage, await requested(storage))
    await storage.runs.finish(ending(run, status=RunStatus.PARTIAL, document={"n": 1}))
    await begun_by(storage, run)
    await storage.runs.finish(ending(run, document={"n": 2}))
    assert await storage.runs.document(run.run_id) == {"n": 2}
    assert await storage.runs.document(cases_for(run, 1)[0].case_id) is None


async def test_the_latest_state_of_a_candidate_wins(storage: Storage) -> None:
    for week in range(2):
        run = await begun_by(storage, await requested(storage, week))
        state = CandidateState.ALERT if week else CandidateState.WATCH
        await storage.runs.finish(ending(run, states=(stored_state(f"2026-W1{week}", state),)))
    (found,) = await storage.runs.states(PLAN.name)
    assert (found.week, found.state) == ("2026-W11", CandidateState.ALERT)


# --- bodies -------------------------------------------------------------------------------------


async def test_cleaned_bodies_leave_no_stored_text_as_it_was(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN)
    secret = opening(begun)
    await storage.journal.open(secret)
    await storage.journal.settle(outcome(secret, completion("write to Ann")))
    await storage.journal.score(begun.ref, [record(begun, reason="names Ann")])
    await storage.runs.scrub(begun.run.run_id, lambda text: text.replace("Ann", "[name]"))
    (shard,) = await storage.runs.shards(begun.run.run_id)
    reply = (await storage.runs.settled(shard)).replies[(secret.case_id, secret.call_key)]
    assert reply.completion is not None
    assert reply.completion.text == "write to [name]"
    (told,) = await storage.runs.scores(begun.run.run_id)
    assert told.result.reason == "names [name]"
    assert await storage.runs.sample(begun.run.run_id) == begun.sample


async def test_removed_bodies_leave_figures_and_no_text(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=1)
    await call(storage, begun)
    await storage.journal.score(begun.ref, [record(begun, 0.75)])
    before = await storage.runs.results(begun.run.run_id)
    await storage.runs.scrub(begun.run.run_id, None)
    assert await storage.runs.results(begun.run.run_id) == before
    sample = await storage.runs.sample(begun.run.run_id)
    assert sample is not None
    assert sample.cases == ()
    (told,) = await storage.runs.scores(begun.run.run_id)
    assert (told.score, told.result.reason, told.result.detail) == (0.75, "", {})
    assert await storage.runs.baselines([begun.sample.cases[0].case_id], "p") == {}


async def test_texts_that_may_not_be_kept_go_in_the_commit_that_makes_the_run_final(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=1)
    await call(storage, begun)
    await storage.runs.finish(ending(begun.run, scrub=Scrub()))
    sample = await storage.runs.sample(begun.run.run_id)
    assert sample is not None
    assert sample.cases == ()


async def test_the_first_reply_to_an_anchor_is_found_with_its_worth(storage: Storage) -> None:
    begun = await begin_run(storage.runs, plan=PLAN, n=1)
    await call(storage, begun)
    await storage.journal.score(begun.ref, [record(begun, 0.75)])
    case_id = begun.sample.cases[0].case_id
    found = await storage.runs.baselines([case_id], "p")
    assert (found[case_id].week, found[case_id].quality) == ("2026-W13", 0.75)
    assert found[case_id].reply.completion == completion()
    assert await storage.runs.baselines([], "p") == {}
