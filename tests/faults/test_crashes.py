"""Crashes and replicas: one Run per slot, no settled call paid twice, whatever is killed."""

import signal
from pathlib import Path

import pytest

from tests.faults.rig import CONCURRENCY, moments, rig


@pytest.mark.parametrize("seed", [1])
def test_killed_again_and_again_a_run_completes_and_repeats_only_calls_in_flight(
    seed: int, tmp_path: Path, database_url: str
) -> None:
    kills, n, models = 3, 40, 4
    with rig(tmp_path, database_url, n=n, models=models) as made:
        process = made.run()
        for moment in moments(seed, count=kills, first=5, last=n * models - 10):
            made.until_received(moment, process)
            process.kill()
            process = made.resume()
        assert made.finish(process) == 0, made.errors_of(process)
        assert made.repeated_calls() <= kills * CONCURRENCY
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
