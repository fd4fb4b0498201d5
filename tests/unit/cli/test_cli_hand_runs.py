from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from app.cli.hand_runs import (
    HandOrder,
    _beat,
    _left_behind,
    _let_go,
    _run_for,
    adjusted,
    exit_code_of,
    run_by_hand,
    with_candidates,
)
from app.cli.session import Session
from app.domain.errors import ConfigError, RunInProgress
from app.domain.plans import Budget
from app.domain.runs import Run, RunStatus, Trigger
from app.settings import Settings
from tests.fakes.clocks import HandClock
from tests.fakes.run_documents import document
from tests.fakes.small_plans import plan, run
from tests.fakes.storage import Memory, MemoryJournal, MemoryRuns
from tests.fakes.work import begin_run, opening, outcome, weekly_plan

PLAN = plan("haiku", "opus")


def test_an_order_changes_only_what_it_names() -> None:
    capped = replace(PLAN, budget=Budget(per_run_usd=Decimal(25), per_month_usd=Decimal(100)))
    made = adjusted(capped, HandOrder(n=40, only=("opus",), max_usd=Decimal("2.5")))
    assert made.sample.n == 40
    assert [candidate.name for candidate in made.candidates] == ["opus"]
    assert made.primary == PLAN.primary
    assert (made.budget.per_run_usd, made.budget.per_month_usd) == (Decimal("2.5"), Decimal(100))


def test_a_changed_sample_or_field_changes_the_configs_digest() -> None:
    digests = {
        adjusted(PLAN, order).config_hash
        for order in (HandOrder(), HandOrder(n=40), HandOrder(only=("opus",)))
    }
    assert len(digests) == 3


def test_an_unknown_candidate_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'haiku'"):
        with_candidates(PLAN, ("haikoo",))


def test_the_primary_alone_is_not_a_comparison() -> None:
    with pytest.raises(ConfigError, match="must name a candidate"):
        with_candidates(PLAN, ("p",))


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        ("done", None, 0),
        ("partial", "partial", 4),
        ("failed", "NothingToReplay", 3),
        ("failed", "GatewayRefused", 3),
        ("failed", "UnknownPrice", 2),
        ("failed", "RunStuck", 1),
        ("failed", "Problem", 1),
        ("failed", None, 1),
    ],
)
def test_the_exit_code_is_that_of_what_ended_the_run(
    status: str, code: str | None, exit_code: int
) -> None:
    ended: Run = replace(run(), error_code=code)
    assert exit_code_of(document(status=status), ended) == exit_code


@pytest.mark.parametrize("reduced", [{"n": 40}, {"only": ("opus",)}])
def test_the_run_of_a_slot_takes_the_whole_plan(reduced: dict[str, object]) -> None:
    order = HandOrder(as_of=datetime(2026, 6, 3, tzinfo=UTC), **reduced)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--as-of") as refused:
        run_by_hand(Session(settings=Settings(), plans=(PLAN,)), PLAN, order)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("trigger", "status", "pings"),
    [
        (Trigger.AS_OF, RunStatus.DONE, 1),
        (Trigger.AS_OF, RunStatus.PARTIAL, 0),
        (Trigger.AS_OF, RunStatus.FAILED, 0),
        (Trigger.HAND, RunStatus.DONE, 0),
    ],
)
async def test_the_heartbeat_hears_of_complete_runs_of_slots(
    trigger: Trigger, status: RunStatus, pings: int
) -> None:
    heard: list[str] = []

    async def ping(url: str) -> bool:
        heard.append(url)
        return True

    watched = replace(PLAN, heartbeat_url="http://watch.example/1")
    await _beat(watched, replace(run(), trigger=trigger, status=status), ping)
    assert heard == ["http://watch.example/1"] * pings


async def test_the_next_run_as_of_a_slot_goes_on_with_one_that_was_interrupted() -> None:
    clock, memory = HandClock(), Memory()
    runs = MemoryRuns(memory, now=clock.now)
    storage: Any = SimpleNamespace(runs=runs)
    order = HandOrder(as_of=clock.now() - timedelta(days=1))
    asked = await _run_for(PLAN, storage, clock, order)
    await runs.begin(asked, PLAN, owner="killed", now=clock.now(), lease_s=20)
    with pytest.raises(RunInProgress):
        await _run_for(PLAN, storage, clock, order)
    clock.advance(21)
    assert (await _run_for(PLAN, storage, clock, order)).run_id == asked.run_id
    later = HandOrder(as_of=clock.now())
    assert [run.run_id for run in await _left_behind(PLAN, storage, clock, later)] == [asked.run_id]


async def test_a_run_by_hand_that_was_killed_does_not_stop_the_next_one() -> None:
    clock, memory = HandClock(), Memory()
    runs = MemoryRuns(memory, now=clock.now)
    storage: Any = SimpleNamespace(runs=runs)
    asked = await _run_for(PLAN, storage, clock, HandOrder())
    await runs.begin(asked, PLAN, owner="killed", now=clock.now(), lease_s=20)
    clock.advance(100)
    await _let_go(PLAN, storage, clock)
    assert (await _run_for(PLAN, storage, clock, HandOrder())).run_id != asked.run_id
    assert memory.runs[asked.run_id].status is RunStatus.PARTIAL


async def test_a_run_is_not_resumed_under_a_cap_that_it_has_reached_already() -> None:
    clock, memory = HandClock(), Memory()
    runs = MemoryRuns(memory, now=clock.now)
    storage: Any = SimpleNamespace(runs=runs)
    begun = await begin_run(runs, plan=weekly_plan())
    opened = opening(begun)
    journal = MemoryJournal(memory)
    await journal.open(opened)
    await journal.settle(outcome(opened, cost_usd="2.50"))

    def resumed(max_usd: str) -> HandOrder:
        return HandOrder(resume=begun.run.run_id, max_usd=Decimal(max_usd))

    with pytest.raises(ConfigError, match=r"has spent \$2\.5000 already"):
        await _run_for(begun.plan, storage, clock, resumed("2.50"))
    assert (await _run_for(begun.plan, storage, clock, resumed("2.51"))).run_id == begun.run.run_id


@pytest.mark.parametrize(("resumed", "kept_cases"), [(False, 0), (True, 4)])
async def test_a_run_by_hand_that_was_left_loses_its_texts_unless_it_is_resumed_now(
    *, resumed: bool, kept_cases: int
) -> None:
    clock, memory = HandClock(), Memory()
    runs = MemoryRuns(memory, now=clock.now)
    storage: Any = SimpleNamespace(runs=runs)
    silent = replace(weekly_plan(), privacy=replace(PLAN.privacy, store_bodies="none"))
    left = await begin_run(runs, plan=silent, trigger=Trigger.HAND)
    clock.advance(3600)
    order = left.run.run_id[:8] if resumed else None
    await _let_go(silent, storage, clock, resumed=order)
    assert memory.runs[left.run.run_id].status is RunStatus.PARTIAL
    kept = await runs.sample(left.run.run_id)
    assert kept is not None
    assert len(kept.cases) == kept_cases
