"""Drift: is it the traffic, the primary, the judge or the price?

Anchors (Cases of earlier weeks) are repeated on the primary, and their stored replies re-judged:

- primary = new reply - stored reply, both judged now;
- judge = stored reply judged now - the same reply judged then;
- traffic = change of the fresh sample's mean that the two leave unexplained;
- price = change of cost at equal usage.

An anchor is read in several weeks against ONE stored reply, so variances are clustered by anchor
over the whole window. Cluster-robust t: Liang & Zeger (1986), Biometrika 73.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from app.stats.arrays import (
    FloatArray,
    InvalidNumbersError,
    Labels,
    NotEnoughDataError,
    codes,
    finite,
)
from app.stats.critical_values import WINDOWS, critical_value
from app.stats.estimates import Estimate
from app.stats.intervals import CONFIDENCE, ratio_interval, student_quantile
from app.stats.switch_tests import z_of_t

MIN_ANCHORS = 5
"""Fewer anchors than this carry no variance worth the name."""

ATTRIBUTION_WINDOWS = (1, 2, 3, 4)
RIVAL_LEAD = 2.0
"""How much better (in squared distance) causes must explain the figures than any rival set."""

BASELINE_REACH_WEEKS = 2
"""An anchor's baseline is the fresh level of its own week and of so many weeks around it."""

EXTRA_CAUSE_Z = 2.58
"""A further cause is named only if it explains what the others leave at this z (two-sided 1 %)."""

PRICE_TOLERANCE = 0.001
"""Relative change of cost at equal usage below which a price has not changed."""


