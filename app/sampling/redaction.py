"""Redaction: personal data replaced by the name of its kind."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.domain.cases import Case, Message, Prompt
from app.domain.json_values import JsonObject, is_array, is_object

_CUSTOM = "re:"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One kind of personal data: where it may be, and what tells it from look-alikes."""

    name: str
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool] = bool

    def replacement(self, match: re.Match[str]) -> str:
        """The kind's name, or the text itself when it only looks alike."""
        return f"[{self.name}]" if self.is_real(match[0]) else match[0]


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
            text = kind.pattern.sub(kind.replacement, text)
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


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _is_card(text: str) -> bool:
    digits = _digits(text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and passes_luhn(digits)


def _is_iban(text: str) -> bool:
    compact = re.sub(r"[ -]", "", text).upper()
    return 15 <= len(compact) <= 34 and passes_mod_97(compact)


def _is_phone(text: str) -> bool:
    """Seven to fifteen digits (E.164), and written like a phone number, not like any number."""
    digits = _digits(text)
    if not 7 <= len(digits) <= 15 or re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return False
    return text.startswith(("+", "(", "00")) or len(re.findall(r"\d+", text)) > 2


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


KINDS: Final[Mapping[str, _Kind]] = {
    "email": _Kind(
        name="email",
        pattern=re.compile(r"[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}\b"),
    ),
    "iban": _Kind(
        name="iban",
        pattern=re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}\b"),
        is_real=_is_iban,
    ),
    "card": _Kind(
        name="card",
        pattern=re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])"),
        is_real=_is_card,
    ),
    "ip": _Kind(
        name="ip",
        pattern=re.compile(
            r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])"
        ),
        is_real=_is_ip,
    ),
    "phone": _Kind(
        name="phone",
        pattern=re.compile(r"(?<![\w.])(?:\+|00)?\(?\d(?:[ ./()-]{0,2}\d){6,14}(?!\w)"),
        is_real=_is_phone,
    ),
}
