"""Readings: what each week says about drift, as it is stored and read again."""

from collections.abc import Iterable, Mapping, Sequence

from app.decision.drift import (
    AnchorResult,
    CanaryResult,
    FreshLevel,
    PriceShift,
    WeekOfDrift,
    drift_report,
    fresh_level,
    is_telling,
)
from app.domain.attempts import OURS, OUTAGE
from app.domain.json_values import JsonObject, fingerprint
from app.domain.plans import Plan
from app.domain.prices import Price, Usage
from app.domain.results import CaseResult, DriftReport
from app.domain.scores import ScoreRecord, quality_of
from app.ports import Baseline
from app.stats.evidence import MAX_OUTAGE_SHARE

STORED_PREFIX = "stored:"
"""Under this model name the judge's word on a stored reply is kept."""

WEEKS_READ = 30
"""Anchors serve for about five months; readings older than this name no anchor in use."""


def reading_of(
    plan: Plan,
    week: str,
    results: Sequence[CaseResult],
    records: Sequence[ScoreRecord],
    baselines: Mapping[str, Baseline],
    canaries: Mapping[str, float],
) -> JsonObject | None:
    """Return what this week says about drift; None when the primary's level is unknown.

    What an outage kept from being answered says nothing of the model, as in the comparisons.

    Args:
        plan: Names the primary.
        week: This ISO week.
        results: What every model did on every Case, anchors included.
        records: All scores of the Run; those of stored replies are among them.
        baselines: By case_id of its first appearance, each anchor's stored reply.
        canaries: This Run's score of each canary.
    """
    fresh = fresh_level(results, plan.primary.name)
    if fresh is None or _is_out(results, plan.primary.name):
        return None
    judged: dict[str, list[ScoreRecord]] = {}
    for record in records:
        if record.model_name == STORED_PREFIX + plan.primary.name:
            judged.setdefault(record.case_id, []).append(record)
    anchors = [
        reading
        for row in results
        if row.is_anchor
        and (reading := _anchor(row, baselines.get(row.anchor_of or ""), judged)) is not None
    ]
    return {
        "week": week,
        "primary": fingerprint(plan.primary.identity),
        "fresh": {"mean": fresh.mean, "variance": fresh.variance},
        "anchors": anchors,
        "canaries": dict(canaries),
    }


def drift_of(
    plan: Plan,
    readings: Sequence[JsonObject],
    results: Iterable[CaseResult],
    now: Price,
    then: Price | None,
) -> DriftReport | None:
    """Return what moved over the stored readings, the last of which is this week's.

    Args:
        plan: Names the primary and its budget of false alerts.
        readings: Oldest first; those of another primary are left out.
        results: This week's, for the primary's usage.
        now: The primary's price today.
        then: Its price in the Run before, None when unknown.
    """
    mine = fingerprint(plan.primary.identity)
    same = [reading for reading in readings if reading.get("primary") == mine]
    if not same:
        return None
    first: dict[str, float] = {}
    weeks = [_week(reading, first) for reading in _one_a_week(same)]
    usages = [
        Usage(input_tokens=row.input_tokens, output_tokens=row.output_tokens)
        for row in results
        if row.model_name == plan.primary.name and row.is_success
    ]
    shift = PriceShift(usages=usages, now=now, then=then) if then is not None else None
    return drift_report(
        weeks,
        primary=plan.primary.name,
        price=shift,
        false_alerts_per_year=plan.policy.false_alerts_per_year,
    )


def last_price(earlier: Sequence[JsonObject], reading: JsonObject) -> Price | None:
    """Return what the same primary cost at its reading before, None when that is unknown."""
    told = next(
        (
            one.get("price")
            for one in reversed(earlier)
            if one.get("primary") == reading.get("primary")
        ),
        None,
    )
    return Price.from_json(told) if isinstance(told, Mapping) else None


def _anchor(
    row: CaseResult, baseline: Baseline | None, judged: Mapping[str, Sequence[ScoreRecord]]
) -> JsonObject | None:
    """One anchor's three scores; None when one of them is missing."""
    if baseline is None or baseline.quality is None or row.quality is None:
        return None
    if not is_telling(row) or baseline.reply.failure_class in OUTAGE | OURS:
        return None
    stored_now, _ = quality_of(judged.get(row.case_id, ()), baseline.reply.failure_class)
    if stored_now is None:
        return None
    return {
        "anchor": row.anchor_of,
        "origin": baseline.week,
        "reply_now": row.quality,
        "stored_now": stored_now,
        "stored_then": baseline.quality,
        "segments": dict(row.segments),
    }


def _is_out(results: Sequence[CaseResult], primary: str) -> bool:
    """Whether the primary failed to answer so often that what is left is no level of it."""
    rows = [row for row in results if row.model_name == primary]
    lost = sum(row.failure_class in OUTAGE for row in rows)
    return lost > MAX_OUTAGE_SHARE * len(rows)


def _one_a_week(readings: Sequence[JsonObject]) -> Sequence[JsonObject]:
    """The last reading of each ISO week, in order."""
    return list({str(reading["week"]): reading for reading in readings}.values())


def _week(reading: JsonObject, first: dict[str, float]) -> WeekOfDrift:
    """A reading as it was; `first` collects each canary's first score."""
    fresh, anchors, canaries = reading["fresh"], reading["anchors"], reading["canaries"]
    if not (
        isinstance(fresh, Mapping) and isinstance(anchors, list) and isinstance(canaries, Mapping)
    ):
        raise TypeError("a stored drift reading is malformed")
    return WeekOfDrift(
        week=str(reading["week"]),
        fresh=FreshLevel(mean=float(fresh["mean"]), variance=float(fresh["variance"])),
        anchors=[
            AnchorResult(
                anchor=str(one["anchor"]),
                origin_week=str(one["origin"]),
                reply_now=float(one["reply_now"]),
                stored_now=float(one["stored_now"]),
                stored_then=float(one["stored_then"]),
                segments=one["segments"],
            )
            for one in anchors
        ],
        canaries=[
            CanaryResult(canary=name, now=float(now), then=first.setdefault(name, float(now)))
            for name, now in canaries.items()
        ],
    )
