"""The service: slots, overlaps, missed weeks and replicas, with a clock that the tests move."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.clocks import write_clock
from tests.faults.rig import CONCURRENCY, Rig, rig, weekly

SUNDAY = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
WEEK = timedelta(weeks=1)
MINUTE = timedelta(minutes=1)


def move(made: Rig, at: datetime) -> None:
    assert made.clock_file is not None
    write_clock(made.clock_file, at)


DELIVERED = "SELECT count(*) FROM switchwise.outbox WHERE delivered_at IS NOT NULL"


def titles(made: Rig) -> list[str]:
    return [str(message["arguments"].get("text")) for message in made.messages()]


@pytest.mark.slow
def test_two_services_make_one_run_of_a_slot_and_share_its_messages(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=20, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY + MINUTE)
        first, second = made.serve(), made.serve()
        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        made.until(lambda: len(made.messages()) == 1, what="its message")
        for service in (first, second):
            service.signal(signal.SIGTERM)
            assert made.finish(service, within_s=25) == 0
        assert made.repeated_calls() == 0
        assert made.lost_results() == 0
        assert len(made.messages()) == 1
        assert made.statuses() == {"done": 1}


def test_a_killed_service_is_replaced_within_half_a_minute_and_pays_nothing_twice(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=30, ttft_ms=100.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY + MINUTE)
        first, second = made.serve(), made.serve()
        made.until(lambda: made.received() >= 20, what="20 calls")
        holder = made.value("SELECT owner FROM switchwise.runs")
        killed, other = (first, second) if f"/{first.pid}." in holder else (second, first)
        killed.kill()
        before = made.received()
        took_s = made.until(lambda: made.received() > before + CONCURRENCY, what="a takeover")
        assert took_s < 30
        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        other.signal(signal.SIGTERM)
        made.finish(other, within_s=25)
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert len(made.messages()) == 1


def test_a_run_that_overlaps_the_next_slot_makes_it_skipped_with_a_message(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=12, ttft_ms=800.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY + MINUTE)
        service = made.serve()
        made.until(lambda: made.received() >= 5, what="calls")
        move(made, SUNDAY + WEEK + MINUTE)
        made.until(lambda: made.statuses()["skipped"] == 1, what="the later slot is skipped")
        assert made.statuses()["running"] == 1
        made.until(lambda: made.statuses() == {"done": 1, "skipped": 1}, what="the run is done")
        made.until(lambda: len(made.messages()) == 2, what="both messages")
        service.signal(signal.SIGTERM)
        assert made.finish(service, within_s=25) == 0
        assert any("Skipped" in title for title in titles(made))
        assert made.repeated_calls() == 0
        negative = made.value("SELECT count(*) FROM switchwise.attempts WHERE latency_seconds < 0")
        assert negative == 0


def test_slots_that_passed_while_nothing_ran_are_missed_and_the_last_one_is_caught_up(
    tmp_path: Path, database_url: str
) -> None:
    now = SUNDAY + 3 * WEEK + timedelta(hours=2)
    with rig(tmp_path, database_url, n=10, ttft_ms=5.0, logs_end_at=now, weeks=4) as made:
        weekly(made, SUNDAY + MINUTE)
        service = made.serve()
        made.until(lambda: made.statuses() == {"done": 1}, what="the first run")
        made.until(lambda: made.value(DELIVERED) == 1, what="its message, known to be delivered")
        service.kill()
        move(made, now)
        service = made.serve()
        made.until(lambda: made.statuses() == {"done": 2, "missed": 2}, what="one catch-up")
        made.until(lambda: len(made.messages()) == 3, what="their messages")
        service.signal(signal.SIGTERM)
        assert made.finish(service, within_s=25) == 0
        assert sum("Missed 2 slots" in title for title in titles(made)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("jump", [timedelta(hours=-2), timedelta(days=6)])
def test_a_clock_that_jumps_makes_no_second_run(
    jump: timedelta, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=30, ttft_ms=300.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY + MINUTE)
        services = [made.serve(), made.serve()]
        made.until(lambda: made.received() >= 20, what="calls")
        move(made, SUNDAY + MINUTE + jump)
        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        for service in services:
            service.signal(signal.SIGTERM)
            made.finish(service, within_s=25)
        assert made.statuses() == {"done": 1}
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert len(made.messages()) == 1
