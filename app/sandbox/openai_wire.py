"""The OpenAI chat completions API: requests, replies and server-sent events."""

import json
from collections.abc import Iterator, Mapping

from app.sandbox.dialogue import Answer, Ask, StopReason, Tool, Turn
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

_CREATED = 1_767_571_200
_FINISH: dict[StopReason, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class OpenAIWire:
    """Speaks `POST /v1/chat/completions`."""

    name = "openai"

    def ask(self, body: Mapping[str, object]) -> Ask:
        """The request; MalformedRequestError when a field is missing or of a wrong type."""
        model = body.get("model")
        if not isinstance(model, str):
            raise MalformedRequestError("you must provide a model parameter")
        turns = tuple(_turns(body))
        if not turns:
            raise MalformedRequestError("'messages' must not be empty")
        wanted = mapping(body.get("response_format") or {}, "response_format")
        schema = mapping(wanted.get("json_schema") or {}, "json_schema").get("schema")
        tools = tuple(_tool(entry) for entry in sequence(body.get("tools") or [], "tools"))
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        options = mapping(body.get("stream_options") or {}, "stream_options")
        return Ask(
            model=model,
            system="\n\n".join(t.text for t in turns if t.role in {"system", "developer"}),
            turns=tuple(t for t in turns if t.role not in {"system", "developer"}),
            tools=tools,
            tool_choice=_choice(body.get("tool_choice")),
            schema=schema if isinstance(schema, Mapping) else None,
            wants_json=wanted.get("type") == "json_object",
            max_tokens=positive(limit, "max_tokens"),
            stop=_stops(body.get("stop")),
            is_stream=body.get("stream") is True,
            wants_usage=options.get("include_usage") is True,
            features=_features(body, wanted),
        )

    def plain(self, rendering: Rendering) -> dict[str, object]:
        """The reply as a chat completion."""
        answer = rendering.answer
        message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool is not None:
            message["content"] = None
            message["tool_calls"] = [_tool_call(rendering, answer.tool_input)]
        if rendering.has_unknown_block:
            message["content"] = [{"type": "hologram", "frames": 3}]
        reply = _envelope(rendering, "chat.completion")
        reply["choices"] = [
            {"index": 0, "message": message, "finish_reason": _FINISH[answer.stop_reason]}
        ]
        if rendering.has_usage:
            reply["usage"] = _usage(answer)
        return reply

    def events(self, rendering: Rendering) -> Events:
        """Chunks, with usage in the last one when it was asked for."""
        answer = rendering.answer
        opening: dict[str, object] = {"role": "assistant", "content": ""}
        if answer.tool is not None:
            opening = {
                "role": "assistant",
                "tool_calls": [{"index": 0, **_tool_call(rendering, "")}],
            }
        start = _chunk(rendering, opening)
        pieces = tuple(
            _chunk(rendering, {"content": piece})
            if answer.tool is None
            else _chunk(rendering, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            for piece in pieces_of(answer.text or answer.tool_input, rendering.chunks)
        )
        end = _chunk(rendering, {}, finish=_FINISH[answer.stop_reason])
        if rendering.has_usage:
            closing = _envelope(rendering, "chat.completion.chunk")
            end += sse({**closing, "choices": [], "usage": _usage(answer)})
        return Events(start=start, pieces=pieces, end=end + b"data: [DONE]\n\n")

    def error(self, kind: str, message: str) -> dict[str, object]:
        """An error object."""
        return {"error": {"message": message, "type": kind, "param": None, "code": kind}}

    @property
    def ping(self) -> bytes:
        """A comment line, which keeps a stream alive."""
        return b": ping\n\n"

    @property
    def broken_event(self) -> bytes:
        """A chunk that breaks off inside its JSON."""
        return b'data: {"id": "chatcmpl-1", "choices": [{"ind\n\n'

    def error_event(self, kind: str, message: str) -> bytes:
        """An error object as data, as sent once a stream has begun."""
        return sse(self.error(kind, message))


def _envelope(rendering: Rendering, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{rendering.ident}",
        "object": kind,
        "created": _CREATED,
        "model": rendering.model,
    }


def _chunk(
    rendering: Rendering, delta: Mapping[str, object], *, finish: str | None = None
) -> bytes:
    envelope = _envelope(rendering, "chat.completion.chunk")
    return sse({**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _tool_call(rendering: Rendering, arguments: str) -> dict[str, object]:
    return {
        "id": f"call_{rendering.ident}",
        "type": "function",
        "function": {"name": rendering.answer.tool, "arguments": arguments},
    }


def _usage(answer: Answer) -> dict[str, object]:
    prompt = answer.input_tokens + answer.cache_read_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.output_tokens,
        "total_tokens": prompt + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.thinking_tokens},
    }


def _turns(body: Mapping[str, object]) -> Iterator[Turn]:
    for place, entry in enumerate(sequence(body.get("messages"), "messages")):
        message = mapping(entry, f"messages[{place}]")
        role = message.get("role")
        if role not in {"system", "developer", "user", "assistant", "tool"}:
            raise MalformedRequestError(f"Invalid value for messages[{place}].role")
        text = _text(message.get("content"))
        for call in sequence(message.get("tool_calls") or [], "tool_calls"):
            text += f"[calls {json.dumps(dict(mapping(call, 'tool_calls')))}]"
        is_result = role == "tool"
        yield Turn(role="user" if is_result else str(role), text=text, is_tool_result=is_result)


def _text(content: object) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n\n".join(
        str(part.get("text", f"[{part.get('type')}]"))
        for part in (mapping(entry, "content") for entry in sequence(content, "content"))
    )


def _tool(entry: object) -> Tool:
    function = mapping(mapping(entry, "tools").get("function"), "tools.function")
    return Tool(
        name=str(function.get("name", "")),
        description=str(function.get("description", "")),
        schema=dict(mapping(function.get("parameters") or {}, "tools.function.parameters")),
    )


def _choice(choice: object) -> str:
    if isinstance(choice, Mapping):
        return str(mapping(choice.get("function"), "tool_choice.function").get("name", ""))
    return {"required": "any", "none": "none"}.get(str(choice), "auto")


def _stops(stop: object) -> tuple[str, ...]:
    if isinstance(stop, list):
        return tuple(str(entry) for entry in stop)
    return (stop,) if isinstance(stop, str) else ()


def _features(body: Mapping[str, object], wanted: Mapping[str, object]) -> frozenset[str]:
    found = {"tools"} if body.get("tools") else set()
    if wanted.get("type") in {"json_schema", "json_object"}:
        found.add("response_format")
    if "temperature" in body:
        found.add("temperature")
    return frozenset(found)
