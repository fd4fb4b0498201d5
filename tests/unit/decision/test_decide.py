"""This week's evidence, the weeks before and the policy become verdicts and states."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from scipy import stats

from app.decision.decide import Decision, WeekOfEvidence, decide
from app.domain.json_values import canonical
from app.domain.plans import Plan, Policy
from app.domain.results import CandidateState, JudgeReport, PairedEvidence, VerdictKind
from app.stats.evidence import Evidence, pair_evidence
from tests.fakes.small_plans import NOW, plan, price

PRICES = {"p": price(), "good": price("1", "5"), "bad": price("0.1", "0.1")}
PLAN = plan("good", "bad")


def pairs(
    candidate: str,
    *,
    seed: int = 0,
    quality: float = 0.0,
    cost: float = 0.5,
    n: int = 400,
    segments: Sequence[str] = (),
) -> PairedEvidence:
    """A week's pairs; the last of the segments loses 0.3 of quality."""
    rng = np.random.default_rng([seed, n])
    q_p = rng.uniform(0.6, 0.8, n)
    x_p = rng.gamma(9.0, 0.001, n)
    route = np.arange(n) % max(len(segments), 1)
    loses = 0.3 * (route == len(segments) - 1) if len(segments) > 1 else np.zeros(n)
    q_c = np.clip(q_p + quality - loses + 0.05 * rng.normal(size=n), 0, 1)
    x_c = x_p * cost * np.exp(0.1 * rng.normal(size=n))
    seconds = rng.gamma(16.0, 0.1, n)

    def evidence(rows: np.ndarray) -> Evidence:
        return pair_evidence(
            x_c[rows],
            x_p[rows],
            q_c[rows],
            q_p[rows],
            latency_c=seconds[rows],
            latency_p=seconds[rows],
        )

    return PairedEvidence(
        candidate=candidate,
        primary="p",
        evidence=evidence(np.arange(n)),
        segments={
            f"route={name}": evidence(np.flatnonzero(route == k)) for k, name in enumerate(segments)
        },
    )


def week(number: int = 13, of: Plan = PLAN, **given: Any) -> WeekOfEvidence:
    """A week in which `good` halves the bill at equal quality and `bad` ruins quality."""
    base = WeekOfEvidence(
        plan=of,
        week=f"2026-W{number:02d}",
        run_ids=(f"run-{number}",),
        now=NOW + timedelta(weeks=number - 13),
        pairs={
            "good": pairs("good", seed=number),
            "bad": pairs("bad", seed=number, quality=-0.5, cost=0.01),
        },
        prices=PRICES,
        evaluation={"judge": {"version": "1"}},
        requests_per_month=3000.0,
    )
    return replace(base, **given)


def after(*decisions: Decision) -> dict[str, Any]:
    """What later weeks find stored."""
    states = {state.candidate: state for one in decisions for state in one.states}
    return {
        "history": [row for one in decisions for row in one.evidence],
        "states": list(states.values()),
    }


def verdicts(decision: Decision) -> dict[str, VerdictKind]:
    return {c.candidate: c.verdict.kind for c in decision.comparisons}


def test_the_good_candidate_is_recommended_and_the_terrible_cheap_one_is_not() -> None:
    found = decide(week())

    assert verdicts(found) == {"good": VerdictKind.SWITCH, "bad": VerdictKind.WORSE}
    assert {s.candidate: s.state for s in found.states} == {
        "good": CandidateState.ALERT,
        "bad": CandidateState.QUIET,
    }
    assert found.ranking.best == "good"


