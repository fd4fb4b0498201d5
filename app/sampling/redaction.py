"""Redaction: personal data replaced by the name of its kind."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.domain.cases import Case, Message, Prompt
from app.domain.json_values import JsonObject, is_array, is_object
from app.domain.plans import Privacy
from app.ports import Scrub

_CUSTOM = "re:"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One kind of personal data.

    Attributes:
        name: What stands in its place, in brackets.
        pattern: Where it may begin (the group `value`, where the pattern names one); matches
            may run on into what follows.
        length_of: How many leading characters of a match are it; 0 for a look-alike.
    """

    name: str
    pattern: re.Pattern[str]
    length_of: Callable[[str], int] = len

    def replaced(self, text: str) -> str:
        """The text with the kind's name in place of each of its values."""
        pieces: list[str] = []
        done = at = 0
        while match := self.pattern.search(text, at):
            group = match.lastgroup or 0
            length = self.length_of(match[group])
            at = match.start() + 1
            if length:
                pieces += (text[done : match.start(group)], f"[{self.name}]")
                done = at = match.start(group) + length
        return "".join((*pieces, text[done:]))


class Redactor:
    """Replaces e-mail addresses, phone numbers, cards, IBANs, IP addresses and custom patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Take names of `KINDS` and expressions of the form `re:…`.

        Raises:
            ValueError: If a name is unknown or an expression is none.
        """
        self._kinds = tuple(sorted(map(_kind, patterns), key=_priority))

    def text(self, text: str) -> str:
        """The text with every match replaced, e.g. by `[email]`."""
        for kind in self._kinds:
            text = kind.replaced(text)
        return text

    def optional(self, text: str | None) -> str | None:
        """As `text`; None stays None."""
        return None if text is None else self.text(text)

    def objects(self, values: Sequence[JsonObject]) -> tuple[JsonObject, ...]:
        """JSON objects with every text in them replaced; keys and image data are left alone."""
        return tuple(self._object(value) for value in values)

    def prompt(self, prompt: Prompt) -> Prompt:
        """The prompt with every text of its messages and system prompt replaced."""
        return replace(
            prompt,
            system=self.optional(prompt.system),
            messages=tuple(self._message(message) for message in prompt.messages),
            tools=self.objects(prompt.tools),
        )

    def case(self, case: Case) -> Case:
        """The Case with its prompt, reference and logged reply replaced."""
        return replace(
            case,
            prompt=self.prompt(case.prompt),
            reference=self.optional(case.reference),
            logged_response=self.optional(case.logged_response),
            tool_calls=self.objects(case.tool_calls),
        )

    def _message(self, message: Message) -> Message:
        content = message.content
        return replace(
            message,
            content=self.text(content) if isinstance(content, str) else self.objects(content),
        )

    def _object(self, value: Mapping[str, object]) -> JsonObject:
        if value.get("type") == "image":
            return value
        return {key: self._value(inner) for key, inner in value.items()}

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if is_object(value):
            return self._object(value)  # type: ignore[arg-type]
        if is_array(value):
            return [self._value(inner) for inner in value]  # type: ignore[attr-defined]
        return value


