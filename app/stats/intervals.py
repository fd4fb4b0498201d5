"""Intervals for every figure shown: differences, ratios, shares, percentiles.

Three ways, each where it is honest. From pooled Moments: Student t and the delta method. For
shares: Wilson's score interval. For ratios of sums and percentiles: the bootstrap over
conversations: the hull of the studentised interval (on the log scale) and the percentile one. BCa
under-covers here with heavy-tailed costs.

Sources: Wilson (1927), JASA 22; Korn & Graubard (1998), Survey Methodology 24 (effective sample
size for a share); Woodruff (1952), JASA 47 (percentiles of weighted samples); Efron & Tibshirani
(1993), An Introduction to the Bootstrap, section 12.5 (bootstrap-t); David & Nagaraja (2003), Order
Statistics, section 7.1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from app.stats.arrays import (
    FloatArray,
    InvalidNumbersError,
    Labels,
    NotEnoughDataError,
    codes,
    finite,
    shares,
    weighted_percentile,
)
from app.stats.estimates import Estimate
from app.stats.evidence import COST_C, COST_P, NO_VARIANCE, QUALITY_C, QUALITY_P, Moments
from app.stats.switch_tests import is_supported, percentile_ratio, value_ratio, value_refusal

Counts = NDArray[np.uint8]

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 20_261
_CELLS_AT_ONCE = 250_000

MAX_FOLD = 1_000.0
"""Data do not bound a ratio whose interval reaches further than so many times the ratio."""

MAX_UNDEFINED_SHARE = 0.005
"""Resamples in which a ratio may be undefined (nothing to divide by) before it has no interval."""


# --- from pooled moments -------------------------------------------------------------------------


def quality_difference(moments: Moments, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return D = quality_c - quality_p with its t interval.

    Where every pair differs by the same amount there is no variance to estimate, yet a rarer
    outcome may exist: the interval is then that of z^2 unseen pairs at either extreme.

    >>> m = Moments(mean=(1, 1, 0.8, 0.75), cov=((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1e-4, 0),
    ...     (0, 0, 0, 1e-4)), n_eff=100, clusters=100, df=99, loose_variance=2e-4,
    ...     cost_thirds=(0, 0, 0, 0), difference_third=0)
    >>> d = quality_difference(m)
    >>> round(d.point, 3), round(d.low, 3), round(d.high, 3)
    (0.05, 0.022, 0.078)
    """
    cov = moments.cov
    variance = cov[QUALITY_C][QUALITY_C] + cov[QUALITY_P][QUALITY_P] - 2 * cov[QUALITY_C][QUALITY_P]
    # Scores lie on few steps: what is shown must not hang on the order of adding them up.
    point = round(moments.mean[QUALITY_C] - moments.mean[QUALITY_P], 12)
    n = max(1, round(moments.n_eff))
    if variance <= NO_VARIANCE:
        low, high = _unseen(point, min(moments.n_eff, moments.clusters), confidence, (-1.0, 1.0))
        return Estimate(point=point, low=low, high=high, confidence=confidence, n=n)
    half = student_quantile(confidence, moments.df) * sqrt(variance)
    return Estimate(point=point, low=point - half, high=point + half, confidence=confidence, n=n)


def value_ratio_interval(moments: Moments, *, confidence: float = CONFIDENCE) -> Estimate | None:
    """Return R with the delta method's t interval on the log scale.

    None when R is undefined, or when the data do not bound it.

    >>> m = Moments(mean=(0.5, 1.0, 0.8, 0.8), cov=((4e-4, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0),
    ...     (0, 0, 0, 0)), n_eff=100, clusters=100, df=1e9, loose_variance=0,
    ...     cost_thirds=(0, 0, 0, 0), difference_third=0)
    >>> r = value_ratio_interval(m)
    >>> round(r.point, 3), round(r.low, 3), round(r.high, 3)
    (0.5, 0.462, 0.541)
    """
    if value_refusal(moments.mean) is not None or moments.mean[COST_C] <= 0:
        return None
    ratio = float(value_ratio(moments.mean))
    return _log_interval(ratio, (1.0, -1.0, -1.0, 1.0), moments, confidence)


def cost_ratio_interval(moments: Moments, *, confidence: float = CONFIDENCE) -> Estimate | None:
    """Return mean cost_c / mean cost_p (the bill) with its interval.

    None when it is undefined, or when the data do not bound it.
    """
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


