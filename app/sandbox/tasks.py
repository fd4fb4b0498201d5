"""Tasks: makes production prompts from the phrasebook and recognises them again in any text."""

import html
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.sandbox.phrasebook import BANKS, KINDS, TANGLES, FieldForm, Kind

_SLOT = re.compile(r"\{([a-z]+)(\d?)\}")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([nrtbf\"'/\\]))")
_UNREAD: dict[int, str | None] = {
    **dict.fromkeys((0xAD, 0xFEFF, *range(0x200B, 0x2010), *range(0x2060, 0x2065)), None),
    **dict.fromkeys(range(0x2B0, 0x300), " "),  # modifier letters, which serve as data marks
}
_ASCII_WORDS = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() and code < 128 else 32 for code in range(256)
)
_NOT_WORD = re.compile(r"[\W_]+")
_SPACE = re.compile(r"\s+")
_SLOT_VALUE = ".{1,90}?"
_SLOT_VALUES = {
    "date": r"\d{1,2} [A-Za-z]+ \d{4}",
    "number": r"\d+",
    "order": r"[A-Za-z][- ]\d+",
    "invoice": r"(?:INV|inv)[- ]\d+",
    "amount": r"\d[\d., ]*",
}

OPEN = Kind(route="open", name="open", phrasings=())
ARITHMETIC = Kind(route="open", name="arithmetic", phrasings=())
ECHO = Kind(route="open", name="echo", phrasings=())

