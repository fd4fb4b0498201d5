"""The first rule that matches, each rule reached by figures made for it."""

from collections.abc import Callable

import numpy as np
import pytest

from app.decision import sentences
from app.decision.looks import Look, Rules, look_at, rules_of
from app.decision.verdicts import verdict_of
from app.domain.plans import Policy
from app.domain.results import CandidateState, VerdictKind
from app.stats.estimates import Estimate
from app.stats.evidence import Evidence, pair_evidence

RULES = rules_of(Policy(), candidates=2)
N = 400


def pairs(
    *,
    quality: float = 0.0,
    cost: float = 0.5,
    n: int = N,
    spread: float = 0.05,
    slower: float = 1.0,
    lost: int = 0,
    noise: float = 0.1,
    seed: int = 0,
) -> Evidence:
    """A week in which the candidate differs by set amounts."""
    rng = np.random.default_rng(seed)
    q_p = rng.uniform(0.6, 0.8, n)
    x_p = rng.gamma(9.0, 0.001, n)
    factor = cost * np.exp(noise * rng.normal(size=n))
    seconds = rng.gamma(16.0, 0.1, n)
    return pair_evidence(
        x_p * factor,
        x_p,
        np.clip(q_p + quality + spread * rng.normal(size=n), 0, 1),
        q_p,
        ok_c=np.arange(n) >= lost,
        latency_c=seconds * slower,
        latency_p=seconds,
    )


def look(
    week: Evidence | None,
    before: CandidateState = CandidateState.QUIET,
    rules: Rules = RULES,
    held: tuple[Evidence, ...] = (),
) -> Look:
    return look_at(held, week, before, rules)


@pytest.mark.parametrize(
    ("week", "kind", "says"),
    [
        (pairs, VerdictKind.SWITCH, "less per quality point: quality"),
        (
            lambda: pairs(lost=60, quality=0.1),
            VerdictKind.UNRELIABLE,
            "only the primary succeeded on 60 and only the candidate on 0 of 400 independent pairs",
        ),
        (lambda: pairs(quality=-0.2), VerdictKind.WORSE, "Loses more quality than allowed"),
        (
            lambda: pairs(slower=1.6),
            VerdictKind.SLOWER,
            "p50 1.60 times the primary's (allowed: 1.25)",
        ),
        (lambda: pairs(cost=1.3), VerdictKind.DEARER, "Costs more per quality point"),
        (lambda: pairs(cost=0.96), VerdictKind.KEEP, "The saving cannot reach 10 %"),
        (
            lambda: pairs(n=60, cost=0.88, noise=0.8, spread=0.2),
            VerdictKind.UNDECIDED,
            "Neither shown nor ruled out",
        ),
        (lambda: pairs(n=20), VerdictKind.UNMEASURED, "Too few pairs: 20 independent ones"),
    ],
)
def test_each_verdict_has_its_deciding_numbers(
    week: Callable[[], Evidence], kind: VerdictKind, says: str
) -> None:
    verdict = verdict_of(look(week()), RULES)

    assert verdict.kind is kind
    assert says in verdict.reasons[0]


def test_a_recommendation_by_a_run_that_does_not_count_promises_no_chance_of_false_alerts() -> None:
    by_hand = rules_of(Policy(), candidates=2, counts=False)
    counted, shown = (verdict_of(look(pairs(), rules=r), r) for r in (RULES, by_hand))

    assert shown.kind is VerdictKind.SWITCH
    (promise,) = set(counted.reasons) - set(shown.reasons)
    assert promise == "The chance of any false alert in a year is at most 5 % over 2 candidates."


def test_a_promising_candidate_is_watched() -> None:
    week = pairs(n=120, cost=0.4, noise=0.9, spread=0.1, seed=5)

    found = look(week)

    assert found.state is CandidateState.WATCH
    assert verdict_of(found, RULES).kind is VerdictKind.WATCH


def test_an_open_recommendation_stays_while_it_holds() -> None:
    found = look(pairs(n=60, cost=0.8), CandidateState.ALERT)

    assert found.state is CandidateState.ALERT
    assert verdict_of(found, RULES).kind is VerdictKind.SWITCH


