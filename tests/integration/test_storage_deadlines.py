"""The engine against a server that is frozen, restarted or cut off."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.domain.errors import StorageUnavailable
from app.storage.engine import Database
from app.storage.postgres_server import PostgresServer
from tests.fakes.broken_lines import frozen


@asynccontextmanager
async def opened(dsn: str, *, answer_within_s: float = 15.0) -> AsyncIterator[Database]:
    database = Database(dsn, pool_size=1, answer_within_s=answer_within_s)
    try:
        yield database
    finally:
        await database.close()


async def backend_pid(database: Database) -> int:
    async with database.transaction() as connection:
        found = await connection.execute(text("SELECT pg_backend_pid()"))
        return int(found.scalar_one())


async def freeze_in_mid_transaction(database: Database) -> None:
    async with database.transaction() as connection:
        found = await connection.execute(text("SELECT pg_backend_pid()"))
        with frozen(int(found.scalar_one())):
            await connection.execute(text("SELECT 1"))


async def test_a_backend_that_freezes_in_mid_transaction_is_given_up_at_the_deadline(
    database_url: str,
) -> None:
    async with opened(database_url, answer_within_s=1.0) as database:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            await freeze_in_mid_transaction(database)
        assert time.monotonic() - began < 5.0


async def test_a_backend_that_freezes_between_the_parts_of_a_result_is_given_up_at_the_deadline(
    database_url: str,
) -> None:
    async with opened(database_url, answer_within_s=1.0) as database:
        async with asyncio.timeout(20):
            began = time.monotonic()
            with pytest.raises(StorageUnavailable):
                await freeze_after_the_first_part(database)
        assert time.monotonic() - began < 5.0


async def freeze_after_the_first_part(database: Database) -> None:
    query = text("SELECT n, pg_backend_pid() AS pid FROM generate_series(1, 5000) AS n")
    with ExitStack() as stack:
        async with database.transaction() as connection:
            async for rows in database.in_parts(connection, query):
                assert rows[0].n == 1
                stack.enter_context(frozen(rows[0].pid))


async def test_a_large_result_is_read_whole_and_in_order(database_url: str) -> None:
    query = text("SELECT n FROM generate_series(1, :last) AS n")
    async with opened(database_url) as database, database.transaction() as connection:
        for last in (0, 1, 1000, 2345):
            parts = [part async for part in database.in_parts(connection, query, {"last": last})]
            assert [row.n for part in parts for row in part] == list(range(1, last + 1))
            assert max(map(len, parts), default=0) <= 1000


async def test_a_frozen_backend_in_the_pool_is_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.engine._GREETING_WITHIN_S", 1.0)
    async with opened(database_url) as database:
        pid = await backend_pid(database)
        with frozen(pid):
            assert await backend_pid(database) != pid


async def test_a_commit_that_is_never_answered_is_given_up(database_url: str) -> None:
    async with opened(database_url, answer_within_s=1.0) as database:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            await freeze_before_the_commit(database)
        assert time.monotonic() - began < 5.0


async def freeze_before_the_commit(database: Database) -> None:
    with ExitStack() as stack:
        async with database.transaction() as connection:
            found = await connection.execute(text("SELECT pg_backend_pid()"))
            stack.enter_context(frozen(int(found.scalar_one())))


async def test_work_that_takes_long_between_statements_is_not_cut_off(database_url: str) -> None:
    async with opened(database_url, answer_within_s=0.5) as database:
        async with database.transaction() as connection:
            await connection.execute(text("CREATE TABLE kept (n int)"))
            await asyncio.sleep(0.7)
        async with database.transaction() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM kept"))).scalar_one() == 0


async def test_a_refused_row_is_no_outage_and_leaves_nothing_behind(database_url: str) -> None:
    async with opened(database_url) as database:
        with pytest.raises(IntegrityError):
            await insert_twice(database)
        assert await backend_pid(database) > 0
        async with database.transaction() as connection:
            found = await connection.execute(text("SELECT count(*) FROM switchwise.plans"))
            assert found.scalar_one() == 0


async def insert_twice(database: Database) -> None:
    row = text("INSERT INTO switchwise.plans VALUES ('p', '2026-03-29Z', 'c0ffee', 'UTC')")
    async with database.transaction() as connection:
        await connection.execute(row)
        await connection.execute(row)


async def test_a_long_statement_is_ended_by_the_server_and_told_in_words(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.engine.STATEMENT_WITHIN_S", 0.05)
    async with opened(database_url) as database:
        with pytest.raises(StorageUnavailable, match="took too long"):
            await run_one(database, "SELECT pg_sleep(20)")


async def run_one(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement))


async def test_work_that_is_given_longer_is_given_longer_by_the_server_too(
    database_url: str,
) -> None:
    async with (
        opened(database_url, answer_within_s=600.0) as database,
        database.transaction() as connection,
    ):
        limit = await connection.execute(text("SHOW statement_timeout"))
        assert limit.scalar_one() == "8min"
        await connection.execute(text("SELECT 1"))


async def test_limits_end_with_their_transaction(database_url: str) -> None:
    async with opened(database_url) as database:
        async with database.transaction() as connection:
            inside = await connection.execute(text("SHOW statement_timeout"))
            assert inside.scalar_one() == "12s"
            raw = await connection.get_raw_connection()
            line = raw.driver_connection
        assert line is not None
        outside = await line.execute("SHOW statement_timeout")
        assert await outside.fetchone() == ("0",)
        await line.rollback()


async def test_nobody_there_is_told_in_seconds_and_without_the_address() -> None:
    async with opened("postgresql://canary@127.0.0.1:1/none") as database:
        with pytest.raises(StorageUnavailable) as refused:
            await backend_pid(database)
        assert "canary" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres://", "postgresql+psycopg://"])
async def test_every_way_to_name_the_driver_is_understood(database_url: str, scheme: str) -> None:
    async with opened(database_url.replace("postgresql://", scheme)) as database:
        assert await backend_pid(database) > 0


async def test_callers_beyond_the_pool_wait_and_are_served(database_url: str) -> None:
    async with opened(database_url) as database:
        pids = await asyncio.gather(*(backend_pid(database) for _ in range(12)))
        assert len(set(pids)) <= 2


async def test_a_cancelled_caller_gives_its_connection_back(database_url: str) -> None:
    async with opened(database_url) as database:
        for _ in range(3):
            sleeping = asyncio.ensure_future(run_one(database, "SELECT pg_sleep(20)"))
            await asyncio.sleep(0.05)
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
        assert await backend_pid(database) > 0


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
