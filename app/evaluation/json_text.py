"""JSON inside the text of a reply: whole, in a Markdown fence, or among prose."""

import json
import re
from collections.abc import Iterator
from typing import NoReturn

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_MOST_OBJECTS = 50
"""Opening braces tried in one text: beyond these it is not an answer but a data dump."""


class NotJson(ValueError):
    """The text is not what it should be; the message says in which way."""


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STRICT = json.JSONDecoder(parse_constant=_refuse)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a field is named twice")
    return dict(pairs)


_LENIENT = json.JSONDecoder(parse_constant=_refuse, strict=False, object_pairs_hook=_unique)


def parse_json(text: str, *, fence: bool = True) -> object:
    """The JSON value that the whole text is, or that its one Markdown fence holds.

    Raises:
        NotJson: If there is none. NaN and Infinity are not JSON.
    """
    try:
        return _decode(text.strip())
    except NotJson as whole:
        blocks = fenced_blocks(text) if fence else []
        if len(blocks) != 1:
            raise NotJson("more than one fenced block" if blocks else str(whole)) from None
    return _decode(blocks[0].strip())


def fenced_blocks(text: str) -> list[str]:
    """What stands in the Markdown fences of a text."""
    return [match.group(2) for match in _FENCE.finditer(text)]


def json_objects(text: str) -> Iterator[dict[str, object]]:
    """Every outermost JSON object in the text, in order.

    Line breaks in strings are forgiven; an object that names a field twice is not one.
    """
    start = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if start < 0:
            return
        try:
            value, end = _LENIENT.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(value, dict):
                yield value
        start = text.find("{", end)


def field_of(text: str, name: str) -> object | None:
    """The last value of a field of that name in the text's outermost JSON objects, else None."""
    found = [value[name] for value in json_objects(text) if name in value]
    return found[-1] if found else None


def _decode(text: str) -> object:
    try:
        return _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"not valid JSON: {error.msg} at line {error.lineno}") from None
    except ValueError as error:
        raise NotJson(str(error)) from None
    except RecursionError:
        raise NotJson("nested too deeply") from None
