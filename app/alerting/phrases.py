"""Sentences about Comparisons, drift, judges and spend, each with its interval and count."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

from app.alerting.outcome import Outcome
from app.alerting.words import (
    ABSENT,
    change_range,
    complement,
    count,
    difference,
    money,
    money_range,
    negated,
    percent,
    percent_range,
    seconds_range,
    signed,
)
from app.domain.cases import SkipReason
from app.domain.plans import Plan
from app.domain.prices import CostCheck
from app.domain.results import (
    ALL,
    CandidateState,
    Comparison,
    DriftReport,
    JudgeReport,
    SegmentComparison,
    Summary,
    VerdictKind,
)
from app.domain.runs import Slot
from app.stats.estimates import Estimate

_TURN = "turn"
"""Segment name under which first and later turns of conversations are told apart."""

_RUN_CAP = "budget.per_run_usd"
_MONTH_CAP = "budget.per_month_usd"
"""Caps by their names in the plan, which the reason of a Run that one of them ended gives."""

_FINISHING_MARGIN = Decimal("1.2")
_LEAST_ROOM = Decimal("0.05")
"""Of what a Run was charged: judging what is answered already may be all that is left."""

_NOT_MEASURED = {
    SkipReason.UNSUPPORTED: "with content that cannot be replayed",
    SkipReason.TOO_LONG: "that are too long",
    SkipReason.BINARY: "with binary content",
    SkipReason.UNREADABLE: "that cannot be read",
    SkipReason.CUT_BY_LOGGER: "that the logger cut",
    SkipReason.EXCLUDED: "of excluded segments",
    SkipReason.QUARANTINED: "in quarantine",
}


def value_sentence(comparison: Comparison, plan: Plan) -> str:
    """What the candidate saves at which quality, on how much evidence."""
    quality = (
        f"{_quality_word(comparison.quality_delta)} quality: "
        f"{difference(comparison.quality_delta)} on {_window(comparison)} "
        f"(allowed: {signed(-plan.policy.quality_margin)})"
    )
    saving = comparison.saving
    if saving is not None and saving.low > 0:
        return f"{comparison.candidate} saves {percent_range(saving)} at {quality}."
    value = comparison.value_ratio
    better = percent_range(complement(value)) if value is not None else ABSENT
    return (
        f"{comparison.candidate} costs {better} less per quality point, at {quality}; "
        f"the bill itself is {change_range(negated(saving))}."
    )


def candidate_line(comparison: Comparison) -> str:
    """One line on a candidate: its verdict, figures and what would settle it."""
    if comparison.verdict.kind is VerdictKind.UNMEASURED:
        return f"{comparison.candidate}: unmeasured. {' '.join(comparison.verdict.reasons[:1])}"
    figures = (
        f"quality {difference(comparison.quality_delta)}, "
        f"bill {change_range(negated(comparison.saving))} on {_window(comparison)}"
    )
    settle = comparison.tests.get("prompts_to_settle")
    tail = f"; about {settle:,} prompts would settle it" if isinstance(settle, int) else ""
    return f"{comparison.candidate}: {comparison.verdict.kind.value}, {figures}{tail}"


def switch_figures(
    summaries: Sequence[Summary], comparison: Comparison
) -> tuple[tuple[str, str], ...]:
    """Cost, quality and latency of both models, and what the switch is worth a month."""
    ours = _summary(summaries, comparison.primary)
    theirs = _summary(summaries, comparison.candidate)
    if ours is None or theirs is None:
        return ()
    saved = comparison.monthly_saving_usd
    return (
        (
            "Cost per 1,000 requests",
            f"{money_range(ours.cost_per_1k_usd)} → {money_range(theirs.cost_per_1k_usd)}",
        ),
        ("Quality (0–1)", f"{_level(ours.quality)} → {_level(theirs.quality)}"),
        (
            "p95 latency",
            f"{seconds_range(ours.latency_s.p95)} → {seconds_range(theirs.latency_s.p95)}",
        ),
        (
            "At last week's volume",
            f"about {money_range(saved, ' a month')}" if saved is not None else ABSENT,
        ),
    )


def caveats(comparison: Comparison, skipped: Mapping[str, int]) -> tuple[str, ...]:
    """What to mind before switching: segments that lose, what was not measured."""
    losing = [
        f"Before you switch: `{part.segment.key}` is worse, {difference(part.quality_delta)} on "
        f"{count(part.pairs, 'prompt')}: keep it on {comparison.primary}."
        for part in comparison.segments
        if part.is_worse
    ]
    missing = [
        f"{count(skipped[reason], 'logged prompt')} {words}"
        for reason, words in _NOT_MEASURED.items()
        if skipped.get(reason)
    ]
    not_measured = [f"Not measured: {named(missing)}."] if missing else []
    return (*losing, *not_measured, *comparison.verdict.caveats, *_turns(comparison))


def _turns(comparison: Comparison) -> tuple[str, ...]:
    """First and later turns of conversations apart, where both occur."""
    turns = [part for part in comparison.segments if part.segment.name == _TURN]
    told = [
        f"{part.segment.value} turns {_turn_figure(part)} on {count(part.pairs, 'prompt')}"
        for part in turns
    ]
    return (f"Quality by turn: {', '.join(told)}.",) if len(told) > 1 else ()


def _turn_figure(part: SegmentComparison) -> str:
    return "not compared" if part.quality_delta is None else difference(part.quality_delta)


def rivals(comparison: Comparison, order: Sequence[Comparison]) -> tuple[str, ...]:
    """How the candidate stands to others that qualify as well."""
    others = [
        c.candidate
        for c in order
        if c.state is CandidateState.ALERT and c.candidate != comparison.candidate
    ]
    if not others or comparison.state is not CandidateState.ALERT:
        return ()
    best = comparison.tests.get("best")
    if best == comparison.candidate:
        return (f"Best of {len(others) + 1} that qualify: beats {named(others)} head to head.",)
    if isinstance(best, str):
        return (f"{best} qualifies as well and is better value head to head.",)
    return (f"Tied with {named(others)}: no head-to-head winner yet.",)


def new_epochs(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Why evidence starts anew, said once where it holds for several candidates."""
    reasons = {c.epoch_reason: None for c in comparisons if c.epoch_reason and c.window_weeks <= 1}
    return tuple(f"Earlier weeks are not pooled with this one: {reason}." for reason in reasons)


