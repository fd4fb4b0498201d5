"""SCAN: pooled windows with a yearly false-alert budget, and the states a candidate goes through.

The claim it supports: if no candidate truly qualifies, the chance of any false alert in a year is
at most `false_alerts_per_year` for the plan (asymptotically, about the average over the pooled
window).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import sqrt
from typing import ClassVar

import numpy as np
from scipy import special

from app.stats.arrays import FloatArray, NotEnoughDataError
from app.stats.critical_values import WINDOWS, critical_value
from app.stats.estimates import Estimate
from app.stats.evidence import (
    COST_C,
    COST_P,
    QUALITY_C,
    QUALITY_P,
    Evidence,
    Moments,
    MomentStack,
    Vector,
    pool,
)
from app.stats.intervals import quality_difference, value_ratio_interval
from app.stats.rectifier import Rectifier
from app.stats.switch_tests import (
    SUCCESS_Z,
    LatencyCheck,
    Stacked,
    cost_skewness,
    difference_skewness,
    latency_check,
    quality_z,
    success_z,
    value_ratio,
    value_refusal,
    value_z,
)

SHORT_WEEKS = 4
"""The recent past: weeks in the window that watches, resolves and benches."""

WATCH_LEVEL = 0.05
RESOLVE_Z = -SUCCESS_Z
DROP_FIRST_BLOCK_Z = -1.3
DROP_LATER_BLOCK_Z = -1.0
BENCH_Z = -1.5

HOPE_Z = 1.28
"""How far above its z a candidate may still be: beyond lies one chance in ten."""

HOPE_WEEKS = 6
"""Weeks of evidence before a case may be called hopeless."""

BLOCK_CASES = 20
"""Cases of one block of adaptive spending."""

MONITORING_CASES = 40
"""Cases a week that watch over a candidate already recommended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPolicy:
    """What was fixed before looking: margins, guardrails and the yearly false-alert budget.

    Attributes:
        quality_margin: Quality that may be lost (delta), in (0, 1).
        min_saving: Cost per quality point that must be saved (s), in [0, 1).
        success_margin: Success rate that may be lost, in (0, 1).
        max_latency_p50_ratio: Bound of the candidate's median latency over the primary's.
        max_latency_p95_ratio: The same of the 95th percentile.
        false_alerts_per_year: Chance per year of any false alert (alpha), in (0, 0.5].
        min_pairs: Independent pairs a window needs before it can hit.
        bias_allowance: Subtracted from the candidate's quality in both tests, in [0, 1].
    """

    __test__: ClassVar[bool] = False  # the name is the domain's, not pytest's

    quality_margin: float = 0.05
    min_saving: float = 0.10
    success_margin: float = 0.05
    max_latency_p50_ratio: float = 1.25
    max_latency_p95_ratio: float = 1.5
    false_alerts_per_year: float = 0.05
    min_pairs: int = 30
    bias_allowance: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("quality_margin", 0.0, 1.0),
            ("success_margin", 0.0, 1.0),
            ("false_alerts_per_year", 0.0, 0.5 + 1e-12),
            ("min_saving", -1e-12, 1.0),
            ("bias_allowance", -1e-12, 1.0 + 1e-12),
            ("max_latency_p50_ratio", 0.0, float("inf")),
            ("max_latency_p95_ratio", 0.0, float("inf")),
        ):
            if not low < getattr(self, name) < high:
                raise ValueError(f"{name} = {getattr(self, name)} is out of range")
        if self.min_pairs < 2:
            raise ValueError(f"min_pairs must be at least 2, not {self.min_pairs}")

    @property
    def bar(self) -> float:
        """Return rho = 1 - s, the value ratio a candidate must stay below."""
        return 1.0 - self.min_saving