def test_a_recommendation_that_no_longer_holds_is_resolved_and_called_by_its_cause() -> None:
    found = look(pairs(quality=-0.3, n=60), CandidateState.ALERT, held=(pairs(), pairs(seed=1)))

    assert found.state is CandidateState.RESOLVED
    assert found.drops_history
    assert verdict_of(found, RULES).kind is not VerdictKind.SWITCH


def test_an_unmeasured_week_changes_no_state_and_shows_the_weeks_before() -> None:
    found = look_at(
        (pairs(),), None, CandidateState.ALERT, RULES, unmeasured="the judge cannot be believed"
    )

    verdict = verdict_of(found, RULES)

    assert found.state is CandidateState.ALERT
    assert verdict.kind is VerdictKind.UNMEASURED
    assert verdict.reasons[0] == "Not measured this week: the judge cannot be believed."
    assert verdict.reasons[1].startswith("Before this week: quality")


def test_a_resolution_is_reported_once_even_if_the_next_week_is_unmeasured() -> None:
    found = look_at((), None, CandidateState.RESOLVED, RULES)

    assert found.state is CandidateState.QUIET


def test_a_tail_the_sample_cannot_support_blocks_the_switch_and_says_so() -> None:
    found = look(pairs(n=99, noise=0.05))

    verdict = verdict_of(found, RULES)

    assert found.state is not CandidateState.ALERT
    assert any("p95 latencies" in reason for reason in verdict.reasons)


def test_better_value_at_a_higher_bill_is_not_called_a_saving() -> None:
    rng = np.random.default_rng(1)
    q_p = rng.uniform(0.2, 0.4, N)
    x_p = rng.gamma(9.0, 0.001, N)
    seconds = rng.gamma(16.0, 0.1, N)
    week = pair_evidence(x_p * 1.2, x_p, q_p * 2, q_p, latency_c=seconds, latency_p=seconds)

    verdict = verdict_of(look(week), RULES)

    assert verdict.kind is VerdictKind.SWITCH
    assert any("better value, not a saving" in reason for reason in verdict.reasons)


def test_the_naive_winner_by_ratio_alone_is_called_worse() -> None:
    terrible = pairs(quality=-0.5, cost=0.01)

    verdict = verdict_of(look(terrible), RULES)

    assert verdict.kind is VerdictKind.WORSE


def test_no_sentence_claims_equality_from_absence_of_a_difference() -> None:
    for week in (pairs(), pairs(cost=0.96), pairs(n=60, cost=0.88, noise=0.8, spread=0.2)):
        text = " ".join(verdict_of(look(week), RULES).reasons).lower()
        assert "no significant difference" not in text
        assert "equal" not in text


def interval(low: float, high: float) -> Estimate:
    return Estimate(point=(low + high) / 2, low=low, high=high, confidence=0.95, n=9)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.31, 0.44, "31–44 % lower"),
        (-39.0, -24.0, "25 to 40 times as high"),
        (-2e9, -24.0, "25 to over 1,000 times as high"),
        (-2e9, 0.5, "between 50 % of the primary's and over 1,000 times as high"),
    ],
)
def test_a_bill_beyond_all_measure_is_told_without_a_row_of_digits(
    low: float, high: float, says: str
) -> None:
    assert sentences.saving_range(interval(low, high)) == says


def test_a_ratio_beyond_all_measure_is_told_without_a_row_of_digits() -> None:
    assert sentences.ratio(interval(0.5, 1.5)) == "1.00 (0.50–1.50)"
    assert sentences.ratio(interval(2.0, 1e300)) == "over 1,000 (2.00–over 1,000)"


def test_a_worse_and_dearer_candidate_is_not_called_better_value() -> None:
    verdict = verdict_of(look(pairs(quality=-0.3, cost=2.0)), RULES)

    assert verdict.kind is VerdictKind.WORSE
    assert "higher." in verdict.reasons[1]


def test_next_to_no_quality_has_no_cost_per_quality_point() -> None:
    n = 60
    q_c, q_p = np.full(n, 1e-30), np.full(n, 0.8)
    week = pair_evidence(np.full(n, 0.01), np.full(n, 0.02), q_c, q_p)

    found = look(week)

    assert found.result is not None
    assert found.result.value_ratio is None
    assert found.result.windows[0].refusal is not None
