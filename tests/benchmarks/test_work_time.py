"""Work time beside the ideal, scale-out over workers, and memory; gateway and Postgres apart."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.sandbox.world import World
from app.sandbox.worlds import named_world
from tests.faults.rig import Rig, rig, slower, weekly
from tests.fixtures.postgres import new_database

SUNDAY = datetime(2026, 3, 1, 6, 1, tzinfo=UTC)
MEDIAN_MS, SIGMA = 800.0, 0.5


def work_time_s(calls: Sequence[dict[str, Any]]) -> float:
    """First request to last reply."""
    began = min(call["received_at"] for call in calls)
    return float(max(call["received_at"] + call["duration_s"] for call in calls) - began)


def ideal_s(calls: Sequence[dict[str, Any]], concurrency: int) -> float:
    """Summed latency of the calls that were answered, over the slots."""
    return float(sum(call["duration_s"] for call in calls if call["is_paid"]) / concurrency)


def worked(folder: Path, dsn: str, world: World, concurrency: int, *, n: int = 200) -> Rig:
    with rig(folder, dsn, world=world, n=n, judge=True) as made:
        made.plan["gateway"]["concurrency"] = concurrency
        process = made.run()
        assert made.finish(process, within_s=600) == 0, made.errors_of(process)
        assert made.lost_results() == 0
        return made


@pytest.mark.slow
def test_work_takes_at_most_six_percent_longer_than_the_ideal(
    tmp_path: Path, database_url: str
) -> None:
    world = slower(named_world("calm"), ttft_ms=MEDIAN_MS, sigma=SIGMA)
    calls = worked(tmp_path, database_url, world, 32).calls()
    ratio = work_time_s(calls) / ideal_s(calls, 32)
    print(f"work time: {ratio:.3f} of the ideal, {len(calls)} calls")
    assert ratio <= 1.06


@pytest.mark.slow
def test_five_percent_transient_errors_cost_at_most_a_fifth_and_no_row(
    tmp_path: Path, database_url: str
) -> None:
    world = slower(named_world("flaky"), ttft_ms=MEDIAN_MS, sigma=SIGMA)
    calls = worked(tmp_path, database_url, world, 32).calls()
    ratio = work_time_s(calls) / ideal_s(calls, 32)
    failed = sum(call["status"] != 200 for call in calls) / len(calls)
    print(f"work time with {failed:.1%} errors: {ratio:.3f} of the ideal, {len(calls)} calls")
    assert 0.03 < failed < 0.08
    assert ratio <= 1.2


@pytest.mark.slow
def test_two_workers_are_nearly_twice_as_fast_and_four_more_than_three_times(
    tmp_path: Path, pg_server: str, template_database: str
) -> None:
    took: dict[int, float] = {}
    for workers in (1, 2, 4):
        folder = tmp_path / str(workers)
        folder.mkdir()
        world = slower(named_world("calm"), ttft_ms=MEDIAN_MS, sigma=SIGMA)
        with (
            new_database(pg_server, template=template_database) as url,
            rig(folder, url, world=world, n=200, judge=True, logs_end_at=SUNDAY) as made,
        ):
            weekly(made, SUNDAY)
            made.plan["name"] = f"scale-{workers}"
            made.plan["gateway"]["concurrency"] = 64
            team = [made.worker("--concurrency", "16") for _ in range(workers)]
            time.sleep(8)  # all have joined; who starts later would not be measured fairly
            service = made.start("serve", "--concurrency", "0")
            made.until(lambda: made.status() == "done", within_s=400, what="the run is done")
            for process in (service, *team):
                process.kill()
            took[workers] = work_time_s(made.calls())
    print(f"scale-out: {took[1] / took[2]:.2f} on 2 workers, {took[1] / took[4]:.2f} on 4")
    assert took[1] / took[2] >= 1.8
    assert took[1] / took[4] >= 3.2


@pytest.mark.slow
def test_sixteen_thousand_calls_take_at_most_250_mb_and_memory_stays_flat(
    tmp_path: Path, database_url: str
) -> None:
    world = replace(named_world("calm"), name="many")
    with rig(tmp_path, database_url, world=world, n=2300, judge=True, rows=3400) as made:
        made.plan["gateway"]["concurrency"] = 32
        process = made.start_afresh("run", "--json")
        sizes = rss_mb_of(process, made)
        assert process.wait(30) == 0
        received = made.received()
    at_a_quarter, peak = sizes[len(sizes) // 4], max(sizes)
    print(f"memory: {at_a_quarter:.0f} MB at a quarter, {peak:.0f} MB at most, {received} calls")
    assert received >= 16_000
    assert peak <= 250
    assert peak <= 1.35 * at_a_quarter


def rss_mb_of(process: subprocess.Popen[bytes], made: Rig) -> list[float]:
    """Resident memory over the life of the process, from its first call on."""
    watched = psutil.Process(process.pid)
    sizes: list[float] = []
    while process.poll() is None:
        if sizes or made.received():
            sizes.append(watched.memory_info().rss / 1e6)
        time.sleep(0.25)
    return sizes
