"""Puts an answer, an error or a fault on the wire, byte by byte where it matters."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from app.sandbox.anthropic_wire import AnthropicWire
from app.sandbox.dialogue import Answer, Ask
from app.sandbox.faults import Refused
from app.sandbox.openai_wire import OpenAIWire
from app.sandbox.wire import Rendering, Wire
from app.sandbox.world import Fault, FaultKind

_JSON = b"application/json"
_SSE = b"text/event-stream; charset=utf-8"
_HTML = b"text/html; charset=utf-8"
_PAGE = b"<html><head><title>Bad gateway</title></head><body><h1>Please wait</h1></body></html>"


@dataclass(slots=True, kw_only=True)
class Call:
    """One call on its way through the gateway."""

    scope: Scope
    receive: Receive
    send: Send
    wire: Wire
    ask: Ask
    week: int
    nth: int
    ident: str
    status: int = 0
    outcome: str = "unfinished"
    answer: Answer | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the caller has hung up."""
        transport = self.scope.get("state", {}).get("transport")
        return transport is not None and transport.is_closing()


async def send_reply(call: Call, fault: Fault | None, chunks: int) -> None:
    """Sends the answer, plain or as a stream, spoiled by the fault if there is one."""
    answer = call.answer
    if answer is None:
        raise TypeError("a reply needs an answer")
    kind = fault.kind if fault else None
    wire = call.wire
    if kind is FaultKind.OTHER_VENDOR:
        wire = OpenAIWire() if isinstance(wire, AnthropicWire) else AnthropicWire()
    rendering = Rendering(
        answer=answer,
        model="some-other-model" if kind is FaultKind.OTHER_MODEL else call.ask.model,
        ident=call.ident,
        has_usage=kind is not FaultKind.NO_USAGE
        and (call.ask.wants_usage or not call.ask.is_stream),
        has_unknown_block=kind is FaultKind.UNKNOWN_BLOCK,
        chunks=chunks,
    )
    if call.ask.is_stream and kind is not FaultKind.PLAIN_JSON:
        await _stream(call, wire, rendering, kind)
    else:
        await _plain(call, wire, rendering, kind)


