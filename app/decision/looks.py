"""Looks: one look a week at one candidate, and the state it leads to."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.plans import Policy
from app.domain.results import CandidateState
from app.stats.evidence import Evidence
from app.stats.rectifier import Rectifier
from app.stats.scan import ScanResult, State, TestPolicy, next_state, scan


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The policy as the tests read it, and the candidates that share its budget.

    Attributes:
        counts: Whether the look is one of the year's that the budget covers; those at Runs by hand
            are not: there may be any number of them.
    """

    policy: TestPolicy
    candidates: int
    counts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found.

    Attributes:
        weeks: The evidence looked at, oldest first; this week's last when it is measured.
        result: Every test on every window, None while no week is held.
        before, state: The state before and after the look.
        reason: Why the state is what it is.
        drops_history: Whether the evidence before this week is dropped.
        unmeasured: Why this week says nothing, None when it does.
    """

    weeks: tuple[Evidence, ...]
    result: ScanResult | None
    before: CandidateState
    state: CandidateState
    reason: str
    drops_history: bool = False
    unmeasured: str | None = None


def rules_of(
    policy: Policy, *, candidates: int, bias_allowance: float = 0.0, counts: bool = True
) -> Rules:
    """Return the rules of a plan's policy.

    Args:
        policy: The policy, fixed before the Run.
        candidates: Candidates of the plan, whether or not they were run.
        bias_allowance: Subtracted from the candidate's quality in both tests.
        counts: Whether the Run is the Run of its slot.
    """
    return Rules(
        policy=TestPolicy(
            quality_margin=policy.quality_margin,
            min_saving=policy.min_saving,
            success_margin=policy.success_margin,
            max_latency_p50_ratio=policy.max_latency_p50_ratio,
            max_latency_p95_ratio=policy.max_latency_p95_ratio,
            false_alerts_per_year=policy.false_alerts_per_year,
            min_pairs=policy.min_pairs,
            bias_allowance=bias_allowance,
        ),
        candidates=candidates,
        counts=counts,
    )


def look_at(
    held: Sequence[Evidence],
    this_week: Evidence | None,
    before: CandidateState,
    rules: Rules,
    *,
    rectifier: Rectifier | None = None,
    unmeasured: str | None = None,
) -> Look:
    """Look once at a candidate and return where it stands.

    Args:
        held: Earlier weeks of the epoch, oldest first.
        this_week: This week's evidence, None when there is none.
        before: The candidate's state so far.
        rules: Margins and budget.
        rectifier: Correction from human labels; it replaces the bias allowance.
        unmeasured: A reason from outside the evidence for which this week says nothing.
    """
    reason = unmeasured or _unmeasured(this_week)
    if reason is not None or this_week is None:
        after = CandidateState.QUIET if before is CandidateState.RESOLVED else before
        return Look(
            weeks=tuple(held),
            result=_scan(held, rules, rectifier),
            before=before,
            state=after,
            reason=f"not measured this week: {reason}",
            unmeasured=reason,
        )
    weeks = (*held, this_week)
    result = scan(weeks, rules.policy, candidates=rules.candidates, rectifier=rectifier)
    transition = next_state(State(before.value), result)
    return Look(
        weeks=weeks,
        result=result,
        before=before,
        state=CandidateState(transition.state.value),
        reason=transition.reason,
        drops_history=transition.drops_history,
    )


def _unmeasured(this_week: Evidence | None) -> str | None:
    return "there is no evidence" if this_week is None else this_week.unmeasured_because


def _scan(
    weeks: Sequence[Evidence], rules: Rules, rectifier: Rectifier | None
) -> ScanResult | None:
    if not weeks:
        return None
    return scan(weeks, rules.policy, candidates=rules.candidates, rectifier=rectifier)
