"""The engine against a server that is frozen, restarted or cut off."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from app.domain.errors import StorageUnavailable
from app.storage.engine import Database, connected, hanging_up
from app.storage.postgres_server import PostgresServer


@asynccontextmanager
async def opened(dsn: str, *, answer_within_s: float = 15.0) -> AsyncIterator[Database]:
    database = Database(dsn, pool_size=1, answer_within_s=answer_within_s)
    try:
        yield database
    finally:
        await database.close()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def backend_pid(database: Database) -> int:
    async with database.transaction() as connection:
        found = await connection.execute(text("SELECT pg_backend_pid()"))
        return int(found.scalar_one())


async def test_a_backend_that_freezes_in_mid_transaction_is_given_up_at_the_deadline(
    database_url: str,
) -> None:
    async with opened(database_url, answer_within_s=0.3) as database:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            async with database.transaction() as connection:
                pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                with frozen(pid):
                    await connection.execute(text("SELECT 1"))
        assert time.monotonic() - began < 2.0


async def test_a_frozen_backend_in_the_pool_is_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.engine._GREETING_WITHIN_S", 0.3)
    async with opened(database_url) as database:
        pid = await backend_pid(database)
        with frozen(pid):
            assert await backend_pid(database) != pid


async def test_a_frozen_server_is_given_up_within_twenty_seconds(
    own_postgres: Callable[[], PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    ...


async def test_work_goes_on_after_the_server_was_restarted(
    own_postgres: Callable[[], PostgresServer],
) -> None:
    server = own_postgres()
    async with opened(server.dsn) as database:
        first = await backend_pid(database)
        server.stop("immediate")
        with pytest.raises(StorageUnavailable):
            await backend_pid(database)
        server.start()
        assert await backend_pid(database) != first
