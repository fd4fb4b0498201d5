"""HTTP requests to the API of a log product: read only, patient, and never led elsewhere."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.domain.errors import LogSourceAway, LogSourceError

Sleep = Callable[[float], Awaitable[None]]

_TIMEOUT_S = 60.0
_TRIES = 6
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
_PASSING = (408, 425, 429)
#: What stores of files answer for one that is not there, or not any more.
_GONE = (403, 404, 410)


class ReadingClient:
    """Asks one API; waits and asks again where that can help.

    Args:
        product: Its name, for messages.
        base_url: Its address.
        headers: Sent to that address alone.
        keys: Which of `logs.options` hold its credentials, for messages.
        transport: What carries the requests; the network unless a test says otherwise.
        sleep: Waits.
    """

    def __init__(
        self,
        *,
        product: str,
        base_url: str,
        headers: Mapping[str, str],
        keys: str,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._product = product
        self._base_url = base_url.rstrip("/")
        self._headers = dict(headers)
        self._keys = keys
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            follow_redirects=False, trust_env=False, timeout=_TIMEOUT_S, transport=transport
        )

    async def get(
        self, path: str, params: Mapping[str, str | int] | None = None, *, absent_ok: bool = False
    ) -> Any:
        """The JSON at a path of the API; None for one that is not there, where that may be.

        Raises:
            LogSourceError: If it cannot be read.
        """
        request = self._client.build_request(
            "GET", self._base_url + path, params=dict(params or {}), headers=self._headers
        )
        return await self._json(request, absent=(httpx.codes.NOT_FOUND,) if absent_ok else ())

    async def post(self, path: str, body: Mapping[str, object]) -> Any:
        """The JSON that a query sent to a path of the API brings.

        Raises:
            LogSourceError: If it cannot be read.
        """
        request = self._client.build_request(
            "POST", self._base_url + path, json=dict(body), headers=self._headers
        )
        return await self._json(request)

    async def fetch(self, url: str) -> Any:
        """The JSON behind an address that the API gave out; None where it is gone.

        Our credentials are not sent there.

        Raises:
            LogSourceError: If it cannot be read, or is neither https nor on the API's own host.
        """
        parts, own = urlsplit(url), urlsplit(self._base_url)
        is_own = (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
        if parts.scheme != "https" and not is_own:
            raise LogSourceError(f"{self._product} names an address that is not https")
        return await self._json(self._client.build_request("GET", url), absent=_GONE)

    async def close(self) -> None:
        """Give back all connections."""
        await self._client.aclose()

    async def _json(self, request: httpx.Request, *, absent: Collection[int] = ()) -> Any:
        wait_s = _FIRST_WAIT_S
        for left in range(_TRIES - 1, -1, -1):
            try:
                response = await self._client.send(request)
            except httpx.TransportError as error:
                if not left:
                    raise LogSourceAway(
                        f"{self._product} cannot be reached at {request.url.host}: "
                        f"{type(error).__name__}; check logs.options.base_url"
                    ) from error
            else:
                if response.status_code in absent:
                    return None
                if not left or not _may_pass(response.status_code):
                    return self._read(response)
                wait_s = max(wait_s, _retry_after(response))
            await self._sleep(min(wait_s, _LONGEST_WAIT_S))
            wait_s *= 2
        raise AssertionError("the last try returns or raises")

    def _read(self, response: httpx.Response) -> Any:
        if response.is_success:
            try:
                return response.json()
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                raise LogSourceError(
                    f"{self._product} answers with something that is no JSON: "
                    "check logs.options.base_url"
                ) from error
        kind = LogSourceAway if _may_pass(response.status_code) else LogSourceError
        raise kind(f"{self._product} answers {response.status_code}: {self._mend(response)}")

    def _mend(self, response: httpx.Response) -> str:
        status = response.status_code
        if status in {401, 403}:
            return f"it refuses the credentials; check {self._keys}"
        if status == httpx.codes.NOT_FOUND:
            return "there is no such path; check logs.options.base_url"
        if response.is_redirect:
            host = urlsplit(response.headers.get("location", "")).hostname or "another address"
            return f"it redirects to {host}; set logs.options.base_url to the final address"
        if _may_pass(status):
            return "it stays busy; try again later"
        return "it refuses the request"


def _may_pass(status: int) -> bool:
    return status in _PASSING or status >= httpx.codes.INTERNAL_SERVER_ERROR


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
