"""An Estimate: a number that never travels without its interval."""

from dataclasses import dataclass
from math import isfinite

_ROUNDING = 1e-9
"""Relative slack for a point that floating point put a hair outside its own interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A point and the interval that covers the truth with the stated confidence.

    Attributes:
        point: The estimate, in the unit of whatever is estimated.
        low: Lower end of the interval, at most the point.
        high: Upper end of the interval, at least the point.
        confidence: Nominal coverage, strictly between 0 and 1.
        n: Observations behind it.

    Raises:
        ValueError: If a number is not finite, or low <= point <= high does not hold.

    >>> Estimate(point=0.8, low=0.7, high=0.9, confidence=0.95, n=100).half_width
    0.1
    """

    point: float
    low: float
    high: float
    confidence: float
    n: int

    def __post_init__(self) -> None:
        if not all(map(isfinite, (self.point, self.low, self.high))):
            raise ValueError(f"an estimate must be finite: {self.low}, {self.point}, {self.high}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, not {self.confidence}")
        if self.n < 1:
            raise ValueError(f"an estimate needs at least one observation, not {self.n}")
        slack = _ROUNDING * max(abs(self.point), abs(self.low), abs(self.high))
        if self.low > self.point + slack or self.high < self.point - slack:
            raise ValueError(f"{self.point} lies outside its interval {self.low} to {self.high}")
        object.__setattr__(self, "low", min(self.low, self.point))
        object.__setattr__(self, "high", max(self.high, self.point))

    @property
    def half_width(self) -> float:
        """Return half the width of the interval: the number after a plus-minus sign."""
        return round((self.high - self.low) / 2, 12)

    def excludes(self, value: float) -> bool:
        """Return whether the interval lies wholly to one side of `value`.

        >>> Estimate(point=0.2, low=0.1, high=0.3, confidence=0.95, n=9).excludes(0.0)
        True
        """
        return value < self.low or value > self.high