def scrub_for(privacy: Privacy) -> Scrub | None:
    """What becomes of the texts of a Run when it ends; None keeps them as they are."""
    match privacy.store_bodies:
        case "full":
            return None
        case "redacted":
            return Scrub(clean=Redactor(privacy.redact).text)
        case "none":
            return Scrub()


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812 (payment cards).

    >>> passes_luhn("4111111111111111"), passes_luhn("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def passes_mod_97(iban: str) -> bool:
    """Whether the check digits of ISO 13616 hold.

    >>> passes_mod_97("GB82WEST12345698765432")
    True
    """
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


def _kind(pattern: str) -> _Kind:
    if pattern.startswith(_CUSTOM):
        try:
            return _Kind(name="redacted", pattern=re.compile(pattern.removeprefix(_CUSTOM)))
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if pattern not in KINDS:
        known = ", ".join(KINDS)
        raise ValueError(f"{pattern!r} is no kind of personal data ({known}) nor `re:…`")
    return KINDS[pattern]


def _priority(kind: _Kind) -> int:
    """Custom patterns first, then the kinds whose matches others would take for their own."""
    names = list(KINDS)
    return names.index(kind.name) if kind.name in names else -1


def _card_length(text: str) -> int:
    """The longest start of 13 to 19 digits that passes Luhn: an expiry date may follow."""
    ends = [place + 1 for place, char in enumerate(text) if char.isdigit()]
    for count in range(min(len(ends), 19), 12, -1):
        end = ends[count - 1]
        digits = "".join(filter(str.isdigit, text[:end]))
        if not text[end : end + 1].isdigit() and len(set(digits)) > 1 and passes_luhn(digits):
            return end
    return 0


def _iban_length(text: str) -> int:
    """The length of the country's IBANs, when the check digits hold: words may follow."""
    wanted = IBAN_LENGTHS.get(text[:2].upper(), 0)
    ends = [place + 1 for place, char in enumerate(text) if char.isalnum()]
    if not wanted or len(ends) < wanted:
        return 0
    end = ends[wanted - 1]
    is_whole = end == len(text) or not (text[end - 1].isalnum() and text[end].isalnum())
    compact = "".join(filter(str.isalnum, text[:end])).upper()
    return end if is_whole and passes_mod_97(compact) else 0


def _phone_length(text: str) -> int:
    """All of it, when it has as many digits as phone numbers have (E.164) and is no date."""
    digits = "".join(filter(str.isdigit, text))
    is_one = 7 <= len(digits) <= 15 and len(set(digits)) > 1 and digits not in _COUNTING
    is_one = is_one and not _DATE.match(text)
    is_padded = text.isdigit() and text[0] == "0" != text[1] and len(text) > _LONGEST_NATIONAL
    return len(text) if is_one and not is_padded else 0


def _ip_length(text: str) -> int:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return 0
    # `0::3` is more often a slice than an address.
    is_slice = ":" in text and text.isascii() and not any(map(str.isalpha, text))
    is_short = sum(bool(group) for group in text.split(":")) < 3
    return 0 if (is_slice and is_short) or not any(map(str.isdigit, text)) else len(text)


#: Digits of a number with its trunk zero; what is longer is an EAN or a padded id.
_LONGEST_NATIONAL = 12
_COUNTING = "01234567890123456789"
_DATE = re.compile(
    r"\d{1,2}([./-])\d{1,2}\1(?:19|20)\d{2}\b|(?:19|20)\d{2}([./-])\d{1,2}\2\d{1,2}\b"
)
#: Ways to write a phone number: international; area in brackets; trunk zero; North American; any,
#: after a word that announces one.
_PHONE = re.compile(
    r"""
    (?<![\w.+]) (?:\+|00) [ ]? \(?\d (?:[ ./()-]{0,3}\d){7,14} (?![ -]?\d)
    | (?<![\w)]) \(0?\d{1,4}\) [ ./-]{0,2} \d (?:[ ./-]?\d){4,11} (?![ -]?\d)
    | (?<![\w.,:/#-]) 0\d{1,5} (?:[ ]?(?:[./-][ ]?)?\d){7,11} (?![ -]?\d) (?![A-Za-z_])
    | (?<![\w.-]) (?:1[ .-])? [2-9]\d{2}[ .-][2-9]\d{2}[ .-]\d{4} (?![\w-]|\.\d)
    | \b(?:(?:tele)?phone|mobile|telefon|tel|cell|fax|whatsapp|sms|call|ring|handy)\b [^\d\n]{0,12}
      (?P<value>\d (?:[ ./()-]{0,2}\d){6,14}) (?!\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)

#: Characters of an IBAN by country (SWIFT IBAN registry).
IBAN_LENGTHS: Final[Mapping[str, int]] = {
    code: length
    for length, codes in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for code in codes.split()
}

KINDS: Final[Mapping[str, _Kind]] = {
    "email": _Kind(
        name="email",
        pattern=re.compile(
            r"(?<![\w.+%-])(?!git@[\w.-]+:)[\w.+%-][\w.+%'-]*@(?:[\w-]{1,63}\.){1,8}(?:[^\W\d_]{2,24}\b|xn--[\w-]{2,59})"
        ),
    ),
    "iban": _Kind(
        name="iban",
        pattern=re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}"),
        length_of=_iban_length,
    ),
    "card": _Kind(
        name="card",
        pattern=re.compile(r"(?<![\w.])[2-6](?:[ -]?\d){12,40}(?!\w)"),
        length_of=_card_length,
    ),
    "ip": _Kind(
        name="ip",
        pattern=re.compile(
            r"(?<![\w.])(?<!ersion[ =:])(?<!ERSION[ =:])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)"
            r"|(?<![\w.:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])"
        ),
        length_of=_ip_length,
    ),
    "phone": _Kind(name="phone", pattern=_PHONE, length_of=_phone_length),
}
