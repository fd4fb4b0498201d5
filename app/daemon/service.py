"""The daemon: ticks, makes due slots into Runs, works what nobody holds, delivers, and pings.

The row of a slot is the truth, not the scheduler: any number of daemons may tick at once, restart
or vanish; a slot has one Run, and a Run one holder.
"""

import asyncio
import time
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.alerting.delivery import deliver_due
from app.alerting.slots import missed_alert, skipped_alert
from app.daemon.slots import latest_due_slot, next_slots, slots_between
from app.domain.errors import (
    ConfigError,
    FenceLost,
    LogSourceError,
    RunInProgress,
    RunInterrupted,
    RunStuck,
    SchemaMismatch,
    StorageUnavailable,
    SwitchwiseError,
)
from app.domain.plans import Plan
from app.domain.runs import Run, RunStatus, Slot, Trigger
from app.ports import AlertStore, Clock, Heartbeat, Notifier, RunStore
from app.sampling.redaction import scrub_for

TICK_S = 30.0
LOOK_S = 5.0
"""How often Runs that nobody holds are looked for, and a tick that failed is tried again."""
WATCH_S = 1.0
"""How often the clock is asked whether a slot fell due since the last tick."""
PING_PAUSES_S = (0.0, 2.0, 10.0)
MOST_VAIN_TRIES = 3
GRACE_S = 18.0
OUTBOX_S = 2.0
HOUSEKEEPING_S = 24 * 3600
HOUSEKEEPING_JITTER_S = 600
FIRST_HOUSEKEEPING_S = 300
"""A service that restarts every day still comes to it, one that crashes at once does not."""

