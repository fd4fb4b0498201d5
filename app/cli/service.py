"""The service: daemon and health pages in one process, until it is told to stop."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import asdict

import structlog

from app.cli.http_server import listening, serving
from app.daemon.service import Daemon, DaemonTools, Execute
from app.daemon.slots import next_slots
from app.domain.errors import ConfigError, SwitchwiseError
from app.domain.plans import Plan, Server
from app.domain.runs import Run, RunStatus, Slot
from app.ports import Clock, Notifier
from app.settings import Settings
from app.storage import metrics_queries
from app.storage.engine import Database
from app.storage.metrics_queries import Gauge
from app.storage.migrations import require_current
from app.web.application import create_app
from app.web.health import Check, health_routes
from app.web.metrics import ReadGauges, metrics_routes
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
MOST_MISSED_TICKS = 4

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
        _log.info(
            "serving",
            plans=[plan.name for plan in plans],
            bind=f"{server.host}:{listener.getsockname()[1]}",
        )
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
    _log.info("working", plans=[plan.name for plan in plans])
    asyncio.run(_work_shards(settings, plans, dsn, most_calls))
    _log.info("stopped")


async def _work_shards(
    settings: Settings, plans: Sequence[Plan], dsn: str, most_calls: int | None
) -> None:
    stop = _stopped_by_signals()
    async with (
        open_storage(dsn, clock_for(settings), plans) as storage,
        shared_work(plans, storage, settings, owner=owner_name(), most_calls=most_calls) as work,
    ):
        await work.worker.run(stop)


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
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
    async with (
        open_storage(dsn, clock, plans) as storage,
        _notifiers(plans, clock) as notifiers,
        shared_work(plans, storage, settings, owner=owner, most_calls=most_calls) as work,
        _gauges(dsn, clock) as read_gauges,
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
            seed_for=seed_for,
            stop=stop,
            owner=owner,
            housekeep=_housekeeping(dsn, plans, clock),
        )
        daemon = Daemon(plans, tools)
        routes = [
            *health_routes(alive=_alive(daemon, storage, clock, tools.tick_s), ready=_ready(dsn)),
            *metrics_routes(read_gauges),
        ]
        site = create_app(
            pages,
            plans=plans,
            token=server_of(plans).token,
            now=clock.now,
            next_slot=lambda plan: _upcoming(plan, clock),
            open_routes=routes,
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
async def _gauges(dsn: str, clock: Clock) -> AsyncIterator[ReadGauges]:
    """Reads what is scraped, over a connection of its own."""
    database = Database(dsn, pool_size=1)

    async def read() -> Sequence[Gauge]:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await metrics_queries.read_gauges(database, now=clock.now())

    try:
        yield read
    finally:
        await database.close()


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
        return RunStatus(str(document["status"]))

    return execute


@asynccontextmanager
async def _notifiers(plans: Sequence[Plan], clock: Clock) -> AsyncIterator[Mapping[str, Notifier]]:
    """What delivers the messages of each plan; the console is stdout."""
    async with AsyncExitStack() as stack:
        made = {plan.name: notifier_for(plan, clock, sys.stdout) for plan in plans}
        for notifier in made.values():
            stack.push_async_callback(notifier.close)
        yield made


def _alive(daemon: Daemon, storage: Storage, clock: Clock, tick_s: float) -> Check:
    """Whether ticks reach the database and the loop keeps up."""

    async def check() -> tuple[bool, Mapping[str, object]]:
        health = daemon.health
        since = None if health.ticked_at is None else clock.monotonic() - health.ticked_at
        answers = await _answers(storage)
        is_ticking = since is not None and since < tick_s * MOST_MISSED_TICKS
        return answers and is_ticking, {
            "database": answers,
            "seconds_since_tick": None if since is None else round(since, 1),
            "loop_lag_seconds": round(health.lag_s, 3),
            "last_error": health.last_error,
            "running": dict(health.running),
        }

    return check


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


async def _answers(storage: Storage) -> bool:
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await storage.runs.plan_names()
    except (TimeoutError, SwitchwiseError):
        return False
    return True
