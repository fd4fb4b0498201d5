"""Summaries: a model's figures in one Run, whole and per segment."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from itertools import count
from math import exp

from app.domain.attempts import OURS, OUTAGE
from app.domain.models import ModelSpec
from app.domain.results import ALL, CaseResult, Percentiles, Segment, Summary
from app.stats.arrays import NotEnoughDataError
from app.stats.estimates import Estimate
from app.stats.intervals import (
    CONFIDENCE,
    mean_interval,
    percentile_intervals,
    ratio_interval,
    share_interval,
)
from app.stats.switch_tests import is_supported
from app.summary.pairs import conversation_of, in_segment, segments_of
from app.summary.patterns import pattern

PER_THOUSAND = 1_000
PERCENTS = (50, 95, 99)
_LARGEST_EXPONENT = 600.0


def summarise(results: Iterable[CaseResult], models: Sequence[ModelSpec]) -> tuple[Summary, ...]:
    """Return every model's figures, for the whole and for each segment; anchors stay out.

    Figures are weighted to traffic. One that cannot be had is None; `absences` says why.

    Args:
        results: What every model did on every Case.
        models: The contestants, in the order in which they are to be shown.
    """
    rows = [row for row in results if not row.is_anchor]
    segments = segments_of(rows)
    summaries = [
        _summary(model, ALL, [row for row in rows if row.model_name == model.name])
        for model in models
    ]
    whole = [
        replace(summary, pattern=pattern(summary, summaries) if summary.cases else None)
        for summary in summaries
    ]
    parts = [
        _summary(model, segment, inside)
        for model in models
        for segment in segments
        if (inside := [r for r in rows if r.model_name == model.name and in_segment(r, segment)])
    ]
    return (*whole, *parts)


def absences(summary: Summary) -> dict[str, str]:
    """Say why each figure of a Summary is missing."""
    reasons = {
        "quality": _no_quality(summary),
        "success_rate": "no Case was answered or refused by the model itself",
        "cost_per_success_usd": _no_cost(summary, needs="successful response"),
        "cost_per_1k_usd": _no_cost(summary, needs=None),
        "cost_per_quality_usd": _no_cost(summary, needs="quality"),
    }
    absent = {name: why for name, why in reasons.items() if getattr(summary, name) is None}
    if summary.segment != ALL:
        return absent
    timed = (("ttft_ms", summary.ttft_s), ("latency_ms", summary.latency_s))
    return absent | {
        f"{name}.p{percent}": _no_percentile(summary, percent)
        for name, percentiles in timed
        for percent in PERCENTS
        if getattr(percentiles, f"p{percent}") is None
    }


def replies_needed(percent: int) -> int:
    """Return how many timed successful replies support a percentile.

    >>> [replies_needed(percent) for percent in (50, 95, 99)]
    [10, 100, 500]
    """
    return next(n for n in count(1) if is_supported(n, percent))


def _summary(model: ModelSpec, segment: Segment, rows: Sequence[CaseResult]) -> Summary:
    asked = _Rows([row for row in rows if row.failure_class not in OURS])
    priced = asked.only([row.is_cost_known for row in asked.rows])
    scored = priced.only([row.quality is not None for row in priced.rows])
    good = asked.only([row.is_success for row in asked.rows])
    latencies = [row.latency_s for row in good.rows]
    felts = [row.felt_latency_s for row in good.rows]
    latency, felt = good.percentiles(latencies), Percentiles()
    if segment == ALL:
        felt = latency if felts == latencies else good.percentiles(felts)
    return Summary(
        model_name=model.name,
        model=model.model,
        role=model.role,
        segment=segment,
        cases=len(rows),
        successes=len(good.rows),
        unscored=sum(row.quality is None for row in rows),
        quality=_quality(asked),
        success_rate=_success_rate(asked),
        cost_per_success_usd=priced.cost_per([float(row.is_success) for row in priced.rows]),
        cost_per_1k_usd=_scaled(priced.cost_per([1.0] * len(priced.rows)), PER_THOUSAND),
        cost_per_quality_usd=scored.cost_per([row.quality or 0.0 for row in scored.rows]),
        ttft_s=good.percentiles([row.ttft_s for row in good.rows]),
        latency_s=latency,
        felt_latency_s=felt,
        attempts=sum(row.attempts for row in rows),
        retries=sum(row.retries for row in rows),
        spend_usd=sum((row.spend_usd for row in rows), Decimal(0)),
        unknown_cost=sum(not row.is_cost_known for row in rows),
        failures=dict(Counter(row.failure_class for row in rows if row.failure_class is not None)),
        largest_call_share=_largest_share(priced.rows),
    )


@dataclass(frozen=True)
class _Rows:
    """Some rows of one model with their design: weights and conversations."""

    rows: Sequence[CaseResult]

    def only(self, chosen: Sequence[bool]) -> "_Rows":
        return _Rows([row for row, is_in in zip(self.rows, chosen, strict=True) if is_in])

    @cached_property
    def weights(self) -> list[float]:
        return [row.weight for row in self.rows]

    @cached_property
    def conversations(self) -> list[tuple[str, str]]:
        return [conversation_of(row) for row in self.rows]

    @property
    def is_plain(self) -> bool:
        """Whether rows are independent and weigh alike: exact intervals apply."""
        alike = max(self.weights) <= min(self.weights) * (1 + 1e-9)
        return alike and len(set(self.conversations)) == len(self.rows)

    def cost_per(self, earned: Sequence[float]) -> Estimate | None:
        """Return the money spent per unit earned, None when nothing was or it has no interval."""
        if not self.rows or sum(earned) <= 0:
            return None
        spent = [float(row.spend_usd) for row in self.rows]
        if sum(spent) == 0:
            return Estimate(point=0.0, low=0.0, high=0.0, confidence=CONFIDENCE, n=len(spent))
        bounded = ratio_interval(spent, earned, weights=self.weights, clusters=self.conversations)
        return bounded or self._delta_ratio(spent, earned)

    def _delta_ratio(self, spent: Sequence[float], earned: Sequence[float]) -> Estimate | None:
        """Return spent over earned by the delta method: for samples too small to resample."""
        total = sum(self.weights)
        shares = [weight / total for weight in self.weights]
        top = sum(w * x for w, x in zip(shares, spent, strict=True))
        bottom = sum(w * y for w, y in zip(shares, earned, strict=True))
        influence = [x / top - y / bottom for x, y in zip(spent, earned, strict=True)]
        try:
            logarithm = mean_interval(influence, weights=shares, clusters=self.conversations)
        except NotEnoughDataError:
            return None
        factor = exp(min(logarithm.half_width, _LARGEST_EXPONENT))
        ratio = top / bottom
        return replace(logarithm, point=ratio, low=ratio / factor, high=ratio * factor)

    def percentiles(self, seconds: Sequence[float | None]) -> Percentiles:
        """Return p50, p95 and p99 of the rows that were timed, where the sample supports them."""
        timed = self.only([value is not None for value in seconds])
        values = [value for value in seconds if value is not None]
        if not values:
            return Percentiles()
        p50, p95, p99 = (
            percentile_intervals(values, PERCENTS)
            if timed.is_plain
            else percentile_intervals(
                values, PERCENTS, weights=timed.weights, clusters=timed.conversations
            )
        )
        return Percentiles(p50=p50, p95=p95, p99=p99)


def _quality(asked: _Rows) -> Estimate | None:
    """Return the mean quality of scored replies; an outage is not quality."""
    scored = asked.only(
        [row.quality is not None and row.failure_class not in OUTAGE for row in asked.rows]
    )
    if not scored.rows:
        return None
    try:
        return mean_interval(
            [row.quality or 0.0 for row in scored.rows],
            weights=scored.weights,
            clusters=scored.conversations,
            bounds=(0.0, 1.0),
        )
    except NotEnoughDataError:
        return None


def _success_rate(asked: _Rows) -> Estimate | None:
    if not asked.rows:
        return None
    successes = [row.is_success for row in asked.rows]
    found = share_interval(successes, weights=asked.weights, clusters=asked.conversations)
    if all(successes) or not any(successes):  # weights need not add up to exactly one
        return replace(found, point=float(all(successes)))
    return found


def _largest_share(rows: Sequence[CaseResult]) -> float | None:
    total = sum((row.spend_usd for row in rows), Decimal(0))
    return float(max(row.spend_usd for row in rows) / total) if total > 0 else None


def _scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    if estimate is None:
        return None
    return replace(
        estimate,
        point=estimate.point * factor,
        low=estimate.low * factor,
        high=estimate.high * factor,
    )


def _no_percentile(summary: Summary, percent: int) -> str:
    needed = replies_needed(percent)
    if summary.successes >= needed:
        return f"too few of the successful replies were timed: p{percent} takes {needed}"
    return f"p{percent} takes {needed} timed successful replies, {summary.successes} are there"


def _no_quality(summary: Summary) -> str:
    if summary.cases == 0:
        return "the model was run on no Case"
    if summary.unscored == summary.cases:
        return "no reply carries a score"
    return "too few independent scored replies for an interval"


def _no_cost(summary: Summary, *, needs: str | None) -> str:
    if summary.cases == 0:
        return "the model was run on no Case"
    if summary.unknown_cost == summary.cases:
        return "the cost of every Case is unknown"
    if needs == "successful response" and summary.successes == 0:
        return "no successful response to divide by"
    if needs == "quality" and (summary.quality is None or summary.quality.point == 0):
        return "no quality to divide by"
    return "too few independent Cases for an interval"