def test_figures_are_those_of_the_pooled_rows() -> None:
    one, two = (pairs("good", seed=s).evidence for s in (1, 2))
    assert one is not None
    assert two is not None

    first = decide(week(12, pairs={"good": pairs("good", seed=1)}))
    found = decide(week(13, pairs={"good": pairs("good", seed=2)}, **after(first)))
    comparison = found.comparisons[0]

    mean = (np.array(one.mean) + np.array(two.mean)) / 2
    cov = (np.array(one.cov) + np.array(two.cov)) / 4
    t = stats.t.ppf(0.975, 798)
    assert (comparison.pairs, comparison.window_weeks) == (800, 2)
    assert comparison.quality_delta is not None
    assert comparison.quality_delta.point == pytest.approx(mean[2] - mean[3])
    half = t * np.sqrt(cov[2, 2] + cov[3, 3] - 2 * cov[2, 3])
    assert comparison.quality_delta.half_width == pytest.approx(half)
    assert comparison.value_ratio is not None
    assert comparison.value_ratio.point == pytest.approx(mean[0] * mean[3] / (mean[1] * mean[2]))
    assert comparison.saving is not None
    assert comparison.saving.point == pytest.approx(1 - mean[0] / mean[1])
    gradient = np.array([1 / mean[0], -1 / mean[1], 0, 0])
    spread = t * np.sqrt(gradient @ cov @ gradient)
    assert comparison.saving.low == pytest.approx(1 - mean[0] / mean[1] * np.exp(spread))
    assert comparison.monthly_saving_usd is not None
    assert comparison.monthly_saving_usd.point == pytest.approx(3000 * (mean[1] - mean[0]))
    money = 3000 * t * np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    assert comparison.monthly_saving_usd.half_width == pytest.approx(money)
    assert comparison.wins + comparison.ties + comparison.losses == 800


def test_an_equal_interval_of_success_covers_both_sides() -> None:
    comparison = decide(week()).comparisons[0]

    assert comparison.success_delta is not None
    assert comparison.success_delta.point == 0.0
    total = 402
    half = 1.959964 * np.sqrt(2 / total / total)
    assert comparison.success_delta.high == pytest.approx(half, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"incomplete": "the cap of $25 is spent"}, "the Run is incomplete: the cap of $25"),
        (
            {"judge": JudgeReport(is_trusted=False, canaries=6, canaries_right=2)},
            "the judge cannot be believed: it graded 2 of 6 known replies right",
        ),
        ({"prices": {**PRICES, "good": None}}, "the price of good is unknown"),
    ],
)
def test_a_week_that_cannot_be_trusted_is_unmeasured_and_pools_nothing(
    given: dict[str, Any], reason: str
) -> None:
    found = decide(week(**given))

    good = found.comparisons[0]
    assert good.verdict.kind is VerdictKind.UNMEASURED
    assert reason in good.verdict.reasons[0]
    assert good.tests["trouble"] is True
    assert [row for row in found.evidence if row.candidate == "good"] == []


def test_an_unmeasured_week_leaves_an_open_recommendation_open() -> None:
    first = decide(week(12))

    found = decide(week(13, incomplete="interrupted", **after(first)))

    assert found.comparisons[0].verdict.kind is VerdictKind.UNMEASURED
    assert found.comparisons[0].state is CandidateState.ALERT
    assert found.comparisons[0].pairs == 400


def test_a_run_that_ended_early_has_its_look_once_it_is_finished() -> None:
    early = decide(week(13, incomplete="its cap was reached"))
    finished = decide(week(13, **after(early)))

    assert early.states == ()
    assert verdicts(finished) == verdicts(decide(week(13)))
    assert finished.states == decide(week(13)).states


def test_too_few_pairs_are_no_trouble() -> None:
    few = replace(pairs("good", n=8), reason="only 8 independent conversations (10 needed)")

    found = decide(week(pairs={"good": few}))

    assert found.comparisons[0].verdict.kind is VerdictKind.UNMEASURED
    assert found.comparisons[0].tests["trouble"] is False
    assert found.evidence == ()


def test_a_run_by_hand_is_shown_but_neither_pooled_nor_remembered() -> None:
    found = decide(week(counts=False))

    assert verdicts(found)["good"] is VerdictKind.SWITCH
    assert found.states == ()
    assert found.evidence == ()


def test_a_slot_that_does_not_close_its_week_pools_but_does_not_look() -> None:
    found = decide(week(closes_week=False))

    assert found.states == ()
    assert len(found.evidence) == 2
    assert found.comparisons[0].state is CandidateState.QUIET
    assert found.comparisons[0].verdict.kind is not VerdictKind.SWITCH


