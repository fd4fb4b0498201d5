"""Slack: one message per change, answers in the alert's thread, the chart beside them.

https://docs.slack.dev/reference/methods/chat.postMessage
"""

import asyncio
import http.client
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from app.domain.alerts import Alert, Delivery, News
from app.domain.plans import SlackSettings
from app.notifiers.blocks import blocks_of, fallback_text
from app.notifiers.headers import retry_after_s

TIMEOUT_S = 20.0
FOLLOW_UP_S = 30.0
"""The parent's update and the chart together may take so long."""

_PERMANENT = frozenset(
    {
        "account_inactive",
        "channel_not_found",
        "invalid_auth",
        "is_archived",
        "missing_scope",
        "msg_too_long",
        "no_permission",
        "not_authed",
        "not_in_channel",
        "restricted_action",
        "token_expired",
        "token_revoked",
    }
)
_MEND = {
    "invalid_auth": "the Slack token is refused: set slack.token to a valid bot token",
    "not_authed": "the Slack token is refused: set slack.token to a valid bot token",
    "token_revoked": "the Slack token was revoked: set slack.token to a valid bot token",
    "token_expired": "the Slack token has expired: set slack.token to a valid bot token",
    "account_inactive": "the Slack app was removed: install it and set slack.token again",
    "channel_not_found": "no such Slack channel: set slack.channel to its id",
    "not_in_channel": "the bot is not in the Slack channel: invite it there",
    "is_archived": "the Slack channel is archived: set slack.channel to another",
    "missing_scope": "the Slack token lacks the scope chat:write (files:write for charts)",
}
_BLOCKS_REFUSED = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
_THREAD_REFUSED = frozenset({"thread_not_found", "cannot_reply_to_message", "message_not_found"})
_ANSWERS = frozenset({News.CHANGED, News.REMINDER, News.EXPIRED, News.RESOLVED, News.ADOPTED})
_CHANNEL_ID = re.compile(r"[CDG][A-Z0-9]{2,}")
_LOST = (SlackClientError, OSError, ValueError, http.client.HTTPException)
"""What the client raises when the other side is not there or makes no sense."""

_T = TypeVar("_T")
ChartMaker = Callable[[Mapping[str, object]], bytes]
_log = structlog.get_logger(__name__)


