"""Sentences: figures as people read them, never without interval, count or bound."""

from dataclasses import replace

from app.domain.wording import MINUS, change_range, complement, count, percent, signed
from app.stats.estimates import Estimate

__all__ = (
    "MINUS",
    "complement",
    "count",
    "difference",
    "percent",
    "ratio",
    "saving_range",
    "signed",
)

_MANY = 10
"""From here on a bill is told as so many times as high, not in per cent."""

_HUGE = 1_000
"""A ratio beyond this is not told in figures: there is next to nothing to divide by."""


def difference(estimate: Estimate) -> str:
    """A difference with half its interval.

    >>> difference(Estimate(point=-0.01, low=-0.03, high=0.01, confidence=0.95, n=9))
    '−0.01 ±0.02'
    """
    return f"{signed(estimate.point)} ±{estimate.half_width:.2f}"


def saving_range(estimate: Estimate) -> str:
    """An interval of savings; a rise is called one.

    >>> saving_range(Estimate(point=0.4, low=0.31, high=0.44, confidence=0.95, n=9))
    '31–44 % lower'
    >>> saving_range(Estimate(point=-39.0, low=-2e6, high=-24.0, confidence=0.95, n=9))
    '25 to over 1,000 times as high'
    """
    least, most = 1 - estimate.high, 1 - estimate.low
    if least >= _MANY:
        return f"{_fold(least)} to {_fold(most)} times as high"
    if most >= _HUGE:
        return f"between {percent(least)} of the primary's and {_fold(most)} times as high"
    return change_range(
        replace(estimate, point=-estimate.point, low=-estimate.high, high=-estimate.low)
    )


def ratio(estimate: Estimate) -> str:
    """A ratio with its interval.

    >>> ratio(Estimate(point=0.65, low=0.6, high=0.71, confidence=0.95, n=9))
    '0.65 (0.60–0.71)'
    >>> ratio(Estimate(point=40.0, low=2.0, high=1e9, confidence=0.95, n=9))
    '40.00 (2.00–over 1,000)'
    """
    return f"{_times(estimate.point)} ({_times(estimate.low)}–{_times(estimate.high)})"


def _fold(value: float) -> str:
    return f"{value:.0f}" if value < _HUGE else f"over {_HUGE:,}"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < _HUGE else f"over {_HUGE:,}"
