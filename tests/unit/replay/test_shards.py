import asyncio
from datetime import timedelta

import pytest

from app.domain.errors import RunInterrupted, ShardDeferred, StorageUnavailable
from app.domain.runs import Shard
from app.replay.shards import CASES_PER_SHARD, cut_shards, shards_at_once, work_in_process
from tests.fakes.clocks import HandClock
from tests.fakes.small_plans import sample


def shards(count: int) -> list[Shard]:
    return [
        Shard(run_id="r", shard_no=no, block=0, models=("p", "a"), case_ids=(f"c{no}",))
        for no in range(count)
    ]


def test_every_case_is_in_one_shard_with_all_models() -> None:
    cases = sample(13).cases
    cut = cut_shards("r", cases, block=2, models=("p", "a"), first_no=7)
    assert [shard.shard_no for shard in cut] == [7, 8, 9]
    assert [one for shard in cut for one in shard.case_ids] == [case.case_id for case in cases]
    assert all(shard.models == ("p", "a") and shard.block == 2 for shard in cut)
    assert max(len(shard.case_ids) for shard in cut) == CASES_PER_SHARD


def test_as_many_shards_are_open_as_keep_every_slot_busy() -> None:
    some = cut_shards("r", sample(40).cases, block=0, models=("p", "a", "b", "c"), first_no=0)
    assert shards_at_once(some, slots=8) * CASES_PER_SHARD * 4 >= 3 * 8
    assert shards_at_once(some, slots=64) * CASES_PER_SHARD * 4 >= 3 * 64


async def test_each_shard_is_worked_once() -> None:
    done: list[int] = []

    async def work(shard: Shard) -> None:
        await asyncio.sleep(0)
        done.append(shard.shard_no)

    clock = HandClock()
    await work_in_process(shards(9), work, at_once=3, pause=clock.sleep, clock=clock)
    assert sorted(done) == list(range(9))


async def test_a_deferred_shard_comes_back_when_it_is_due_and_holds_up_no_other() -> None:
    clock, done = HandClock(), list[tuple[int, float]]()

    async def work(shard: Shard) -> None:
        if shard.shard_no == 0 and clock.monotonic() < 7200:
            raise ShardDeferred("wait", until=clock.now() + timedelta(hours=2))
        done.append((shard.shard_no, clock.monotonic()))

    await work_in_process(shards(3), work, at_once=1, pause=clock.sleep, clock=clock)
    assert [no for no, _ in done] == [1, 2, 0]
    assert done[-1][1] == pytest.approx(7200)


async def test_a_clock_set_back_delays_nothing() -> None:
    clock, done = HandClock(), list[int]()

    async def work(shard: Shard) -> None:
        clock._now -= timedelta(hours=2)
        done.append(shard.shard_no)

    await work_in_process(shards(3), work, at_once=1, pause=clock.sleep, clock=clock)
    assert clock.monotonic() == 0
    assert done == [0, 1, 2]


async def test_a_shard_that_the_database_failed_comes_back() -> None:
    clock, tried = HandClock(), list[int]()

    async def work(shard: Shard) -> None:
        tried.append(shard.shard_no)
        if len(tried) == 1:
            raise StorageUnavailable("away")

    await work_in_process(shards(1), work, at_once=1, pause=clock.sleep, clock=clock)
    assert tried == [0, 0]


async def test_after_an_error_no_shard_is_begun_and_those_begun_end() -> None:
    clock, ended = HandClock(), list[int]()
    gate = asyncio.Event()

    async def work(shard: Shard) -> None:
        if shard.shard_no == 0:
            await gate.wait()
            raise RuntimeError("broken")
        gate.set()
        await asyncio.sleep(0)
        ended.append(shard.shard_no)

    with pytest.raises(RuntimeError, match="broken"):
        await work_in_process(shards(6), work, at_once=2, pause=clock.sleep, clock=clock)
    assert ended == [1]


async def test_waiting_for_a_deferred_shard_ends_when_the_run_is_stopped() -> None:
    clock = HandClock()

    async def work(_shard: Shard) -> None:
        raise ShardDeferred("wait", until=clock.now() + timedelta(hours=2))

    async def stopped(_seconds: float) -> None:
        raise RunInterrupted("asked to stop")

    with pytest.raises(RunInterrupted):
        await work_in_process(shards(2), work, at_once=2, pause=stopped, clock=clock)
