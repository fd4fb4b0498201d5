"""What every notifier promises, against real HTTP servers that fail in every way they can.

One table of failures serves all of them: whether the message was delivered, whether trying again
can help, and what the operator is told.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.domain.alerts import Alert, AlertKind, Delivery, News
from app.domain.models import Secret
from app.domain.plans import SlackSettings, WebhookSettings
from app.notifiers.console import ConsoleNotifier
from app.notifiers.slack import SlackNotifier, SlackWebhookNotifier, alt_text
from app.notifiers.webhook import WebhookNotifier, signature
from app.ports import Notifier
from app.sandbox.runner import running, running_in_thread
from app.sandbox.slack import Slack, SlackMode, SlackRule, slack_app

TOKEN = "xoxb-1234567890-canary"
HOOK = "services/T000/B000/canarysecret"
TIMEOUT_S = 20.0
SHORT_S = 0.5
CHART = {"points": [{"name": "haiku", "quality": [0.8, 0.84, 0.9], "cost": [0.004, 0.0056, 0.007]}]}


def alert(news: News = News.NEW, *, title: str = "Switch recommended: a → b") -> Alert:
    return Alert(
        key="support-bot/switch:b",
        kind=AlertKind.SWITCH,
        news=news,
        run_id="run-1",
        title=title,
        lead="b saves 31–44 % at equal quality",
        fields=(("Quality", "0.85 → 0.84"),),
        lines=("Before you switch: …",),
        context=("run cost $14.20",),
    )


@pytest.fixture
def slack() -> Slack:
    return Slack(tokens=(TOKEN,))


@pytest.fixture
def url(slack: Slack) -> Iterator[str]:
    with running_in_thread(slack_app(slack)) as url:
        yield url


def bot(url: str, *, timeout_s: float = TIMEOUT_S, **settings: Any) -> SlackNotifier:
    told = SlackSettings(
        **{"token": Secret(TOKEN), "channel": "C0123ABCDEF", "base_url": f"{url}/api", **settings}
    )
    return SlackNotifier(told, draw_chart=lambda _chart: b"\x89PNG....", timeout_s=timeout_s)


def hook(url: str, *, timeout_s: float = TIMEOUT_S) -> SlackWebhookNotifier:
    settings = SlackSettings(webhook_url=Secret(f"{url}/{HOOK}"))
    return SlackWebhookNotifier(settings, timeout_s=timeout_s)


NOTIFIERS: Mapping[str, Callable[..., Notifier]] = {"bot": bot, "hook": hook}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to fail, and what must be said of it."""

    mode: str
    is_permanent: bool = False
    tells: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None
    posted: int = 0
    timeout_s: float = TIMEOUT_S


CASES = (
    Case(
        mode=SlackMode.RATE_LIMITED,
        tells={"bot": "ratelimited", "hook": "429"},
        retry_after_s=7.0,
    ),
    Case(mode=SlackMode.SERVER_ERROR, tells={"bot": "Slack", "hook": "500"}),
    Case(
        mode=SlackMode.INVALID_AUTH,
        is_permanent=True,
        tells={"bot": "set slack.token", "hook": "set slack.webhook_url"},
    ),
    Case(
        mode=SlackMode.CHANNEL_NOT_FOUND,
        is_permanent=True,
        tells={"bot": "set slack.channel", "hook": "set slack.webhook_url"},
    ),
    Case(
        mode=SlackMode.IS_ARCHIVED,
        is_permanent=True,
        tells={"bot": "archived", "hook": "set slack.webhook_url"},
    ),
    Case(mode=SlackMode.HANG, tells={"bot": "Slack", "hook": "webhook"}, timeout_s=SHORT_S),
    Case(mode=SlackMode.HTML, tells={"bot": "Slack", "hook": "other than ok"}),
    Case(mode=SlackMode.POST_THEN_DROP, tells={"bot": "Slack", "hook": "webhook"}, posted=1),
)


@pytest.mark.parametrize("name", NOTIFIERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.mode))
async def test_every_failure_is_told_for_what_it_is(
    case: Case, name: str, url: str, slack: Slack
) -> None:
    slack.set_rule(SlackRule(mode=case.mode, retry_after="7"))

    delivery = await NOTIFIERS[name](url, timeout_s=case.timeout_s).deliver(alert(), thread=None)

    assert not delivery.is_delivered
    assert delivery.is_permanent is case.is_permanent
    assert delivery.error is not None
    assert case.tells[name] in delivery.error
    assert delivery.retry_after_s == case.retry_after_s
    assert len(slack.messages) == case.posted


