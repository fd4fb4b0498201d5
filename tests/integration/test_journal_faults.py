"""The journal while its database is cut off, frozen, restarted or refuses rows."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.clocks import SystemClock
from app.domain.attempts import AttemptOpening
from app.domain.errors import StorageUnavailable, SwitchwiseError
from app.storage.engine import Database
from app.storage.journal import PostgresJournal
from app.storage.ledger import Caps
from app.storage.migrations import upgrade
from app.storage.postgres_server import PostgresServer, start_server
from app.storage.result_store import PostgresResults
from tests.fakes.broken_lines import frozen, proxy_to
from tests.fakes.work import Begun, begin_run, completion, opening, outcome, record
from tests.fixtures.postgres import free_port

CAP = Caps(per_run_usd=Decimal(100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A journal and the Run it writes for."""

    dsn: str
    journal: PostgresJournal
    runs: PostgresResults
    begun: Begun

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            return await (await connection.execute(statement)).fetchall()

    async def states(self) -> dict[str, int]:
        query = "SELECT state, count(*) FROM switchwise.attempts GROUP BY state"
        return dict(await self.rows(query))

    @property
    def backend_pid(self) -> int:
        assert self.journal._connection is not None
        return self.journal._connection.info.backend_pid


@asynccontextmanager
async def bench(
    dsn: str, *, caps: Caps = CAP, answer_within_s: float = 15.0, journal_dsn: str | None = None
) -> AsyncIterator[Bench]:
    clock = SystemClock()
    database = Database(dsn, pool_size=1)
    journal = PostgresJournal(
        journal_dsn or dsn,
        clock=clock,
        caps=lambda _plan: caps,
        answer_within_s=answer_within_s,
    )
    runs = PostgresResults(database, clock.now)
    try:
        yield Bench(dsn=dsn, journal=journal, runs=runs, begun=await begin_run(runs, n=40))
    finally:
        await journal.close()
        await database.close()


async def opened(on: Bench, n: int = 1) -> list[AttemptOpening]:
    openings = [opening(on.begun, case=case % 40) for case in range(n)]
    assert await asyncio.gather(*map(on.journal.open, openings)) == [None] * n
    return openings


# --- group commit -------------------------------------------------------------------------------


async def test_callers_of_the_same_moment_share_few_commits(database_url: str) -> None:
    async with bench(database_url) as on:
        await opened(on, 200)
        ((commits,),) = await on.rows("SELECT count(DISTINCT xmin::text) FROM switchwise.attempts")
        assert commits <= 3


async def test_nothing_is_prepared_and_no_option_is_sent_at_start_up(database_url: str) -> None:
    async with bench(database_url) as on:
        for _ in range(8):
            await opened(on)
        assert on.journal._connection is not None
        prepared = await on.journal._connection.execute(
            "SELECT count(*) FROM pg_prepared_statements"
        )
        assert await prepared.fetchone() == (0,)
        sources = await on.journal._connection.execute(
            "SELECT name FROM pg_settings WHERE source = 'client' AND name LIKE '%timeout%'"
        )
        assert await sources.fetchall() == []


# --- rows that cannot be written ----------------------------------------------------------------


async def test_a_row_that_postgres_refuses_fails_alone(database_url: str) -> None:
    async with bench(database_url) as on:
        bad = replace(opening(on.begun), model_name="nul\x00")
        good = [opening(on.begun, case=case) for case in range(5)]
        answers = await asyncio.gather(
            *map(on.journal.open, [*good[:2], bad, *good[2:]]), return_exceptions=True
        )
        refused = answers.pop(2)
        assert answers == [None] * 5
        assert isinstance(refused, SwitchwiseError)
        assert not isinstance(refused, StorageUnavailable), "asking again would be in vain"


async def test_a_caller_that_gave_up_waiting_has_its_result_written_all_the_same(
    database_url: str,
) -> None:
    async with bench(database_url) as on:
        (one,) = await opened(on)
        waiting = asyncio.ensure_future(on.journal.settle(outcome(one)))
        await asyncio.sleep(0)
        waiting.cancel()
        await on.journal.score(on.begun.ref, [record(on.begun)])
        assert await on.states() == {"settled": 1}


# --- lines that break ---------------------------------------------------------------------------


async def test_a_terminated_connection_loses_nothing(database_url: str) -> None:
    async with bench(database_url) as on:
        openings = await opened(on, 40)
        for part in range(0, 40, 10):
            await on.rows(f"SELECT pg_terminate_backend({on.backend_pid})")
            await asyncio.gather(
                *(on.journal.settle(outcome(one)) for one in openings[part : part + 10])
            )
        assert await on.states() == {"settled": 40}
        (line,) = await on.runs.spend(on.begun.run.run_id)
        assert line.spend_usd == Decimal("0.40")