class Cause(StrEnum):
    """What may move the primary's score or bill."""

    TRAFFIC = "traffic"
    PRIMARY = "primary"
    JUDGE = "judge"
    PRICE = "price"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorReading:
    """One anchor in one week.

    Attributes:
        anchor: Its key; equal keys share one stored reply.
        origin: Week number in which the stored reply was made and first judged.
        reply_now: Quality of this week's reply, judged now.
        stored_now: Quality of the stored reply, judged now.
        stored_then: Quality of the stored reply as judged in its week.
        segment: Its segment, if any.
    """

    anchor: str
    origin: int
    reply_now: float
    stored_now: float
    stored_then: float
    segment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReading:
    """One fixed canary in one week: its score now and as first judged."""

    canary: str
    now: float
    then: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftWeek:
    """What one week says about drift.

    Attributes:
        week: Week number; fresh samples and origins refer to each other by it.
        fresh_mean: Mean quality of the primary on this week's fresh sample.
        fresh_variance: Variance of that mean.
        anchors: The week's anchor readings.
        canaries: The week's canary readings.
    """

    week: int
    fresh_mean: float
    fresh_variance: float
    anchors: tuple[AnchorReading, ...] = ()
    canaries: tuple[CanaryReading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Where a change of the primary's score comes from.

    Attributes:
        weeks: Weeks pooled.
        fresh: Change of the fresh sample's mean since the anchors' weeks.
        traffic: Share of it that primary and judge leave unexplained.
        primary: Change of the primary on anchors, judged now.
        judge: Change of the judge on stored replies and canaries.
        z: How far the figures are from "nothing changed", as the z of the best explanation.
        causes: The fewest causes that explain the figures; none while z is below the bar.
    """

    weeks: int
    fresh: Estimate
    traffic: Estimate
    primary: Estimate
    judge: Estimate
    z: float
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionWindow:
    """The primary's change on anchors over some weeks, and the z that it fell."""

    weeks: int
    change: Estimate
    z: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Whether the primary itself got worse.

    Attributes:
        windows: Every window the held weeks fill, shortest first.
        critical_value: c(1, alpha): the regression alert has its own yearly budget.
        segment: The segment in which the fall is largest, None without segments.
        segment_change: The change there.
    """

    windows: tuple[RegressionWindow, ...]
    critical_value: float
    segment: str | None
    segment_change: Estimate | None

    @property
    def best(self) -> RegressionWindow | None:
        """Return the window that speaks loudest for a fall."""
        return max(self.windows, key=lambda window: window.z, default=None)

    @property
    def is_hit(self) -> bool:
        """Return whether the primary's fall is shown."""
        return self.best is not None and self.best.z >= self.critical_value


def clustered_mean(
    values: ArrayLike, clusters: Labels | None = None, *, confidence: float = CONFIDENCE
) -> tuple[Estimate, float]:
    """Return the mean of `values` with its cluster-robust t interval, and the z that it is above 0.

    Every cluster's readings count fully; repeated readings of one anchor add little.

    Raises:
        NotEnoughDataError: If there are fewer than two clusters.

    >>> change, z = clustered_mean([-0.2, -0.1, -0.3, -0.2], ["a", "b", "c", "d"])
    >>> round(change.point, 2), round(change.low, 2), round(z, 2)
    (-0.2, -0.33, -2.4)
    """
    array = finite(values, "values")
    mean, variance, groups = _mean_and_variance(array, clusters)
    spread = sqrt(variance)
    half = student_quantile(confidence, groups - 1) * spread
    certain = float(np.copysign(np.inf, mean)) if mean else 0.0
    t = mean / spread if spread > 0 else certain
    estimate = Estimate(
        point=mean, low=mean - half, high=mean + half, confidence=confidence, n=array.size
    )
    return estimate, float(z_of_t(t, groups - 1))


def regression(weeks: Sequence[DriftWeek], *, alpha: float = 0.05) -> Regression | None:
    """Look once whether the primary fell on its anchors, by SCAN's windows and critical value.

    Args:
        weeks: Weeks of one primary and judge, oldest first; the last is this week's.
        alpha: Chance per year of a false regression alert.

    Returns:
        The Regression, None while there are fewer than 5 anchors.
    """
    held = [week for week in weeks if week.anchors][-max(WINDOWS) :]
    windows = []
    for size in WINDOWS:
        readings = [reading for week in held[-size:] for reading in week.anchors]
        if size > len(held) or _anchors(readings) < MIN_ANCHORS:
            continue
        change, z_rise = clustered_mean(*_primary_changes(readings))
        windows.append(RegressionWindow(weeks=size, change=change, z=-z_rise))
    if not windows:
        return None
    best = max(windows, key=lambda window: window.z)
    segment, segment_change = _worst_segment(
        [reading for week in held[-best.weeks :] for reading in week.anchors]
    )
    return Regression(
        windows=tuple(windows),
        critical_value=critical_value(1, alpha),
        segment=segment,
        segment_change=segment_change,
    )


def attribute(weeks: Sequence[DriftWeek], *, alpha: float = 0.05) -> Attribution | None:
    """Attribute a change of the primary's score to traffic, primary or judge.

    The three observed changes (fresh sample, anchors' new replies, anchors' stored replies and
    canaries) are fitted by generalised least squares with every set of causes. The fewest causes
    that explain them are named, once the fit improves on "nothing changed" by the critical value
    and no rival explains them nearly as well; of the windows of 1 to 4 weeks the one that speaks
    loudest is taken.

    Args:
        weeks: Weeks of one epoch of the primary, oldest first; the last is this week's. Weeks in
            which anchors originated must be among them.
        alpha: Chance per year that a cause is named when nothing changed.

    Returns:
        The Attribution, None while there are fewer than 5 anchors or no origin to compare with.
    """
    bar = critical_value(2, alpha)  # a change may be a rise or a fall
    found = []
    for size in ATTRIBUTION_WINDOWS:
        figures = _Figures.of(weeks, size) if size <= len(weeks) else None
        if figures is not None:
            found.append(figures.attribution(bar))
    return max(found, key=lambda a: (bool(a.causes), a.z), default=None)


def price_change(
    cost_now: ArrayLike, cost_then: ArrayLike, *, clusters: Labels | None = None
) -> Estimate | None:
    """Return the relative change of cost at equal usage, None when nothing was paid before.

    Args:
        cost_now: USD of each Case at today's prices.
        cost_then: USD of the same usage at the former prices.
        clusters: Conversation of each Case.

    >>> e = price_change([1.5, 3.0, 4.5], [1.0, 2.0, 3.0])
    >>> round(e.point, 6), round(e.low, 6), round(e.high, 6)
    (0.5, 0.5, 0.5)
    """
    ratio = ratio_interval(cost_now, cost_then, clusters=clusters)
    if ratio is None:
        return None
    return Estimate(
        point=ratio.point - 1,
        low=ratio.low - 1,
        high=ratio.high - 1,
        confidence=ratio.confidence,
        n=ratio.n,
    )


def is_price_cause(change: Estimate | None) -> bool:
    """Return whether a price has changed: at equal usage any difference is one.

    >>> is_price_cause(price_change([1.0, 2.0], [1.0, 2.0]))
    False
    """
    return change is not None and abs(change.point) > PRICE_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures:
    """The three observed changes of a window, their covariance and the Estimates shown."""

    weeks: int
    observed: FloatArray
    cov: FloatArray
    df: int
    fresh: Estimate
    traffic: Estimate
    primary: Estimate
    judge: Estimate

    @classmethod
    def of(cls, weeks: Sequence[DriftWeek], size: int) -> "_Figures | None":
        now = weeks[-size:]
        readings = [r for week in now for r in week.anchors if r.origin < now[0].week]
        levels = {week.week: week for week in weeks[:-size]}
        readings = [reading for reading in readings if reading.origin in levels]
        if _anchors(readings) < MIN_ANCHORS:
            return None
        fresh, fresh_variance = _fresh_change(now, levels, readings)
        anchors = [reading.anchor for reading in readings]
        df = len(set(anchors)) - 1
        primary, _ = clustered_mean(*_primary_changes(readings))
        canaries = [canary for week in now for canary in week.canaries]
        judge_values = [r.stored_now - r.stored_then for r in readings]
        judge, _ = clustered_mean(
            [*judge_values, *(canary.now - canary.then for canary in canaries)],
            [*anchors, *(f"canary {canary.canary}" for canary in canaries)],
        )
        replies = [r.reply_now - r.stored_then for r in readings]
        explained, explained_variance, _ = _mean_and_variance(np.array(replies), anchors)
        traffic_variance = fresh_variance + explained_variance
        t95 = student_quantile(CONFIDENCE, df)
        return cls(
            weeks=size,
            observed=np.array([fresh, primary.point, float(np.mean(judge_values))]),
            cov=_covariance(readings, fresh_variance),
            df=df,
            fresh=_around(fresh, t95 * sqrt(fresh_variance), len(readings)),
            traffic=_around(fresh - explained, t95 * sqrt(traffic_variance), len(readings)),
            primary=primary,
            judge=judge,
        )

    def attribution(self, bar: float) -> Attribution:
        """Return the fewest causes that explain the figures, if any is called for."""
        misfit = {causes: self._misfit(causes) for causes in _CAUSE_SETS}
        nothing = misfit[()]
        best = min(
            _CAUSE_SETS[1:], key=lambda causes: misfit[causes] + EXTRA_CAUSE_Z**2 * len(causes)
        )
        gain = sqrt(max(nothing - misfit[best], 0.0) / len(best))
        z = gain if best == (Cause.TRAFFIC,) else float(z_of_t(gain, self.df))
        return Attribution(
            weeks=self.weeks,
            fresh=self.fresh,
            traffic=self.traffic,
            primary=self.primary,
            judge=self.judge,
            z=z,
            causes=best if z >= bar and _lead(misfit, best) >= RIVAL_LEAD else (),
        )

    def _misfit(self, causes: tuple[Cause, ...]) -> float:
        """Return the squared distance of the figures from what these causes can produce."""
        inverse = np.linalg.inv(self.cov)
        residual = self.observed
        if causes:
            design = np.column_stack([_EFFECTS[cause] for cause in causes])
            effect = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ residual)
            residual = residual - design @ effect
        return float(residual @ inverse @ residual)


