"""Compose the messages of a Run: what is news, in words, with figures and no prompt text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import assert_never

from app.alerting.news import Finding, Reminders, is_news
from app.alerting.words import (
    ABSENT,
    count,
    difference,
    money,
    money_range,
    percent,
    percent_range,
    seconds,
    signed,
)
from app.domain.alerts import Alert, AlertKind, News, OpenAlert
from app.domain.plans import Plan
from app.domain.results import (
    ALL,
    CandidateState,
    Comparison,
    DriftReport,
    JudgeReport,
    Segment,
    Summary,
    VerdictKind,
)
from app.domain.runs import Run, RunStatus, Slot
from app.stats.estimates import Estimate

_CONFIDENCE_NOTE = "± and ranges are 95 % intervals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything the messages of one Run are composed from."""

    plan: Plan
    run: Run
    status: RunStatus
    summaries: Sequence[Summary] = ()
    comparisons: Sequence[Comparison] = ()
    drift: DriftReport | None = None
    judge: JudgeReport = field(default_factory=JudgeReport)
    models_usd: Decimal = Decimal(0)
    judge_usd: Decimal = Decimal(0)
    month_usd: Decimal = Decimal(0)
    requests_per_week: float = 0.0
    next_slot: Slot | None = None
    incomplete: str | None = None
    finishing_usd: Decimal | None = None

    @property
    def total_usd(self) -> Decimal:
        """What the Run spent on models and judges."""
        return self.models_usd + self.judge_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Alerts for the outbox and the alert states they leave behind."""

    alerts: tuple[Alert, ...] = ()
    states: tuple[OpenAlert, ...] = ()


def compose_alerts(outcome: Outcome, known: Mapping[str, OpenAlert], *, now: datetime) -> Messages:
    """Compose what a Run has to say.

    1. A Run by hand says its result once and changes no alert.
    2. Each candidate's switch alert opens, is remembered, resolves or is adopted.
    3. The primary's regression alert opens or closes.
    4. A Run without a verdict says so once per reason.
    5. When nothing else was said, the digest follows the plan's policy.
    """
    if not outcome.run.trigger.counts:
        return Messages(alerts=(_by_hand(outcome),))
    said: list[Alert] = []
    states: list[OpenAlert] = []
    findings = (
        *_switch_findings(outcome, known),
        _regression_finding(outcome),
        _run_finding(outcome),
    )
    for alert, finding in findings:
        spoken, state = _tell(alert, finding, known.get(alert.key), outcome, now)
        said.extend(spoken)
        states.extend(state)
    if not said and outcome.status is RunStatus.DONE and _digest_policy(outcome) == "always":
        said.append(_quiet(outcome, known))
    return Messages(alerts=tuple(said), states=tuple(states))


def switch_key(plan_name: str, candidate: str) -> str:
    """The key of a candidate's switch alert."""
    return f"{plan_name}/switch:{candidate}"


def _tell(
    alert: Alert, finding: Finding, known: OpenAlert | None, outcome: Outcome, now: datetime
) -> tuple[list[Alert], list[OpenAlert]]:
    """The message a finding deserves, if any, and the state of its key afterwards."""
    news = is_news(known, finding, now=now, reminders=_reminders(outcome))
    facts = {"signature": finding.signature}
    match news:
        case News.NOTHING | News.DIGEST | News.ADOPTED:
            return [], []
        case News.NEW:
            state = OpenAlert(
                key=alert.key,
                kind=alert.kind,
                opened_at=now,
                last_sent_at=now,
                title=alert.title,
                run_id=outcome.run.run_id,
                facts=facts,
            )
            return [replace(alert, news=news)], [state]
        case News.CHANGED | News.REMINDER:
            assert known is not None  # noqa: S101 - is_news returns these for known alerts only
            told = _reminder(alert, known, outcome, now) if news is News.REMINDER else alert
            return [replace(told, news=news)], [replace(known, last_sent_at=now, facts=facts)]
        case News.RESOLVED:
            assert known is not None  # noqa: S101 - as above
            closed = replace(known, resolved_at=now)
            if alert.kind is AlertKind.RUN:
                return [], [closed]
            return [_resolved(alert, known, outcome)], [closed]
        case _:
            assert_never(news)


