"""Which candidates get no further block this week."""

from dataclasses import replace

import numpy as np
import pytest

from app.decision.adaptive import BlockEvidence, drop_candidates, drop_reasons
from app.decision.decide import WeekOfEvidence, decide
from app.decision.looks import rules_of
from app.domain.plans import Policy
from app.domain.results import CandidateState, PairedEvidence
from app.stats.evidence import Evidence, pair_evidence
from app.stats.scan import DROP_FIRST_BLOCK_Z, block_z
from tests.fakes.small_plans import NOW, plan, price

RULES = rules_of(Policy(), candidates=3)


def block(quality: float = 0.0, cost: float = 0.5, n: int = 20, seed: int = 0) -> Evidence:
    rng = np.random.default_rng([seed, n])
    q_p = rng.uniform(0.6, 0.8, n)
    x_p = rng.gamma(9.0, 0.001, n)
    return pair_evidence(
        x_p * cost * np.exp(0.1 * rng.normal(size=n)),
        x_p,
        np.clip(q_p + quality + 0.05 * rng.normal(size=n), 0, 1),
        q_p,
    )


GOOD_WEEK, BAD_WEEK = block(n=100), block(quality=-0.3, n=100)
POOR_WEEK = block(quality=-0.085, n=40)
"""Not poor enough for the bench, and no hope either."""


def test_a_hopeless_candidate_is_dropped_after_the_first_block() -> None:
    known = {"bad": BlockEvidence(so_far=block(quality=-0.3), held=[POOR_WEEK])}

    reasons = drop_reasons(known, RULES, blocks_done=1)

    assert reasons["bad"].startswith("cannot qualify this week: z = −")
    assert reasons["bad"].endswith("after 20 Cases")


def test_one_unlucky_block_does_not_end_the_week_of_a_candidate_with_good_weeks() -> None:
    unlucky = block(quality=-0.15)
    alone = {"c": BlockEvidence(so_far=unlucky, held=[POOR_WEEK])}
    backed = {"c": BlockEvidence(so_far=unlucky, held=[GOOD_WEEK])}

    assert block_z(unlucky, RULES.policy) < DROP_FIRST_BLOCK_Z
    assert list(drop_reasons(alone, RULES, blocks_done=1)) == ["c"]
    assert drop_reasons(backed, RULES, blocks_done=1) == {}


def test_a_benched_candidate_gets_its_week_back_when_its_price_falls() -> None:
    dear = [block(cost=1.0, n=20, seed=week) for week in range(3)]
    cheap = [week.repriced(0.5, 1.0) for week in dear]
    before = {"c": BlockEvidence(so_far=block(cost=1.0), held=dear)}
    after = {"c": BlockEvidence(so_far=block(cost=0.5), held=cheap)}

    assert "benched" in drop_reasons(before, RULES, blocks_done=1)["c"]
    assert drop_reasons(after, RULES, blocks_done=1) == {}


def test_six_weeks_without_hope_bench_to_one_block() -> None:
    held = [block(quality=-0.06, n=100, seed=week) for week in range(6)]
    known = {"c": BlockEvidence(so_far=block(), held=held)}

    reason = drop_reasons(known, RULES, blocks_done=1)["c"]

    assert reason.startswith("benched to one block a week: after 6 weeks")
    assert drop_reasons({"c": replace(known["c"], held=held[:4])}, RULES, blocks_done=1) == {}


def test_a_good_candidate_gets_every_block() -> None:
    known = {"good": BlockEvidence(so_far=block(), held=[GOOD_WEEK])}

    assert drop_reasons(known, RULES, blocks_done=1) == {}


def test_the_first_block_is_judged_more_leniently_than_later_ones() -> None:
    # By hand: D' = (40 × −0.078 − ½)/40.5 = −0.0894, so z ≈ (−0.0894 + 0.05)/√(0.0475/40.5) = −1.15.
    middling = pair_evidence([0.5, 0.6] * 20, [1.0, 1.2] * 20, [0.622] * 40, [0.7] * 40)
    known = {"c": BlockEvidence(so_far=middling)}

    first = drop_reasons(known, RULES, blocks_done=1)
    later = drop_reasons(known, RULES, blocks_done=2)

    assert (list(first), list(later)) == ([], ["c"])


def test_a_poor_recent_past_benches_to_one_block() -> None:
    known = {"c": BlockEvidence(so_far=block(), held=[BAD_WEEK])}

    assert drop_reasons(known, RULES, blocks_done=1)["c"].startswith("benched to one block a week")


def test_a_recommended_candidate_is_watched_with_forty_cases() -> None:
    known = {
        "c": BlockEvidence(so_far=block(quality=-0.3), held=[GOOD_WEEK], state=CandidateState.ALERT)
    }

    assert drop_reasons(known, RULES, blocks_done=1) == {}
    assert "40 Cases" in drop_reasons(known, RULES, blocks_done=2)["c"]


def test_nobody_is_dropped_before_a_verdict_has_its_pairs() -> None:
    known = {"bad": BlockEvidence(so_far=block(quality=-0.3))}

    assert drop_reasons(known, RULES, blocks_done=1) == {}
    enough = {"bad": BlockEvidence(so_far=block(quality=-0.3, n=40))}
    assert list(drop_reasons(enough, RULES, blocks_done=2)) == ["bad"]


@pytest.mark.parametrize("blocks_done", [0, 1])
def test_nobody_is_dropped_without_evidence(blocks_done: int) -> None:
    known = {"c": BlockEvidence(so_far=None, held=[BAD_WEEK])}

    assert drop_reasons(known, RULES, blocks_done=blocks_done) == {}


def test_stored_weeks_and_states_of_the_plan_are_used() -> None:
    of = plan("good", "bad")
    pairs = {
        name: PairedEvidence(candidate=name, primary="p", evidence=evidence)
        for name, evidence in (("good", GOOD_WEEK), ("bad", BAD_WEEK))
    }
    week = WeekOfEvidence(
        plan=of,
        week="2026-W12",
        run_ids=("r",),
        now=NOW,
        pairs=pairs,
        prices={name: price() for name in ("p", "good", "bad")},
    )
    first = decide(week)
    blocks = {name: PairedEvidence(candidate=name, primary="p", evidence=block()) for name in pairs}

    dropped = drop_candidates(
        replace(week, week="2026-W13", pairs=blocks, history=first.evidence, states=first.states),
        blocks_done=1,
    )

    assert list(dropped) == ["bad"]
    assert dropped["bad"].startswith("benched")
