"""The four tests a candidate must pass before it may replace the primary.

Each test works on arrays: the last axis of `mean` is (cost_c, cost_p, quality_c, quality_p), the
last two of `cov` the covariance of that mean, and leading axes are windows, candidates or
simulated years alike. Every z is finite: where a test cannot be made (nothing of quality to
divide by) it is `NEVER`, and `value_refusal` says why.

Sources: Fieller (1954), J. R. Stat. Soc. B 16; Hall (1992), J. R. Stat. Soc. B 54 (skewness);
Bonett & Price (2012), J. Educ. Behav. Stat. 37 (adjusted Wald for paired proportions); Berger
(1982), Technometrics 24 (intersection-union).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from app.stats.arrays import BoolArray, FloatArray, shares, weighted_percentile
from app.stats.evidence import COST_C, COST_P, QUALITY_C, QUALITY_P, Evidence, Moments, Vector

NEVER = -37.0
"""The z of a refused test: no evidence can be less favourable (and a double still holds it)."""

PSEUDO_PAIRS = 0.5
"""Pseudo-pairs lost outright (d = -1) that are added to the quality test: 30 ties prove nothing."""

LEAN_SHARE = 0.5
"""Share of the skewness correction that the quality test takes: the pseudo-pairs do the rest."""

NO_QUALITY = 1e-9
"""A mean quality up to this is none: to divide by it says nothing."""

SUCCESS_Z = 2.33
"""The success guardrail must be passed, and a broken one is called, at this z (one-sided 1 %)."""

_T_LIMIT = 1e6

TAIL_SUPPORT = 5
"""Observations that must lie beyond a percentile before it is shown or judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyCheck:
    """Latency percentiles of both models and whether the guardrail lets a switch pass.

    Attributes:
        p50_ratio: Candidate's median over the primary's, None when either is unsupported.
        p95_ratio: The same of the 95th percentile.
        is_slower: Whether a supported ratio exceeds its bound.
        is_supported: Whether both percentiles can be judged.
    """

    p50_ratio: float | None
    p95_ratio: float | None
    is_slower: bool
    is_supported: bool

    @property
    def passes(self) -> bool:
        """Return whether a switch may pass: both percentiles known and within bounds."""
        return self.is_supported and not self.is_slower


def z_of_t(t: ArrayLike, df: ArrayLike) -> FloatArray:
    """Turn Student t into the normal z of the same tail probability, between -37 and 37.

    >>> [round(float(z), 3) for z in z_of_t([2.0, -2.0, 2.0], [10, 10, 1e9])]
    [1.79, -1.79, 2.0]
    """
    t, df = np.broadcast_arrays(np.asarray(t, dtype=np.float64), np.asarray(df, dtype=np.float64))
    with np.errstate(under="ignore"):
        tail = special.stdtr(df, -np.abs(t))  # the small tail keeps its digits
        z = -special.ndtri(tail)
    return np.asarray(np.sign(t) * np.clip(z, 0.0, -NEVER), dtype=np.float64)


def quality_z(
    mean: ArrayLike,
    cov: ArrayLike,
    n: ArrayLike,
    df: ArrayLike,
    *,
    margin: float,
    skewness: ArrayLike = 0.0,
) -> FloatArray:
    """Return z of "quality falls by less than the margin", honest about rare losses.

    Half a pseudo-pair lost outright is added and the per-pair variance is at least that of losing
    a share `margin` of all pairs: a run of ties has no variance, and proves little.

    Args:
        mean: Shape (..., 4).
        cov: Shape (..., 4, 4), covariance of the mean.
        n: Independent pairs (`Moments.independent_n`), shape (...).
        df: Degrees of freedom, shape (...).
        margin: Quality that may be lost, in 0..1 exclusive.
        skewness: `difference_skewness`, shape (...). Where it is negative the candidate seldom
            loses, but then by much, and t is lowered by half of Hall's transformation.

    Returns:
        z, shape (...).

    Thirty ties do not show that fewer than 5 % are lost:

    >>> ties = quality_z([1, 2, 1, 1], np.zeros((4, 4)), 30, 29, margin=0.05)
    >>> round(float(ties), 2)
    0.84
    """
    mean, cov, n = _floats(mean), _floats(cov), _floats(n)
    shrunk, variance = _shrunk_difference(mean, cov, n, margin)
    lean = LEAN_SHARE * np.minimum(_floats(skewness), 0.0) / np.sqrt(n)
    return z_of_t(_hall((shrunk + margin) / np.sqrt(variance), lean), df)


