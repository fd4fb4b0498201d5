"""What a draw of 100 prompts costs on a large log, beside the fastest statements known by hand.

A draw is what a run does: count the window, take the keys of 100 rows, read their bodies. Those
by hand take keys and read bodies, and count nothing.

`--log-rows 10000000` builds the full table (13 GB; a week is 200,000 rows); without it a fiftieth.
`--log-database URL` names a database that keeps the table from one session to the next.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from app.domain.cases import Window
from app.domain.plans import LogSettings
from app.logsources.postgres import PostgresLogs
from app.logsources.statements import (
    MOST_AHEAD,
    bound_ahead,
    counted_keys_statement,
    seed_of,
)
from app.ports import Ahead
from tests.fixtures.postgres import new_database

pytestmark = pytest.mark.slow

WEEKS = 50
ENDS = datetime(2026, 3, 30, tzinfo=UTC)
WINDOW = Window(start=ENDS - timedelta(days=7), end=ENDS)
WANTED = 100
ROUNDS = 15
QUOTA = {"chat": 60, "extract": 25, "search": 10, "rare": 5}
AT_ONCE = 500_000
#: Measured beside the best statements, in one run: no more than this much slower.
MOST_RATIO = 1.3
#: Three read-only transactions instead of two, and reading rows into Python, are no statement's
#: fault: a draw may take so many bare round trips of the same run longer.
MOST_ROUND_TRIPS = 15
CREATE = (
    "CREATE UNLOGGED TABLE ai_logs (id bigint PRIMARY KEY, created_at timestamptz NOT NULL,"
    " route text NOT NULL, prompt text NOT NULL, response text NOT NULL)"
)
FILL = (
    "INSERT INTO ai_logs SELECT n, %(start)s::timestamptz + n * %(step)s::interval,"
    " (ARRAY['chat','chat','chat','chat','chat','chat','extract','extract','search','rare'])"
    "[1 + (hashint8extended(n, 7) & 1023) * 10 / 1024],"
    " 'prompt ' || n || ' ' || repeat(md5(n::text), 20), repeat(md5((-n)::text), 16)"
    " FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n"
)
COVERING = "CREATE INDEX logs_time ON ai_logs (created_at) INCLUDE (id, route)"
PLAIN = "CREATE INDEX logs_time ON ai_logs (created_at)"
BY_HAND = (
    "SELECT id FROM ai_logs WHERE created_at >= %(start)s AND created_at < %(end)s"
    " ORDER BY hashint8extended(id, %(seed)s), id LIMIT 100"
)
BY_HAND_STRATIFIED = (
    "SELECT keys.id FROM unnest(%(routes)s::text[], %(quotas)s::int[]) AS asked (name, quota),"
    " LATERAL (SELECT id FROM ai_logs WHERE created_at >= %(start)s AND created_at < %(end)s"
    " AND route = name ORDER BY hashint8extended(id, %(seed)s), id LIMIT quota) AS keys"
)
BODIES = "SELECT id, created_at, prompt, response, route FROM ai_logs WHERE id = ANY(%(ids)s)"


@dataclass(frozen=True)
class Logs:
    """The filled table."""

    dsn: str
    rows: int

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@pytest.fixture(scope="module")
def logs(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Logs]:
    rows: int = pytestconfig.getoption("--log-rows")
    kept: str | None = pytestconfig.getoption("--log-database")
    with ExitStack() as stack:
        dsn = kept or stack.enter_context(new_database(request.getfixturevalue("pg_server")))
        started = time.perf_counter()
        if _rows_in(dsn) != rows:
            _build(dsn, rows)
        with psycopg.connect(dsn) as connection:
            size = connection.execute(
                b"SELECT pg_size_pretty(pg_total_relation_size('ai_logs'))"
            ).fetchone()
        _say(
            f"{rows:,} rows, {size[0] if size else '?'}, a week is {rows // WEEKS:,} rows; "
            f"there after {time.perf_counter() - started:.0f} s"
        )
        yield Logs(dsn=dsn, rows=rows)


def _rows_in(dsn: str) -> int | None:
    """How many rows the table was built with, None without one."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(b"SELECT to_regclass('public.ai_logs')").fetchone()
        if found is None or found[0] is None:
            return None
        newest = connection.execute(b"SELECT max(id) + 1 FROM ai_logs").fetchone()
        return newest[0] if newest else None


def _build(dsn: str, rows: int) -> None:
    start, step = ENDS - timedelta(days=7 * WEEKS), timedelta(days=7 * WEEKS) / rows
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(b"DROP TABLE IF EXISTS ai_logs")
        connection.execute(CREATE.encode())
        for first in range(0, rows, AT_ONCE):
            last = min(first + AT_ONCE, rows) - 1
            params = {"start": start, "step": step, "first": first, "last": last}
            connection.execute(FILL.encode(), params)
        connection.execute(b"VACUUM (ANALYZE) ai_logs")


