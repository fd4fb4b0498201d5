"""Evidence: the sufficient statistics of one candidate-week, and how weeks are pooled.

A week's pairs are reduced to means, the covariance of those means and a few counts. Weeks then
pool by adding: the variance stays within each week, so drifting traffic does not bias it.

The covariance is the linearised (Taylor, "sandwich") one for stratified cluster samples:
Särndal, Swensson & Wretman (1992), Model Assisted Survey Sampling, section 5.5 and 4.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import isfinite
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from app.stats.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    InvalidNumbersError,
    Labels,
    NotEnoughDataError,
    codes,
    finite,
    flags,
    shares,
)

COST_C, COST_P, QUALITY_C, QUALITY_P = range(4)
"""Order of every mean vector and covariance matrix."""

Vector = tuple[float, float, float, float]
Matrix = tuple[Vector, Vector, Vector, Vector]

MIN_CLUSTERS_STORED = 10
"""Fewer independent conversations than this are not stored: their covariance is noise."""

NO_VARIANCE = 1e-24
"""Variances of means in 0..1 below this are rounding."""

_TIE = 1e-9
"""Weights closer than this share are equal."""

MAX_OUTAGE_SHARE = 0.05
MAX_UNSCORED_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Means of (cost_c, cost_p, quality_c, quality_p) and the covariance of those means.

    Attributes:
        mean: Weighted means; costs in USD per Case, qualities in 0..1.
        cov: 4x4 covariance of `mean` (already divided by the sample size).
        n_eff: Effective number of pairs, 1 / sum of squared weights.
        clusters: Independent conversations.
        df: Degrees of freedom of `cov`.
        loose_variance: What the variance of the mean quality difference would be if turns of one
            conversation were independent; compared with `cov` it tells what repetition costs.
        cost_thirds: Third central moments of the mean costs: (ccc, ccp, cpp, ppp). They tell when
            the candidate's bill has the heavier tail, which a mean and a variance hide.
        difference_third: Third central moment of the mean quality difference: below 0 where the
            candidate seldom fails, but then by much.
    """

    mean: Vector
    cov: Matrix
    n_eff: float
    clusters: int
    df: float
    loose_variance: float
    cost_thirds: Vector
    difference_third: float

    def __post_init__(self) -> None:
        numbers = (*self.mean, *chain(*self.cov), self.n_eff, self.df)
        numbers += (self.loose_variance, *self.cost_thirds, self.difference_third)
        if len(self.mean) != 4 or [len(row) for row in self.cov] != [4, 4, 4, 4]:
            raise InvalidNumbersError("moments are four means and a 4x4 covariance")
        if not all(map(isfinite, numbers)):
            raise InvalidNumbersError("moments must be finite")
        if self.n_eff <= 0 or self.df <= 0 or self.clusters < 2:
            raise NotEnoughDataError(
                f"{self.clusters} independent conversations cannot carry a variance"
            )

    @property
    def difference_variance(self) -> float:
        """Return the variance of the mean quality difference."""
        c, p = self.cov[QUALITY_C], self.cov[QUALITY_P]
        return max(c[QUALITY_C] + p[QUALITY_P] - 2 * c[QUALITY_P], 0.0)

    @property
    def independent_pairs(self) -> float:
        """Return the independent observations: neither repeats nor later turns count twice."""
        return min(self.n_eff, float(self.clusters))

    @property
    def independent_n(self) -> float:
        """Return the pairs' worth in independent ones, from one a conversation up to `n_eff`.

        Pairs are divided by the design effect seen in the quality difference. As rare losses may
        hide that they come by whole conversations, one such conversation lost outright is added
        to what was seen. Without conversations this is `n_eff` exactly.
        """
        turns = max(1.0, self.n_eff / self.clusters)
        seen = self.difference_variance + (turns / self.n_eff) ** 2
        if_independent = self.loose_variance + turns / self.n_eff**2
        return self.n_eff / min(max(seen / if_independent, 1.0), turns)

    def grown(self, times: float) -> Self:
        """Return the moments of so many times as many pairs that are just like these."""
        a, b, c, d = (
            (row[0] / times, row[1] / times, row[2] / times, row[3] / times) for row in self.cov
        )
        ccc, ccp, cpp, ppp = (third / times**2 for third in self.cost_thirds)
        return replace(
            self,
            cov=(a, b, c, d),
            n_eff=self.n_eff * times,
            clusters=max(2, round(self.clusters * times)),
            df=self.df * times,
            loose_variance=self.loose_variance / times,
            cost_thirds=(ccc, ccp, cpp, ppp),
            difference_third=self.difference_third / times**2,
        )

    def repriced(self, candidate: float, primary: float) -> Self:
        """Return the moments as if all costs of a side were so many times as high."""
        if candidate <= 0 or primary <= 0:
            raise InvalidNumbersError("a price factor is above 0")
        scale = np.array([candidate, primary, 1.0, 1.0])
        powers = np.array([3, 2, 1, 0])
        return replace(
            self,
            mean=_vector(scale * np.array(self.mean)),
            cov=_matrix(np.outer(scale, scale) * np.array(self.cov)),
            cost_thirds=_vector(
                np.array(self.cost_thirds) * candidate**powers * primary ** (3 - powers)
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` turns back into equal Moments."""
        return {
            "mean": list(self.mean),
            "cov": [list(row) for row in self.cov],
            "n_eff": self.n_eff,
            "clusters": self.clusters,
            "df": self.df,
            "loose_variance": self.loose_variance,
            "cost_thirds": list(self.cost_thirds),
            "difference_third": self.difference_third,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the Moments written by `to_json`."""
        return cls(
            mean=_vector(document["mean"]),
            cov=_matrix(document["cov"]),
            n_eff=float(document["n_eff"]),
            clusters=int(document["clusters"]),
            df=float(document["df"]),
            loose_variance=float(document["loose_variance"]),
            cost_thirds=_vector(document["cost_thirds"]),
            difference_third=float(document["difference_third"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one week (or a pool of weeks) says about one candidate against the primary.

    Attributes:
        n: Pairs: Cases that both models were run on.
        n_eff: Effective number of scored pairs.
        clusters: Independent conversations among the scored pairs.
        mean: Means over scored pairs of (cost_c, cost_p, quality_c, quality_p).
        cov: 4x4 covariance of `mean`.
        df: Degrees of freedom of `cov`.
        loose_variance: As in `Moments`.
        cost_thirds: As in `Moments`.
        difference_third: As in `Moments`.
        n10: Effective number of pairs in which only the primary succeeded.
        n01: Effective number of pairs in which only the candidate succeeded.
        worst: The same moments over all pairs, with the candidate's unscored replies at 0 and the
            primary's at 1; equal to the plain ones when nothing is unscored.
        latency_c: Seconds of the candidate's successful responses.
        latency_p: Seconds of the primary's successful responses.
        latency_weights_c: What each latency counts, 1 for an average row; none where all count
            alike.
        latency_weights_p: The same of the primary's.
        outage_c: Share of the candidate's calls lost to exhausted transient failures.
        outage_p: Share of the primary's.
        unscored: Share of pairs in which either reply carries no score.
        wins: Scored pairs in which the candidate's quality is the higher.
        ties: Scored pairs of equal quality.
        losses: Scored pairs in which the primary's quality is the higher.
    """

    n: int
    n_eff: float
    clusters: int
    mean: Vector
    cov: Matrix
    df: float
    loose_variance: float
    cost_thirds: Vector
    difference_third: float
    n10: float
    n01: float
    worst: Moments
    latency_c: tuple[float, ...] = ()
    latency_p: tuple[float, ...] = ()
    latency_weights_c: tuple[float, ...] = ()
    latency_weights_p: tuple[float, ...] = ()
    outage_c: float = 0.0
    outage_p: float = 0.0
    unscored: float = 0.0
    wins: int = 0
    ties: int = 0
    losses: int = 0

    def __post_init__(self) -> None:
        _ = self.plain  # validated when made
        for name in ("outage_c", "outage_p", "unscored"):
            if not 0 <= getattr(self, name) <= 1 + 1e-9:
                raise InvalidNumbersError(f"{name} is a share of calls, not {getattr(self, name)}")
        if min(self.n10, self.n01) < 0:
            raise InvalidNumbersError("discordant counts cannot be negative")
        for side in ("c", "p"):
            seconds = getattr(self, f"latency_{side}")
            counts = getattr(self, f"latency_weights_{side}")
            if counts and len(counts) != len(seconds):
                raise InvalidNumbersError(f"latency_weights_{side} has not one entry per latency")

    @property
    def plain(self) -> Moments:
        """Return the moments over scored pairs."""
        return Moments(
            mean=self.mean,
            cov=self.cov,
            n_eff=self.n_eff,
            clusters=self.clusters,
            df=self.df,
            loose_variance=self.loose_variance,
            cost_thirds=self.cost_thirds,
            difference_third=self.difference_third,
        )

    @property
    def success_counts(self) -> tuple[float, float, float]:
        """Return (n, n10, n01) over all pairs, in independent pairs: success needs no score."""
        share = self.worst.independent_n / self.worst.n_eff
        return self.worst.independent_n, self.n10 * share, self.n01 * share

    @property
    def independent_pairs(self) -> float:
        """Return the independent observations: neither repeats nor later turns count twice."""
        return self.plain.independent_pairs

    @property
    def unmeasured_because(self) -> str | None:
        """Return why this week cannot be pooled or judged, or None when it can."""
        if self.clusters < MIN_CLUSTERS_STORED:
            return f"only {self.clusters} independent conversations ({MIN_CLUSTERS_STORED} needed)"
        for who, share in (("candidate", self.outage_c), ("primary", self.outage_p)):
            if share > MAX_OUTAGE_SHARE:
                return f"outage: {share:.1%} of the {who}'s calls failed for transient causes"
        if self.unscored > MAX_UNSCORED_SHARE:
            return f"{self.unscored:.1%} of the pairs carry no score (at most 5 % allowed)"
        return None

    def grown(self, times: float) -> Self:
        """Return the evidence of so many times as many pairs that are just like these."""
        plain = self.plain.grown(times)
        return replace(
            self,
            n=max(1, round(self.n * times)),
            n_eff=plain.n_eff,
            clusters=plain.clusters,
            cov=plain.cov,
            df=plain.df,
            loose_variance=plain.loose_variance,
            cost_thirds=plain.cost_thirds,
            difference_third=plain.difference_third,
            n10=self.n10 * times,
            n01=self.n01 * times,
            worst=self.worst.grown(times),
        )

    def repriced(self, candidate: float, primary: float) -> Self:
        """Return the evidence as if all costs of a side were so many times as high."""
        plain = self.plain.repriced(candidate, primary)
        return replace(
            self,
            mean=plain.mean,
            cov=plain.cov,
            cost_thirds=plain.cost_thirds,
            worst=self.worst.repriced(candidate, primary),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` turns back into equal Evidence."""
        return {
            **self.plain.to_json(),
            "n": self.n,
            "n10": self.n10,
            "n01": self.n01,
            "worst": self.worst.to_json(),
            "latency_c": list(self.latency_c),
            "latency_p": list(self.latency_p),
            "latency_weights_c": list(self.latency_weights_c),
            "latency_weights_p": list(self.latency_weights_p),
            "outage_c": self.outage_c,
            "outage_p": self.outage_p,
            "unscored": self.unscored,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the Evidence written by `to_json`."""
        return cls(
            n=int(document["n"]),
            n_eff=float(document["n_eff"]),
            clusters=int(document["clusters"]),
            mean=_vector(document["mean"]),
            cov=_matrix(document["cov"]),
            df=float(document["df"]),
            loose_variance=float(document["loose_variance"]),
            cost_thirds=_vector(document["cost_thirds"]),
            difference_third=float(document["difference_third"]),
            n10=float(document["n10"]),
            n01=float(document["n01"]),
            worst=Moments.from_json(document["worst"]),
            latency_c=tuple(map(float, document["latency_c"])),
            latency_p=tuple(map(float, document["latency_p"])),
            latency_weights_c=tuple(map(float, document.get("latency_weights_c", ()))),
            latency_weights_p=tuple(map(float, document.get("latency_weights_p", ()))),
            outage_c=float(document["outage_c"]),
            outage_p=float(document["outage_p"]),
            unscored=float(document["unscored"]),
            wins=int(document["wins"]),
            ties=int(document["ties"]),
            losses=int(document["losses"]),
        )


def pair_evidence(  # noqa: PLR0913 -- one keyword per column of the paired table
    cost_c: ArrayLike,
    cost_p: ArrayLike,
    quality_c: ArrayLike,
    quality_p: ArrayLike,
    *,
    ok_c: ArrayLike | None = None,
    ok_p: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    clusters: Labels | None = None,
    strata: Labels | None = None,
    scored_c: ArrayLike | None = None,
    scored_p: ArrayLike | None = None,
    latency_c: ArrayLike | None = None,
    latency_p: ArrayLike | None = None,
    outage_c: ArrayLike | None = None,
    outage_p: ArrayLike | None = None,
) -> Evidence:
    """Reduce one week's pairs to Evidence; the order of the rows is irrelevant.

    Every argument has one entry per pair. An unsuccessful response counts as quality 0 at its
    full cost, whatever score it carries. Nothing may be NaN: an absent score is masked by
    `scored_c` or `scored_p`, and latencies are read only where the response succeeded.

    Args:
        cost_c: USD of all the candidate's Attempts on the Case, at least 0.
        cost_p: The same of the primary.
        quality_c: The candidate's quality in 0..1.
        quality_p: The primary's.
        ok_c: Whether the candidate's response is successful (default: all).
        ok_p: The same of the primary.
        weights: Share of traffic each row stands for: k/n for a row drawn k times (default equal).
        clusters: Conversation of each row (default: every row its own).
        strata: Stratum of each row (default: one). A conversation lies in one stratum; one that
            does not is counted where most of its weight lies.
        scored_c: Whether the candidate's reply has a score (default: all).
        scored_p: The same of the primary.
        latency_c: Seconds of the candidate's response.
        latency_p: Seconds of the primary's.
        outage_c: Whether the candidate's call ended in an exhausted transient failure.
        outage_p: The same of the primary.

    Returns:
        The week's Evidence.

    Raises:
        InvalidNumbersError: If lengths differ or a number is impossible.
        NotEnoughDataError: If fewer than two independent conversations are scored.

    >>> week = pair_evidence([1.0, 1.0, 2.0], [2.0, 2.0, 4.0], [1.0, 0.5, 0.0], [1.0, 0.5, 0.5])
    >>> week.n, week.clusters, [round(v, 3) for v in week.mean]
    (3, 3, [1.333, 2.667, 0.5, 0.667])
    """
    n = len(np.asarray(cost_c))
    if n == 0:
        raise NotEnoughDataError("there are no pairs")
    good_c = flags(ok_c, "ok_c", length=n, default=True)
    good_p = flags(ok_p, "ok_p", length=n, default=True)
    has_c = flags(scored_c, "scored_c", length=n, default=True) | ~good_c
    has_p = flags(scored_p, "scored_p", length=n, default=True) | ~good_p
    table = np.column_stack(
        (
            _costs(cost_c, "cost_c", n),
            _costs(cost_p, "cost_p", n),
            np.where(good_c, _qualities(quality_c, "quality_c", has_c & good_c), 0.0),
            np.where(good_p, _qualities(quality_p, "quality_p", has_p & good_p), 0.0),
        )
    )
    design = _Design(
        weights=shares(weights, length=n),
        clusters=codes(clusters, "clusters", length=n),
        strata=codes(strata, "strata", length=n) if strata is not None else None,
    )
    scored = has_c & has_p
    pessimistic = table.copy()
    pessimistic[~has_c, QUALITY_C] = 0.0
    pessimistic[~has_p, QUALITY_P] = 1.0
    worst = design.moments(pessimistic)
    plain = worst if scored.all() else design.only(scored).moments(table[scored])
    w = design.weights
    seconds_c, counts_c = _latencies(latency_c, good_c, w, "latency_c")
    seconds_p, counts_p = _latencies(latency_p, good_p, w, "latency_p")
    gap = table[:, QUALITY_C] - table[:, QUALITY_P]
    return Evidence(
        n=n,
        n_eff=plain.n_eff,
        clusters=plain.clusters,
        mean=plain.mean,
        cov=plain.cov,
        df=plain.df,
        loose_variance=plain.loose_variance,
        cost_thirds=plain.cost_thirds,
        difference_third=plain.difference_third,
        n10=float(worst.n_eff * w[good_p & ~good_c].sum()),
        n01=float(worst.n_eff * w[good_c & ~good_p].sum()),
        worst=worst,
        latency_c=seconds_c,
        latency_p=seconds_p,
        latency_weights_c=counts_c,
        latency_weights_p=counts_p,
        outage_c=_share(outage_c, w, "outage_c"),
        outage_p=_share(outage_p, w, "outage_p"),
        unscored=float(w[~scored].sum()),
        wins=int((gap[scored] > 0).sum()),
        ties=int((gap[scored] == 0).sum()),
        losses=int((gap[scored] < 0).sum()),
    )


def pool(evidences: Sequence[Evidence]) -> Evidence:
    """Pool weeks of one epoch: means weighted by effective pairs, variances within weeks.

    With f_t = n_t / N: mean = sum f_t mean_t, cov = sum f_t^2 cov_t, df = sum df_t.

    Args:
        evidences: One Evidence per week, at least one.

    Returns:
        The Evidence of all weeks together.

    Raises:
        NotEnoughDataError: If there are none.

    >>> week = pair_evidence([1.0, 3.0], [2.0, 2.0], [1.0, 0.0], [1.0, 1.0])
    >>> both = pool([week, week])
    >>> both.n, both.df, both.mean == week.mean, both.cov[0][0] == week.cov[0][0] / 2
    (4, 2.0, True, True)
    """
    if not evidences:
        raise NotEnoughDataError("there is no week to pool")
    if len(evidences) == 1:
        return evidences[0]
    plain = pool_moments([week.plain for week in evidences])
    calls = sum(week.n for week in evidences)
    return Evidence(
        n=calls,
        n_eff=plain.n_eff,
        clusters=plain.clusters,
        mean=plain.mean,
        cov=plain.cov,
        df=plain.df,
        loose_variance=plain.loose_variance,
        cost_thirds=plain.cost_thirds,
        difference_third=plain.difference_third,
        n10=sum(week.n10 for week in evidences),
        n01=sum(week.n01 for week in evidences),
        worst=pool_moments([week.worst for week in evidences]),
        latency_c=tuple(s for week in evidences for s in week.latency_c),
        latency_p=tuple(s for week in evidences for s in week.latency_p),
        latency_weights_c=_pooled_weights(
            [(week.latency_c, week.latency_weights_c) for week in evidences]
        ),
        latency_weights_p=_pooled_weights(
            [(week.latency_p, week.latency_weights_p) for week in evidences]
        ),
        outage_c=sum(week.outage_c * week.n for week in evidences) / calls,
        outage_p=sum(week.outage_p * week.n for week in evidences) / calls,
        unscored=sum(week.unscored * week.n for week in evidences) / calls,
        wins=sum(week.wins for week in evidences),
        ties=sum(week.ties for week in evidences),
        losses=sum(week.losses for week in evidences),
    )


def pool_moments(weeks: Sequence[Moments]) -> Moments:
    """Pool moments of independent weeks in proportion to their effective pairs."""
    return MomentStack.of(weeks).last(len(weeks))


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentStack:
    """Moments of several weeks side by side, to pool one window after another quickly."""

    mean: FloatArray
    cov: FloatArray
    n_eff: FloatArray
    clusters: IntArray
    df: FloatArray
    loose_variance: FloatArray
    cost_thirds: FloatArray
    difference_third: FloatArray

    @classmethod
    def of(cls, weeks: Sequence[Moments]) -> Self:
        """Return the weeks' moments stacked, oldest first."""
        return cls(
            mean=np.array([week.mean for week in weeks]),
            cov=np.array([week.cov for week in weeks]),
            n_eff=np.array([week.n_eff for week in weeks]),
            clusters=np.array([week.clusters for week in weeks], dtype=np.intp),
            df=np.array([week.df for week in weeks]),
            loose_variance=np.array([week.loose_variance for week in weeks]),
            cost_thirds=np.array([week.cost_thirds for week in weeks]),
            difference_third=np.array([week.difference_third for week in weeks]),
        )

    def last(self, size: int) -> Moments:
        """Return the last `size` weeks pooled."""
        n_eff = self.n_eff[-size:]
        f = n_eff / n_eff.sum()
        return Moments(
            mean=_vector(np.einsum("t,ti->i", f, self.mean[-size:])),
            cov=_matrix(np.einsum("t,tij->ij", f**2, self.cov[-size:])),
            n_eff=float(n_eff.sum()),
            clusters=int(self.clusters[-size:].sum()),
            df=float(self.df[-size:].sum()),
            loose_variance=float(f**2 @ self.loose_variance[-size:]),
            cost_thirds=_vector(f**3 @ self.cost_thirds[-size:]),
            difference_third=float(f**3 @ self.difference_third[-size:]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """How the rows were drawn: weights summing to one, conversations, strata."""

    weights: FloatArray
    clusters: IntArray
    strata: IntArray | None

    def only(self, rows: BoolArray) -> "_Design":
        """Return the design of some of the rows, its weights rescaled to one."""
        if not rows.any():
            raise NotEnoughDataError("no pair has both replies scored")
        return _Design(
            weights=self.weights[rows] / self.weights[rows].sum(),
            clusters=self.clusters[rows],
            strata=None if self.strata is None else self.strata[rows],
        )

    def moments(self, table: FloatArray) -> Moments:
        """Return weighted means and their cluster-robust, stratified covariance."""
        _, cluster = np.unique(self.clusters, return_inverse=True)
        count = int(cluster.max()) + 1
        if count < 2:
            raise NotEnoughDataError(f"{count} independent conversation cannot carry a variance")
        stratum = self._strata_of_clusters(cluster, count)
        residuals = self._residuals(table, stratum[cluster])
        sums = np.zeros((count, 4))
        np.add.at(sums, cluster, residuals)
        gap = sums[:, QUALITY_C] - sums[:, QUALITY_P]
        difference = residuals[:, QUALITY_C, None] - residuals[:, QUALITY_P, None]
        return Moments(
            mean=_vector(self.weights @ table),
            cov=_matrix(_scatter(sums, stratum)),
            n_eff=float(1.0 / np.square(self.weights).sum()),
            clusters=count,
            df=float(count - 1),
            loose_variance=float(_scatter(difference, stratum[cluster])[0, 0]),
            cost_thirds=_vector(
                [_third(sums[:, COST_C], sums[:, COST_P], power, stratum) for power in (3, 2, 1, 0)]
            ),
            difference_third=_third(gap, gap, 3, stratum),
        )

    def _residuals(self, table: FloatArray, stratum: IntArray) -> FloatArray:
        """Return every row's weighted residual about its stratum's weighted mean."""
        size = int(stratum.max()) + 1
        mass = np.bincount(stratum, weights=self.weights, minlength=size)
        centre = np.zeros((size, 4))
        np.add.at(centre, stratum, self.weights[:, None] * table)
        centre /= np.where(mass > 0, mass, 1.0)[:, None]
        return np.asarray(self.weights[:, None] * (table - centre[stratum]), dtype=np.float64)

    def _strata_of_clusters(self, cluster: IntArray, count: int) -> IntArray:
        """Return the stratum of each conversation, those with one conversation merged."""
        if self.strata is None:
            return np.zeros(count, dtype=np.intp)
        kinds = int(self.strata.max()) + 1
        weight = np.zeros((count, kinds))
        np.add.at(weight, (cluster, self.strata), self.weights)
        most = weight.max(axis=1, keepdims=True)
        is_home = weight >= most * (1 - _TIE)  # a tie must not hang on the order of adding up
        return _merge_lonely(np.asarray(is_home.argmax(axis=1), dtype=np.intp))


def _scatter(sums: FloatArray, stratum: IntArray) -> FloatArray:
    """Return the sum over strata of m / (m - 1) times the cross products of its m rows."""
    members = np.bincount(stratum)[stratum].astype(np.float64)
    weight = members / np.maximum(members - 1, 1)
    return np.asarray((sums * weight[:, None]).T @ sums, dtype=np.float64)


def _third(first: FloatArray, second: FloatArray, power: int, stratum: IntArray) -> float:
    """Return the unbiased third moment first^power * second^(3 - power) of sums of residuals."""
    m = np.bincount(stratum)[stratum].astype(np.float64)
    weight = np.where(m > 2, m**2 / np.maximum((m - 1) * (m - 2), 1.0), 1.0)
    return float(weight @ (first**power * second ** (3 - power)))


def _merge_lonely(stratum: IntArray) -> IntArray:
    """Return strata in which none has a single conversation: those are put together.

    A stratum that stays alone even so joins the smallest of the others.
    """
    sizes = np.bincount(stratum)
    lonely = sizes[stratum] == 1
    if not lonely.any():
        return stratum
    home = len(sizes)
    if lonely.sum() == 1 and not lonely.all():
        others = np.unique(stratum[~lonely])
        home = int(others[sizes[others].argmin()])
    return np.where(lonely, home, stratum)


def _costs(values: ArrayLike, name: str, n: int) -> FloatArray:
    array = finite(values, name, length=n)
    if (array < 0).any():
        raise InvalidNumbersError(f"{name} holds a negative cost")
    return array


def _qualities(values: ArrayLike, name: str, used: BoolArray) -> FloatArray:
    array = finite(values, name, length=len(used))
    if ((array[used] < 0) | (array[used] > 1)).any():
        raise InvalidNumbersError(f"{name} must lie between 0 and 1")
    return array


def _pooled_weights(
    weeks: Sequence[tuple[tuple[float, ...], tuple[float, ...]]],
) -> tuple[float, ...]:
    """Weights of all weeks' latencies, none where every week's count alike."""
    if not any(counts for _, counts in weeks):
        return ()
    return tuple(w for seconds, counts in weeks for w in counts or (1.0,) * len(seconds))


def _latencies(
    values: ArrayLike | None, ok: BoolArray, weights: FloatArray, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of the successful rows in ascending order, and what each counts."""
    if values is None:
        return (), ()
    array = np.asarray(values, dtype=np.float64)
    if array.shape != ok.shape:
        raise InvalidNumbersError(f"{name} has shape {array.shape} where {ok.shape} is expected")
    seconds = finite(array[ok], name)
    if (seconds < 0).any():
        raise InvalidNumbersError(f"{name} holds a negative duration")
    counts = np.maximum(np.round(weights[ok] * ok.size, 9), 1e-9)  # whatever the order of rows
    order = np.lexsort((counts, seconds))
    is_plain = counts.size == 0 or bool(np.ptp(counts) == 0)
    return tuple(seconds[order].tolist()), () if is_plain else tuple(counts[order].tolist())


def _share(values: ArrayLike | None, weights: FloatArray, name: str) -> float:
    return float(weights[flags(values, name, length=len(weights), default=False)].sum())


def _vector(values: ArrayLike) -> Vector:
    return cast(Vector, tuple(np.asarray(values, dtype=np.float64).tolist()))


def _matrix(values: ArrayLike) -> Matrix:
    rows = np.asarray(values, dtype=np.float64)
    return cast(Matrix, tuple(map(tuple, rows.tolist())))