def difference_skewness(
    mean: ArrayLike, cov: ArrayLike, n: ArrayLike, third: ArrayLike, *, margin: float
) -> FloatArray:
    """Return the per-pair skewness of the quality test, its variance floored as in the test.

    Args:
        mean: Shape (..., 4).
        cov: Shape (..., 4, 4), covariance of the mean.
        n: Independent pairs, shape (...).
        third: Third central moment of the mean difference, shape (...).
        margin: Quality that may be lost.

    >>> cov = np.diag([0, 0, 1e-3, 0])
    >>> float(difference_skewness([1, 1, 0.9, 0.9], cov, 100, -1e-5, margin=0.05)) < -2
    True
    """
    mean, cov, n = _floats(mean), _floats(cov), _floats(n)
    _, variance = _shrunk_difference(mean, cov, n, margin)
    return np.asarray(_floats(third) / variance**1.5 * np.sqrt(n), dtype=np.float64)


def value_z(
    mean: ArrayLike,
    cov: ArrayLike,
    n: ArrayLike,
    df: ArrayLike,
    *,
    bar: float,
    skewness: ArrayLike = 0.0,
) -> FloatArray:
    """Return z of "cost per quality point is below `bar` times the primary's".

    The smaller of the delta method's z on ln R and the linear (Fieller) form's: with heavy-tailed
    costs each alone is too sure of itself in one direction. A candidate cheap enough to lose a
    share of the primary's quality and still reach the bar might be losing just that share: the
    variance is at least that of such losses, which an unbroken run of ties does not show.

    Args:
        mean: Shape (..., 4).
        cov: Shape (..., 4, 4), covariance of the mean.
        n: Independent pairs (`Moments.independent_n`), shape (...).
        df: Degrees of freedom, shape (...).
        bar: The ratio to stay below: 1 less the minimum saving.
        skewness: `cost_skewness`, shape (...). Where it is negative the candidate's bill has the
            heavier tail: t is too large while the tail is unseen, and Hall's transformation
            lowers it. Where it is positive t is left alone.

    Returns:
        z, shape (...); `NEVER` where `value_refusal` has a reason.

    >>> z = value_z([0.5, 1.0, 0.8, 0.8], np.diag([1e-2, 1e-2, 1e-2, 1e-2]), 100, 1e9, bar=0.9)
    >>> round(float(z), 2)
    2.06
    """
    mean, cov, n = _floats(mean), _floats(cov), _floats(n)
    lean = np.minimum(_floats(skewness), 0.0) / np.sqrt(n)
    refused = _refused(mean)
    safe = np.where(refused[..., None], 1.0, mean)
    delta = z_of_t(_hall(_delta_t(safe, cov, n, bar), lean), df)
    linear = z_of_t(_hall(_linear_t(safe, cov, n, bar), lean), df)
    return np.where(refused, NEVER, np.minimum(delta, linear))


