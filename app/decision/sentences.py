"""Sentences: figures as people read them, never without interval, count or bound."""

from dataclasses import replace

from app.stats.estimates import Estimate

MINUS = "\u2212"


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; never a negative zero.

    >>> signed(-0.0123), signed(0.0004), signed(0.05)
    ('−0.01', '0.00', '+0.05')
    """
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+") + text


def difference(estimate: Estimate) -> str:
    """A difference with half its interval.

    >>> difference(Estimate(point=-0.01, low=-0.03, high=0.01, confidence=0.95, n=9))
    '−0.01 ±0.02'
    """
    return f"{signed(estimate.point)} ±{estimate.half_width:.2f}"


def percent(share: float) -> str:
    """A share as a whole per cent."""
    text = f"{abs(share) * 100:.0f}"
    return f"{MINUS if share < 0 and text != '0' else ''}{text} %"


def saving_range(estimate: Estimate) -> str:
    """An interval of savings; a rise is called one.

    >>> saving_range(Estimate(point=0.4, low=0.31, high=0.44, confidence=0.95, n=9))
    '31–44 % lower'
    """
    low, high = estimate.low * 100, estimate.high * 100
    if low >= 0:
        return f"{low:.0f}–{high:.0f} % lower"
    if high <= 0:
        return f"{-high:.0f}–{-low:.0f} % higher"
    return f"between {high:.0f} % lower and {-low:.0f} % higher"


def ratio(estimate: Estimate) -> str:
    """A ratio with its interval.

    >>> ratio(Estimate(point=0.65, low=0.6, high=0.71, confidence=0.95, n=9))
    '0.65 (0.60–0.71)'
    """
    return f"{estimate.point:.2f} ({estimate.low:.2f}–{estimate.high:.2f})"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "week"), count(1400, "pair")
    ('1 week', '1,400 pairs')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def complement(estimate: Estimate) -> Estimate:
    """One less the estimate: a ratio of bills as the saving it means."""
    return replace(estimate, point=1 - estimate.point, low=1 - estimate.high, high=1 - estimate.low)
