"""What the two vendors' shapes have in common, so that one gateway speaks both."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.sandbox.dialogue import Answer, Ask


class MalformedRequestError(ValueError):
    """The request is not what the API takes; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How an answer is put on the wire.

    Attributes:
        answer: What is said.
        model: The model name the reply carries.
        ident: The reply's own id.
        has_usage: Whether it reports usage.
        has_unknown_block: Whether it holds a content block of an unknown type.
        chunks: Pieces in which a stream sends its text.
    """

    answer: Answer
    model: str
    ident: str
    has_usage: bool = True
    has_unknown_block: bool = False
    chunks: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """A streamed reply: what comes first, the pieces of text, what comes last."""

    start: bytes
    pieces: tuple[bytes, ...]
    end: bytes


class Wire(Protocol):
    """One vendor's API: requests in, replies and errors out.

    Attributes:
        name: What the call log calls it.
    """

    name: str

    def ask(self, body: Mapping[str, object]) -> Ask:
        """The request; MalformedRequestError when a field is missing or of a wrong type."""

    def plain(self, rendering: Rendering) -> dict[str, object]:
        """The reply as one JSON object."""

    def events(self, rendering: Rendering) -> Events:
        """The reply as server-sent events."""

    def error(self, kind: str, message: str) -> dict[str, object]:
        """An error object."""

    @property
    def ping(self) -> bytes:
        """An event that says nothing."""

    @property
    def broken_event(self) -> bytes:
        """An event whose data is no JSON."""

    def error_event(self, kind: str, message: str) -> bytes:
        """An error in the middle of a stream."""


def sse(data: Mapping[str, object], *, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def pieces_of(text: str, count: int) -> list[str]:
    """The text in at most `count` pieces of about one size; none for an empty text."""
    if not text:
        return []
    size = -(-len(text) // max(count, 1))
    return [text[at : at + size] for at in range(0, len(text), size)]


def mapping(value: object, what: str) -> Mapping[str, object]:
    """The value if it is an object, else MalformedRequestError."""
    if not isinstance(value, Mapping):
        raise MalformedRequestError(f"{what}: Input should be an object")
    return value


def sequence(value: object, what: str) -> Sequence[object]:
    """The value if it is a list, else MalformedRequestError."""
    if not isinstance(value, list):
        raise MalformedRequestError(f"{what}: Input should be a valid list")
    return value


def positive(value: object, what: str) -> int | None:
    """The value if it is a positive integer or absent, else MalformedRequestError."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise MalformedRequestError(f"{what}: Input should be greater than or equal to 1")
    return value
