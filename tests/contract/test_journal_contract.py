"""What every journal promises: fences, caps, and nothing paid that is lost or charged twice."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from app.domain.attempts import (
    AttemptOpening,
    Completion,
    Failure,
    FailureClass,
    ShardRef,
    StopReason,
)
from app.domain.errors import FenceLost, SwitchwiseError
from app.domain.plans import Budget, Plan
from app.domain.prices import Usage
from app.domain.runs import RunStatus
from app.domain.scores import Score, ScoreRecord, Unscored
from app.ports import BudgetRefusal
from app.storage.ledger import Caps
from tests.fakes.storage import Storage
from tests.fakes.work import (
    Begun,
    begin_run,
    completion,
    ending,
    failure,
    opening,
    outcome,
    record,
    weekly_plan,
)


def caps(per_run: str | None = None, per_month: str | None = None) -> Caps:
    return Caps(
        per_run_usd=None if per_run is None else Decimal(per_run),
        per_month_usd=None if per_month is None else Decimal(per_month),
        zone=ZoneInfo("UTC"),
    )


async def charged(storage: Storage, begun: Begun) -> Decimal:
    since = begun.run.created_at - timedelta(days=365)
    return await storage.runs.spend_since(begun.plan.name, since)


async def reply_of(storage: Storage, begun: Begun, opened: AttemptOpening) -> Completion | Failure:
    shard = (await storage.runs.shards(begun.run.run_id))[0]
    settled = await storage.runs.settled(shard)
    return settled.replies[(opened.case_id, opened.call_key)].result


# --- rows ---------------------------------------------------------------------------------------


async def test_a_settled_reply_is_read_back_as_it_was(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    opened = opening(begun)
    sent = Completion(
        text="Fünf ✓",
        stop_reason=StopReason.TOOL_USE,
        usage=Usage(
            input_tokens=10,
            output_tokens=20,
            cache_read_tokens=3,
            cache_write_5m_tokens=4,
            cache_write_1h_tokens=5,
            thinking_tokens=6,
        ),
        latency_s=1.5,
        ttft_s=0.25,
        tool_calls=({"name": "look_up", "input": {"q": ["a", 1, None, True]}},),
        request_id="req-7",
    )
    assert await storage.journal.open(opened) is None
    await storage.journal.settle(outcome(opened, sent))
    assert await reply_of(storage, begun, opened) == sent


async def test_a_settled_failure_is_read_back_as_it_was(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    opened = opening(begun)
    sent = Failure(
        failure_class=FailureClass.RATE_LIMITED,
        message="the endpoint answered 429",
        http_status=429,
        request_id="req-8",
        latency_s=0.1,
    )
    await storage.journal.open(opened)
    await storage.journal.settle(outcome(opened, sent, cost_usd="0"))
    assert await reply_of(storage, begun, opened) == sent


async def test_many_callers_at_once_are_all_written(storage: Storage) -> None:
    begun = await begin_run(storage.runs, n=40)
    openings = [opening(begun, case=n % 40, attempt_no=1 + n // 40) for n in range(200)]
    assert set(await asyncio.gather(*map(storage.journal.open, openings))) == {None}
    await asyncio.gather(*(storage.journal.settle(outcome(one)) for one in openings))
    (line,) = await storage.runs.spend(begun.run.run_id)
    assert (line.attempts, line.spend_usd, line.unknown_cost) == (200, Decimal("2.00"), 0)


async def test_a_megabyte_of_text_is_kept(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    opened = opening(begun)
    sent = completion("œ" * 500_000)
    await storage.journal.open(opened)
    await storage.journal.settle(outcome(opened, sent))
    assert await reply_of(storage, begun, opened) == sent


async def test_text_that_postgres_cannot_hold_costs_no_paid_result(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    opened = opening(begun)
    sent = replace(
        completion("nul \x00 and half \ud83d"),
        tool_calls=({"name": "n", "input": {"\x00": "\udc00", "x": float("nan")}},),
        request_id="req\x00",
    )
    await storage.journal.open(opened)
    await storage.journal.settle(outcome(opened, sent))
    kept = await reply_of(storage, begun, opened)
    assert isinstance(kept, Completion)
    assert kept.text.startswith("nul ")
    told = replace(record(begun, reason="\x00 \ud83d"), result=Unscored(reason="\ud83d"))
    await storage.journal.score(begun.ref, [told])
    assert len(await storage.runs.scores(begun.run.run_id)) == 1


# --- repetition ---------------------------------------------------------------------------------


async def test_an_opening_that_is_repeated_is_written_and_charged_once(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.15"))
    opened = opening(begun, reserved_usd="0.10")
    answers = await asyncio.gather(*(journal.open(opened) for _ in range(5)))
    assert answers == [None] * 5
    assert await journal.open(opened) is None
    assert await charged(storage, begun) == Decimal("0.10")
    assert await journal.open(opening(begun, reserved_usd="0.05")) is None
    unlimited = opening(begun, case=1)
    assert [await storage.journal.open(unlimited) for _ in range(2)] == [None, None]


async def test_settling_twice_changes_nothing(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.15"))
    opened = opening(begun, reserved_usd="0.10")
    await journal.open(opened)
    await journal.settle(outcome(opened, completion("first"), cost_usd="0.04"))
    await asyncio.gather(
        *(journal.settle(outcome(opened, completion("later"), cost_usd="0.02")) for _ in range(3))
    )
    kept = await reply_of(storage, begun, opened)
    assert isinstance(kept, Completion)
    assert kept.text == "first"
    assert await charged(storage, begun) == Decimal("0.04")
    assert await journal.open(opening(begun, reserved_usd="0.11")) is None


async def test_an_attempt_that_settled_cannot_be_opened_again(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    opened = opening(begun)
    await storage.journal.open(opened)
    await storage.journal.settle(outcome(opened))
    with pytest.raises(SwitchwiseError, match="settled already"):
        await storage.journal.open(opened)


async def test_an_attempt_that_was_never_opened_cannot_be_settled(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    with pytest.raises(SwitchwiseError, match="never opened"):
        await storage.journal.settle(outcome(opening(begun)))


async def test_equal_scores_are_written_once_and_the_first_stays(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    first = record(begun, 0.75)
    await storage.journal.score(begun.ref, [first, first])
    await storage.journal.score(begun.ref, [record(begun, 0.0)])
    assert list(await storage.runs.scores(begun.run.run_id)) == [first]


async def test_every_kind_of_score_is_read_back_as_it_was(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    case_id = begun.sample.cases[0].case_id
    told = [
        ScoreRecord(
            case_id=case_id,
            model_name="p",
            evaluator="json",
            evaluator_version="2",
            result=Score(value=0.0, reason="no JSON", detail={"at": [1, 2.5]}),
            is_gate=True,
            weight=0.0,
        ),
        ScoreRecord(
            case_id=case_id,
            model_name="p",
            evaluator="judge:one",
            evaluator_version="1",
            result=Unscored(reason="two numbers", detail={"said": "4 or 5"}),
            judge_model="one",
        ),
        ScoreRecord(
            case_id=case_id,
            model_name="p",
            evaluator="judge:two",
            evaluator_version="1",
            result=Score(value=0.25),
            judge_model="two",
            weight=2.0,
        ),
    ]
    await storage.journal.score(begun.ref, told)
    found = await storage.runs.scores(begun.run.run_id)
    assert sorted(found, key=lambda one: one.evaluator) == sorted(told, key=lambda o: o.evaluator)


# --- fences -------------------------------------------------------------------------------------


async def test_an_owner_who_lost_the_shard_writes_nothing(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    opened = opening(begun)
    await storage.journal.open(opened)
    await storage.runs.claim(begun.run.run_id, 0, owner="them", at=storage.clock.now())
    with pytest.raises(FenceLost):
        await storage.journal.open(opening(begun, case=1))
    with pytest.raises(FenceLost):
        await storage.journal.settle(outcome(opened))
    with pytest.raises(FenceLost):
        await storage.journal.score(begun.ref, [record(begun)])
    (line,) = await storage.runs.spend(begun.run.run_id)
    assert (line.attempts, line.unknown_cost) == (1, 1)
    assert await storage.runs.scores(begun.run.run_id) == []


async def test_a_shard_that_does_not_exist_takes_no_writes(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    nowhere = ShardRef(run_id=begun.run.run_id, shard_no=99, fence=1)
    with pytest.raises(FenceLost):
        await storage.journal.open(opening(begun, ref=nowhere))


async def test_one_lost_fence_does_not_stop_others_in_the_same_commit(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    stale = ShardRef(run_id=begun.run.run_id, shard_no=0, fence=begun.ref.fence - 1)
    answers = await asyncio.gather(
        storage.journal.open(opening(begun, ref=stale)),
        storage.journal.open(opening(begun)),
        return_exceptions=True,
    )
    assert isinstance(answers[0], FenceLost)
    assert answers[1] is None


# --- caps ---------------------------------------------------------------------------------------


async def test_concurrent_openings_of_two_processes_never_exceed_the_cap(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journals = [storage.another_journal(caps(per_run="1.00")) for _ in range(2)]
    answers = await asyncio.gather(
        *(journals[n % 2].open(opening(begun, reserved_usd="0.07")) for n in range(60))
    )
    assert answers.count(None) == 14
    refused = [answer for answer in answers if answer is not None]
    assert {(one.cap, one.cap_usd) for one in refused} == {("budget.per_run_usd", Decimal("1.00"))}
    assert await charged(storage, begun) == Decimal("0.98")


async def test_money_in_flight_may_come_back_and_then_fits(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.25"))
    openings = [opening(begun, case=n, reserved_usd="0.10") for n in range(3)]
    answers = await asyncio.gather(*map(journal.open, openings))
    assert answers == [
        None,
        None,
        BudgetRefusal(cap="budget.per_run_usd", cap_usd=Decimal("0.25"), may_fit_later=True),
    ]
    await journal.settle(outcome(openings[0], cost_usd="0.02"))
    assert await journal.open(openings[2]) is None


async def test_settling_frees_money_for_an_opening_of_the_same_moment(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.10"))
    first, second = opening(begun), opening(begun, case=1, reserved_usd="0.09")
    await journal.open(first)
    _, refusal = await asyncio.gather(
        journal.settle(outcome(first, cost_usd="0.01")), journal.open(second)
    )
    assert refusal is None


async def test_waiting_is_in_vain_when_nothing_is_in_flight(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.10"))
    opened = opening(begun)
    await journal.open(opened)
    await journal.settle(outcome(opened, cost_usd="0.08"))
    refusal = await journal.open(opening(begun, case=1))
    assert refusal is not None
    assert not refusal.may_fit_later


async def test_waiting_for_calls_of_a_dead_run_is_in_vain(storage: Storage) -> None:
    dead = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_month="0.15"))
    await journal.open(opening(dead))
    await storage.runs.finish(ending(dead.run, status=RunStatus.FAILED))
    begun = await begin_run(storage.runs, week=1)
    refusal = await journal.open(opening(begun))
    assert refusal is not None
    assert not refusal.may_fit_later


async def test_the_month_cap_holds_over_two_runs(storage: Storage) -> None:
    first = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.40", per_month="0.50"))
    openings = [opening(first, case=n) for n in range(4)]
    await asyncio.gather(*map(journal.open, openings))
    await asyncio.gather(*(journal.settle(outcome(one, cost_usd="0.10")) for one in openings))
    await storage.runs.finish(ending(first.run, status=RunStatus.FAILED))
    second = await begin_run(storage.runs, week=1)
    answers = await asyncio.gather(*(journal.open(opening(second, case=n)) for n in range(3)))
    assert Counter(answer and answer.cap for answer in answers) == {
        None: 1,
        "budget.per_month_usd": 2,
    }
    next_month = second.run.created_at + timedelta(days=31)
    assert await journal.open(opening(second, sent_at=next_month)) is None


async def test_months_are_those_of_the_plans_time_zone(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    auckland = Caps(per_month_usd=Decimal("0.10"), zone=ZoneInfo("Pacific/Auckland"))
    journal = storage.another_journal(auckland)
    before = begun.run.created_at.replace(day=31, hour=10)
    assert await journal.open(opening(begun, sent_at=before)) is None
    assert await journal.open(opening(begun, sent_at=before)) is not None
    assert await journal.open(opening(begun, sent_at=before + timedelta(hours=2))) is None


async def test_an_unknown_cost_keeps_its_reservation_charged(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.15"))
    opened = opening(begun)
    await journal.open(opened)
    await journal.settle(outcome(opened, failure(FailureClass.INCOMPLETE), cost_usd=None))
    assert await journal.open(opening(begun, case=1)) is not None
    assert await charged(storage, begun) == Decimal("0.10")
    (line,) = await storage.runs.spend(begun.run.run_id)
    assert (line.spend_usd, line.unknown_cost) == (Decimal(0), 1)


async def test_an_ambiguous_attempt_keeps_its_reservation_charged(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.15"))
    await journal.open(opening(begun))
    claimed = await storage.runs.claim(begun.run.run_id, 0, owner="them", at=storage.clock.now())
    ref = ShardRef(run_id=begun.run.run_id, shard_no=0, fence=claimed.shard.fence)
    refusal = await journal.open(opening(begun, ref=ref, attempt_no=2))
    assert refusal is not None
    assert not refusal.may_fit_later


async def test_a_cap_that_was_set_later_counts_what_was_spent_before(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    settled, open_still = opening(begun), opening(begun, case=1)
    await asyncio.gather(storage.journal.open(settled), storage.journal.open(open_still))
    await storage.journal.settle(outcome(settled, cost_usd="0.30"))
    journal = storage.another_journal(caps(per_run="0.45", per_month="0.60"))
    assert await journal.open(opening(begun, reserved_usd="0.06")) is not None
    assert await journal.open(opening(begun, reserved_usd="0.05")) is None


async def test_tiny_sums_are_added_exactly(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    journal = storage.another_journal(caps(per_run="0.00000001"))
    openings = [opening(begun, reserved_usd="0.0000000003") for _ in range(34)]
    answers = [await journal.open(one) for one in openings]
    assert answers.count(None) == 33


# --- caps of the Run ----------------------------------------------------------------------------


def capped(per_run: str | None = None, per_month: str | None = None) -> Plan:
    """A plan with these caps."""
    return replace(
        weekly_plan(),
        budget=Budget(
            per_run_usd=None if per_run is None else Decimal(per_run),
            per_month_usd=None if per_month is None else Decimal(per_month),
        ),
    )


async def allowed(storage: Storage, plan: Plan, *, week: int = 0, anew: bool = False) -> Begun:
    begun = await begin_run(storage.runs, plan=plan, week=week)
    await storage.runs.allow(begun.run.run_id, plan, now=storage.clock.now(), anew=anew)
    return begun


async def test_a_process_with_an_older_file_keeps_to_the_caps_of_the_run(storage: Storage) -> None:
    begun = await allowed(storage, capped(per_run="0.15"))
    stale = storage.another_journal(caps(per_run="100"))
    assert await stale.open(opening(begun)) is None
    refusal = await stale.open(opening(begun, case=1))
    assert refusal is not None
    assert refusal.cap_usd == Decimal("0.15")


async def test_a_process_whose_file_has_no_cap_keeps_to_those_of_the_run(storage: Storage) -> None:
    begun = await allowed(storage, capped(per_month="0.15"))
    assert await storage.journal.open(opening(begun)) is None
    refusal = await storage.journal.open(opening(begun, case=1))
    assert refusal is not None
    assert refusal.cap == "budget.per_month_usd"


async def test_a_cap_that_is_taken_off_and_set_again_counts_what_was_spent_between(
    storage: Storage,
) -> None:
    for week, plan in enumerate([capped(per_month="1"), capped()]):
        begun = await allowed(storage, plan, week=week)
        opened = opening(begun)
        assert await storage.journal.open(opened) is None
        await storage.journal.settle(outcome(opened, cost_usd="0.10"))
        await storage.runs.finish(ending(begun.run, status=RunStatus.FAILED))
    begun = await allowed(storage, capped(per_month="0.29"), week=2)
    assert await storage.journal.open(opening(begun)) is not None
    assert await storage.journal.open(opening(begun, reserved_usd="0.09")) is None


async def test_what_a_run_may_spend_is_set_once_and_anew_only_while_nobody_works_it(
    storage: Storage,
) -> None:
    begun = await allowed(storage, capped(per_run="0.15"))
    run_id, now = begun.run.run_id, storage.clock.now()
    await storage.runs.allow(run_id, capped(per_run="5"), now=now)
    await storage.runs.allow(run_id, capped(per_run="5"), now=now, anew=True)
    assert await storage.journal.open(opening(begun, reserved_usd="0.20")) is not None
    await storage.runs.release(run_id, owner="us")
    await storage.runs.allow(run_id, capped(per_run="5"), now=now, anew=True)
    assert await storage.journal.open(opening(begun, reserved_usd="0.20")) is None
