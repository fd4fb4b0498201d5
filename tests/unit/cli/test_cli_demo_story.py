import io
import logging
from typing import Any

import pytest

from app.cli.demo_story import message_text, slack_story
from app.cli.demonstration import Week
from app.cli.output import progress

QUIET = {"text": "All quiet: keep prime"}
SWITCH = {"text": "Switch recommended: prime → swift: swift saves 40 %"}
STILL = {"text": "No change: swift still recommended"}


def week(number: int) -> Week:
    return Week(number=number, of=12, document={})


def test_the_message_that_recommended_the_switch_is_shown_beside_the_latest() -> None:
    assert list(slack_story([QUIET, SWITCH, STILL], week(7))) == [
        ("What Slack was told when the switch was first recommended, week 7 of 12", SWITCH),
        ("What Slack was told after the last week", STILL),
    ]


def test_the_recommendation_is_told_as_it_was_before_reminders_rewrote_it() -> None:
    rewritten = {"text": "Still recommended (week 9): prime → swift", "history": [SWITCH]}

    told = list(slack_story([QUIET, rewritten, STILL], week(3)))

    assert [message["text"] for _, message in told] == [SWITCH["text"], STILL["text"]]
    assert told[0][0].endswith("week 3 of 12")


def test_a_message_is_shown_once_when_it_is_the_latest_too() -> None:
    assert [message for _, message in slack_story([QUIET, SWITCH], week(12))] == [SWITCH]
    assert [message for _, message in slack_story([QUIET], None)] == [QUIET]
    assert list(slack_story([], None)) == []


def test_a_progress_bar_is_not_torn_apart_by_the_news_of_every_week(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    root = logging.getLogger()
    before = root.level

    with progress("weeks") as bar:
        bar(1, 2)
        assert not logging.getLogger("app.alerting").isEnabledFor(logging.INFO)
        assert logging.getLogger("app.alerting").isEnabledFor(logging.WARNING)

    assert root.level == before


def test_a_message_reads_as_plain_lines() -> None:
    message: dict[str, Any] = {
        "text": "fallback",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "Keep &amp; see"}},
            {
                "type": "section",
                "fields": [{"type": "mrkdwn", "text": "*Quality (0–1)*\n0.85 ±0.02 → 0.84 ±0.02"}],
            },
        ],
    }

    assert message_text(message) == "Keep & see\nQuality (0–1): 0.85 ±0.02 → 0.84 ±0.02"
    assert message_text({"text": "fallback"}) == "fallback"
