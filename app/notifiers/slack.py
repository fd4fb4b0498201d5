"""Slack: one message per change, answers in the alert's thread, the chart beside them.

https://docs.slack.dev/reference/methods/chat.postMessage
"""

import asyncio
from collections.abc import Callable, Mapping

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from app.domain.alerts import Alert, Delivery, News
from app.domain.plans import SlackSettings
from app.notifiers.blocks import blocks_of, fallback_text

TIMEOUT_S = 20
_PERMANENT = frozenset(
    {
        "account_inactive",
        "channel_not_found",
        "invalid_auth",
        "invalid_blocks",
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
    "token_revoked": "the Slack token was revoked: set slack.token to a valid bot token",
    "channel_not_found": "no such Slack channel: set slack.channel to its id",
    "not_in_channel": "the bot is not in the channel: invite it",
    "is_archived": "the Slack channel is archived: set slack.channel to another",
    "missing_scope": "the Slack token lacks the scope chat:write (files:write for charts)",
}
ChartMaker = Callable[[Mapping[str, object]], bytes]
_ANSWERS = frozenset({News.CHANGED, News.REMINDER, News.RESOLVED, News.ADOPTED})


class SlackNotifier:
    """Posts with a bot token through `chat.postMessage`.

    Args:
        settings: Token, channel and base URL.
        public_url: Where links lead.
        draw_chart: Makes the PNG of an alert's chart; None leaves charts out.
    """

    name = "slack"

    def __init__(
        self, settings: SlackSettings, *, public_url: str = "", draw_chart: ChartMaker | None = None
    ) -> None:
        if settings.token is None or settings.channel is None:
            raise ValueError("slack needs a token and a channel")
        self._settings = settings
        self._channel = settings.channel
        self._public_url = public_url
        self._draw_chart = draw_chart
        self._client = WebClient(
            token=settings.token.reveal(),
            base_url=_with_slash(settings.base_url),
            timeout=TIMEOUT_S,
            retry_handlers=[],
        )

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        """Post once; what follows a success (parent, chart) never makes the post a failure."""
        answered = await asyncio.to_thread(self._post, alert, thread)
        if not answered.is_delivered or answered.reference is None:
            return answered
        await asyncio.to_thread(self._follow_up, alert, thread, answered.reference)
        return answered

    async def check(self) -> tuple[str, ...]:
        """Whether the token works."""
        try:
            await asyncio.to_thread(self._client.auth_test)
        except SlackApiError as error:
            return (_words(error),)
        except (SlackClientError, OSError) as error:
            return (f"Slack cannot be reached: {type(error).__name__}",)
        return ()

    async def close(self) -> None:
        """Nothing is held open."""

    def _post(self, alert: Alert, thread: str | None) -> Delivery:
        is_answer = thread is not None and alert.news in _ANSWERS
        try:
            response = self._client.chat_postMessage(
                channel=self._channel,
                text=fallback_text(alert),
                blocks=blocks_of(
                    alert,
                    public_url=self._public_url,
                    mention=self._settings.mentions.get(alert.kind.value, ""),
                ),
                thread_ts=_timestamp(thread) if is_answer else None,
                reply_broadcast=True if is_answer else None,
                unfurl_links=False,
                unfurl_media=False,
            )
        except SlackApiError as error:
            return _failed(error)
        except (SlackClientError, OSError, ValueError) as error:
            return Delivery(is_delivered=False, error=f"Slack: {type(error).__name__}")
        channel, stamp = response.get("channel", self._channel), response.get("ts")
        if not isinstance(stamp, str):
            return Delivery(is_delivered=False, error="Slack answered without a message id")
        return Delivery(is_delivered=True, reference=f"{channel}:{stamp}")

    def _follow_up(self, alert: Alert, thread: str | None, reference: str) -> None:
        """Update the parent of an answer and put the chart into the thread; best effort."""
        parent = thread if thread is not None and alert.news in _ANSWERS else reference
        try:
            if parent != reference:
                self._client.chat_update(
                    channel=parent.partition(":")[0],
                    ts=_timestamp(parent),
                    text=fallback_text(alert),
                    blocks=blocks_of(alert, public_url=self._public_url),
                )
            if alert.chart is not None and self._draw_chart is not None:
                self._client.files_upload_v2(
                    channel=parent.partition(":")[0],
                    thread_ts=_timestamp(parent),
                    filename="cost-quality.png",
                    title="Cost per success against quality",
                    alt_txt="Cost per successful response against quality, one point per model",
                    content=self._draw_chart(alert.chart),
                )
        except (SlackApiError, SlackClientError, OSError, ValueError):
            return


class SlackWebhookNotifier:
    """Posts through an incoming webhook: no threads, no files, the same words."""

    name = "slack-webhook"

    def __init__(self, settings: SlackSettings, *, public_url: str = "") -> None:
        if settings.webhook_url is None:
            raise ValueError("slack needs a webhook_url")
        self._settings = settings
        self._public_url = public_url
        self._client = WebhookClient(
            settings.webhook_url.reveal(), timeout=TIMEOUT_S, retry_handlers=[]
        )

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        """Post once; only status 200 with the body `ok` counts as delivered."""
        del thread
        return await asyncio.to_thread(self._post, alert)

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
        except (SlackClientError, OSError, ValueError) as error:
            return Delivery(is_delivered=False, error=f"Slack webhook: {type(error).__name__}")
        if response.status_code == 200 and response.body.strip() == "ok":
            return Delivery(is_delivered=True, reference="webhook")
        return Delivery(
            is_delivered=False,
            is_permanent=response.status_code in (400, 403, 404, 410),
            error=f"the Slack webhook answered {response.status_code}",
            retry_after_s=_retry_after(response.headers),
        )


def _failed(error: SlackApiError) -> Delivery:
    code = _code(error)
    return Delivery(
        is_delivered=False,
        is_permanent=code in _PERMANENT,
        error=_words(error),
        retry_after_s=_retry_after(getattr(error.response, "headers", {}) or {}),
    )


def _code(error: SlackApiError) -> str:
    response = error.response
    data = response.get("error") if hasattr(response, "get") else None
    return data if isinstance(data, str) else "unreadable_answer"


def _words(error: SlackApiError) -> str:
    code = _code(error)
    return _MEND.get(code, f"Slack refused the message: {code}")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, value in headers.items():
        if name.lower() == "retry-after":
            try:
                return max(0.0, float(value))
            except ValueError:
                return None
    return None


def _timestamp(reference: str | None) -> str:
    return (reference or "").partition(":")[2]


def _with_slash(url: str) -> str:
    return url if url.endswith("/") else url + "/"
