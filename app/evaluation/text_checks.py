"""Checks of a reply's words: exact, contains, regex, length."""

import ast
import re
import unicodedata
import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.json_values import canonical
from app.domain.scores import Score, Unscored
from app.evaluation.evaluator import Versioned, passed
from app.evaluation.json_text import field_of
from app.evaluation.references import NO_REFERENCE, ReferenceSource, reference_of

_SPACE = re.compile(r"\s+")
_QUOTES = str.maketrans("“”„«»‘’‚`", '"""""\'\'\'\'')
_LONGEST_LITERAL = 20_000
_WRAPPING = "\"'*_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact(Versioned):
    """1 when the reply equals the reference, else 0.

    Attributes:
        expected: A text every reply must equal, instead of the Case's reference.
        reference: Whence the reference comes: its own column, or the logged reply.
        field: Compare this field of the JSON in the reply; a reply without it scores 0.
        compare: `text`: case, white space, quotes around the answer and a final full stop do not
            count. `literal`: both sides are read as a JSON or Python value where they can be, so
            that `[1,2]` equals `[1, 2]`. `raw`: character by character.
    """

    name: ClassVar[str] = "exact"

    expected: str | None = None
    reference: ReferenceSource = "column"
    field: str | None = None
    compare: Literal["text", "literal", "raw"] = "text"

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Compare the reply, or one field of it, with the reference."""
        wanted = self.expected if self.expected is not None else reference_of(case, self.reference)
        if wanted is None:
            return NO_REFERENCE
        given = answer_of(completion, self.field)
        if given is None:
            return passed(False, f"the reply has no JSON field `{self.field}`")
        same = _is_same(given, wanted, self.compare)
        return passed(same, "equals the reference" if same else "differs from the reference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contains(Versioned):
    """1 when every expected text occurs in the reply, else 0.

    Attributes:
        expected: One text or several, instead of the Case's reference.
        reference: Whence the reference comes: its own column, or the logged reply.
        case_sensitive: Whether capitals count.
    """

    name: ClassVar[str] = "contains"

    expected: str | tuple[str, ...] | None = None
    reference: ReferenceSource = "column"
    case_sensitive: bool = False

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Look for the expected texts; white space counts as one blank."""
        wanted = self.expected if self.expected is not None else reference_of(case, self.reference)
        if wanted is None or not any(wanted):
            return NO_REFERENCE
        texts = (wanted,) if isinstance(wanted, str) else wanted
        reply = self._prepared(completion.text)
        missing = sum(self._prepared(text) not in reply for text in texts)
        reason = f"{missing} of {len(texts)} expected texts missing" if missing else "all found"
        return passed(not missing, reason)

    def _prepared(self, text: str) -> str:
        text = _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()
        return text if self.case_sensitive else text.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex(Versioned):
    """1 when the reply matches the pattern, else 0.

    Attributes:
        pattern: A Python regular expression; inline flags such as `(?i)` work.
        full: Whether the whole reply, without white space around it, must match.
        forbid: Turns it round: 1 when nothing matches.
    """

    name: ClassVar[str] = "regex"

    pattern: str
    full: bool = False
    forbid: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None

    def score(self, case: Case, completion: Completion) -> Score:  # noqa: ARG002
        """Search the reply for the pattern."""
        compiled = re.compile(self.pattern)
        text = completion.text
        found = compiled.fullmatch(text.strip()) if self.full else compiled.search(text)
        is_right = (found is None) is self.forbid
        return passed(is_right, "the pattern matches" if found else "the pattern does not match")


@dataclass(frozen=True, slots=True, kw_only=True)
class Length(Versioned):
    """1 when the reply's length lies within the limits, else 0.

    Attributes:
        at_least, at_most: Limits, both included; one of them must be given.
        unit: What is counted.
    """

    name: ClassVar[str] = "length"

    at_least: int | None = None
    at_most: int | None = None
    unit: Literal["words", "characters", "lines"] = "words"

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most or both")

    def score(self, case: Case, completion: Completion) -> Score:  # noqa: ARG002
        """Count and compare."""
        count = _count(completion.text, self.unit)
        is_right = (self.at_least or 0) <= count and (self.at_most is None or count <= self.at_most)
        return passed(is_right, f"{count} {self.unit}")


def answer_of(completion: Completion, field: str | None) -> str | None:
    """The reply's text, or the text of one field of the JSON in it; None without that field."""
    if field is None:
        return completion.text
    value = field_of(completion.text, field)
    if value is None or isinstance(value, str):
        return value
    return canonical(value)


def normalise(text: str) -> str:
    """The text without what seldom matters: case, spacing, quotes around it, a final stop."""
    text = _SPACE.sub(" ", unicodedata.normalize("NFC", text)).translate(_QUOTES).strip()
    previous = None
    while previous != text:
        previous = text
        text = text.strip().removesuffix(".").strip()
        for mark in _WRAPPING:
            if len(text) > 1 and text[0] == mark == text[-1]:
                text = text[1:-1]
    return text.casefold()


def _is_same(given: str, wanted: str, compare: Literal["text", "literal", "raw"]) -> bool:
    if compare == "raw":
        return given == wanted
    if compare == "text":
        return normalise(given) == normalise(wanted)
    readings = (_literal(given), _literal(wanted))
    return given == wanted or any(_same_value(a, b) for a in readings[0] for b in readings[1])


class _Value(NamedTuple):
    """A literal's type and value: 1, 1.0 and True are told apart by type where it matters."""

    is_text: bool
    value: object


def _literal(text: str) -> list[_Value]:
    """What the text can mean: itself, and the value it denotes as a literal."""
    readings = [_Value(is_text=True, value=text)]
    if len(text) > _LONGEST_LITERAL:
        return readings
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value: object = ast.literal_eval(_pythonic(text.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return readings
    return [*readings, _Value(is_text=isinstance(value, str), value=value)]


def _same_value(a: _Value, b: _Value) -> bool:
    if a.is_text != b.is_text:
        return False
    return a.value == b.value and isinstance(a.value, bool) == isinstance(b.value, bool)


def _pythonic(text: str) -> str:
    return {"true": "True", "false": "False", "null": "None"}.get(text, text)


def _count(text: str, unit: Literal["words", "characters", "lines"]) -> int:
    match unit:
        case "words":
            return len(text.split())
        case "characters":
            return len(text.strip())
        case "lines":
            return len(text.strip().splitlines())