_log = structlog.get_logger(__name__)
Execute = Callable[[Run, Plan], Awaitable[RunStatus]]
GiveUp = Callable[[Run, Plan, SwitchwiseError], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonTools:
    """What the daemon works with.

    Attributes:
        execute: Works a Run to its end and returns the status it ended with.
        give_up: Ends a Run that cannot be worked as failed, with one message that says why.
        free_abandoned: Gives a Run's lease back when its holder has certainly ended.
        seed_for: The seed of a slot's Run.
        stop: Set to stop; calls in flight end and settle.
        housekeep: Removes what has been kept long enough, once a day.
    """

    store: RunStore
    alerts: AlertStore
    clock: Clock
    notifiers: Mapping[str, Notifier]
    heartbeat: Heartbeat
    execute: Execute
    give_up: GiveUp
    free_abandoned: Callable[[str], Awaitable[None]]
    seed_for: Callable[[Plan, Slot], int]
    stop: asyncio.Event
    owner: str
    tick_s: float = TICK_S
    housekeep: Callable[[], Awaitable[None]] | None = None


@dataclass(slots=True)
class Health:
    """What the daemon knows about itself, for /healthz and /metrics.

    Attributes:
        ticked_at: Monotonic seconds of the last tick that reached the database.
        lags_s: How late the event loop woke the daemon, each second of the last minute.
        running: Run ids by plan, of the Runs worked here.
    """

    ticked_at: float | None = None
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    last_error: str | None = None
    running: dict[str, str] = field(default_factory=dict)

    @property
    def lag_s(self) -> float:
        """The worst lag of the event loop in the last minute."""
        return max(self.lags_s, default=0.0)


class Daemon:
    """Runs plans on their schedules until it is told to stop."""

    def __init__(self, plans: Sequence[Plan], tools: DaemonTools) -> None:
        self._plans = tuple(plans)
        self._tools = tools
        self._working: dict[str, asyncio.Task[None]] = {}
        self._ticking = asyncio.Lock()
        self._next_due: datetime | None = None
        self._looked_at_s = 0.0
        self._vain_tries: Counter[str] = Counter()
        self.health = Health()

    async def serve(self) -> None:
        """Tick until stopped, then let calls in flight settle."""
        scheduler = AsyncIOScheduler(timezone="UTC")
        scheduler.add_job(
            self._tick_safely,
            "interval",
            seconds=self._tools.tick_s,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        if self._tools.housekeep is not None:
            scheduler.add_job(
                self._housekeep_safely,
                "interval",
                seconds=HOUSEKEEPING_S,
                jitter=HOUSEKEEPING_JITTER_S,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
                next_run_time=datetime.fromtimestamp(time.time() + FIRST_HOUSEKEEPING_S, UTC),
            )
        scheduler.start()
        around = [
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._feel_lag()),
            asyncio.create_task(self._deliver_until_stopped()),
        ]
        try:
            await self._tick_safely()
            await self._tools.stop.wait()
        finally:
            scheduler.shutdown(wait=False)
            await self._wind_down()
            for task in around:
                task.cancel()
            await asyncio.wait(around)

    async def tick(self) -> None:
        """Look at every plan once: new slots, Runs nobody holds."""
        await self._look_at_each("tick failed", self._tick_plan)
        self._next_due = self._earliest_slot()

    async def look(self) -> None:
        """Work what nobody holds; slots are the tick's."""
        await self._look_at_each("look failed", self._look_at)

    async def idle(self) -> None:
        """Return when no Run is being worked here."""
        while self._working:
            await asyncio.wait(set(self._working.values()))

    async def _look_at_each(self, failed: str, look: Callable[[Plan], Awaitable[None]]) -> None:
        """Look at one plan after the other: trouble with one holds up no other."""
        troubles = [await self._trouble_of(look(plan), failed, plan.name) for plan in self._plans]
        self.health.last_error = next((trouble for trouble in troubles if trouble), None)

    async def _tick_plan(self, plan: Plan) -> None:
        await self._let_go(plan)
        if plan.schedule is not None:
            await self._request_due(plan)
        await self._work_orphans(plan)

    async def _look_at(self, plan: Plan) -> None:
        await self._let_go(plan)
        await self._work_orphans(plan)

    # --- slots --------------------------------------------------------------------------------

    async def _request_due(self, plan: Plan) -> None:
        """Insert the row of the newest due slot, and rows for those that passed unseen."""
        tools, schedule = self._tools, plan.schedule
        if schedule is None:
            return
        now = tools.clock.now()
        due = latest_due_slot(schedule, now)
        known = await tools.store.newest_slot(plan.name)
        if due is None or (known is not None and due.key <= known.key):
            return
        missed = list(slots_between(schedule, known, due)) if known is not None else []
        is_stale = now - due.at > schedule.catch_up
        if is_stale:
            if known is None:
                return
            missed.append(due)
        if missed:
            await tools.store.record_missed(
                plan, missed, status=RunStatus.MISSED, now=now, alert=missed_alert(plan, missed)
            )
        if not is_stale:
            await self._request(plan, due)

    async def _request(self, plan: Plan, due: Slot) -> None:
        tools = self._tools
        active = await tools.store.active_run(plan.name)
        if active is not None:
            is_held = await tools.store.holder(active.run_id) is not None
            await tools.store.record_missed(
                plan,
                [due],
                status=RunStatus.SKIPPED,
                now=tools.clock.now(),
                alert=skipped_alert(plan, due, active, is_held=is_held),
            )
            return
        seed = tools.seed_for(plan, due)
        run = await tools.store.request(plan, due, Trigger.SCHEDULE, seed=seed)
        if run is not None:
            _log.info("slot due", plan=plan.name, slot=due.key, run_id=run.run_id)

    # --- work ---------------------------------------------------------------------------------

    async def _let_go(self, plan: Plan) -> None:
        """Free what the dead hold, and end what hands left behind, so that no slot is held up."""
        active = await self._tools.store.active_run(plan.name)
        if active is None or plan.name in self._working:
            return
        await self._tools.free_abandoned(active.run_id)
        now = self._tools.clock.now()
        scrub = scrub_for(plan.privacy)
        for run in await self._tools.store.end_abandoned(plan.name, now=now, scrub=scrub):
            _log.warning("run by hand was abandoned", plan=plan.name, run_id=run.run_id)

    async def _work_orphans(self, plan: Plan) -> None:
        if plan.name in self._working or self._tools.stop.is_set():
            return
        orphans = await self._tools.store.orphans(plan.name, now=self._tools.clock.now())
        if plan.name in self._working:  # a tick and a look met, and the other was faster
            return
        for run in orphans:
            task = asyncio.create_task(self._work(run, plan))
            self._working[plan.name] = task
            self.health.running[plan.name] = run.run_id
            return

    async def _work(self, run: Run, plan: Plan) -> None:
        """Work one Run to its end; what stops it is logged and stays visible in the row."""
        log = _log.bind(plan=plan.name, run_id=run.run_id, slot=run.slot.key)
        try:
            status = await self._tools.execute(run, plan)
            self._vain_tries.pop(run.run_id, None)
            log.info("run ended", status=status.value)
            if status is RunStatus.DONE and plan.heartbeat_url:
                answered = await self._ping(plan.heartbeat_url)
                log.info("heartbeat", answered=answered)
        except (RunInProgress, FenceLost) as error:
            log.info("run is in other hands", reason=str(error))
        except RunInterrupted as error:
            log.info("run interrupted", reason=str(error))
        except (StorageUnavailable, SchemaMismatch) as error:
            log.error("run stopped", error=type(error).__name__, reason=str(error))  # noqa: TRY400 - expected: no traceback
        except (ConfigError, LogSourceError) as error:
            await self._give_up(run, plan, error)  # trying again would end as this did
        except Exception as error:  # noqa: BLE001 - a bug in one Run must not silence it, nor stop the others
            await self._note_bug(run, plan, error)
        finally:
            self._working.pop(plan.name, None)
            self.health.running.pop(plan.name, None)

    async def _ping(self, url: str) -> bool:
        """Tell the outside that all is well; one lost packet must not sound its alarm."""
        for pause_s in PING_PAUSES_S:
            await self._tools.clock.sleep(pause_s)
            if await self._tools.heartbeat(url):
                return True
        return False

    async def _note_bug(self, run: Run, plan: Plan, error: Exception) -> None:
        """Log where it happened, without what was at hand there; give up after some tries."""
        kind = type(error).__name__
        log = _log.bind(plan=plan.name, run_id=run.run_id)
        log.error("run broke", error=kind, frames=_frames(error))
        self._vain_tries[run.run_id] += 1
        if self._vain_tries[run.run_id] >= MOST_VAIN_TRIES:
            told = str(error) if isinstance(error, SwitchwiseError) else kind
            why = f"the run was begun {MOST_VAIN_TRIES} times and broke each time ({told})"
            await self._give_up(run, plan, RunStuck(f"{why}; see the log of the service"))

    async def _give_up(self, run: Run, plan: Plan, error: SwitchwiseError) -> None:
        """End the Run as failed; when even that cannot be stored, the next look tries again."""
        log = _log.bind(plan=plan.name, run_id=run.run_id, slot=run.slot.key)
        log.error("run failed", error=type(error).__name__, reason=str(error))
        storing = self._tools.give_up(run, plan, error)
        if await self._trouble_of(storing, "failure not stored", plan.name) is None:
            self._vain_tries.pop(run.run_id, None)

    # --- around -------------------------------------------------------------------------------

    async def _tick_safely(self) -> None:
        """One tick at a time; when it met trouble the next look ticks again."""
        async with self._ticking:
            began = self._tools.clock.monotonic()
            trouble = await self._trouble_of(self.tick(), "tick failed")
            self.health.last_error = trouble or self.health.last_error
            if self.health.last_error is None:
                self.health.ticked_at = began

    async def _trouble_of(
        self, work: Awaitable[object], failed: str, plan: str | None = None
    ) -> str | None:
        """Do the work; what kept it from being done is logged, and its kind returned."""
        log = _log if plan is None else _log.bind(plan=plan)
        try:
            await work
        except SwitchwiseError as error:
            log.warning(failed, error=type(error).__name__, reason=str(error))
            return type(error).__name__
        except Exception as error:  # noqa: BLE001 - a bug must show, not end the service
            log.error(failed, error=type(error).__name__, frames=_frames(error))  # noqa: TRY400 - a traceback would quote texts
            return type(error).__name__
        return None

    async def _watch(self) -> None:
        """Tick at once when a slot falls due; between ticks look for Runs nobody holds.

        Trouble is logged and never ends the watch.
        """
        self._looked_at_s = self._tools.clock.monotonic()
        while not self._tools.stop.is_set():
            await asyncio.sleep(WATCH_S)
            if not self._ticking.locked():
                await self._trouble_of(self._watch_once(), "watch failed")

    async def _watch_once(self) -> None:
        now_s = self._tools.clock.monotonic()
        if self._next_due is not None and self._tools.clock.now() >= self._next_due:
            self._next_due = None
            await self._tick_safely()
        elif now_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = now_s
            if self.health.last_error is not None:
                await self._tick_safely()
            else:
                await self.look()

    async def _feel_lag(self) -> None:
        """Note each second how late the event loop wakes us."""
        monotonic = self._tools.clock.monotonic
        while True:
            asked_at = monotonic()
            await asyncio.sleep(WATCH_S)
            self.health.lags_s.append(max(0.0, monotonic() - asked_at - WATCH_S))

    def _earliest_slot(self) -> datetime | None:
        """When the next slot of any plan falls due."""
        now = self._tools.clock.now()
        upcoming = [
            slot.at
            for plan in self._plans
            if plan.schedule is not None
            for slot in next_slots(plan.schedule, now, 1)
        ]
        return min(upcoming, default=None)

    async def _housekeep_safely(self) -> None:
        """Remove old rows; trouble is logged and tomorrow tries again."""
        if self._tools.housekeep is None or self._tools.stop.is_set():
            return
        await self._trouble_of(self._tools.housekeep(), "housekeeping failed")

    async def _deliver_until_stopped(self) -> None:
        """Deliver what is due; what was given up is tried once more: it may have been mended."""
        is_retried = False
        while True:
            if not is_retried:
                trouble = await self._trouble_of(self._retry_given_up(), "delivery failed")
                is_retried = trouble is None
            await self._trouble_of(self._deliver_due(), "delivery failed")
            await asyncio.sleep(OUTBOX_S)

    async def _deliver_due(self) -> None:
        tools = self._tools
        await deliver_due(tools.alerts, tools.notifiers, owner=tools.owner, clock=tools.clock)

    async def _retry_given_up(self) -> None:
        for plan in self._plans:
            count = await self._tools.alerts.retry_failed(plan.name, now=self._tools.clock.now())
            if count:
                _log.info("messages given up are tried again", plan=plan.name, messages=count)

    async def _wind_down(self) -> None:
        """Wait for calls in flight to settle, then deliver what is due."""
        if self._working:
            await asyncio.wait(set(self._working.values()), timeout=GRACE_S)
        for task in self._working.values():
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await self._trouble_of(self._deliver_due(), "delivery failed")


def _frames(error: Exception) -> list[str]:
    """Where it happened; what the variables held stays out of the log."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno}" for frame in frames[-4:]]


OVERDUE_GRACE = timedelta(hours=6)
