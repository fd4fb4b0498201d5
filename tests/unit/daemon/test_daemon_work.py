"""What the daemon does with Runs that cannot be worked, and with what passes by itself."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.daemon import service, slots
from app.daemon.service import MOST_VAIN_TRIES, Daemon, DaemonTools
from app.domain.alerts import OutboxItem
from app.domain.errors import (
    ConfigError,
    LogSourceError,
    RunStuck,
    StorageUnavailable,
    SwitchwiseError,
    UnknownPrice,
)
from app.domain.plans import Plan, Schedule
from app.domain.runs import Run, RunStatus, Slot, Trigger
from tests.fakes.clocks import START, HandClock
from tests.fakes.small_plans import plan
from tests.fakes.storage import Memory, MemoryAlerts, MemoryRuns
from tests.fakes.work import begin_run, ending

SCHEDULE = Schedule(cron="0 6 * * sun", timezone=ZoneInfo("UTC"))
WEEKLY: Plan = replace(plan("x"), schedule=SCHEDULE, heartbeat_url="https://ping.example")


SICK = "sick"


class OneSickPlan(MemoryRuns):
    """A store that answers in its own time, and of one plan not at all."""

    async def orphans(self, plan_name: str, *, now: datetime) -> Sequence[Run]:
        found = await super().orphans(plan_name, now=now)
        await asyncio.sleep(0)
        return found

    async def newest_slot(self, plan_name: str) -> Slot | None:
        if plan_name == SICK:
            raise KeyError("text of a prompt")
        return await super().newest_slot(plan_name)


class OnceSickAlerts(MemoryAlerts):
    """A store of alerts whose first answers make no sense."""

    asked = 0

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        super().__init__(now=now)
        self.is_well = asyncio.Event()

    async def lease_outbox(
        self,
        *,
        owner: str,
        now: datetime,
        lease_s: float,
        plan_names: Sequence[str] | None = None,
    ) -> Sequence[OutboxItem]:
        self.asked += 1
        if self.asked < 3:
            raise KeyError("text of a prompt")
        self.is_well.set()
        return await super().lease_outbox(
            owner=owner, now=now, lease_s=lease_s, plan_names=plan_names
        )


@dataclass
class World:
    """A daemon over a database in memory, and what was asked of it."""

    outcome: Callable[[], RunStatus]
    clock: HandClock = field(default_factory=lambda: HandClock(START))
    memory: Memory = field(default_factory=Memory)
    lost_pings: int = 0
    worked: int = 0
    given_up: list[SwitchwiseError] = field(default_factory=list)
    pings: list[bool] = field(default_factory=list)
    plans: tuple[Plan, ...] = (WEEKLY,)
    alerts: MemoryAlerts | None = None
    bug_in_giving_up: Exception | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def daemon(self) -> Daemon:
        store = OneSickPlan(self.memory, now=self.clock.now)

        async def execute(run: Run, _plan: Plan) -> RunStatus:
            self.worked += 1
            status = self.outcome()
            await store.finish(ending(run, status=status))
            return status

        async def give_up(run: Run, _plan: Plan, error: SwitchwiseError) -> None:
            self.given_up.append(error)
            if self.bug_in_giving_up is not None:
                raise self.bug_in_giving_up
            await store.finish(
                ending(run, status=RunStatus.FAILED, error_code="x", error_message=str(error))
            )

        async def nothing(_run_id: str) -> None:
            """Nobody has gone."""

        async def heartbeat(_url: str) -> bool:
            self.pings.append(len(self.pings) == self.lost_pings)
            return self.pings[-1]

        return Daemon(
            self.plans,
            DaemonTools(
                store=store,
                alerts=self.alerts or MemoryAlerts(self.memory, now=self.clock.now),
                clock=self.clock,
                notifiers={},
                heartbeat=heartbeat,
                execute=execute,
                give_up=give_up,
                free_abandoned=nothing,
                seed_for=lambda _plan, _slot: 7,
                stop=self.stop,
                owner="us",
            ),
        )

    def statuses(self) -> list[str]:
        return [run.status.value for run in self.memory.runs.values()]


def failing(error: Exception) -> Callable[[], RunStatus]:
    def fail() -> RunStatus:
        raise error

    return fail


async def ticked(world: World, times: int) -> Daemon:
    daemon = world.daemon()
    for _ in range(times):
        await daemon.tick()
        await daemon.idle()
    return daemon


@pytest.mark.parametrize(
    "error",
    [UnknownPrice("no price for x"), ConfigError("evaluator y"), LogSourceError("no column z")],
)
async def test_what_the_plan_must_mend_ends_the_run_at_the_first_try(error: Exception) -> None:
    world = World(failing(error))
    await ticked(world, 3)
    assert world.worked == 1
    assert world.given_up == [error]
    assert world.statuses() == ["failed"]


async def test_a_bug_is_tried_again_and_then_ends_the_run_without_the_words_of_the_bug() -> None:
    world = World(failing(KeyError("text of a prompt")))
    await ticked(world, MOST_VAIN_TRIES + 2)
    assert world.worked == MOST_VAIN_TRIES
    (told,) = world.given_up
    assert isinstance(told, RunStuck)
    assert "KeyError" in str(told)
    assert "prompt" not in str(told)


async def test_a_database_that_is_away_ends_no_run() -> None:
    world = World(failing(StorageUnavailable("away")))
    await ticked(world, 5)
    assert world.worked == 5
    assert world.given_up == []
    assert world.statuses() == ["due"]


@pytest.mark.parametrize(("lost", "pings"), [(0, [True]), (2, [False, False, True])])
async def test_a_lost_heartbeat_is_sent_again(lost: int, pings: list[bool]) -> None:
    world = World(lambda: RunStatus.DONE, lost_pings=lost)
    await ticked(world, 2)
    assert world.pings == pings


async def test_a_run_without_success_sends_no_heartbeat() -> None:
    world = World(lambda: RunStatus.PARTIAL)
    await ticked(world, 2)
    assert world.pings == []


async def test_a_tick_that_fails_is_told_and_the_next_one_forgets_it() -> None:
    world = World(lambda: RunStatus.DONE)
    daemon = world.daemon()
    world.memory.go_away()
    await daemon._tick_safely()
    assert (daemon.health.last_error, daemon.health.ticked_at) == ("StorageUnavailable", None)
    world.memory.come_back()
    await daemon._tick_safely()
    assert daemon.health.last_error is None
    assert daemon.health.ticked_at is not None


async def test_a_plan_that_cannot_be_looked_at_holds_up_no_other_and_shows() -> None:
    sick = replace(WEEKLY, name=SICK)
    world = World(lambda: RunStatus.DONE, plans=(sick, WEEKLY))
    daemon = world.daemon()
    await daemon._tick_safely()
    await daemon.idle()
    assert world.statuses() == ["done"]
    assert (daemon.health.last_error, daemon.health.ticked_at) == ("KeyError", None)


async def test_a_bug_in_delivery_ends_it_once_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "OUTBOX_S", 0.001)
    clock = HandClock(START)
    alerts = OnceSickAlerts(now=clock.now)
    world = World(lambda: RunStatus.DONE, clock=clock, alerts=alerts)
    serving = asyncio.create_task(world.daemon().serve())
    async with asyncio.timeout(10):
        await alerts.is_well.wait()
    world.stop.set()
    await serving


async def test_a_bug_in_a_look_ends_it_once_and_not_the_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "WATCH_S", 0.001)
    monkeypatch.setattr(service, "LOOK_S", 0.0)
    asked = 0
    right = slots.next_slots

    def next_slots(schedule: Schedule, after: datetime, count: int) -> Sequence[Slot]:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise KeyError("text of a prompt")
        world.stop.set()
        return right(schedule, after, count)

    monkeypatch.setattr(service, "next_slots", next_slots)
    world = World(lambda: RunStatus.DONE)
    daemon = world.daemon()
    async with asyncio.timeout(10):
        await daemon.serve()
    assert asked == 4
    assert daemon._next_due is not None
    assert daemon.health.last_error is None


async def test_trouble_in_the_watch_itself_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "WATCH_S", 0.001)
    monkeypatch.setattr(service, "LOOK_S", 0.0)
    world = World(lambda: RunStatus.DONE)
    daemon = world.daemon()
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            world.stop.set()
        raise KeyError("text of a prompt")

    monkeypatch.setattr(daemon, "look", look)
    async with asyncio.timeout(10):
        await daemon._watch()
    assert looks == 3


async def test_a_run_whose_failure_cannot_be_stored_lets_go_of_its_plan() -> None:
    world = World(failing(ConfigError("evaluator y")), bug_in_giving_up=KeyError("text"))
    daemon = await ticked(world, 1)
    (run,) = world.memory.runs.values()
    await daemon._work(run, WEEKLY)
    assert len(world.given_up) == 2
    assert daemon.health.running == {}


async def test_a_run_that_two_looks_find_at_once_is_worked_once() -> None:
    world = World(lambda: RunStatus.DONE)
    await begun(world, Trigger.AS_OF)
    world.clock.advance(3600)
    daemon = world.daemon()
    await asyncio.gather(daemon.look(), daemon.look())
    await daemon.idle()
    assert world.worked == 1


async def test_the_daemon_knows_when_the_next_slot_of_any_plan_falls_due() -> None:
    world = World(lambda: RunStatus.DONE)
    daemon = await ticked(world, 1)
    assert daemon._next_due == START.replace(hour=6, minute=0) + timedelta(weeks=1)


def test_lag_is_the_worst_of_the_last_minute() -> None:
    health = World(lambda: RunStatus.DONE).daemon().health
    health.lags_s.extend([3.0, *[0.0] * 59])
    assert health.lag_s == 3.0
    health.lags_s.append(0.1)
    assert health.lag_s == 0.1


async def begun(world: World, trigger: Trigger) -> Run:
    """A Run that somebody else began just now."""
    store = MemoryRuns(world.memory, now=world.clock.now)
    before = Slot(key="2026-01-04T06:00", at=world.clock.now() - timedelta(days=30))
    asked = await store.request(WEEKLY, before, trigger, seed=1)
    assert asked is not None
    return await store.begin(asked, WEEKLY, owner="a hand", now=world.clock.now(), lease_s=20)


async def test_a_run_by_hand_whose_process_was_killed_holds_up_no_slot() -> None:
    world = World(lambda: RunStatus.DONE)
    await begun(world, Trigger.HAND)
    world.clock.advance(3600)
    await ticked(world, 2)
    assert world.statuses() == ["partial", "done"]


async def test_a_run_by_hand_that_was_abandoned_keeps_no_text_under_a_plan_that_keeps_none() -> (
    None
):
    silent = replace(WEEKLY, privacy=replace(WEEKLY.privacy, store_bodies="none"))
    world = World(lambda: RunStatus.DONE, plans=(silent,))
    store = MemoryRuns(world.memory, now=world.clock.now)
    left = await begin_run(store, plan=silent, trigger=Trigger.HAND)
    world.clock.advance(3600)
    await world.daemon().look()
    assert world.memory.runs[left.run.run_id].status is RunStatus.PARTIAL
    kept = await store.sample(left.run.run_id)
    assert kept is not None
    assert kept.cases == ()


async def test_a_run_as_of_a_slot_whose_process_was_killed_is_gone_on_with() -> None:
    world = World(lambda: RunStatus.DONE)
    left = await begun(world, Trigger.AS_OF)
    world.clock.advance(3600)
    daemon = world.daemon()
    await daemon.look()
    await daemon.idle()
    assert world.memory.runs[left.run_id].status is RunStatus.DONE


async def test_a_run_by_hand_that_is_at_work_still_takes_the_slot_and_the_message_says_so() -> None:
    world = World(lambda: RunStatus.DONE)
    await begun(world, Trigger.HAND)
    await ticked(world, 1)
    assert world.statuses() == ["running", "skipped"]
    (message,) = world.memory.outbox.values()
    assert message.item.alert.lead.startswith("The Run by hand of 2026-01-04 06:00 was still at")