_EFFECTS = {
    Cause.TRAFFIC: np.array([1.0, 0.0, 0.0]),
    Cause.PRIMARY: np.array([1.0, 1.0, 0.0]),
    Cause.JUDGE: np.array([1.0, 0.0, 1.0]),
}
"""What each cause moves: the fresh mean, the anchors' new replies, their stored replies."""

_CAUSE_SETS: tuple[tuple[Cause, ...], ...] = tuple(
    causes for size in range(4) for causes in combinations(_EFFECTS, size)
)

_SCORE_NOISE = 0.02
"""Least standard deviation of one reading: a judge that repeats itself is not infinitely sure."""


def _lead(misfit: Mapping[tuple[Cause, ...], float], best: tuple[Cause, ...]) -> float:
    """Return how much worse the closest rival, no larger a set of causes, explains the figures."""
    rivals = [causes for causes in _CAUSE_SETS[1:] if len(causes) <= len(best) and causes != best]
    return min(misfit[causes] for causes in rivals) - misfit[best]


def _primary_changes(readings: Sequence[AnchorReading]) -> tuple[FloatArray, list[str]]:
    changes = np.array([reading.reply_now - reading.stored_now for reading in readings])
    return changes, [reading.anchor for reading in readings]


def _anchors(readings: Sequence[AnchorReading]) -> int:
    return len({reading.anchor for reading in readings})


