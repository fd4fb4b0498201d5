"""Attributes of a span as tracing stores keep them: under dotted names, or nested by parts."""

import json
from collections.abc import Mapping, Sequence


def attribute(attributes: Mapping[str, object], name: str) -> object:
    """The value under this dotted name, however it is nested; None when there is none."""
    if name in attributes:
        return attributes[name]
    value: object = attributes
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def parsed(value: object) -> object:
    """The JSON value, where it was stored as text; text that is no JSON as it is."""
    if not isinstance(value, str):
        return value
    try:
        inner: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return inner


def items_of(value: object) -> Sequence[object]:
    """The items of a list, also of one stored as text; nothing for anything else."""
    inner = parsed(value)
    return inner if isinstance(inner, list) else ()


def object_of(value: object) -> Mapping[str, object]:
    """The object, also one stored as text; an empty one for anything else."""
    inner = parsed(value)
    return inner if isinstance(inner, Mapping) else {}