class State(StrEnum):
    """Where a candidate stands over the weeks of an epoch."""

    QUIET = "quiet"
    WATCH = "watch"
    ALERT = "alert"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTest:
    """Both tests of a switch on the last `weeks` weeks, plainly and at worst.

    Attributes:
        weeks: Weeks pooled.
        n: Pairs pooled.
        independent_pairs: Independent pairs pooled.
        is_enough: Whether they reach the policy's minimum.
        difference: Point estimate of D.
        value_ratio: Point estimate of R, None when undefined.
        quality_z: z of "quality falls by less than the margin".
        value_z: z of "cost per quality point saves the minimum".
        worst_quality_z: The same with unscored replies at their worst.
        worst_value_z: The same with unscored replies at their worst.
        quality_skewness: Skewness of the quality difference, per pair; below 0 where the candidate
            seldom loses but then by much, on this window or the longest.
        cost_skewness: Skewness that costs give the value test, per pair; below 0 where the
            candidate's bill has the heavier tail, on this window or the longest.
        refusal: Why the value test could not be made, None when it could.
    """

    weeks: int
    n: int
    independent_pairs: float
    is_enough: bool
    difference: float
    value_ratio: float | None
    quality_z: float
    value_z: float
    worst_quality_z: float
    worst_value_z: float
    quality_skewness: float
    cost_skewness: float
    refusal: str | None

    @property
    def plain_z(self) -> float:
        """Return the smaller z of the two tests on scored pairs."""
        return min(self.quality_z, self.value_z)

    @property
    def z(self) -> float:
        """Return the z that counts: the smallest of both tests, plainly and at worst."""
        return min(self.plain_z, self.worst_quality_z, self.worst_value_z)


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """This week's own point estimates, which must agree before an alert.

    Attributes:
        difference: D.
        value_ratio: R, None when undefined.
        cost_ratio: Mean cost over the primary's mean cost, None when undefined.
        pass_policy: Whether D > -margin and R < bar, strictly, plainly and at worst.
    """

    difference: float
    value_ratio: float | None
    cost_ratio: float | None
    pass_policy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """Everything SCAN found this week about one candidate.

    Attributes:
        weeks_held: Measured weeks of the epoch, this one included if measured.
        unmeasured_because: Why this week cannot be judged, None when it can.
        critical_value: c(M, alpha).
        windows: Every window that the held weeks fill, shortest first.
        points: This week's point estimates, None when this week is unmeasured.
        success_z: Bonett-Price z on the longest window.
        week_success_z: The same of this week alone, None when it is unmeasured.
        latency: Latency guardrail on the longest window.
        longest: Evidence of the longest window, None when no week is measured.
        difference: D on the longest window, corrected, at 95 %.
        value_ratio: R on the longest window, corrected, at 95 %; None when undefined.
        candidates: M, the candidates that share the budget.
    """

    weeks_held: int
    unmeasured_because: str | None
    critical_value: float
    windows: tuple[WindowTest, ...]
    points: Points | None
    success_z: float | None
    week_success_z: float | None
    latency: LatencyCheck | None
    longest: Evidence | None
    difference: Estimate | None
    value_ratio: Estimate | None
    candidates: int

    @property
    def best(self) -> WindowTest | None:
        """Return the window with the largest z among those with enough pairs."""
        enough = [window for window in self.windows if window.is_enough]
        return max(enough, key=lambda window: window.z, default=None)

    @property
    def short(self) -> WindowTest | None:
        """Return the window of the recent past: four weeks, or as many as are held."""
        recent = [window for window in self.windows if window.weeks <= SHORT_WEEKS]
        return recent[-1] if recent else None

    @property
    def reaches_critical_value(self) -> bool:
        """Return whether some window with enough pairs reaches the critical value."""
        return self.best is not None and self.best.z >= self.critical_value

    @property
    def success_passes(self) -> bool:
        """Return whether the success guardrail holds on the longest window."""
        return self.success_z is not None and self.success_z >= SUCCESS_Z

    @property
    def hits_before_latency(self) -> bool:
        """Return whether everything but the latency guardrail speaks for a switch."""
        points_pass = self.points is not None and self.points.pass_policy
        return self.reaches_critical_value and points_pass and self.success_passes

    @property
    def is_hit(self) -> bool:
        """Return whether the switch is justified this week."""
        fast_enough = self.latency is not None and self.latency.passes
        return self.hits_before_latency and fast_enough

    @property
    def is_slower(self) -> bool:
        """Return whether a hit is vetoed by a latency known to be too high."""
        return self.hits_before_latency and self.latency is not None and self.latency.is_slower

    def is_hopeless(self, full_week: float) -> bool:
        """Return whether six weeks of evidence or more leave no hope of a hit.

        Even if the truth lay 1.28 standard errors above what they show, neither the longest window
        would reach the critical value as 12 full weeks, nor the recent past in a window of 12
        weeks like its own.

        Args:
            full_week: Pairs of a week in which no block is left out. A candidate that was given
                one block a week has its evidence grown to that: little evidence is no verdict.
        """
        if self.short is None or self.windows[-1].weeks < HOPE_WEEKS:
            return False
        longest, most = self.windows[-1], max(WINDOWS)
        hopes = (
            (longest.plain_z + HOPE_Z) * sqrt(max(most * full_week / longest.n, 1.0)),
            (self.short.plain_z + HOPE_Z) * sqrt(most / self.short.weeks),
        )
        return max(hopes) < self.critical_value

    def is_benched(self, full_week: float) -> bool:
        """Return whether the next week gets one block only: poor lately, or hopeless for long."""
        short = None if self.short is None else self.short.plain_z
        return is_benched(short) or self.is_hopeless(full_week)

    @property
    def is_watched(self) -> bool:
        """Return whether this week passes and the recent past is at least suggestive."""
        if self.points is None or not self.points.pass_policy or self.short is None:
            return False
        return float(special.ndtr(-self.short.z)) <= WATCH_LEVEL / self.candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The next state, why, and whether the evidence before this week is dropped."""

    state: State
    reason: str
    drops_history: bool = False


def scan(
    weeks: Sequence[Evidence],
    policy: TestPolicy,
    *,
    candidates: int,
    rectifier: Rectifier | None = None,
) -> ScanResult:
    """Look once at a candidate: pool its last weeks and test each window.

    Weeks that cannot be measured (outage, unscored replies, too few conversations) are skipped; a
    window of w weeks holds the last w measured ones.

    Args:
        weeks: Evidence of the epoch, oldest first; the last is this week's.
        policy: Margins and budget, fixed before the Run.
        candidates: Candidates of the plan, which share the budget.
        rectifier: Correction of judged qualities from human labels, applied once after pooling.
            Without one the policy's bias allowance is subtracted from the candidate's quality.

    Returns:
        Every window's tests, guardrails and this week's points.

    Raises:
        NotEnoughDataError: If there is no week at all.
    """
    if not weeks:
        raise NotEnoughDataError("there is no week to look at")
    reason = weeks[-1].unmeasured_because
    held = [week for week in weeks if week.unmeasured_because is None][-max(WINDOWS) :]
    lens = _Lens(policy=policy, rectifier=rectifier)
    sizes = [w for w in WINDOWS if w <= len(held)]
    longest = pool(held[-sizes[-1] :]) if sizes else None
    corrected = lens.correct(longest.plain) if longest else None
    return ScanResult(
        weeks_held=sum(week.unmeasured_because is None for week in weeks),
        unmeasured_because=reason,
        critical_value=critical_value(candidates, policy.false_alerts_per_year),
        windows=lens.tests(held, sizes),
        points=None if reason else lens.points(weeks[-1]),
        success_z=_success(longest, policy) if longest else None,
        week_success_z=None if reason else _success(weeks[-1], policy),
        latency=lens.latency(longest) if longest else None,
        longest=longest,
        difference=quality_difference(corrected) if corrected else None,
        value_ratio=value_ratio_interval(corrected) if corrected else None,
        candidates=candidates,
    )


def next_state(state: State, result: ScanResult) -> Transition:
    """Return where this week's look takes a candidate, and why.

    quiet -> watch -> alert (first hit) -> resolved (it no longer holds) -> quiet. An unmeasured
    week changes nothing, except that a resolution is reported once only.
    """
    if result.unmeasured_because is not None:
        kept = State.QUIET if state is State.RESOLVED else state
        return Transition(state=kept, reason=f"not measured: {result.unmeasured_because}")
    if state is State.ALERT:
        return _while_open(result)
    if result.is_hit and result.best is not None:
        return Transition(
            state=State.ALERT,
            reason=f"z = {result.best.z:.2f} over {result.best.weeks} week(s) reaches "
            f"{result.critical_value:.2f}",
        )
    if result.is_watched:
        return Transition(state=State.WATCH, reason="this week passes and recent weeks suggest it")
    return Transition(state=State.QUIET, reason="nothing that speaks for a switch")


def drops_after_block(z: float, block_index: int) -> bool:
    """Return whether a candidate is dropped for the week after a block (0 is the first).

    >>> drops_after_block(-1.2, 0), drops_after_block(-1.2, 1)
    (False, True)
    """
    return z < (DROP_FIRST_BLOCK_Z if block_index == 0 else DROP_LATER_BLOCK_Z)


def is_benched(short_z: float | None) -> bool:
    """Return whether a candidate gets one block a week only, by its z of the recent past.

    >>> is_benched(-1.6), is_benched(-1.4), is_benched(None)
    (True, False, False)
    """
    return short_z is not None and short_z < BENCH_Z


def block_z(evidence: Evidence, policy: TestPolicy, *, rectifier: Rectifier | None = None) -> float:
    """Return min(z_D, z_R) of the blocks replayed so far this week."""
    return _Lens(policy=policy, rectifier=rectifier).tests([evidence], [1])[0].plain_z


def leads_head_to_head(pairs: Evidence, policy: TestPolicy) -> bool:
    """Return whether the first model of these pairs beats the second: the single best of two.

    Cheaper per quality point (R < 1) and quality not worse by the margin, both at 95 %.
    """
    ratio = value_ratio_interval(pairs.plain)
    difference = quality_difference(pairs.plain)
    return ratio is not None and ratio.high < 1 and difference.low > -policy.quality_margin


def segment_loses(segment: Evidence, *, segments: int, level: float = 0.05) -> bool:
    """Return whether the upper bound of D, adjusted for the segments looked at, is below 0."""
    return quality_difference(segment.plain, confidence=1 - 2 * level / segments).high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lens:
    """Moments as the policy wants them seen: corrected once, after pooling."""

    policy: TestPolicy
    rectifier: Rectifier | None

    def correct(self, moments: Moments) -> Moments:
        if self.rectifier is not None:
            return self.rectifier.apply(moments)
        if self.policy.bias_allowance == 0:
            return moments
        c, p, quality, primary = moments.mean
        return replace(moments, mean=(c, p, quality - self.policy.bias_allowance, primary))

    def tests(self, held: Sequence[Evidence], sizes: Sequence[int]) -> tuple[WindowTest, ...]:
        if not sizes:
            return ()
        stack = MomentStack.of([week.plain for week in held])
        plain = [self.correct(stack.last(size)) for size in sizes]
        worst = plain
        if any(week.unscored for week in held):
            stack = MomentStack.of([week.worst for week in held])
            worst = [self.correct(stack.last(size)) for size in sizes]
        half = len(plain)
        pools = Stacked.of([*plain, *worst])
        skew_d, skew_r = self._skewness(pools, half)
        z_quality = quality_z(
            pools.mean,
            pools.cov,
            pools.n,
            pools.df,
            margin=self.policy.quality_margin,
            skewness=skew_d,
        )
        z_value = value_z(
            pools.mean, pools.cov, pools.n, pools.df, bar=self.policy.bar, skewness=skew_r
        )
        return tuple(
            WindowTest(
                weeks=size,
                n=sum(week.n for week in held[-size:]),
                independent_pairs=moments.independent_pairs,
                is_enough=moments.independent_pairs >= self.policy.min_pairs,
                difference=_difference(moments.mean),
                value_ratio=_ratio(moments.mean),
                quality_z=float(z_quality[i]),
                value_z=float(z_value[i]),
                worst_quality_z=float(z_quality[half + i]),
                worst_value_z=float(z_value[half + i]),
                quality_skewness=float(skew_d[i]),
                cost_skewness=float(skew_r[i]),
                refusal=value_refusal(moments.mean),
            )
            for i, (size, moments) in enumerate(zip(sizes, plain, strict=True))
        )

    def _skewness(self, pools: Stacked, half: int) -> tuple[FloatArray, FloatArray]:
        """Return both skewnesses of each window, at most those of the longest window.

        A short window may not have met the tail that a longer one has.
        """
        of_difference = difference_skewness(
            pools.mean,
            pools.cov,
            pools.n,
            pools.difference_third,
            margin=self.policy.quality_margin,
        )
        of_cost = cost_skewness(
            pools.mean, pools.cov, pools.n, pools.cost_thirds, bar=self.policy.bar
        )
        plain = np.arange(2 * half) < half
        return (
            np.minimum(of_difference, np.where(plain, of_difference[half - 1], of_difference[-1])),
            np.minimum(of_cost, np.where(plain, of_cost[half - 1], of_cost[-1])),
        )

    def points(self, week: Evidence) -> Points:
        plain, worst = self.correct(week.plain).mean, self.correct(week.worst).mean
        cost_ratio = plain[COST_C] / plain[COST_P] if plain[COST_P] > 0 else None
        return Points(
            difference=_difference(plain),
            value_ratio=_ratio(plain),
            cost_ratio=cost_ratio,
            pass_policy=self._passes(plain) and self._passes(worst),
        )

    def latency(self, evidence: Evidence) -> LatencyCheck:
        return latency_check(
            evidence,
            p50_bound=self.policy.max_latency_p50_ratio,
            p95_bound=self.policy.max_latency_p95_ratio,
        )

    def _passes(self, mean: Vector) -> bool:
        ratio = _ratio(mean)
        good_enough = _difference(mean) > -self.policy.quality_margin
        return good_enough and ratio is not None and ratio < self.policy.bar


def _while_open(result: ScanResult) -> Transition:
    week = result.windows[0]
    success = result.week_success_z
    week_z = week.plain_z if success is None else min(week.plain_z, success)
    if week_z < RESOLVE_Z:
        return Transition(
            state=State.RESOLVED, reason=f"this week's z = {week_z:.2f}", drops_history=True
        )
    if result.short is not None and result.short.plain_z < 0:
        return Transition(
            state=State.RESOLVED,
            reason=f"z of the last {result.short.weeks} week(s) = {result.short.plain_z:.2f}",
            drops_history=True,
        )
    return Transition(state=State.ALERT, reason="still holds")


def _success(evidence: Evidence, policy: TestPolicy) -> float:
    n, n10, n01 = evidence.success_counts
    return float(success_z(n, n10, n01, margin=policy.success_margin))


def _difference(mean: Vector) -> float:
    return mean[QUALITY_C] - mean[QUALITY_P]


def _ratio(mean: Vector) -> float | None:
    if value_refusal(mean) is not None:
        return None
    ratio = float(value_ratio(mean))
    return ratio if np.isfinite(ratio) else None
