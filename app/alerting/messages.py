"""The messages: what each says, with figures and their intervals and no prompt text.

Commands and other literals stand in backticks, which every notifier can show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from app.alerting.outcome import Outcome
from app.alerting.phrases import (
    candidate_line,
    cause_of_regression,
    caveats,
    drift_answers,
    finishing_words,
    judge_words,
    named,
    new_epochs,
    quiet_lead,
    regression_sentence,
    rivals,
    slot_words,
    spend_words,
    stored_words,
    switch_figures,
    value_sentence,
)
from app.alerting.words import money, money_range, scaled
from app.domain.alerts import Alert, AlertKind, News, OpenAlert
from app.domain.plans import Plan
from app.domain.results import ALL, Comparison, Summary, VerdictKind
from app.domain.runs import RunStatus
from app.stats.estimates import Estimate

INTERVALS = "± and ranges are 95 % intervals"


def switch(outcome: Outcome, comparison: Comparison, order: Sequence[Comparison]) -> Alert:
    """A candidate is recommended, with what to mind before switching."""
    key = outcome.switch_key(comparison.candidate)
    return Alert(
        key=key,
        kind=AlertKind.SWITCH,
        news=News.NEW,
        run_id=outcome.run.run_id,
        title=f"Switch recommended: {comparison.primary} → {comparison.candidate}",
        lead=value_sentence(comparison, outcome.plan),
        fields=switch_figures(outcome.summaries, comparison),
        lines=(*caveats(comparison, outcome.skipped), *rivals(comparison, order)),
        links=_links(outcome),
        context=(
            *judge_words(outcome.judge),
            f"run cost {money(outcome.total_usd)}",
            f"not switching? `switchwise ack {key} --reason …`",
            INTERVALS,
        ),
        chart=chart_of(outcome.summaries),
    )


def reminder(
    alert: Alert,
    before: OpenAlert,
    outcome: Outcome,
    *,
    every: timedelta | None,
    now: datetime,
) -> Alert:
    """An open alert told again: the latest figures, what it has cost, how to end the reminders."""
    weeks = max(1, round((now - before.opened_at) / timedelta(weeks=1)))
    lines: list[str] = []
    if before.acknowledged_reason is not None and before.acknowledged_until is not None:
        lines.append(
            f"The acknowledgement of {before.acknowledged_until:%d %B} has run out: "
            f"{before.acknowledged_reason}"
        )
    comparison = outcome.comparison_of(alert.key)
    if comparison is not None and comparison.monthly_saving_usd is not None:
        since = scaled(comparison.monthly_saving_usd, (now - before.opened_at) / timedelta(days=30))
        lines.append(f"Not switching since {before.opened_at:%d %B}: about {money_range(since)}.")
    lines += alert.lines
    ending = f"`switchwise ack {alert.key} --reason …` ends the reminders"
    if every is not None:
        ending += f"; the next one comes on {now + every:%d %B %Y}"
    lines.append(f"{ending}.")
    title = f"Still so (week {weeks}): {alert.title}"
    if alert.kind is AlertKind.SWITCH:
        title = f"Still recommended (week {weeks}): {_pair(alert.title)}"
    context = tuple(part for part in alert.context if "switchwise ack" not in part)
    return replace(alert, title=title, lines=tuple(lines), context=context)


def withdrawn(alert: Alert, before: OpenAlert, outcome: Outcome) -> Alert:
    """A candidate is no longer recommended, and why."""
    comparison = outcome.comparison_of(alert.key)
    reasons = comparison.verdict.reasons if comparison is not None else ()
    anew = new_epochs([comparison]) if comparison is not None else ()
    latest = f"Latest: {value_sentence(comparison, outcome.plan)}" if comparison is not None else ""
    return replace(
        alert,
        news=News.RESOLVED,
        title=f"No longer recommended: {_pair(before.title)}",
        lead=" ".join([*anew, *reasons[:1]]) or "The evidence no longer supports the switch.",
        fields=(),
        lines=(latest,) if latest else (),
        context=(f"run cost {money(outcome.total_usd)}", INTERVALS),
        chart=None,
    )


def regression(outcome: Outcome) -> Alert:
    """The primary got worse: by how much, where, why, since when, and when it closes."""
    plan, drift = outcome.plan, outcome.drift
    since = (f"Since: week {drift.since_week}.",) if drift and drift.since_week else ()
    return Alert(
        key=outcome.regression_key,
        kind=AlertKind.REGRESSED,
        news=News.NEW,
        run_id=outcome.run.run_id,
        title=f"{plan.primary.name} got worse",
        lead=regression_sentence(plan.primary.name, drift),
        fields=drift_answers(drift),
        lines=(
            f"Cause: {cause_of_regression(plan.primary.name, drift)}",
            *since,
            (
                "No switch is advised until the cause is known: "
                f"`switchwise ack {outcome.regression_key} --reason …` says that it is."
            ),
            "Closes when two weeks of anchor prompts are answered as well as before.",
        ),
        links=_links(outcome),
        context=(f"run cost {money(outcome.total_usd)}", INTERVALS),
    )


def is_back(
    alert: Alert, before: OpenAlert, outcome: Outcome, still: Sequence[Comparison]
) -> Alert:
    """The primary is as good as it was; what was recommended before may be acted upon again."""
    name = outcome.plan.primary.name
    return replace(
        alert,
        news=News.RESOLVED,
        title=f"{name} is back",
        lead=f"{name} answers its anchor prompts as well as before it got worse; "
        f"the alert of {before.opened_at:%d %B} is closed.",
        lines=tuple(_as_before(comparison, outcome.plan) for comparison in still),
        chart=None,
    )


def _as_before(comparison: Comparison, plan: Plan) -> str:
    if comparison.verdict.kind is VerdictKind.UNMEASURED:
        return f"Recommended before, not measured this week: {comparison.candidate}."
    return f"Recommended as before: {value_sentence(comparison, plan)}"


def departed(outcome: Outcome, before: OpenAlert) -> Alert:
    """The model left the plan or changed its part; a candidate may have been adopted."""
    name = before.key.partition(":")[2]
    primary = outcome.plan.primary.name
    title, lead = f"Withdrawn: {name}", f"{name} is no longer a candidate; its alert is closed."
    news = News.RESOLVED
    if before.kind is AlertKind.REGRESSED:
        lead = f"{name} is no longer the primary; its alert is closed."
    elif name == primary:
        news = News.ADOPTED
        title, lead = f"Adopted: {name} is the primary now", f"“{before.title}” was acted upon."
    return Alert(
        key=before.key,
        kind=before.kind,
        news=news,
        run_id=outcome.run.run_id,
        title=title,
        lead=lead,
    )


def incomplete(outcome: Outcome, reason: str | None) -> Alert:
    """There is no verdict, or none on some models: why, what is stored, what finishing takes."""
    plan = outcome.plan
    lines = [f"Stored: {stored_words(outcome)}."]
    if outcome.finishing_usd is not None:
        lines.append(finishing_words(outcome, outcome.finishing_usd))
    if outcome.next_slot is not None:
        lines.append(f"Next slot: {slot_words(outcome.next_slot)}.")
    what = "no verdict this week"
    if outcome.status is RunStatus.DONE:
        what = "no verdict on some models this week"
    return Alert(
        key=f"{plan.name}/run",
        kind=AlertKind.RUN,
        news=News.NEW,
        run_id=outcome.run.run_id,
        title=f"Run incomplete: {what} ({plan.name})",
        lead=reason or "The run is complete.",
        lines=tuple(lines),
        links=_links(outcome),
        context=(f"run cost {money(outcome.total_usd)}",),
    )


def quiet(outcome: Outcome, recommended: Sequence[str], *, is_worse: bool = False) -> Alert:
    """The digest of a Run without news: one line per candidate, the spend, the next slot."""
    plan = outcome.plan
    title, lead = f"All quiet: keep {plan.primary.name}", quiet_lead(outcome)
    if is_worse:
        title = f"No change: {plan.primary.name} is still worse"
        lead = "No switch is advised until the cause is known."
    elif recommended:
        title = f"No change: {named(recommended)} still recommended"
        lead = _still_lead(recommended, outcome)
    return Alert(
        key=f"{plan.name}/quiet",
        kind=AlertKind.QUIET,
        news=News.DIGEST,
        run_id=outcome.run.run_id,
        title=title,
        lead=lead,
        lines=(*map(candidate_line, outcome.comparisons), *new_epochs(outcome.comparisons)),
        links=_links(outcome),
        context=(*spend_words(outcome), INTERVALS),
    )


def by_hand(outcome: Outcome, order: Sequence[Comparison]) -> Alert:
    """The result of a Run by hand, whatever it is."""
    switches = [one for one in order if one.verdict.kind is VerdictKind.SWITCH]
    if outcome.status is not RunStatus.DONE:
        told = incomplete(outcome, outcome.incomplete)
    elif switches:
        told = switch(outcome, switches[0], switches)
    else:
        told = quiet(outcome, ())
    return replace(
        told,
        key=f"{outcome.plan.name}/hand:{outcome.run.run_id}",
        kind=AlertKind.HAND,
        news=News.DIGEST,
        title=f"{told.title} (run by hand)",
        context=(
            *(part for part in told.context if "switchwise ack" not in part),
            "run by hand: opens no alert, pools no evidence",
        ),
    )


def chart_of(summaries: Sequence[Summary]) -> Mapping[str, object] | None:
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


def _still_lead(recommended: Sequence[str], outcome: Outcome) -> str:
    """What the latest figures say of those that are recommended already."""
    said = [
        value_sentence(comparison, outcome.plan)
        for comparison in outcome.comparisons
        if comparison.candidate in recommended and comparison.verdict.kind is VerdictKind.SWITCH
    ]
    return " ".join(said) or "This run does not change what was recommended."


def _pair(title: str) -> str:
    """`primary → candidate` of a switch alert's title."""
    return title.partition(": ")[2] or title


def _links(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    run_id = outcome.run.run_id
    return (
        ("Report", f"/runs/{run_id}"),
        ("Cases that got worse", f"/runs/{run_id}/cases"),
        ("Why this verdict", f"/runs/{run_id}/explain"),
    )


def _bounds(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else [estimate.low, estimate.point, estimate.high]
