"""Agreement of two raters: weighted kappa and Spearman's rank correlation, with intervals.

Sources: Cohen (1968), Psychol. Bull. 70; Bonett & Wright (2000), Psychometrika 65 (standard error
of Fisher's z for Spearman's rho).
"""

from collections.abc import Sequence
from math import atanh, sqrt, tanh
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from app.stats.arrays import (
    FloatArray,
    IntArray,
    InvalidNumbersError,
    NotEnoughDataError,
    average_ranks,
    finite,
)
from app.stats.estimates import Estimate
from app.stats.intervals import CONFIDENCE, normal_quantile, resampled_counts

FIVE_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The judge's 1 to 5 as quality."""

MIN_RATINGS = 10


def weighted_kappa(
    first: ArrayLike,
    second: ArrayLike,
    *,
    levels: Sequence[float] = FIVE_LEVELS,
    weighting: Literal["quadratic", "linear"] = "quadratic",
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    """Return Cohen's weighted kappa of two raters with a bootstrap interval.

    Args:
        first: One rating per item; each counts as the nearest level.
        second: The other rater's, same items.
        levels: The scale, at least two levels, ascending.
        weighting: How disagreement grows with distance.
        confidence: Nominal coverage.

    Returns:
        Kappa, None when a rater used one level only: chance agreement is then total.

    Raises:
        NotEnoughDataError: If fewer than 10 items are rated.

    >>> a = [0.0, 0.25, 0.5, 0.75, 1.0] * 4
    >>> weighted_kappa(a, a).point
    1.0
    """
    a, b = finite(first, "first"), finite(second, "second")
    _check_ratings(a, b)
    scale = np.asarray(levels, dtype=np.float64)
    if scale.size < 2 or (np.diff(scale) <= 0).any():
        raise InvalidNumbersError("a scale has at least two levels, ascending")
    k = scale.size
    cells = _nearest(a, scale) * k + _nearest(b, scale)
    table = np.bincount(cells, minlength=k * k).astype(np.float64)
    distance = np.abs(scale[:, None] - scale[None, :])
    penalty = distance**2 if weighting == "quadratic" else distance
    point = float(_kappa(table[None, :], penalty)[0])
    if not np.isfinite(point):
        return None
    onehot = np.zeros((a.size, k * k))
    onehot[np.arange(a.size), np.sort(cells)] = 1.0
    draws = _kappa(resampled_counts((a.size,)) @ onehot, penalty)
    draws = draws[np.isfinite(draws)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return Estimate(
        point=point,
        low=min(float(low), point),
        high=max(float(high), point),
        confidence=confidence,
        n=a.size,
    )


def spearman(
    first: ArrayLike, second: ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate | None:
    """Return Spearman's rank correlation with Bonett and Wright's interval.

    None when either rater gave one rating only: there is no order to agree on.

    Raises:
        NotEnoughDataError: If fewer than 10 items are rated.

    >>> e = spearman(list(range(20)), [v if v else 3 for v in range(20)])
    >>> e.low < e.point < e.high
    True
    """
    a, b = finite(first, "first"), finite(second, "second")
    _check_ratings(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rho = float(np.corrcoef(average_ranks(a), average_ranks(b))[0, 1])
    rho = max(-1.0, min(1.0, rho))
    inner = max(-1 + 1e-12, min(1 - 1e-12, rho))
    half = normal_quantile(confidence) * sqrt((1 + rho**2 / 2) / (a.size - 3))
    return Estimate(
        point=rho,
        low=min(tanh(atanh(inner) - half), rho),
        high=max(tanh(atanh(inner) + half), rho),
        confidence=confidence,
        n=a.size,
    )


def _check_ratings(a: FloatArray, b: FloatArray) -> None:
    if a.size != b.size:
        raise InvalidNumbersError(f"{a.size} ratings cannot be compared with {b.size}")
    if a.size < MIN_RATINGS:
        raise NotEnoughDataError(f"{a.size} rated items; agreement needs {MIN_RATINGS}")


def _nearest(values: FloatArray, scale: FloatArray) -> IntArray:
    return np.asarray(np.abs(values[:, None] - scale[None, :]).argmin(axis=1), dtype=np.intp)


def _kappa(tables: FloatArray, penalty: FloatArray) -> FloatArray:
    """Return 1 - observed / expected disagreement of each flattened table, NaN when undefined."""
    k = len(penalty)
    shares = (tables / tables.sum(axis=1, keepdims=True)).reshape(-1, k, k)
    observed = (shares * penalty).sum(axis=(1, 2))
    chance = shares.sum(axis=2)[:, :, None] * shares.sum(axis=1)[:, None, :]
    expected = (chance * penalty).sum(axis=(1, 2))
    usable = expected > 0
    return np.where(usable, 1 - observed / np.where(usable, expected, 1.0), np.nan)