def cost_skewness(
    mean: ArrayLike, cov: ArrayLike, n: ArrayLike, thirds: ArrayLike, *, bar: float
) -> FloatArray:
    """Return the per-pair skewness that costs give the linear form of the value test.

    Negative when dear calls of the candidate outweigh those of the primary. Only the costs' share
    is taken: qualities are bounded and have a floor.

    Args:
        mean: Shape (..., 4).
        cov: Shape (..., 4, 4), covariance of the mean.
        n: Independent pairs, shape (...).
        thirds: Third central moments of the mean costs (ccc, ccp, cpp, ppp), shape (..., 4).
        bar: The ratio to stay below.

    >>> cov = np.diag([1e-4, 1e-4, 0, 0])
    >>> float(cost_skewness([1, 1, 1, 1], cov, 100, [1e-6, 0, 0, 0], bar=1.0)) < -3
    True
    """
    mean, cov, n, thirds = _floats(mean), _floats(cov), _floats(n), _floats(thirds)
    refused = _refused(mean)
    _, _, q_c, q_p = np.moveaxis(mean, -1, 0)
    c, p = -q_p, bar * q_c
    third = c**3 * thirds[..., 0] + 3 * c**2 * p * thirds[..., 1]
    third = third + 3 * c * p**2 * thirds[..., 2] + p**3 * thirds[..., 3]
    variance = _linear_variance(mean, cov, n, bar)
    certain = refused | (variance <= 0)
    return np.where(certain, 0.0, third / np.where(certain, 1.0, variance) ** 1.5 * np.sqrt(n))


def value_refusal(mean: Vector) -> str | None:
    """Return why cost per quality point cannot be compared, or None when it can.

    >>> value_refusal((0.1, 0.2, 0.0, 0.8))
    'the candidate earned no quality: its cost per quality point is unbounded'
    >>> value_refusal((0.1, 0.2, 0.7, 0.8)) is None
    True
    """
    if mean[QUALITY_C] <= NO_QUALITY:
        return "the candidate earned no quality: its cost per quality point is unbounded"
    if mean[QUALITY_P] <= NO_QUALITY:
        return "the primary earned no quality: there is nothing to compare with"
    if mean[COST_P] <= 0:
        return "the primary cost nothing: there is nothing to save"
    return None


def success_z(n: ArrayLike, n10: ArrayLike, n01: ArrayLike, *, margin: float) -> FloatArray:
    """Return Bonett-Price z of "the success rate falls by less than the margin".

    Args:
        n: Effective pairs.
        n10: Pairs in which only the primary succeeded.
        n01: Pairs in which only the candidate succeeded.
        margin: Success rate that may be lost.

    Returns:
        z, shape of the arguments.

    >>> [round(float(z), 2) for z in success_z([50, 100], [0, 0], [0, 0], margin=0.05)]
    [1.84, 3.61]
    """
    total = _floats(n) + 2.0
    lost, won = (_floats(n10) + 1.0) / total, (_floats(n01) + 1.0) / total
    spread = (lost + won - (won - lost) ** 2) / total
    z = (won - lost + margin) / np.sqrt(spread)
    return np.clip(z, NEVER, -NEVER)


def latency_check(evidence: Evidence, *, p50_bound: float, p95_bound: float) -> LatencyCheck:
    """Return the latency guardrail on the point estimates of a window.

    >>> from app.stats.evidence import pair_evidence
    >>> fast, slow = [1.0] * 100, [1.2] * 100
    >>> pairs = pair_evidence(fast, fast, fast, fast, latency_c=slow, latency_p=fast)
    >>> latency_check(pairs, p50_bound=1.25, p95_bound=1.5).p95_ratio
    1.2
    """
    p50 = _latency_ratio(evidence, 50)
    p95 = _latency_ratio(evidence, 95)
    slower = (p50 is not None and p50 > p50_bound) or (p95 is not None and p95 > p95_bound)
    supported = p50 is not None and p95 is not None
    return LatencyCheck(p50_ratio=p50, p95_ratio=p95, is_slower=slower, is_supported=supported)


def is_supported(n: int, percent: int) -> bool:
    """Return whether n observations support a percentile: n(1-p) >= 5.

    >>> is_supported(100, 95), is_supported(99, 95), is_supported(10, 50)
    (True, False, True)
    """
    return n * (100 - percent) >= TAIL_SUPPORT * 100


