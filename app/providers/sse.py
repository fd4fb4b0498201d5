"""Server-sent events, decoded from bytes with as little work as possible."""

_DATA = b"data:"
_EVENT = b"event:"


class SseDecoder:
    """Cuts a byte stream into (event name, data) pairs; comments and empty events are dropped.

    See https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation.
    """

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Take in some bytes and hand out the events they complete."""
        pending = self._pending + chunk if self._pending else chunk
        if b"\r" in pending:
            pending, held = (pending[:-1], b"\r") if pending.endswith(b"\r") else (pending, b"")
            pending = pending.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        *blocks, rest = pending.split(b"\n\n")
        self._pending = rest + held
        return [event for block in blocks if (event := _event(block)) is not None]

    def flush(self) -> list[tuple[bytes, bytes]]:
        """Hand out a last event whose blank line never came."""
        return self.feed(b"\n\n")


def _event(block: bytes) -> tuple[bytes, bytes] | None:
    name = b""
    data = None
    for line in block.split(b"\n"):
        if line.startswith(_DATA):
            value = line[6:] if line[5:6] == b" " else line[5:]
            data = value if data is None else data + b"\n" + value
        elif line.startswith(_EVENT):
            name = line[6:].strip()
    return None if data is None else (name, data)
