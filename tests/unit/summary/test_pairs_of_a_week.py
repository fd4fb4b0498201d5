"""Which Cases make pairs, and what the pairs of a week say."""

from dataclasses import replace

import numpy as np
import pytest

from app.domain.attempts import FailureClass
from app.domain.results import ALL, CaseResult, Segment
from app.summary.pairs import compare, in_segment, merge_runs, segments_of
from tests.fakes.case_results import case_result, world


def both(
    n: int, candidate: dict[int, CaseResult], primary: dict[int, CaseResult] | None = None
) -> list[CaseResult]:
    """n plain pairs, some Cases replaced."""
    return [
        row
        for i in range(n)
        for row in (
            (primary or {}).get(i, case_result("p", i, 0.5 + 0.5 * (i % 2), 0.02)),
            candidate.get(i, case_result("c", i, 1.0 - 0.5 * (i % 2), 0.01 + 0.001 * (i % 3))),
        )
    ]


def test_means_and_covariance_are_those_of_the_rows() -> None:
    rows = world(np.random.default_rng(3), 40, {"p": (0.8, 1.0), "c": (0.7, 0.5)})

    evidence = compare(rows, primary="p", candidate="c").evidence

    table = np.array(
        [
            [
                float(c.spend_usd),
                float(p.spend_usd),
                c.quality if c.quality is not None else np.nan,
                p.quality if p.quality is not None else np.nan,
            ]
            for p, c in zip(rows[:40], rows[40:], strict=True)
        ]
    )
    assert evidence is not None
    assert evidence.n == 40
    np.testing.assert_allclose(evidence.mean, table.mean(axis=0))
    np.testing.assert_allclose(evidence.cov, np.cov(table.T) / 40)


def test_a_later_turn_of_a_conversation_is_no_new_independent_pair() -> None:
    rows = [replace(row, conversation=f"talk-{int(row.case_id[3:]) // 2}") for row in both(40, {})]

    evidence = compare(rows, primary="p", candidate="c").evidence

    assert evidence is not None
    assert evidence.clusters == 20


def test_a_folded_duplicate_counts_as_often_as_it_was_drawn() -> None:
    rows = [
        replace(row, weight=3.0 if row.case_id == "r1-0" else 1.0)
        for row in both(40, {0: case_result("c", 0, 0.0, 0.05)})
    ]

    evidence = compare(rows, primary="p", candidate="c").evidence

    assert evidence is not None
    qualities = np.array([0.0] + [1.0 - 0.5 * (i % 2) for i in range(1, 40)])
    weights = np.array([3.0] + [1.0] * 39)
    assert evidence.mean[2] == pytest.approx(np.average(qualities, weights=weights))


def test_a_failure_of_the_candidate_alone_is_its_own_at_full_cost() -> None:
    refused = case_result("c", 0, failure=FailureClass.REFUSAL, cost=0.03)

    week = compare(both(40, {0: refused}), primary="p", candidate="c")

    assert week.evidence is not None
    assert week.evidence.n == 40
    assert week.evidence.n10 == pytest.approx(1.0)
    assert week.dropped == {}


@pytest.mark.parametrize(
    "failure",
    [
        FailureClass.BUDGET,
        FailureClass.QUARANTINED,
        FailureClass.TOO_LARGE,
        FailureClass.TIMEOUT,
        FailureClass.RATE_LIMITED,
    ],
)
def test_a_failure_of_the_primary_outside_both_models_drops_the_pair(failure: FailureClass) -> None:
    lost = case_result("p", 0, failure=failure, cost=0)

    week = compare(both(40, {}, {0: lost}), primary="p", candidate="c")

    assert week.evidence is not None
    assert week.evidence.n == 39
    assert week.dropped == {f"primary: {failure}": 1}
    assert week.reason is None


@pytest.mark.parametrize("failure", [FailureClass.REFUSAL, FailureClass.TRUNCATED])
def test_a_failure_of_the_primary_itself_keeps_the_pair(failure: FailureClass) -> None:
    failed = case_result("p", 0, failure=failure)

    week = compare(both(40, {}, {0: failed}), primary="p", candidate="c")

    assert week.evidence is not None
    assert week.evidence.n == 40
    assert week.evidence.n01 == pytest.approx(1.0)


