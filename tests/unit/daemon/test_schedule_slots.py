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


LONG_AFTER = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "key"),
    [
        ("0 6 * * sun", "2026-06-07T06:00"),
        ("0 22 * * sun", "2026-06-07T22:00"),
        ("30 23 * * *", "2026-06-07T23:30"),
        ("0 0 * * mon", "2026-06-01T00:00"),
        ("0 6 * * mon,thu", "2026-06-04T06:00"),
        ("0 6 28 * *", "2026-05-28T06:00"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
def test_a_run_as_of_wednesday_fills_the_last_slot_of_that_week(
    cron: str, key: str, zone: str
) -> None:
    schedule = weekly(zone, cron)
    wednesday = datetime(2026, 6, 3, 12, tzinfo=ZoneInfo(zone))
    slot = slot_of_week(schedule, wednesday, now=LONG_AFTER)
    assert slot is not None
    assert slot.key == key
    assert slot == latest_due_slot(schedule, slot.at)


@pytest.mark.parametrize("cron", ["0 6 * * sun", "0 22 * * sun"])
def test_a_run_as_of_today_fills_the_latest_slot_that_is_due_never_one_of_the_future(
    cron: str,
) -> None:
    monday = datetime(2026, 6, 8, 9, tzinfo=UTC)
    slot = slot_of_week(weekly("UTC", cron), monday, now=monday)
    assert slot is not None
    assert slot.key.startswith("2026-06-07")


def test_a_run_as_of_today_on_a_daily_schedule_does_not_close_the_week_early() -> None:
    wednesday = datetime(2026, 6, 3, 12, tzinfo=UTC)
    slot = slot_of_week(weekly("UTC", "0 6 * * *"), wednesday, now=wednesday)
    assert slot is not None
    assert (slot.key, slot.closes_week) == ("2026-06-03T06:00", False)
