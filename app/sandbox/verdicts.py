"""How a judge answers: by a tool's schema, by JSON, or by the line the prompt asks for."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.sandbox.blocks import without_blocks
from app.sandbox.dialogue import Ask
from app.sandbox.world import Misbehaviour

Preference = Literal["first", "second", "tie"]

_NUMBER_SCALE = re.compile(
    r"\b(0|1|one|zero)\s*(?:-|–|—|to|\.\.+|through|and)\s*(5|10|100|five|ten)\b", re.IGNORECASE
)
_NUMBERS = {"zero": 0, "one": 1, "five": 5, "ten": 10}
_LABELLED = re.compile(
    r"^[\s>*\-`\"']*((?:final |overall )?(?:score|rating|grade|verdict|winner|answer|preference))"
    r"\s*([:=])",
    re.IGNORECASE | re.MULTILINE,
)
_JSON_KEY = re.compile(r"[\"'](score|grade|rating|winner|verdict|preference|better|overall)[\"']")
_TIE = re.compile(r"tie|equal|draw|same|neither|both|^c$|^0$", re.IGNORECASE)
_PRAISE = {
    5: "The reply answers every point correctly and in a fitting tone.",
    4: "The reply is right in nearly all points and misses a detail.",
    3: "The reply answers a part and leaves gaps.",
    2: "The reply is vague and has mistakes.",
    1: "The reply is of no use for this request.",
}
_COMPARED: dict[Preference, str] = {
    "first": "The first one is more complete and more exact.",
    "second": "The second one is more complete and more exact.",
    "tie": "Both serve the request equally well.",
}
_GARBAGE = "Well, it is hard to say; the colours are pleasant and the weather helps."


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the judge thinks.

    Attributes:
        grade: 1..5, for absolute grading.
        preference: For pairwise grading.
        misbehaviour: How the answer goes wrong, if it does.
    """

    grade: int = 3
    preference: Preference | None = None
    misbehaviour: Misbehaviour | None = None

    @property
    def reason(self) -> str:
        """A sentence that fits."""
        return _COMPARED[self.preference] if self.preference else _PRAISE[self.grade]

    @property
    def label(self) -> str:
        """The grade or the preference, for the call log."""
        return self.misbehaviour or self.preference or str(self.grade)


def structured(opinion: Opinion, schema: Mapping[str, object]) -> str:
    """The opinion as JSON text that meets the schema (unless the judge misbehaves)."""
    match opinion.misbehaviour:
        case "empty":
            return "{}"
        case "garbage":
            return json.dumps({"opinion": _GARBAGE})
        case _:
            return json.dumps(_filled(opinion, schema, name=""))


def in_words(opinion: Opinion, ask: Ask) -> str:
    """The opinion as the prompt asks for it: JSON, a labelled line, or [[n]]."""
    instructions = f"{ask.system}\n{without_blocks(ask.last)}"
    low, high = _scale(instructions)
    value = opinion.preference and _letter(opinion.preference, instructions)
    shown = value or str(_on_scale(opinion.grade, low, high))
    match opinion.misbehaviour:
        case "empty":
            return ""
        case "garbage":
            return _GARBAGE
        case "nan":
            shown = "NaN"
        case "out_of_range":
            shown = str(high * 2 + 1)
        case "two_numbers":
            shown = f"{low} or maybe {high}"
        case None:
            pass
    if ask.wants_json or _asks_json(instructions):
        key = next(iter(_JSON_KEY.findall(instructions)), "winner" if value else "score")
        plain = shown.isdigit() or shown == "NaN"
        return f'{{"reason": {json.dumps(opinion.reason)}, "{key}": ' + (
            f"{shown}}}" if plain else f"{json.dumps(shown)}}}"
        )
    if "[[" in instructions:
        return f"{opinion.reason}\n\nRating: [[{shown}]]"
    label = next(iter(_LABELLED.findall(instructions)), ("Score", ":"))
    return f"{opinion.reason}\n{label[0]}{label[1]} {shown}"


def _filled(opinion: Opinion, schema: Mapping[str, object], *, name: str) -> object:
    """A value that meets the schema and says what the judge thinks."""
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return _choice(opinion, choices)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((entry for entry in kind if entry != "null"), "string")
    properties = schema.get("properties")
    if kind == "object" or isinstance(properties, dict):
        members = properties if isinstance(properties, dict) else {}
        return {
            str(key): _filled(opinion, member, name=str(key))
            for key, member in members.items()
            if isinstance(member, dict)
        }
    if kind == "array":
        member = schema.get("items")
        return [_filled(opinion, member, name=name)] if isinstance(member, dict) else []
    if kind in {"integer", "number"}:
        return _number(opinion, schema)
    if kind == "boolean":
        return opinion.grade >= 3
    return opinion.reason


def _number(opinion: Opinion, schema: Mapping[str, object]) -> object:
    found = _scale(str(schema.get("description", "")))
    low = _integer(schema.get("minimum"), found[0])
    high = _integer(schema.get("maximum"), found[1])
    match opinion.misbehaviour:
        case "nan":
            return float("nan")
        case "out_of_range":
            return high * 2 + 1
        case "two_numbers":
            return f"{low} or {high}"
        case _:
            return _on_scale(opinion.grade, low, high)


def _choice(opinion: Opinion, choices: list[object]) -> object:
    if opinion.misbehaviour is not None:
        return "undecided in several ways"
    if opinion.preference is None:
        index = round((opinion.grade - 1) / 4 * (len(choices) - 1))
        ordered = sorted(choices, key=str) if all(str(c).isdigit() for c in choices) else choices
        return ordered[index]
    sides = [choice for choice in choices if not _TIE.search(str(choice))]
    ties = [choice for choice in choices if _TIE.search(str(choice))]
    if opinion.preference == "tie":
        return ties[0] if ties else sides[0]
    return sides[0] if opinion.preference == "first" else sides[-1]


def _letter(preference: Preference, instructions: str) -> str:
    """The name the prompt uses for the first, the second or neither."""
    if preference == "tie":
        return "C" if "[[C]]" in instructions else "tie"
    if re.search(r"\b(?:first|second)\b", instructions) and not re.search(
        r"\bA\b.{0,40}\bB\b", instructions, re.DOTALL
    ):
        return preference
    return "A" if preference == "first" else "B"


def _asks_json(instructions: str) -> bool:
    return bool(re.search(r"\bjson\b", instructions, re.IGNORECASE))


def _scale(text: str) -> tuple[int, int]:
    found = _NUMBER_SCALE.search(text)
    if found is None:
        return 1, 5
    low, high = (group.lower() for group in found.groups())
    return _NUMBERS.get(low, 1) if not low.isdigit() else int(low), (
        _NUMBERS.get(high, 5) if not high.isdigit() else int(high)
    )


def _on_scale(grade: int, low: int, high: int) -> int | float:
    value = low + (grade - 1) / 4 * (high - low)
    return round(value) if high - low > 1 else value


def _integer(value: object, default: int) -> int:
    return int(value) if isinstance(value, int | float) else default
