"""Numbers as people read them."""

from decimal import Decimal

import pytest

from app.alerting.phrases import named
from app.alerting.words import (
    count,
    difference,
    money,
    money_range,
    percent,
    percent_range,
    seconds,
    signed,
)
from app.stats.estimates import Estimate


def between(low: float, point: float, high: float) -> Estimate:
    return Estimate(point=point, low=low, high=high, confidence=0.95, n=10)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "–"),
        (0, "$0.00"),
        (Decimal("5.6"), "$5.60"),
        (Decimal("1140.4"), "$1,140"),
        (Decimal("0.0042"), "$0.0042"),
        (-12, "−$12.00"),
        (0.0000012, "$1.2e-6"),
        (8e307, "$8.0e+307"),
        (float("-inf"), "−$Infinity"),
    ],
)
def test_money_has_as_many_digits_as_help(amount: Decimal | float | None, text: str) -> None:
    assert money(amount) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (None, "–"),
        (between(920, 1140, 1310), "$1,140 a month ($920–1,310)"),
        (between(1.2, 2.5, 3), "$2.50 a month ($1.20–3.00)"),
        (between(-5, 2, 9), "$2.00 a month (−$5.00 to $9.00)"),
    ],
)
def test_amounts_come_with_their_interval(estimate: Estimate | None, text: str) -> None:
    assert money_range(estimate, " a month") == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (None, "–"),
        (between(0.31, 0.38, 0.44), "31–44 %"),
        (between(0.499, 0.5, 0.501), "50 %"),
        (between(-0.06, -0.02, 0.02), "−6 % to 2 %"),
        (between(-0.001, 0.0, 0.001), "0 %"),
    ],
)
def test_shares_come_with_their_interval(estimate: Estimate | None, text: str) -> None:
    assert percent_range(estimate) == text


def test_a_difference_shows_its_sign_and_never_a_negative_zero() -> None:
    assert difference(between(-0.03, -0.01, 0.01)) == "−0.01 ±0.02"
    assert signed(-0.001) == "0.00"
    assert signed(0.02) == "+0.02"
    assert percent(-0.001) == "0 %"


def test_durations_counts_and_names_read_as_words() -> None:
    assert [seconds(None), seconds(0.32), seconds(4.41)] == ["–", "320 ms", "4.4 s"]
    assert [count(1, "week"), count(1400, "prompt")] == ["1 week", "1,400 prompts"]
    assert [named([]), named(["a"]), named(["a", "b"]), named(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
