"""The storage ports, on Postgres and in memory."""

from collections.abc import AsyncIterator

import pytest

from app.ports import Journal
from app.storage.alert_store import PostgresAlerts
from app.storage.engine import Database
from app.storage.journal import PostgresJournal
from app.storage.label_store import PostgresLabels
from app.storage.ledger import Caps
from app.storage.result_store import PostgresResults
from tests.fakes.clocks import HandClock
from tests.fakes.storage import NO_CAPS, Storage, storage_in_memory


@pytest.fixture(params=["postgres", "memory"])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[Storage]:
    clock = HandClock()
    if request.param == "memory":
        yield storage_in_memory(clock)
        return
    dsn: str = request.getfixturevalue("database_url")
    database = Database(dsn)
    journals: list[PostgresJournal] = []

    def another_journal(caps: Caps) -> Journal:
        journals.append(PostgresJournal(dsn, clock=clock, caps=lambda _plan: caps))
        return journals[-1]

    yield Storage(
        runs=PostgresResults(database, clock.now),
        alerts=PostgresAlerts(database, clock.now),
        labels=PostgresLabels(database),
        journal=another_journal(NO_CAPS),
        clock=clock,
        another_journal=another_journal,
    )
    for journal in journals:
        await journal.close()
    await database.close()
