"""Each kind of message with made-up figures, marked as a test."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from app.alerting.compose import Outcome, compose_alerts, switch_key
from app.cli.session import Session
from app.daemon.slots import next_slots
from app.domain.alerts import Alert, AlertKind, OpenAlert
from app.domain.plans import Plan, SlackSettings
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
from app.ports import Clock
from app.stats.estimates import Estimate
from app.wiring import clock_for, notifier_for

_SINCE = timedelta(weeks=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What a Run found, and which alerts were open before it."""

    kind: AlertKind
    outcome: Outcome
    known: Mapping[str, OpenAlert]


def send_trials(session: Session, plan: Plan, *, only_print: bool) -> list[tuple[str, bool]]:
    """Deliver one message of each kind; tell what became of each, and whether it arrived."""
    clock = clock_for(session.settings)
    alerts = trial_messages(plan, clock.now())
    target = replace(plan, slack=None, webhook=None) if only_print else plan
    return asyncio.run(_deliver(target, clock, alerts))


def trial_messages(plan: Plan, now: datetime) -> tuple[Alert, ...]:
    """One message of each kind about the plan's own models."""
    return tuple(_marked(_composed(scene, now), plan) for scene in _scenes(plan, now))


async def _deliver(plan: Plan, clock: Clock, alerts: tuple[Alert, ...]) -> list[tuple[str, bool]]:
    notifier = notifier_for(plan, clock, sys.stdout)
    told: list[tuple[str, bool]] = []
    try:
        for alert in alerts:
            delivery = await notifier.deliver(alert, thread=None)
            state = "delivered" if delivery.is_delivered else f"not delivered: {delivery.error}"
            told.append((f"{notifier.name}: {alert.title}: {state}", delivery.is_delivered))
    finally:
        await notifier.close()
    return told


def _composed(scene: _Scene, now: datetime) -> Alert:
    messages = compose_alerts(scene.outcome, scene.known, now=now)
    return next(alert for alert in messages.alerts if alert.kind is scene.kind)


def _marked(alert: Alert, plan: Plan) -> Alert:
    return replace(
        alert,
        key=f"{plan.name}/test",
        title=f"Test: {alert.title}",
        context=(*alert.context, "a test with made-up figures: nothing was measured"),
        links=(),
    )


def _scenes(plan: Plan, now: datetime) -> tuple[_Scene, ...]:
    if plan.slack is None:  # the console gets the same messages as a channel would
        plan = replace(plan, slack=SlackSettings())
    if plan.slack is not None:
        plan = replace(plan, slack=replace(plan.slack, digest="always"))
    quiet = _outcome(plan, now)
    switch = replace(quiet, comparisons=(_comparison(plan, VerdictKind.SWITCH),))
    key = switch_key(plan.name, plan.candidates[0].name)
    opened = OpenAlert(
        key=key,
        kind=AlertKind.SWITCH,
        opened_at=now - _SINCE,
        last_sent_at=now - timedelta(days=3_650),
        title=f"Switch recommended: {plan.primary.name} → {plan.candidates[0].name}",
    )
    worse = replace(quiet, drift=_drift())
    partial = replace(
        quiet,
        status=RunStatus.PARTIAL,
        comparisons=(),
        incomplete="The budget of $25.00 a run was reached after 61 of 100 prompts.",
        finishing_usd=Decimal("9.80"),
    )
    return (
        _Scene(kind=AlertKind.SWITCH, outcome=switch, known={}),
        _Scene(kind=AlertKind.SWITCH, outcome=switch, known={key: opened}),
        _Scene(kind=AlertKind.REGRESSED, outcome=worse, known={}),
        _Scene(kind=AlertKind.RUN, outcome=partial, known={}),
        _Scene(kind=AlertKind.QUIET, outcome=quiet, known={}),
    )


