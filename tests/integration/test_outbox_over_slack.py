"""The outbox in Postgres and a Slack over HTTP: never lost, doubled only without acknowledgement."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from app.alerting.delivery import LEASE_S, deliver_due
from app.domain.alerts import Alert, AlertKind, Delivery, News, OpenAlert
from app.domain.models import Secret
from app.domain.plans import SlackSettings
from app.notifiers.slack import SlackNotifier
from app.sandbox.runner import running_in_thread
from app.sandbox.slack import Slack, SlackMode, SlackRule, slack_app
from app.storage.alert_store import PostgresAlerts
from app.storage.engine import Database
from tests.fakes.clocks import HandClock

PLAN = "support-bot"
KEY = f"{PLAN}/switch:haiku"
HOUR_S = 3600.0


@dataclass
class Desk:
    """A plan's outbox, its channel, and a clock to move."""

    store: PostgresAlerts
    slack: Slack
    notifier: SlackNotifier
    clock: HandClock

    async def say(self, news: News = News.NEW, title: str = "Switch recommended") -> None:
        alert = Alert(
            key=KEY, kind=AlertKind.SWITCH, news=news, run_id=None, title=title, lead="saves"
        )
        now = self.clock.now()
        state = OpenAlert(
            key=KEY, kind=AlertKind.SWITCH, opened_at=now, last_sent_at=now, title=title
        )
        await self.store.enqueue(PLAN, [alert], [state])

    async def deliver(self, owner: str = "us") -> int:
        return await deliver_due(self.store, {PLAN: self.notifier}, owner=owner, clock=self.clock)

    def titles(self) -> list[str]:
        return [str(message["text"]).partition(":")[0] for message in self.slack.messages]


@pytest.fixture
def slack() -> Slack:
    return Slack()


@pytest.fixture
def url(slack: Slack) -> Iterator[str]:
    with running_in_thread(slack_app(slack)) as url:
        yield url


@pytest.fixture
async def desk(database_url: str, slack: Slack, url: str) -> AsyncIterator[Desk]:
    clock = HandClock()
    database = Database(database_url)
    settings = SlackSettings(
        token=Secret("xoxb-token"), channel="C0123ABCDEF", base_url=f"{url}/api/"
    )
    yield Desk(
        store=PostgresAlerts(database, clock.now),
        slack=slack,
        notifier=SlackNotifier(settings, timeout_s=1.0),
        clock=clock,
    )
    await database.close()


@pytest.mark.parametrize(
    "mode",
    [SlackMode.RATE_LIMITED, SlackMode.SERVER_ERROR, SlackMode.HANG, SlackMode.HTML],
)
async def test_what_slack_does_not_take_waits_and_arrives_once_when_it_does(
    desk: Desk, mode: SlackMode
) -> None:
    desk.slack.set_rule(SlackRule(mode=mode))
    await desk.say()
    for _ in range(3):
        assert await desk.deliver() == 0
        desk.clock.advance(HOUR_S)
    desk.slack.set_rule()
    assert await desk.deliver() == 1
    assert await desk.deliver() == 0
    assert desk.titles() == ["Switch recommended"]


@pytest.mark.parametrize(
    ("mode", "mend"),
    [
        (SlackMode.INVALID_AUTH, "set slack.token"),
        (SlackMode.CHANNEL_NOT_FOUND, "set slack.channel"),
        (SlackMode.IS_ARCHIVED, "archived"),
    ],
)
async def test_what_an_operator_must_mend_is_shown_and_goes_out_once_it_is_mended(
    desk: Desk, mode: SlackMode, mend: str
) -> None:
    desk.slack.set_rule(SlackRule(mode=mode))
    await desk.say()
    await desk.deliver()
    requests = desk.slack.requests
    desk.clock.advance(24 * HOUR_S)
    await desk.deliver()

    (stuck,) = await desk.store.failing(PLAN)
    assert mend in stuck.error
    assert desk.slack.requests == requests

    desk.slack.set_rule()
    assert await desk.store.retry_failed(PLAN, now=desk.clock.now()) == 1
    assert await desk.deliver() == 1


async def test_a_lost_acknowledgement_doubles_the_message_and_loses_nothing(desk: Desk) -> None:
    desk.slack.set_rule(SlackRule(mode=SlackMode.POST_THEN_DROP, times=1))
    await desk.say()
    assert await desk.deliver() == 0
    desk.clock.advance(HOUR_S)
    assert await desk.deliver() == 1
    assert desk.titles() == ["Switch recommended"] * 2


async def test_a_crash_before_the_send_neither_loses_nor_doubles_the_message(desk: Desk) -> None:
    await desk.say()
    await desk.store.lease_outbox(owner="crashed", now=desk.clock.now(), lease_s=LEASE_S)
    assert await desk.deliver() == 0
    desk.clock.advance(LEASE_S)
    assert await desk.deliver() == 1
    assert desk.titles() == ["Switch recommended"]


async def test_a_crash_after_the_send_doubles_the_message_and_loses_nothing(desk: Desk) -> None:
    await desk.say()
    (item,) = await desk.store.lease_outbox(owner="crashed", now=desk.clock.now(), lease_s=LEASE_S)
    await desk.notifier.deliver(item.alert, thread=item.thread)
    desk.clock.advance(LEASE_S)
    assert await desk.deliver() == 1
    assert desk.titles() == ["Switch recommended"] * 2


async def test_two_replicas_that_deliver_at_once_post_each_message_once(desk: Desk) -> None:
    await desk.say()
    delivered = await asyncio.gather(*(desk.deliver(owner) for owner in ("one", "two", "three")))
    assert sum(delivered) == 1
    assert desk.titles() == ["Switch recommended"]


async def test_an_answer_that_waited_with_its_parent_still_finds_its_thread(desk: Desk) -> None:
    desk.slack.set_rule(SlackRule(mode=SlackMode.SERVER_ERROR))
    await desk.say()
    await desk.say(News.REMINDER, "Still recommended")
    await desk.deliver()
    desk.slack.set_rule()
    desk.clock.advance(HOUR_S)
    assert [await desk.deliver(), await desk.deliver()] == [1, 1]

    parent, answer = desk.slack.messages
    assert answer["thread_ts"] == parent["ts"]
    assert str(answer["text"]).startswith("Still recommended")


async def test_an_outcome_that_comes_late_does_not_undo_the_delivery(desk: Desk) -> None:
    await desk.say()
    (item,) = await desk.store.lease_outbox(owner="slow", now=desk.clock.now(), lease_s=LEASE_S)
    desk.clock.advance(LEASE_S)
    await desk.deliver()
    await desk.store.record_delivery(
        item, Delivery(is_delivered=False, error="timed out"), now=desk.clock.now()
    )
    desk.clock.advance(HOUR_S)
    assert await desk.deliver() == 0
