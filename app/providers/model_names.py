"""Whether a reply comes from the model that was asked for."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from app.domain.models import ModelSpec

#: A key of `params` that is never sent: the name (or names) under which the gateway reports the
#: model, `*` for any.
REPORTED_MODEL: Final = "reported_model"

_SEPARATORS = re.compile(r"[^a-z0-9]+")
#: A name, then what may follow it without making it another model: dates, revisions, channels. A
#: short number is a version (`gpt-4-1`), not a date.
_NAME = re.compile(
    r"( .+?)((?: (?:\d{3,}(?: \d\d){0,2}|v\d+(?: \d+)?|preview|free|beta|exp|snapshot))*)"
)
_POINTERS = ("latest", "default")


def is_expected(model: ModelSpec, reported: object) -> bool:
    """Whether a reply that names its model so may count as the configured model's.

    Expected are the id that was sent, `price_as` and `params.reported_model` (`*`: any). A name is
    accepted when it has the same words as an expected one; either may have a prefix more (a vendor,
    a region) and either a suffix more of dates, revisions or channel words: `gpt-4o` and
    `openai/gpt-4o-2024-08-06`, never `gpt-4o-mini`.
    """
    if reported == model.model:
        return True
    names = [model.model, *_reported(model)]
    if "*" in names:
        return True
    if model.price_as:
        names.append(model.price_as)
    return isinstance(reported, str) and any(is_same_model(name, reported) for name in names)


def is_same_model(requested: str, reported: str) -> bool:
    """Whether the two names mean one model, by the rule of `is_expected`."""
    left, right = _parts(requested), _parts(reported)
    if left is None or right is None:
        return False
    (name, suffix), (other_name, other_suffix) = left, right
    return _either(str.endswith, name, other_name) and _either(
        str.startswith, suffix + " ", other_suffix + " "
    )


def mismatch_message(model: ModelSpec, reported: object) -> str:
    """What to tell the operator when another model answered."""
    return (
        f"model {model.name!r} was asked for as {model.model!r} but the reply says it comes from "
        f"{_shown(reported)}: if that is an alias, say so in `params.{REPORTED_MODEL}` or "
        "`price_as`; if not, mend the gateway's routing"
    )


def params_to_send(logged: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """The logged parameters under the model's own; a null of its own removes a logged one."""
    merged = {**logged, **own}
    merged.pop(REPORTED_MODEL, None)
    return {key: value for key, value in merged.items() if value is not None}


def _reported(model: ModelSpec) -> list[str]:
    value = model.params.get(REPORTED_MODEL)
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _parts(name: str) -> tuple[str, str] | None:
    """The name proper and its suffix, each word after a space; None for a name without words."""
    words = [word for word in _SEPARATORS.split(name.lower()) if word]
    while words and words[-1] in _POINTERS:
        words.pop()
    match = _NAME.fullmatch("".join(f" {word}" for word in words))
    return None if match is None else (match[1], match[2])


def _either(holds: Callable[[str, str], bool], one: str, other: str) -> bool:
    return holds(one, other) or holds(other, one)


def _shown(name: object) -> str:
    """A name from outside, safe to print: short, and of name characters only."""
    return repr(re.sub(r"[^\w./:@+-]", "?", name)[:80]) if isinstance(name, str) else "no model"
