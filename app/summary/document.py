"""The document of a Run: what `report --json` prints and `benchmark_results` keeps.

Money is a string holding a decimal, every other figure a JSON number, an absent figure null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from app.domain.alerts import Alert
from app.domain.attempts import Purpose
from app.domain.cases import Sample
from app.domain.json_values import JsonObject
from app.domain.results import (
    ALL,
    AdaptiveReport,
    Comparison,
    DriftReport,
    HumanAgreement,
    JudgeReport,
    Percentiles,
    SegmentComparison,
    Summary,
)
from app.domain.runs import Run, RunStatus, SpendLine
from app.stats.estimates import Estimate
from app.summary.summaries import absences

MONEY_DIGITS = 12
"""Significant digits of money that was computed, not counted."""

_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Everything the document tells.

    Attributes:
        status: The status the Run ends with.
        sample: None when the Run ended before it was drawn.
        budget_usd: The cap of the Run, None without one.
        bill_warnings: Where our prices and the gateway's own account differ.
        error: Why the Run did not end as `done`, in words.
        embedder: Name of the model that embeds texts, None without one.
    """

    run: Run
    status: RunStatus
    sample: Sample | None
    summaries: tuple[Summary, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    judge: JudgeReport = field(default_factory=JudgeReport)
    drift: DriftReport | None = None
    adaptive: AdaptiveReport = field(default_factory=AdaptiveReport)
    spend: Sequence[SpendLine] = ()
    bill_warnings: Sequence[str] = ()
    budget_usd: Decimal | None = None
    alerts: Sequence[Alert] = ()
    error: str | None = None
    embedder: str | None = None


def document(figures: RunFigures) -> JsonObject:
    """Return the Run as one JSON object, ready to be stored and printed."""
    run, sample = figures.run, figures.sample
    window = sample.window if sample else run.window
    return {
        "run_id": run.run_id,
        "plan": run.plan_name,
        "slot": run.slot.key,
        "slot_at": _instant(run.slot.at),
        "status": figures.status.value,
        "error": figures.error,
        "triggered_by": run.trigger.value,
        "window": {
            "start": _instant(window.start if window else None),
            "end": _instant(window.end if window else None),
        },
        "seed": run.seed,
        "config_hash": run.config_hash,
        "app_version": run.app_version,
        "cases": _cases(run, sample),
        "models": _models(figures),
        "comparisons": [_comparison(comparison) for comparison in figures.comparisons],
        "drift": _drift(figures.drift or DriftReport()),
        "judge": _judge(figures.judge),
        "adaptive": _adaptive(figures.adaptive),
        "spend": _spend(figures),
        "alerts": [
            {"key": alert.key, "kind": alert.kind.value, "title": alert.title}
            for alert in figures.alerts
        ],
    }


def money(value: Decimal | float | None) -> str | None:
    """Return money as plain decimal text; computed money is cut to twelve significant digits.

    >>> money(0.1 + 0.2), money(Decimal("1E-7")), money(None)
    ('0.3', '0.0000001', None)
    """
    if value is None:
        return None
    if isinstance(value, Decimal):
        return format(value, "f")
    exact = Decimal(format(value, f".{MONEY_DIGITS}g"))
    return format(exact.normalize() if exact else Decimal(0), "f")


def estimate(value: Estimate | None) -> dict[str, float] | None:
    """Return point and interval as JSON numbers."""
    if value is None:
        return None
    return {"value": value.point, "low": value.low, "high": value.high}


def money_estimate(value: Estimate | None) -> dict[str, str | None] | None:
    """Return point and interval as money."""
    if value is None:
        return None
    return {"value": money(value.point), "low": money(value.low), "high": money(value.high)}


def _cases(run: Run, sample: Sample | None) -> JsonObject:
    return {
        "frame": sample.frame if sample else run.frame,
        "requested": sample.requested if sample else run.cases_requested,
        "drawn": sample.drawn if sample else None,
        "sampled": len(sample.cases) if sample else run.cases_sampled,
        "skipped": dict(sample.skipped if sample else run.skipped),
        "anchors": len(sample.anchors) if sample else 0,
    }


def _models(figures: RunFigures) -> list[JsonObject]:
    whole = [summary for summary in figures.summaries if summary.segment == ALL]
    return [
        {
            **_model(summary),
            "segments": [
                _model_segment(part)
                for part in figures.summaries
                if part.model_name == summary.model_name and part.segment != ALL
            ],
        }
        for summary in whole
    ]


def _model(summary: Summary) -> JsonObject:
    return {
        "name": summary.model_name,
        "model": summary.model,
        "role": summary.role.value,
        "cases": summary.cases,
        "successes": summary.successes,
        "unscored": summary.unscored,
        "quality": estimate(summary.quality),
        "success_rate": _point(summary.success_rate),
        "cost_per_success_usd": money(_point(summary.cost_per_success_usd)),
        "cost_per_1k_usd": money(_point(summary.cost_per_1k_usd)),
        "cost_per_quality_usd": money_estimate(summary.cost_per_quality_usd),
        "spend_usd": money(summary.spend_usd),
        "unknown_cost": summary.unknown_cost,
        "attempts": summary.attempts,
        "retries": summary.retries,
        "ttft_ms": _milliseconds(summary.ttft_s),
        "latency_ms": _milliseconds(summary.latency_s),
        "latency_with_retries_ms": _milliseconds(summary.felt_latency_s),
        "intervals": _intervals(summary),
        "failures": {failure.value: n for failure, n in sorted(summary.failures.items())},
        "largest_call_share": summary.largest_call_share,
        "pattern": summary.pattern,
        "absent": absences(summary),
    }


def _intervals(summary: Summary) -> JsonObject:
    return {
        "success_rate": estimate(summary.success_rate),
        "cost_per_success_usd": money_estimate(summary.cost_per_success_usd),
        "cost_per_1k_usd": money_estimate(summary.cost_per_1k_usd),
        "ttft_ms": _millisecond_intervals(summary.ttft_s),
        "latency_ms": _millisecond_intervals(summary.latency_s),
        "latency_with_retries_ms": _millisecond_intervals(summary.felt_latency_s),
    }


def _model_segment(summary: Summary) -> JsonObject:
    return {
        "segment": summary.segment.name,
        "value": summary.segment.value,
        "cases": summary.cases,
        "quality": estimate(summary.quality),
        "success_rate": _point(summary.success_rate),
        "cost_per_success_usd": money(_point(summary.cost_per_success_usd)),
        "cost_per_1k_usd": money(_point(summary.cost_per_1k_usd)),
        "cost_per_quality_usd": money_estimate(summary.cost_per_quality_usd),
        "intervals": {
            "success_rate": estimate(summary.success_rate),
            "cost_per_success_usd": money_estimate(summary.cost_per_success_usd),
            "cost_per_1k_usd": money_estimate(summary.cost_per_1k_usd),
        },
        "absent": absences(summary),
    }


def _comparison(comparison: Comparison) -> JsonObject:
    return {
        "candidate": comparison.candidate,
        "primary": comparison.primary,
        "pairs": comparison.pairs,
        "window_weeks": comparison.window_weeks,
        "wins": comparison.wins,
        "ties": comparison.ties,
        "losses": comparison.losses,
        "win_rate": estimate(comparison.win_rate),
        "quality_delta": estimate(comparison.quality_delta),
        "saving": estimate(comparison.saving),
        "value_ratio": estimate(comparison.value_ratio),
        "success_delta": _point(comparison.success_delta),
        "latency_p50_ratio": comparison.latency_p50_ratio,
        "latency_p95_ratio": comparison.latency_p95_ratio,
        "verdict": comparison.verdict.kind.value,
        "state": comparison.state.value,
        "reasons": list(comparison.verdict.reasons),
        "caveats": list(comparison.verdict.caveats),
        "monthly_saving_usd": money_estimate(comparison.monthly_saving_usd),
        "intervals": {
            "success_delta": estimate(comparison.success_delta),
            "latency_p50_ratio": estimate(comparison.latency_p50),
            "latency_p95_ratio": estimate(comparison.latency_p95),
        },
        "segments": [_comparison_segment(part) for part in comparison.segments],
        "epoch": comparison.epoch,
        "epoch_reason": comparison.epoch_reason,
        "tests": dict(comparison.tests),
    }


def _comparison_segment(part: SegmentComparison) -> JsonObject:
    return {
        "segment": part.segment.name,
        "value": part.segment.value,
        "pairs": part.pairs,
        "quality_delta": estimate(part.quality_delta),
        "saving": estimate(part.saving),
        "value_ratio": estimate(part.value_ratio),
        "is_worse": part.is_worse,
        "wins": part.wins,
        "ties": part.ties,
        "losses": part.losses,
    }


def _drift(drift: DriftReport) -> JsonObject:
    worst = drift.worst_segment
    return {
        "traffic": estimate(drift.traffic),
        "primary": estimate(drift.primary),
        "judge": estimate(drift.judge),
        "price": estimate(drift.price),
        "causes": list(drift.causes),
        "regressed": drift.regressed,
        "worst_segment": {"segment": worst.name, "value": worst.value} if worst else None,
        "sentences": list(drift.sentences),
    }


def _judge(judge: JudgeReport) -> JsonObject:
    return {
        "models": list(judge.models),
        "judged": judge.judged,
        "unscored": judge.unscored,
        "unscored_rate": judge.unscored_rate,
        "agreement": _point(judge.agreement),
        "agreement_interval": estimate(judge.agreement),
        "repeat_agreement": judge.repeat_agreement,
        "order_consistency": judge.order_consistency,
        "length_correlation": _point(judge.length_correlation),
        "length_correlation_interval": estimate(judge.length_correlation),
        "canaries": judge.canaries,
        "canaries_right": judge.canaries_right,
        "is_trusted": judge.is_trusted,
        "warnings": list(judge.warnings),
        "not_judged": dict(judge.not_judged),
        "human": _human(judge.human),
        "spend_usd": money(judge.spend_usd),
    }


def _human(human: HumanAgreement | None) -> JsonObject | None:
    if human is None:
        return None
    return {
        "replies": human.replies,
        "stale": human.stale,
        "kappa": estimate(human.kappa),
        "spearman": estimate(human.spearman),
        "pairs": dict(human.pairs),
        "bias": {name: estimate(lean) for name, lean in human.bias.items()},
        "corrected": list(human.corrected),
    }


def _adaptive(adaptive: AdaptiveReport) -> JsonObject:
    return {
        "planned_calls": adaptive.planned_calls,
        "made_calls": adaptive.made_calls,
        "saved_calls": max(adaptive.planned_calls - adaptive.made_calls, 0),
        "dropped": dict(adaptive.dropped),
    }


def _spend(figures: RunFigures) -> JsonObject:
    models = _sum(figures.spend, Purpose.REPLAY)
    judge = _sum(figures.spend, Purpose.JUDGE)
    embedded = [line for line in figures.spend if line.model_name == figures.embedder]
    return {
        "models_usd": money(models),
        "judge_usd": money(judge),  # all of evaluation; `embeddings_usd` is a part of it
        "embeddings_usd": money(_sum(embedded, Purpose.JUDGE)) if figures.embedder else None,
        "total_usd": money(models + judge),
        "budget_usd": money(figures.budget_usd),
        "attempts": sum(line.attempts for line in figures.spend),
        "unknown_cost": sum(line.unknown_cost for line in figures.spend),
        "reported": [line.check.to_json() for line in figures.spend if line.check],
        "warnings": list(figures.bill_warnings),
    }


def _sum(lines: Sequence[SpendLine], purpose: Purpose) -> Decimal:
    return sum((line.spend_usd for line in lines if line.purpose is purpose), Decimal(0))


def _milliseconds(seconds: Percentiles) -> Mapping[str, float | None]:
    return {
        name: None if (value := getattr(seconds, name)) is None else value.point * _MS
        for name in ("p50", "p95", "p99")
    }


def _millisecond_intervals(seconds: Percentiles) -> JsonObject:
    return {
        name: None
        if value is None
        else {"value": value.point * _MS, "low": value.low * _MS, "high": value.high * _MS}
        for name, value in (("p50", seconds.p50), ("p95", seconds.p95), ("p99", seconds.p99))
    }


def _point(value: Estimate | None) -> float | None:
    return None if value is None else value.point


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
