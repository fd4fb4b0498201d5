"""Text of strangers: cut, marked, compared, and never markup."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.web.rendering import templates
from app.web.shown_text import LONGEST_SHOWN, differences, shown

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text())
def test_no_character_of_a_short_text_is_lost(text: str) -> None:
    parts = shown(text).parts
    rebuilt = "".join(
        chr(int(part.mark.split()[0].replace("U+", "0x"), 0)) if part.mark else part.text
        for part in parts
    )
    assert rebuilt == text


@pytest.mark.parametrize("character", [*BIDI, "\u200b", "\ufeff", "\x00", "\x1b", "\U000e0041"])
def test_what_cannot_be_seen_is_marked_by_name(character: str) -> None:
    parts = shown(f"pay{character}pal").parts
    assert [part.text for part in parts] == ["pay", "", "pal"]
    assert parts[1].mark.startswith(f"U+{ord(character):04X} ")


def test_line_breaks_tabs_and_joined_emoji_stay_as_they_are() -> None:
    text = "a\tb\nc\r\n👩\u200d🚀"
    assert [part.text for part in shown(text).parts] == [text]


def test_a_megabyte_is_cut_and_says_so() -> None:
    found = shown("a" * 1_000_000)
    assert sum(len(part.text) for part in found.parts) == LONGEST_SHOWN
    assert found.note == "The first 20,000 of 1,000,000 characters are shown."


def test_a_difference_marks_the_words_that_changed_and_only_those() -> None:
    found = differences("ships on Monday, free", "ships on Tuesday, free")
    assert found is not None
    old, new = found
    assert [part.text for part in old.parts if part.change] == ["Monday"]
    assert [part.text for part in new.parts if part.change] == ["Tuesday"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_difference_still_holds_both_texts(before: str, after: str) -> None:
    found = differences(before, after)
    assert found is not None
    assert found[0].plain == shown(before).plain
    assert found[1].plain == shown(after).plain


def test_texts_too_long_to_compare_are_not_compared() -> None:
    assert differences("word " * 3_000, "word") is None


MACRO = templates().from_string("{% import 'parts.html' as parts %}{{ parts.text(shown) }}")


@settings(deadline=None)
@given(st.text())
def test_no_text_becomes_markup(text: str) -> None:
    html = MACRO.render(shown=shown(text + "<img src=x onerror=alert(1)>"))
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