def quiet_lead(outcome: Outcome) -> str:
    """That nothing is better value, and how good the primary is."""
    summary = _summary(outcome.summaries, outcome.plan.primary.name)
    if summary is None or summary.quality is None:
        return "No candidate is shown to be better value."
    return (
        f"No candidate is shown to be better value than {summary.model_name} "
        f"(quality {_point(summary.quality)} ±{summary.quality.half_width:.2f} on "
        f"{count(summary.cases, 'prompt')})."
    )


def regression_sentence(primary: str, drift: DriftReport | None) -> str:
    """By how much the primary fell, against which baseline, and where most."""
    if drift is None or drift.primary is None:
        return f"{primary} was compared with its own earlier replies."
    where = drift.worst_segment
    place = "" if where is None or where == ALL else f"; most in `{where.key}`"
    return (
        f"{primary} scores {difference(drift.primary)} against its own earlier replies to the "
        f"same {count(drift.primary.n, 'anchor prompt')}, old and new judged today by the same "
        f"judge{place}."
    )


def cause_of_regression(primary: str, drift: DriftReport | None) -> str:
    """What explains the fall: the primary itself, and what moved beside it."""
    beside = [cause for cause in (drift.causes if drift else ()) if cause != "primary"]
    if beside:
        return f"{primary} itself; the {named(beside)} changed as well."
    return f"{primary} itself, not the traffic and not the judge."


def drift_answers(drift: DriftReport | None) -> tuple[tuple[str, str], ...]:
    """Whether model, traffic, judge or price moved, each with its figure."""
    if drift is None:
        return ()
    asked = (
        ("Is it the model?", "primary", drift.primary),
        ("Is it the traffic?", "traffic", drift.traffic),
        ("Is it the judge?", "judge", drift.judge),
        ("Is it the price?", "price", drift.price),
    )
    is_primary = drift.regressed
    return tuple(
        (
            question,
            _answer(cause in drift.causes or (is_primary and cause == "primary"), change, cause),
        )
        for question, cause, change in asked
    )


def _answer(is_cause: bool, change: Estimate | None, cause: str) -> str:
    if change is None:
        return "not measured"
    figure = percent_range(change) if cause == "price" else difference(change)
    return f"{'yes' if is_cause else 'no'}, {figure}"


