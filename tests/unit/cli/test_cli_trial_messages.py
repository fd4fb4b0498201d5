from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.cli.trial_messages import trial_messages
from app.domain.models import Secret
from app.domain.plans import Schedule, SlackSettings
from tests.fakes.small_plans import plan

NOW = datetime(2026, 3, 29, 6, 30, tzinfo=UTC)


def test_every_kind_of_message_is_tried_with_the_plans_own_names() -> None:
    made = trial_messages(plan("haiku"), NOW)
    titles = [alert.title for alert in made]
    assert titles[:3] == [
        "Test: Switch recommended: p → haiku",
        "Test: Still recommended (week 6): p → haiku",
        "Test: p got worse",
    ]
    assert titles[3].startswith("Test: Run incomplete")
    assert titles[4] == "Test: All quiet: keep p"


def test_a_trial_can_never_be_taken_for_a_finding() -> None:
    for alert in trial_messages(plan("haiku"), NOW):
        assert alert.key == "support-bot/test"
        assert alert.title.startswith("Test: ")
        assert any("nothing was measured" in line for line in alert.context)
        assert alert.links == ()


def test_all_kinds_are_tried_even_where_the_digest_is_off() -> None:
    quiet = replace(
        plan("haiku"),
        slack=SlackSettings(token=Secret("x"), channel="C1", digest="never"),
        schedule=Schedule(cron="0 6 * * sun", timezone=ZoneInfo("Europe/London")),
    )
    assert len(trial_messages(quiet, NOW)) == 5
