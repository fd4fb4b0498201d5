"""Drift: what moved since earlier weeks, and whether the primary itself got worse."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from app.decision.sentences import difference, signed
from app.domain.attempts import OURS, OUTAGE
from app.domain.prices import Price, Usage
from app.domain.results import CaseResult, DriftReport, Segment
from app.stats.arrays import NotEnoughDataError
from app.stats.drift import (
    MIN_ANCHORS,
    AnchorReading,
    Attribution,
    CanaryReading,
    Cause,
    DriftWeek,
    Regression,
    attribute,
    clustered_mean,
    is_price_cause,
    price_change,
    regression,
)
from app.stats.estimates import Estimate
from app.stats.intervals import mean_interval, student_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorResult:
    """One anchor in one week.

    Attributes:
        anchor: Key of its first appearance; equal keys share one stored reply.
        origin_week: ISO week in which the stored reply was made and first judged.
        reply_now: Quality of the primary's new reply, judged in this week.
        stored_now: Quality of its stored reply, judged in this week.
        stored_then: Quality of its stored reply as judged in the origin week.
    """

    anchor: str
    origin_week: str
    reply_now: float
    stored_now: float
    stored_then: float
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """One known reply: the judge's score of it in this week and when it was first judged."""

    canary: str
    now: float
    then: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshLevel:
    """Mean quality of the primary on a week's fresh sample, and the variance of that mean."""

    mean: float
    variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekOfDrift:
    """What one ISO week says about drift."""

    week: str
    fresh: FreshLevel
    anchors: Sequence[AnchorResult] = ()
    canaries: Sequence[CanaryResult] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceShift:
    """The primary's usage this week and its price now and before."""

    usages: Sequence[Usage]
    now: Price
    then: Price


def drift_report(
    weeks: Sequence[WeekOfDrift],
    *,
    primary: str,
    price: PriceShift | None = None,
    false_alerts_per_year: float = 0.05,
) -> DriftReport:
    """Say what moved, which causes explain it, and whether the primary regressed.

    The regression alert has a yearly budget of its own beside the plan's.

    Args:
        weeks: Weeks of one primary, oldest first, the last this week's; weeks in which anchors
            originated must be among them.
        primary: Its name, for the sentences.
        price: What the primary's usage of this week costs now and cost before.
        false_alerts_per_year: Chance of a false regression alert in a year.
    """
    readings = [_week(week) for week in weeks]
    found = attribute(readings, alpha=false_alerts_per_year) if readings else None
    standing = _standing(readings, alpha=false_alerts_per_year)
    fell = regression(standing.held, alpha=false_alerts_per_year) if readings else None
    moved = None if price is None else _price_change(price)
    causes = _causes(found, moved)
    worst = _worst_segment(weeks[-len(standing.held) :], fell, false_alerts_per_year)
    return DriftReport(
        traffic=found.traffic if found else None,
        primary=_primary_change(found, fell),
        judge=found.judge if found else None,
        price=moved,
        causes=causes,
        regressed=standing.fall is not None,
        worst_segment=worst[0] if worst else None,
        sentences=_sentences(primary, found, fell, moved, worst),
        since_week=_iso_week(standing.since) if standing.since is not None else None,
        ill_weeks=tuple(map(_iso_week, standing.ill)),
    )


def fresh_level(results: Iterable[CaseResult], primary: str) -> FreshLevel | None:
    """Return the primary's level on the fresh sample, None when too little of it is scored."""
    rows = [
        row
        for row in results
        if row.model_name == primary and not row.is_anchor and is_telling(row)
    ]
    if not rows:
        return None
    try:
        estimate = mean_interval(
            [row.quality or 0.0 for row in rows],
            weights=[row.weight for row in rows],
            clusters=[_conversation(row) for row in rows],
        )
    except NotEnoughDataError:
        return None
    groups = len({_conversation(row) for row in rows})
    half = (estimate.high - estimate.low) / 2
    deviation = half / student_quantile(estimate.confidence, groups - 1)
    return FreshLevel(mean=estimate.point, variance=deviation**2)


def is_telling(row: CaseResult) -> bool:
    """Whether the row says how good its model is: an outage, or our own budget, does not."""
    return row.quality is not None and row.failure_class not in OUTAGE | OURS


def week_number(iso_week: str) -> int:
    """Return a number that grows by one from ISO week to ISO week.

    >>> week_number("2027-W01") - week_number("2026-W53")
    1
    """
    year, _, week = iso_week.partition("-W")
    return date.fromisocalendar(int(year), int(week), 1).toordinal() // 7


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """Where the primary stands after the last week.

    Attributes:
        held: The weeks that may still speak: those before a fall that healed are dropped.
        fall: The change by which a fall that has not healed was shown, None when there is none.
        since: First week of the window that showed it.
        ill: Weeks of falls that healed: from the first of the window that showed the fall to the
            last before the two that healed it.
    """

    held: Sequence[DriftWeek]
    fall: float | None
    since: int | None
    ill: Sequence[int]


_HEALED_WEEKS = 2
_HEALED_Z = 2.33
"""As for switch alerts: what closes an alert is one-sided 1 %."""


def _standing(weeks: Sequence[DriftWeek], *, alpha: float) -> _Standing:
    """Follow the primary week by week: a fall is shown once and stays until it has healed."""
    start, fall, since = 0, None, None
    ill: list[int] = []
    for end in range(1, len(weeks) + 1):
        held = weeks[start:end]
        if fall is None:
            shown = regression(held, alpha=alpha)
            if shown is not None and shown.is_hit and shown.best is not None:
                fall = shown.best.change.point
                since = [week for week in held if week.anchors][-shown.best.weeks].week
        elif since is not None and _has_healed(held, fall, since):
            healthy = [week for week in held if week.anchors][-_HEALED_WEEKS:]
            ill += range(since, healthy[0].week)
            start, fall, since = end - 1, None, None
    return _Standing(held=weeks[start:], fall=fall, since=since, ill=ill)