def percentile_of(values: ArrayLike, percent: int, *, weights: Sequence[float] = ()) -> float:
    """Return a percentile, of the weight where there are weights.

    >>> percentile_of([1.0, 2.0, 4.0], 50), percentile_of([1.0, 2.0, 4.0], 50, weights=[1, 1, 8])
    (2.0, 4.0)
    """
    array = _floats(values)
    if not weights:
        return float(np.percentile(array, percent))
    return weighted_percentile(array, shares(weights, length=array.size), percent / 100)


def percentile_ratio(
    first: Sequence[float],
    second: Sequence[float],
    percent: int,
    *,
    weights: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> float | None:
    """Return percentile(first) / percentile(second), None unless both are supported.

    None too where the second is 0.

    >>> percentile_ratio([3.0] * 10, [2.0] * 10, 50)
    1.5
    """
    if not (is_supported(len(first), percent) and is_supported(len(second), percent)):
        return None
    below = percentile_of(second, percent, weights=weights[1])
    return percentile_of(first, percent, weights=weights[0]) / below if below > 0 else None


def value_ratio(mean: ArrayLike) -> FloatArray:
    """Return R, the candidate's cost per quality point over the primary's; inf when undefined.

    >>> float(value_ratio([0.3, 1.0, 0.6, 0.8]))
    0.4
    """
    mean = _floats(mean)
    top = mean[..., COST_C] * mean[..., QUALITY_P]
    bottom = mean[..., COST_P] * mean[..., QUALITY_C]
    defined = bottom > 0
    return np.where(defined, top / np.where(defined, bottom, 1.0), np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """Moments side by side: what the tests take, one leading axis."""

    mean: FloatArray
    cov: FloatArray
    n: FloatArray
    df: FloatArray
    cost_thirds: FloatArray
    difference_third: FloatArray

    @classmethod
    def of(cls, moments: Sequence[Moments]) -> Self:
        """Return several Moments stacked; `n` are independent pairs."""
        return cls(
            mean=np.array([m.mean for m in moments]),
            cov=np.array([m.cov for m in moments]),
            n=np.array([m.independent_n for m in moments]),
            df=np.array([m.df for m in moments]),
            cost_thirds=np.array([m.cost_thirds for m in moments]),
            difference_third=np.array([m.difference_third for m in moments]),
        )


def _refused(mean: FloatArray) -> BoolArray:
    """Return where `value_refusal` has a reason."""
    least = np.minimum(mean[..., QUALITY_C], mean[..., QUALITY_P])
    return (mean[..., COST_P] <= 0) | (least <= NO_QUALITY)


def _shrunk_difference(
    mean: FloatArray, cov: FloatArray, n: FloatArray, margin: float
) -> tuple[FloatArray, FloatArray]:
    """Return D with its pseudo-pairs, and the floored variance of that mean."""
    difference = mean[..., QUALITY_C] - mean[..., QUALITY_P]
    per_pair = n * _quadratic(cov, (QUALITY_C, QUALITY_P), (np.float64(1.0), np.float64(-1.0)))
    total = n + PSEUDO_PAIRS
    shrunk = (n * difference - PSEUDO_PAIRS) / total
    spread = (n * (per_pair + difference**2) + PSEUDO_PAIRS) / total - shrunk**2
    return shrunk, np.maximum(spread, margin * (1 - margin)) / total


def _delta_t(mean: FloatArray, cov: FloatArray, n: FloatArray, bar: float) -> FloatArray:
    """Return t of ln R against ln bar; +inf for a candidate that costs nothing."""
    free = mean[..., COST_C] <= 0
    inverse = 1.0 / np.where(mean > 0, mean, 1.0)
    gradient = tuple(s * inverse[..., i] for i, s in enumerate((1.0, -1.0, -1.0, 1.0)))
    x_c, x_p, q_c, q_p = np.moveaxis(np.log(np.where(mean > 0, mean, 1.0)), -1, 0)
    gap = np.log(bar) - (x_c - x_p - q_c + q_p)
    afforded = np.where(free, 1.0, mean[..., COST_C] / (bar * mean[..., COST_P]))
    least = _loss_variance(mean, n, bar) * (inverse[..., QUALITY_P] / afforded) ** 2
    variance = np.maximum(_quadratic(cov, range(4), gradient), least)
    return np.where(free, np.inf, _ratio_to_root(gap, variance))


def _linear_t(mean: FloatArray, cov: FloatArray, n: FloatArray, bar: float) -> FloatArray:
    """Return t of bar * cost_p * quality_c - cost_c * quality_p against 0."""
    x_c, x_p, q_c, q_p = np.moveaxis(mean, -1, 0)
    return _ratio_to_root(bar * x_p * q_c - x_c * q_p, _linear_variance(mean, cov, n, bar))


def _linear_variance(mean: FloatArray, cov: FloatArray, n: FloatArray, bar: float) -> FloatArray:
    x_c, x_p, q_c, q_p = np.moveaxis(mean, -1, 0)
    variance = _quadratic(cov, range(4), (-q_p, bar * q_c, bar * x_p, -x_c))
    floor = _loss_variance(mean, n, bar) * (bar * x_p) ** 2
    return np.asarray(np.maximum(variance, floor), dtype=np.float64)


def _loss_variance(mean: FloatArray, n: FloatArray, bar: float) -> FloatArray:
    """Return the variance of losing, outright, just the share that the lower cost affords.

    At the bar quality_c = a * quality_p with a = cost_c / (bar * cost_p): if the candidate loses
    a share 1 - a of the primary's good replies, the mean of quality_c - a * quality_p has the
    variance quality_p * a * (1 - a) / n.
    """
    paid = mean[..., COST_P] > 0
    afforded = mean[..., COST_C] / (bar * np.where(paid, mean[..., COST_P], 1.0))
    afforded = np.clip(afforded, 0.0, 1.0)
    lost = np.maximum(mean[..., QUALITY_P], 0.0) * afforded * (1 - afforded)
    return np.asarray(lost / n, dtype=np.float64)


def _hall(t: FloatArray, lean: FloatArray) -> FloatArray:
    """Return Hall's transformation of t for a statistic that leans left, never above t.

    Beyond its plateau at t = -3 / lean the cubic would turn up again without meaning: there it is
    held, so that a bill with a heavy tail needs about 13 skewness^2 pairs before it can convince.
    """
    leaning = (lean < 0) & (t > 0)
    t = np.clip(t, -_T_LIMIT, _T_LIMIT)
    lean = np.where(leaning, lean, -1.0)
    held = np.minimum(t, -3.0 / lean)
    bent = held + lean / 3 * held**2 + lean**2 / 27 * held**3 + lean / 6
    return np.where(leaning, np.clip(bent, 0.0, t), t)


def _ratio_to_root(gap: FloatArray, variance: FloatArray) -> FloatArray:
    """Return gap / sqrt(variance), infinite with the gap's sign where nothing varies."""
    certain = variance <= 0
    t = gap / np.sqrt(np.where(certain, 1.0, variance))
    return np.where(certain & (gap != 0), np.copysign(np.inf, gap), t)


def _quadratic(cov: FloatArray, rows: Any, gradient: Any) -> FloatArray:
    """Return g' V g over the named rows, never below 0."""
    total = np.zeros(cov.shape[:-2])
    for i, g_i in zip(rows, gradient, strict=True):
        for j, g_j in zip(rows, gradient, strict=True):
            total = total + g_i * g_j * cov[..., i, j]
    return np.maximum(total, 0.0)


def _latency_ratio(evidence: Evidence, percent: int) -> float | None:
    return percentile_ratio(
        evidence.latency_c,
        evidence.latency_p,
        percent,
        weights=(evidence.latency_weights_c, evidence.latency_weights_p),
    )


def _floats(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
