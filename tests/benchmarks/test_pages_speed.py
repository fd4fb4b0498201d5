"""Five years of weekly Runs: every page answers at once and reads through an index."""

import re
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import event

from app.storage.page_queries import PostgresPages
from app.web.application import create_app
from app.wiring import open_pages
from tests.fixtures import postgres
from tests.fixtures.stored_history import StoredHistory

MEDIAN_WITHIN_S = 0.3
MOST_STATEMENTS = 30
ROUNDS = 9
LARGE = frozenset({"attempts", "scores", "cases"})
FIVE_YEARS = StoredHistory(
    weeks=260,
    models=("prime", *(f"candidate-{number}" for number in range(1, 8))),
    cases=200,
    changed_at=(100, 250),
)


def addresses(history: StoredHistory) -> tuple[str, ...]:
    run = f"/runs/{history.run_ids[-1]}"
    return (
        *("/", "/trends", "/trends?weeks=104", "/cases", "/runs"),
        *(run, f"{run}/cases?page=2", f"{run}/cases?evaluator=judge&segment=route%3Dcode"),
        *(
            f"{run}/explain",
            f"/cases/{history.case_id(0)}",
            f"/cases/{history.case_id(1)}?diff=words",
        ),
    )


class Statements:
    """Every statement the pages send, with its parameters."""

    def __init__(self, pages: PostgresPages) -> None:
        self.sent: list[tuple[str, Any]] = []
        event.listen(pages._database._engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        self.sent.append((statement, parameters))


@asynccontextmanager
async def visitor(dsn: str) -> AsyncIterator[tuple[httpx.AsyncClient, Statements]]:
    async with open_pages(dsn) as pages:
        app = create_app(
            pages,
            plans=(),
            token=None,
            now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
            next_slot=lambda _plan: None,
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client, Statements(pages)


async def plans_of(dsn: str, history: StoredHistory, *, may_scan: bool) -> dict[str, str]:
    """The query plan of every statement of every page."""
    async with visitor(dsn) as (client, statements):
        for address in addresses(history):
            assert (await client.get(address)).status_code == 200
    with psycopg.connect(dsn) as connection:
        if not may_scan:
            connection.execute("SET enable_seqscan = off")
        return {
            statement: "\n".join(
                line[0] for line in connection.execute(b"EXPLAIN " + statement.encode(), parameters)
            )
            for statement, parameters in statements.sent
            if statement.lstrip().upper().startswith(("SELECT", "WITH"))
            and "switchwise" in statement
        }


def scanned(plan: str) -> set[str]:
    """Large tables that a query plan reads from end to end."""
    return set(re.findall(r"Seq Scan on (\w+)", plan)) & LARGE


async def test_every_read_of_a_large_table_has_an_index_to_go_by(database_url: str) -> None:
    history = StoredHistory(weeks=3)
    history.store(database_url)
    plans = await plans_of(database_url, history, may_scan=False)
    assert len(plans) >= 15
    assert {statement: plan for statement, plan in plans.items() if scanned(plan)} == {}


@pytest.fixture(scope="module")
def five_years(pg_server: str, template_database: str) -> Iterator[str]:
    with postgres.new_database(pg_server, template=template_database) as dsn:
        FIVE_YEARS.store(dsn)
        yield dsn


@pytest.mark.slow
async def test_over_five_years_no_page_reads_a_large_table_from_end_to_end(five_years: str) -> None:
    plans = await plans_of(five_years, FIVE_YEARS, may_scan=True)
    assert {statement: plan for statement, plan in plans.items() if scanned(plan)} == {}


@pytest.mark.slow
async def test_over_five_years_every_page_answers_at_once(five_years: str) -> None:
    slow: dict[str, float] = {}
    async with visitor(five_years) as (client, statements):
        for address in addresses(FIVE_YEARS):
            taken = []
            for _ in range(ROUNDS):
                statements.sent.clear()
                start = time.perf_counter()
                response = await client.get(address)
                taken.append(time.perf_counter() - start)
                assert response.status_code == 200
                assert len(statements.sent) < MOST_STATEMENTS
            median = statistics.median(taken)
            print(
                f"{median * 1000:5.0f} ms (first {taken[0] * 1000:.0f}), "
                f"{len(statements.sent)} statements, {len(response.content) // 1024} kB  {address}"
            )
            if median >= MEDIAN_WITHIN_S:
                slow[address] = median
    assert slow == {}