def _has_healed(weeks: Sequence[DriftWeek], fall: float, since: int) -> bool:
    """Whether each of the last two weeks shows no fall, and is nearer to none than to it."""
    read = [week for week in weeks if week.anchors][-_HEALED_WEEKS:]
    return len(read) == _HEALED_WEEKS and all(_shows_none(week, fall, since) for week in read)


def _shows_none(week: DriftWeek, fall: float, since: int) -> bool:
    """Judged by anchors from before the fall: later ones were answered by the ill primary."""
    older = [reading for reading in week.anchors if reading.origin < since]
    anchors = [reading.anchor for reading in older]
    if len(set(anchors)) < MIN_ANCHORS:
        return False
    changes = [reading.reply_now - reading.stored_now for reading in older]
    change, z_rise = clustered_mean(changes, anchors)
    return change.point > fall / 2 and -z_rise < _HEALED_Z


def _iso_week(number: int) -> str:
    """The ISO week that `week_number` counts."""
    year, week, _ = date.fromordinal(number * 7 + 1).isocalendar()
    return f"{year}-W{week:02d}"


def _conversation(row: CaseResult) -> tuple[str, str]:
    if row.conversation is None:
        return ("case", row.case_id)
    return ("conversation", row.conversation)


def _week(week: WeekOfDrift, dimension: str | None = None) -> DriftWeek:
    return DriftWeek(
        week=week_number(week.week),
        fresh_mean=week.fresh.mean,
        fresh_variance=week.fresh.variance,
        anchors=tuple(
            AnchorReading(
                anchor=anchor.anchor,
                origin=week_number(anchor.origin_week),
                reply_now=anchor.reply_now,
                stored_now=anchor.stored_now,
                stored_then=anchor.stored_then,
                segment=anchor.segments.get(dimension) if dimension else None,
            )
            for anchor in week.anchors
        ),
        canaries=tuple(
            CanaryReading(canary=canary.canary, now=canary.now, then=canary.then)
            for canary in week.canaries
        ),
    )


def _price_change(price: PriceShift) -> Estimate | None:
    """Return the relative change of the bill at equal usage."""
    now = [float(price.now.cost(usage)) for usage in price.usages]
    then = [float(price.then.cost(usage)) for usage in price.usages]
    return price_change(now, then) if price.usages else None


def _causes(found: Attribution | None, moved: Estimate | None) -> tuple[str, ...]:
    causes = [cause.value for cause in found.causes] if found else []
    if is_price_cause(moved):
        causes.append(Cause.PRICE.value)
    return tuple(causes)


def _primary_change(found: Attribution | None, fell: Regression | None) -> Estimate | None:
    """Return the change on anchors: on the window of a shown fall, else where it is attributed."""
    if fell is not None and fell.best is not None and (fell.is_hit or found is None):
        return fell.best.change
    return found.primary if found else None


def _worst_segment(
    weeks: Sequence[WeekOfDrift], fell: Regression | None, alpha: float
) -> tuple[Segment, Estimate] | None:
    """Return the segment value in which a shown fall is largest."""
    if fell is None or not fell.is_hit:
        return None
    names = sorted({name for week in weeks for anchor in week.anchors for name in anchor.segments})
    worst: tuple[Segment, Estimate] | None = None
    for name in names:
        inside = regression([_week(week, name) for week in weeks], alpha=alpha)
        if inside is None or inside.segment is None or inside.segment_change is None:
            continue
        if worst is None or inside.segment_change.point < worst[1].point:
            worst = (Segment(name=name, value=inside.segment), inside.segment_change)
    return worst


def _sentences(
    primary: str,
    found: Attribution | None,
    fell: Regression | None,
    moved: Estimate | None,
    worst: tuple[Segment, Estimate] | None,
) -> tuple[str, ...]:
    said = [*_fall(primary, fell)]
    if worst is not None:
        said.append(f"The fall is largest in {worst[0].key}: {difference(worst[1])}.")
    if found is not None:
        said.extend(_attribution(primary, found))
    if is_price_cause(moved) and moved is not None:
        said.append(
            f"{primary} costs {signed(moved.point * 100, 1)} % at equal usage: its price changed."
        )
    return tuple(said)


def _fall(primary: str, fell: Regression | None) -> tuple[str, ...]:
    if fell is None or fell.best is None or not fell.is_hit:
        return ()
    best = fell.best
    return (
        (
            f"{primary} got worse on its anchor prompts: {difference(best.change)} over "
            f"{best.weeks} week(s) (z = {best.z:.2f}, needed {fell.critical_value:.2f})."
        ),
    )


def _attribution(primary: str, found: Attribution) -> tuple[str, ...]:
    words = {
        Cause.TRAFFIC: (
            f"The traffic changed: fresh prompts score {difference(found.traffic)} beyond what "
            "model and judge explain."
        ),
        Cause.PRIMARY: (
            f"{primary} itself changed: {difference(found.primary)} on the same prompts, judged "
            "alike."
        ),
        Cause.JUDGE: (
            f"The judge changed: it scores the same stored replies {difference(found.judge)}."
        ),
    }
    return tuple(words[cause] for cause in found.causes if cause in words)
