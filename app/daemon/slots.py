"""Slots: when a schedule asks for Runs, in local time, each wall time once.

A cron expression is read on the local calendar without any offset, so that a slot inside the
hour that the clock skips in spring, or repeats in autumn, still exists exactly once: skipped times
happen at the same instant as the hour after, repeated ones at their first appearance.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from app.domain.plans import Schedule
from app.domain.runs import Slot

_LOOKBACKS = tuple(timedelta(days=days) for days in (0.1, 1, 8, 32, 367))


def latest_due_slot(schedule: Schedule, now: datetime) -> Slot | None:
    """The newest slot that is not in the future, None when there is none within a year."""
    for lookback in _LOOKBACKS:
        due = None
        for slot in _slots_from(schedule, now - lookback):
            if slot.at > now:
                break
            due = slot
        if due is not None:
            return due
    return None


def next_slots(schedule: Schedule, now: datetime, count: int) -> tuple[Slot, ...]:
    """The next slots after now."""
    upcoming: list[Slot] = []
    for slot in _slots_from(schedule, now):
        if slot.at > now:
            upcoming.append(slot)
        if len(upcoming) == count:
            break
    return tuple(upcoming)


def slots_between(schedule: Schedule, after: Slot, until: Slot) -> tuple[Slot, ...]:
    """The slots later than `after` and earlier than `until`."""
    between: list[Slot] = []
    for slot in _slots_from(schedule, after.at):
        if slot.key >= until.key:
            break
        if slot.key > after.key:
            between.append(slot)
    return tuple(between)


def slot_of_week(schedule: Schedule | None, at: datetime, *, now: datetime) -> Slot | None:
    """The slot a Run `as of` an instant fills: the newest that was due by the end of its ISO week.

    In a week whose slot lies in the future that is the one before. Without a schedule the instant
    itself is the slot; None when a schedule had no slot for a year.
    """
    if schedule is None:
        return Slot(key=at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M"), at=at)
    local = at.astimezone(schedule.timezone)
    monday = (local + timedelta(days=7 - local.weekday())).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    return latest_due_slot(schedule, min(now, monday.astimezone(UTC) - timedelta(seconds=1)))


def _slots_from(schedule: Schedule, start: datetime) -> Iterator[Slot]:
    """Slots whose wall time is at or after that of `start`, one hour of slack included."""
    trigger = CronTrigger.from_crontab(schedule.cron, timezone=UTC)
    wall = start.astimezone(schedule.timezone).replace(tzinfo=UTC) - timedelta(hours=3)
    fire = trigger.get_next_fire_time(None, wall)
    while fire is not None:
        following = trigger.get_next_fire_time(fire, fire + timedelta(seconds=1))
        yield _slot(fire, following, schedule.timezone)
        fire = following


def _slot(wall: datetime, following: datetime | None, zone: ZoneInfo) -> Slot:
    local = wall.replace(tzinfo=zone, fold=0)
    return Slot(
        key=wall.strftime("%Y-%m-%dT%H:%M"),
        at=local.astimezone(UTC),
        closes_week=following is None or _iso_week(following) != _iso_week(wall),
    )


def _iso_week(moment: datetime) -> str:
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02d}"