def _switch_findings(
    outcome: Outcome, known: Mapping[str, OpenAlert]
) -> list[tuple[Alert, Finding]]:
    findings: list[tuple[Alert, Finding]] = []
    ranked = _ranked(outcome.comparisons)
    for comparison in ranked:
        key = switch_key(outcome.plan.name, comparison.candidate)
        findings.append(
            (_switch(outcome, comparison, key, ranked), Finding(is_firing=_fires(comparison)))
        )
    compared = {switch_key(outcome.plan.name, c.candidate) for c in outcome.comparisons}
    for key, open_alert in known.items():
        if open_alert.kind is AlertKind.SWITCH and key not in compared:
            findings.append((_gone(outcome, open_alert), Finding(is_firing=False)))
    return findings


def _fires(comparison: Comparison) -> bool | None:
    """Whether the candidate is recommended; None when this Run could not measure it."""
    if comparison.state is CandidateState.ALERT:
        return True
    if comparison.verdict.kind is VerdictKind.UNMEASURED:
        return None
    return False


def _ranked(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Candidates by the upper bound of R, recommended ones first."""

    def rank(comparison: Comparison) -> tuple[bool, float]:
        upper = comparison.value_ratio.high if comparison.value_ratio else float("inf")
        return comparison.state is not CandidateState.ALERT, upper

    return sorted(comparisons, key=rank)


# --- the five messages ------------------------------------------------------------------------


def _switch(
    outcome: Outcome, comparison: Comparison, key: str, ranked: Sequence[Comparison]
) -> Alert:
    plan = outcome.plan
    return Alert(
        key=key,
        kind=AlertKind.SWITCH,
        news=News.NEW,
        run_id=outcome.run.run_id,
        title=f"Switch recommended: {comparison.primary} → {comparison.candidate}",
        lead=_value_sentence(comparison, plan),
        fields=_figures(outcome, comparison),
        lines=(*_before_you_switch(comparison), *_rivals(comparison, ranked)),
        links=_links(outcome),
        context=(
            *_judge_words(outcome.judge),
            f"run cost {money(outcome.total_usd)}",
            f"not switching? switchwise ack {key} --reason …",
            _CONFIDENCE_NOTE,
        ),
        chart=chart_of(outcome.summaries),
    )


def _reminder(alert: Alert, known: OpenAlert, outcome: Outcome, now: datetime) -> Alert:
    weeks = max(1, round((now - known.opened_at) / timedelta(weeks=1)))
    comparison = next(
        (c for c in outcome.comparisons if switch_key(outcome.plan.name, c.candidate) == alert.key),
        None,
    )
    lines = [*alert.lines]
    if comparison is not None and comparison.monthly_saving_usd is not None:
        since = _scaled(comparison.monthly_saving_usd, weeks * 7 / 30)
        lines.append(f"Not switching has cost about {money_range(since)} since then.")
    every = _reminders(outcome).every
    if every is not None:
        lines.append(f"Next reminder: {(now + every):%d %B %Y}.")
    title = f"Still recommended (week {weeks}): {alert.title.partition(': ')[2]}"
    if alert.kind is not AlertKind.SWITCH:
        title = f"Still so (week {weeks}): {alert.title}"
    return replace(alert, title=title, lines=tuple(lines))


def _resolved(alert: Alert, known: OpenAlert, outcome: Outcome) -> Alert:
    if alert.news is News.ADOPTED:
        return alert
    if alert.kind is AlertKind.REGRESSED:
        return replace(
            alert,
            news=News.RESOLVED,
            title=f"{outcome.plan.primary.name} is back",
            lead=f"{outcome.plan.primary.name} answers its anchor prompts as well as before "
            f"it got worse; the alert opened on {known.opened_at:%d %B} is closed.",
            lines=(),
            chart=None,
        )
    return replace(
        alert,
        news=News.RESOLVED,
        title=f"No longer recommended: {known.title.partition(': ')[2] or known.title}",
        lead=_no_longer(alert, outcome),
        lines=_before_you_switch_of(alert, outcome),
        chart=None,
    )


def _no_longer(alert: Alert, outcome: Outcome) -> str:
    for comparison in outcome.comparisons:
        if switch_key(outcome.plan.name, comparison.candidate) == alert.key:
            anew = " ".join(_new_epochs([comparison]))
            reasons = comparison.verdict.reasons
            why = reasons[0] if reasons else "The evidence no longer supports the switch."
            return f"{anew} {why}" if anew else why
    return "The candidate is no longer part of the plan."


def _before_you_switch_of(alert: Alert, outcome: Outcome) -> tuple[str, ...]:
    for comparison in outcome.comparisons:
        if switch_key(outcome.plan.name, comparison.candidate) == alert.key:
            return (f"Latest: {_value_sentence(comparison, outcome.plan)}",)
    return ()


def _gone(outcome: Outcome, known: OpenAlert) -> Alert:
    """The candidate left the plan: adopted when it is the primary now."""
    name = known.key.rpartition("switch:")[2]
    adopted = name == outcome.plan.primary.name
    return Alert(
        key=known.key,
        kind=AlertKind.SWITCH,
        news=News.ADOPTED if adopted else News.RESOLVED,
        run_id=outcome.run.run_id,
        title=f"Adopted: {name} is the primary now" if adopted else f"Withdrawn: {name}",
        lead=f"{known.title} is closed as adopted."
        if adopted
        else f"{name} is no longer a candidate of the plan; its alert is closed.",
    )


def _regression_finding(outcome: Outcome) -> tuple[Alert, Finding]:
    plan, drift = outcome.plan, outcome.drift
    key = f"{plan.name}/regressed:{plan.primary.name}"
    firing = drift.regressed if drift is not None and drift.primary is not None else None
    alert = Alert(
        key=key,
        kind=AlertKind.REGRESSED,
        news=News.NEW,
        run_id=outcome.run.run_id,
        title=f"{plan.primary.name} got worse",
        lead=_regression_sentence(plan.primary.name, drift),
        fields=_drift_fields(drift),
        lines=(
            *(drift.sentences if drift else ()),
            "No switch is advised until the cause is known.",
            "Closes when the anchor prompts are answered as well as before.",
        ),
        links=_links(outcome),
        context=(f"run cost {money(outcome.total_usd)}", _CONFIDENCE_NOTE),
    )
    return alert, Finding(is_firing=firing)


def _regression_sentence(primary: str, drift: DriftReport | None) -> str:
    if drift is None or drift.primary is None:
        return f"{primary} was compared with its own earlier replies."
    change = difference(drift.primary)
    where = _segment_words(drift.worst_segment)
    return (
        f"{primary} scores {change} on {count(drift.primary.n, 'anchor prompt')}, "
        f"old and new replies judged today by the same judge{where}."
    )


def _drift_fields(drift: DriftReport | None) -> tuple[tuple[str, str], ...]:
    if drift is None:
        return ()
    return (
        ("The model itself", difference(drift.primary)),
        ("Is it the traffic?", difference(drift.traffic)),
        ("Is it the judge?", difference(drift.judge)),
        ("Is it the price?", difference(drift.price)),
    )


def _run_finding(outcome: Outcome) -> tuple[Alert, Finding]:
    reason = outcome.incomplete or _unmeasured_reason(outcome)
    plan = outcome.plan
    lines = [f"Stored: {_stored_words(outcome)}"]
    if outcome.finishing_usd is not None:
        lines.append(
            f"Finishing costs about {money(outcome.finishing_usd)}: "
            f"switchwise run --resume {outcome.run.run_id}"
        )
    if outcome.next_slot is not None:
        lines.append(f"Next slot: {_slot_words(outcome.next_slot)}")
    is_partly = outcome.status is RunStatus.DONE
    title = "Run incomplete: no verdict this week"
    if is_partly:
        title = "Run incomplete: no verdict on some models this week"
    alert = Alert(
        key=f"{plan.name}/run",
        kind=AlertKind.RUN,
        news=News.NEW,
        run_id=outcome.run.run_id,
        title=f"{title} ({plan.name})",
        lead=reason or "The run is complete.",
        lines=tuple(lines),
        links=_links(outcome),
        context=(f"run cost {money(outcome.total_usd)}",),
    )
    return alert, Finding(is_firing=reason is not None, signature=_digits_out(reason or ""))


def _unmeasured_reason(outcome: Outcome) -> str | None:
    """Why a complete Run could still not measure some candidate, if it could not."""
    if not outcome.judge.is_trusted:
        return (
            f"The judge misgraded {outcome.judge.canaries - outcome.judge.canaries_right} of "
            f"{outcome.judge.canaries} canaries; its scores decide nothing."
        )
    reasons = [
        f"{c.candidate}: {c.verdict.reasons[0]}"
        for c in outcome.comparisons
        if c.verdict.kind is VerdictKind.UNMEASURED and c.verdict.reasons and _is_trouble(c)
    ]
    return " ".join(reasons) or None


def _is_trouble(comparison: Comparison) -> bool:
    """Whether an unmeasured candidate needs an operator, and not merely more weeks."""
    return bool(comparison.tests.get("trouble"))


def _quiet(outcome: Outcome, known: Mapping[str, OpenAlert]) -> Alert:
    plan = outcome.plan
    open_keys = [key for key, alert in known.items() if alert.resolved_at is None]
    still = [key.rpartition(":")[2] for key in open_keys if "/switch:" in key]
    title = f"All quiet: keep {plan.primary.name}"
    if still:
        title = f"No change: {', '.join(still)} still recommended"
    return Alert(
        key=f"{plan.name}/quiet",
        kind=AlertKind.QUIET,
        news=News.DIGEST,
        run_id=outcome.run.run_id,
        title=title,
        lead=_still_lead(still, outcome) if still else _quiet_lead(outcome),
        lines=(
            *(candidate_line(comparison, plan) for comparison in outcome.comparisons),
            *_new_epochs(outcome.comparisons),
        ),
        links=_links(outcome),
        context=_spend_words(outcome),
    )


def _new_epochs(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Why evidence starts anew, said once where it holds for several candidates."""
    reasons = {c.epoch_reason: None for c in comparisons if c.epoch_reason and c.window_weeks <= 1}
    return tuple(f"Earlier weeks are not pooled with this one: {reason}." for reason in reasons)


def _by_hand(outcome: Outcome) -> Alert:
    switches = [c for c in _ranked(outcome.comparisons) if c.verdict.kind is VerdictKind.SWITCH]
    if outcome.status is not RunStatus.DONE:
        base, _ = _run_finding(outcome)
    elif switches:
        key = switch_key(outcome.plan.name, switches[0].candidate)
        base = _switch(outcome, switches[0], key, switches)
    else:
        base = _quiet(outcome, {})
    return replace(
        base,
        key=f"{outcome.plan.name}/hand:{outcome.run.run_id}",
        kind=AlertKind.HAND,
        news=News.DIGEST,
        title=f"{base.title} (run by hand)",
        context=(*base.context, "run by hand: opens no alert, pools no evidence"),
    )


# --- sentences --------------------------------------------------------------------------------


def _value_sentence(comparison: Comparison, plan: Plan) -> str:
    window = f"{count(comparison.pairs, 'prompt')} of {count(comparison.window_weeks, 'week')}"
    quality = (
        f"{_quality_word(comparison.quality_delta)} quality: "
        f"{difference(comparison.quality_delta)} on {window} "
        f"(allowed: {signed(-plan.policy.quality_margin)})"
    )
    saving = comparison.saving
    if saving is not None and saving.low > 0:
        return f"{comparison.candidate} saves {percent_range(saving)} at {quality}."
    value = comparison.value_ratio
    better = percent_range(_complement(value)) if value is not None else ABSENT
    return (
        f"{comparison.candidate} is better value, {better} less per quality point, at {quality}; "
        f"the bill itself changes by {percent_range(_negated(saving))}."
    )


def _quality_word(delta: Estimate | None) -> str:
    if delta is None:
        return "unmeasured"
    if delta.low > 0:
        return "better"
    return "slightly lower" if delta.high < 0 else "equal"


def candidate_line(comparison: Comparison, plan: Plan) -> str:
    """One line on a candidate: its verdict, figures and what would settle it."""
    figures = (
        f"quality {difference(comparison.quality_delta)}, "
        f"bill {percent_range(_negated(comparison.saving))} on "
        f"{count(comparison.pairs, 'prompt')} of {count(comparison.window_weeks, 'week')}"
    )
    settle = comparison.tests.get("prompts_to_settle")
    tail = f"; about {settle:,} prompts would settle it" if isinstance(settle, int) else ""
    reason = comparison.verdict.reasons[0] if comparison.verdict.reasons else ""
    if comparison.verdict.kind is VerdictKind.UNMEASURED:
        return f"{comparison.candidate}: unmeasured. {reason}"
    del plan
    return f"{comparison.candidate}: {comparison.verdict.kind.value}, {figures}{tail}"


def _figures(outcome: Outcome, comparison: Comparison) -> tuple[tuple[str, str], ...]:
    ours = _summary(outcome.summaries, comparison.primary)
    theirs = _summary(outcome.summaries, comparison.candidate)
    if ours is None or theirs is None:
        return ()
    return (
        (
            "Cost per 1,000 requests",
            f"{_point_money(ours.cost_per_1k_usd)} → {_point_money(theirs.cost_per_1k_usd)}",
        ),
        ("Quality (0–1)", f"{_point(ours.quality)} → {_point(theirs.quality)}"),
        (
            "p95 latency",
            f"{seconds(_value(ours.latency_s.p95))} → {seconds(_value(theirs.latency_s.p95))}",
        ),
        ("At last week's volume, a month", f"about {money_range(comparison.monthly_saving_usd)}"),
    )


def _before_you_switch(comparison: Comparison) -> tuple[str, ...]:
    losing = [
        f"{_segment_name(part.segment)} is worse, {difference(part.quality_delta)} on "
        f"{count(part.pairs, 'prompt')}: keep it on {comparison.primary}."
        for part in comparison.segments
        if part.is_worse
    ]
    caveats = [f"Before you switch: {sentence}" for sentence in losing]
    return (*caveats, *comparison.verdict.caveats)


def _rivals(comparison: Comparison, ranked: Sequence[Comparison]) -> tuple[str, ...]:
    others = [
        c.candidate
        for c in ranked
        if c.state is CandidateState.ALERT and c.candidate != comparison.candidate
    ]
    if not others or comparison.state is not CandidateState.ALERT:
        return ()
    best = comparison.tests.get("best")
    if best == comparison.candidate:
        return (f"Best of {len(others) + 1} that qualify; beats {', '.join(others)} head to head.",)
    if isinstance(best, str):
        return (f"{best} qualifies as well and is better value head to head.",)
    return (f"Tied with {', '.join(others)}: no head-to-head winner yet.",)


def _judge_words(judge: JudgeReport) -> tuple[str, ...]:
    if judge.agreement is not None:
        return (f"judges agree {percent(judge.agreement.point)}",)
    if judge.canaries:
        return (f"judge graded {judge.canaries_right} of {judge.canaries} canaries right",)
    return ("judge canaries are off",) if judge.models else ()


def _still_lead(still: Sequence[str], outcome: Outcome) -> str:
    """What the latest figures say of those that are recommended already."""
    said = [
        _value_sentence(comparison, outcome.plan)
        for comparison in outcome.comparisons
        if comparison.candidate in still and comparison.verdict.kind is VerdictKind.SWITCH
    ]
    return " ".join(said) or "This Run does not change what was recommended."


def _quiet_lead(outcome: Outcome) -> str:
    summary = _summary(outcome.summaries, outcome.plan.primary.name)
    if summary is None or summary.quality is None:
        return "No candidate is shown to be better value."
    return (
        f"No candidate is shown to be better value than {summary.model_name} "
        f"(quality {_point(summary.quality)} ±{summary.quality.half_width:.2f} on "
        f"{count(summary.cases, 'prompt')})."
    )


def _spend_words(outcome: Outcome) -> tuple[str, ...]:
    words = [f"run cost {money(outcome.total_usd)} (judge {money(outcome.judge_usd)})"]
    words.append(f"this month {money(outcome.month_usd)}")
    if outcome.next_slot is not None:
        words.append(f"next slot {_slot_words(outcome.next_slot)}")
    return (*words, _CONFIDENCE_NOTE)


def _stored_words(outcome: Outcome) -> str:
    attempts = sum(s.attempts for s in outcome.summaries if s.segment == ALL)
    return f"{count(attempts, 'attempt')} of {count(outcome.run.cases_sampled, 'case')}"


def chart_of(summaries: Sequence[Summary]) -> dict[str, object] | None:
    """Cost per success against quality, with intervals, as plain data for a chart."""
    points = [
        {
            "name": s.model_name,
            "role": s.role.value,
            "cost": _bounds(s.cost_per_success_usd),
            "quality": _bounds(s.quality),
            "cases": s.cases,
        }
        for s in summaries
        if s.segment == ALL and s.quality is not None and s.cost_per_success_usd is not None
    ]
    return {"points": points} if points else None


# --- small parts ------------------------------------------------------------------------------


def _digest_policy(outcome: Outcome) -> str:
    return outcome.plan.slack.digest if outcome.plan.slack else "always"


def _reminders(outcome: Outcome) -> Reminders:
    slack = outcome.plan.slack
    if slack is None:
        return Reminders()
    return Reminders(every=None if slack.digest == "never" else slack.remind_every)


def _links(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    run_id = outcome.run.run_id
    return (
        ("Report", f"/runs/{run_id}"),
        ("Cases that got worse", f"/runs/{run_id}/cases"),
        ("Why this verdict", f"/runs/{run_id}/explain"),
    )


def _summary(summaries: Sequence[Summary], name: str) -> Summary | None:
    return next((s for s in summaries if s.model_name == name and s.segment == ALL), None)


def _segment_words(segment: Segment | None) -> str:
    return "" if segment is None or segment == ALL else f"; most in {_segment_name(segment)}"


def _segment_name(segment: Segment) -> str:
    return f"{segment.name}={segment.value}"


def _slot_words(slot: Slot) -> str:
    return f"{slot.at:%a %d %b %Y %H:%M} UTC"


def _point(estimate: Estimate | None) -> str:
    return ABSENT if estimate is None else f"{estimate.point:.2f}"


def _point_money(estimate: Estimate | None) -> str:
    return ABSENT if estimate is None else money(estimate.point)


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.point


def _bounds(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else [estimate.low, estimate.point, estimate.high]


def _complement(estimate: Estimate) -> Estimate:
    return replace(estimate, point=1 - estimate.point, low=1 - estimate.high, high=1 - estimate.low)


def _negated(estimate: Estimate | None) -> Estimate | None:
    if estimate is None:
        return None
    return replace(estimate, point=-estimate.point, low=-estimate.high, high=-estimate.low)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return replace(
        estimate,
        point=estimate.point * factor,
        low=estimate.low * factor,
        high=estimate.high * factor,
    )


def _digits_out(text: str) -> str:
    """A reason without its numbers: the same trouble with other figures is not news."""
    return "".join("#" if character.isdigit() else character for character in text)
