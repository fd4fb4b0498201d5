"""What a Sample says of the traffic it was drawn from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.cases import Sample, Window

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