def _outcome(plan: Plan, now: datetime) -> Outcome:
    upcoming = next_slots(plan.schedule, now, 1) if plan.schedule else ()
    return Outcome(
        plan=plan,
        run=_run(plan, now),
        status=RunStatus.DONE,
        summaries=tuple(
            _summary(model.name, model.model, is_primary=model is plan.primary, plan=plan)
            for model in (plan.primary, plan.candidates[0])
        ),
        comparisons=(_comparison(plan, VerdictKind.UNDECIDED),),
        drift=DriftReport(primary=_estimate(0.0, 0.03, 20)),
        judge=JudgeReport(
            models=tuple(judge.name for judge in plan.judges),
            judged=200,
            canaries=6,
            canaries_right=6,
            agreement=_estimate(0.91, 0.03, 200),
        ),
        models_usd=Decimal("11.90"),
        judge_usd=Decimal("2.30"),
        month_usd=Decimal("56.80"),
        next_slot=upcoming[0] if upcoming else None,
    )


def _run(plan: Plan, now: datetime) -> Run:
    return Run(
        run_id="00000000-0000-0000-0000-000000000000",
        plan_name=plan.name,
        trigger=Trigger.SCHEDULE,
        status=RunStatus.DONE,
        slot=Slot(key=f"{now:%Y-%m-%dT%H:%M}", at=now),
        seed=0,
        created_at=now,
        cases_requested=100,
        cases_sampled=100,
    )


def _summary(name: str, model: str, *, is_primary: bool, plan: Plan) -> Summary:
    cost, quality, slowest = (0.0091, 0.85, 4.4) if is_primary else (0.0056, 0.84, 3.1)
    return Summary(
        model_name=name,
        model=model,
        role=plan.model(name).role,
        segment=ALL,
        cases=100,
        successes=99,
        unscored=0,
        quality=_estimate(quality, 0.02, 100),
        success_rate=_estimate(0.99, 0.01, 100),
        cost_per_success_usd=_estimate(cost, cost / 12, 100),
        cost_per_1k_usd=_estimate(cost * 1_000, cost * 80, 100),
        cost_per_quality_usd=_estimate(cost / quality, cost / 12, 100),
        latency_s=Percentiles(
            p50=_estimate(slowest / 3, 0.2, 100), p95=_estimate(slowest, 0.6, 100)
        ),
        attempts=103,
        retries=3,
        spend_usd=Decimal(str(round(cost * 100, 4))),
    )


def _comparison(plan: Plan, kind: VerdictKind) -> Comparison:
    is_switch = kind is VerdictKind.SWITCH
    losing = SegmentComparison(
        segment=Segment(name="route", value="extract"),
        pairs=62,
        quality_delta=_estimate(-0.09, 0.05, 62),
        saving=_estimate(0.36, 0.08, 62),
        value_ratio=_estimate(0.71, 0.07, 62),
        is_worse=True,
    )
    return Comparison(
        candidate=plan.candidates[0].name,
        primary=plan.primary.name,
        pairs=400,
        window_weeks=4,
        wins=88,
        ties=217,
        losses=95,
        quality_delta=_estimate(-0.01, 0.02, 400),
        saving=_estimate(0.38, 0.06, 400),
        value_ratio=_estimate(0.63, 0.05, 400),
        success_delta=_estimate(0.0, 0.01, 400),
        latency_p50_ratio=0.8,
        latency_p95_ratio=0.7,
        monthly_saving_usd=_estimate(1_140.0, 195.0, 400),
        verdict=Verdict(kind=kind, reasons=("Made-up figures show how this message looks.",)),
        state=CandidateState.ALERT if is_switch else CandidateState.QUIET,
        segments=(losing,) if is_switch else (),
    )


def _drift() -> DriftReport:
    return DriftReport(
        traffic=_estimate(0.01, 0.03, 100),
        primary=_estimate(-0.20, 0.06, 20),
        judge=_estimate(0.0, 0.02, 20),
        price=_estimate(0.0, 0.01, 100),
        causes=("primary",),
        regressed=True,
        since_week="2026-W45",
        sentences=("The model itself changed: its anchors score −0.20 ±0.06.",),
    )


def _estimate(point: float, half: float, n: int) -> Estimate:
    return Estimate(point=point, low=point - half, high=point + half, confidence=0.95, n=n)