def _fresh_change(
    now: Sequence[DriftWeek], levels: dict[int, DriftWeek], readings: Sequence[AnchorReading]
) -> tuple[float, float]:
    """Return how far fresh means moved since the anchors' weeks, and its variance."""
    after = float(np.mean([week.fresh_mean for week in now]))
    variance = float(np.sum([week.fresh_variance for week in now])) / len(now) ** 2
    weight: dict[int, float] = dict.fromkeys(levels, 0.0)
    for reading in readings:
        near = [week for week in levels if abs(week - reading.origin) <= BASELINE_REACH_WEEKS]
        for week in near:
            weight[week] += 1.0 / len(near) / len(readings)
    before = sum(share * levels[week].fresh_mean for week, share in weight.items())
    variance += sum(share**2 * levels[week].fresh_variance for week, share in weight.items())
    return after - before, variance


def _covariance(readings: Sequence[AnchorReading], fresh_variance: float) -> FloatArray:
    """Return the covariance of (fresh, primary, judge), the last two clustered by anchor."""
    values = np.array(
        [(r.reply_now - r.stored_now, r.stored_now - r.stored_then) for r in readings]
    )
    group = codes([r.anchor for r in readings], "anchors", length=len(readings))
    count = int(group.max()) + 1
    sums = np.zeros((count, 2))
    np.add.at(sums, group, (values - values.mean(axis=0)) / len(values))
    cov = np.zeros((3, 3))
    cov[0, 0] = fresh_variance
    cov[1:, 1:] = count / (count - 1) * (sums.T @ sums)
    cov[np.arange(3), np.arange(3)] += _SCORE_NOISE**2 / count
    return cov


def _mean_and_variance(values: FloatArray, clusters: Labels | None) -> tuple[float, float, int]:
    """Return the mean, its cluster-robust variance and the number of clusters."""
    if values.size == 0:
        raise NotEnoughDataError("there are no readings")
    group = codes(clusters, "clusters", length=values.size)
    groups = int(group.max()) + 1
    if groups < 2:
        raise NotEnoughDataError(f"{groups} anchor cannot carry a variance")
    mean = float(values.mean())
    sums = np.bincount(group, weights=values - mean) / values.size
    variance = groups / (groups - 1) * float(np.square(sums).sum())
    return mean, variance if variance > 1e-24 else 0.0, groups


def _worst_segment(readings: Sequence[AnchorReading]) -> tuple[str | None, Estimate | None]:
    """Return the segment whose anchors fell most, and its change."""
    worst: tuple[str, Estimate] | None = None
    for segment in sorted({r.segment for r in readings if r.segment is not None}):
        inside = [reading for reading in readings if reading.segment == segment]
        if _anchors(inside) < MIN_ANCHORS:
            continue
        change, _ = clustered_mean(*_primary_changes(inside))
        if worst is None or change.point < worst[1].point:
            worst = (segment, change)
    return worst or (None, None)


def _around(point: float, half: float, n: int) -> Estimate:
    if half < 0:
        raise InvalidNumbersError("an interval cannot be narrower than nothing")
    return Estimate(
        point=point, low=point - half, high=point + half, confidence=CONFIDENCE, n=max(1, n)
    )