@pytest.mark.parametrize("name", NOTIFIERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.mode))
async def test_no_error_holds_a_token_or_an_address(
    case: Case, name: str, url: str, slack: Slack
) -> None:
    slack.set_rule(SlackRule(mode=case.mode))
    delivery = await NOTIFIERS[name](url, timeout_s=case.timeout_s).deliver(alert(), thread=None)
    assert TOKEN not in repr(delivery)
    assert "canarysecret" not in repr(delivery)


@pytest.mark.parametrize("name", NOTIFIERS)
async def test_a_server_that_is_not_there_is_worth_another_try(name: str) -> None:
    delivery = await NOTIFIERS[name]("http://127.0.0.1:9").deliver(alert(), thread=None)
    assert not delivery.is_delivered
    assert not delivery.is_permanent


@pytest.mark.parametrize("name", NOTIFIERS)
async def test_a_message_is_posted_once_with_its_words(name: str, url: str, slack: Slack) -> None:
    delivery = await NOTIFIERS[name](url).deliver(alert(), thread=None)

    (message,) = slack.messages
    assert delivery.is_delivered
    assert message["text"] == "Switch recommended: a → b: b saves 31–44 % at equal quality"
    assert "Quality" in json.dumps(message["blocks"])


async def test_an_incoming_webhook_tells_no_message_to_answer_in(url: str) -> None:
    assert (await NOTIFIERS["hook"](url).deliver(alert(), thread=None)).reference is None


@pytest.mark.parametrize("name", NOTIFIERS)
async def test_text_of_a_model_is_escaped_and_accepted_at_the_first_try(
    name: str, url: str, slack: Slack
) -> None:
    text = "<!channel> <@U1> A & B " + "x" * 20_000
    told = replace(alert(), lead=text, lines=(text,), fields=((text, text),))

    delivery = await NOTIFIERS[name](url).deliver(told, thread=None)

    assert delivery.is_delivered
    assert slack.requests == 1
    assert "<!channel>" not in json.dumps(slack.messages)
    assert "&lt;@U1&gt; A &amp; B" in json.dumps(slack.messages)


# --- the bot's thread ---------------------------------------------------------------------------


async def posted(notifier: Notifier, told: Alert, thread: str | None = None) -> str:
    delivery = await notifier.deliver(told, thread=thread)
    assert delivery.is_delivered, delivery.error
    assert delivery.reference is not None
    return delivery.reference


async def test_an_answer_goes_to_the_thread_is_broadcast_and_updates_the_parent(
    url: str, slack: Slack
) -> None:
    notifier = bot(url)
    thread = await posted(notifier, alert())
    await posted(notifier, alert(News.RESOLVED, title="No longer recommended: a → b"), thread)

    parent, answer = slack.messages
    assert thread == f"C0123ABCDEF:{parent['ts']}"
    assert answer["thread_ts"] == parent["ts"]
    assert answer["reply_broadcast"] in {True, "1", "true", "True"}
    assert str(parent["text"]).startswith("No longer recommended")
    history: Any = parent["history"]
    assert history[0]["text"].startswith("Switch recommended")


async def test_a_message_that_opens_an_alert_begins_a_thread_of_its_own(
    url: str, slack: Slack
) -> None:
    notifier = bot(url)
    thread = await posted(notifier, alert())
    await posted(notifier, alert(), thread)
    assert [message.get("thread_ts") for message in slack.messages] == [None, None]


@pytest.mark.parametrize("mode", ["thread_not_found", "cannot_reply_to_message"])
async def test_an_answer_whose_parent_is_gone_is_posted_to_the_channel(
    url: str, slack: Slack, mode: str
) -> None:
    slack.set_rule(SlackRule(mode=mode, times=1, method="chat.postMessage"))
    await posted(bot(url), alert(News.REMINDER), "C0123ABCDEF:1.1")
    assert [message.get("thread_ts") for message in slack.messages] == [None]


