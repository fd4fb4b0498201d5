"""Adaptive spending: after each block, which candidates need no more Cases this week.

A candidate is dropped when this week's blocks speak against it and its last weeks together with
them do too, benched to one block a week when its recent past is poor or six weeks leave no hope,
and watched with 40 Cases once it is recommended. Nothing stops early for success: more prompts feed
the pool. What was measured is pooled either way.

Both the bench and the last weeks are read at today's prices: a candidate that was too dear gets
full weeks again in the very week its price falls, and one unlucky block does not end such a week.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.decision.decide import WeekOfEvidence, standing_of
from app.decision.looks import Rules, rules_of
from app.decision.sentences import signed
from app.domain.results import CandidateState
from app.stats.critical_values import WINDOWS
from app.stats.evidence import Evidence
from app.stats.rectifier import Rectifier
from app.stats.scan import (
    BLOCK_CASES,
    MONITORING_CASES,
    ScanResult,
    block_z,
    drops_after_block,
    is_benched,
    scan,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEvidence:
    """What is known of a candidate between two blocks.

    Attributes:
        so_far: Evidence of this week's blocks, None while they carry none.
        held: Earlier weeks of the epoch, oldest first.
        state: The state it is in.
        rectifier: Correction from human labels, if any.
        full_week: Cases of a week without adaptive spending, None when unknown: then those of the
            largest week seen.
    """

    so_far: Evidence | None
    held: Sequence[Evidence] = ()
    state: CandidateState = CandidateState.QUIET
    rectifier: Rectifier | None = None
    full_week: int | None = None

    @property
    def cases_of_full_week(self) -> int:
        """Cases of a week in which no block is left out."""
        seen = [week.n for week in (*self.held, self.so_far) if week is not None]
        return self.full_week or max(seen, default=BLOCK_CASES)


def drop_candidates(week: WeekOfEvidence, *, blocks_done: int) -> dict[str, str]:
    """Return the candidates that get no further block this week, each with the reason.

    Asked again after a later block, it names those already dropped again: nothing but stored
    results decides.

    Args:
        week: As for `decide`, with the pairs of the blocks done so far.
        blocks_done: Blocks of the week that every remaining candidate has been run on.
    """
    rules = rules_of(
        week.plan.policy,
        candidates=len(week.plan.candidates),
        bias_allowance=week.plan.judge.bias_allowance if week.plan.judge else 0.0,
    )
    known = {}
    for candidate in week.plan.candidates:
        standing = standing_of(candidate, week)
        pairs = week.pairs.get(candidate.name)
        known[candidate.name] = BlockEvidence(
            so_far=pairs.evidence if pairs else None,
            held=[row.evidence for row in standing.held.weeks],
            state=standing.before,
            rectifier=week.rectifiers.get(candidate.name),
            full_week=week.plan.sample.n,
        )
    return drop_reasons(known, rules, blocks_done=blocks_done)


def drop_reasons(
    known: Mapping[str, BlockEvidence], rules: Rules, *, blocks_done: int
) -> dict[str, str]:
    """Return the candidates to drop after `blocks_done` blocks, each with the reason."""
    reasons = {name: _reason(candidate, rules, blocks_done) for name, candidate in known.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _reason(candidate: BlockEvidence, rules: Rules, blocks_done: int) -> str | None:
    if blocks_done < 1 or candidate.so_far is None:
        return None
    if candidate.state is CandidateState.ALERT:
        if blocks_done * BLOCK_CASES < MONITORING_CASES:
            return None
        return f"already recommended: {MONITORING_CASES} Cases a week watch over it"
    if _pairs_held(candidate) < rules.policy.min_pairs:
        return None  # a verdict, even a poor one, needs so many pairs
    past = _look(candidate.held, candidate, rules)
    if past is not None and past.is_benched(candidate.cases_of_full_week):
        return f"benched to one block a week: {_why_benched(past)}"
    z = block_z(candidate.so_far, rules.policy, rectifier=candidate.rectifier)
    if not drops_after_block(z, blocks_done - 1):
        return None
    lately = _look([*candidate.held, candidate.so_far], candidate, rules)
    if lately is not None and lately.short is not None:
        z = max(z, lately.short.plain_z)
    if drops_after_block(z, blocks_done - 1):
        return f"cannot qualify this week: z = {signed(z)} after {candidate.so_far.n} Cases"
    return None


def _pairs_held(candidate: BlockEvidence) -> float:
    measured = [week for week in candidate.held if week.unmeasured_because is None]
    held = sum(week.independent_pairs for week in measured[-max(WINDOWS) :])
    return held + (candidate.so_far.independent_pairs if candidate.so_far else 0.0)


def _look(weeks: Sequence[Evidence], candidate: BlockEvidence, rules: Rules) -> ScanResult | None:
    if not weeks:
        return None
    return scan(weeks, rules.policy, candidates=rules.candidates, rectifier=candidate.rectifier)


def _why_benched(past: ScanResult) -> str:
    short = past.short
    if short is not None and is_benched(short.plain_z):
        return f"z = {signed(short.plain_z)} over its last weeks"
    weeks = past.windows[-1].weeks
    return f"after {weeks} weeks even 12 full ones would hardly reach the critical value"
