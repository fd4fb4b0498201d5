"""The openai SDK, told everything explicitly so that it reads nothing from its surroundings."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import openai

from app import __version__
from app.domain.attempts import Completion, Failure
from app.domain.models import Endpoint
from app.ports import Clock
from app.providers.connections import open_client
from app.providers.exchange import Exchange
from app.providers.replies import Dialect


class OpenAIClient:
    """One SDK client for one endpoint: no retries, no environment, no redirects."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._sdk = _open_sdk(endpoint, clock)
        self._create = self._sdk.chat.completions.with_streaming_response.create
        self._exchange = _exchange(clock)

    async def run(
        self, body: dict[str, Any], reply: Dialect, *, deadline_s: float
    ) -> Completion | Failure:
        """Make one call of `chat.completions.create` and read its reply.

        The body goes in as it is: the SDK's typed arguments would walk every message by its type
        hints, which costs as much CPU as the rest of the call.
        """
        call = partial(
            self._create,
            model=body["model"],
            stream=body["stream"],
            messages=(),
            extra_body=body,
        )
        return await self._exchange.run(call, reply, deadline_s=deadline_s)

    async def close(self) -> None:
        """Give back connections."""
        await self._sdk.close()


class OpenAIEmbeddingsClient:
    """As `OpenAIClient`, for embeddings."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._sdk = _open_sdk(endpoint, clock)
        self._create = self._sdk.embeddings.with_streaming_response.create
        self._exchange = _exchange(clock)

    async def run(
        self, body: dict[str, Any], reply: Dialect, *, deadline_s: float
    ) -> Completion | Failure:
        """Make one call of `embeddings.create` and read its reply."""
        call = partial(self._create, model=body["model"], input=[], extra_body=body)
        return await self._exchange.run(call, reply, deadline_s=deadline_s)

    async def close(self) -> None:
        """Give back connections."""
        await self._sdk.close()


def _open_sdk(endpoint: Endpoint, clock: Clock) -> "_Sdk":
    sdk = _Sdk(
        api_key=endpoint.api_key.reveal() or "none",
        base_url=endpoint.base_url,
        max_retries=0,
        http_client=open_client(endpoint, clock),
    )
    sdk.be_plain(endpoint)
    return sdk


def _exchange(clock: Clock) -> Exchange:
    return Exchange(
        clock,
        status_error=openai.APIStatusError,
        connection_error=openai.APIConnectionError,
    )


class _Sdk(openai.AsyncOpenAI):
    """The SDK's client, sending the plan's headers and no others.

    The original also sends what the environment names (organisation, project, custom headers) and
    a dozen headers about this machine, and builds them anew for every call.
    """

    _plain: Mapping[str, str | openai.Omit]

    def be_plain(self, endpoint: Endpoint) -> None:
        """Send this endpoint's headers from now on."""
        self._plain = _headers(endpoint)
        self._custom_headers = {}

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        return dict(self._plain)

    def _validate_headers(self, headers: object, custom_headers: object) -> None:
        """Any authentication will do, or none: local servers need no key."""


def _headers(endpoint: Endpoint) -> dict[str, str | openai.Omit]:
    headers: dict[str, str | openai.Omit] = {
        "Content-Type": "application/json",
        "User-Agent": f"switchwise/{__version__}",
    }
    key = endpoint.api_key.reveal()
    if not key:
        headers["Authorization"] = openai.Omit()
    elif endpoint.auth == "bearer":
        headers["Authorization"] = f"Bearer {key}"
    else:
        headers["Authorization"] = openai.Omit()
        headers["X-Api-Key"] = key
    return {**headers, **dict(endpoint.headers)}
