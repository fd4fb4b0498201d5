"""Text and JSON as Postgres can hold them: no NUL, no lone surrogate, no NaN."""

import json
import math
from collections.abc import Mapping

REPLACEMENT = "\ufffd"


def clean_text(text: str) -> str:
    """The text with NUL characters and lone surrogates replaced by U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", REPLACEMENT)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_json(value: object) -> object:
    """The JSON value with every string cleaned, keys included, and null for NaN and infinities."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_text(value: object) -> str:
    """The cleaned value as JSON text."""
    return json.dumps(clean_json(value), ensure_ascii=False, separators=(",", ":"))