def test_a_pair_whose_primary_has_an_unknown_cost_is_dropped_and_counted() -> None:
    cut = replace(case_result("p", 3), is_cost_known=False)

    week = compare(both(40, {}, {3: cut}), primary="p", candidate="c")

    assert week.evidence is not None
    assert week.evidence.n == 39
    assert week.dropped == {"unknown cost": 1}


def test_a_success_after_a_cut_call_costs_the_most_that_a_response_cost_beside_its_own() -> None:
    cut = case_result("c", 3, cost="0.01", is_cost_known=False)
    counted = case_result("c", 3, cost="0.022")

    week = compare(both(40, {3: cut}), primary="p", candidate="c")

    assert week.evidence == compare(both(40, {3: counted}), primary="p", candidate="c").evidence
    assert week.dropped == {}


def test_a_failure_whose_cost_nobody_counted_is_kept_at_the_most_that_a_response_cost() -> None:
    cut = case_result("c", 3, failure=FailureClass.PROTOCOL, cost=0, is_cost_known=False)
    counted = case_result("c", 3, failure=FailureClass.PROTOCOL, cost="0.012")

    week = compare(both(40, {3: cut}), primary="p", candidate="c")

    assert week.evidence == compare(both(40, {3: counted}), primary="p", candidate="c").evidence
    assert week.evidence is not None
    assert week.evidence.n10 == pytest.approx(1.0)
    assert week.dropped == {}


def test_failures_of_unknown_cost_cannot_vanish_from_a_weeks_losses() -> None:
    cut = {
        i: case_result("c", i, failure=FailureClass.PROTOCOL, cost=0, is_cost_known=False)
        for i in range(10)
    }

    week = compare(both(100, cut), primary="p", candidate="c")

    assert week.evidence is not None
    assert week.evidence.n == 100
    assert week.evidence.n10 == pytest.approx(10.0)


def test_prompts_that_the_replay_could_not_send_say_nothing_about_the_primary() -> None:
    refused = {i: case_result("p", i, failure=FailureClass.BAD_REQUEST, cost=0) for i in range(3)}

    few = compare(both(100, {}, refused), primary="p", candidate="c")
    many = compare(both(40, {}, refused), primary="p", candidate="c")

    assert few.evidence is not None
    assert few.evidence.n01 == 0.0
    assert few.dropped == {"primary: bad_request": 3}
    assert few.reason is None
    assert many.needs_mending
    assert "refused 3 of 40 prompts as bad requests" in str(many.reason)


def test_too_many_unknown_costs_leave_the_week_unmeasured() -> None:
    cut = {i: replace(case_result("c", i), is_cost_known=False) for i in range(5)}

    week = compare(both(40, cut), primary="p", candidate="c")

    assert week.reason == "the cost of 5 of 40 pairs is unknown (calls cut off midway)"
    assert week.needs_mending


def test_an_outage_above_five_per_cent_is_not_quality() -> None:
    down = {i: case_result("c", i, failure=FailureClass.OVERLOADED, cost=0) for i in range(3)}

    week = compare(both(40, down), primary="p", candidate="c")

    assert week.reason == (
        "the candidate did not answer 3 of 40 calls (overloaded 3): an outage is not quality"
    )
    assert week.needs_mending


def test_an_outage_of_five_per_cent_is_tolerated() -> None:
    down = {i: case_result("c", i, failure=FailureClass.TIMEOUT, cost=0) for i in range(2)}

    week = compare(both(40, down), primary="p", candidate="c")

    assert week.reason is None
    assert week.evidence is not None
    assert week.evidence.outage_c == pytest.approx(0.05)


def test_a_refused_key_names_what_to_mend() -> None:
    refused = {i: case_result("c", i, failure=FailureClass.AUTH, cost=0) for i in range(40)}

    week = compare(both(40, refused), primary="p", candidate="c")

    assert week.reason == (
        "the candidate did not answer 40 of 40 calls (auth 40): "
        "its key, account or model id needs mending"
    )


def test_an_outage_of_the_primary_counts_though_its_pairs_are_dropped() -> None:
    down = {i: case_result("p", i, failure=FailureClass.SERVER, cost=0) for i in range(4)}

    week = compare(both(40, {}, down), primary="p", candidate="c")

    assert week.evidence is not None
    assert week.evidence.outage_p == pytest.approx(0.1)
    assert week.reason is not None
    assert week.reason.startswith("the primary did not answer 4 of 40 calls")


