"""What a judge said, read strictly: a grade is found beyond doubt or not at all.

Every way in which a reply can state a grade is tried, and all statements found must agree. A
number that is not stated as the grade is never taken for one: neither the first nor the last of a
text is, however tempting.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.domain.json_values import JsonObject
from app.domain.scores import Unscored
from app.evaluation.json_text import json_objects

Preference = Literal["first", "second", "tie"]

_LONGEST = 40_000
_LONGEST_STATEMENT = 80
_REASON_CHARACTERS = 2_000

_GRADE_KEYS = frozenset({"score", "rating", "grade"})
_PREFERENCE_KEYS = frozenset({"better", "winner", "preference", "preferred"})
_REASON_KEYS = ("reason", "reasoning", "explanation", "rationale", "justification")
_OTHER_SCALE_KEYS = frozenset({"max", "max_score", "maximum", "scale", "out_of", "denominator"})

_WORDS = {
    word: float(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_FULL_WIDTH = {
    **{0xFF10 + digit: str(digit) for digit in range(10)},
    0xFF1A: ":",
    0xFF0F: "/",
    0x3010: "[",
    0x3011: "]",
    0x2212: "-",
    0x00A0: " ",
}

_NUMBER = r"[-+]?\d{1,6}(?:\.\d{1,6})?"
_LABEL = (
    r"(?:(?:the|my|your|final|overall|total|your final|my final|the final)\s+)*"
    r"(?:score|rating|grade|note|bewertung|gesamtbewertung|punktzahl|puntuaci[oó]n|calificaci[oó]n"
    r"|nota|punteggio|voto|valutazione|pontua[cç][aã]o|beoordeling|cijfer|ocena|оценка"
    r"|评分|評分|分数|分數|评级|評価|スコア|점수|평점)"
)
_SCALE_NOTE = r"(?:\s*[(\[]\s*(?:\d+\s*(?:-|–|—|to|/)\s*\d+|out of \d+)\s*[)\]])?"
_DENOMINATOR = r"(?:\s*(?:/|out of|von|sur|de|su)\s*(?P<of>\d{1,4}))?"
_EMPHASIS = r"[*_`\"'“”]*"
_LABELLED = re.compile(
    rf"(?:^|(?<=[.!?;,*_#>`\"']))[ \t*_#>`\"'-]{{0,20}}{_LABEL}[*_`]*{_SCALE_NOTE}[*_`]*"
    rf"\s*(?:[:=]|\bis\b|\bof\b|-|–|—)+[ \t]*{_EMPHASIS}"
    r"(?P<rest>[^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_TAGGED = re.compile(r"<(score|rating|grade)>([^<>]{0,60})</\1>", re.IGNORECASE)
_INNER_OBJECT = re.compile(r"\{[^{}]*\}")
_VALUE = re.compile(
    rf"^\s*\[?\s*(?P<value>{_NUMBER}|[a-z]+)\s*\]?{_DENOMINATOR}"
    rf"(?:\s*(?:points?|stars?|punkte))?\s*{_EMPHASIS}\s*[.!。]?\s*{_EMPHASIS}\s*$",
    re.IGNORECASE,
)
_HAS_NUMBER = re.compile(
    r"\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|nan|infinity)\b", re.IGNORECASE
)
_BRACKETED = re.compile(r"\[\[([^\[\]\n]{0,60})\]\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The whole or broken numbers a judge may give, both ends included."""

    low: float = 1.0
    high: float = 5.0

    def share(self, value: float) -> float:
        """The grade on a scale from 0 (worst) to 1 (best)."""
        return (value - self.low) / (self.high - self.low)


FIVE = Scale()
"""The scale of the built-in templates: 1 to 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """A grade a judge gave, on its scale, and why."""

    value: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of two replies a judge preferred, and why."""

    better: Preference
    reason: str = ""


class _Doubt(Exception):
    """The reply states no grade beyond doubt; the message says why."""


