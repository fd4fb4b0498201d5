"""A gateway on loopback that answers exactly what a test says: cuts, pings and silence included."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came over the wire; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> dict[str, Any]:
        """The body as JSON."""
        document: dict[str, Any] = json.loads(self.body)
        return document


class Wire:
    """The server's end of one connection, to be answered on byte by byte."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """Send the status line and headers; without a length the body is chunked."""
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        lines = [f"HTTP/1.1 {status} Status", framing]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of the body."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """End a chunked body."""
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    def cut(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()


Behaviour = Callable[[Wire], Awaitable[None]]
SSE = {"content-type": "text/event-stream", "request-id": "req_1"}


def streaming(events: Iterable[bytes], headers: Mapping[str, str] = SSE) -> Behaviour:
    """Answers with a stream of events, each a chunk of its own."""
    parts = list(events)

    async def behave(wire: Wire) -> None:
        await wire.head(200, headers)
        for part in parts:
            await wire.chunk(part)
        await wire.end()

    return behave


def plain(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Behaviour:
    """Answers with a whole body: bytes as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", "request-id": "req_1", **(headers or {})}

    async def behave(wire: Wire) -> None:
        await wire.head(status, sent, length=len(data))
        await wire.raw(data)

    return behave


def cut_after(events: Iterable[bytes]) -> Behaviour:
    """Streams the events and drops the connection without ending the body."""
    parts = list(events)

    async def behave(wire: Wire) -> None:
        await wire.head(200, SSE)
        for part in parts:
            await wire.chunk(part)
        wire.cut()

    return behave


def repeating(events: Iterable[bytes], ping: bytes, *, every_s: float = 0.01) -> Behaviour:
    """Streams the events, then pings for ever."""
    parts = list(events)

    async def behave(wire: Wire) -> None:
        await wire.head(200, SSE)
        for part in parts:
            await wire.chunk(part)
        while True:
            await wire.chunk(ping)
            await asyncio.sleep(every_s)

    return behave


async def silent(wire: Wire) -> None:
    """Takes the request and never answers."""
    await asyncio.Event().wait()


async def resetting(wire: Wire) -> None:
    """Takes the request and drops the connection."""
    wire.cut()


class GatewayServer:
    """Serves the behaviours in turn, the last one for ever; keeps what it received."""

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._behaviours = list(behaviours)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.received: list[Received] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
            }
            method, path, _ = first.split(" ")
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            number = len(self.received)
            self.received.append(
                Received(
                    method=method, path=path, headers=headers, body=body, connection=connection
                )
            )
            await self._behaviours[min(number, len(self._behaviours) - 1)](Wire(writer))
