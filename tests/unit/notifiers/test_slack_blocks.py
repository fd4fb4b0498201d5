"""Blocks: escaped, within limits, accepted by Slack's own validators."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from app.alerting.compose import compose_alerts
from app.domain.alerts import Alert, AlertKind, News
from app.domain.results import VerdictKind
from app.notifiers.blocks import (
    FIELDS_LIMIT,
    HEADER_LIMIT,
    MESSAGE_LIMIT,
    SECTION_LIMIT,
    TEXT_LIMIT,
    blocks_of,
    escaped,
    fallback_text,
)
from app.notifiers.console import plain_text
from tests.fakes.outcomes import NOW, comparison, outcome

URL = "https://switchwise.example.com/"
NASTY = ["<!channel>", "<@U1>", "<https://evil.example|click>", "&lt;", "A & B", "x" * 20_000]


def alert(text: str = "plain") -> Alert:
    return Alert(
        key="p/switch:x",
        kind=AlertKind.SWITCH,
        news=News.NEW,
        run_id=None,
        title=text,
        lead=text,
        fields=tuple((text, text) for _ in range(14)),
        lines=tuple(text for _ in range(60)),
        links=tuple((text, f"/runs/{number}") for number in range(9)),
        context=(text, text),
    )


def texts(blocks: object) -> list[str]:
    """Every text of the message."""
    if isinstance(blocks, dict):
        own = [blocks["text"]] if isinstance(blocks.get("text"), str) else []
        return own + [text for value in blocks.values() for text in texts(value)]
    if isinstance(blocks, list):
        return [text for block in blocks for text in texts(block)]
    return []


def assert_valid(blocks: list[dict[str, Any]]) -> None:
    for block in blocks:
        parsed = Block.parse(block)
        assert parsed is not None
        parsed.validate_json()
        assert len(texts(block)[0]) <= (
            HEADER_LIMIT if block["type"] == "header" else SECTION_LIMIT
        )
        assert len(block.get("fields", ())) <= FIELDS_LIMIT
    assert len(blocks) <= 50
    assert all(texts(block) for block in blocks)


@pytest.mark.parametrize("text", NASTY)
def test_any_text_fits_and_is_accepted_by_the_validators_of_the_sdk(text: str) -> None:
    blocks = blocks_of(alert(text), public_url=URL, mention="<!here>")

    assert_valid(blocks)
    assert sum(map(len, texts(blocks))) <= MESSAGE_LIMIT
    assert len(fallback_text(alert(text))) <= TEXT_LIMIT


@pytest.mark.parametrize("text", ["<!channel>", "<@U1>", "<https://evil.example|click>"])
def test_text_of_others_never_becomes_a_mention_or_a_link(text: str) -> None:
    said = [*texts(blocks_of(alert(text))[1:]), fallback_text(alert(text))]
    assert not any("<" in one or ">" in one for one in said)


def test_only_the_header_is_shown_as_it_is_because_slack_reads_no_markup_there() -> None:
    header = blocks_of(alert("A & B <!channel>"))[0]
    assert header["text"] == {"type": "plain_text", "text": "A & B <!channel>", "emoji": False}


@given(st.text(max_size=300), st.integers(2, 120))
def test_a_cut_never_splits_an_escape(text: str, limit: int) -> None:
    cut = escaped(text, limit)
    assert len(cut) <= limit
    rest = cut.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert not set(rest) & set("&<>")


def test_what_stands_before_the_first_colon_is_bold() -> None:
    blocks = blocks_of(replace(alert(), fields=(), lines=("Before you switch: a & b: c",)))
    assert "• *Before you switch:* a &amp; b: c" in texts(blocks)


def test_a_sentence_that_merely_holds_a_colon_is_not_bold() -> None:
    line = "No switch is advised until the cause is known, as far as anybody can tell today: wait"
    blocks = blocks_of(replace(alert(), fields=(), lines=(line,)))
    assert f"• {line}" in texts(blocks)


def test_links_are_left_out_without_a_public_address() -> None:
    linked = replace(alert(), fields=(), lines=(), links=(("Report", "/runs/1"),))
    assert "<https://switchwise.example.com/runs/1|Report>" in texts(
        blocks_of(linked, public_url=URL)
    )
    assert not any("Report" in text for text in texts(blocks_of(linked)))


def test_a_mention_of_the_plan_stands_before_the_lead() -> None:
    assert texts(blocks_of(alert(), mention="<!subteam^S1>"))[1] == "<!subteam^S1> plain"


def test_the_fallback_repeats_header_and_lead() -> None:
    assert fallback_text(replace(alert(), title="T", lead="L & M")) == "T: L &amp; M"


def test_a_real_message_holds_no_emoji_button_or_image() -> None:
    (told,) = compose_alerts(outcome(comparison(VerdictKind.SWITCH)), {}, now=NOW).alerts

    blocks = blocks_of(told, public_url=URL)

    assert_valid(blocks)
    assert {block["type"] for block in blocks} == {"header", "section", "context"}
    assert "actions" not in json.dumps(blocks)


def test_the_console_shows_every_part() -> None:
    (told,) = compose_alerts(outcome(comparison(VerdictKind.SWITCH)), {}, now=NOW).alerts
    shown = plain_text(told)
    parts = [told.title, told.lead, *told.lines, *told.context]
    parts += [f"{label}: {value}" for label, value in told.fields]
    assert [part for part in parts if part not in shown] == []
