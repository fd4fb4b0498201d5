"""The queue of shards on a real Postgres."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest

from app.domain.errors import StorageUnavailable
from app.settings import Settings
from app.storage.migrations import upgrade
from app.storage.postgres_server import PostgresServer
from app.wiring import open_storage, shared_work
from app.workers.queue import ShardJob, ShardQueue, TryAgain
from app.workers.shares import Place
from tests.fakes.broken_lines import frozen
from tests.fakes.clocks import HandClock
from tests.fakes.small_plans import plan as small_plan

QUEUE = "plan"
JOB = ShardJob(run_id="5f0c5a5e-4f1e-4c55-9a52-1f2f6d1e0a01", shard_no=3, holder="me")


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[ShardQueue]:
    queue = ShardQueue(database_url)
    await queue.open()
    yield queue
    await queue.close()


async def test_work_that_asks_for_another_time_is_done_again_and_does_not_count_as_failed(
    queue: ShardQueue,
) -> None:
    states: list[str] = []

    async def work(_job: ShardJob) -> None:
        states.append((await queue.states(QUEUE, JOB.run_id))[3])
        if len(states) == 1:
            raise TryAgain(0.0)
        queue.stop_worker()

    await queue.put(QUEUE, [JOB])
    async with asyncio.timeout(30):
        await queue.run_worker([QUEUE], work, at_once=1)
    assert states == ["doing", "doing"]
    assert await queue.states(QUEUE, JOB.run_id) == {}


async def test_work_that_is_put_off_waits_its_time(queue: ShardQueue) -> None:
    async def work(_job: ShardJob) -> None:
        queue.stop_worker()
        raise TryAgain(7200.0)

    await queue.put(QUEUE, [JOB])
    async with asyncio.timeout(30):
        await queue.run_worker([QUEUE], work, at_once=1)
    assert await queue.states(QUEUE, JOB.run_id) == {3: "todo"}
    await queue.put(QUEUE, [JOB])
    again = asyncio.create_task(queue.run_worker([QUEUE], work, at_once=1))
    await asyncio.sleep(0.3)
    queue.stop_worker()
    await again
    assert await queue.states(QUEUE, JOB.run_id) == {3: "todo"}


async def test_work_that_cannot_be_done_is_failed(queue: ShardQueue) -> None:
    async def work(_job: ShardJob) -> None:
        queue.stop_worker()
        raise RuntimeError("no")

    await queue.put(QUEUE, [JOB])
    async with asyncio.timeout(30):
        await queue.run_worker([QUEUE], work, at_once=1)
    assert await queue.states(QUEUE, JOB.run_id) == {3: "failed"}


async def test_jobs_of_a_queue_that_may_not_be_worked_stay_until_it_may(queue: ShardQueue) -> None:
    worked: list[ShardJob] = []
    asked = asyncio.Event()

    async def work(job: ShardJob) -> None:
        worked.append(job)
        queue.stop_worker()

    def may_work(_name: str) -> bool:
        is_asked_again = asked.is_set()
        asked.set()
        return is_asked_again

    await queue.put(QUEUE, [JOB])
    async with asyncio.timeout(30):
        working = asyncio.create_task(queue.run_worker([QUEUE], work, at_once=1, may_work=may_work))
        await asked.wait()
        assert await queue.states(QUEUE, JOB.run_id) == {3: "todo"}
        await working
    assert worked == [JOB]


# --- lines that break ---------------------------------------------------------------------------


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.workers.queue._ANSWER_WITHIN_S", 0.5)


async def pids_of(dsn: str, statement: str) -> list[int]:
    """The server processes whose latest statement begins so, once there are any."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND starts_with(lower(query), lower(%s)) ORDER BY pid"
    )
    async with (
        asyncio.timeout(10),
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watcher,
    ):
        while not (found := await (await watcher.execute(query, (statement,))).fetchall()):
            await watcher.execute("SELECT pg_sleep(0.01)")
    return [pid for (pid,) in found]


