"""Adaptive spending: after each block, which candidates need no more Cases this week.

A candidate is dropped when it can no longer qualify this week, benched to one block a week when
its recent past is poor, and watched with 40 Cases once it is recommended. Nothing stops early for
success: more prompts feed the pool. What was measured is pooled either way.
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
    """

    so_far: Evidence | None
    held: Sequence[Evidence] = ()
    state: CandidateState = CandidateState.QUIET
    rectifier: Rectifier | None = None


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
        )
    return drop_reasons(known, rules, blocks_done=blocks_done)


def drop_reasons(
    known: Mapping[str, BlockEvidence], rules: Rules, *, blocks_done: int
) -> dict[str, str]:
    """Return the candidates to drop after `blocks_done` blocks, each with the reason."""
    reasons = {name: _reason(candidate, rules, blocks_done) for name, candidate in known.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def active_candidates(
    known: Mapping[str, BlockEvidence], rules: Rules, *, blocks_done: int
) -> tuple[str, ...]:
    """Return the candidates that get the next block."""
    dropped = drop_reasons(known, rules, blocks_done=blocks_done)
    return tuple(name for name in known if name not in dropped)


def _reason(candidate: BlockEvidence, rules: Rules, blocks_done: int) -> str | None:
    if blocks_done < 1 or candidate.so_far is None:
        return None
    if candidate.state is CandidateState.ALERT:
        if blocks_done * BLOCK_CASES < MONITORING_CASES:
            return None
        return f"already recommended: {MONITORING_CASES} Cases a week watch over it"
    if _pairs_held(candidate) < rules.policy.min_pairs:
        return None  # a verdict, even a poor one, needs so many pairs
    recent = _recent_z(candidate, rules)
    if is_benched(recent):
        return f"benched to one block a week: z = {signed(recent or 0.0)} over its last weeks"
    z = block_z(candidate.so_far, rules.policy, rectifier=candidate.rectifier)
    if drops_after_block(z, blocks_done - 1):
        return f"cannot qualify this week: z = {signed(z)} after {candidate.so_far.n} Cases"
    return None


def _pairs_held(candidate: BlockEvidence) -> float:
    measured = [week for week in candidate.held if week.unmeasured_because is None]
    held = sum(week.independent_pairs for week in measured[-max(WINDOWS) :])
    return held + (candidate.so_far.independent_pairs if candidate.so_far else 0.0)


def _recent_z(candidate: BlockEvidence, rules: Rules) -> float | None:
    """Return min(z_D, z_R) of the recent past before this week, None without one."""
    if not candidate.held:
        return None
    short = scan(
        candidate.held,
        rules.policy,
        candidates=rules.candidates,
        rectifier=candidate.rectifier,
    ).short
    return None if short is None else short.plain_z
