"""A reply in the shape of OpenAI chat completions, streamed or plain, read strictly.

See https://platform.openai.com/docs/api-reference/chat-streaming for the chunks.
"""

from collections.abc import Mapping

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

_FINISH: Mapping[str, StopReason] = {
    "stop": StopReason.END_TURN,
    "length": StopReason.MAX_TOKENS,
    "tool_calls": StopReason.TOOL_USE,
    "content_filter": StopReason.REFUSAL,
}
_DONE = b"[DONE]"


class _Call:
    __slots__ = ("name", "pieces")

    def __init__(self) -> None:
        self.name = ""
        self.pieces: list[str] = []


class OpenAIReply:
    """Reads one reply in the shape of chat completions.

    First content is the first text, refusal or tool call; reasoning, which no caller sees, is not.
    """

    def __init__(self, model: ModelSpec) -> None:
        self._model = model
        self._is_begun = False
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._finish: object = None
        self._usage: JsonObject | None = None
        self._message_id: str | None = None
        self.has_content = False
        self.is_complete = False

    # --- streamed --------------------------------------------------------------------------

    def event(self, name: bytes, data: bytes) -> None:
        """Take in one server-sent event."""
        if data.strip() == _DONE:
            self.is_complete = True
            return
        try:
            chunk = decode(data)
        except ValueError:
            raise incomplete("the stream holds a malformed event") from None
        if not isinstance(chunk, dict):
            raise incomplete("the stream holds a malformed event")
        if chunk.get("error") is not None or name == b"error":
            raise self._error(chunk)
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            raise _foreign(chunk)
        self._begin(chunk)
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        for choice in choices:
            self._choice(choice, "delta")

    def _error(self, chunk: JsonObject) -> BadReply:
        error = error_of(chunk)
        known = None if self.has_content else class_of_stream_error(error)
        what = advice(known, error) if known else f"[{error.label or 'error'}]"
        return BadReply(
            known or FailureClass.INCOMPLETE, f"the stream broke off with an error event: {what}"
        )

    # --- plain -----------------------------------------------------------------------------

    def document(self, document: object) -> None:
        """Take in a whole reply that came as plain JSON."""
        if not isinstance(document, dict):
            raise protocol_error("the gateway answered with JSON that is not a completion")
        choices = document.get("choices")
        if document.get("error") is not None or not isinstance(choices, list) or not choices:
            raise _foreign(document)
        self._begin(document)
        self._usage = part(document, "usage") or None
        for choice in choices:
            self._choice(choice, "message")
        self.is_complete = True

    # --- both ------------------------------------------------------------------------------

    def content(self) -> Content:
        """What the reply says, once it ended.

        A stream that told its finish and usage but not `[DONE]` is whole; a cut one is not.
        """
        if not self._is_begun:
            raise protocol_error("the gateway answered 200 with a stream that says nothing")
        if self._finish is None:
            raise incomplete("the stream ended without a finish reason")
        if not self.is_complete and self._usage is None:
            raise incomplete("the stream ended before its usage and [DONE]")
        stop_reason = self._stop_reason()
        text = whole_text("".join([*self._texts, *self._refusals]))
        is_cut = stop_reason is StopReason.MAX_TOKENS
        calls = [_tool_call(self._calls[key], is_cut=is_cut) for key in sorted(self._calls)]
        tool_calls = tuple(call for call in calls if call is not None)
        if self._usage is None:
            raise protocol_error("the reply has no usage: its cost is unknown")
        return Content(
            text=text,
            tool_calls=tool_calls,
            stop_reason=stop_reason,
            usage=checked_usage(usage_of(self._usage), has_output=bool(text or tool_calls)),
            reported_cost_usd=money(self._usage.get("cost")),
            message_id=self._message_id,
        )

    def usage_so_far(self) -> Usage | None:
        """What was counted up to now, None when nothing was."""
        if self._usage is None:
            return None
        try:
            return usage_of(self._usage)
        except BadReply:
            return None

    def _begin(self, chunk: JsonObject) -> None:
        if self._is_begun:
            return
        # Some gateways open with a chunk about their content filter that names no model.
        if chunk.get("choices") == [] and not chunk.get("model"):
            return
        self._is_begun = True
        ident = chunk.get("id")
        self._message_id = ident[:200] if isinstance(ident, str) and ident else None
        if not is_expected(self._model, chunk.get("model")):
            self._usage = part(chunk, "usage") or None
            raise protocol_error(mismatch_message(self._model, chunk.get("model")))

    def _choice(self, choice: object, key: str) -> None:
        if not isinstance(choice, dict) or not isinstance(choice.get(key), dict):
            raise _malformed(key)
        if choice.get("index", 0) != 0:
            raise protocol_error("the reply holds several choices where one was asked for")
        self._message(choice[key], key)
        if choice.get("finish_reason") is not None:
            self._finish = choice["finish_reason"]

    def _message(self, message: JsonObject, key: str) -> None:
        for name, pieces in (("content", self._texts), ("refusal", self._refusals)):
            piece = message.get(name)
            if piece is None or piece == "":
                continue
            if not isinstance(piece, str):
                raise protocol_error("the reply holds an unknown kind of content")
            pieces.append(piece)
            self.has_content = True
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or message.get("function_call"):
            raise protocol_error("the reply holds an unknown kind of tool call")
        for position, call in enumerate(calls):
            self._tool_call(call, position, key)

    def _tool_call(self, call: object, position: int, key: str) -> None:
        if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
            raise protocol_error("the reply holds an unknown kind of tool call")
        index = call.get("index", position) if key == "delta" else position
        if not isinstance(index, int):
            raise _malformed(key)
        kept = self._calls.setdefault(index, _Call())
        function = call["function"]
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and not kept.name:
            kept.name = name
        if isinstance(arguments, str):
            kept.pieces.append(arguments)
        elif arguments is not None:
            raise _malformed(key)
        self.has_content = True

    def _stop_reason(self) -> StopReason:
        stop_reason = _FINISH.get(str(self._finish))
        if stop_reason is None:
            raise protocol_error("the reply has an unknown finish reason")
        if self._refusals:
            return StopReason.REFUSAL
        # A forced tool call finishes with "stop".
        if stop_reason is StopReason.END_TURN and self._calls:
            return StopReason.TOOL_USE
        return stop_reason


