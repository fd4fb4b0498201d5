"""The demonstration: twelve simulated weeks over the sandbox, in about a minute, for $0."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from threading import Thread

import httpx
import psycopg

from app.clocks import FileClock, SystemClock, write_clock
from app.daemon.slots import latest_due_slot, next_slots
from app.domain.errors import ConfigError, RunInProgress
from app.domain.json_values import JsonObject
from app.domain.models import Secret
from app.domain.plans import Plan
from app.domain.runs import Run, Slot, Trigger
from app.plans import load_plans
from app.sandbox.logs import drop_logs, seed_logs
from app.sandbox.runner import running_process
from app.settings import Settings
from app.wiring import (
    RunOptions,
    Storage,
    deliver_alerts,
    load_sdk,
    open_storage,
    owner_name,
    results_database,
    seed_for,
    work_run,
)

WEEKS = 12
ROWS_PER_WEEK = 500
SEED = 7
PLAN_FILE = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"
_KEY = "sandbox-key"
_MARK = "made by switchwise demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """One simulated week as it ended."""

    number: int
    of: int
    document: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What the demonstration leaves behind.

    Attributes:
        document: The document of the last Run.
        messages: What the Slack-compatible server received, oldest first.
        plan: The plan, as `serve` can go on with it.
    """

    document: JsonObject
    messages: Sequence[JsonObject]
    plan: Plan
    settings: Settings


def demonstrate(
    settings: Settings,
    *,
    tell: Callable[[Week], None],
    then: Callable[[Demonstration], None],
    weeks: int = WEEKS,
) -> None:
    """Seed a log table, run so many weekly Runs over it, and hand over what came of it.

    Args:
        settings: Where to keep things: `DATABASE_URL`, else `SWITCHWISE_HOME/demo`.
        tell: Told after each week.
        then: Called while the sandbox and the database still run.
        weeks: How many weeks to simulate; the last one is the current week.
    """
    home = (settings.home if settings.database_url else settings.home / "demo").absolute()
    home.mkdir(parents=True, exist_ok=True)
    clock_file = home / "demo-clock"
    own = settings.model_copy(update={"home": home, "clock_file": clock_file})
    Thread(target=load_sdk, name="load SDK", daemon=True).start()
    write_clock(clock_file, SystemClock().now())
    with results_database(own) as dsn:
        _make_room(dsn)
        slots = _slots(weeks)
        write_clock(clock_file, slots[0].at)
        starts_at = slots[0].at - timedelta(days=6)
        seeding = ThreadPoolExecutor(1).submit(_seed, dsn, weeks, slots[-1].at)
        with running_process(
            "--world",
            "demo",
            "--seed",
            str(SEED),
            "--starts-at",
            starts_at.isoformat(),
            "--clock-file",
            str(clock_file),
            "--api-key",
            _KEY,
        ) as sandbox:
            seeding.result()
            plan = _plan(sandbox["url"])
            told = asyncio.run(_weeks(plan, own, dsn, slots, tell))
            messages = _messages(sandbox["url"])
            served = own.model_copy(update={"clock_file": None, "database_url": Secret(dsn)})
            then(Demonstration(document=told, messages=messages, plan=plan, settings=served))


def _make_room(dsn: str) -> None:
    """Bring the schema up to date and remove what an earlier demonstration left.

    Raises:
        ConfigError: If the database holds a log table that is not ours.
    """
    from app.storage.migrations import upgrade

    upgrade(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        found = connection.execute(
            "SELECT obj_description(to_regclass('public.ai_logs'), 'pg_class'),"
            " to_regclass('public.ai_logs') IS NOT NULL"
        ).fetchone()
        if found is not None and found[1] and found[0] != _MARK:
            raise ConfigError(
                "the database holds a table public.ai_logs that is not the demo's: "
                "unset DATABASE_URL, or point it at an empty database"
            )
        for table in ("outbox", "alerts", "candidate_states", "evidence", "ledger", "plans"):
            connection.execute(f"DELETE FROM switchwise.{table} WHERE plan_name = 'demo'")
    drop_logs(dsn)


def _seed(dsn: str, weeks: int, ends_at: datetime) -> None:
    """Fill the log table, and mark it as ours."""
    seed_logs(dsn, weeks=weeks, rows_per_week=ROWS_PER_WEEK, ends_at=ends_at, seed=SEED)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"COMMENT ON TABLE public.ai_logs IS '{_MARK}'")


def _plan(url: str) -> Plan:
    variables = {
        "SANDBOX_URL": url,
        "SANDBOX_KEY": _KEY,
        "SANDBOX_SLACK_TOKEN": "xoxb-sandbox",
    }
    return load_plans(PLAN_FILE, variables)[0]


def _slots(weeks: int) -> Sequence[Slot]:
    """The last slots of the demo's schedule, up to now."""
    schedule = _plan("http://127.0.0.1:1").schedule
    if schedule is None:
        raise ConfigError(f"{PLAN_FILE}: the demo needs a schedule")
    latest = latest_due_slot(schedule, SystemClock().now())
    if latest is None:
        raise ConfigError(f"{PLAN_FILE}: the demo's schedule never fires")
    first = latest.at - timedelta(weeks=weeks - 1, minutes=1)
    return next_slots(schedule, first, weeks)


async def _weeks(
    plan: Plan,
    settings: Settings,
    dsn: str,
    slots: Sequence[Slot],
    tell: Callable[[Week], None],
) -> JsonObject:
    """Run every slot at its own time; return the last document."""
    if settings.clock_file is None:
        raise ConfigError("the demo needs a clock file")
    clock = FileClock(settings.clock_file)
    document: JsonObject = {}
    async with open_storage(dsn, clock, [plan]) as storage:
        for number, slot in enumerate(slots, start=1):
            write_clock(settings.clock_file, slot.at + timedelta(minutes=1))
            run = await _requested(plan, storage, slot)
            upcoming = next_slots(plan.schedule, slot.at, 1) if plan.schedule else ()
            options = RunOptions(
                owner=owner_name(),
                stop=asyncio.Event(),
                next_slot=upcoming[0] if upcoming else None,
            )
            document = await work_run(run, plan, storage, settings, options)
            await deliver_alerts([plan], storage, clock, StringIO(), owner=options.owner)
            tell(Week(number=number, of=len(slots), document=document))
    return document


async def _requested(plan: Plan, storage: Storage, slot: Slot) -> Run:
    run = await storage.runs.request(plan, slot, Trigger.SCHEDULE, seed=seed_for(plan, slot))
    if run is None:
        raise RunInProgress(f"the slot {slot.key} has a Run already")
    return run


def _messages(url: str) -> Sequence[JsonObject]:
    """What the sandbox's Slack received."""
    received = httpx.get(f"{url}/_sandbox/messages", trust_env=False).json()
    return list(received["messages"] if isinstance(received, dict) else received)
