"""Plain JSON values, their canonical text and their fingerprint."""

import hashlib
import json
from collections.abc import Mapping, Sequence

JsonObject = Mapping[str, object]


def canonical(value: object) -> str:
    """The one text that equal JSON values share."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: object) -> str:
    """A short, stable digest of a JSON value (16 hexadecimal digits)."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_object(value: object) -> bool:
    """Whether the value is a JSON object."""
    return isinstance(value, Mapping)


def is_array(value: object) -> bool:
    """Whether the value is a JSON array."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