def normal_quantile(confidence: float) -> float:
    """Return the two-sided normal multiplier.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    return float(special.ndtri(0.5 + confidence / 2))


# --- shares and means ----------------------------------------------------------------------------


def wilson(successes: float, n: float, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return a share with Wilson's score interval; counts may be effective (fractional) ones.

    >>> e = wilson(9, 10)
    >>> round(e.point, 2), round(e.low, 3), round(e.high, 3)
    (0.9, 0.596, 0.982)
    """
    if n <= 0 or not 0 <= successes <= n * (1 + 1e-12):
        raise InvalidNumbersError(f"{successes} successes of {n} is no share")
    z2 = normal_quantile(confidence) ** 2
    share = min(successes / n, 1.0)
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Estimate(
        point=share,
        low=max(0.0, centre - half),
        high=min(1.0, centre + half),
        confidence=confidence,
        n=max(1, round(n)),
    )


def share_interval(
    hits: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    clusters: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return a weighted share, e.g. the success rate, with Wilson's interval at its effective n.

    The effective n is what the cluster-robust variance is worth, at most the number of
    conversations where nothing varies.

    >>> e = share_interval([True] * 9 + [False])
    >>> round(e.point, 2), round(e.low, 3), round(e.high, 3)
    (0.9, 0.596, 0.982)
    """
    values = finite(np.asarray(hits, dtype=np.float64), "hits")
    sample = _sample(values[:, None], weights, clusters)
    share = float(sample.totals.sum())
    independent = min(sample.n_eff, float(sample.groups))
    if sample.groups > 1 and 0 < share < 1:
        scaled = sample.totals - share * sample.weight[:, None]
        variance = sample.groups / (sample.groups - 1) * float(np.square(scaled).sum())
        srs = share * (1 - share) / (sample.n_eff - 1) if sample.n_eff > 1 else variance
        independent = sample.n_eff / max(1.0, variance / srs)
    estimate = wilson(share * independent, independent, confidence=confidence)
    return Estimate(
        point=estimate.point,
        low=estimate.low,
        high=estimate.high,
        confidence=confidence,
        n=len(values),
    )


def mean_interval(
    values: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    clusters: Labels | None = None,
    bounds: tuple[float, float] | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return a weighted mean with its cluster-robust t interval.

    Args:
        values: One number per Case.
        weights: Share of traffic of each Case (default equal).
        clusters: Conversation of each Case (default each its own).
        bounds: Least and greatest possible value; the interval stays inside, and values that are
            all the same are not taken for certainty.
        confidence: Nominal coverage.

    Raises:
        NotEnoughDataError: If fewer than two conversations are given.

    >>> e = mean_interval([0.5, 0.7, 0.9])
    >>> round(e.point, 2), round(e.low, 2), round(e.high, 2)
    (0.7, 0.2, 1.2)
    """
    array = finite(values, "values")
    sample = _sample(array[:, None], weights, clusters)
    if sample.groups < 2:
        raise NotEnoughDataError(f"{sample.groups} conversation(s) cannot carry an interval")
    point = float(sample.totals.sum())
    centred = sample.totals[:, 0] - point * sample.weight
    variance = sample.groups / (sample.groups - 1) * float(np.square(centred).sum())
    if variance <= NO_VARIANCE and bounds is not None:
        independent = min(sample.n_eff, float(sample.groups))
        low, high = _unseen(point, independent, confidence, bounds)
    else:
        half = student_quantile(confidence, sample.groups - 1) * sqrt(variance)
        low, high = point - half, point + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(point=point, low=low, high=high, confidence=confidence, n=array.size)


# --- ratios of sums, by the bootstrap ------------------------------------------------------------


def ratio_interval(
    top: ArrayLike,
    bottom: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    clusters: Labels | None = None,
    strata: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    """Return sum(top) / sum(bottom) with its interval, None when the data cannot bound it.

    Cost per success is cost over success flags; cost per quality point is cost over quality; the
    ratio of two bills is cost_c over cost_p.

    Args:
        top: One number per Case, at least 0.
        bottom: One number per Case, at least 0.
        weights: Share of traffic of each Case.
        clusters: Conversation of each Case; conversations are resampled whole.
        strata: Week (or stratum) of each Case; resampling stays inside it.
        confidence: Nominal coverage.

    >>> e = ratio_interval([2.0, 3.0, 4.0, 3.0] * 5, [1, 1, 1, 0] * 5)
    >>> round(e.point, 9), e.low < 4 < e.high
    (4.0, True)
    """
    columns = np.column_stack((finite(top, "top"), finite(bottom, "bottom")))
    return _log_bootstrap(columns, (1.0, -1.0), weights, clusters, strata, confidence)


def value_ratio_bootstrap(  # noqa: PLR0913 -- one keyword per column of the paired table
    cost_c: ArrayLike,
    cost_p: ArrayLike,
    quality_c: ArrayLike,
    quality_p: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    clusters: Labels | None = None,
    strata: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    """Return R, cost per quality point over the primary's, from pairs resampled together.

    Arguments as in `ratio_interval`, one row per scored pair. None when R or its interval is
    undefined (a model earned no quality or cost nothing).

    >>> cost, quality = [1.0, 2.0, 3.0] * 10, [1.0, 0.5, 0.75] * 10
    >>> e = value_ratio_bootstrap(cost, cost, quality, quality)
    >>> round(e.low, 9), round(e.point, 9), round(e.high, 9)
    (1.0, 1.0, 1.0)
    """
    columns = np.column_stack(
        (
            finite(cost_c, "cost_c"),
            finite(cost_p, "cost_p"),
            finite(quality_c, "quality_c"),
            finite(quality_p, "quality_p"),
        )
    )
    return _log_bootstrap(columns, (1.0, -1.0, -1.0, 1.0), weights, clusters, strata, confidence)


def difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    clusters: Labels | None = None,
    strata: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return mean(first - second), e.g. the cost saved per request, by the bootstrap.

    Raises:
        NotEnoughDataError: If fewer than two conversations are given.

    >>> e = difference_interval([3.0, 4.0, 6.0, 5.0], [1.0, 2.0, 2.0, 2.0])
    >>> e.point, e.low < 2.75 < e.high
    (2.75, True)
    """
    gap = finite(first, "first") - finite(second, "second")
    sample = _sample(gap[:, None], weights, clusters, strata)
    if sample.groups < 2:
        raise NotEnoughDataError(f"{sample.groups} conversation(s) cannot carry an interval")
    boot = _Bootstrap.of(sample)
    point = float(sample.totals.sum())
    spread = sqrt(sample.variance(sample.totals[:, 0] - point * sample.weight))
    means = boot.sums[:, 0] / boot.weight
    deviations = boot.deviations(
        np.column_stack((1.0 / boot.weight, -means / boot.weight)), extended=True
    )
    low, high = _bootstrap_ends(point, spread, means, deviations, confidence)
    return Estimate(point=point, low=low, high=high, confidence=confidence, n=gap.size)


# --- percentiles ---------------------------------------------------------------------------------


def percentile_intervals(
    values: ArrayLike,
    percents: Sequence[int],
    *,
    weights: ArrayLike | None = None,
    clusters: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> tuple[Estimate | None, ...]:
    """Return percentiles with their intervals, None where not n(1-p) >= 5 values support one.

    Independent, equally weighted values: the exact order-statistic interval. Otherwise the
    bootstrap over conversations, which is drawn once for all of them.

    >>> p50, p95 = percentile_intervals(range(1, 100), (50, 95))
    >>> p50.point, p50.low, p50.high
    (50.0, 40.0, 60.0)
    >>> p95 is None
    True
    """
    array = finite(np.asarray(list(values) if isinstance(values, range) else values), "values")
    asked = [percent for percent in percents if is_supported(array.size, percent)]
    wanted = [percent / 100 for percent in asked]
    points = [float(np.percentile(array, percent)) for percent in asked]
    if not asked:
        ends = []
    elif weights is None and clusters is None:
        ordered = np.sort(array)
        ends = [_order_statistics(ordered, share, confidence) for share in wanted]
    else:
        if weights is not None:
            w = shares(weights, length=array.size)
            points = [weighted_percentile(array, w, share) for share in wanted]
        draws = _percentile_draws(array, wanted, weights, clusters, SEED)
        ends = [_quantiles(drawn, confidence) for drawn in draws]
    found = {
        percent: Estimate(
            point=point,
            low=min(low, point),
            high=max(high, point),
            confidence=confidence,
            n=array.size,
        )
        for percent, point, (low, high) in zip(asked, points, ends, strict=True)
    }
    return tuple(found.get(percent) for percent in percents)


def percentile_ratio_interval(
    first: Sequence[float],
    second: Sequence[float],
    percent: int,
    *,
    weights: tuple[Sequence[float], Sequence[float]] = ((), ()),
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    """Return percentile(first) / percentile(second), None unless both are supported.

    The two samples are resampled independently, which is conservative for paired calls.

    Args:
        first: Values above the line.
        second: Values below it.
        percent: Which percentile.
        weights: One weight per value of `first` and of `second`; none: all alike.
        confidence: Of the interval.

    >>> e = percentile_ratio_interval([2.0] * 20, [1.0] * 20, 50)
    >>> e.point, e.low, e.high
    (2.0, 2.0, 2.0)
    """
    a, b = finite(first, "first"), finite(second, "second")
    point = percentile_ratio(first, second, percent, weights=weights)
    if point is None:
        return None
    share = percent / 100
    draws_a = _order_statistic_draws(a, share, SEED, weights[0])
    draws_b = _order_statistic_draws(b, share, SEED + 1, weights[1])
    if (draws_b <= 0).any():
        return None
    low, high = _quantiles(draws_a / draws_b, confidence)
    return Estimate(
        point=point,
        low=min(low, point),
        high=max(high, point),
        confidence=confidence,
        n=min(a.size, b.size),
    )


# --- how it is done ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Weighted column totals of each conversation, in an order that the data alone decide."""

    totals: FloatArray
    weight: FloatArray
    sizes: tuple[int, ...]
    n_eff: float

    @property
    def groups(self) -> int:
        return len(self.weight)

    def variance(self, influence: FloatArray) -> float:
        """Return the stratified variance of a sum of influences."""
        return sum(
            len(part) / (len(part) - 1) * float(np.square(part - part.mean()).sum())
            for part in np.split(influence, np.cumsum(self.sizes)[:-1])
            if len(part) > 1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bootstrap:
    """Resampled column sums, and the second moments that studentise each resample."""

    sample: _Sample
    counts: Counts
    sums: FloatArray
    weight: FloatArray

    @classmethod
    def of(cls, sample: _Sample) -> "_Bootstrap":
        counts = resampled_counts(sample.sizes)
        columns = np.column_stack((sample.totals, sample.weight))
        sums = np.concatenate([part @ columns for _, part in _in_parts(counts)])
        return cls(sample=sample, counts=counts, sums=sums[:, :-1], weight=sums[:, -1])

    def deviations(self, gradient: FloatArray, *, extended: bool = False) -> FloatArray:
        """Return the standard error of gradient . sums within each resample.

        Args:
            gradient: Shape (resamples, k).
            extended: Whether the weight is a last column beside the totals.
        """
        columns = self.sample.totals
        if extended:
            columns = np.column_stack((columns, self.sample.weight))
        k = columns.shape[1]
        upper = [(i, j) for i in range(k) for j in range(i, k)]
        products = np.stack([columns[:, i] * columns[:, j] for i, j in upper], axis=1)
        return np.concatenate(
            [
                self._deviations(part, gradient[rows], columns, products, upper)
                for rows, part in _in_parts(self.counts)
            ]
        )

    def _deviations(
        self,
        counts: FloatArray,
        gradient: FloatArray,
        columns: FloatArray,
        products: FloatArray,
        upper: Sequence[tuple[int, int]],
    ) -> FloatArray:
        """The standard errors of some of the resamples."""
        variance = np.zeros(len(counts))
        start = 0
        for size in self.sample.sizes:
            part = slice(start, start + size)
            start += size
            if size < 2:
                continue
            second = counts[:, part] @ products[part]
            first = counts[:, part] @ columns[part]
            for column, (i, j) in enumerate(upper):
                scatter = second[:, column] - first[:, i] * first[:, j] / size
                double = 1.0 if i == j else 2.0
                variance += size / (size - 1) * double * gradient[:, i] * gradient[:, j] * scatter
        return np.sqrt(np.maximum(variance, 0.0))


@lru_cache(maxsize=2)
def resampled_counts(
    sizes: tuple[int, ...], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Counts:
    """Return how often each conversation is drawn in each resample, strata side by side.

    The same sizes always give the same draws: every model of a Run is resampled alike.

    Args:
        sizes: Conversations in each stratum.
        resamples: Rows of the answer.
        seed: Seed of the generator.

    Returns:
        Shape (resamples, sum(sizes)), read-only; each row sums to sum(sizes).

    >>> resampled_counts((3, 2), resamples=4).sum(axis=1).tolist()
    [5, 5, 5, 5]
    """
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, sum(sizes)), dtype=np.uint8)
    start = 0
    for size in sizes:
        for rows in _parts(resamples, size):
            many = rows.stop - rows.start
            drawn = rng.integers(0, size, (many, size)) + np.arange(many)[:, None] * size
            counted = np.bincount(drawn.ravel(), minlength=many * size)
            counts[rows, start : start + size] = counted.reshape(many, size)
        start += size
    counts.setflags(write=False)
    return counts


def _in_parts(counts: Counts) -> Iterator[tuple[slice, FloatArray]]:
    """The resamples as numbers to calculate with, some rows at a time: memory stays flat in n."""
    for rows in _parts(*counts.shape):
        yield rows, counts[rows].astype(np.float64)


def _parts(rows: int, columns: int) -> Iterator[slice]:
    """Slices of about a quarter of a million cells."""
    step = max(1, _CELLS_AT_ONCE // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _sample(
    columns: FloatArray,
    weights: ArrayLike | None,
    clusters: Labels | None,
    strata: Labels | None = None,
) -> _Sample:
    n = len(columns)
    if n == 0:
        raise NotEnoughDataError("there are no observations")
    w = shares(weights, length=n)
    group = codes(clusters, "clusters", length=n)
    kind = np.zeros(n, np.intp) if strata is None else codes(strata, "strata", length=n)
    _, first, group = np.unique(kind * n + group, return_index=True, return_inverse=True)
    totals = np.zeros((len(first), columns.shape[1]))
    np.add.at(totals, group, w[:, None] * columns)
    weight = np.asarray(np.bincount(group, weights=w), dtype=np.float64)
    stratum = kind[first]
    order = np.lexsort((*map(_rank_key, totals.T), _rank_key(weight), stratum))
    return _Sample(
        totals=totals[order],
        weight=weight[order],
        sizes=tuple(int(size) for size in np.bincount(stratum) if size),
        n_eff=float(1.0 / np.square(w).sum()),
    )


def _log_bootstrap(
    columns: FloatArray,
    signs: tuple[float, ...],
    weights: ArrayLike | None,
    clusters: Labels | None,
    strata: Labels | None,
    confidence: float,
) -> Estimate | None:
    """Return exp(signs . ln(sums)) with the bootstrap interval of its logarithm."""
    if (columns < 0).any():
        raise InvalidNumbersError("a ratio of sums needs numbers of at least 0")
    sample = _sample(columns, weights, clusters, strata)
    sums = sample.totals.sum(axis=0)
    if (sums <= 0).any() or sample.groups < 2:
        return None
    sign = np.array(signs)
    point = float(sign @ np.log(sums))
    spread = sqrt(sample.variance(sample.totals @ (sign / sums)))
    boot = _Bootstrap.of(sample)
    defined = np.asarray(np.all(boot.sums > 0, axis=1))
    if (~defined).mean() > MAX_UNDEFINED_SHARE:
        return None
    drawn = np.where(defined.reshape(-1, 1), boot.sums, 1.0)
    deviations = boot.deviations(sign / drawn)[defined]
    low, high = _bootstrap_ends(
        point, spread, (np.log(drawn) @ sign)[defined], deviations, confidence
    )
    if high - point > log(MAX_FOLD) or point - low > log(MAX_FOLD):
        return None
    n = len(columns)
    return Estimate(point=exp(point), low=exp(low), high=exp(high), confidence=confidence, n=n)


def _bootstrap_ends(
    point: float, spread: float, draws: FloatArray, deviations: FloatArray, confidence: float
) -> tuple[float, float]:
    """Return the hull of the studentised and the percentile interval.

    Under heavy tails each misses on another side at n = 30; together they are 1 % wider than the
    studentised one and cover 1 to 2 points more often (docs/statistics.md). Resamples without any
    spread say nothing about the pivot and are left out of it.
    """
    if spread <= 0:
        return point, point
    low, high = _quantiles(draws, confidence)
    usable = deviations > 1e-9 * spread
    if usable.sum() >= RESAMPLES // 2:
        pivots = (draws[usable] - point) / deviations[usable]
        least, most = _quantiles(pivots, confidence)
        low, high = min(low, point - most * spread), max(high, point - least * spread)
    return min(low, point), max(high, point)


def _quantiles(draws: FloatArray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)


def _order_statistics(ordered: FloatArray, share: float, confidence: float) -> tuple[float, float]:
    """Return the narrowest pair of order statistics with at most half the error on each side."""
    n = ordered.size
    tail = (1 - confidence) / 2
    below = special.bdtr(np.arange(n), n, share)  # P(at most k of n lie below the percentile)
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return float(ordered[max(low - 1, 0)]), float(ordered[min(high, n) - 1])


def _percentile_draws(
    values: FloatArray,
    wanted: Sequence[float],
    weights: ArrayLike | None,
    clusters: Labels | None,
    seed: int,
) -> FloatArray:
    """Return percentiles of resamples of whole conversations, shape (percentiles, resamples)."""
    n = values.size
    w = shares(weights, length=n)
    group = codes(clusters, "clusters", length=n)
    groups = int(group.max()) + 1
    sums = np.asarray(np.bincount(group, weights=w * values), dtype=np.float64)
    rank = np.empty(groups, dtype=np.intp)
    masses = np.asarray(np.bincount(group, weights=w), dtype=np.float64)
    rank[np.lexsort((_rank_key(masses), _rank_key(sums)))] = np.arange(groups)
    order = np.argsort(values, kind="stable")
    places, shares_in_order = rank[group[order]], w[order]
    ordered = values[order]
    counts = resampled_counts((groups,), seed=seed)
    drawn = np.empty((len(wanted), len(counts)))
    for rows in _parts(*counts.shape):  # picked while they are small integers
        cumulative = np.cumsum(counts[rows].take(places, axis=1) * shares_in_order, axis=1)
        for percentile, share in zip(drawn, wanted, strict=True):
            reached = np.asarray(cumulative >= share * cumulative[:, -1:] * (1 - 1e-12))
            percentile[rows] = ordered[reached.argmax(axis=1)]
    return drawn


def _order_statistic_draws(
    values: FloatArray, share: float, seed: int, weights: Sequence[float]
) -> FloatArray:
    """Return the percentile of resamples of independent values, without drawing the resamples.

    The k-th smallest of n draws from n values is value number floor(n U) + 1, where U is the k-th
    smallest of n uniform numbers: Beta(k, n - k + 1). Time and memory do not grow with n. With
    weights n is the effective number of values, and U a share of the weight (Woodruff 1952).
    """
    w = shares(weights or None, length=values.size)
    n = 1.0 / float(np.square(w).sum()) if weights else float(values.size)
    k = max(1, ceil(share * n * (1 - 1e-12)))
    drawn = np.random.default_rng(seed).beta(k, max(n - k, 0.0) + 1, RESAMPLES)
    order = np.argsort(values, kind="stable")
    places = np.searchsorted(np.cumsum(w[order]), drawn) if weights else (drawn * n).astype(np.intp)
    return np.asarray(values[order][np.minimum(places, values.size - 1)])


def _rank_key(values: FloatArray) -> FloatArray:
    """Return values to sort by: rounding, which depends on the order of rows, decides nothing."""
    largest = float(np.abs(values).max())
    return np.round(values / largest, 9) if largest > 0 else values


def _unseen(
    point: float, n: float, confidence: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return the interval of a constant sample, as if z^2 more observations lay at an extreme."""
    z2 = normal_quantile(confidence) ** 2
    low = (n * point + z2 * bounds[0]) / (n + z2)
    high = (n * point + z2 * bounds[1]) / (n + z2)
    return min(low, point), max(high, point)  # an allowance may put the point beyond the bounds


def _log_interval(
    point: float, signs: tuple[float, ...], moments: Moments, confidence: float
) -> Estimate | None:
    mean = np.array(moments.mean)
    gradient = np.array(signs) / np.where(mean > 0, mean, 1.0)
    variance = max(float(gradient @ np.array(moments.cov) @ gradient), 0.0)
    half = student_quantile(confidence, moments.df) * sqrt(variance)
    if half > log(MAX_FOLD):
        return None
    n = max(1, round(moments.n_eff))
    low, high = exp(log(point) - half), exp(log(point) + half)
    return Estimate(point=point, low=low, high=high, confidence=confidence, n=n)