async def test_after_a_move_to_another_channel_answers_do_not_look_for_the_old_thread(
    url: str, slack: Slack
) -> None:
    await posted(bot(url), alert(News.REMINDER), "C0OLD:1700000001.000001")
    (message,) = slack.messages
    assert message["channel"] == "C0123ABCDEF"
    assert "thread_ts" not in message


async def test_refused_blocks_are_left_out_rather_than_the_message(url: str, slack: Slack) -> None:
    slack.set_rule(SlackRule(mode="invalid_blocks", times=1))
    await posted(bot(url), alert())
    (message,) = slack.messages
    assert "blocks" not in message
    assert message["text"]


async def test_the_chart_goes_into_the_thread_with_words_for_those_who_cannot_see_it(
    url: str, slack: Slack
) -> None:
    reference = await posted(bot(url), replace(alert(), chart=CHART))

    (file,) = slack.files.values()
    assert file["thread_ts"] == reference.partition(":")[2]
    assert file["alt_txt"] == (
        "Cost per successful response against quality; haiku: quality 0.84, $0.0056 per success"
    )
    assert alt_text(CHART) == file["alt_txt"]


@pytest.mark.parametrize(
    "rule",
    [
        SlackRule(mode=SlackMode.SERVER_ERROR, method="files.getUploadURLExternal"),
        SlackRule(mode="missing_scope", method="files.getUploadURLExternal"),
        SlackRule(mode=SlackMode.HTML, method="chat.update"),
    ],
)
async def test_a_failed_chart_or_update_does_not_make_the_message_undelivered(
    url: str, slack: Slack, rule: SlackRule
) -> None:
    notifier = bot(url)
    thread = await posted(notifier, alert())
    slack.set_rule(rule)
    await posted(notifier, replace(alert(News.REMINDER), chart=CHART), thread)
    assert len(slack.messages) == 2


async def test_a_chart_that_cannot_be_drawn_does_not_post_the_message_again(
    url: str, slack: Slack
) -> None:
    def broken(_chart: Mapping[str, object]) -> bytes:
        raise KeyError("points")

    settings = SlackSettings(token=Secret(TOKEN), channel="C0123ABCDEF", base_url=f"{url}/api/")
    notifier = SlackNotifier(settings, draw_chart=broken)
    await posted(notifier, replace(alert(), chart=CHART))
    assert len(slack.messages) == 1


async def test_a_mention_is_made_for_the_kinds_that_ask_for_one(url: str, slack: Slack) -> None:
    notifier = bot(url, mentions={"switch": "<!here>"})
    await posted(notifier, alert())
    await posted(notifier, replace(alert(), kind=AlertKind.QUIET))
    called = ["<!here>" in json.dumps(message["blocks"]) for message in slack.messages]
    assert called == [True, False]


# --- checks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "method", "warning"),
    [
        (SlackMode.INVALID_AUTH, "auth.test", "set slack.token"),
        ("token_revoked", "auth.test", "set slack.token"),
        ("channel_not_found", "conversations.info", "set slack.channel"),
        (SlackMode.SERVER_ERROR, "auth.test", "Slack"),
    ],
)
async def test_what_is_wrong_with_the_token_or_channel_is_told_before_a_message_needs_it(
    url: str, slack: Slack, mode: str, method: str, warning: str
) -> None:
    slack.set_rule(SlackRule(mode=mode, method=method))
    (told,) = await bot(url).check()
    assert warning in told


async def test_a_token_that_may_not_look_at_channels_is_no_trouble(url: str, slack: Slack) -> None:
    slack.set_rule(SlackRule(mode="missing_scope", method="conversations.info"))
    assert await bot(url).check() == ()


async def test_a_working_token_and_channel_raise_no_warning(url: str) -> None:
    assert await bot(url).check() == ()


async def test_scopes_that_the_token_lacks_are_named() -> None:
    async def answer(request: Request) -> Response:
        scopes = {"x-oauth-scopes": "channels:read,chat:write"}
        return JSONResponse({"ok": True, "channel": {}}, headers=scopes)

    app = Starlette(routes=[Route("/api/{method}", answer, methods=["GET", "POST"])])
    async with running(app) as url:
        assert await bot(url).check() == (
            "the Slack token lacks the scope files:write: charts are left out",
        )