def parse_grade(text: str, scale: Scale = FIVE) -> Grade | Unscored:
    """The grade that the text of a judge's reply states.

    Read are JSON objects with the field `score`, `rating` or `grade`, double brackets as in
    `Rating: [[4]]`, a label at the end of a line as in `Score: 4/5`, and a reply that is nothing
    but a number.
    """
    try:
        return _grade_in(_cleaned(text), scale)
    except _Doubt as doubt:
        return Unscored(reason=str(doubt))


def grade_of(answer: JsonObject, scale: Scale = FIVE) -> Grade | Unscored:
    """The grade in a structured answer: the input of the grading tool, or its JSON."""
    try:
        value = _agreed(_grades_in_object(answer, scale))
    except _Doubt as doubt:
        return Unscored(reason=str(doubt))
    return Grade(value=value, reason=_reason_in(answer))


def parse_choice(text: str) -> Choice | Unscored:
    """The preference that the text of a judge's reply states: JSON, or `[[first]]`."""
    try:
        return _choice_in(_cleaned(text))
    except _Doubt as doubt:
        return Unscored(reason=str(doubt))


def choice_of(answer: JsonObject) -> Choice | Unscored:
    """The preference in a structured answer."""
    try:
        better = _one_choice(_choices_in_object(answer))
    except _Doubt as doubt:
        return Unscored(reason=str(doubt))
    return Choice(better=better, reason=_reason_in(answer))


def _cleaned(text: str) -> str:
    if not text.strip():
        raise _Doubt("the judge's reply is empty")
    if len(text) > _LONGEST:
        raise _Doubt("the judge's reply is too long to be a grade")
    return text.translate(_FULL_WIDTH)


def _grade_in(text: str, scale: Scale) -> Grade:
    stated: list[float] = []
    reason = ""
    for answer in json_objects(text):
        values = _grades_in_object(answer, scale)
        stated += values
        reason = reason or (_reason_in(answer) if values else "")
    stated += [_in_scale(inner, scale) for inner in _marked(text)]
    stated += _labelled(text, scale, is_doubtful=not stated)
    if not stated:
        stated.append(_alone(text, scale))
    return Grade(value=_agreed(stated), reason=reason or _prose(text))


def _marked(text: str) -> list[str]:
    """What stands in double brackets or score tags, if it speaks of a number."""
    found = [*_BRACKETED.findall(text), *(inner for _, inner in _TAGGED.findall(text))]
    return [inner for inner in found if _HAS_NUMBER.search(inner)]


def _labelled(text: str, scale: Scale, *, is_doubtful: bool) -> list[float]:
    """Numbers labelled as the score; what is labelled but not one number raises doubt."""
    found: list[float] = []
    without_marks = _BRACKETED.sub(" ", _INNER_OBJECT.sub(" ", text))
    for match in _LABELLED.finditer(without_marks):
        rest = match.group("rest").strip()
        value = _VALUE.match(rest) if len(rest) <= _LONGEST_STATEMENT else None
        if value is not None and _HAS_NUMBER.search(rest):
            found.append(_value(value, scale))
        elif is_doubtful and _HAS_NUMBER.search(rest):
            raise _Doubt("the judge's reply labels as its score what is not one number")
    return found


def _alone(text: str, scale: Scale) -> float:
    """The number that the whole reply is."""
    text = text.strip()
    found = _VALUE.match(text) if len(text) <= _LONGEST_STATEMENT else None
    if found is None or not _HAS_NUMBER.search(text):
        raise _Doubt("the judge's reply states no score")
    return _value(found, scale)


def _value(found: re.Match[str], scale: Scale) -> float:
    of = found.group("of")
    if of is not None and float(of) != scale.high:
        raise _Doubt(f"the judge graded out of {of}, not out of {scale.high:g}")
    return _in_scale(found.group("value"), scale)


