"""The Anthropic Messages API: requests, replies and server-sent events."""

import hashlib
import json
from collections.abc import Iterator, Mapping

from app.sandbox.dialogue import Answer, Ask, Tool, Turn
from app.sandbox.wire import (
    Events,
    MalformedRequestError,
    Rendering,
    mapping,
    pieces_of,
    positive,
    sequence,
    sse,
)

_UNKNOWN_BLOCK: dict[str, object] = {"type": "hologram", "frames": 3}


class AnthropicWire:
    """Speaks `POST /v1/messages`."""

    name = "anthropic"

    def ask(self, body: Mapping[str, object]) -> Ask:
        """The request; MalformedRequestError when a field is missing or of a wrong type."""
        model = body.get("model")
        if not isinstance(model, str):
            raise MalformedRequestError("model: Field required")
        if "max_tokens" not in body:
            raise MalformedRequestError("max_tokens: Field required")
        turns = tuple(_turns(body))
        if not turns:
            raise MalformedRequestError("messages: at least one message is required")
        tools = tuple(_tool(entry) for entry in sequence(body.get("tools") or [], "tools"))
        output = mapping(body.get("output_config") or {}, "output_config").get("format")
        schema = output.get("schema") if isinstance(output, Mapping) else None
        stop = sequence(body.get("stop_sequences") or [], "stop_sequences")
        return Ask(
            model=model,
            system=_text(body.get("system") or ""),
            turns=turns,
            tools=tools,
            tool_choice=_choice(mapping(body.get("tool_choice") or {}, "tool_choice")),
            schema=schema if isinstance(schema, Mapping) else None,
            max_tokens=positive(body.get("max_tokens"), "max_tokens"),
            stop=tuple(str(entry) for entry in stop),
            is_stream=body.get("stream") is True,
            features=_features(body, has_schema=schema is not None),
        )

    def plain(self, rendering: Rendering) -> dict[str, object]:
        """The reply as a Message."""
        answer = rendering.answer
        message = _message(rendering, _content(rendering))
        message["stop_reason"] = answer.stop_reason
        message["stop_sequence"] = answer.stop_sequence
        if rendering.has_usage:
            message["usage"] = _usage(answer, answer.output_tokens)
        return message

    def events(self, rendering: Rendering) -> Events:
        """message_start … message_stop."""
        answer = rendering.answer
        opening = _message(rendering, [])
        if rendering.has_usage:
            opening["usage"] = _usage(answer, 1)
        start = [sse({"type": "message_start", "message": opening}, event="message_start")]
        index = 0
        if rendering.has_unknown_block:
            start += [_block_start(0, _UNKNOWN_BLOCK), _block_stop(0)]
            index = 1
        pieces: tuple[bytes, ...] = ()
        end = []
        if answer.tool is not None or answer.text:
            start.append(_block_start(index, _empty_block(rendering)))
            pieces = tuple(_deltas(rendering, index))
            end.append(_block_stop(index))
        closing: dict[str, object] = {
            "type": "message_delta",
            "delta": {"stop_reason": answer.stop_reason, "stop_sequence": answer.stop_sequence},
        }
        if rendering.has_usage:
            closing["usage"] = _usage(answer, answer.output_tokens)
        end += [
            sse(closing, event="message_delta"),
            sse({"type": "message_stop"}, event="message_stop"),
        ]
        return Events(start=b"".join(start), pieces=pieces, end=b"".join(end))

    def error(self, kind: str, message: str) -> dict[str, object]:
        """An error object."""
        return {"type": "error", "error": {"type": kind, "message": message}}

    @property
    def ping(self) -> bytes:
        """A ping event."""
        return sse({"type": "ping"}, event="ping")

    @property
    def broken_event(self) -> bytes:
        """A delta that breaks off inside its JSON."""
        return b'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n'

    def error_event(self, kind: str, message: str) -> bytes:
        """An error event, as sent once a stream has begun."""
        return sse(self.error(kind, message), event="error")


