"""Works a Run that an operator asked for, in this process, until it ends or is stopped."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.cli.output import progress, tell
from app.cli.session import Session, migrated_database, nearest_of
from app.daemon.slots import next_slots, slot_of_week
from app.domain import errors
from app.domain.errors import ConfigError, RunInProgress, RunInterrupted, StorageUnavailable
from app.domain.json_values import JsonObject
from app.domain.plans import Budget, Plan
from app.domain.runs import ABANDONED, Run, RunStatus, Slot, Trigger
from app.plans import config_hash
from app.ports import Clock, Heartbeat
from app.run_tools import Progress
from app.sampling.redaction import scrub_for
from app.wiring import (
    RunOptions,
    Storage,
    clock_for,
    deliver_alerts,
    free_abandoned,
    heartbeat,
    open_storage,
    owner_name,
    seed_for,
    work_run,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOrder:
    """What the operator asked for beside the plan.

    Attributes:
        only: Names of the candidates to call; empty for all.
        max_usd: Cap of the whole Run; what it spent before it was resumed counts too.
        resume: Id, or its beginning, of the Run to finish.
        as_of: An instant in the week whose slot the Run fills; with the whole plan.
    """

    n: int | None = None
    only: tuple[str, ...] = ()
    max_usd: Decimal | None = None
    resume: str | None = None
    as_of: datetime | None = None
    is_told: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HandResult:
    """How the Run ended."""

    document: JsonObject
    exit_code: int


def run_by_hand(session: Session, plan: Plan, order: HandOrder) -> HandResult:
    """Work the Run to its end and deliver its messages.

    Raises:
        RunInterrupted: If stopped by a signal; what is settled is kept.
        SwitchwiseError: What stopped the work.
    """
    if order.resume and (order.n or order.only or order.as_of):
        raise ConfigError("--resume finishes a run as it was begun: only --max-usd may be changed")
    if order.as_of and (order.n or order.only):
        raise ConfigError(
            "--as-of makes the run of a slot, which counts as evidence: it takes the whole plan, "
            "so --n and --only cannot be given"
        )
    plan = adjusted(plan, order)
    with migrated_database(session.settings) as dsn, progress(f"{plan.name}: cases") as show:
        return asyncio.run(_work(session, plan, dsn, order, show))


def adjusted(plan: Plan, order: HandOrder) -> Plan:
    """The plan with what the order changes.

    Raises:
        ConfigError: If the order names a candidate that the plan does not have.
    """
    if order.n is not None:
        plan = replace(plan, sample=replace(plan.sample, n=order.n))
    if order.only:
        plan = with_candidates(plan, order.only)
    if order.max_usd is not None:
        plan = replace(
            plan,
            budget=Budget(per_run_usd=order.max_usd, per_month_usd=plan.budget.per_month_usd),
        )
    return replace(plan, config_hash=config_hash(plan))


def with_candidates(plan: Plan, names: tuple[str, ...]) -> Plan:
    """The plan with these candidates only; the primary always stays.

    Raises:
        ConfigError: If the plan has no candidate of a name, or none is left.
    """
    known = [candidate.name for candidate in plan.candidates]
    for name in names:
        if name not in known and name != plan.primary.name:
            raise ConfigError(
                f"plan {plan.name} has no candidate {name!r}{nearest_of(name, known)}"
            )
    kept = tuple(candidate for candidate in plan.candidates if candidate.name in names)
    if not kept:
        raise ConfigError("--only must name a candidate: the primary is always called")
    return replace(plan, candidates=kept)


async def _work(
    session: Session, plan: Plan, dsn: str, order: HandOrder, show: Callable[[int, int], None]
) -> HandResult:
    clock = clock_for(session.settings)
    stop = asyncio.Event()
    owner = owner_name()
    async with open_storage(dsn, clock, [plan]) as storage, _stopped_by_signals(stop):

        async def work(run: Run) -> JsonObject:
            options = RunOptions(
                owner=owner,
                stop=stop,
                next_slot=_next_slot(plan, clock),
                on_progress=_shown(show),
                is_told=order.is_told,
                caps_anew=order.max_usd is not None or _is_ended(run),
            )
            try:
                return await work_run(run, _as_begun(plan, run), storage, session.settings, options)
            except (RunInterrupted, StorageUnavailable) as error:
                raise type(error)(
                    f"{error}; go on with: switchwise run --resume {run.run_id}"
                ) from error

        await _let_go(plan, storage, clock, resumed=order.resume)
        slot, _ = _slot(plan, clock, order)
        for left in await _left_behind(plan, storage, clock, order):
            if left.slot.key != slot.key:
                tell(f"going on with run {left.run_id} of {left.slot.key}, which was interrupted")
                await work(left)
        run = await _run_for(plan, storage, clock, order)
        document = await work(run)
        if order.is_told:
            await deliver_alerts(session.plans, storage, clock, sys.stderr, owner=owner)
        ended = await storage.runs.run(run.run_id)
        await _beat(plan, ended, heartbeat())
    return HandResult(document=document, exit_code=exit_code_of(document, ended))


async def _let_go(
    plan: Plan, storage: Storage, clock: Clock, *, resumed: str | None = None
) -> None:
    """Free what the dead hold, and end Runs by hand that were abandoned.

    The one that is about to be resumed needs its texts as they are.
    """
    active = await storage.runs.active_run(plan.name)
    if active is not None:
        await free_abandoned(active.run_id, storage.runs)
        is_resumed = resumed is not None and active.run_id.startswith(resumed)
        scrub = None if is_resumed else scrub_for(plan.privacy)
        await storage.runs.end_abandoned(plan.name, now=clock.now(), scrub=scrub)


async def _left_behind(
    plan: Plan, storage: Storage, clock: Clock, order: HandOrder
) -> Sequence[Run]:
    """Runs as of slots that were interrupted: the next one goes on with them, oldest first."""
    if order.as_of is None:
        return ()
    orphans = await storage.runs.orphans(plan.name, now=clock.now())
    return [run for run in orphans if run.trigger is Trigger.AS_OF]


async def _beat(plan: Plan, ended: Run | None, ping: Heartbeat) -> None:
    """Tell whoever watches from outside that the Run of a slot is complete, as the service does."""
    if ended is None or not ended.trigger.counts or ended.status is not RunStatus.DONE:
        return
    if plan.heartbeat_url and not await ping(plan.heartbeat_url):
        tell("warning: heartbeat_url did not answer")


async def _run_for(plan: Plan, storage: Storage, clock: Clock, order: HandOrder) -> Run:
    if order.resume:
        resumed = await _resumed(plan, storage, order.resume)
        await _require_room(resumed, storage, order.max_usd)
        return resumed
    slot, trigger = _slot(plan, clock, order)
    for left in await _left_behind(plan, storage, clock, order):
        if left.slot.key == slot.key:
            return left
    active = await storage.runs.active_run(plan.name)
    if active is not None:
        raise RunInProgress(
            f"run {active.run_id} of {plan.name} is at work or was interrupted; "
            f"finish it with: switchwise run --resume {active.run_id}"
        )
    run = await storage.runs.request(plan, slot, trigger, seed=seed_for(plan, slot))
    if run is None:
        raise RunInProgress(
            f"the slot {slot.key} of {plan.name} has a run already: see `switchwise status`, "
            "or finish it with `switchwise run --resume RUN`"
        )
    return run


async def _resumed(plan: Plan, storage: Storage, run_id: str) -> Run:
    run = await storage.runs.run(run_id)
    if run is None:
        raise ConfigError(f"there is no run {run_id!r}, or several begin with it")
    if run.plan_name != plan.name:
        raise ConfigError(f"run {run.run_id} belongs to plan {run.plan_name}, not {plan.name}")
    if run.status.is_final and run.status is not RunStatus.PARTIAL:
        raise ConfigError(f"run {run.run_id} is {run.status.value}: there is nothing to resume")
    return run


async def _require_room(run: Run, storage: Storage, max_usd: Decimal | None) -> None:
    """Refuse a cap that the Run has reached already: it would end as it ended before.

    Raises:
        ConfigError: Saying what it has spent.
    """
    if max_usd is None:
        return
    spent_usd = sum((line.spend_usd for line in await storage.runs.spend(run.run_id)), Decimal(0))
    if max_usd <= spent_usd:
        raise ConfigError(
            f"--max-usd caps the whole run, and run {run.run_id} has spent "
            f"${spent_usd:.4f} already: give more than that"
        )


def _is_ended(run: Run) -> bool:
    """Whether a cap or an operator ended the Run; one that was abandoned goes on as it was."""
    return run.status is RunStatus.PARTIAL and run.error_code != ABANDONED


def _as_begun(plan: Plan, run: Run) -> Plan:
    """The plan with the candidates that the Run was begun with."""
    config: Any = run.frozen.get("config")
    if not isinstance(config, Mapping):
        return plan
    return with_candidates(plan, tuple(str(one["name"]) for one in config["candidates"]))


def _slot(plan: Plan, clock: Clock, order: HandOrder) -> tuple[Slot, Trigger]:
    zone = plan.schedule.timezone if plan.schedule else UTC
    now = clock.now()
    if order.as_of is None:
        return Slot(key=f"{now.astimezone(zone):%Y-%m-%dT%H:%M}", at=now), Trigger.HAND
    at = order.as_of if order.as_of.tzinfo else order.as_of.replace(tzinfo=zone)
    if at > now:
        raise ConfigError("--as-of lies in the future: those prompts are not logged yet")
    slot = slot_of_week(plan.schedule, at, now=now)
    if slot is None:
        raise ConfigError("--as-of: the schedule had no slot in the year before")
    return slot, Trigger.AS_OF


def _next_slot(plan: Plan, clock: Clock) -> Slot | None:
    if plan.schedule is None:
        return None
    return next(iter(next_slots(plan.schedule, clock.now(), 1)), None)


def exit_code_of(document: JsonObject, run: Run | None) -> int:
    """The exit code of a Run that ended: 0 done, 4 partial, else that of what failed it."""
    match document["status"]:
        case "done":
            return 0
        case "partial":
            return 4
    kind = getattr(errors, (run.error_code if run else None) or "", None)
    if isinstance(kind, type) and issubclass(kind, errors.SwitchwiseError):
        return kind.exit_code
    return 1


def _shown(show: Callable[[int, int], None]) -> Callable[[Progress], None]:
    return lambda done: show(done.cases_done, done.cases_total)


@asynccontextmanager
async def _stopped_by_signals(stop: asyncio.Event) -> AsyncIterator[None]:
    """Ctrl-C and SIGTERM let calls in flight settle; the second one ends the process."""
    loop = asyncio.get_running_loop()

    def ask() -> None:
        tell("stopping: calls in flight are settled first")
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