def _in_scale(stated: object, scale: Scale) -> float:
    """The number, if it is one and lies on the scale."""
    value = _as_number(stated, scale)
    if value is None or not math.isfinite(value):
        raise _Doubt("the judge's score is not a number")
    if not scale.low <= value <= scale.high:
        raise _Doubt(f"the judge's score {value:g} lies outside {scale.low:g} to {scale.high:g}")
    return value


def _as_number(stated: object, scale: Scale) -> float | None:
    if isinstance(stated, bool):
        return None
    if isinstance(stated, int | float):
        return float(stated) if abs(stated) < 1e9 else math.inf
    if not isinstance(stated, str):
        return None
    text = stated.strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    match = re.fullmatch(rf"({_NUMBER})(?:\s*/\s*(\d{{1,4}}))?", text, re.ASCII)
    if match is None or (match.group(2) and float(match.group(2)) != scale.high):
        return None
    return float(match.group(1))


def _agreed(stated: Sequence[float]) -> float:
    if not stated:
        raise _Doubt("the judge's answer has no score")
    if len(set(stated)) > 1:
        raise _Doubt("the judge's reply states more than one score")
    return stated[0]


def _grades_in_object(answer: Mapping[str, object], scale: Scale) -> list[float]:
    named = {str(key).strip().lower(): value for key, value in answer.items()}
    if len(named) < len(answer):
        raise _Doubt("the judge's answer names a field twice")
    for key in _OTHER_SCALE_KEYS & named.keys():
        if named[key] != scale.high:
            raise _Doubt(f"the judge's answer speaks of another scale: `{key}`")
    return [_in_scale(named[key], scale) for key in sorted(_GRADE_KEYS & named.keys())]


def _choice_in(text: str) -> Choice:
    found: list[Preference] = []
    reason = ""
    for answer in json_objects(text):
        choices = _choices_in_object(answer)
        found += choices
        reason = reason or (_reason_in(answer) if choices else "")
    marked = [inner.strip().lower() for inner in _BRACKETED.findall(text)]
    found += [_SIDES[inner] for inner in marked if inner in _SIDES]
    if not found:
        alone = text.strip().strip("*_`\"'.!").lower()
        if alone not in _SIDES:
            raise _Doubt("the judge's reply names no preference")
        found.append(_SIDES[alone])
    return Choice(better=_one_choice(found), reason=reason or _prose(text))


_SIDES: Mapping[str, Preference] = {
    "first": "first",
    "a": "first",
    "second": "second",
    "b": "second",
    "tie": "tie",
    "c": "tie",
}


def _choices_in_object(answer: Mapping[str, object]) -> list[Preference]:
    named = {str(key).strip().lower(): value for key, value in answer.items()}
    return [_preference(named[key]) for key in sorted(_PREFERENCE_KEYS & named.keys())]


def _preference(stated: object) -> Preference:
    side = _SIDES.get(stated.strip().lower()) if isinstance(stated, str) else None
    if side is None:
        raise _Doubt("the judge's preference is neither first, second nor tie")
    return side


def _one_choice(found: Sequence[Preference]) -> Preference:
    if not found:
        raise _Doubt("the judge's answer names no preference")
    if len(set(found)) > 1:
        raise _Doubt("the judge's reply names more than one preference")
    return found[0]


def _reason_in(answer: Mapping[str, object]) -> str:
    named = {str(key).strip().lower(): value for key, value in answer.items()}
    value = next((named[key] for key in _REASON_KEYS if key in named), "")
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.strip()[:_REASON_CHARACTERS]


def _prose(text: str) -> str:
    """What the judge wrote besides the grade."""
    if text.lstrip().startswith("{"):
        return ""
    lines = [line for line in text.splitlines() if not _is_statement(line)]
    return "\n".join(lines).strip()[:_REASON_CHARACTERS]


def _is_statement(line: str) -> bool:
    """Whether the line says nothing but the grade."""
    line = line.strip()
    if len(line) > _LONGEST_STATEMENT:
        return False
    return bool(_LABELLED.match(line) or _VALUE.match(line) or _BRACKETED.fullmatch(line))
