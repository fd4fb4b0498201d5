"""A service that runs for years: memory, files, threads, tasks and connections stay as they were."""

import signal
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.clocks import write_clock
from tests.faults.rig import Rig, rig, weekly

RUNS = 50
WARM = 10
FIRST = datetime(2025, 1, 5, 6, 0, tzinfo=UTC)
WEEK = timedelta(weeks=1)
DELIVERED = "SELECT count(*) FROM switchwise.outbox WHERE delivered_at IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the process holds between two Runs."""

    rss_mb: float
    files: int
    threads: int
    tasks: int
    connections: int


@pytest.mark.slow
def test_fifty_runs_leave_the_service_as_ten_did(tmp_path: Path, database_url: str) -> None:
    with rig(
        tmp_path,
        database_url,
        n=8,
        judge=True,
        ttft_ms=5.0,
        logs_end_at=FIRST + (RUNS - 1) * WEEK,
        weeks=RUNS,
        rows=60,
    ) as made:
        weekly(made, FIRST + timedelta(minutes=1))
        service = made.serve()
        held = []
        for number in range(RUNS):
            run_slot(made, number)
            if number + 1 >= WARM and (number + 1) % 5 == 0:
                held.append(settled(made, service.pid))
                print(f"after {number + 1} runs: {held[-1]}")
        service.signal(signal.SIGTERM)
        assert made.finish(service, within_s=25) == 0
        assert made.statuses() == {"done": RUNS}
    begin, end = held[0], held[-1]
    print(f"serve: {begin.rss_mb:.0f} MB after {WARM} runs, {end.rss_mb:.0f} MB after {RUNS}")
    assert end.rss_mb == pytest.approx(begin.rss_mb, rel=0.10)
    assert grown(held, "files") <= 2  # a connection of a pool
    assert grown(held, "threads") <= 1
    assert grown(held, "tasks") <= 1
    assert grown(held, "connections") <= 1


def run_slot(made: Rig, number: int) -> None:
    assert made.clock_file is not None
    write_clock(made.clock_file, FIRST + number * WEEK + timedelta(minutes=1))
    made.until(lambda: made.value(DELIVERED) == number + 1, what=f"run {number + 1} is told")


def settled(made: Rig, pid: int) -> Held:
    """What is held once nothing happens: the least of some looks."""
    looks = []
    for _ in range(4):
        time.sleep(0.5)
        looks.append(look(made, pid))
    return Held(**{f.name: min(getattr(one, f.name) for one in looks) for f in fields(Held)})


def look(made: Rig, pid: int) -> Held:
    process = psutil.Process(pid)
    return Held(
        rss_mb=process.memory_info().rss / 1e6,
        files=process.num_fds(),
        threads=process.num_threads(),
        tasks=round(metric(made, "switchwise_tasks")),
        connections=int(
            made.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            )
        ),
    )


def metric(made: Rig, name: str) -> float:
    url = f"http://{made.plan['server']['bind']}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return next(f.samples[0].value for f in families if f.name == name)


def grown(held: Sequence[Held], name: str) -> int:
    """How many more there are at the end than at most in the first half."""
    counts = [getattr(one, name) for one in held]
    return int(counts[-1] - max(counts[: len(counts) // 2]))
