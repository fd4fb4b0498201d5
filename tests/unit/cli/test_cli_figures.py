import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.figures import (
    counted,
    difference,
    dollar_range,
    dollars,
    duration_range,
    interval,
    milliseconds,
    number,
    point_range,
    points,
    ratio,
    ratio_range,
    share,
    share_range,
    shares,
    whole,
)

DASH = "–"


@pytest.mark.parametrize(
    "told",
    [
        number(None),
        whole(None),
        interval(None),
        difference(None),
        share(None),
        shares(None),
        points(None),
        dollars(None),
        dollar_range(None),
        milliseconds(None),
        ratio(None),
    ],
)
def test_an_absent_figure_is_a_dash(told: str) -> None:
    assert told == DASH


def test_figures_never_travel_without_their_interval() -> None:
    assert interval({"value": 0.85, "low": 0.82, "high": 0.88}) == "0.85 (0.82–0.88)"
    assert difference({"value": -0.01, "low": -0.03, "high": 0.01}) == "−0.01 (−0.03 to +0.01)"
    assert shares({"value": 0.38, "low": 0.31, "high": 0.44}) == "38 % (31–44 %)"
    assert shares({"value": 0.02, "low": -0.1, "high": 0.14}) == "2 % (−10 % to 14 %)"
    assert dollar_range({"value": "1140", "low": "920", "high": "1310"}) == (
        "$1,140 ($920.00–1,310)"
    )
    assert dollar_range({"value": "-5", "low": "-6", "high": "-4"}) == "−$5.00 (−$6.00 to −$4.00)"


def test_figures_whose_interval_is_held_apart_are_shown_with_it_where_there_is_one() -> None:
    assert share_range(0.99, {"low": 0.946, "high": 1.0}) == "99.0 % (95–100 %)"
    assert point_range(-0.012, {"low": -0.03, "high": 0.006}) == "−1.2 pp (−3.0 to +0.6)"
    assert ratio_range(0.8, {"low": 0.75, "high": 0.86}) == "× 0.80 (0.75–0.86)"
    assert (share_range(0.9, None), point_range(0.0, None), ratio_range(0.8, None)) == (
        "90 %",
        "0.0 pp",
        "× 0.80",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "$0.00"),
        ("0.000023", "$0.000023"),
        ("0.0000001234", "$0.00000012"),
        ("0.0056", "$0.0056"),
        ("9.1", "$9.10"),
        ("1139.6", "$1,140"),
        ("-0.00045", "−$0.00045"),
    ],
)
def test_money_keeps_the_digits_that_help_and_is_never_scientific(value: str, text: str) -> None:
    assert dollars(value) == text


@given(st.decimals(min_value="0.0000000001", max_value="10000", allow_nan=False, places=12))
def test_money_that_was_spent_is_never_shown_as_nothing(amount: object) -> None:
    if amount:
        assert any(digit in dollars(str(amount)) for digit in "123456789")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "100 %"), (0.9999, ">99.9 %"), (0.991, "99.1 %"), (0.9, "90 %"), (0.0, "0 %")],
)
def test_a_success_rate_below_one_is_never_rounded_up_to_it(value: float, text: str) -> None:
    assert share(value) == text


def test_durations_change_their_unit_at_a_second() -> None:
    assert (milliseconds(320.4), milliseconds(4400.0)) == ("320 ms", "4.4 s")
    assert duration_range({"value": 320.0, "low": 290.0, "high": 360.0}) == "320 ms (290–360 ms)"
    assert duration_range({"value": 980.0, "low": 900.0, "high": 1200.0}) == (
        "980 ms (900 ms–1.2 s)"
    )


def test_counts_are_named_most_first() -> None:
    assert counted({"empty": 1, "too_long": 12, "binary": 0}) == "12 too long, 1 empty"
    assert counted({}) == ""


def test_no_number_has_a_negative_zero() -> None:
    assert number(-0.0001) == "0.00"
    assert points(-0.00001) == "0.0 pp"
