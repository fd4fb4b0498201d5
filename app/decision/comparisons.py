"""Comparisons: a look at one candidate, told with its figures, segments and every test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

from app.decision.looks import Look, Rules
from app.decision.sentences import complement, difference
from app.decision.settling import Settling, settling
from app.decision.verdicts import has_enough_pairs, verdict_of
from app.domain.results import (
    Comparison,
    Segment,
    SegmentComparison,
    Verdict,
    VerdictKind,
)
from app.stats.estimates import Estimate
from app.stats.evidence import COST_C, COST_P, Evidence, Moments, pool
from app.stats.intervals import (
    CONFIDENCE,
    cost_ratio_interval,
    normal_quantile,
    percentile_ratio_interval,
    quality_difference,
    student_quantile,
    value_ratio_interval,
    wilson,
)
from app.stats.rectifier import Rectifier
from app.stats.scan import ScanResult, WindowTest, segment_loses
from app.stats.switch_tests import SUCCESS_Z

SEGMENT_PAIRS = 30
"""Pairs that a segment needs on the window before it is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What surrounds a look and is told with it.

    Attributes:
        segments: For each week of the look, the Evidence of each segment; empty without any.
        requests_per_month: The logged volume scaled to 30 days, None when unknown.
        judging_usd_per_pair: What judging both replies to one Case costs.
        epoch: Digest of the epoch.
        epoch_reason: Why the epoch began.
        dropped_pairs: Pairs left out this week, by reason.
        left_out_weeks: Weeks of the epoch that could not be pooled, with the reason.
        is_trouble: Whether this week is unmeasured for a cause that somebody must mend.
        rectifier: Correction from human labels, if any.
        caveats: What is assumed or was not measured.
    """

    segments: Sequence[Mapping[str, Evidence]] = ()
    requests_per_month: float | None = None
    judging_usd_per_pair: float = 0.0
    epoch: str = ""
    epoch_reason: str | None = None
    dropped_pairs: Mapping[str, int] = field(default_factory=dict)
    left_out_weeks: Mapping[str, str] = field(default_factory=dict)
    is_trouble: bool = False
    rectifier: Rectifier | None = None
    caveats: tuple[str, ...] = ()


def comparison_of(
    candidate: str, primary: str, look: Look, rules: Rules, setting: Setting
) -> Comparison:
    """Tell a look: verdict, figures on the longest window, segments and every test."""
    verdict = verdict_of(look, rules)
    result = look.result
    window = None if result is None else result.longest
    segments = _segments(look, setting)
    settles = settling(
        look,
        rules,
        verdict.kind,
        judging_usd_per_pair=setting.judging_usd_per_pair,
        rectifier=setting.rectifier,
    )
    return Comparison(
        candidate=candidate,
        primary=primary,
        pairs=window.n if window else 0,
        window_weeks=result.windows[-1].weeks if result and result.windows else 0,
        wins=window.wins if window else 0,
        ties=window.ties if window else 0,
        losses=window.losses if window else 0,
        quality_delta=result.difference if result else None,
        saving=_saving(window.plain) if window else None,
        value_ratio=result.value_ratio if result else None,
        success_delta=success_difference(window) if window else None,
        latency_p50_ratio=result.latency.p50_ratio if result and result.latency else None,
        latency_p95_ratio=result.latency.p95_ratio if result and result.latency else None,
        monthly_saving_usd=_monthly_saving(window, setting.requests_per_month),
        verdict=_told(verdict, segments, settles, primary, setting),
        state=look.state,
        segments=segments,
        tests=_tests(look, rules, setting, settles),
        epoch=setting.epoch,
        epoch_reason=setting.epoch_reason,
        win_rate=_win_rate(window) if window else None,
        latency_p50=_latency_ratio(window, 50),
        latency_p95=_latency_ratio(window, 95),
    )


def success_difference(pairs: Evidence, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the difference of success rates with Bonett and Price's adjusted Wald interval."""
    n, n10, n01 = pairs.success_counts
    total = n + 2.0
    lost, won = (n10 + 1.0) / total, (n01 + 1.0) / total
    half = normal_quantile(confidence) * sqrt((lost + won - (won - lost) ** 2) / total)
    point = (n01 - n10) / n
    return Estimate(
        point=point,
        low=min(max(won - lost - half, -1.0), point),
        high=max(min(won - lost + half, 1.0), point),
        confidence=confidence,
        n=max(1, round(n)),
    )


