"""Outcomes of Runs to compose messages from, with the figures of a small story."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.alerting.compose import Outcome
from app.domain.alerts import AlertKind, OpenAlert
from app.domain.models import Role
from app.domain.plans import Plan, Schedule, SlackSettings
from app.domain.results import (
    ALL,
    CandidateState,
    Comparison,
    DriftReport,
    JudgeReport,
    Percentiles,
    Segment,
    SegmentComparison,
    Summary,
    Verdict,
    VerdictKind,
)
from app.domain.runs import Run, RunStatus, Slot, Trigger
from app.stats.estimates import Estimate
from tests.fakes.case_results import model
from tests.fakes.small_plans import plan as small_plan

NOW = datetime(2026, 3, 29, 6, 30, tzinfo=UTC)
RUN_ID = "11111111-2222-4333-8444-555555555555"
SWITCH_KEY = "support-bot/switch:haiku"
REGRESSED_KEY = "support-bot/regressed:prod-sonnet"
RUN_KEY = "support-bot/run"


def estimate(point: float, half: float, n: int = 400) -> Estimate:
    return Estimate(point=point, low=point - half, high=point + half, confidence=0.95, n=n)


def plan(*candidates: str, digest: str = "always", remind_days: int = 28) -> Plan:
    return replace(
        small_plan(*(candidates or ("haiku",))),
        primary=model("prod-sonnet", Role.PRIMARY),
        schedule=Schedule(cron="0 6 * * sun", timezone=ZoneInfo("UTC")),
        slack=SlackSettings(
            digest=digest,  # type: ignore[arg-type]
            remind_every=timedelta(days=remind_days),
        ),
    )


def run(trigger: Trigger = Trigger.SCHEDULE) -> Run:
    return Run(
        run_id=RUN_ID,
        plan_name="support-bot",
        trigger=trigger,
        status=RunStatus.RUNNING,
        slot=Slot(key="2026-03-29T06:00", at=datetime(2026, 3, 29, 6, 0, tzinfo=UTC)),
        seed=7,
        created_at=NOW,
        cases_sampled=100,
    )


def comparison(
    kind: VerdictKind = VerdictKind.UNDECIDED,
    *,
    candidate: str = "haiku",
    reasons: tuple[str, ...] = ("The evidence so far decides nothing.",),
    tests: dict[str, object] | None = None,
) -> Comparison:
    return Comparison(
        candidate=candidate,
        primary="prod-sonnet",
        pairs=400,
        window_weeks=4,
        wins=88,
        ties=217,
        losses=95,
        quality_delta=estimate(-0.01, 0.02),
        saving=Estimate(point=0.38, low=0.31, high=0.44, confidence=0.95, n=400),
        value_ratio=estimate(0.63, 0.05),
        success_delta=estimate(0.0, 0.01),
        latency_p50_ratio=0.8,
        latency_p95_ratio=0.7,
        monthly_saving_usd=Estimate(point=1140, low=920, high=1310, confidence=0.95, n=400),
        verdict=Verdict(kind=kind, reasons=reasons),
        state=CandidateState.ALERT if kind is VerdictKind.SWITCH else CandidateState.QUIET,
        tests=tests or {},
    )


def losing_segment() -> SegmentComparison:
    return SegmentComparison(
        segment=Segment(name="route", value="extract"),
        pairs=62,
        quality_delta=estimate(-0.09, 0.05, 62),
        saving=None,
        value_ratio=None,
        is_worse=True,
    )


def summary(name: str, *, cost_per_1k: float, quality: float, p95: float) -> Summary:
    return Summary(
        model_name=name,
        model=f"model-{name}",
        role=Role.PRIMARY if name == "prod-sonnet" else Role.CANDIDATE,
        segment=ALL,
        cases=100,
        successes=99,
        unscored=0,
        quality=estimate(quality, 0.02, 100),
        success_rate=estimate(0.98, 0.01, 100),
        cost_per_success_usd=estimate(cost_per_1k / 1000, 0.0005, 100),
        cost_per_1k_usd=estimate(cost_per_1k, 0.5, 100),
        cost_per_quality_usd=estimate(cost_per_1k / 1000 / quality, 0.0005, 100),
        latency_s=Percentiles(p50=estimate(1.0, 0.2, 100), p95=estimate(p95, 0.5, 100)),
        attempts=103,
        retries=3,
        spend_usd=Decimal("0.9"),
    )


def outcome(
    *comparisons: Comparison,
    of: Plan | None = None,
    drift: DriftReport | None = None,
    trigger: Trigger = Trigger.SCHEDULE,
) -> Outcome:
    return Outcome(
        plan=of or plan(),
        run=run(trigger),
        status=RunStatus.DONE,
        summaries=(
            summary("prod-sonnet", cost_per_1k=9.1, quality=0.85, p95=4.4),
            summary("haiku", cost_per_1k=5.6, quality=0.84, p95=3.1),
        ),
        comparisons=comparisons,
        drift=drift,
        judge=JudgeReport(
            models=("judge",), judged=200, canaries=6, canaries_right=6, agreement=estimate(0.91, 0)
        ),
        models_usd=Decimal("11.90"),
        judge_usd=Decimal("2.30"),
        month_usd=Decimal("56.80"),
        next_slot=Slot(key="2026-04-05T06:00", at=datetime(2026, 4, 5, 6, 0, tzinfo=UTC)),
    )


def healthy() -> DriftReport:
    return DriftReport(primary=estimate(0.0, 0.03, 20))


def fallen() -> DriftReport:
    return DriftReport(
        traffic=estimate(0.01, 0.03, 100),
        primary=estimate(-0.2, 0.06, 40),
        judge=estimate(0.0, 0.02, 40),
        price=estimate(0.0, 0.0, 100),
        causes=("primary",),
        regressed=True,
        worst_segment=Segment(name="route", value="extract"),
        since_week="2026-W12",
    )


def opened(
    key: str = SWITCH_KEY,
    *,
    weeks_ago: float = 1,
    title: str = "Switch recommended: prod-sonnet → haiku",
    kind: AlertKind = AlertKind.SWITCH,
    signature: str = "",
) -> OpenAlert:
    at = NOW - timedelta(weeks=weeks_ago)
    return OpenAlert(
        key=key,
        kind=kind,
        opened_at=at,
        last_sent_at=at,
        title=title,
        run_id="earlier",
        thread="C0123ABCDEF:171.5",
        facts={"signature": signature},
    )


def regressed(*, weeks_ago: float = 1) -> OpenAlert:
    return opened(
        REGRESSED_KEY,
        weeks_ago=weeks_ago,
        title="prod-sonnet got worse",
        kind=AlertKind.REGRESSED,
    )
