"""From which time a Run draws: never rows that an earlier week drew."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.cases import Window
from app.domain.runs import Run, Slot, Trigger
from app.sampling.windows import window_of
from tests.fakes.small_plans import run as a_run

SUNDAY = datetime(2026, 3, 29, 6, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def run_at(at: datetime, length: timedelta, trigger: Trigger = Trigger.SCHEDULE) -> Run:
    slot = Slot(key=f"{at:%Y-%m-%dT%H:%M}", at=at)
    return replace(a_run(trigger), slot=slot, window=Window(start=at - length, end=at))


@pytest.mark.parametrize(
    ("length", "earlier", "start"),
    [
        (7 * DAY, [], SUNDAY - 7 * DAY),
        (7 * DAY, [run_at(SUNDAY - 7 * DAY, 7 * DAY)], SUNDAY - 7 * DAY),
        (28 * DAY, [run_at(SUNDAY - 7 * DAY, 28 * DAY)], SUNDAY - 7 * DAY),
        (28 * DAY, [run_at(SUNDAY - 14 * DAY, 28 * DAY)], SUNDAY - 14 * DAY),
        (7 * DAY, [run_at(SUNDAY - DAY, 7 * DAY)], SUNDAY - 7 * DAY),
        (28 * DAY, [run_at(SUNDAY - 7 * DAY, DAY, Trigger.HAND)], SUNDAY - 28 * DAY),
        (28 * DAY, [run_at(SUNDAY + 7 * DAY, 28 * DAY)], SUNDAY - 28 * DAY),
    ],
    ids=["first", "windows that touch", "windows that overlap", "after a missed week",
         "an earlier run of this week", "a run by hand", "a later week"],
)  # fmt: skip
def test_a_window_begins_where_the_last_week_that_drew_ended(
    length: timedelta, earlier: list[Run], start: datetime
) -> None:
    run = run_at(SUNDAY, length)
    assert window_of(run, length, earlier) == Window(start=start, end=SUNDAY)


def test_a_run_by_hand_draws_from_the_whole_window() -> None:
    run = run_at(SUNDAY, 28 * DAY, Trigger.HAND)
    earlier = [run_at(SUNDAY - 7 * DAY, 28 * DAY)]
    assert window_of(run, 28 * DAY, earlier) == Window(start=SUNDAY - 28 * DAY, end=SUNDAY)


def test_a_daily_run_on_monday_draws_what_came_after_sundays() -> None:
    monday = run_at(SUNDAY + DAY, 7 * DAY)
    assert window_of(monday, 7 * DAY, [run_at(SUNDAY, 7 * DAY)]).start == SUNDAY
