"""Pruning while some of what is too old cannot be touched."""

from datetime import timedelta

import psycopg
import pytest

from app.clocks import SystemClock
from app.domain.errors import StorageUnavailable
from app.domain.plans import Retention
from app.domain.runs import Run
from app.storage.engine import Database
from app.storage.result_store import PostgresResults
from app.storage.retention import prune
from tests.fakes.work import begin_run, ending, weekly_plan

LONG_AGO = Retention(bodies=timedelta(days=1))


async def ended_run(runs: PostgresResults, plan_name: str, week: int) -> Run:
    begun = await begin_run(runs, plan=weekly_plan(plan_name), week=week)
    await runs.finish(ending(begun.run))
    return begun.run


async def test_a_run_that_cannot_be_pruned_keeps_no_other_run_and_no_other_plan_from_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.engine.LOCK_WITHIN_S", 0.1)
    database = Database(database_url, pool_size=1)
    try:
        runs = PostgresResults(database, SystemClock().now)
        held = await ended_run(runs, "first", 0)
        others = [await ended_run(runs, "first", 1), await ended_run(runs, "second", 0)]
        plans = {"first": LONG_AGO, "second": LONG_AGO}
        async with await psycopg.AsyncConnection.connect(database_url) as holder:
            await holder.execute(
                "SELECT * FROM switchwise.cases WHERE run_id = %s FOR UPDATE", (held.run_id,)
            )
            now = held.created_at + timedelta(days=60)
            with pytest.raises(StorageUnavailable, match=r"1 of its steps.*a lock is held"):
                await prune(database, plans, now=now)
        assert [await bodies_of(runs, run) for run in (held, *others)] == [4, 0, 0]
        assert [one.bodies for one in await prune(database, plans, now=now)] == [4, 0]
    finally:
        await database.close()


async def bodies_of(runs: PostgresResults, run: Run) -> int:
    """How many prompts of the Run are kept."""
    sample = await runs.sample(run.run_id)
    assert sample is not None
    return len(sample.cases)
