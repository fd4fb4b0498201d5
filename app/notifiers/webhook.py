"""A generic JSON webhook, signed, for everything that is not Slack.

The body is the alert as JSON. With a secret, `X-Switchwise-Signature` holds
`sha256=HMAC(secret, timestamp + "." + body)` and `X-Switchwise-Timestamp` the Unix seconds.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime

import httpx

from app.domain.alerts import Alert, Delivery
from app.domain.plans import WebhookSettings
from app.notifiers.answers import answer_of
from app.notifiers.headers import retry_after_s

TIMEOUT_S = 20.0
_PERMANENT = frozenset({400, 401, 403, 404, 405, 410, 413, 422})


class WebhookNotifier:
    """Posts alerts as signed JSON.

    Args:
        settings: URL and secret.
        now: The injected clock's `now`.
        timeout_s: How long a whole request may take.
    """

    name = "webhook"

    def __init__(
        self,
        settings: WebhookSettings,
        now: Callable[[], datetime],
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._now = now
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False)

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        """Post once; any 2xx counts as delivered."""
        body = json.dumps(_payload(alert, thread), ensure_ascii=False).encode()
        try:
            request = self._client.build_request(
                "POST", self._settings.url.reveal(), content=body, headers=self._headers(body)
            )
            response = await answer_of(self._client, request, timeout_s=self._timeout_s)
        except TimeoutError:
            return Delivery(is_delivered=False, error="the webhook did not answer in time")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Delivery(is_delivered=False, error=f"webhook: {type(error).__name__}")
        if response.is_success:
            return Delivery(is_delivered=True, reference=thread or alert.key)
        return Delivery(
            is_delivered=False,
            is_permanent=response.is_redirect or response.status_code in _PERMANENT,
            error=f"the webhook answered {response.status_code}",
            retry_after_s=retry_after_s(response.headers),
        )

    async def check(self) -> tuple[str, ...]:
        """A webhook can only be checked by posting."""
        return ()

    async def close(self) -> None:
        """Give back connections."""
        await self._client.aclose()

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._settings.secret is not None:
            stamp = str(int(self._now().timestamp()))
            headers["X-Switchwise-Timestamp"] = stamp
            headers["X-Switchwise-Signature"] = signature(
                self._settings.secret.reveal(), stamp, body
            )
        return headers


def signature(secret: str, stamp: str, body: bytes) -> str:
    """The signature that a receiver must compute itself and compare."""
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def _payload(alert: Alert, thread: str | None) -> dict[str, object]:
    return {
        "key": alert.key,
        "kind": alert.kind.value,
        "news": alert.news.value,
        "run_id": alert.run_id,
        "title": alert.title,
        "lead": alert.lead,
        "fields": [{"label": label, "value": value} for label, value in alert.fields],
        "lines": list(alert.lines),
        "links": [{"label": label, "path": path} for label, path in alert.links],
        "context": list(alert.context),
        "chart": None if alert.chart is None else dict(alert.chart),
        "thread": thread,
    }
