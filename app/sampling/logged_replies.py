"""Replies as logs hold them: text, or a whole response of one of three APIs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.domain.json_values import JsonObject
from app.sampling.content_blocks import tool_use_block
from app.sampling.logged_values import as_items, as_object, clean, json_of, lenient_json_of
from app.sampling.refusals import NotReplayable


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedReply:
    """What the model answered in production.

    Attributes:
        text: None when the log keeps no reply.
        tool_calls: In the shape of a Completion's: type, name, input.
    """

    text: str | None = None
    tool_calls: tuple[JsonObject, ...] = ()


def reply_of(value: object) -> LoggedReply:
    """The reply that was logged; a shape nobody knows is no reply, never an error."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        body = lenient_json_of(value)
        reply = _of_object(body) if isinstance(body, Mapping) else None
        return reply or LoggedReply(text=clean(value) if value.strip() else None)
    if isinstance(value, Mapping):
        return _of_object(value) or LoggedReply()
    if (items := as_items(value)) is not None:
        return _of_blocks(items)
    return LoggedReply()


def tool_calls_of(value: object) -> tuple[JsonObject, ...]:
    """Tool calls in OpenAI or Anthropic shape, without their ids; broken ones are left out."""
    try:
        items = as_items(json_of(value)) or ()
    except NotReplayable:
        return ()
    calls = (_call(item) for item in items)
    return tuple(call for call in calls if call is not None)


def _of_object(body: Mapping[str, object]) -> LoggedReply | None:
    if choices := as_items(body.get("choices")):
        message = as_object((as_object(choices[0]) or {}).get("message"))
        return _of_message(message or {})
    if (output := as_items(body.get("output"))) is not None:
        return _of_blocks(output)
    if body.get("role") == "assistant" or body.get("type") == "message":
        return _of_message(body)
    return None


def _of_message(message: Mapping[str, object]) -> LoggedReply:
    content = message.get("content")
    called = tool_calls_of(message.get("tool_calls"))
    if isinstance(content, str):
        return LoggedReply(text=clean(content) or None, tool_calls=called)
    reply = _of_blocks(as_items(content) or ())
    return LoggedReply(text=reply.text, tool_calls=(*reply.tool_calls, *called))


def _of_blocks(items: Iterable[object]) -> LoggedReply:
    texts: list[str] = []
    calls: list[JsonObject] = []
    for item in items:
        block = as_object(item) or {}
        if block.get("type") == "message":
            inner = _of_message(block)
            texts.append(inner.text or "")
        elif isinstance(block.get("text"), str):
            texts.append(str(block["text"]))
        elif (call := _call(block)) is not None:
            calls.append(call)
    return LoggedReply(text=clean("".join(texts)) or None, tool_calls=tuple(calls))


def _call(item: object) -> JsonObject | None:
    call = as_object(item) or {}
    function = as_object(call.get("function")) or call
    arguments = function.get("input", function.get("arguments"))
    try:
        block = tool_use_block({"id": "call", "function": {**function, "arguments": arguments}})
    except NotReplayable:
        return None
    return {key: block[key] for key in ("type", "name", "input")}
