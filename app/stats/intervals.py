"""Intervals from pooled Moments: the difference in quality and the ratios of value and cost."""

from math import exp, log, sqrt

import numpy as np
from scipy import special

from app.stats.estimates import Estimate
from app.stats.evidence import COST_C, COST_P, QUALITY_C, QUALITY_P, Moments
from app.stats.switch_tests import value_ratio

CONFIDENCE = 0.95


def quality_difference(moments: Moments, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return D = quality_c - quality_p with its t interval.

    >>> m = Moments(mean=(1, 1, 0.8, 0.75), cov=((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1e-4, 0),
    ...     (0, 0, 0, 1e-4)), n_eff=100, clusters=100, df=99)
    >>> d = quality_difference(m)
    >>> round(d.point, 3), round(d.low, 3), round(d.high, 3)
    (0.05, 0.022, 0.078)
    """
    cov = moments.cov
    variance = cov[QUALITY_C][QUALITY_C] + cov[QUALITY_P][QUALITY_P] - 2 * cov[QUALITY_C][QUALITY_P]
    point = moments.mean[QUALITY_C] - moments.mean[QUALITY_P]
    half = student_quantile(confidence, moments.df) * sqrt(max(variance, 0.0))
    return _estimate(point, point - half, point + half, moments, confidence)


def value_ratio_interval(moments: Moments, *, confidence: float = CONFIDENCE) -> Estimate | None:
    """Return R with the delta method's t interval on the log scale, None when R is undefined.

    >>> m = Moments(mean=(0.5, 1.0, 0.8, 0.8), cov=((4e-4, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0),
    ...     (0, 0, 0, 0)), n_eff=100, clusters=100, df=1e9)
    >>> r = value_ratio_interval(m)
    >>> round(r.point, 3), round(r.low, 3), round(r.high, 3)
    (0.5, 0.462, 0.541)
    """
    if min(moments.mean) <= 0:
        return None
    return _log_interval(
        float(value_ratio(moments.mean)), (1.0, -1.0, -1.0, 1.0), moments, confidence
    )


def cost_ratio_interval(moments: Moments, *, confidence: float = CONFIDENCE) -> Estimate | None:
    """Return mean cost_c / mean cost_p (the bill) with its interval, None when undefined."""
    cost_c, cost_p = moments.mean[COST_C], moments.mean[COST_P]
    if cost_c <= 0 or cost_p <= 0:
        return None
    return _log_interval(cost_c / cost_p, (1.0, -1.0, 0.0, 0.0), moments, confidence)


def student_quantile(confidence: float, df: float) -> float:
    """Return the two-sided t multiplier.

    >>> round(student_quantile(0.95, 29), 3)
    2.045
    """
    return float(special.stdtrit(df, 0.5 + confidence / 2))


def _log_interval(
    point: float, signs: tuple[float, ...], moments: Moments, confidence: float
) -> Estimate:
    mean = np.array(moments.mean)
    gradient = np.array(signs) / np.where(mean > 0, mean, 1.0)
    variance = max(float(gradient @ np.array(moments.cov) @ gradient), 0.0)
    half = student_quantile(confidence, moments.df) * sqrt(variance)
    return _estimate(point, exp(log(point) - half), exp(log(point) + half), moments, confidence)


def _estimate(
    point: float, low: float, high: float, moments: Moments, confidence: float
) -> Estimate:
    n = max(1, round(moments.n_eff))
    return Estimate(point=point, low=low, high=high, confidence=confidence, n=n)
