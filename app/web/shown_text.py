"""Text of strangers made fit to be shown: cut, and with what is invisible made visible.

Nothing here is markup: templates escape every part. What could reorder, hide or smuggle text
(bidirectional controls, zero-width characters, tags, control characters) becomes a labelled mark.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

LONGEST_SHOWN = 20_000
"""Characters of one text that a page shows."""

MOST_DIFFED_WORDS = 3_000
"""Words of one reply beyond which no word-level difference is computed."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a text.

    Attributes:
        mark: What an invisible character is called; empty for text.
        change: `del` or `ins` in a difference, else empty.
    """

    text: str
    mark: str = ""
    change: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownText:
    """A text in parts.

    Attributes:
        note: What was left out, empty when nothing was.
    """

    parts: tuple[Part, ...]
    note: str = ""

    @property
    def plain(self) -> str:
        """The text with its marks written out."""
        return "".join(f"[{part.mark}]" if part.mark else part.text for part in self.parts)


def shown(text: str, *, longest: int = LONGEST_SHOWN) -> ShownText:
    """The text, cut at so many characters, its invisible characters marked."""
    return ShownText(parts=tuple(_marked(text[:longest])), note=_cut_note(text, longest))


def differences(before: str, after: str) -> tuple[ShownText, ShownText] | None:
    """Both texts with the words that differ; None when they are too long to compare."""
    old, new = _words(before), _words(after)
    if max(len(old), len(new)) > MOST_DIFFED_WORDS:
        return None
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    left: list[Part] = []
    right: list[Part] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        is_same = kind == "equal"
        left += _marked("".join(old[a:b]), "" if is_same else "del")
        right += _marked("".join(new[c:d]), "" if is_same else "ins")
    return (
        ShownText(parts=tuple(left), note=_cut_note(before, LONGEST_SHOWN)),
        ShownText(parts=tuple(right), note=_cut_note(after, LONGEST_SHOWN)),
    )


def cleaned(text: str, clean: Callable[[str], str]) -> str:
    """The text after masking; what cannot be shown anyway is not masked."""
    return clean(text[: LONGEST_SHOWN + 1_000]) + text[LONGEST_SHOWN + 1_000 :]


def _words(text: str) -> Sequence[str]:
    return _WORDS.findall(text[:LONGEST_SHOWN])


def _cut_note(text: str, longest: int) -> str:
    if len(text) <= longest:
        return ""
    return f"The first {longest:,} of {len(text):,} characters are shown."


def _marked(text: str, change: str = "") -> list[Part]:
    parts: list[Part] = []
    at = 0
    for match in _INVISIBLE.finditer(text):
        if match.start() > at:
            parts.append(Part(text=text[at : match.start()], change=change))
        parts.append(Part(text="", mark=_name(match[0]), change=change))
        at = match.end()
    if at < len(text):
        parts.append(Part(text=text[at:], change=change))
    return parts


def _name(character: str) -> str:
    """What an invisible character is called, e.g. `U+202E right-to-left override`."""
    name = unicodedata.name(character, "control character").lower()
    return f"U+{ord(character):04X} {name}"
