"""A reply in the shape of the Anthropic Messages API, streamed or plain, read strictly.

See https://docs.claude.com/en/api/messages-streaming for the events.
"""

from collections.abc import Mapping
from decimal import Decimal

from app.domain.attempts import FailureClass, StopReason
from app.domain.json_values import JsonObject
from app.domain.models import ModelSpec
from app.domain.prices import Usage
from app.providers.model_names import is_expected, mismatch_message
from app.providers.refusals import advice, class_of_stream_error, error_of
from app.providers.replies import (
    BadReply,
    Content,
    checked_usage,
    count,
    decode,
    decode_text,
    incomplete,
    money,
    part,
    protocol_error,
    whole_text,
)

_STOP_REASONS: Mapping[str, StopReason] = {
    "end_turn": StopReason.END_TURN,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "tool_use": StopReason.TOOL_USE,
    "max_tokens": StopReason.MAX_TOKENS,
    "model_context_window_exceeded": StopReason.MAX_TOKENS,
    "refusal": StopReason.REFUSAL,
}
_THINKING = ("thinking", "redacted_thinking")
#: Delta type -> the block types it may belong to, and the key of its text.
_DELTAS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "text_delta": (("text",), "text"),
    "input_json_delta": (("tool_use",), "partial_json"),
    "thinking_delta": (("thinking",), "thinking"),
    "signature_delta": (("thinking",), "signature"),
    "citations_delta": (("text",), ""),
}


class _Block:
    __slots__ = ("input", "is_open", "kind", "name", "pieces")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = ""
        self.input: object = None
        self.pieces: list[str] = []
        self.is_open = True


class AnthropicReply:
    """Reads one reply in the shape of the Messages API.

    First content is the first text or tool call; thinking, which no caller sees, is not.
    """

    def __init__(self, model: ModelSpec) -> None:
        self._model = model
        self._is_begun = False
        self._blocks: dict[int, _Block] = {}
        self._counts: dict[str, object] = {}
        self._has_final_usage = False
        self._stop_reason: object = None
        self._message_id: str | None = None
        self.has_content = False
        self.is_complete = False

    # --- streamed --------------------------------------------------------------------------

    def event(self, name: bytes, data: bytes) -> None:
        """Take in one server-sent event."""
        try:
            event = decode(data)
        except ValueError:
            raise _foreign_or_malformed(data) from None
        if not isinstance(event, dict):
            raise incomplete("the stream holds a malformed event")
        kind = event.get("type")
        if kind == "content_block_delta":
            self._delta(event)
        elif kind == "error" or name == b"error":
            raise self._error(event)
        elif not isinstance(kind, str):
            raise _foreign(event)
        else:
            self._rare_event(kind, event)

    def _rare_event(self, kind: str, event: JsonObject) -> None:
        match kind:
            case "message_start":
                self._begin(event)
            case "content_block_start":
                self._open_block(event)
            case "content_block_stop":
                self._block(event).is_open = False
            case "message_delta":
                self._message_delta(event)
            case "message_stop":
                self._needs_beginning()
                self.is_complete = True
            case _:  # pings and kinds of event that are yet to come: the API asks to ignore them
                pass

    def _begin(self, event: JsonObject) -> None:
        if self._is_begun:
            raise incomplete("the stream begins twice")
        self._is_begun = True
        message = part(event, "message")
        self._check_head(message)
        self._count_usage(part(message, "usage"))

    def _open_block(self, event: JsonObject) -> None:
        self._needs_beginning()
        index = event.get("index")
        block = event.get("content_block")
        if not isinstance(index, int) or index in self._blocks or not isinstance(block, dict):
            raise incomplete("the stream holds a malformed event")
        self._blocks[index] = self._new_block(block)

    def _block(self, event: JsonObject) -> _Block:
        index = event.get("index")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None or not block.is_open:
            raise incomplete("the stream holds a malformed event")
        return block

    def _delta(self, event: JsonObject) -> None:
        block = self._block(event)
        delta = event.get("delta")
        if not isinstance(delta, dict):
            raise incomplete("the stream holds a malformed event")
        kind = delta.get("type")
        if not isinstance(kind, str) or kind not in _DELTAS:
            raise protocol_error("the stream holds an unknown kind of delta")
        owners, key = _DELTAS[kind]
        piece = delta.get(key) if key else ""
        if block.kind not in owners or not isinstance(piece, str):
            raise incomplete("the stream holds a malformed event")
        if piece and block.kind not in _THINKING:
            self.has_content = True
            block.pieces.append(piece)

    def _message_delta(self, event: JsonObject) -> None:
        self._needs_beginning()
        reason = part(event, "delta").get("stop_reason")
        if reason is not None:
            self._stop_reason = reason
        usage = part(event, "usage")
        if usage.get("output_tokens") is not None:
            self._has_final_usage = True
        self._count_usage(usage)

    def _needs_beginning(self) -> None:
        if not self._is_begun:
            raise incomplete("the stream lacks its beginning")

    def _error(self, event: JsonObject) -> BadReply:
        error = error_of(event)
        known = None if self.has_content else class_of_stream_error(error)
        failure_class = known or FailureClass.INCOMPLETE
        what = advice(known, error) if known else f"[{error.label or 'error'}]"
        return BadReply(failure_class, f"the stream broke off with an error event: {what}")

    # --- plain -----------------------------------------------------------------------------

    def document(self, document: object) -> None:
        """Take in a whole reply that came as plain JSON."""
        if not isinstance(document, dict):
            raise protocol_error("the gateway answered with JSON that is not a message")
        if document.get("type") != "message" or not isinstance(document.get("content"), list):
            raise _foreign(document)
        self._is_begun = True
        self._check_head(document)
        usage = part(document, "usage")
        self._count_usage(usage)
        self._has_final_usage = usage.get("output_tokens") is not None
        self._stop_reason = document.get("stop_reason")
        blocks = document["content"]
        for index, block in enumerate(blocks):
            if not isinstance(block, dict):
                raise protocol_error("the message holds a malformed content block")
            self._blocks[index] = self._new_block(block)
            self._blocks[index].is_open = False
        self.is_complete = True

    # --- both ------------------------------------------------------------------------------

    def content(self) -> Content:
        """What the reply says, once it ended."""
        if not self._is_begun:
            raise protocol_error("the gateway answered 200 with a stream that says nothing")
        if not self.is_complete or self._stop_reason is None:
            raise incomplete("the stream ended without message_stop and a stop reason")
        stop_reason = _STOP_REASONS.get(str(self._stop_reason))
        if stop_reason is None:
            raise protocol_error("the reply has an unknown stop reason")
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        text = "".join(piece for b in blocks if b.kind == "text" for piece in b.pieces)
        is_cut = stop_reason is StopReason.MAX_TOKENS
        calls = [_tool_call(block, is_cut=is_cut) for block in blocks if block.kind == "tool_use"]
        tool_calls = tuple(call for call in calls if call is not None)
        return Content(
            text=whole_text(text),
            tool_calls=tool_calls,
            stop_reason=stop_reason,
            usage=checked_usage(self._usage(), has_output=bool(text or tool_calls)),
            reported_cost_usd=self._reported_cost(),
            message_id=self._message_id,
        )

    def usage_so_far(self) -> Usage | None:
        """What was counted up to now, None when nothing was."""
        if not self._counts:
            return None
        try:
            return _usage(self._counts)
        except BadReply:
            return None

    def _usage(self) -> Usage:
        if not self._has_final_usage or self._counts.get("input_tokens") is None:
            raise protocol_error("the reply has no usage: its cost is unknown")
        return _usage(self._counts)

    def _check_head(self, message: JsonObject) -> None:
        message_id = message.get("id")
        self._message_id = message_id[:200] if isinstance(message_id, str) else None
        if not is_expected(self._model, message.get("model")):
            self._count_usage(part(message, "usage"))
            raise protocol_error(mismatch_message(self._model, message.get("model")))

    def _count_usage(self, usage: JsonObject) -> None:
        """Keep the greatest of each cumulative count; gateways send zeros first or last."""
        for key, value in usage.items():
            old = self._counts.get(key)
            if value is None or (_is_number(value) and _is_number(old) and value < old):  # type: ignore[operator]
                continue
            self._counts[key] = value

    def _new_block(self, block: JsonObject) -> _Block:
        kind = block.get("type")
        if kind == "text":
            new = _Block("text")
            text = block.get("text")
            if not isinstance(text, str):
                raise protocol_error("the reply holds a text block without text")
            if text:
                new.pieces.append(text)
                self.has_content = True
            return new
        if kind == "tool_use":
            return self._new_tool_use(block)
        if kind in _THINKING:
            return _Block(str(kind))
        raise protocol_error("the reply holds an unknown kind of content block")

    def _new_tool_use(self, block: JsonObject) -> _Block:
        new = _Block("tool_use")
        name = block.get("name")
        if not isinstance(name, str) or not name:
            raise protocol_error("the reply holds a tool call without a name")
        new.name = name
        new.input = block.get("input")
        self.has_content = True
        return new

    def _reported_cost(self) -> Decimal | None:
        return money(self._counts.get("cost"))


