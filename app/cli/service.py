"""The service: daemon and health pages in one process, until it is told to stop."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass

import structlog

from app.cli.http_server import listening, serving
from app.cli.reports import bill_warnings_of
from app.daemon.service import Daemon, DaemonTools, Execute, GiveUp, Health
from app.daemon.slots import next_slots
from app.domain.errors import ConfigError, SwitchwiseError
from app.domain.plans import Plan, Server
from app.domain.runs import Run, RunStatus, Slot
from app.pipeline import LEASE_S, fail
from app.ports import AlertStore, Clock, Notifier, RunStore
from app.settings import Settings
from app.storage import metrics_queries
from app.storage.engine import Database
from app.storage.metrics_queries import Gauge, Lease
from app.storage.migrations import require_current
from app.web.application import create_app
from app.web.health import Check, health_routes
from app.web.metrics import metrics_routes
from app.web.security import require_safe_bind
from app.wiring import (
    RunOptions,
    SharedWork,
    Storage,
    clock_for,
    free_abandoned,
    heartbeat,
    notifier_for,
    open_pages,
    open_storage,
    owner_name,
    prune_results,
    seed_for,
    shared_work,
    work_run,
)

ANSWER_WITHIN_S = 5.0
MOST_MISSED_TICKS = 3
MOST_LAG_S = 10.0
FORCED_AFTER_S = 1.0
"""A second signal ends the process at once, unless it comes with the first."""

_log = structlog.get_logger(__name__)


def serve_plans(
    settings: Settings, plans: Sequence[Plan], dsn: str, *, most_calls: int | None = None
) -> None:
    """Serve the plans until SIGTERM or SIGINT.

    Args:
        settings: The environment.
        plans: What to run, and when.
        dsn: The results database.
        most_calls: Most calls in flight here per endpoint; 0 leaves all shards to other workers.

    Raises:
        ConfigError: If the address cannot be bound, or is public without a token.
    """
    server = server_of(plans)
    with listening(server.host, server.port) as listener:
        asyncio.run(_serve(settings, plans, dsn, listener, most_calls))
    _log.info("stopped")


def server_of(plans: Sequence[Plan]) -> Server:
    """Where to listen: what the plans say, which must not contradict each other.

    Raises:
        ConfigError: If they do, or if the address is public and no token is set.
    """
    told = {plan.server for plan in plans if plan.server != Server()}
    if len(told) > 1:
        raise ConfigError("server: the plans name different addresses; one process serves them all")
    server = next(iter(told), Server())
    require_safe_bind(server)
    return server


def work_shards(
    settings: Settings, plans: Sequence[Plan], dsn: str, *, most_calls: int | None
) -> None:
    """Work shards of these plans until SIGTERM or SIGINT."""
    asyncio.run(_work_shards(settings, plans, dsn, most_calls))
    _log.info("stopped")


async def _work_shards(
    settings: Settings, plans: Sequence[Plan], dsn: str, most_calls: int | None
) -> None:
    stop = _stopped_by_signals()
    _log.info("working", plans=[plan.name for plan in plans])
    async with (
        open_storage(dsn, clock_for(settings), plans) as storage,
        shared_work(plans, storage, settings, owner=owner_name(), most_calls=most_calls) as work,
    ):
        await work.worker.run(stop)


def _stopped_by_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a later one ends the process where it stands.

    That is as safe as any crash: what is settled is kept, the rest is resumed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked_at = 0.0

    def ask(number: signal.Signals) -> None:
        nonlocal asked_at
        if not stop.is_set():
            asked_at = loop.time()
            _log.info("stopping", signal=number.name, note="calls in flight settle first")
            stop.set()
        elif loop.time() - asked_at >= FORCED_AFTER_S:
            _log.warning("stopped at once", signal=number.name)
            os._exit(128 + number)  # PID 1 has no default action to fall back on

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask, number)
    return stop


@asynccontextmanager
async def _working(work: SharedWork, stop: asyncio.Event) -> AsyncIterator[None]:
    """Work shards beside the block; at its end what is in flight settles."""
    working = asyncio.create_task(work.worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await working


async def _serve(
    settings: Settings,
    plans: Sequence[Plan],
    dsn: str,
    listener: socket.socket,
    most_calls: int | None,
) -> None:
    clock, owner = clock_for(settings), owner_name()
    stop = _stopped_by_signals()
    host, port = listener.getsockname()[:2]
    _log.info("serving", plans=[plan.name for plan in plans], bind=f"{host}:{port}")
    async with (
        open_storage(dsn, clock, plans) as storage,
        _notifiers(plans, clock) as notifiers,
        shared_work(
            plans, storage, settings, owner=owner, most_calls=most_calls, is_holder=True
        ) as work,
        _opened(dsn) as watching,
        open_pages(dsn) as pages,
    ):
        tools = DaemonTools(
            store=storage.runs,
            alerts=storage.alerts,
            clock=clock,
            notifiers=notifiers,
            heartbeat=heartbeat(),
            free_abandoned=lambda run_id: free_abandoned(run_id, storage.runs),
            execute=_executor(settings, storage, clock, stop, owner, work),
            give_up=_giving_up(storage, clock, owner),
            seed_for=seed_for,
            stop=stop,
            owner=owner,
            housekeep=_housekeeping(dsn, plans, clock),
        )
        daemon = Daemon(plans, tools)
        health = health_routes(
            alive=_alive(daemon.health, watching, clock, owner, tools.tick_s),
            ready=_ready(dsn),
        )
        metrics = metrics_routes(_gauges(watching, clock), own=lambda: _own_gauges(daemon.health))
        site = create_app(
            pages,
            plans=plans,
            token=server_of(plans).token,
            now=clock.now,
            next_slot=lambda plan: _upcoming(plan, clock),
            open_routes=health,
            guarded_routes=metrics,
        )
        async with (
            serving(site, listener),
            _working(work, stop) if most_calls != 0 else nullcontext(),
        ):
            await daemon.serve()


def _upcoming(plan: Plan, clock: Clock) -> Slot | None:
    """When the plan runs next, None when by hand only."""
    upcoming = next_slots(plan.schedule, clock.now(), 1) if plan.schedule else ()
    return upcoming[0] if upcoming else None


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[Database]:
    """The results database over a connection of its own, for those who watch us."""
    database = Database(dsn, pool_size=1)
    try:
        yield database
    finally:
        await database.close()


def _gauges(database: Database, clock: Clock) -> Callable[[], Awaitable[Sequence[Gauge]]]:
    """Reads what is scraped from the rows."""

    async def read() -> Sequence[Gauge]:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            leases = await metrics_queries.read_leases(database)
            return [
                *await metrics_queries.read_gauges(database, now=clock.now()),
                Gauge(
                    name="switchwise_lease_age_seconds",
                    help="Since the lease of a running run was renewed last",
                    labels=("plan",),
                    values=[((lease.plan_name,), _age_s(lease, clock)) for lease in leases],
                ),
            ]

    return read


def _own_gauges(health: Health) -> Sequence[Gauge]:
    """What is scraped of this process, whether or not the database answers."""
    return [
        Gauge(
            name="switchwise_loop_lag_seconds",
            help="Worst lateness of the event loop in the last minute",
            labels=(),
            values=[((), health.lag_s)],
        ),
        Gauge(
            name="switchwise_tasks",
            help="Tasks of the event loop",
            labels=(),
            values=[((), float(len(asyncio.all_tasks())))],
        ),
    ]


def _age_s(lease: Lease, clock: Clock) -> float:
    """Seconds since the lease was renewed; more than it lasts once it ran out."""
    return max(0.0, LEASE_S - (lease.until - clock.now()).total_seconds())


def _housekeeping(dsn: str, plans: Sequence[Plan], clock: Clock) -> Callable[[], Awaitable[None]]:
    """Removes what the plans no longer keep, and logs what it was."""

    async def housekeep() -> None:
        for pruned in await prune_results(dsn, plans, now=clock.now()):
            counts = asdict(pruned)
            _log.info("pruned", plan=counts.pop("plan_name"), **counts)

    return housekeep


def _executor(
    settings: Settings,
    storage: Storage,
    clock: Clock,
    stop: asyncio.Event,
    owner: str,
    work: SharedWork,
) -> Execute:
    """What works a Run here; the owner is the daemon's, which renews the Run's lease."""

    async def execute(run: Run, plan: Plan) -> RunStatus:
        options = RunOptions(
            owner=owner,
            stop=stop,
            next_slot=_upcoming(plan, clock),
            pools=work.pools,
            hand_out=work.hand_outs[plan.name],
        )
        document = await work_run(run, plan, storage, settings, options)
        for warning in bill_warnings_of(document):
            _log.warning("bill differs", plan=plan.name, run_id=run.run_id, reason=warning)
        return RunStatus(str(document["status"]))

    return execute


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """What a Run is ended with when its plan does not even let it begin."""

    plan: Plan
    runs: RunStore
    alerts: AlertStore
    clock: Clock
    next_slot: Slot | None
    is_told: bool = True


def _giving_up(storage: Storage, clock: Clock, owner: str) -> GiveUp:
    """What ends a Run as failed, unless another process took it meanwhile."""

    async def give_up(run: Run, plan: Plan, error: SwitchwiseError) -> None:
        if await storage.runs.holder(run.run_id) not in {None, owner}:
            return
        ending = _Ending(
            plan=plan,
            runs=storage.runs,
            alerts=storage.alerts,
            clock=clock,
            next_slot=_upcoming(plan, clock),
        )
        await fail(run, ending, error)

    return give_up


@asynccontextmanager
async def _notifiers(plans: Sequence[Plan], clock: Clock) -> AsyncIterator[Mapping[str, Notifier]]:
    """What delivers the messages of each plan; the console is stdout."""
    async with AsyncExitStack() as stack:
        made = {plan.name: notifier_for(plan, clock, sys.stdout) for plan in plans}
        for notifier in made.values():
            stack.push_async_callback(notifier.close)
        yield made


def _alive(health: Health, database: Database, clock: Clock, owner: str, tick_s: float) -> Check:
    """Whether ticks reach the database, the loop keeps up and the leases held here are renewed."""

    async def check() -> tuple[bool, Mapping[str, object]]:
        since = None if health.ticked_at is None else clock.monotonic() - health.ticked_at
        leases = await _leases(database)
        ages = {lease.plan_name: _age_s(lease, clock) for lease in leases or ()}
        ours = {lease.plan_name for lease in leases or () if lease.owner == owner}
        is_well = (
            leases is not None
            and since is not None
            and since < tick_s * MOST_MISSED_TICKS
            and health.lag_s < MOST_LAG_S
            and all(ages[name] < LEASE_S for name in ours)
        )
        return is_well, {
            "database": leases is not None,
            "seconds_since_tick": None if since is None else round(since, 1),
            "loop_lag_seconds": round(health.lag_s, 3),
            "lease_age_seconds": {name: round(age_s, 1) for name, age_s in ages.items()},
            "last_error": health.last_error,
            "running": dict(health.running),
        }

    return check


async def _leases(database: Database) -> Sequence[Lease] | None:
    """The leases of all running Runs, None when the database does not answer in time."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await metrics_queries.read_leases(database)
    except (TimeoutError, SwitchwiseError):
        return None


def _ready(dsn: str) -> Check:
    """Whether the database answers with this program's schema."""

    async def check() -> tuple[bool, Mapping[str, object]]:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await asyncio.to_thread(require_current, dsn)
        except TimeoutError:
            return False, {"reason": f"no answer within {ANSWER_WITHIN_S:g} s"}
        except SwitchwiseError as error:
            return False, {"reason": type(error).__name__}
        return True, {}

    return check
