"""Content of messages: OpenAI parts and Anthropic blocks to Anthropic blocks.

Kept: text, images by URL or base64, tool calls and their results. Left out, because no reply
depends on them: cache markers, citations and the thinking of earlier turns (which only the model
that thought it may be sent). Everything else is refused.
"""

import re
from collections.abc import Callable, Mapping

from app.domain.json_values import JsonObject
from app.sampling.logged_values import as_items, as_object, json_of
from app.sampling.refusals import unreadable, unsupported

_DATA_URL = re.compile(r"data:(image/[\w.+-]+);base64,(.*)", re.DOTALL)
_IGNORED = frozenset({"thinking", "redacted_thinking", "reasoning"})


def blocks_of(content: object) -> list[JsonObject]:
    """The blocks of one message; blank text is left out.

    Raises:
        NotReplayable: If a part cannot be sent to every model.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [text_block(content)] if content.strip() else []
    parts = as_items(content)
    if parts is None:
        raise unsupported()
    return [block for part in parts if (block := _block(part)) is not None]


def plain_text(content: object) -> str:
    """The text of content that may hold nothing but text.

    Raises:
        NotReplayable: If it holds anything else.
    """
    blocks = blocks_of(content)
    if any(block["type"] != "text" for block in blocks):
        raise unsupported()
    return "\n\n".join(str(block["text"]) for block in blocks)


def text_block(text: str) -> JsonObject:
    """A block of text."""
    return {"type": "text", "text": text}


def tool_use_block(call: object) -> JsonObject:
    """An OpenAI tool call as a `tool_use` block.

    Raises:
        NotReplayable: If it is no function call or its arguments are no JSON object.
    """
    outer = as_object(call)
    function = as_object(outer.get("function")) if outer else None
    if outer is None or function is None:
        raise unsupported()
    return _tool_use(outer.get("id"), function.get("name"), function.get("arguments"))


def tool_result_block(
    tool_use_id: object, content: object, *, is_error: bool = False
) -> JsonObject:
    """A `tool_result` block; its content may be text and images.

    Raises:
        NotReplayable: If it answers no call or holds anything else.
    """
    if not isinstance(tool_use_id, str) or not tool_use_id:
        raise unsupported()
    inner = content if isinstance(content, str) else blocks_of(content)
    if not isinstance(inner, str) and any(
        block["type"] not in {"text", "image"} for block in inner
    ):
        raise unsupported()
    block: dict[str, object] = {"type": "tool_result", "tool_use_id": tool_use_id, "content": inner}
    return {**block, "is_error": True} if is_error else block


def _block(part: object) -> JsonObject | None:
    if isinstance(part, str):
        return text_block(part) if part.strip() else None
    block = as_object(part)
    if block is None:
        raise unsupported()
    kind = block.get("type", "text" if "text" in block else None)
    if kind in _IGNORED:
        return None
    convert = _CONVERTERS.get(str(kind))
    if convert is None:
        raise unsupported()
    return convert(block)


def _text(block: Mapping[str, object]) -> JsonObject | None:
    text = block.get("text")
    if text is None:
        text = block.get("refusal")
    if not isinstance(text, str):
        raise unreadable()
    return text_block(text) if text.strip() else None


def _anthropic_image(block: Mapping[str, object]) -> JsonObject:
    source = as_object(block.get("source")) or {}
    match source.get("type"):
        case "base64":
            kept = {key: source.get(key) for key in ("type", "media_type", "data")}
        case "url":
            kept = {key: source.get(key) for key in ("type", "url")}
        case _:
            raise unsupported()
    if not all(isinstance(value, str) and value for value in kept.values()):
        raise unsupported()
    return {"type": "image", "source": kept}


def _openai_image(block: Mapping[str, object]) -> JsonObject:
    image = block.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise unsupported()
    if data := _DATA_URL.fullmatch(url):
        source = {"type": "base64", "media_type": data[1], "data": data[2]}
        return {"type": "image", "source": source}
    if not url.startswith(("https://", "http://")):
        raise unsupported()
    return {"type": "image", "source": {"type": "url", "url": url}}


def _anthropic_tool_use(block: Mapping[str, object]) -> JsonObject:
    return _tool_use(block.get("id"), block.get("name"), block.get("input"))


def _anthropic_tool_result(block: Mapping[str, object]) -> JsonObject:
    content = block.get("content")
    return tool_result_block(
        block.get("tool_use_id"),
        "" if content is None else content,
        is_error=block.get("is_error") is True,
    )


def _tool_use(call_id: object, name: object, arguments: object) -> JsonObject:
    given = as_object(json_of(arguments if arguments is not None else {}) or {})
    if given is None or not isinstance(name, str) or not name:
        raise unsupported()
    if not isinstance(call_id, str) or not call_id:
        raise unsupported()
    return {"type": "tool_use", "id": call_id, "name": name, "input": dict(given)}


_CONVERTERS: Mapping[str, Callable[[Mapping[str, object]], JsonObject | None]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "refusal": _text,
    "image": _anthropic_image,
    "image_url": _openai_image,
    "input_image": _openai_image,
    "tool_use": _anthropic_tool_use,
    "tool_result": _anthropic_tool_result,
}
