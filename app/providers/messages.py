"""Prompts as chat completions: the shape of the Messages API mapped to OpenAI's, or refused.

Nothing that shapes a reply is dropped. What is left out shapes none: cache markers, citations,
the thinking of earlier turns (only the model that thought it may be sent it), `metadata` and
`service_tier`. What has no counterpart raises `NotMappable`, whose reason says how to go on.
Reading such messages back is `app.sampling.messages`; together they lose nothing.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.domain.cases import Message, Prompt
from app.domain.json_values import JsonObject

_LEFT_OUT = ("thinking", "redacted_thinking")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class NotMappable(Exception):
    """The prompt holds something that chat completions cannot say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A Prompt in the vocabulary of chat completions."""

    messages: tuple[JsonObject, ...]
    tools: tuple[JsonObject, ...] = ()


def to_chat(prompt: Prompt) -> Chat:
    """The prompt's messages and tools as chat completions take them.

    Raises:
        NotMappable: If something in it has no counterpart.
    """
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    turns = (item for message in prompt.messages for item in _turn(message))
    return Chat(messages=(*system, *turns), tools=tuple(chat_tool(tool) for tool in prompt.tools))


def chat_tool(tool: JsonObject) -> JsonObject:
    """A tool definition as chat completions take it.

    Raises:
        NotMappable: If the tool runs at its vendor.
    """
    if tool.get("type", "custom") != "custom" or not isinstance(tool.get("name"), str):
        raise NotMappable(f"the tool type {tool.get('type')!r} exists at one vendor only")
    function: dict[str, object] = {"name": tool["name"]}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    function["parameters"] = tool.get("input_schema") or {"type": "object", "properties": {}}
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def chat_params(params: Mapping[str, object]) -> dict[str, object]:
    """Parameters of the Messages API under the names of chat completions.

    Raises:
        NotMappable: If one shapes the reply and has no counterpart.
    """
    chat: dict[str, object] = {}
    for name, value in params.items():
        mapped = _PARAMS.get(name)
        if mapped is None:
            raise NotMappable(
                f"the logged parameter `{name}` has no counterpart in chat completions: set it to "
                "null in the model's `params` to replay without it"
            )
        chat.update(mapped(value))
    return chat


def answer_format(schema: Mapping[str, object], *, name: str = "answer") -> JsonObject:
    """The `response_format` that makes a model answer by the schema."""
    body = {"name": name, "schema": dict(schema), "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": body}


def is_strict(schema: object) -> bool:
    """Whether a JSON Schema keeps the rules of strict structured output.

    Every object names all its properties as required and allows no others.
    """
    if isinstance(schema, Mapping):
        if schema.get("type") == "object" or "properties" in schema:
            properties = schema.get("properties")
            required = schema.get("required")
            if schema.get("additionalProperties") is not False:
                return False
            if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
                return False
            if set(properties) != set(required):
                return False
        return all(is_strict(value) for value in schema.values())
    if isinstance(schema, list | tuple):
        return all(is_strict(value) for value in schema)
    return True


def _turn(message: Message) -> Iterable[JsonObject]:
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    blocks = [block for block in message.content if block.get("type") not in _LEFT_OUT]
    return _assistant(blocks) if message.role == "assistant" else _user(blocks)


def _assistant(blocks: Sequence[JsonObject]) -> Iterable[JsonObject]:
    texts = [block for block in blocks if block.get("type") == "text"]
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    if [*texts, *calls] != list(blocks):
        raise NotMappable("an earlier reply holds more than text followed by tool calls")
    if not blocks:
        return []
    message: dict[str, object] = {"role": "assistant", "content": _parts(texts) if texts else None}
    if calls:
        message["tool_calls"] = [_call(block) for block in calls]
    return [message]


def _user(blocks: Sequence[JsonObject]) -> Iterable[JsonObject]:
    results = [block for block in blocks if block.get("type") == "tool_result"]
    rest = [block for block in blocks if block.get("type") != "tool_result"]
    if [*results, *rest] != list(blocks):
        raise NotMappable("a tool result comes after other content of its turn")
    said = [{"role": "user", "content": _parts(rest)}] if rest else []
    return [*(_result(block) for block in results), *said]


def _call(block: JsonObject) -> JsonObject:
    arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
    function = {"name": block.get("name"), "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def _result(block: JsonObject) -> JsonObject:
    if block.get("is_error"):
        raise NotMappable("a tool result is marked as an error, which chat completions cannot say")
    content = block.get("content") or ""
    if not isinstance(content, str):
        inner = [part for part in content if isinstance(part, Mapping)]  # type: ignore[attr-defined]
        if any(part.get("type") != "text" for part in inner):
            raise NotMappable("a tool result holds more than text")
        content = _parts(inner)
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}


def _parts(blocks: Sequence[JsonObject]) -> object:
    """Content parts; a lone text is a plain string, which every server takes."""
    if not blocks:
        return ""
    if len(blocks) == 1 and blocks[0].get("type") == "text":
        return blocks[0].get("text")
    return [_part(block) for block in blocks]


def _part(block: JsonObject) -> JsonObject:
    match block.get("type"):
        case "text":
            return {"type": "text", "text": block.get("text")}
        case "image":
            return {"type": "image_url", "image_url": {"url": _image_url(block)}}
        case kind:
            raise NotMappable(f"content of type {kind!r} has no counterpart in chat completions")


def _image_url(block: JsonObject) -> str:
    source = block.get("source")
    if isinstance(source, Mapping):
        if source.get("type") == "url":
            return str(source.get("url"))
        if source.get("type") == "base64":
            return f"data:{source.get('media_type')};base64,{source.get('data')}"
    raise NotMappable("an image is neither a URL nor base64")


def _same(name: str) -> Callable[[object], Mapping[str, object]]:
    return lambda value: {name: value}


def _nothing(_value: object) -> Mapping[str, object]:
    return {}


def _tool_choice(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        return {"tool_choice": value}
    kind = value.get("type")
    chat: dict[str, object] = {}
    if kind == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": value.get("name")}}
    elif kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[str(kind)]
    else:
        chat["tool_choice"] = value
    if value.get("disable_parallel_tool_use") is True:
        chat["parallel_tool_calls"] = False
    return chat


def _output_config(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise NotMappable("`output_config` is no object")
    chat: dict[str, object] = {}
    for name, part in value.items():
        if name == "effort":
            chat["reasoning_effort"] = part
        elif name == "format" and isinstance(part, Mapping) and part.get("type") == "json_schema":
            schema = part.get("schema")
            chat["response_format"] = answer_format(schema if isinstance(schema, Mapping) else {})
        else:
            raise NotMappable(f"`output_config.{name}` has no counterpart in chat completions")
    return chat


def _thinking(value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping) and value.get("type") == "disabled":
        return {}
    raise NotMappable(
        "the logged parameter `thinking` has no counterpart in chat completions: set it to null "
        "in the model's `params`, and `reasoning_effort` to what the model should spend"
    )


_PARAMS: Mapping[str, Callable[[object], Mapping[str, object]]] = {
    "max_tokens": _nothing,
    "temperature": _same("temperature"),
    "top_p": _same("top_p"),
    "stop_sequences": _same("stop"),
    "tool_choice": _tool_choice,
    "output_config": _output_config,
    "thinking": _thinking,
    "metadata": _nothing,
    "service_tier": _nothing,
}
