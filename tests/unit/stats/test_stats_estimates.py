"""An Estimate never travels without a sane interval."""

import math

import pytest

from app.stats.estimates import Estimate


def estimate(point: float, low: float, high: float) -> Estimate:
    return Estimate(point=point, low=low, high=high, confidence=0.95, n=10)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(bad: float) -> None:
    for numbers in ((bad, 0.0, 1.0), (0.5, bad, 1.0), (0.5, 0.0, bad)):
        with pytest.raises(ValueError, match="finite"):
            estimate(*numbers)


def test_a_point_outside_its_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="outside its interval"):
        estimate(0.5, 0.6, 0.7)


def test_rounding_may_put_the_point_a_hair_outside() -> None:
    e = estimate(0.3, 0.1 + 0.2, 0.4)
    assert e.low <= e.point <= e.high


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        Estimate(point=1.0, low=0.0, high=2.0, confidence=confidence, n=3)


def test_an_estimate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one observation"):
        Estimate(point=1.0, low=0.0, high=2.0, confidence=0.95, n=0)


def test_an_interval_that_touches_a_value_does_not_exclude_it() -> None:
    assert not estimate(0.2, 0.0, 0.4).excludes(0.0)
    assert estimate(0.2, 0.01, 0.4).excludes(0.0)