async def test_commits_whose_answers_were_lost_are_neither_lost_nor_charged_twice(
    own_postgres: Callable[[], PostgresServer],
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    caps = Caps(per_run_usd=Decimal("0.15"))
    async with (
        proxy_to(server.dsn) as proxy,
        bench(server.dsn, caps=caps, journal_dsn=proxy.dsn) as on,
    ):
        one = opening(on.begun, reserved_usd="0.10")
        proxy.swallow_commits = 1
        with pytest.raises(StorageUnavailable):
            await on.journal.open(one)
        assert await on.states() == {"sent": 1}
        assert await on.journal.open(one) is None, "its own reservation is no reason to refuse it"
        proxy.swallow_commits = 2
        await on.journal.settle(outcome(one, cost_usd="0.04"))
        ledger = await on.rows("SELECT reserved_usd, spent_usd FROM switchwise.ledger")
        assert ledger == [(Decimal(0), Decimal("0.04"))] * 2, "of the Run and of the month"


async def test_a_server_that_is_killed_and_restarted_loses_nothing_and_nothing_is_sent_meanwhile(
    own_postgres: Callable[[], PostgresServer],
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    async with bench(server.dsn) as on:
        openings = await opened(on, 20)
        await asyncio.gather(*(on.journal.settle(outcome(one)) for one in openings[:10]))
        await asyncio.to_thread(server.stop, "immediate")
        waiting = asyncio.gather(*(on.journal.settle(outcome(one)) for one in openings[10:]))
        refused = await asyncio.gather(
            *(on.journal.open(opening(on.begun)) for _ in range(5)), return_exceptions=True
        )
        assert [type(one) for one in refused] == [StorageUnavailable] * 5
        assert not waiting.done()
        await asyncio.to_thread(server.start)
        await waiting
        assert await on.states() == {"settled": 20}
        ledger = await on.rows("SELECT reserved_usd, spent_usd FROM switchwise.ledger")
        assert ledger == [(Decimal(0), Decimal("0.20"))] * 2, "of the Run and of the month"


async def test_a_frozen_backend_is_given_up_at_the_deadline_and_the_result_is_kept(
    database_url: str,
) -> None:
    async with bench(database_url, answer_within_s=1.0) as on:
        (one,) = await opened(on)
        with frozen(on.backend_pid):
            began = time.monotonic()
            answers = await asyncio.gather(
                on.journal.open(opening(on.begun, case=1)),
                on.journal.settle(outcome(one)),
                return_exceptions=True,
            )
            assert time.monotonic() - began < 5.0
        assert isinstance(answers[0], StorageUnavailable)
        assert answers[1] is None
        assert (await on.states())["settled"] == 1


async def test_a_database_that_became_read_only_is_waited_for(database_url: str) -> None:
    async with bench(database_url) as on:
        (one,) = await opened(on)
        name = database_url.rpartition("/")[2].partition("?")[0]
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as operator:
            await operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            await operator.execute(f"SELECT pg_terminate_backend({on.backend_pid})")
            waiting = asyncio.ensure_future(on.journal.settle(outcome(one)))
            with pytest.raises(StorageUnavailable):
                await on.journal.open(opening(on.begun, case=1))
            with pytest.raises(StorageUnavailable, match="no writes"):
                await on.journal.open(opening(on.begun, case=1))
            await operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await waiting
        assert await on.states() == {"settled": 1}


# --- the end ------------------------------------------------------------------------------------


async def test_closing_writes_what_waits(database_url: str) -> None:
    async with bench(database_url) as on:
        openings = await opened(on, 10)
        waiting = asyncio.gather(*(on.journal.settle(outcome(one)) for one in openings))
        await asyncio.sleep(0)
        await on.journal.close()
        await waiting
        assert await on.states() == {"settled": 10}
        with pytest.raises(StorageUnavailable):
            await on.journal.open(openings[0])


async def test_closing_before_a_frozen_server_ends_within_seconds(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.journal.CLOSE_WITHIN_S", 0.2)
    async with bench(database_url) as on:
        (one,) = await opened(on)
        with frozen(on.backend_pid):
            waiting = asyncio.ensure_future(on.journal.settle(outcome(one)))
            await asyncio.sleep(0)
            began = time.monotonic()
            await on.journal.close()
            assert time.monotonic() - began < 5.0
        assert waiting.done()


async def test_closing_tells_those_whose_results_could_not_be_written(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.journal.CLOSE_WITHIN_S", 0.2)
    async with bench(database_url) as on:
        (one,) = await opened(on)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("LOCK TABLE switchwise.attempts")
            waiting = asyncio.ensure_future(on.journal.settle(outcome(one)))
            await asyncio.sleep(0)
            await on.journal.close()
            with pytest.raises(StorageUnavailable):
                await waiting


# --- a full disk --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own that can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk of its own can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
async def test_a_full_disk_stops_new_calls_and_loses_no_result(small_disk: Path) -> None:
    try:
        server = start_server(small_disk / "pg", tcp_port=free_port(), is_durable=False)
    except StorageUnavailable as error:
        pytest.skip(f"a server of its own needs Postgres programs: {error}")
    try:
        upgrade(server.dsn)
        async with bench(server.dsn) as on:
            openings = await opened(on, 20)
            await on.journal.settle(outcome(openings[0]))
            fill(small_disk)
            large = completion("œ" * 2_000_000)
            waiting = [
                asyncio.ensure_future(on.journal.settle(outcome(one, large)))
                for one in openings[1:]
            ]
            await until_refused(on)
            assert not all(one.done() for one in waiting)
            (small_disk / "filling").unlink()
            await asyncio.gather(*waiting)
            assert (await on.states())["settled"] == 20
    finally:
        server.stop("immediate")


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filling").open("wb", buffering=0) as filling:
        while True:
            filling.write(b"\0" * 65_536)


async def until_refused(on: Bench) -> None:
    """Ask to send until it is refused, as it must be before long."""
    async with asyncio.timeout(30):
        while True:
            try:
                await on.journal.open(opening(on.begun))
            except StorageUnavailable:
                return
