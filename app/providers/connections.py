"""Connections to one endpoint: pooled, without redirects or environment, stamped at first byte.

The network streams are our own: each notes by the injected clock when the first byte of a request
goes out, which no SDK tells, and costs less CPU than the pool's stock ones.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from ipaddress import ip_address

import httpcore2
import httpx2

from app.domain.addresses import is_metadata_address
from app.domain.models import Endpoint
from app.ports import Clock

CONNECT_TIMEOUT_S = 10.0
#: Below the 5 s after which common servers close idle connections.
_KEEPALIVE_S = 4.0
_MAX_BODY_BYTES = 32 * 1024 * 1024
_PAUSE_BYTES = 1024 * 1024
_SDK_TELEMETRY = b"x-stainless-"
#: Their debug logs hold prompts and keys.
_TALKATIVE = ("anthropic", "openai", "httpx2", "httpcore2")


class BodyTooLarge(Exception):
    """The server sent more than any reply can hold."""


class TlsRefused(httpcore2.ConnectError):
    """The server does not speak TLS as asked."""


class Untrusted(TlsRefused):
    """Nobody that this machine trusts vouches for the server's certificate."""


class UnknownName(httpcore2.ConnectError):
    """No address is known for the server's name."""


class ConnectionRefused(httpcore2.ConnectError):
    """Nothing listens at the server's port."""


class ForbiddenAddress(httpcore2.ConnectError):
    """The server's name leads to the metadata service of a cloud."""


class Connection(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One TCP or TLS connection; `sent_at` is when the first byte of the last request went out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._is_over = False
        self._error: Exception | None = None
        self._is_paused = False
        self._outgoing = bytearray()
        self.sent_at = clock.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- asyncio promises it
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep the bytes until they are read; hold the server back when they pile up."""
        self._received += data
        if len(self._received) > _PAUSE_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._is_paused = True
        self._wake()

    def eof_received(self) -> bool:
        """The server sends no more."""
        self._is_over = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._is_over = True
        self._error = exc
        self._wake()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- the base class names it
        """Some bytes, or none at the end; the caller's total deadline bounds the wait."""
        del max_bytes, timeout
        if self._outgoing:
            self._send()
        if not self._received and not self._is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._received:
            if self._error is not None:
                raise httpcore2.ReadError(str(self._error)) from self._error
            return b""
        data = bytes(self._received)
        self._received.clear()
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- the base class names it
        """Hold the bytes until the whole request is written: it goes out with the next read."""
        del timeout
        self._outgoing += buffer

    async def aclose(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- the base class names it
    ) -> httpcore2.AsyncNetworkStream:
        """Upgrade the connection to TLS."""
        loop = asyncio.get_running_loop()
        assert self._transport is not None  # noqa: S101 -- set when the connection was made
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(str(error)) from error
        except ssl.SSLError as error:
            raise TlsRefused(str(error)) from error
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        if transport is None:
            raise httpcore2.ConnectError("the connection was lost during the TLS handshake")
        self._transport = transport
        return self

    def get_extra_info(self, info: str) -> object:
        """What the pool asks: whether the server has closed an idle connection, and TLS details."""
        if info == "is_readable":
            return self._is_over or bool(self._received)
        return None if self._transport is None else self._transport.get_extra_info(info)

    def _send(self) -> None:
        if self._transport is None or self._transport.is_closing():
            raise httpcore2.ReadError("the connection is closed")
        self.sent_at = self._clock.monotonic()
        self._transport.write(self._outgoing)
        self._outgoing = bytearray()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Backend(httpcore2.AsyncNetworkBackend):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- the base class names it
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        del local_address, socket_options
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport, connection = await loop.create_connection(
                    lambda: Connection(self._clock), host, port, happy_eyeballs_delay=0.25
                )
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except socket.gaierror as error:
            raise UnknownName(host) from error
        except ConnectionRefusedError as error:
            raise ConnectionRefused(host) from error
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        if _is_metadata(transport):  # names are looked up here, so nobody can change them after
            transport.abort()
            raise ForbiddenAddress(host)
        return connection

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


def _is_metadata(transport: asyncio.BaseTransport) -> bool:
    peer = transport.get_extra_info("peername")
    if not peer:
        return False
    return is_metadata_address(ip_address(str(peer[0]).partition("%")[0]))


class _BodyStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        stream = self._response.stream
        assert isinstance(stream, AsyncIterable)  # noqa: S101 -- the pool is asynchronous
        async for chunk in stream:
            size += len(chunk)
            if size > _MAX_BODY_BYTES:
                raise BodyTooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests over pooled connections of our own."""

    def __init__(self, clock: Clock, *, concurrency: int, is_tls: bool) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpcore2.default_ssl_context() if is_tls else None,
            max_connections=2 * concurrency + 8,
            max_keepalive_connections=concurrency,
            keepalive_expiry=_KEEPALIVE_S,
            network_backend=_Backend(clock),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and hand out its response, body unread."""
        url = request.url
        response = await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=[
                    header
                    for header in request.headers.raw
                    if not header[0].lower().startswith(_SDK_TELEMETRY)
                ],
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_BodyStream(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def open_client(endpoint: Endpoint, clock: Clock) -> httpx2.AsyncClient:
    """An HTTP client for one endpoint: no redirects, no environment, explicit timeouts."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx2.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        timeout=httpx2.Timeout(endpoint.timeout_s, connect=CONNECT_TIMEOUT_S),
        transport=Transport(
            clock,
            concurrency=endpoint.concurrency,
            is_tls=endpoint.base_url.lower().startswith("https:"),
        ),
        headers={"accept-encoding": "identity"},
    )


def sent_at(response: httpx2.Response, default: float) -> float:
    """When the first byte of the response's request went out, by the monotonic clock."""
    connection = response.extensions.get("network_stream")
    return connection.sent_at if isinstance(connection, Connection) else default
