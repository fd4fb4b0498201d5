"""What a reply must say, whoever the vendor: shared checks of untrusted bodies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NoReturn, Protocol

from app.domain.attempts import FailureClass, StopReason
from app.domain.json_values import JsonObject, is_deep
from app.domain.prices import Usage
from app.providers.sse import SseDecoder

#: A hundred times the longest context there is; sums of counts fit any column.
_MOST_TOKENS = 100_000_000
_MOST_USD = Decimal(1_000_000)
_FINEST_DIGIT = -30
_SSE_STARTS = (b"event:", b"data:", b"id:", b"retry:", b":")


class BadReply(Exception):
    """A reply that cannot be taken at its word; `message` says what to mend."""

    def __init__(
        self, failure_class: FailureClass, message: str, *, is_cost_unknown: bool = True
    ) -> None:
        self.failure_class = failure_class
        self.message = message
        self.is_cost_unknown = is_cost_unknown
        super().__init__(message)


def protocol_error(message: str) -> BadReply:
    """The reply is not what the API promises."""
    return BadReply(FailureClass.PROTOCOL, message)


def incomplete(message: str) -> BadReply:
    """The reply broke off."""
    return BadReply(FailureClass.INCOMPLETE, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a validated reply says."""

    text: str
    tool_calls: tuple[JsonObject, ...]
    stop_reason: StopReason
    usage: Usage
    reported_cost_usd: Decimal | None = None
    message_id: str | None = None


class Dialect(Protocol):
    """Reads one reply in one vendor's shape. Raises `BadReply` for anything else.

    Attributes:
        has_content: Whether any text or tool input has arrived.
        is_complete: Whether the reply has said that it ends.
    """

    has_content: bool
    is_complete: bool

    def event(self, name: bytes, data: bytes) -> None:
        """Take in one server-sent event."""

    def document(self, document: object) -> None:
        """Take in a whole reply that came as plain JSON."""

    def content(self) -> Content:
        """What the reply says, once it ended."""

    def usage_so_far(self) -> Usage | None:
        """What was counted up to now, None when nothing was."""


class Body:
    """Feeds a body to a Dialect, whether it comes as events or as plain JSON."""

    __slots__ = ("_decoder", "_dialect", "_document", "is_stream")

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._decoder = SseDecoder()
        self._document = b""
        self.is_stream: bool | None = None

    def feed(self, chunk: bytes) -> None:
        """Take in some bytes of the body."""
        if self.is_stream is None:
            chunk = self._sniff(chunk)
        if self.is_stream:
            self._events(self._decoder.feed(chunk))
        else:
            self._document += chunk

    def end(self) -> None:
        """The body is over."""
        if self.is_stream:
            self._events(self._decoder.flush())
        elif not self._dialect.is_complete:
            self._dialect.document(_document(self._document))

    def _sniff(self, chunk: bytes) -> bytes:
        """Tell events from a document by the first characters; hold bytes that tell nothing yet."""
        head = (self._document + chunk).lstrip(b"\xef\xbb\xbf \t\r\n")
        self._document = b""
        if any(start.startswith(head) for start in _SSE_STARTS):
            self._document = head
            return b""
        self.is_stream = head.startswith(_SSE_STARTS)
        return head

    def _events(self, events: list[tuple[bytes, bytes]]) -> None:
        dialect = self._dialect
        for name, data in events:
            if dialect.is_complete:
                return
            dialect.event(name, data)


def _document(body: bytes) -> object:
    if not body:
        raise protocol_error(
            "the gateway answered 200 with an empty body: check the base URL and any "
            "proxy before it"
        )
    if body.startswith(b"<"):
        raise protocol_error(
            "the gateway answered 200 with a web page: check the base URL and any proxy or login "
            "page before it"
        )
    try:
        return decode(body)
    except ValueError:
        if body.startswith(b"{") and not body.rstrip().endswith(b"}"):
            raise incomplete("the reply ended in the middle of its JSON") from None
        raise protocol_error("the gateway answered 200 with a body that is not JSON") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


def decode(data: bytes) -> object:
    """The JSON value of the bytes, strictly.

    Raises:
        ValueError: If the bytes are not UTF-8 or not JSON (NaN and Infinity are not).
    """
    try:
        return _JSON.decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_text(text: str) -> object:
    """The JSON value of a text, strictly.

    Raises:
        ValueError: If the text is not JSON.
    """
    try:
        return _JSON.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def whole_text(text: str) -> str:
    """The text with surrogate pairs that deltas had torn apart joined again, never a lone one."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def count(data: Mapping[str, object], key: str) -> int:
    """A token count; absent and null are 0.

    Raises:
        BadReply: If it is anything but a whole number of at least 0, or no reply has so many.
    """
    value = data.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        raise protocol_error(f"the reply's usage has no usable `{key}`: its cost is unknown")
    return value


def part(data: Mapping[str, object], key: str) -> Mapping[str, object]:
    """A nested object; absent, null and anything else is empty."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def money(value: object) -> Decimal | None:
    """An amount in USD that a gateway reports, None when no call can have cost it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    is_usable = amount.is_finite() and 0 <= amount <= _MOST_USD
    return amount if is_usable and int(amount.as_tuple().exponent) >= _FINEST_DIGIT else None


def checked_calls(calls: tuple[JsonObject, ...]) -> tuple[JsonObject, ...]:
    """The tool calls, if their input can be kept and compared; what they cost is counted.

    Raises:
        BadReply: If one is nested beyond what any tool takes.
    """
    if is_deep(calls):
        raise BadReply(
            FailureClass.PROTOCOL,
            "the reply holds a tool call whose input is nested too deeply",
            is_cost_unknown=False,
        )
    return calls


def checked_usage(usage: Usage, *, has_output: bool) -> Usage:
    """The usage, if a paid reply can have had it.

    Raises:
        BadReply: If it counts no input, or no output for a reply that says something.
    """
    if usage.prompt_tokens == 0:
        raise protocol_error("the reply's usage counts no input tokens: its cost is unknown")
    if has_output and usage.output_tokens == 0:
        raise protocol_error("the reply's usage counts no output tokens: its cost is unknown")
    return usage
