"""Year after year on one database: every slot is run once, told once and paid once."""

import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.clocks import write_clock
from tests.faults.rig import Rig, note, rig, weekly

FIRST = datetime(2025, 1, 5, 6, 0, tzinfo=UTC)
WEEK = timedelta(weeks=1)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("slots", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_two_services_and_two_workers_run_every_slot_once(
    slots: int, tmp_path: Path, database_url: str
) -> None:
    with rig(
        tmp_path,
        database_url,
        n=6,
        models=2,
        ttft_ms=5.0,
        logs_end_at=FIRST + (slots - 1) * WEEK,
        weeks=slots,
        rows=40,
    ) as made:
        weekly(made, FIRST + MINUTE)
        processes = [made.serve(), made.serve(), made.worker(), made.worker()]
        took_s = run_slots(made, slots)
        for process in processes:
            process.signal(signal.SIGTERM)
        for process in processes:
            assert made.finish(process, within_s=25) == 0, made.errors_of(process)
        assert made.statuses() == {"done": slots}
        assert made.received() == made.planned_calls() == planned(made)
        assert made.lost_results() == 0
        assert made.value("SELECT count(*) FROM switchwise.benchmark_results") == slots
        told = Counter(row["run_id"] for row in made.query(TOLD))
        assert sorted(told.values()) == [1] * slots
        assert len(made.messages()) == slots
        note("4 two services, two workers", slots=slots, calls=made.received(), s=round(took_s))


def run_slots(made: Rig, slots: int) -> float:
    """Move the clock from slot to slot, each once the Run before it was told; seconds it took."""
    assert made.clock_file is not None
    took_s = 0.0
    for number in range(slots):
        write_clock(made.clock_file, FIRST + number * WEEK + MINUTE)
        took_s += made.until(
            lambda number=number: made.value(DELIVERED) == number + 1,  # type: ignore[misc]
            what=f"slot {number + 1} of {slots} is run and told",
        )
    return took_s


DELIVERED = "SELECT count(*) FROM switchwise.outbox WHERE delivered_at IS NOT NULL"
TOLD = "SELECT alert->>'run_id' AS run_id FROM switchwise.outbox"


def planned(made: Rig) -> int:
    """A call for every Case and model of every Run."""
    return 2 * int(made.value("SELECT sum(cases_sampled) FROM switchwise.runs"))