# --- the generic webhook ------------------------------------------------------------------------


@dataclass
class Receiver:
    """A webhook's other end."""

    status: int = 200
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)

    async def take(self, request: Request) -> Response:
        self.requests.append((request.headers, await request.body()))
        if self.status == 0:
            await asyncio.Event().wait()
        return PlainTextResponse("", status_code=self.status, headers=dict(self.headers))


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    async with running(Starlette(routes=[Route("/in", receiver.take, methods=["POST"])])) as url:
        yield receiver, f"{url}/in?key=canarysecret"


NOW = datetime(2026, 3, 29, 6, 30, tzinfo=UTC)


async def sent(url: str, secret: str | None = None, *, timeout_s: float = TIMEOUT_S) -> Delivery:
    settings = WebhookSettings(url=Secret(url), secret=Secret(secret) if secret else None)
    notifier = WebhookNotifier(settings, lambda: NOW, timeout_s=timeout_s)
    try:
        return await notifier.deliver(replace(alert(), chart=CHART), thread=None)
    finally:
        await notifier.close()


async def test_the_webhook_gets_the_message_as_signed_json(
    receiver: tuple[Receiver, str],
) -> None:
    desk, url = receiver

    delivery = await sent(url, "s3cret")

    ((headers, body),) = desk.requests
    stamp = headers["x-switchwise-timestamp"]
    expected = hmac.new(b"s3cret", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert delivery.is_delivered
    assert headers["x-switchwise-signature"] == f"sha256={expected}"
    assert int(stamp) == int(NOW.timestamp())
    document = json.loads(body)
    assert document["key"] == "support-bot/switch:b"
    assert document["fields"] == [{"label": "Quality", "value": "0.85 → 0.84"}]
    assert document["chart"] == CHART


async def test_a_forged_body_does_not_carry_the_signature(receiver: tuple[Receiver, str]) -> None:
    desk, url = receiver
    await sent(url, "s3cret")
    ((headers, body),) = desk.requests
    forged = signature("s3cret", headers["x-switchwise-timestamp"], body + b" ")
    assert forged != headers["x-switchwise-signature"]


async def test_without_a_secret_nothing_is_signed(receiver: tuple[Receiver, str]) -> None:
    desk, url = receiver
    await sent(url)
    assert "x-switchwise-signature" not in desk.requests[0][0]


@pytest.mark.parametrize(
    ("status", "is_delivered", "is_permanent"),
    [
        (204, True, False),
        (302, False, True),
        (400, False, True),
        (404, False, True),
        (410, False, True),
        (429, False, False),
        (500, False, False),
        (0, False, False),
    ],
)
async def test_the_webhooks_status_decides_whether_to_try_again(
    receiver: tuple[Receiver, str], status: int, is_delivered: bool, is_permanent: bool
) -> None:
    desk, url = receiver
    desk.status = status
    delivery = await sent(url, timeout_s=TIMEOUT_S if status else SHORT_S)
    assert (delivery.is_delivered, delivery.is_permanent) == (is_delivered, is_permanent)
    assert "canarysecret" not in repr(delivery)


@pytest.mark.parametrize(
    ("value", "seconds"), [("9", 9.0), ("soon", None), ("-3", 0.0), ("inf", None)]
)
async def test_the_webhook_may_ask_for_patience(
    receiver: tuple[Receiver, str], value: str, seconds: float | None
) -> None:
    desk, url = receiver
    desk.status, desk.headers = 429, {"Retry-After": value}
    assert (await sent(url)).retry_after_s == seconds


# --- the console --------------------------------------------------------------------------------


class ClosedStream(StringIO):
    def write(self, _text: str) -> int:
        raise OSError(32, "Broken pipe")


async def test_the_console_prints_the_message() -> None:
    stream = StringIO()
    delivery = await ConsoleNotifier(stream).deliver(alert(), thread=None)
    assert delivery.is_delivered
    assert stream.getvalue().startswith("Switch recommended: a → b\nb saves 31–44 %")


async def test_a_console_that_is_gone_is_a_failed_delivery() -> None:
    delivery = await ConsoleNotifier(ClosedStream()).deliver(alert(), thread=None)
    assert not delivery.is_delivered
    assert delivery.error == "cannot write: Broken pipe"