def bill_warnings(checks: Iterable[CostCheck]) -> tuple[str, ...]:
    """What to say of bills that do not agree with our prices."""
    return tuple(
        f"{check.model_name}: the gateway reports {money(check.reported_usd)} where our prices "
        f"make {money(check.computed_usd)} ({'+' if check.gap >= 0 else ''}"
        f"{percent(float(check.gap), 1)} over {count(check.calls, 'call')}): correct `price` or "
        "`price_as`, or look for a surcharge or discount of the gateway."
        for check in checks
        if check.is_off
    )


def judge_words(judge: JudgeReport) -> tuple[str, ...]:
    """How far the judge can be believed, in a few words."""
    if judge.agreement is not None:
        return (f"judges agree {percent(judge.agreement.point)}",)
    if judge.canaries:
        return (f"judge graded {judge.canaries_right} of {judge.canaries} canaries right",)
    return ("judge canaries are off",) if judge.models else ()


def spend_words(outcome: Outcome) -> tuple[str, ...]:
    """What the Run and the month cost, and when the next one is."""
    words = [f"run cost {money(outcome.total_usd)} (judge {money(outcome.judge_usd)})"]
    words.append(f"this month {money(outcome.month_usd)}")
    if outcome.next_slot is not None:
        words.append(f"next slot {slot_words(outcome.next_slot)}")
    return tuple(words)


def stored_words(outcome: Outcome) -> str:
    """How much of the Run is stored."""
    attempts = outcome.attempts
    if attempts is None:
        attempts = sum(s.attempts for s in outcome.summaries if s.segment == ALL)
    return f"{count(attempts, 'attempt')} on {count(outcome.run.cases_sampled, 'case')}"


def finishing_words(outcome: Outcome, left_usd: Decimal) -> str:
    """What finishing a partial Run costs, and what it takes.

    `--max-usd` covers the whole Run, what it has spent as well. A call is refused for what it could
    cost, so there must be more room than its likely cost.
    """
    budget, why = outcome.plan.budget, outcome.incomplete or ""
    if outcome.plan.privacy.store_bodies == "none":
        return "It cannot be finished: the plan keeps no prompt (privacy.store_bodies)."
    cap_usd, month_cap_usd = budget.per_run_usd, budget.per_month_usd
    charged_usd, room_usd = outcome.total_usd, left_usd * _FINISHING_MARGIN
    command = f"switchwise run --resume {outcome.run.run_id}"
    if _RUN_CAP in why:
        charged_usd = max(charged_usd, cap_usd or charged_usd)  # calls of unknown cost count too
        room_usd = max(room_usd, charged_usd * _LEAST_ROOM)
    total_usd = charged_usd + room_usd
    if _RUN_CAP in why or (cap_usd is not None and cap_usd < total_usd):
        command += f" --max-usd {total_usd.quantize(Decimal('0.01'), rounding=ROUND_CEILING)}"
    is_month_short = month_cap_usd is not None and month_cap_usd < outcome.month_usd + room_usd
    first = ""
    if _MONTH_CAP in why or is_month_short:
        first = f"raise {_MONTH_CAP} or wait for the next month, then "
    return f"Finishing costs about {money(left_usd)}: {first}`{command}`"


def slot_words(slot: Slot) -> str:
    """When a slot is."""
    return f"{slot.at:%a %d %b %Y %H:%M} UTC"


def named(names: Sequence[str]) -> str:
    """Names in a row: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _window(comparison: Comparison) -> str:
    return f"{count(comparison.pairs, 'prompt')} of {count(comparison.window_weeks, 'week')}"


def _quality_word(delta: Estimate | None) -> str:
    if delta is None:
        return "unmeasured"
    if delta.low > 0:
        return "better"
    return "slightly lower" if delta.high < 0 else "equal"


def _summary(summaries: Sequence[Summary], name: str) -> Summary | None:
    return next((s for s in summaries if s.model_name == name and s.segment == ALL), None)


def _point(estimate: Estimate | None) -> str:
    return ABSENT if estimate is None else f"{estimate.point:.2f}"


def _level(estimate: Estimate | None) -> str:
    return ABSENT if estimate is None else f"{_point(estimate)} ±{estimate.half_width:.2f}"
