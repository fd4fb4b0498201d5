from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from app.daemon.slots import latest_due_slot, next_slots, slot_of_week, slots_between
from app.domain.plans import Schedule


def weekly(zone: str, cron: str = "30 2 * * sun") -> Schedule:
    return Schedule(cron=cron, timezone=ZoneInfo(zone))


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "UTC"])
@pytest.mark.parametrize("cron", ["30 2 * * sun", "30 1 * * sun", "0 6 * * sun"])
def test_five_years_hold_exactly_one_slot_a_week_through_gaps_and_folds(
    zone: str, cron: str
) -> None:
    schedule = weekly(zone, cron)
    slots = next_slots(schedule, datetime(2026, 1, 1, tzinfo=UTC), 260)
    assert len({slot.key for slot in slots}) == 260
    for earlier, slot in pairwise(slots):
        assert timedelta(days=6, hours=22) <= slot.at - earlier.at <= timedelta(days=7, hours=2)
        assert latest_due_slot(schedule, slot.at) == slot
        assert latest_due_slot(schedule, slot.at - timedelta(minutes=1)) == earlier


def test_a_slot_in_the_hour_that_spring_skips_happens_an_hour_later() -> None:
    slots = next_slots(weekly("Europe/Berlin"), datetime(2026, 3, 28, tzinfo=UTC), 1)
    assert slots[0].key == "2026-03-29T02:30"
    assert slots[0].at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_a_slot_in_the_hour_that_autumn_repeats_happens_at_its_first_appearance() -> None:
    slots = next_slots(weekly("Europe/Berlin"), datetime(2026, 10, 24, tzinfo=UTC), 2)
    assert slots[0].at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert slots[1].key == "2026-11-01T02:30"


def test_a_daily_schedule_closes_its_week_on_sunday_only() -> None:
    daily = weekly("Europe/London", "0 6 * * *")
    slots = next_slots(daily, datetime(2026, 6, 1, tzinfo=UTC), 7)
    assert [slot.closes_week for slot in slots] == [False] * 6 + [True]


def test_missed_slots_are_those_strictly_between() -> None:
    schedule = weekly("UTC", "0 6 * * sun")
    first, second, third, fourth = next_slots(schedule, datetime(2026, 6, 1, tzinfo=UTC), 4)
    assert slots_between(schedule, first, fourth) == (second, third)


def test_a_run_as_of_wednesday_fills_that_weeks_slot() -> None:
    slot = slot_of_week(weekly("UTC", "0 6 * * sun"), datetime(2026, 6, 3, 12, tzinfo=UTC))
    assert slot.key == "2026-06-07T06:00"