def usage_of(usage: Mapping[str, object]) -> Usage:
    """Our token counts from a chat completion's.

    `prompt_tokens` includes what was read from and written to a cache. `completion_tokens`
    includes reasoning at most vendors; where the total shows that it does not, it is added.

    Raises:
        BadReply: If the counts are not usable.
    """
    if usage.get("prompt_tokens") is None or usage.get("completion_tokens") is None:
        raise protocol_error("the reply has no usage: its cost is unknown")
    prompt, output = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    details = part(usage, "prompt_tokens_details")
    read = (
        count(details, "cached_tokens")
        or count(usage, "cache_read_input_tokens")
        or count(usage, "prompt_cache_hit_tokens")
    )
    written = count(details, "cache_write_tokens") or count(usage, "cache_creation_input_tokens")
    reasoning = count(part(usage, "completion_tokens_details"), "reasoning_tokens")
    if reasoning and count(usage, "total_tokens") == prompt + output + reasoning:
        output += reasoning
    if read + written > prompt:
        raise protocol_error("the reply's usage counts more cached tokens than it had input")
    return Usage(
        input_tokens=prompt - read - written,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_5m_tokens=written,
        thinking_tokens=min(output, reasoning),
    )


def _tool_call(call: _Call, *, is_cut: bool) -> JsonObject | None:
    """The call in our shape; None for one that was cut at the token limit."""
    if not call.name:
        raise protocol_error("the reply holds a tool call without a name")
    arguments = "".join(call.pieces)
    try:
        value = decode_text(arguments) if arguments.strip() else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        if is_cut:
            return None
        raise incomplete("the reply holds a tool call whose arguments are not a JSON object")
    return {"type": "tool_use", "name": call.name, "input": value}


def _malformed(key: str) -> BadReply:
    if key == "delta":
        return incomplete("the stream holds a malformed event")
    return protocol_error("the completion holds a malformed choice")


def _foreign(document: JsonObject) -> BadReply:
    kind = document.get("type")
    if kind == "error" or document.get("error") is not None:
        error = error_of(document)
        label = f" [{error.label}]" if error.label else ""
        return protocol_error(f"the gateway answered 200 with an error{label}")
    if kind in ("message", "message_start", "ping"):
        return protocol_error(
            "the gateway answers in the shape of the Messages API: set `api: anthropic` or another "
            "`base_url`"
        )
    return protocol_error("the gateway answered with something that is not a completion")
