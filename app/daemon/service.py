"""The daemon: ticks, makes due slots into Runs, works what nobody holds, delivers, and pings.

The row of a slot is the truth, not the scheduler: any number of daemons may tick at once, restart
or vanish; a slot has one Run, and a Run one holder.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.alerting.delivery import deliver_due
from app.alerting.slots import missed_alert, skipped_alert
from app.daemon.slots import latest_due_slot, slots_between
from app.domain.errors import FenceLost, RunInProgress, RunInterrupted, SwitchwiseError
from app.domain.plans import Plan
from app.domain.runs import Run, RunStatus, Slot, Trigger
from app.ports import AlertStore, Clock, Heartbeat, Notifier, RunStore

TICK_S = 5.0
GRACE_S = 18.0
OUTBOX_S = 2.0
HOUSEKEEPING_S = 24 * 3600
HOUSEKEEPING_JITTER_S = 600
FIRST_HOUSEKEEPING_S = 300
"""A service that restarts every day still comes to it, one that crashes at once does not."""

_log = structlog.get_logger(__name__)
Execute = Callable[[Run, Plan], Awaitable[RunStatus]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonTools:
    """What the daemon works with.

    Attributes:
        execute: Works a Run to its end and returns the status it ended with.
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
    free_abandoned: Callable[[str], Awaitable[None]]
    seed_for: Callable[[Plan, Slot], int]
    stop: asyncio.Event
    owner: str
    tick_s: float = TICK_S
    housekeep: Callable[[], Awaitable[None]] | None = None


@dataclass(slots=True)
class Health:
    """What the daemon knows about itself, for /healthz.

    Attributes:
        ticked_at: Monotonic seconds of the last tick that reached the database.
        lag_s: How late the last tick was: the event loop's lag.
    """

    ticked_at: float | None = None
    lag_s: float = 0.0
    is_ticking: bool = False
    last_error: str | None = None
    running: dict[str, str] = field(default_factory=dict)


class Daemon:
    """Runs plans on their schedules until it is told to stop."""

    def __init__(self, plans: Sequence[Plan], tools: DaemonTools) -> None:
        self._plans = tuple(plans)
        self._tools = tools
        self._working: dict[str, asyncio.Task[None]] = {}
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
        deliveries = asyncio.create_task(self._deliver_until_stopped())
        try:
            await self._tick_safely()
            await self._tools.stop.wait()
        finally:
            scheduler.shutdown(wait=False)
            await self._wind_down()
            deliveries.cancel()
            with suppress(asyncio.CancelledError):
                await deliveries

    async def tick(self) -> None:
        """Look at every plan once: new slots, Runs nobody holds."""
        for plan in self._plans:
            if plan.schedule is not None:
                await self._request_due(plan)
            await self._work_orphans(plan)

    async def idle(self) -> None:
        """Return when no Run is being worked here."""
        while self._working:
            await asyncio.wait(set(self._working.values()))

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
        if missed and await tools.store.record_missed(
            plan, missed, status=RunStatus.MISSED, now=now
        ):
            await tools.alerts.enqueue(plan.name, [missed_alert(plan, missed)], [])
        if not is_stale:
            await self._request(plan, due)

    async def _request(self, plan: Plan, due: Slot) -> None:
        tools = self._tools
        active = await tools.store.active_run(plan.name)
        if active is not None:
            now = tools.clock.now()
            if await tools.store.record_missed(plan, [due], status=RunStatus.SKIPPED, now=now):
                await tools.alerts.enqueue(plan.name, [skipped_alert(plan, due, active)], [])
            return
        seed = tools.seed_for(plan, due)
        run = await tools.store.request(plan, due, Trigger.SCHEDULE, seed=seed)
        if run is not None:
            _log.info("slot due", plan=plan.name, slot=due.key, run_id=run.run_id)

    # --- work ---------------------------------------------------------------------------------

    async def _work_orphans(self, plan: Plan) -> None:
        if plan.name in self._working or self._tools.stop.is_set():
            return
        active = await self._tools.store.active_run(plan.name)
        if active is not None:
            await self._tools.free_abandoned(active.run_id)
        for run in await self._tools.store.orphans(plan.name, now=self._tools.clock.now()):
            task = asyncio.create_task(self._work(run, plan))
            self._working[plan.name] = task
            self.health.running[plan.name] = run.run_id
            return

    async def _work(self, run: Run, plan: Plan) -> None:
        """Work one Run to its end; what stops it is logged and stays visible in the row."""
        log = _log.bind(plan=plan.name, run_id=run.run_id, slot=run.slot.key)
        try:
            status = await self._tools.execute(run, plan)
            log.info("run ended", status=status.value)
            if status is RunStatus.DONE and plan.heartbeat_url:
                answered = await self._tools.heartbeat(plan.heartbeat_url)
                log.info("heartbeat", answered=answered)
        except (RunInProgress, FenceLost) as error:
            log.info("run is in other hands", reason=str(error))
        except RunInterrupted as error:
            log.info("run interrupted", reason=str(error))
        except SwitchwiseError as error:
            log.error("run stopped", error=type(error).__name__, reason=str(error))  # noqa: TRY400 - expected: no traceback
        finally:
            self._working.pop(plan.name, None)
            self.health.running.pop(plan.name, None)

    # --- around -------------------------------------------------------------------------------

    async def _tick_safely(self) -> None:
        """One tick; trouble with the database is logged and the next tick tries again."""
        began = self._tools.clock.monotonic()
        if self.health.ticked_at is not None:
            self.health.lag_s = max(0.0, began - self.health.ticked_at - self._tools.tick_s)
        try:
            await self.tick()
        except SwitchwiseError as error:
            self.health.last_error = type(error).__name__
            _log.warning("tick failed", error=type(error).__name__, reason=str(error))
            return
        self.health.last_error = None
        self.health.ticked_at = began
        self.health.is_ticking = True

    async def _housekeep_safely(self) -> None:
        """Remove old rows; trouble is logged and tomorrow tries again."""
        if self._tools.housekeep is None or self._tools.stop.is_set():
            return
        try:
            await self._tools.housekeep()
        except SwitchwiseError as error:
            _log.warning("housekeeping failed", error=type(error).__name__, reason=str(error))

    async def _deliver_until_stopped(self) -> None:
        tools = self._tools
        while True:
            try:
                await deliver_due(
                    tools.alerts, tools.notifiers, owner=tools.owner, clock=tools.clock
                )
            except SwitchwiseError as error:
                _log.warning("delivery failed", error=type(error).__name__, reason=str(error))
            await asyncio.sleep(OUTBOX_S)

    async def _wind_down(self) -> None:
        """Wait for calls in flight to settle, then deliver what is due."""
        if self._working:
            await asyncio.wait(set(self._working.values()), timeout=GRACE_S)
        for task in self._working.values():
            task.cancel()
        with suppress(SwitchwiseError, TimeoutError):
            async with asyncio.timeout(3.0):
                await deliver_due(
                    self._tools.alerts,
                    self._tools.notifiers,
                    owner=self._tools.owner,
                    clock=self._tools.clock,
                )


def is_overdue(plan: Plan, last_success: Run | None, now_slot: Slot | None) -> bool:
    """Whether the newest due slot has no complete Run although its grace has passed."""
    if plan.schedule is None or now_slot is None:
        return False
    return last_success is None or last_success.slot.key < now_slot.key


OVERDUE_GRACE = timedelta(hours=6)
