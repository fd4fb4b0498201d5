"""Is it news? Every reason, and that nothing is told twice."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.alerting.news import Finding, Reminders, is_acknowledged, is_news
from app.domain.alerts import News, OpenAlert
from tests.fakes.outcomes import NOW, opened

WEEK = timedelta(weeks=1)
SILENT = {News.NOTHING, News.UNKNOWN, News.HELD, News.ACKNOWLEDGED}


def reason(
    known: OpenAlert | None, finding: Finding, *, every: timedelta | None = 4 * WEEK
) -> News:
    return is_news(known, finding, now=NOW, reminders=Reminders(every=every))


def acknowledged(known: OpenAlert, *, for_: timedelta) -> OpenAlert:
    return replace(known, acknowledged_until=NOW + for_, acknowledged_reason="in the freeze")


@pytest.mark.parametrize(
    ("known", "finding", "expected"),
    [
        (None, Finding(is_firing=False), News.NOTHING),
        (None, Finding(is_firing=True), News.NEW),
        (None, Finding(is_firing=None), News.UNKNOWN),
        (opened(), Finding(is_firing=None), News.UNKNOWN),
        (opened(), Finding(is_firing=True), News.NOTHING),
        (opened(), Finding(is_firing=True, signature="other"), News.CHANGED),
        (opened(), Finding(is_firing=False), News.RESOLVED),
        (opened(weeks_ago=4), Finding(is_firing=True), News.REMINDER),
        (opened(weeks_ago=3.9), Finding(is_firing=True), News.NOTHING),
    ],
)
def test_the_reason_is_named(known: OpenAlert | None, finding: Finding, expected: News) -> None:
    assert reason(known, finding) is expected


def test_what_must_wait_is_held_whether_it_is_new_or_due_for_a_reminder() -> None:
    held = Finding(is_firing=True, is_held=True)
    assert reason(None, held) is News.HELD
    assert reason(opened(weeks_ago=9), held) is News.HELD


def test_what_must_wait_is_still_told_to_be_over() -> None:
    assert reason(opened(), Finding(is_firing=False, is_held=True)) is News.RESOLVED


def test_an_acknowledged_alert_is_silent_until_it_expires() -> None:
    known = acknowledged(opened(weeks_ago=9), for_=WEEK)
    assert reason(known, Finding(is_firing=True)) is News.ACKNOWLEDGED
    assert is_acknowledged(known, now=NOW)


def test_an_acknowledgement_that_ran_out_is_told_once() -> None:
    known = acknowledged(opened(weeks_ago=1), for_=-timedelta(days=1))
    assert reason(known, Finding(is_firing=True)) is News.EXPIRED
    told = replace(known, last_sent_at=NOW)
    assert reason(told, Finding(is_firing=True)) is News.NOTHING


def test_an_acknowledgement_covers_only_what_was_known_then() -> None:
    known = acknowledged(opened(), for_=WEEK)
    assert reason(known, Finding(is_firing=True, signature="other")) is News.CHANGED


def test_an_acknowledged_alert_still_tells_that_it_is_over() -> None:
    known = acknowledged(opened(), for_=WEEK)
    assert reason(known, Finding(is_firing=False)) is News.RESOLVED


def test_without_reminders_an_open_alert_is_never_repeated() -> None:
    assert reason(opened(weeks_ago=500), Finding(is_firing=True), every=None) is News.NOTHING


@given(weeks=st.integers(1, 60), every=st.integers(1, 12))
def test_an_unchanged_finding_is_told_once_and_then_only_as_often_as_asked(
    weeks: int, every: int
) -> None:
    known: OpenAlert | None = None
    told = []
    for week in range(weeks):
        now = NOW + week * WEEK
        news = is_news(
            known, Finding(is_firing=True), now=now, reminders=Reminders(every=every * WEEK)
        )
        if news in SILENT:
            continue
        told.append(news)
        fresh = known or replace(opened(weeks_ago=0), opened_at=now)
        known = replace(fresh, last_sent_at=now)
    assert told == [News.NEW] + [News.REMINDER] * ((weeks - 1) // every)
