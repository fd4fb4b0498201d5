"""The anthropic SDK, told everything explicitly so that it reads nothing from its surroundings."""

from functools import partial
from typing import Any

import anthropic

from app.domain.attempts import Completion, Failure
from app.domain.models import Endpoint
from app.ports import Clock
from app.providers.connections import open_client
from app.providers.exchange import Exchange
from app.providers.replies import Dialect


class AnthropicClient:
    """One SDK client for one endpoint: no retries, no environment, no profiles, no redirects."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._sdk = anthropic.AsyncAnthropic(
            api_key=endpoint.api_key.reveal() or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            http_client=open_client(endpoint, clock),
            open_telemetry=False,
        )
        # The constructor adds headers that the environment names; only the plan may add any.
        self._sdk._custom_headers = _headers(endpoint)  # noqa: SLF001
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


def _headers(endpoint: Endpoint) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    key = endpoint.api_key.reveal()
    if endpoint.auth == "x-api-key" or not key:
        headers["Authorization"] = anthropic.Omit()
    if endpoint.auth == "x-api-key" and key:
        headers["X-Api-Key"] = key
    if endpoint.api_version is not None:
        headers["anthropic-version"] = endpoint.api_version
    return {**headers, **dict(endpoint.headers)}