def test_runs_of_one_week_become_one_row() -> None:
    monday = decide(week(closes_week=False, run_ids=("monday",)))

    sunday = decide(
        week(
            run_ids=("sunday",),
            pairs={"good": pairs("good", seed=99)},
            **after(monday),
        )
    )

    row = sunday.evidence[0]
    assert row.run_ids == ("monday", "sunday")
    assert row.evidence.n == 800
    assert sunday.comparisons[0].window_weeks == 1


def test_runs_of_one_week_are_joined_by_their_results_where_these_are_kept() -> None:
    monday = decide(week(closes_week=False, run_ids=("monday",)))
    asked: list[tuple[tuple[str, ...], str]] = []

    def with_earlier(run_ids: Sequence[str], candidate: str) -> PairedEvidence:
        asked.append((tuple(run_ids), candidate))
        return pairs("good", n=500)

    sunday = decide(week(run_ids=("sunday",), with_earlier=with_earlier, **after(monday)))

    row = sunday.evidence[0]
    assert asked[0] == (("monday",), "good")
    assert row.run_ids == ("monday", "sunday")
    assert row.evidence.n == 500


def test_results_of_all_runs_of_a_week_replace_what_the_earlier_stored() -> None:
    monday = decide(week(closes_week=False, run_ids=("monday",)))

    sunday = decide(
        week(run_ids=("monday", "sunday"), pairs={"good": pairs("good", n=200)}, **after(monday))
    )

    assert sunday.evidence[0].evidence.n == 200


def test_a_week_is_looked_at_once() -> None:
    first = decide(week(13))

    again = decide(week(13, run_ids=("later",), **after(first)))

    assert again.states == ()


def test_a_changed_policy_starts_an_epoch_and_says_so() -> None:
    first = decide(week(12))
    stricter = replace(PLAN, policy=Policy(min_saving=0.2))

    found = decide(week(13, of=stricter, **after(first)))
    third = decide(week(14, of=stricter, **after(first, found)))

    good = found.comparisons[0]
    assert good.pairs == 400
    assert good.epoch_reason == (
        "new epoch since 2026-W13: the policy changed (min_saving 0.1 → 0.2)"
    )
    assert third.comparisons[0].epoch_reason == good.epoch_reason
    assert third.comparisons[0].pairs == 800


def test_a_changed_price_is_pooled_only_once_it_is_re_priced() -> None:
    first = decide(week(12))
    cheaper = {**PRICES, "good": price("0.5", "2.5")}

    without = decide(week(13, prices=cheaper, **after(first)))
    mended = [
        replace(row, candidate_price=cheaper["good"].to_json())
        for row in first.evidence
        if row.candidate == "good"
    ]
    repriced = decide(week(13, prices=cheaper, repriced=mended, **after(first)))

    assert without.comparisons[0].pairs == 400
    assert without.comparisons[0].tests["left_out_weeks"] == {
        "2026-W12": "priced otherwise, and its usage cannot be re-priced"
    }
    assert repriced.comparisons[0].pairs == 800
    assert mended[0] in repriced.evidence


def test_a_recommendation_that_fails_is_resolved_and_its_history_dropped() -> None:
    first = decide(week(12))
    worse = {"good": pairs("good", seed=5, quality=-0.4)}

    second = decide(week(13, pairs=worse, **after(first)))
    third = decide(week(14, pairs=worse, **after(first, second)))

    assert second.states[0].state is CandidateState.RESOLVED
    assert second.states[0].since_week == "2026-W13"
    assert third.states[0].state is CandidateState.QUIET
    assert third.comparisons[0].pairs == 800  # weeks 13 and 14, no longer 12


NEARLY = {"good": pairs("good", seed=3, quality=-0.07)}
FLATTERED = {"good": pairs("good", seed=4, quality=0.13)}


def test_weeks_of_an_ill_primary_are_pooled_until_it_has_healed() -> None:
    first = decide(week(11, pairs=NEARLY))
    ill = decide(week(12, pairs=FLATTERED, **after(first)))
    healed = frozenset({"2026-W12"})

    still = decide(week(13, pairs=NEARLY, **after(first, ill)))
    after_all = decide(week(13, pairs=NEARLY, ill_weeks=healed, **after(first, ill)))

    assert ill.states[0].state is CandidateState.ALERT
    assert still.comparisons[0].pairs == 1200
    assert after_all.comparisons[0].pairs == 800
    assert after_all.comparisons[0].tests["left_out_weeks"] == {
        "2026-W12": "the primary was worse than it is now"
    }


