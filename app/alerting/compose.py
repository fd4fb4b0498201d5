"""Decide what a Run has to say: findings per alert key, and the message each deserves."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from app.alerting import messages
from app.alerting.news import Finding, Reminders, is_acknowledged, is_news
from app.alerting.outcome import Messages, Outcome, switch_key
from app.alerting.phrases import bill_warnings
from app.domain.alerts import Alert, AlertKind, News, OpenAlert
from app.domain.plans import Plan
from app.domain.results import CandidateState, Comparison, VerdictKind
from app.domain.runs import RunStatus

_DETAIL = r"\([^()]*\)|\d+"


def compose_alerts(outcome: Outcome, known: Mapping[str, OpenAlert], *, now: datetime) -> Messages:
    """Compose what a Run has to say.

    1. A Run by hand says its result once and changes no alert.
    2. Each candidate's switch alert opens, is remembered, resolves or is adopted. While the primary
       is worse than it was nothing is recommended, until it is back or an operator knows why.
    3. The primary's regression alert opens or closes.
    4. A Run without a verdict says so once per reason.
    5. When nothing else was said, the digest follows the plan's policy.
    6. The first message tells where the gateway's bill differs from our prices.
    """
    if not outcome.run.trigger.counts:
        told = messages.by_hand(outcome, ranked(outcome.comparisons))
        return Messages(alerts=_with_bills([told], outcome))
    said: list[Alert] = []
    states: list[OpenAlert] = []
    findings = [*_switches(outcome, known, now), _regression(outcome), *_departed(outcome, known)]
    findings.append(_run(outcome))
    for alert, finding in findings:
        spoken, state = _tell(alert, finding, known, outcome, now)
        said.extend(spoken)
        states.extend(state)
    if not said and outcome.status is RunStatus.DONE and _digest_policy(outcome) == "always":
        is_worse = _is_worse(outcome, known)
        said.append(messages.quiet(outcome, _recommended(known), is_worse=is_worse))
    return Messages(alerts=_with_bills(said, outcome), states=tuple(states))


def _with_bills(said: Sequence[Alert], outcome: Outcome) -> tuple[Alert, ...]:
    """The messages, the first of which tells of bills that do not agree with our prices."""
    warnings = bill_warnings(outcome.bills)
    if not said or not warnings:
        return tuple(said)
    return (replace(said[0], lines=(*said[0].lines, *warnings)), *said[1:])


def ranked(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Candidates by the upper bound of R, recommended ones first."""

    def rank(comparison: Comparison) -> tuple[bool, float]:
        upper = comparison.value_ratio.high if comparison.value_ratio else float("inf")
        return comparison.state is not CandidateState.ALERT, upper

    return sorted(comparisons, key=rank)


# --- findings -----------------------------------------------------------------------------------


def _switches(
    outcome: Outcome, known: Mapping[str, OpenAlert], now: datetime
) -> list[tuple[Alert, Finding]]:
    regression = known.get(outcome.regression_key)
    is_understood = regression is not None and is_acknowledged(regression, now=now)
    is_held = _is_worse(outcome, known) and not is_understood
    is_back = regression is not None and _has_regressed(outcome) is False
    order = ranked(outcome.comparisons)
    told = [(messages.switch(outcome, comparison, order), comparison) for comparison in order]
    return [
        (
            alert,
            Finding(
                is_firing=_is_recommended(comparison),
                is_held=is_held or (is_back and alert.key in known),  # the good news tells of it
            ),
        )
        for alert, comparison in told
    ]


def _is_recommended(comparison: Comparison) -> bool | None:
    """Whether the candidate is recommended; None when this Run could not measure it."""
    if comparison.verdict.kind is VerdictKind.UNMEASURED:
        return None
    return comparison.state is CandidateState.ALERT


def _is_worse(outcome: Outcome, known: Mapping[str, OpenAlert]) -> bool:
    """Whether the primary is worse than it was; a Run that cannot tell leaves it as it was."""
    told = _has_regressed(outcome)
    return outcome.regression_key in known if told is None else told


def _has_regressed(outcome: Outcome) -> bool | None:
    drift = outcome.drift
    return drift.regressed if drift is not None and drift.primary is not None else None


def _regression(outcome: Outcome) -> tuple[Alert, Finding]:
    return messages.regression(outcome), Finding(is_firing=_has_regressed(outcome))


def _departed(outcome: Outcome, known: Mapping[str, OpenAlert]) -> list[tuple[Alert, Finding]]:
    """Alerts about models that are no longer what they were when it opened."""
    plan = outcome.plan
    expected = {switch_key(plan.name, candidate.name) for candidate in plan.candidates}
    expected.add(outcome.regression_key)
    return [
        (messages.departed(outcome, alert), Finding(is_firing=False))
        for key, alert in known.items()
        if alert.kind in {AlertKind.SWITCH, AlertKind.REGRESSED} and key not in expected
    ]


