"""Plain JSON values, their canonical text and their fingerprint."""

import hashlib
import json
from collections.abc import Mapping, Sequence

JsonObject = Mapping[str, object]

#: No tool, schema or parameter of anybody is nested deeper.
MOST_LEVELS = 64


def canonical(value: object) -> str:
    """The one text that equal JSON values share."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: object) -> str:
    """A short, stable digest of a JSON value (16 hexadecimal digits)."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_deep(value: object) -> bool:
    """Whether objects and lists in the value are nested deeper than `MOST_LEVELS`.

    Such a value can be read, but not walked by whatever comes later.
    """
    level: list[object] = [value]
    for _ in range(MOST_LEVELS + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                inner += one.values()
            elif is_array(one):
                inner += one  # type: ignore[arg-type]
        if not inner:
            return False
        level = inner
    return True


def is_object(value: object) -> bool:
    """Whether the value is a JSON object."""
    return isinstance(value, Mapping)


def is_array(value: object) -> bool:
    """Whether the value is a JSON array."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