def test_unscored_replies_enter_the_worst_case() -> None:
    unscored = {0: case_result("c", 0, quality=None)}

    evidence = compare(both(40, unscored), primary="p", candidate="c").evidence

    assert evidence is not None
    assert evidence.unscored == pytest.approx(1 / 40)
    qualities = [0.0] + [1.0 - 0.5 * (i % 2) for i in range(1, 40)]
    assert evidence.worst.mean[2] == pytest.approx(np.mean(qualities))
    assert evidence.mean[2] == pytest.approx(np.mean(qualities[1:]))


def test_too_many_unscored_replies_need_mending() -> None:
    unscored = {i: case_result("c", i, quality=None) for i in range(3)}

    week = compare(both(40, unscored), primary="p", candidate="c")

    assert week.reason is not None
    assert "carry no score" in week.reason
    assert week.needs_mending


def test_few_conversations_are_too_few_but_nothing_is_broken() -> None:
    week = compare(both(8, {}), primary="p", candidate="c")

    assert week.reason == "only 8 independent conversations (10 needed)"
    assert not week.needs_mending


def test_anchors_stay_out_of_pairs() -> None:
    anchors = [case_result(name, i, is_anchor=True, run="a") for i in range(9) for name in "pc"]

    evidence = compare([*both(40, {}), *anchors], primary="p", candidate="c").evidence

    assert evidence is not None
    assert evidence.n == 40


def test_a_case_the_candidate_was_not_run_on_makes_no_pair() -> None:
    rows = [row for row in both(40, {}) if row.model_name == "p" or int(row.case_id[3:]) < 20]

    evidence = compare(rows, primary="p", candidate="c").evidence

    assert evidence is not None
    assert evidence.n == 20


def test_no_common_case_says_so() -> None:
    week = compare([case_result("p", 1), case_result("c", 2)], primary="p", candidate="c")

    assert week.evidence is None
    assert week.reason == "no Case was run on both models"


def test_the_order_of_results_changes_nothing() -> None:
    rows = world(
        np.random.default_rng(5), 60, {"p": (0.8, 1.0), "c": (0.7, 0.5)}, segments=("a", "b")
    )
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]

    first = compare(rows, primary="p", candidate="c")
    second = compare(shuffled, primary="p", candidate="c")

    assert first.evidence is not None
    assert second.evidence is not None
    np.testing.assert_allclose(first.evidence.cov, second.evidence.cov, rtol=1e-12)
    assert set(first.segments) == set(second.segments) == {"route=a", "route=b"}


def test_runs_of_one_week_weigh_what_they_drew() -> None:
    small = [case_result("p", i, 1.0, weight=1 / 10, run="a") for i in range(10)]
    large = [case_result("p", i, 0.0, weight=1 / 30, run="b") for i in range(30)]

    merged = merge_runs([small, large])

    assert sum(row.weight for row in merged) == pytest.approx(1.0)
    assert sum(row.weight * (row.quality or 0.0) for row in merged) == pytest.approx(0.25)


def test_a_row_that_several_runs_of_a_week_drew_is_one_independent_unit() -> None:
    rng = np.random.default_rng(5)
    once = world(rng, 40, {"p": (0.8, 1.0), "c": (0.7, 0.5)}, run="mon")
    daily = [
        [replace(row, case_id=f"{day}-{row.source_id}", weight=1 / 40) for row in once]
        for day in ("mon", "tue", "wed")
    ]

    alone = compare(merge_runs(daily[:1]), primary="p", candidate="c").evidence
    joined = compare(merge_runs(daily), primary="p", candidate="c").evidence

    assert alone is not None
    assert joined is not None
    assert joined.clusters == 40
    np.testing.assert_allclose(joined.cov, alone.cov)


def test_turns_are_a_segment_only_where_both_occur() -> None:
    first = case_result("p", 0, segments={"route": "a"})
    later = replace(first, is_later_turn=True)

    assert segments_of([first]) == (Segment(name="route", value="a"),)
    assert Segment(name="turn", value="later") in segments_of([first, later])
    assert in_segment(later, Segment(name="turn", value="later"))
    assert not in_segment(first, Segment(name="turn", value="later"))
    assert in_segment(first, ALL)
