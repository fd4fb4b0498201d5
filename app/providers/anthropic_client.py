"""The anthropic SDK, told everything explicitly so that it reads nothing from its surroundings."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import anthropic
import httpx2

from app import __version__
from app.domain.attempts import Completion, Failure
from app.domain.models import Endpoint
from app.ports import Clock
from app.providers.connections import open_client
from app.providers.exchange import Exchange
from app.providers.replies import Dialect


class AnthropicClient:
    """One SDK client for one endpoint: no retries, no environment, no profiles, no redirects."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._sdk = _Sdk(
            api_key=endpoint.api_key.reveal() or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            http_client=open_client(endpoint, clock),
            open_telemetry=False,
        )
        self._sdk.be_plain(endpoint)
        self._create = self._sdk.messages.with_streaming_response.create
        self._exchange = Exchange(
            clock,
            status_error=anthropic.APIStatusError,
            connection_error=anthropic.APIConnectionError,
        )

    async def run(
        self, arguments: dict[str, Any], reply: Dialect, *, deadline_s: float
    ) -> Completion | Failure:
        """Make one call of `messages.create` and read its reply."""
        call = partial(self._create, **arguments)
        return await self._exchange.run(call, reply, deadline_s=deadline_s)

    async def close(self) -> None:
        """Give back connections."""
        await self._sdk.close()


class _Sdk(anthropic.AsyncAnthropic):
    """The SDK's client, sending the plan's headers and no others.

    The original also sends what the environment names in ANTHROPIC_CUSTOM_HEADERS and a dozen
    headers about this machine, and builds them, and the URL, anew for every call.
    """

    _plain: Mapping[str, str | anthropic.Omit]
    _urls: dict[str, httpx2.URL]

    def be_plain(self, endpoint: Endpoint) -> None:
        """Send this endpoint's headers from now on."""
        self._plain = _headers(endpoint, super().default_headers)
        self._custom_headers = {}
        self._urls = {}

    @property
    def default_headers(self) -> dict[str, str | anthropic.Omit]:
        return dict(self._plain)

    def _prepare_url(self, url: str) -> httpx2.URL:
        if url not in self._urls:
            self._urls[url] = super()._prepare_url(url)
        return self._urls[url]


def _headers(
    endpoint: Endpoint, sdk_headers: Mapping[str, str | anthropic.Omit]
) -> dict[str, str | anthropic.Omit]:
    headers: dict[str, str | anthropic.Omit] = {
        "Content-Type": "application/json",
        "User-Agent": f"switchwise/{__version__}",
        "anthropic-version": endpoint.api_version or sdk_headers["anthropic-version"],
    }
    key = endpoint.api_key.reveal()
    if not key:
        headers["Authorization"] = anthropic.Omit()
    elif endpoint.auth == "bearer":
        headers["Authorization"] = f"Bearer {key}"
    else:
        headers["X-Api-Key"] = key
    return {**headers, **dict(endpoint.headers)}
