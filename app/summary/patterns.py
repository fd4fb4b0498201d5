"""Patterns: what a model's figures suggest, as one sentence from stated thresholds."""

from collections.abc import Sequence

from app.domain.results import Summary

HIGH_QUALITY = 0.80
LOW_QUALITY = 0.50
HIGH_COST_RATIO = 1.5
"""A model is dear when a request costs at least this many times that of the cheapest usable model.

A model of low quality is not usable, however cheap: beside it everything would look dear.
"""

HIGH_LATENCY_SPREAD = 3.0
"""Latency varies much when p95 is at least this many times p50."""


def pattern(summary: Summary, everyone: Sequence[Summary]) -> str | None:
    """Return the reading of a model's figures beside everyone's, None without a quality.

    Args:
        summary: The model's figures for the whole Run.
        everyone: The figures of all models of the Run, this one included.
    """
    readings = [
        reading
        for reading in (_quality_and_cost(summary, everyone), _latency(summary))
        if reading is not None
    ]
    return " ".join(readings) or None


def _quality_and_cost(summary: Summary, everyone: Sequence[Summary]) -> str | None:
    if summary.quality is None:
        return None
    quality = summary.quality.point
    qualities = [other.quality.point for other in everyone if other.quality is not None]
    if max(qualities) < LOW_QUALITY:
        return (
            f"Low quality on every model (best {max(qualities):.2f}, below {LOW_QUALITY:.2f}): "
            "mend the prompt, not the model."
        )
    if quality < LOW_QUALITY:
        return (
            f"Low quality ({quality:.2f}, below {LOW_QUALITY:.2f}) where another model reaches "
            f"{max(qualities):.2f}: the model is the limit, not the prompt."
        )
    level = "High" if quality >= HIGH_QUALITY else "Moderate"
    times = _times_the_cheapest(summary, [other for other in everyone if _is_usable(other)])
    if times is None:
        return f"{level} quality ({quality:.2f}; high from {HIGH_QUALITY:.2f})."
    is_dear = times >= HIGH_COST_RATIO
    cost = f"{times:.1f} times the cheapest usable model's" if times > 1 else "the lowest"
    return (
        f"{level} quality ({quality:.2f}; high from {HIGH_QUALITY:.2f}) at "
        f"{'high' if is_dear else 'low'} cost ({cost}; high from {HIGH_COST_RATIO:g} times): "
        f"{_paths(is_high=quality >= HIGH_QUALITY, is_dear=is_dear)}."
    )


def _is_usable(summary: Summary) -> bool:
    return summary.quality is not None and summary.quality.point >= LOW_QUALITY


def _paths(*, is_high: bool, is_dear: bool) -> str:
    if is_high:
        return "for critical paths" if is_dear else "for critical and high-volume paths alike"
    return "a dearer model than its quality earns" if is_dear else "for high-volume paths"


def _times_the_cheapest(summary: Summary, everyone: Sequence[Summary]) -> float | None:
    costs = [other.cost_per_1k_usd.point for other in everyone if other.cost_per_1k_usd is not None]
    if summary.cost_per_1k_usd is None or min(costs) <= 0:
        return None
    return summary.cost_per_1k_usd.point / min(costs)


def _latency(summary: Summary) -> str | None:
    p50, p95 = summary.latency_s.p50, summary.latency_s.p95
    if p50 is None or p95 is None or p50.point <= 0:
        return None
    spread = p95.point / p50.point
    if spread < HIGH_LATENCY_SPREAD:
        return None
    return (
        f"High latency variance (p95 is {spread:.1f} times p50, from {HIGH_LATENCY_SPREAD:.0f} on "
        "it is high): set a timeout and a fallback."
    )
