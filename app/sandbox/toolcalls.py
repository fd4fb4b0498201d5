"""Which tool an ordinary model calls, and with what: read off the names and the prompt's words."""

import re
from collections.abc import Mapping

from app.sandbox.dialogue import Ask, Tool
from app.sandbox.tasks import normalise

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_QUOTED = re.compile(r"[\"“«'`]([^\"”»'`]{1,80})[\"”»'`]")
_CODE = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{3,}\b")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b([A-Z][a-zA-Z]+(?:\s+[A-Z][a-zA-Z]+)*)")
_WEAK = frozenset({"get", "set", "the", "and", "for", "with", "from", "this", "that", "your"})


def choose_tool(ask: Ask) -> Tool | None:
    """The tool to call now; None to answer in words."""
    if not ask.tools or ask.tool_choice == "none" or (ask.turns and ask.turns[-1].is_tool_result):
        return None
    named = next((tool for tool in ask.tools if tool.name == ask.tool_choice), None)
    if named is not None:
        return named
    words = _stems(ask.last)
    ranked = sorted(ask.tools, key=lambda tool: -len(_stems(_about(tool)) & words))
    fits = bool(_stems(_about(ranked[0])) & words)
    return ranked[0] if fits or ask.tool_choice == "any" else None


def fill_tool(
    tool: Tool, prompt: str, *, is_good: bool = True, text: str | None = None
) -> dict[str, object]:
    """Arguments that meet the tool's schema, taken from the prompt.

    A bad call has its first argument wrong. With `text`, free strings hold that text instead.
    """
    properties = tool.schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    filled = {
        str(name): _value(str(name), schema, prompt, text)
        for name, schema in properties.items()
        if isinstance(schema, Mapping)
    }
    if not is_good and filled:
        first = next(iter(filled))
        filled[first] = _spoiled(filled[first])
    return filled


def _value(name: str, schema: Mapping[str, object], prompt: str, text: str | None) -> object:
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        words = normalise(prompt)
        return next((c for c in choices if normalise(str(c)) in words), choices[0])
    match schema.get("type"):
        case "integer":
            return int(float(_found(_NUMBER, prompt, "1")))
        case "number":
            return float(_found(_NUMBER, prompt, "1"))
        case "boolean":
            return True
        case "array":
            member = schema.get("items")
            return [_value(name, member, prompt, text)] if isinstance(member, Mapping) else []
        case "object":
            return fill_tool(Tool(name=name, schema=schema), prompt, text=text)
        case _:
            return text if text is not None else _string(name, prompt)


def _string(name: str, prompt: str) -> str:
    """The piece of the prompt that a string of that name most likely means."""
    lowered = name.lower()
    if "mail" in lowered:
        return _found(_EMAIL, prompt, prompt[:60])
    if "date" in lowered or "day" in lowered:
        return _found(_DATE, prompt, prompt[:60])
    if any(hint in lowered for hint in ("id", "number", "code", "order", "ticket", "sku")):
        return _found(_CODE, prompt, _found(_NUMBER, prompt, prompt[:60]))
    for pattern in (_QUOTED, _NAME):
        if match := pattern.search(prompt):
            return match.group(1)
    return prompt.strip()[:120]


def _found(pattern: re.Pattern[str], text: str, default: str) -> str:
    match = pattern.search(text)
    return match.group(0) if match else default


def _spoiled(value: object) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 13
        case _:
            return "unknown"


def _about(tool: Tool) -> str:
    return f"{tool.name} {tool.description}"


def _stems(text: str) -> set[str]:
    return {word[:6] for word in normalise(text).split() if len(word) > 2} - _WEAK