_SUM = re.compile(
    r"(?:what is|what's|compute|calculate|how much is|add up|work out)\s+"
    r"(-?\d{1,6})\s*(\+|-|−|\*|x|×|plus|minus|times)\s*(-?\d{1,6})",
    re.IGNORECASE,
)
_SAY = re.compile(
    r"\b(?:say|repeat|(?:reply|answer|respond)\s+with)\s+(?:(?:only|just|exactly|the|single|one|word"
    r"|words|text|following)[:\s]+)+[\"'`“]?([^\n\"'`”]{1,80}?)[\"'`”]?[.!]?\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one prompt asks for.

    Attributes:
        kind: The entry of the phrasebook, or `OPEN`, `ARITHMETIC`, `ECHO` for other prompts.
        slots: The values found in the prompt.
        hard: Whether the request is tangled.
        end: Where the request ends in the text it was found in.
    """

    kind: Kind
    slots: Mapping[str, str] = field(default_factory=dict)
    hard: bool = False
    end: int = 0

    @property
    def route(self) -> str:
        """The product feature that sends such prompts; "open" for unknown ones."""
        return self.kind.route

    def expected(self) -> dict[str, object] | str | None:
        """The one right answer, where there is one: a JSON object, a label or a short text."""
        if self.kind.fields:
            return {
                key: _typed(self.slots.get(slot, ""), form) for key, slot, form in self.kind.fields
            }
        if self.kind.label is not None:
            return self.kind.label
        return self.slots.get("answer") if self.kind in {ARITHMETIC, ECHO} else None

    def expected_text(self) -> str | None:
        """The right answer as a model would write it."""
        expected = self.expected()
        return json.dumps(expected) if isinstance(expected, dict) else expected


def make_slots(rng: random.Random, texts: Sequence[str], *, year: int) -> dict[str, str]:
    """Values for every slot of the texts."""
    found = {match.group(0)[1:-1]: match.group(1) for match in _SLOT.finditer("\n".join(texts))}
    values: dict[str, str] = {}
    for name, bank in sorted(found.items()):
        value = _value(rng, bank, year)
        while value in values.values():
            value = _value(rng, bank, year)
        values[name] = value
    return values


def fill(text: str, slots: Mapping[str, str]) -> str:
    """The text with its slots filled; a slot without a value becomes a plain noun."""
    return _SLOT.sub(
        lambda match: slots.get(match.group(0)[1:-1]) or _PLAIN.get(match.group(1), "it"), text
    )


def altered(rng: random.Random, slots: Mapping[str, str]) -> dict[str, str]:
    """The slots with every value replaced by a wrong one that looks alike."""
    return {name: _wrong(rng, name.rstrip("0123456789"), value) for name, value in slots.items()}


def normalise(text: str) -> str:
    """The words of a text in lower case between single spaces, free of escapes and marks."""
    if "\\" in text:
        text = _ESCAPE.sub(lambda m: chr(int(m.group(1), 16)) if m.group(1) else " ", text)
    if "&" in text:
        text = html.unescape(text)
    if text.isascii():
        words = text.encode().translate(_ASCII_WORDS).decode().split()
        return f" {' '.join(words)} "
    text = text.translate(_UNREAD)
    return f" {_NOT_WORD.sub(' ', text.lower()).strip()} "


def recognise(turns: Sequence[str]) -> Task:
    """What the last of these user turns asks for; earlier turns supply missing values."""
    last = turns[-1] if turns else ""
    task = _find(_SPACE.sub(" ", last), normalised=False)
    if task is None:
        return _small_task(last)
    slots = dict(task.slots)
    for turn in turns[:-1]:
        earlier = _find(_SPACE.sub(" ", turn), normalised=False)
        if earlier is not None and earlier.kind is task.kind:
            slots = {**earlier.slots, **slots}
    return Task(kind=task.kind, slots=slots, hard=task.hard)


def last_task(normalised_text: str) -> Task | None:
    """The last task that a longer, normalised text holds."""
    return _find(normalised_text, normalised=True)


def _small_task(text: str) -> Task:
    """An arithmetic or echo task, or an open one."""
    if match := _SUM.search(text):
        left, operator, right = int(match.group(1)), match.group(2).lower(), int(match.group(3))
        if operator in {"+", "plus"}:
            result = left + right
        elif operator in {"-", "−", "minus"}:
            result = left - right
        else:
            result = left * right
        return Task(kind=ARITHMETIC, slots={"answer": str(result)})
    if match := _SAY.search(text):
        return Task(kind=ECHO, slots={"answer": match.group(1).strip()})
    return Task(kind=OPEN)


def _find(text: str, *, normalised: bool) -> Task | None:
    lowered = text if normalised else text.lower()
    best: Task | None = None
    for phrasing in _PHRASINGS:
        anchor = phrasing.normal_anchor if normalised else phrasing.anchor
        if anchor not in lowered:
            continue
        pattern = phrasing.normal_pattern if normalised else phrasing.pattern
        for match in pattern.finditer(text):
            if best is None or match.end() > best.end:
                best = Task(kind=phrasing.kind, slots=match.groupdict(), end=match.end())
    if best is None:
        return None
    tangles = _NORMAL_TANGLES if normalised else _TANGLES
    return Task(
        kind=best.kind,
        slots=best.slots,
        hard=any(tangle in text for tangle in tangles[best.kind.route]),
        end=best.end,
    )


def _typed(value: str, form: FieldForm) -> object:
    if form == "amount":  # "1,240.50", or "1 240 50" in a normalised text
        digits = re.sub(r"\D", "", value)
        return int(digits) / 100 if digits else value
    if form == "date":
        return _iso_date(value)
    return value


def _iso_date(value: str) -> str:
    parts = value.split()
    months = BANKS["month"]
    month = parts[1].capitalize() if len(parts) == 3 else ""
    if month not in months:
        return value
    return f"{parts[2]}-{months.index(month) + 1:02d}-{int(parts[0]):02d}"


def _value(rng: random.Random, bank: str, year: int) -> str:
    match bank:
        case "order":
            return f"{rng.choice('ABCDEFGHKLMNPRSTW')}-{rng.randrange(10_000, 99_999)}"
        case "invoice":
            return f"INV-{rng.randrange(10_000, 99_999)}"
        case "person":
            return f"{rng.choice(BANKS['first'])} {rng.choice(BANKS['last'])}"
        case "email":
            first, last = rng.choice(BANKS["first"]), rng.choice(BANKS["last"])
            return f"{first}.{last}{rng.randrange(10, 99)}@example.com".lower()
        case "amount":
            return f"{rng.randrange(12, 9_800):,}.{rng.randrange(100):02d}"
        case "number":
            return str(rng.randrange(3, 60))
        case "date":
            return f"{rng.randrange(1, 29)} {rng.choice(BANKS['month'])} {year}"
        case "function":
            return f"{rng.choice(BANKS['verb'])}_{rng.choice(BANKS['noun'])}_{rng.randrange(2, 99)}"
        case _:
            return rng.choice(BANKS[bank])


def _wrong(rng: random.Random, bank: str, value: str) -> str:
    last_word = value.rpartition(" ")[2]
    year = int(last_word) if bank == "date" and last_word.isdigit() else 2026
    for _ in range(8):
        other = _value(rng, bank, year) if bank in BANKS or bank in _MADE else f"not {value}"
        if other.lower() != value.lower():
            return other
    return f"another {bank}"


_MADE = {"order", "invoice", "person", "email", "amount", "number", "date", "function"}
_PLAIN = {
    "order": "your order",
    "item": "item",
    "date": "that day",
    "amount": "the amount",
    "currency": "",
    "email": "your account",
    "city": "your town",
    "person": "your contact",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phrasing:
    kind: Kind
    anchor: str
    pattern: re.Pattern[str]
    normal_anchor: str
    normal_pattern: re.Pattern[str]


def _phrasings() -> tuple[_Phrasing, ...]:
    texts = [(kind, text) for kind in KINDS for text in (*kind.phrasings, *kind.follow_ups)]
    plain = [(kind, _SPACE.sub(" ", text)) for kind, text in texts]
    normal = [(kind, _normal_template(text)) for kind, text in texts]
    return tuple(
        _Phrasing(
            kind=kind,
            anchor=_anchor(kind, plain_text, plain).lower(),
            pattern=re.compile(_pattern(plain_text), re.IGNORECASE),
            normal_anchor=_anchor(kind, normal_text, normal),
            normal_pattern=re.compile(_pattern(normal_text)),
        )
        for (kind, plain_text), (_, normal_text) in zip(plain, normal, strict=True)
    )


def _normal_template(text: str) -> str:
    """The normalised text with its slots kept."""
    pieces = re.split(r"(\{[a-z]+\d?\})", text)
    joined = " ".join(
        piece if index % 2 else normalise(piece).strip() for index, piece in enumerate(pieces)
    )
    return _SPACE.sub(" ", joined).strip()


def _anchor(kind: Kind, text: str, others: Sequence[tuple[Kind, str]]) -> str:
    """The longest run of words of the text that no other kind's text holds."""
    for piece in sorted(_SLOT.sub("\0", text).split("\0"), key=len, reverse=True):
        if not any(piece in other for owner, other in others if owner is not kind):
            return piece
    raise ValueError(f"no distinctive words in a phrasing of {kind.name}")


def _pattern(text: str) -> str:
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match.group(0)[1:-1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{_SLOT_VALUES.get(match.group(1), _SLOT_VALUE)})"

    pieces = re.split(r"(\{[a-z]+\d?\})", text)
    return "".join(
        _SLOT.sub(group, piece) if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )


_PHRASINGS = _phrasings()
_TANGLES = {**TANGLES, "open": ()}
_NORMAL_TANGLES = {
    route: tuple(normalise(text) for text in texts) for route, texts in _TANGLES.items()
}