def test_what_only_an_ill_primary_made_look_good_is_no_longer_recommended() -> None:
    first = decide(week(11, pairs=NEARLY))
    ill = decide(week(12, pairs=FLATTERED, **after(first)))
    healed = decide(week(13, pairs=NEARLY, ill_weeks=frozenset({"2026-W12"}), **after(first, ill)))
    later = decide(
        week(14, pairs=NEARLY, ill_weeks=frozenset({"2026-W12"}), **after(first, ill, healed))
    )

    assert healed.states[0].state is CandidateState.QUIET
    assert later.states[0].state is CandidateState.QUIET
    assert healed.states[0].changed_at == NOW


def test_what_holds_without_the_ill_weeks_stays_recommended() -> None:
    first = decide(week(11))
    ill = decide(week(12, pairs=FLATTERED, **after(first)))

    healed = decide(week(13, ill_weeks=frozenset({"2026-W12"}), **after(first, ill)))

    assert healed.states[0].state is CandidateState.ALERT
    assert healed.states[0].changed_at == first.states[0].changed_at


def test_what_was_first_recommended_while_the_primary_was_ill_must_be_shown_anew() -> None:
    ill = decide(week(12, pairs=FLATTERED))

    healed = decide(week(13, ill_weeks=frozenset({"2026-W12"}), **after(ill)))

    assert healed.states[0].state is CandidateState.ALERT
    assert healed.states[0].detail["from"] == "quiet"
    assert healed.states[0].detail["entered"] == "2026-W13"


def test_the_moment_of_a_change_is_kept_while_the_state_lasts() -> None:
    first = decide(week(12))

    second = decide(week(13, **after(first)))

    assert second.states[0].changed_at == first.states[0].changed_at
    assert second.states[0].week == "2026-W13"


def test_a_losing_segment_is_named_even_when_the_average_wins() -> None:
    routes = ["a", "b", "c", "d", "e", "f", "g", "extract"]
    mixed = {"good": pairs("good", n=400, quality=0.04, segments=routes)}

    comparison = decide(week(pairs=mixed)).comparisons[0]

    assert comparison.verdict.kind is VerdictKind.SWITCH
    assert [part.segment.value for part in comparison.segments if part.is_worse] == ["extract"]
    assert any(
        reason.startswith("Caveat: route=extract is worse, −0.2")
        and reason.endswith("on 50 prompts: keep it on p.")
        for reason in comparison.verdict.reasons
    )


def test_a_small_segment_is_listed_without_figures() -> None:
    routes = ["a", "b", "c", "d", "e"]
    few = {"good": pairs("good", n=100, segments=routes)}

    parts = decide(week(pairs=few)).comparisons[0].segments

    assert [part.pairs for part in parts] == [20] * 5
    assert all(part.quality_delta is None and not part.is_worse for part in parts)


def test_segments_reach_their_pairs_over_the_window() -> None:
    routes = ["a", "b", "c", "d", "e"]
    first = decide(week(12, pairs={"good": pairs("good", n=100, segments=routes)}))

    found = decide(
        week(13, pairs={"good": pairs("good", n=100, seed=4, segments=routes)}, **after(first))
    )

    assert [part.pairs for part in found.comparisons[0].segments] == [40] * 5
    assert all(part.quality_delta is not None for part in found.comparisons[0].segments)


def test_two_that_qualify_are_tied_unless_one_beats_the_other() -> None:
    twins = plan("good", "twin")
    both = {"good": pairs("good", seed=1), "twin": pairs("twin", seed=2, cost=0.52)}
    prices = {**PRICES, "twin": price("1", "5")}
    level = pair_evidence([1.0, 1.2] * 99, [1.0, 1.2] * 99, [0.8, 0.6] * 99, [0.8, 0.6] * 99)
    better = pair_evidence([0.5, 0.6] * 99, [1.0, 1.2] * 99, [0.8, 0.6] * 99, [0.8, 0.6] * 99)

    tied = decide(week(of=twins, pairs=both, prices=prices, head_to_head=lambda _a, _b: level))
    won = decide(week(of=twins, pairs=both, prices=prices, head_to_head=lambda _a, _b: better))

    assert tied.ranking.names == ("good", "twin")
    assert tied.ranking.best is None
    assert tied.comparisons[0].tests["best"] is None
    assert "tied" in tied.comparisons[0].verdict.reasons[-1]
    assert won.ranking.best == "good"
    assert won.comparisons[1].tests["best"] == "good"