class SlackNotifier:
    """Posts with a bot token through `chat.postMessage`.

    Args:
        settings: Token, channel and base URL.
        public_url: Where links lead.
        draw_chart: Makes the PNG of an alert's chart; None leaves charts out.
        timeout_s: How long the server may stay silent.
    """

    name = "slack"

    def __init__(
        self,
        settings: SlackSettings,
        *,
        public_url: str = "",
        draw_chart: ChartMaker | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if settings.token is None or settings.channel is None:
            raise ValueError("slack needs a token and a channel")
        self._settings = settings
        self._channel = settings.channel
        self._public_url = public_url
        self._draw_chart = draw_chart
        self._timeout_s = timeout_s
        self._client = WebClient(
            token=settings.token.reveal(),
            base_url=_with_slash(settings.base_url),
            timeout=timeout_s,  # type: ignore[arg-type]  # urllib takes fractions of a second
            retry_handlers=[],
        )

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        """Post once; what follows a success (parent, chart) never makes the post a failure."""
        parent = thread if alert.news in _ANSWERS and self._is_here(thread) else None
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                answered = await _in_thread(lambda: self._post(alert, parent))
        except TimeoutError:
            return Delivery(is_delivered=False, error="Slack did not answer in time")
        reference = answered.reference
        if not answered.is_delivered or reference is None:
            return answered
        try:
            async with asyncio.timeout(FOLLOW_UP_S):
                await _in_thread(lambda: self._follow_up(alert, parent, reference))
        except TimeoutError:
            _log.warning("slack took too long for the thread", key=alert.key)
        return answered

    async def check(self) -> tuple[str, ...]:
        """Whether the token works, may do what is needed, and the channel takes messages."""
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await _in_thread(self._check)
        except TimeoutError:
            return ("Slack did not answer in time",)

    async def close(self) -> None:
        """Nothing is held open."""

    # --- posting ------------------------------------------------------------------------------

    def _post(self, alert: Alert, parent: str | None) -> Delivery:
        """Post; when blocks or thread are refused, post once more without them."""
        message: dict[str, Any] = {
            "channel": self._channel,
            "text": fallback_text(alert),
            "blocks": blocks_of(
                alert,
                public_url=self._public_url,
                mention=self._settings.mentions.get(alert.kind.value, ""),
            ),
            "unfurl_links": False,
            "unfurl_media": False,
        }
        if parent is not None:
            message |= {"thread_ts": _timestamp(parent), "reply_broadcast": True}
        try:
            try:
                response = self._client.chat_postMessage(**message)
            except SlackApiError as error:
                simpler = _simpler(message, _code(error))
                if simpler is None:
                    raise
                response = self._client.chat_postMessage(**simpler)
        except SlackApiError as error:
            return _failed(error)
        except _LOST as error:
            return Delivery(is_delivered=False, error=f"Slack: {type(error).__name__}")
        channel, stamp = response.get("channel", self._channel), response.get("ts")
        if not isinstance(stamp, str):
            return Delivery(is_delivered=False, error="Slack answered without a message id")
        return Delivery(is_delivered=True, reference=f"{channel}:{stamp}")

    def _follow_up(self, alert: Alert, parent: str | None, reference: str) -> None:
        """Update the parent of an answer and put the chart into the thread; best effort."""
        try:
            if parent is not None:
                self._client.chat_update(
                    channel=parent.partition(":")[0],
                    ts=_timestamp(parent),
                    text=fallback_text(alert),
                    blocks=blocks_of(alert, public_url=self._public_url),
                )
            if alert.chart is not None and self._draw_chart is not None:
                target = parent or reference
                self._client.files_upload_v2(
                    channel=target.partition(":")[0],
                    thread_ts=_timestamp(target),
                    filename="cost-quality.png",
                    title="Cost per success against quality",
                    alt_txt=alt_text(alert.chart),
                    content=self._draw_chart(alert.chart),
                )
        except Exception as error:  # noqa: BLE001 - it is posted: a bad chart must not post it again
            _log.warning("slack thread left as it was", key=alert.key, error=type(error).__name__)

    def _is_here(self, thread: str | None) -> bool:
        """Whether the thread is in the channel of the plan; a name could be any channel's."""
        if thread is None:
            return False
        channel = thread.partition(":")[0]
        if not _CHANNEL_ID.fullmatch(self._channel) or not _timestamp(thread):
            return bool(_timestamp(thread))
        return channel == self._channel

    # --- checking -----------------------------------------------------------------------------

    def _check(self) -> tuple[str, ...]:
        try:
            answered = self._client.auth_test()
        except SlackApiError as error:
            return (_words(error),)
        except _LOST as error:
            return (f"Slack cannot be reached: {type(error).__name__}",)
        return (*_scope_warnings(answered.headers), *self._channel_warnings())

    def _channel_warnings(self) -> tuple[str, ...]:
        """What is wrong with the channel, as far as the token may look at it."""
        if not _CHANNEL_ID.fullmatch(self._channel):
            return ()
        try:
            found: Any = self._client.conversations_info(channel=self._channel).get("channel")
        except SlackApiError as error:
            return () if _code(error) == "missing_scope" else (_words(error),)
        except _LOST as error:
            return (f"Slack cannot be reached: {type(error).__name__}",)
        channel: Mapping[str, object] = found if isinstance(found, dict) else {}
        if channel.get("is_archived"):
            return (_MEND["is_archived"],)
        return (_MEND["not_in_channel"],) if channel.get("is_member") is False else ()


def alt_text(chart: Mapping[str, object]) -> str:
    """The chart in words, for those who cannot see it."""
    said = ["Cost per successful response against quality"]
    points = chart.get("points")
    for point in points if isinstance(points, list) else ():
        quality, cost = point["quality"], point["cost"]
        said.append(f"{point['name']}: quality {quality[1]:.2f}, ${cost[1]:.4g} per success")
    return "; ".join(said)[:1000]


class SlackWebhookNotifier:
    """Posts through an incoming webhook: no threads, no files, the same words."""

    name = "slack-webhook"

    def __init__(
        self, settings: SlackSettings, *, public_url: str = "", timeout_s: float = TIMEOUT_S
    ) -> None:
        if settings.webhook_url is None:
            raise ValueError("slack needs a webhook_url")
        self._settings = settings
        self._public_url = public_url
        self._timeout_s = timeout_s
        self._client = WebhookClient(
            settings.webhook_url.reveal(),
            timeout=timeout_s,  # type: ignore[arg-type]  # urllib takes fractions of a second
            retry_handlers=[],
        )

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        """Post once; only status 200 with the body `ok` counts as delivered."""
        del thread
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await _in_thread(lambda: self._post(alert))
        except TimeoutError:
            return Delivery(is_delivered=False, error="the Slack webhook did not answer in time")

    async def check(self) -> tuple[str, ...]:
        """A webhook can only be checked by posting."""
        return ()

    async def close(self) -> None:
        """Nothing is held open."""

    def _post(self, alert: Alert) -> Delivery:
        try:
            response = self._client.send(
                text=fallback_text(alert),
                blocks=blocks_of(
                    alert,
                    public_url=self._public_url,
                    mention=self._settings.mentions.get(alert.kind.value, ""),
                ),
                unfurl_links=False,
            )
        except _LOST as error:
            return Delivery(is_delivered=False, error=f"Slack webhook: {type(error).__name__}")
        if response.status_code == 200 and response.body.strip() == "ok":
            return Delivery(is_delivered=True)  # it tells no id: there is no thread to answer in
        return Delivery(
            is_delivered=False,
            is_permanent=response.status_code in (400, 403, 404, 410),
            error=_webhook_words(response.status_code),
            retry_after_s=retry_after_s(response.headers),
        )


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Do the work in a thread of its own, for which nobody waits once we gave it up.

    A server that drips holds the thread for ever: one of a pool would be lost to the other users of
    the pool, and would keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[_T] = loop.create_future()

    def tell(result: _T | None, error: Exception | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(cast("_T", result))

    def do() -> None:
        result, trouble = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            trouble = error
        with suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(tell, result, trouble)

    threading.Thread(target=do, name="slack", daemon=True).start()
    return await ended


def _failed(error: SlackApiError) -> Delivery:
    code = _code(error)
    return Delivery(
        is_delivered=False,
        is_permanent=code in _PERMANENT,
        error=_words(error),
        retry_after_s=retry_after_s(getattr(error.response, "headers", {}) or {}),
    )


def _code(error: SlackApiError) -> str:
    response = error.response
    data = response.get("error") if hasattr(response, "get") else None
    return data if isinstance(data, str) else "unreadable_answer"


def _words(error: SlackApiError) -> str:
    code = _code(error)
    return _MEND.get(code, f"Slack refused the message: {code}")


def _webhook_words(status: int) -> str:
    if status == 200:
        return "the Slack webhook answered something other than ok"
    if status in (403, 404, 410):
        return f"the Slack webhook answered {status}: set slack.webhook_url to a valid one"
    return f"the Slack webhook answered {status}"


def _simpler(message: dict[str, Any], code: str) -> dict[str, Any] | None:
    """The message without what was refused, None when nothing can be left out."""
    if code in _BLOCKS_REFUSED and "blocks" in message:
        return {key: value for key, value in message.items() if key != "blocks"}
    if code in _THREAD_REFUSED and "thread_ts" in message:
        left_out = ("thread_ts", "reply_broadcast")
        return {key: value for key, value in message.items() if key not in left_out}
    return None


def _scope_warnings(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Scopes that the token lacks, where Slack says which it has."""
    told = next((v for name, v in headers.items() if name.lower() == "x-oauth-scopes"), None)
    if told is None:
        return ()
    held = {scope.strip() for scope in told.split(",")}
    needed = {"chat:write": "no message can be posted", "files:write": "charts are left out"}
    return tuple(
        f"the Slack token lacks the scope {scope}: {what}"
        for scope, what in needed.items()
        if scope not in held
    )


def _timestamp(reference: str | None) -> str:
    return (reference or "").partition(":")[2]


def _with_slash(url: str) -> str:
    return url if url.endswith("/") else url + "/"