@pytest.mark.parametrize("index", ["covering", "plain", "none"])
async def test_a_draw_costs_little_more_than_the_best_statement(logs: Logs, index: str) -> None:
    _index(logs, index)
    for by in ((), ("route",)):
        ours, theirs, round_trip = await _medians(logs, by)
        buffers, by_hand = await _buffers(logs, by), _buffers_by_hand(logs, by)
        name = "stratified" if by else "uniform"
        _say(
            f"{index:>8} index, {name:<10}: draw with its count {ours:7.1f} ms, best by hand "
            f"without {theirs:7.1f} ms, ratio {ours / theirs:.2f}; a round trip {round_trip:.2f} ms; "
            f"keys touch {buffers:,} buffers, by hand {by_hand:,}"
        )
        assert ours <= MOST_RATIO * theirs + MOST_ROUND_TRIPS * round_trip


async def test_draws_are_uniform_and_reproducible(logs: Logs) -> None:
    _index(logs, "covering")
    source = _source(logs)
    drawn: list[int] = []
    for seed in range(40):
        ids = await _ids(source, seed)
        assert ids == await _ids(source, seed)
        drawn += ids
    await source.close()
    first = logs.rows - logs.rows // WEEKS
    deciles = Counter((row_id - first) * 10 // (logs.rows // WEEKS) for row_id in drawn)
    expected = len(drawn) / 10
    chi_square = sum((deciles[decile] - expected) ** 2 / expected for decile in range(10))
    _say(f"chi-square of {len(drawn):,} ids over ten deciles: {chi_square:.1f} (99.9 %: 27.9)")
    assert set(deciles) == set(range(10))
    assert chi_square < 27.9


async def _medians(logs: Logs, by: Sequence[str]) -> tuple[float, float, float]:
    """Milliseconds of our draw, of the statements by hand and of SELECT 1, taken in turns."""
    source = _source(logs)
    await source.explain(WINDOW)  # both are connected and know the table
    ours, theirs, bare = [], [], []
    async with await psycopg.AsyncConnection.connect(logs.dsn) as connection:
        connection.prepare_threshold = None
        for seed in range(ROUNDS):
            ours.append(await _timed(lambda seed=seed: _draw(source, by, seed)))  # type: ignore[misc]
            theirs.append(await _timed(lambda seed=seed: _by_hand(connection, by, seed)))  # type: ignore[misc]
            async with connection.transaction():
                bare.append(await _timed(lambda: connection.execute(b"SELECT 1")))
    await source.close()
    return statistics.median(ours), statistics.median(theirs), statistics.median(bare)


async def _draw(source: PostgresLogs, by: Sequence[str], seed: int) -> None:
    """Count and draw, as a run does."""
    quota = dict(QUOTA) if by else {"": WANTED}
    frame = await source.frame(WINDOW, by=by, ahead=Ahead(seed=seed, rows=WANTED))
    rows = await source.draw(WINDOW, seed=seed, by=by, quota=quota, offset={})
    assert len(rows) == WANTED
    assert frame.total > WANTED


async def _by_hand(
    connection: psycopg.AsyncConnection[tuple[Any, ...]], by: Sequence[str], seed: int
) -> None:
    params = {"start": WINDOW.start, "end": WINDOW.end, "seed": seed}
    strata = {"routes": list(QUOTA), "quotas": list(QUOTA.values())}
    text = BY_HAND_STRATIFIED if by else BY_HAND
    async with connection.transaction():
        keys = await connection.execute(text.encode(), params | strata)
        ids = [row_id for (row_id,) in await keys.fetchall()]
    async with connection.transaction():
        rows = await (await connection.execute(BODIES.encode(), {"ids": ids})).fetchall()
    assert len(rows) == WANTED


async def _buffers(logs: Logs, by: Sequence[str]) -> int:
    """Pages that the statement for count and keys touches."""
    source = _source(logs)
    statement = counted_keys_statement(await source._described(), by)
    await source.close()
    bound = bound_ahead(WANTED, logs.rows // WEEKS)
    return _touched(logs, statement, {"bound": bound, "most": MOST_AHEAD * WANTED})


def _buffers_by_hand(logs: Logs, by: Sequence[str]) -> int:
    strata = {"routes": list(QUOTA), "quotas": list(QUOTA.values())}
    return _touched(logs, sql.SQL(BY_HAND_STRATIFIED if by else BY_HAND), strata if by else {})


def _touched(logs: Logs, statement: sql.Composable, params: Mapping[str, Any]) -> int:
    explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {}").format(statement)
    window = {"start": WINDOW.start, "end": WINDOW.end, "seed": seed_of(1)}
    with psycopg.connect(logs.dsn) as connection:
        found = connection.execute(explain, window | dict(params)).fetchone()
    plan: dict[str, Any] = found[0][0]["Plan"] if found else {}
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def _ids(source: PostgresLogs, seed: int) -> list[int]:
    rows = await source.draw(WINDOW, seed=seed, by=(), quota={"": WANTED}, offset={})
    return [int(row.source_id) for row in rows]


async def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    await asyncio.wait_for(work(), timeout=120)
    return (time.perf_counter() - started) * 1_000


def _source(logs: Logs) -> PostgresLogs:
    settings = LogSettings(table="ai_logs", segments={"route": "route"}, statement_timeout_s=120)
    return PostgresLogs(settings, dsn=logs.dsn)


def _index(logs: Logs, kind: str) -> None:
    logs.run("DROP INDEX IF EXISTS logs_time")
    if kind != "none":
        logs.run(COVERING if kind == "covering" else PLAIN, "VACUUM ai_logs")


def _say(text: str) -> None:
    print(f"\n  {text}", end="")