async def _plain(call: Call, wire: Wire, rendering: Rendering, kind: FaultKind | None) -> None:
    await _pause(rendering.answer.latency_s)
    body = json.dumps(wire.plain(rendering)).encode()
    if kind in {FaultKind.MALFORMED_EVENT, FaultKind.CLEAN_END}:
        body = body[: len(body) // 2]
    elif kind is FaultKind.ERROR_EVENT:
        body = json.dumps(wire.error("overloaded_error", "Overloaded")).encode()
    elif kind is FaultKind.CUT_STREAM:
        await _start(call, 200, _JSON, length=len(body))
        await call.send(_part(body[: len(body) // 2], more=True))
        await _close(call)
        return
    await _start(call, 200, _JSON, length=len(body))
    await call.send(_part(body))


async def _stream(call: Call, wire: Wire, rendering: Rendering, kind: FaultKind | None) -> None:
    events = wire.events(rendering)
    answer = rendering.answer
    await _pause(answer.ttft_s)
    await _start(call, 200, _SSE)
    rest_s = answer.latency_s - answer.ttft_s
    if kind in _BREAKS:
        await call.send(_part(events.start + b"".join(events.pieces[:1]), more=True))
        await _pause(rest_s / 2)
        await _break_off(call, wire, kind)
        return
    if rest_s <= 0 and len(events.pieces) <= 1:
        await call.send(_part(events.start + b"".join(events.pieces) + events.end))
        return
    head, *pieces = events.pieces or (b"",)
    await call.send(_part(events.start + head, more=True))
    for piece in pieces:
        await _pause(rest_s / (len(pieces) + 1))
        await call.send(_part(piece, more=True))
    await _pause(rest_s / (len(pieces) + 1))
    await call.send(_part(events.end))


_BREAKS = frozenset(
    {
        FaultKind.CUT_STREAM,
        FaultKind.MALFORMED_EVENT,
        FaultKind.CLEAN_END,
        FaultKind.ERROR_EVENT,
    }
)


async def _break_off(call: Call, wire: Wire, kind: FaultKind | None) -> None:
    """Ends a stream in the way of the fault."""
    if kind is FaultKind.CUT_STREAM:
        await _close(call)
    elif kind is FaultKind.MALFORMED_EVENT:
        await call.send(_part(wire.broken_event))
    elif kind is FaultKind.ERROR_EVENT:
        await call.send(_part(wire.error_event("overloaded_error", "Overloaded")))
    else:
        await call.send(_part(b""))


async def play_silent_fault(call: Call, fault: Fault, ping_interval_s: float) -> bool:
    """Plays a fault that comes before any answer; False when the fault is of another kind."""
    match fault.kind:
        case FaultKind.CONNECTION_RESET:
            await _close(call, reset=True)
        case FaultKind.HANG:
            await _hold(call)
        case FaultKind.PING_FOREVER:
            await _ping_forever(call, ping_interval_s)
        case FaultKind.HTML:
            await _page(call, 200, _PAGE, _HTML)
        case FaultKind.BAD_GATEWAY:
            await _page(call, 502, _PAGE, _HTML)
        case FaultKind.EMPTY_BODY:
            await _page(call, 200, b"", _JSON)
        case FaultKind.ERROR_BODY:
            message = fault.message or "Overloaded"
            error = call.wire.error("overloaded_error", message)
            await _page(call, 200, json.dumps(error).encode(), _JSON)
        case FaultKind.REDIRECT:
            call.status = 307
            headers = [(b"location", b"/elsewhere"), (b"content-length", b"0")]
            await call.send({"type": "http.response.start", "status": 307, "headers": headers})
            await call.send(_part(b""))
        case _:
            return False
    return True


async def _ping_forever(call: Call, interval_s: float) -> None:
    if not call.ask.is_stream:
        await _hold(call)
        return
    await _start(call, 200, _SSE)
    gone = asyncio.ensure_future(_disconnected(call.receive))
    try:
        while not gone.done():
            await call.send(_part(call.wire.ping, more=True))
            await asyncio.wait({gone}, timeout=interval_s)
    finally:
        gone.cancel()


async def _hold(call: Call) -> None:
    """Says nothing until the caller hangs up."""
    await _disconnected(call.receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _page(call: Call, status: int, body: bytes, content_type: bytes) -> None:
    await _start(call, status, content_type, length=len(body))
    await call.send(_part(body))


async def send_refusal(call: Call, refused: Refused, outcome: str) -> None:
    """Sends an HTTP error as the end of a call."""
    call.status, call.outcome = refused.status, outcome
    await refuse(call.send, call.wire, refused, call.ident)


async def refuse(send: Send, wire: Wire, refused: Refused, ident: str) -> None:
    """Sends an HTTP error."""
    error = {**wire.error(refused.kind, refused.message), "request_id": f"req_{ident}"}
    body = json.dumps(error).encode()
    headers = _headers(_JSON, ident, len(body))
    if refused.retry_after is not None:
        headers.append((b"retry-after", refused.retry_after.encode("latin-1")))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send(_part(body))


async def _start(
    call: Call, status: int, content_type: bytes, *, length: int | None = None
) -> None:
    call.status = status
    headers = _headers(content_type, call.ident, length)
    await call.send({"type": "http.response.start", "status": status, "headers": headers})


def _headers(content_type: bytes, ident: str, length: int | None) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", content_type),
        (b"request-id", b"req_" + ident.encode()),
        (b"x-request-id", b"req_" + ident.encode()),
        (b"anthropic-ratelimit-requests-limit", b"4000"),
        (b"anthropic-ratelimit-requests-remaining", b"3999"),
    ]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return headers


def _part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _close(call: Call, *, reset: bool = False) -> None:
    """Closes the connection under the reply; with `reset` the peer sees a reset."""
    transport = call.scope.get("state", {}).get("transport")
    if transport is None:
        raise ConnectionAbortedError("this server cannot cut a connection")
    if reset:
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    await _disconnected(call.receive)


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
