"""Crashes and replicas: one Run per slot, no settled call paid twice, whatever is killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.sandbox.world import Fault, FaultKind
from tests.faults.rig import CONCURRENCY, moments, note, rig, weekly

SUNDAY = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kills", "n", "seed"),
    [
        (3, 40, 1),
        *(pytest.param(10, 200, seed, marks=pytest.mark.slow) for seed in range(1, 21)),
    ],
)
def test_killed_again_and_again_a_run_completes_and_repeats_only_calls_in_flight(
    kills: int, n: int, seed: int, tmp_path: Path, database_url: str
) -> None:
    models = 4
    with rig(tmp_path, database_url, n=n, models=models) as made:
        process = made.run()
        for moment in moments(seed, count=kills, first=5, last=n * models - 10):
            made.until_received(moment, process)
            process.kill()
            process = made.resume()
        assert made.finish(process) == 0, made.errors_of(process)
        assert made.repeated_calls() <= kills * CONCURRENCY
        note(
            "2 kill -9",
            seed=seed,
            kills=kills,
            repeated=made.repeated_calls(),
            lost=made.lost_results(),
        )
        assert made.lost_results() == 0
        assert made.paid_twice() == 0
        assert made.statuses() == {"done": 1}
        assert made.value("SELECT count(*) FROM switchwise.benchmark_results") == 1
        assert len(made.messages()) == 1


def test_sigterm_ends_a_run_soon_and_resuming_repeats_nothing(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, ttft_ms=300) as made:
        process = made.run()
        made.until_received(20, process)
        process.signal(signal.SIGTERM)
        assert made.finish(process, within_s=25) == 4
        assert "--resume" in made.errors_of(process)
        made.finish(process := made.resume())
        assert process.poll() == 0
        assert made.repeated_calls() == 0
        assert made.lost_results() == 0


def test_a_run_that_is_restarted_three_times_in_vain_fails_with_one_message(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=10) as made:
        hang = (Fault(kind=FaultKind.HANG),)
        made.change_world(lambda world: replace(world, faults=hang))
        process = made.run()
        for _ in range(4):
            made.until_received(made.received() + 1, process)
            process.kill()
            process = made.resume()
        assert made.finish(process) == 1
        assert made.statuses() == {"failed": 1}
        assert made.value("SELECT error_code FROM switchwise.runs") == "RunStuck"
        assert made.received() <= 4 * CONCURRENCY
        assert len(made.messages()) == 1


@pytest.mark.slow
def test_an_owner_frozen_past_its_lease_writes_nothing_after_it_was_replaced(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=40, ttft_ms=100.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY)
        services = [made.serve(), made.serve()]
        made.until(lambda: made.received() >= 30, what="calls")
        owner = made.value("SELECT owner FROM switchwise.runs")
        frozen = next(one for one in services if f"/{one.pid}." in owner)
        frozen.signal(signal.SIGSTOP)
        took_s = made.until(
            lambda: made.value("SELECT owner FROM switchwise.runs") != owner, what="a takeover"
        )
        frozen.signal(signal.SIGCONT)
        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        assert made.value("SELECT owner FROM switchwise.runs") != owner
        for service in services:
            service.signal(signal.SIGTERM)
            assert made.finish(service, within_s=25) == 0
        behind = made.value(
            "SELECT count(*) FROM switchwise.attempts a JOIN switchwise.shards s"
            " USING (run_id, shard_no) WHERE a.state = 'sent'"
        )
        assert behind == 0
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.paid_twice() == 0
        assert len(made.messages()) == 1
        note("5 SIGSTOP", takeover_s=round(took_s, 1), repeated=made.repeated_calls())


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs unshare as root"
)
def test_as_pid_1_sigterm_stops_calls_within_a_second_and_the_process_within_25(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=40, ttft_ms=2000.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY)
        outer = made.serve_as_pid_1()
        try:
            made.until(lambda: made.received() >= 12, what="calls")
            inner = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])
            os.kill(inner, signal.SIGTERM)
            began = time.monotonic()
            asked_at = time.time()
            assert outer.wait(25) == 0
            took_s = time.monotonic() - began
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                outer.kill()
                outer.wait(5)
        late = [call for call in made.calls() if call["received_at"] > asked_at + 1]
        assert late == []
        made.plan.pop("schedule")
        process = made.resume()
        assert made.finish(process) == 0, made.errors_of(process)
        assert made.repeated_calls() == 0
        note("3 SIGTERM as PID 1", exit_s=round(took_s, 1), repeated=0)
