"""A rate of calls that processes keep together."""

from itertools import pairwise
from pathlib import Path

from tests.faults.rig import Rig, note, rig

RATE_PER_S = 10
SPACING_S = 1 / RATE_PER_S


def test_two_processes_keep_to_the_rate_of_one_endpoint(tmp_path: Path, database_url: str) -> None:
    with rig(tmp_path, database_url, n=15, models=2, ttft_ms=20.0) as made:
        made.plan["gateway"]["rate_per_min"] = 60 * RATE_PER_S
        first = made.run()
        made.plan["name"] = "another"
        second = made.run()
        for process in (first, second):
            assert made.finish(process) == 0, made.errors_of(process)
        arrivals = sorted(call["received_at"] for call in made.calls())
        apart = interleaved(made)
        assert len(arrivals) >= 50
        assert arrivals[-1] - arrivals[0] >= 0.85 * SPACING_S * (len(arrivals) - 1)
        # A machine that pauses a process lets calls arrive bunched; without a rate all 60 would.
        assert most_within(2.0, arrivals) <= 1.75 * 2.0 * RATE_PER_S
        assert apart >= 3  # one of them begins alone
        note(
            "rate of 600 a minute, two processes",
            calls=len(arrivals),
            seconds=round(arrivals[-1] - arrivals[0], 1),
            most_in_2_s=most_within(2.0, arrivals),
        )


def most_within(window_s: float, arrivals: list[float]) -> int:
    """The most calls that arrived within any such window."""
    return max(
        sum(start <= other < start + window_s for other in arrivals[at:])
        for at, start in enumerate(arrivals)
    )


def interleaved(made: Rig) -> int:
    """How often a call of one plan followed one of the other."""
    plans = made.query("SELECT plan_name FROM switchwise.attempts ORDER BY sent_at")
    names = [row["plan_name"] for row in plans]
    return sum(one != other for one, other in pairwise(names))