def _message(rendering: Rendering, content: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": f"msg_{rendering.ident}",
        "type": "message",
        "role": "assistant",
        "model": rendering.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _content(rendering: Rendering) -> list[dict[str, object]]:
    answer = rendering.answer
    blocks: list[dict[str, object]] = [_UNKNOWN_BLOCK] if rendering.has_unknown_block else []
    if answer.tool is not None:
        block = _empty_block(rendering)
        block["input"] = _loaded(answer.tool_input)
        blocks.append(block)
    elif answer.text:
        blocks.append({"type": "text", "text": answer.text})
    return blocks


def _empty_block(rendering: Rendering) -> dict[str, object]:
    if rendering.answer.tool is None:
        return {"type": "text", "text": ""}
    return {
        "type": "tool_use",
        "id": f"toolu_{rendering.ident}",
        "name": rendering.answer.tool,
        "input": {},
    }


def _deltas(rendering: Rendering, index: int) -> Iterator[bytes]:
    answer = rendering.answer
    kind, member = ("text_delta", "text") if answer.tool is None else _INPUT_DELTA
    for piece in pieces_of(answer.text or answer.tool_input, rendering.chunks):
        yield sse(
            {"type": "content_block_delta", "index": index, "delta": {"type": kind, member: piece}},
            event="content_block_delta",
        )


_INPUT_DELTA = ("input_json_delta", "partial_json")


def _block_start(index: int, block: Mapping[str, object]) -> bytes:
    return sse(
        {"type": "content_block_start", "index": index, "content_block": block},
        event="content_block_start",
    )


def _block_stop(index: int) -> bytes:
    return sse({"type": "content_block_stop", "index": index}, event="content_block_stop")


def _usage(answer: Answer, output_tokens: int) -> dict[str, object]:
    usage: dict[str, object] = {
        "input_tokens": answer.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cache_read_tokens,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }
    if answer.thinking_tokens and output_tokens == answer.output_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": answer.thinking_tokens}
    return usage


def _turns(body: Mapping[str, object]) -> Iterator[Turn]:
    for place, entry in enumerate(sequence(body.get("messages"), "messages")):
        message = mapping(entry, f"messages.{place}")
        content = message.get("content")
        if message.get("role") not in {"user", "assistant", "system"}:
            raise MalformedRequestError(f"messages.{place}.role: Input should be 'user'")
        if not isinstance(content, str | list):
            raise MalformedRequestError(f"messages.{place}.content: Field required")
        if content in ("", []):
            raise MalformedRequestError(f"messages.{place}: content must be non-empty")
        blocks = content if isinstance(content, list) else []
        yield Turn(
            role=str(message["role"]),
            text=_text(content),
            is_tool_result=any(
                isinstance(block, Mapping) and block.get("type") == "tool_result"
                for block in blocks
            ),
        )


def _text(content: object) -> str:
    """All text of a string or of content blocks; other blocks are rendered in brackets."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise MalformedRequestError("content: Input should be a valid string or list")
    return "\n\n".join(_block_text(mapping(block, "content")) for block in content)


def _block_text(block: Mapping[str, object]) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text", ""))
        case "tool_use":
            return f"[calls {block.get('name')} {json.dumps(block.get('input'))}]"
        case "tool_result":
            return f"[result {_text(block.get('content') or '')}]"
        case other:
            digest = hashlib.blake2b(json.dumps(dict(block)).encode(), digest_size=6).hexdigest()
            return f"[{other} {digest}]"


def _tool(entry: object) -> Tool:
    tool = mapping(entry, "tools")
    schema = tool.get("input_schema") or {}
    return Tool(
        name=str(tool.get("name", "")),
        description=str(tool.get("description", "")),
        schema=dict(mapping(schema, "tools.input_schema")),
    )


def _choice(choice: Mapping[str, object]) -> str:
    match choice.get("type"):
        case "tool":
            return str(choice.get("name", ""))
        case "any":
            return "any"
        case "none":
            return "none"
        case _:
            return "auto"


def _features(body: Mapping[str, object], *, has_schema: bool) -> frozenset[str]:
    found = {"tools"} if body.get("tools") else set()
    if has_schema:
        found.add("output_config")
    if any(name in body for name in ("temperature", "top_p", "top_k")):
        found.add("temperature")
    return frozenset(found)


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return {}