def cost_saved(moments: Moments, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean cost saved per request, in USD, with its t interval."""
    cov = moments.cov
    variance = cov[COST_C][COST_C] + cov[COST_P][COST_P] - 2 * cov[COST_C][COST_P]
    half = student_quantile(confidence, moments.df) * sqrt(max(variance, 0.0))
    point = moments.mean[COST_P] - moments.mean[COST_C]
    n = max(1, round(moments.n_eff))
    return Estimate(point=point, low=point - half, high=point + half, confidence=confidence, n=n)


def segment_comparisons(
    weeks: Sequence[Mapping[str, Evidence]], *, level: float = 0.05
) -> tuple[SegmentComparison, ...]:
    """Compare within every segment that the weeks hold, adjusted for how many are looked at.

    A segment with fewer than 30 pairs is listed without figures.

    Args:
        weeks: Evidence per `Segment.key`, one mapping per week of the verdict's window.
        level: Chance that any segment is called worse when none is.
    """
    keys = sorted({key for week in weeks for key in week})
    pooled = {key: pool([week[key] for week in weeks if key in week]) for key in keys}
    looked_at = sum(evidence.n >= SEGMENT_PAIRS for evidence in pooled.values())
    return tuple(
        _segment(Segment.from_key(key), evidence, looked_at, level)
        for key, evidence in pooled.items()
    )


def _segment(
    segment: Segment, evidence: Evidence, looked_at: int, level: float
) -> SegmentComparison:
    if evidence.n < SEGMENT_PAIRS:
        return SegmentComparison(
            segment=segment, pairs=evidence.n, quality_delta=None, saving=None, value_ratio=None
        )
    return SegmentComparison(
        segment=segment,
        pairs=evidence.n,
        quality_delta=quality_difference(evidence.plain),
        saving=_saving(evidence.plain),
        value_ratio=value_ratio_interval(evidence.plain),
        is_worse=segment_loses(evidence, segments=looked_at, level=level),
        wins=evidence.wins,
        ties=evidence.ties,
        losses=evidence.losses,
    )


def _segments(look: Look, setting: Setting) -> tuple[SegmentComparison, ...]:
    """Compare segments on the verdict's window."""
    if look.result is None or not look.result.windows or not setting.segments:
        return ()
    measured = [
        segments
        for evidence, segments in zip(look.weeks, setting.segments, strict=True)
        if evidence.unmeasured_because is None
    ]
    return segment_comparisons(measured[-look.result.windows[-1].weeks :])


def _told(
    verdict: Verdict,
    segments: Sequence[SegmentComparison],
    settles: Settling | None,
    primary: str,
    setting: Setting,
) -> Verdict:
    """Add what loses, what would settle it and what is assumed."""
    losing = [
        f"Caveat: {part.segment.key} is worse, {difference(part.quality_delta)} on "
        f"{part.pairs} prompts: keep it on {primary}."
        for part in segments
        if part.is_worse and part.quality_delta is not None
    ]
    names_losers = verdict.kind in (VerdictKind.SWITCH, VerdictKind.WATCH, VerdictKind.UNDECIDED)
    return replace(
        verdict,
        reasons=(
            *verdict.reasons,
            *(losing if names_losers else ()),
            *((settles.sentence,) if settles else ()),
        ),
        caveats=(*verdict.caveats, *setting.caveats),
    )


def _saving(moments: Moments) -> Estimate | None:
    ratio = cost_ratio_interval(moments)
    return None if ratio is None else complement(ratio)


def _monthly_saving(window: Evidence | None, requests: float | None) -> Estimate | None:
    if window is None or requests is None or requests <= 0:
        return None
    saved = cost_saved(window.plain)
    return replace(
        saved,
        point=saved.point * requests,
        low=saved.low * requests,
        high=saved.high * requests,
    )


def _latency_ratio(window: Evidence | None, percent: int) -> Estimate | None:
    if window is None or not window.latency_c or not window.latency_p:
        return None
    weights = (window.latency_weights_c, window.latency_weights_p)
    return percentile_ratio_interval(window.latency_c, window.latency_p, percent, weights=weights)


def _win_rate(window: Evidence) -> Estimate | None:
    """Return the share of pairs won, ties counted half."""
    scored = window.wins + window.ties + window.losses
    if scored == 0:
        return None
    share = (window.wins + window.ties / 2) / scored
    independent = window.independent_pairs
    return replace(wilson(share * independent, independent), n=scored)


def _tests(
    look: Look, rules: Rules, setting: Setting, settles: Settling | None
) -> dict[str, object]:
    policy, result = rules.policy, look.result
    return {
        "candidates": rules.candidates,
        "false_alerts_per_year": policy.false_alerts_per_year,
        "min_pairs": policy.min_pairs,
        "unmeasured": look.unmeasured,
        "trouble": setting.is_trouble,
        "transition": {
            "from": look.before.value,
            "to": look.state.value,
            "reason": look.reason,
        },
        "assumptions": {
            "bias_allowance": policy.bias_allowance,
            "human_labels": setting.rectifier.n if setting.rectifier else 0,
        },
        "dropped_pairs": dict(setting.dropped_pairs),
        "left_out_weeks": dict(setting.left_out_weeks),
        "settle": settles.to_json() if settles else None,
        "prompts_to_settle": settles.prompts if settles else None,
        **({} if result is None else _found(result, rules)),
    }


def _found(result: ScanResult, rules: Rules) -> dict[str, object]:
    policy = rules.policy
    longest, latency, points = result.longest, result.latency, result.points
    return {
        "weeks_held": result.weeks_held,
        "critical_value": result.critical_value,
        "windows": [_window(window, result.critical_value) for window in result.windows],
        "best_window_weeks": result.best.weeks if result.best else None,
        "is_hit": result.is_hit,
        "is_watched": result.is_watched,
        "has_enough_pairs": longest is not None and has_enough_pairs(longest, rules),
        "quality": {"margin": policy.quality_margin, "this_week": _points_quality(result)},
        "value": {
            "bar": policy.bar,
            "this_week": points.value_ratio if points else None,
            "cost_ratio_this_week": points.cost_ratio if points else None,
        },
        "this_week_passes": points.pass_policy if points else None,
        "success": {
            "margin": policy.success_margin,
            "z": result.success_z,
            "z_this_week": result.week_success_z,
            "needed_z": SUCCESS_Z,
            "only_primary": longest.n10 if longest else None,
            "only_candidate": longest.n01 if longest else None,
            "passes": result.success_passes,
        },
        "latency": {
            "p50_ratio": latency.p50_ratio if latency else None,
            "p95_ratio": latency.p95_ratio if latency else None,
            "max_p50_ratio": policy.max_latency_p50_ratio,
            "max_p95_ratio": policy.max_latency_p95_ratio,
            "is_supported": latency.is_supported if latency else False,
            "passes": latency.passes if latency else False,
        },
    }


def _points_quality(result: ScanResult) -> float | None:
    return result.points.difference if result.points else None


def _window(window: WindowTest, critical: float) -> dict[str, object]:
    return {
        "weeks": window.weeks,
        "pairs": window.n,
        "independent_pairs": window.independent_pairs,
        "is_enough": window.is_enough,
        "quality_delta": window.difference,
        "value_ratio": window.value_ratio,
        "quality_z": window.quality_z,
        "value_z": window.value_z,
        "worst_quality_z": window.worst_quality_z,
        "worst_value_z": window.worst_value_z,
        "z": window.z,
        "short_of_z": max(critical - window.z, 0.0),
        "refusal": window.refusal,
    }