def _tool_call(block: _Block, *, is_cut: bool) -> JsonObject | None:
    """The call as it is kept; None for one that was cut at `max_tokens`."""
    value = block.input
    if block.pieces:
        try:
            value = decode_text("".join(block.pieces))
        except ValueError:
            value = None
    elif value is None:
        value = {}
    if not isinstance(value, dict):
        if is_cut:
            return None
        raise incomplete("the reply holds a tool call whose input is not a JSON object")
    return {"type": "tool_use", "name": block.name, "input": value}


def _usage(counts: Mapping[str, object]) -> Usage:
    creation = part(counts, "cache_creation")
    write_1h = count(creation, "ephemeral_1h_input_tokens")
    write_5m = count(creation, "ephemeral_5m_input_tokens")
    write_total = count(counts, "cache_creation_input_tokens")
    output = count(counts, "output_tokens")
    return Usage(
        input_tokens=count(counts, "input_tokens"),
        output_tokens=output,
        cache_read_tokens=count(counts, "cache_read_input_tokens"),
        cache_write_5m_tokens=max(write_5m, write_total - write_1h),
        cache_write_1h_tokens=write_1h,
        thinking_tokens=min(
            output, count(part(counts, "output_tokens_details"), "thinking_tokens")
        ),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _foreign(document: JsonObject) -> BadReply:
    if "choices" in document or str(document.get("object", "")).startswith("chat.completion"):
        return protocol_error(
            "the gateway answers in the shape of chat completions: set `api: openai` or another "
            "`base_url`"
        )
    if document.get("type") == "error" or "error" in document:
        error = error_of(document)
        label = f" [{error.label}]" if error.label else ""
        return protocol_error(f"the gateway answered 200 with an error{label}")
    return protocol_error("the gateway answered with something that is not a message")


def _foreign_or_malformed(data: bytes) -> BadReply:
    if data.strip() == b"[DONE]":
        return protocol_error(
            "the gateway streams chat completions: set `api: openai` or another `base_url`"
        )
    return incomplete("the stream holds a malformed event")
