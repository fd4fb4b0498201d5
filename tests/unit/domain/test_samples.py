"""What a Sample says of the traffic it was drawn from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.cases import Case, Message, Prompt, Sample, Window
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


def test_replayable_rows_counted_by_stratum_are_the_volume_whatever_rows_were_met() -> None:
    counted = replace(SAMPLE, skipped={"empty": 900}, replayable=6_300.0)
    assert counted.requests_per_month == pytest.approx(27_000)


@pytest.mark.parametrize(
    "sample",
    [
        replace(SAMPLE, drawn=0),
        replace(SAMPLE, replayable=0.0),
        replace(SAMPLE, window=Window(start=END, end=END)),
    ],
)
def test_a_sample_of_no_logged_row_or_no_time_knows_no_volume(sample: Sample) -> None:
    assert sample.requests_per_month is None


def test_an_earlier_sample_whose_cases_carry_no_time_knows_no_volume() -> None:
    case = Case(case_id="c", source_id="row-1", ordinal=0, prompt=prompt(), weight=1.0)
    assert replace(SAMPLE, cases=(case,)).requests_per_month is None
    dated = replace(case, logged_at=END - timedelta(days=1))
    assert replace(SAMPLE, cases=(case, dated)).requests_per_month == pytest.approx(30_000)


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