def _run(outcome: Outcome) -> tuple[Alert, Finding]:
    reason = outcome.incomplete or _unmeasured_reason(outcome)
    finding = Finding(
        is_firing=reason is not None, signature=_signature(reason or "", outcome.plan)
    )
    return messages.incomplete(outcome, reason), finding


def _unmeasured_reason(outcome: Outcome) -> str | None:
    """Why a complete Run could still not measure some candidate, if it could not."""
    judge = outcome.judge
    if not judge.is_trusted:
        return (
            f"The judge misgraded {judge.canaries - judge.canaries_right} of "
            f"{judge.canaries} canaries; its scores decide nothing."
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


def _signature(reason: str, plan: Plan) -> str:
    """A reason without its details: the same trouble with other figures is not news.

    The names of models stay whole: trouble with another version is trouble with another model.
    """
    names = {name for model in plan.models for name in (model.name, model.model)}
    spelt = sorted(map(re.escape, names), key=len, reverse=True)
    name_or_detail = re.compile(rf"(?<![\w.-])({'|'.join(spelt)})(?![\w-])|{_DETAIL}")
    return " ".join(name_or_detail.sub(lambda found: found[1] or "", reason).split())


# --- what is told -------------------------------------------------------------------------------


def _tell(
    alert: Alert,
    finding: Finding,
    known: Mapping[str, OpenAlert],
    outcome: Outcome,
    now: datetime,
) -> tuple[list[Alert], list[OpenAlert]]:
    """The message a finding deserves, if any, and the states it leaves behind."""
    before = known.get(alert.key)
    reminders = _reminders(outcome)
    news = is_news(before, finding, now=now, reminders=reminders)
    facts = {"signature": finding.signature}
    match news:
        case News.NOTHING | News.ACKNOWLEDGED | News.HELD | News.UNKNOWN:
            return [], []
        case News.DIGEST | News.ADOPTED:
            raise ValueError(f"{alert.key}: {news.value} is no state of an alert")
        case News.NEW:
            return [replace(alert, news=news)], [_opened(alert, outcome, facts, now)]
        case News.CHANGED | News.REMINDER | News.EXPIRED:
            assert before is not None  # noqa: S101 - is_news returns these for open alerts only
            told = alert
            if news is not News.CHANGED:
                told = messages.reminder(alert, before, outcome, every=reminders.every, now=now)
            state = replace(
                before,
                last_sent_at=now,
                title=told.title,
                run_id=outcome.run.run_id,
                facts=facts,
            )
            return [replace(told, news=news)], [state]
        case News.RESOLVED:
            assert before is not None  # noqa: S101 - as above
            return _closed(alert, before, known, outcome, now)
        case _:
            assert_never(news)


def _opened(
    alert: Alert, outcome: Outcome, facts: Mapping[str, object], now: datetime
) -> OpenAlert:
    return OpenAlert(
        key=alert.key,
        kind=alert.kind,
        opened_at=now,
        last_sent_at=now,
        title=alert.title,
        run_id=outcome.run.run_id,
        facts=facts,
    )


def _closed(
    alert: Alert,
    before: OpenAlert,
    known: Mapping[str, OpenAlert],
    outcome: Outcome,
    now: datetime,
) -> tuple[list[Alert], list[OpenAlert]]:
    """The end of an alert; a complete Run is its own good news.

    A primary that is back says what is recommended still, measured this week or not, which counts
    as the reminder that was held meanwhile.
    """
    closed = replace(before, resolved_at=now)
    match alert.kind:
        case AlertKind.RUN:
            return [], [closed]
        case AlertKind.REGRESSED if alert.key == outcome.regression_key:
            still = [
                (comparison, known[key])
                for comparison in ranked(outcome.comparisons)
                if (key := outcome.switch_key(comparison.candidate)) in known
                and _is_recommended(comparison) is not False
            ]
            told = messages.is_back(alert, before, outcome, [one for one, _ in still])
            return [told], [closed, *(replace(state, last_sent_at=now) for _, state in still)]
        case AlertKind.SWITCH if outcome.comparison_of(alert.key) is not None:
            return [messages.withdrawn(alert, before, outcome)], [closed]
        case _:
            return [alert], [closed]


def _recommended(known: Mapping[str, OpenAlert]) -> tuple[str, ...]:
    """Names of the candidates with an open switch alert."""
    return tuple(
        key.partition("/switch:")[2]
        for key, alert in known.items()
        if alert.kind is AlertKind.SWITCH and alert.resolved_at is None
    )


def _digest_policy(outcome: Outcome) -> str:
    """How much is told: everything, changes and reminders, or changes alone."""
    return outcome.plan.slack.digest if outcome.plan.slack else "always"


def _reminders(outcome: Outcome) -> Reminders:
    slack = outcome.plan.slack
    if slack is None:
        return Reminders()
    return Reminders(every=None if slack.digest == "never" else slack.remind_every)


__all__ = ["Messages", "Outcome", "compose_alerts", "ranked", "switch_key"]