def test_every_candidate_of_the_plan_shares_the_budget_even_when_not_run() -> None:
    four = plan("good", "x", "y", "z")

    alone = decide(week(of=four, pairs={"good": pairs("good")}))

    assert len(alone.comparisons) == 1
    assert alone.comparisons[0].tests["candidates"] == 4
    assert alone.comparisons[0].tests["critical_value"] == pytest.approx(3.83, abs=0.02)


def test_the_tests_can_be_stored_as_plain_json() -> None:
    for comparison in decide(week()).comparisons:
        text = canonical(comparison.tests)
        assert "NaN" not in text
        assert "Infinity" not in text


def test_an_undecided_candidate_hears_what_would_settle_it_and_what_it_costs() -> None:
    close = {"good": pairs("good", cost=0.75, n=100)}
    judge = JudgeReport(models=("judge",), judged=100, spend_usd=Decimal("1.00"))

    comparison = decide(week(pairs=close, judge=judge)).comparisons[0]

    assert comparison.verdict.kind in (VerdictKind.UNDECIDED, VerdictKind.WATCH)
    settle = comparison.tests["settle"]
    assert isinstance(settle, dict)
    prompts = settle["prompts"]
    evidence = close["good"].evidence
    assert evidence is not None
    assert prompts == comparison.tests["prompts_to_settle"]
    assert float(settle["cost_usd"]) == pytest.approx(
        prompts * (evidence.mean[0] + evidence.mean[1] + 0.02), rel=1e-4
    )
    assert "would settle it" in comparison.verdict.reasons[-1]


def test_the_prompts_said_to_settle_a_switch_do_settle_it() -> None:
    one_week = pairs("good", n=100).evidence
    assert one_week is not None
    said = decide(week(pairs={"good": pairs("good", n=100)})).comparisons[0].tests
    assert isinstance(said["settle"], dict)
    assert said["settle"]["towards"] == "switch"

    weeks_more = int(said["settle"]["weeks"])
    stored: list[Decision] = []
    for number in range(weeks_more + 1):
        same = {"good": PairedEvidence(candidate="good", primary="p", evidence=one_week)}
        stored.append(decide(week(10 + number, pairs=same, **after(*stored))))

    states = [one.comparisons[0].state for one in stored]
    assert states[-1] is CandidateState.ALERT
    assert CandidateState.ALERT not in states[:-1]


def test_a_difference_too_small_for_twelve_weeks_is_said_to_be_so() -> None:
    hair = {"good": pairs("good", n=40, quality=-0.045)}

    comparison = decide(week(pairs=hair)).comparisons[0]

    assert comparison.tests["prompts_to_settle"] is None
    assert "raise sample.n" in comparison.verdict.reasons[-1]


def test_an_assumed_bias_is_subtracted_and_said() -> None:
    plain = decide(week())
    careful = decide(week(of=plan("good", "bad", bias_allowance=0.03)))

    assert plain.comparisons[0].quality_delta is not None
    assert careful.comparisons[0].quality_delta is not None
    assert careful.comparisons[0].quality_delta.point == pytest.approx(
        plain.comparisons[0].quality_delta.point - 0.03
    )
    (said,) = careful.comparisons[0].verdict.caveats
    assert "0.03 is subtracted" in said
    assert "wins, losses and single segments are shown as judged, without it" in said


def test_pairs_left_out_are_told() -> None:
    some = replace(pairs("good"), dropped={"primary: timeout": 2, "unknown cost": 1})

    caveats = decide(week(pairs={"good": some})).comparisons[0].verdict.caveats

    assert caveats == ("3 pairs are left out this week: primary: timeout 2, unknown cost 1.",)
