"""Reads what is stored: Runs, their documents, open alerts. Needs no plan file."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from app.cli.session import Session, nearest_of, open_session
from app.domain.errors import ConfigError, StorageUnavailable
from app.domain.json_values import JsonObject
from app.domain.runs import ABANDONED, Run, RunStatus
from app.settings import Settings
from app.wiring import Storage, clock_for, open_storage, results_database

T = TypeVar("T")

_TOLD = (RunStatus.DONE, RunStatus.PARTIAL, RunStatus.FAILED)


def read_stored(
    config: Path | None, plan: str | None, read: Callable[[Storage, str], Awaitable[T]]
) -> T:
    """Open the results database and read something of one plan.

    The plan is the one named, else the configured one where `--config` is given, else the only
    one that is stored.

    Raises:
        ConfigError: If it is not clear which plan is meant, or nothing is stored.
    """
    session = open_session(config, with_plans=config is not None)

    async def work(storage: Storage) -> T:
        return await read(storage, await plan_name_of(storage, session, plan))

    return with_storage(session.settings, work)


def with_storage(settings: Settings, work: Callable[[Storage], Awaitable[T]]) -> T:
    """Do something with the results database, which must exist."""
    if settings.database_url is None and not (settings.home / "postgres").exists():
        raise StorageUnavailable(
            f"nothing is stored under {settings.home} yet: `switchwise run` or `switchwise demo` "
            "changes that; SWITCHWISE_HOME or DATABASE_URL name another place"
        )

    async def opened(dsn: str) -> T:
        async with open_storage(dsn, clock_for(settings)) as storage:
            return await work(storage)

    with results_database(settings) as dsn:
        return asyncio.run(opened(dsn))


async def plan_name_of(storage: Storage, session: Session, wanted: str | None) -> str:
    """The name of the plan that is meant."""
    stored = list(await storage.runs.plan_names())
    if wanted is None and session.plans:
        return session.plan().name
    if wanted is None and len(stored) > 1:
        raise ConfigError(f"several plans are stored: --plan {' | '.join(stored)}")
    if wanted is None and not stored:
        raise ConfigError("no run is stored yet: `switchwise run` makes one")
    if wanted is not None and wanted not in stored:
        raise ConfigError(f"no plan {wanted!r} is stored{nearest_of(wanted, stored)}")
    return wanted or stored[0]


async def stored_document(storage: Storage, plan_name: str, run_id: str | None) -> JsonObject:
    """The document of a Run; without an id, of the newest Run that ended.

    Raises:
        ConfigError: If there is no such Run, or it has not ended.
    """
    run = await chosen_run(storage, plan_name, run_id)
    document = await storage.runs.document(run.run_id)
    if document is None:
        raise ConfigError(
            f"run {run.run_id} is {run.status.value} and has no report"
            + (f": {run.error_message}" if run.error_message else "")
        )
    return document


async def chosen_run(storage: Storage, plan_name: str, run_id: str | None) -> Run:
    """The Run of this id, or the newest one of the plan that ended with a report."""
    if run_id is None:
        for ended in await storage.runs.runs(plan_name, statuses=_TOLD):
            if ended.error_code != ABANDONED:
                return ended
        raise ConfigError(f"plan {plan_name} has no run that ended yet")
    run = await storage.runs.run(run_id)
    if run is None:
        raise ConfigError(f"there is no run {run_id!r}, or several begin with it")
    return run


async def stored_documents(storage: Storage, plan_name: str, limit: int) -> Sequence[JsonObject]:
    """The documents of the newest complete Runs that count, oldest first."""
    runs = await storage.runs.runs(plan_name, statuses=(RunStatus.DONE,), limit=limit * 4)
    counted = [run for run in runs if run.trigger.counts][:limit]
    documents = [await storage.runs.document(run.run_id) for run in reversed(counted)]
    return [document for document in documents if document is not None]
