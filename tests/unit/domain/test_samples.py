"""What a Sample says of the traffic it was drawn from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.cases import Message, Prompt, Sample, Window
from app.domain.json_values import JsonObject

END = datetime(2026, 3, 29, 6, tzinfo=UTC)
SAMPLE = Sample(
    window=Window(start=END - timedelta(days=7), end=END),
    seed=1,
    frame=7000,
    requested=100,
    drawn=100,
    cases=(),
)


def test_the_weeks_volume_is_scaled_to_a_month() -> None:
    assert SAMPLE.requests_per_month == pytest.approx(30_000)


def test_rows_that_cannot_be_replayed_save_nothing() -> None:
    met = replace(SAMPLE, skipped={"excluded": 60, "failed": 40})
    assert met.requests_per_month == pytest.approx(15_000)


def test_a_sample_of_nothing_stands_for_no_volume() -> None:
    assert replace(SAMPLE, drawn=0).requests_per_month == 0.0


def prompt(*content: JsonObject) -> Prompt:
    return Prompt(messages=(Message(role="user", content=content),))


def image(data: str) -> JsonObject:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source}


def test_an_image_counts_by_a_ceiling_whether_it_is_named_or_carried() -> None:
    words = {"type": "text", "text": "What is this?"}
    plain = prompt(words).most_tokens
    named = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    inside = {"type": "tool_result", "tool_use_id": "t", "content": [image("A" * 9)]}

    assert plain >= prompt(words).size_bytes
    for block in (named, image("A"), image("A" * 4_000_000)):
        assert plain + 6_000 <= prompt(words, block).most_tokens < plain + 6_100
    assert prompt(words, inside).most_tokens > plain + 6_000
