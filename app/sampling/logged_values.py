"""Values as logs hold them: text in any state, JSON as text or as objects, numbers as anything."""

import json
import math
from collections.abc import Mapping, Sequence

from app.sampling.refusals import unreadable

Items = Sequence[object]


def text_of(value: object) -> str | None:
    """The value as text; None stays None.

    Raises:
        NotReplayable: If its bytes are not UTF-8.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise unreadable() from error
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def json_of(value: object) -> object:
    """The JSON value that is meant: text is parsed, blank text is None, the rest is taken as is.

    Raises:
        NotReplayable: If the text is no JSON.
    """
    if not isinstance(value, str | bytes):
        return value
    text = text_of(value) or ""
    if not text.strip():
        return None
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable() from error
    return parsed


def lenient_json_of(value: object) -> object:
    """The JSON value where the text is a JSON object or list, else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            parsed: object = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return parsed
    return value


def as_object(value: object) -> Mapping[str, object] | None:
    """The value if it is a JSON object, else None."""
    return value if isinstance(value, Mapping) else None


def as_items(value: object) -> Items | None:
    """The value if it is a JSON array, else None."""
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else None


def number_of(value: object) -> float | None:
    """The finite number that is meant, None when there is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def clean(text: str) -> str:
    """The text without what no database or wire takes: NUL and lone surrogates become U+FFFD."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\x00", "\ufffd")