@pytest.mark.usefixtures("little_patience")
async def test_a_queue_whose_backend_freezes_is_away_and_answers_again_over_another_line(
    queue: ShardQueue, database_url: str
) -> None:
    async with asyncio.timeout(20):
        async with held_jobs(database_url):
            asking = asyncio.create_task(queue.states(QUEUE, JOB.run_id))
            (pid,) = await pids_of(database_url, "SELECT DISTINCT ON")
            began = time.monotonic()
            with frozen(pid), pytest.raises(StorageUnavailable):
                await asking
            assert time.monotonic() - began < 5.0
        await queue.put(QUEUE, [JOB])
        assert await queue.states(QUEUE, JOB.run_id) == {3: "todo"}


@asynccontextmanager
async def held_jobs(dsn: str) -> AsyncIterator[None]:
    """Nobody reads a job meanwhile."""
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute("LOCK TABLE switchwise_queue.procrastinate_jobs")
        yield


@pytest.mark.usefixtures("little_patience")
async def test_a_backend_that_froze_in_the_pool_is_replaced(queue: ShardQueue) -> None:
    async with asyncio.timeout(20):
        ((pid,),) = [tuple(row.values()) for row in await queue._rows("SELECT pg_backend_pid()")]
        with frozen(pid):
            assert await queue.states(QUEUE, JOB.run_id) == {}


@pytest.mark.usefixtures("little_patience")
async def test_a_worker_listens_for_jobs_as_long_as_none_comes(
    queue: ShardQueue, database_url: str
) -> None:
    async def work(_job: ShardJob) -> None:
        queue.stop_worker()

    async with asyncio.timeout(30):
        working = asyncio.create_task(queue.run_worker([QUEUE], work, at_once=1))
        before = await pids_of(database_url, "LISTEN")
        await asyncio.sleep(1.2)
        assert await pids_of(database_url, "LISTEN") == before
        await queue.put(QUEUE, [JOB])
        await working


async def test_workers_are_counted_where_they_work_and_not_elsewhere(database_url: str) -> None:
    queues = [ShardQueue(database_url, worker=name) for name in ("b", "a", "c")]
    first, second, elsewhere = queues
    for queue in queues:
        await queue.open()
    try:
        await first.places(["plan", "endpoint"])
        await elsewhere.places(["other plan", "endpoint"])
        assert await second.places(["plan", "endpoint"]) == {
            "plan": Place(place=1, workers=2),
            "endpoint": Place(place=2, workers=3),
        }
        await first.leave()
        assert await second.places(["plan", "endpoint"]) == {
            "plan": Place(place=0, workers=1),
            "endpoint": Place(place=1, workers=2),
        }
    finally:
        for queue in queues:
            await queue.close()


@pytest.mark.parametrize(("is_holder", "slots"), [(True, 1), (False, 0)])
async def test_who_holds_runs_can_always_make_one_call_though_it_leaves_shards_to_others(
    database_url: str, is_holder: bool, slots: int
) -> None:
    plan, settings = small_plan("a"), Settings()
    endpoint = plan.primary.endpoint
    async with (
        open_storage(database_url, HandClock(), [plan]) as storage,
        shared_work(
            [plan], storage, settings, owner="us", most_calls=0, is_holder=is_holder
        ) as work,
    ):
        assert work.pools.pool(endpoint.key, endpoint).size == slots


async def test_silence_after_an_outage_is_no_death(
    queue: ShardQueue, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.put(QUEUE, [JOB])
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET search_path TO switchwise_queue")
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing'")
        assert [one.shard_no for one in await queue.stalled(QUEUE)] == [3]
        with pytest.raises(StorageUnavailable):
            await queue._rows("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await queue.stalled(QUEUE) == []
    monkeypatch.setattr("app.workers.queue.STALLED_S", 0.0)
    assert [one.shard_no for one in await queue.stalled(QUEUE)] == [3]


@pytest.mark.slow
async def test_the_queue_is_back_soon_after_a_long_outage(
    own_postgres: Callable[[], PostgresServer],
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    queue = ShardQueue(server.dsn)
    await queue.open()
    server.stop("immediate")
    with pytest.raises(StorageUnavailable):
        await queue.states(QUEUE, JOB.run_id)
    await asyncio.sleep(7.0)  # pauses that double would next end 13 s later
    server.start()
    async with asyncio.timeout(9.0):
        while True:
            try:
                assert await queue.states(QUEUE, JOB.run_id) == {}
                break
            except StorageUnavailable:
                await asyncio.sleep(0.2)
    await queue.close()
