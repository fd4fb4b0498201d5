"""Writers that meet at the same row: held back by its lock, then let go together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
import pytest

from app.clocks import SystemClock
from app.domain.alerts import Alert, AlertKind, News
from app.domain.attempts import AttemptOpening, ShardRef
from app.domain.errors import FenceLost
from app.ports import BudgetRefusal
from app.storage.alert_store import PostgresAlerts
from app.storage.engine import Database
from app.storage.journal import PostgresJournal
from app.storage.ledger import Caps
from app.storage.result_store import PostgresResults
from tests.fakes.work import begin_run, ending, opening, shard_for

T = TypeVar("T")


@asynccontextmanager
async def database_at(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn, pool_size=4)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def journals_at(dsn: str, count: int, caps: Caps) -> AsyncIterator[list[PostgresJournal]]:
    clock = SystemClock()
    journals = [PostgresJournal(dsn, clock=clock, caps=lambda _plan: caps) for _ in range(count)]
    try:
        yield journals
    finally:
        for journal in journals:
            await journal.close()


async def let_go_together(dsn: str, statement: str, *contenders: Awaitable[T]) -> list[Any]:
    """Begin all while another transaction holds what the statement locks, then commit that."""
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute(statement)
        racing = [asyncio.ensure_future(one) for one in contenders]
        await until_waiting(dsn, len(racing))
        await holder.commit()
    return await asyncio.gather(*racing, return_exceptions=True)


async def until_waiting(dsn: str, count: int) -> None:
    """Return when that many sessions wait for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with (
        asyncio.timeout(10),
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watcher,
    ):
        while (await (await watcher.execute(query)).fetchone()) != (count,):
            await watcher.execute("SELECT pg_sleep(0.01)")


async def test_two_processes_at_a_cap_never_both_pass_it(database_url: str) -> None:
    caps = Caps(per_run_usd=Decimal("0.25"))
    async with database_at(database_url) as database, journals_at(database_url, 2, caps) as both:
        begun = await begin_run(PostgresResults(database, SystemClock().now))
        assert await both[0].open(opening(begun)) is None
        answers = await let_go_together(
            database_url,
            "SELECT * FROM switchwise.ledger FOR UPDATE",
            *(journal.open(opening(begun)) for journal in both),
        )
        assert sorted(answer is None for answer in answers) == [False, True]


async def test_the_first_calls_of_two_processes_make_one_ledger_row(database_url: str) -> None:
    caps = Caps(per_run_usd=Decimal("0.15"))
    async with database_at(database_url) as database, journals_at(database_url, 2, caps) as both:
        begun = await begin_run(PostgresResults(database, SystemClock().now))
        answers = await let_go_together(
            database_url,
            "LOCK TABLE switchwise.ledger",
            *(journal.open(opening(begun)) for journal in both),
        )
        assert sorted(answer is None for answer in answers) == [False, True]


async def test_a_write_waits_for_a_claim_under_way_and_is_then_refused(database_url: str) -> None:
    async with database_at(database_url) as database, journals_at(database_url, 1, Caps()) as one:
        begun = await begin_run(PostgresResults(database, SystemClock().now))
        (answer,) = await let_go_together(
            database_url,
            "UPDATE switchwise.shards SET fence = fence + 1",
            one[0].open(opening(begun)),
        )
        assert isinstance(answer, FenceLost)


async def test_a_run_can_end_while_its_workers_write_for_many_shards_at_once(
    database_url: str,
) -> None:
    async with database_at(database_url) as database, journals_at(database_url, 2, Caps()) as both:
        runs = PostgresResults(database, SystemClock().now)
        begun = await begin_run(runs)
        run_id = begun.run.run_id
        more = range(1, 30)
        await runs.plan_shards(
            run_id, [shard_for(begun.run, begun.sample.cases, shard_no=n) for n in reversed(more)]
        )
        refs = [begun.ref]
        for number in more:
            claimed = await runs.claim(run_id, number, owner="us", at=begun.run.created_at)
            refs.append(ShardRef(run_id=run_id, shard_no=number, fence=claimed.shard.fence))
        *answers, ended = await let_go_together(
            database_url,
            "SELECT * FROM switchwise.shards WHERE shard_no = 17 FOR UPDATE",
            *(write_all(journal, [opening(begun, ref=ref) for ref in refs]) for journal in both),
            runs.finish(ending(begun.run)),
        )
        assert ended is None
        said = [answer for batch in answers for answer in batch]
        assert all(answer is None or isinstance(answer, FenceLost) for answer in said)


async def write_all(
    journal: PostgresJournal, openings: list[AttemptOpening]
) -> list[BudgetRefusal | BaseException | None]:
    """What the journal says to each of these, asked together."""
    return await asyncio.gather(*map(journal.open, openings), return_exceptions=True)


@pytest.mark.parametrize("attempt", range(3))
async def test_the_last_two_shards_of_a_block_see_each_other(
    database_url: str, attempt: int
) -> None:
    async with database_at(database_url) as database:
        runs = PostgresResults(database, SystemClock().now)
        begun = await begin_run(runs)
        run_id = begun.run.run_id
        await runs.plan_shards(run_id, [shard_for(begun.run, begun.sample.cases, shard_no=1)])
        claimed = await runs.claim(run_id, 1, owner="us", at=begun.run.created_at)
        other = ShardRef(run_id=run_id, shard_no=1, fence=claimed.shard.fence)
        are_last = await let_go_together(
            database_url,
            "SELECT * FROM switchwise.shards FOR UPDATE",
            *(runs.close_shard(ref, at=begun.run.created_at) for ref in (begun.ref, other)),
        )
        assert sorted(are_last) == [False, True]


async def test_closing_a_shard_does_not_wait_for_calls_of_other_shards(database_url: str) -> None:
    async with database_at(database_url) as database:
        runs = PostgresResults(database, SystemClock().now)
        begun = await begin_run(runs)
        async with await psycopg.AsyncConnection.connect(database_url) as holder:
            await holder.execute(
                "SELECT * FROM switchwise.runs FOR KEY SHARE"  # as the journal's foreign keys do
            )
            async with asyncio.timeout(5):
                assert await runs.close_shard(begun.ref, at=begun.run.created_at)


async def test_a_message_that_another_process_is_leasing_is_passed_by(database_url: str) -> None:
    async with database_at(database_url) as database:
        clock = SystemClock()
        alerts = PostgresAlerts(database, clock.now)
        for key in ("p/run", "p/switch:a"):
            told = Alert(
                key=key, kind=AlertKind.RUN, news=News.NEW, run_id=None, title="t", lead="l"
            )
            await alerts.enqueue("p", [told], [])
        async with await psycopg.AsyncConnection.connect(database_url) as holder:
            await holder.execute("SELECT * FROM switchwise.outbox WHERE key = 'p/run' FOR UPDATE")
            async with asyncio.timeout(5):
                items = await alerts.lease_outbox(owner="us", now=clock.now(), lease_s=60)
        assert [item.alert.key for item in items] == ["p/switch:a"]
