"""/healthz: a lease that is held here and not renewed makes the service unwell, another's does not."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.cli.service import _alive
from app.daemon.service import Health
from app.pipeline import LEASE_S
from app.storage.engine import Database
from app.storage.result_store import PostgresResults
from tests.fakes.clocks import HandClock
from tests.fakes.work import begin_run

TICK_S = 30.0


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.mark.parametrize(
    ("owner", "age_s", "is_well"),
    [("us", 1.0, True), ("us", LEASE_S + 1, False), ("they", LEASE_S + 1, True)],
)
async def test_only_a_lease_held_here_must_be_renewed(
    owner: str, age_s: float, is_well: bool, database: Database
) -> None:
    clock = HandClock()
    runs = PostgresResults(database, clock.now)
    begun = await begin_run(runs, n=1)
    run_id = begun.run.run_id
    held_by = await runs.holder(run_id)
    assert held_by is not None
    renewed_at = clock.now() - timedelta(seconds=age_s)
    assert await runs.renew(run_id, owner=held_by, now=renewed_at, lease_s=LEASE_S)
    here = held_by if owner == "us" else "somebody else"
    check = _alive(Health(ticked_at=clock.monotonic()), database, clock, here, TICK_S)
    answer, facts = await check()
    assert answer is is_well
    assert facts["lease_age_seconds"] == {begun.run.plan_name: pytest.approx(age_s, abs=0.1)}


@pytest.mark.parametrize(("ago_s", "is_well"), [(1.0, True), (91.0, False)])
async def test_ticks_that_do_not_reach_the_database_make_it_unwell(
    ago_s: float, is_well: bool, database: Database
) -> None:
    clock = HandClock()
    health = Health(ticked_at=clock.monotonic() - ago_s)
    answer, _ = await _alive(health, database, clock, "us", TICK_S)()
    assert answer is is_well


async def test_a_loop_that_is_late_makes_it_unwell(database: Database) -> None:
    clock = HandClock()
    health = Health(ticked_at=clock.monotonic())
    health.lags_s.append(11.0)
    answer, facts = await _alive(health, database, clock, "us", TICK_S)()
    assert not answer
    assert facts["loop_lag_seconds"] == 11.0
