"""A model's figures, recomputed by hand."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from app.domain.attempts import FailureClass
from app.domain.models import Role
from app.domain.results import ALL, CaseResult, Segment, Summary
from app.summary.summaries import absences, summarise
from tests.fakes.case_results import case_result, model, world

PRIMARY = model("p", Role.PRIMARY)


def whole(rows: list[CaseResult]) -> Summary:
    """The primary's figures over all its Cases."""
    return summarise(rows, [PRIMARY])[0]


def test_quality_is_the_mean_with_its_t_interval() -> None:
    scores = [0.2, 0.4, 0.9, 1.0, 0.7]

    quality = whole([case_result("p", i, score) for i, score in enumerate(scores)]).quality

    half = stats.t.ppf(0.975, 4) * np.std(scores, ddof=1) / np.sqrt(5)
    assert quality is not None
    assert quality.point == pytest.approx(np.mean(scores))
    assert quality.low == pytest.approx(np.mean(scores) - half)
    assert quality.high == pytest.approx(min(np.mean(scores) + half, 1.0))


def test_figures_are_weighted_to_traffic() -> None:
    rows = [
        case_result("p", 0, 1.0, "0.01", weight=0.6),
        case_result("p", 1, 0.0, "0.03", weight=0.2),
        case_result("p", 2, 0.5, "0.02", weight=0.2),
    ]

    summary = whole(rows)

    assert summary.quality is not None
    assert summary.quality.point == pytest.approx(0.7)
    assert summary.cost_per_1k_usd is not None
    assert summary.cost_per_1k_usd.point == pytest.approx(16.0)


def test_cost_per_success_divides_all_spend_by_successes() -> None:
    rows = [case_result("p", i, 1.0, "0.02") for i in range(8)]
    rows += [case_result("p", 8 + i, failure=FailureClass.TRUNCATED, cost="0.05") for i in range(2)]

    summary = whole(rows)

    assert summary.cost_per_success_usd is not None
    assert summary.cost_per_success_usd.point == pytest.approx((8 * 0.02 + 2 * 0.05) / 8)
    assert summary.successes == 8
    assert summary.failures == {FailureClass.TRUNCATED: 2}
    assert summary.spend_usd == Decimal("0.26")


def test_cost_per_quality_uses_scored_cases_only() -> None:
    rows = [case_result("p", i, 0.5, "0.02") for i in range(8)]
    rows += [case_result("p", 8 + i, None, "5") for i in range(2)]

    summary = whole(rows)

    assert summary.cost_per_quality_usd is not None
    assert summary.cost_per_quality_usd.point == pytest.approx(0.04)
    assert summary.unscored == 2


def test_cases_of_unknown_cost_stay_out_of_costs_and_are_counted() -> None:
    rows = [case_result("p", i, 1.0, "0.02") for i in range(8)]
    rows += [case_result("p", 8, 1.0, "9", is_cost_known=False)]

    summary = whole(rows)

    assert summary.cost_per_1k_usd is not None
    assert summary.cost_per_1k_usd.point == pytest.approx(20.0)
    assert summary.unknown_cost == 1
    assert summary.quality is not None
    assert summary.quality.n == 9


def test_an_outage_is_not_quality_but_it_is_no_success_either() -> None:
    rows = [case_result("p", i, 1.0 - i / 10) for i in range(8)]
    rows += [case_result("p", 8, failure=FailureClass.TIMEOUT, cost=0)]

    summary = whole(rows)

    assert summary.quality is not None
    assert summary.quality.point == pytest.approx(np.mean([1.0 - i / 10 for i in range(8)]))
    assert summary.success_rate is not None
    assert summary.success_rate.point == pytest.approx(8 / 9)


def test_a_call_our_budget_refused_says_nothing_of_the_model() -> None:
    rows = [case_result("p", i) for i in range(8)]
    rows += [case_result("p", 8, failure=FailureClass.BUDGET, cost=0)]

    summary = whole(rows)

    assert summary.success_rate is not None
    assert summary.success_rate.point == 1.0
    assert summary.failures == {FailureClass.BUDGET: 1}


def test_percentiles_appear_only_where_the_sample_supports_them() -> None:
    few = whole([case_result("p", i, latency_s=1.0 + i / 100) for i in range(99)])
    enough = whole([case_result("p", i, latency_s=1.0 + i / 100) for i in range(100)])

    assert few.latency_s.p50 is not None
    assert few.latency_s.p95 is None
    assert enough.latency_s.p95 is not None
    assert enough.latency_s.p95.point == pytest.approx(
        np.percentile([1.0 + i / 100 for i in range(100)], 95)
    )
    assert enough.latency_s.p99 is None
    assert enough.ttft_s.p95 is not None


def test_latency_is_that_of_successful_responses() -> None:
    rows = [case_result("p", i, latency_s=1.0) for i in range(10)]
    rows += [
        replace(case_result("p", 10 + i, failure=FailureClass.GATE), latency_s=60.0)
        for i in range(10)
    ]

    latency = whole(rows).latency_s.p50

    assert latency is not None
    assert latency.point == 1.0


def test_nothing_is_invented_for_a_model_that_never_answered() -> None:
    down = whole([case_result("p", i, failure=FailureClass.SERVER, cost=0) for i in range(20)])

    assert down.quality is None
    assert down.cost_per_success_usd is None
    assert down.cost_per_quality_usd is None
    assert down.pattern is None
    assert absences(down)["cost_per_success_usd"] == "no successful response to divide by"


def test_a_model_that_was_run_on_no_case_has_no_figures() -> None:
    summary = whole([])

    assert (summary.cases, summary.quality, summary.success_rate) == (0, None, None)
    assert absences(summary)["quality"] == "the model was run on no Case"


def test_every_missing_figure_has_a_reason() -> None:
    summary = whole([case_result("p", 0, None)])

    missing = {
        name
        for name in ("quality", "success_rate", "cost_per_1k_usd", "cost_per_quality_usd")
        if getattr(summary, name) is None
    }
    assert missing
    assert missing <= set(absences(summary))
    assert absences(summary)["quality"] == "no reply carries a score"


def test_a_percentile_that_is_withheld_says_how_many_replies_it_takes() -> None:
    rows = [case_result("p", i) for i in range(60)]

    reasons = absences(whole(rows))

    assert set(reasons) == {f"{name}.p{p}" for name in ("ttft_ms", "latency_ms") for p in (95, 99)}
    assert reasons["latency_ms.p95"] == "p95 takes 100 timed successful replies, 60 are there"
    assert reasons["latency_ms.p99"] == "p99 takes 500 timed successful replies, 60 are there"


@pytest.mark.parametrize("is_success", [True, False])
def test_weights_that_do_not_add_up_to_one_leave_a_full_share_exact(*, is_success: bool) -> None:
    failure = None if is_success else FailureClass.REFUSAL
    rows = [case_result("p", i, weight=1 / 7 + 1e-12 * i, failure=failure) for i in range(7)]

    rate = whole(rows).success_rate

    assert rate is not None
    assert rate.point == float(is_success)


def test_a_model_that_is_free_costs_nothing_exactly() -> None:
    summary = whole([case_result("p", i, cost=0) for i in range(10)])

    assert summary.cost_per_1k_usd is not None
    assert (summary.cost_per_1k_usd.point, summary.cost_per_1k_usd.high) == (0.0, 0.0)
    assert summary.largest_call_share is None


def test_segments_hold_their_own_cases_and_anchors_stay_out() -> None:
    rows = world(np.random.default_rng(2), 30, {"p": (0.8, 1.0)}, segments=("a", "b", "c"))
    rows += [replace(row, case_id=f"x{row.case_id}", is_anchor=True) for row in rows[:5]]

    summaries = summarise(rows, [PRIMARY])

    assert [(s.segment, s.cases) for s in summaries] == [
        (ALL, 30),
        (Segment(name="route", value="a"), 10),
        (Segment(name="route", value="b"), 10),
        (Segment(name="route", value="c"), 10),
    ]


def test_first_and_later_turns_are_told_apart() -> None:
    rows = [case_result("p", i, is_later_turn=i % 4 == 0) for i in range(20)]

    summaries = summarise(rows, [PRIMARY])

    assert {s.segment.key: s.cases for s in summaries} == {
        "all": 20,
        "turn=first": 15,
        "turn=later": 5,
    }


def test_the_largest_call_is_shown_as_a_share_of_the_bill() -> None:
    rows = [case_result("p", i, cost="0.01") for i in range(10)]
    rows.append(case_result("p", 10, cost="0.90"))

    assert whole(rows).largest_call_share == pytest.approx(0.9)


def test_the_order_of_results_does_not_change_a_figure() -> None:
    rows = world(np.random.default_rng(8), 50, {"p": (0.8, 1.0)})
    shuffled = [rows[i] for i in np.random.default_rng(4).permutation(50)]

    first, second = whole(rows), whole(shuffled)

    for name in ("quality", "cost_per_success_usd", "cost_per_quality_usd"):
        one, other = getattr(first, name), getattr(second, name)
        np.testing.assert_allclose(
            [one.point, one.low, one.high], [other.point, other.low, other.high], rtol=1e-9
        )


def test_attempts_and_retries_are_counted() -> None:
    rows = [case_result("p", i, retries=i % 2) for i in range(10)]

    summary = whole(rows)

    assert (summary.attempts, summary.retries) == (15, 5)


def test_the_bootstrap_interval_of_cost_per_success_is_near_the_delta_method() -> None:
    rng = np.random.default_rng(11)
    costs = rng.gamma(4.0, 0.0025, 200).round(6)
    ok = rng.random(200) < 0.9
    rows = [
        case_result("p", i, cost=float(costs[i]), failure=None if ok[i] else FailureClass.EMPTY)
        for i in range(200)
    ]

    estimate = whole(rows).cost_per_success_usd

    ratio = costs.sum() / ok.sum()
    spread = np.std(costs - ratio * ok, ddof=1) / np.sqrt(200) / ok.mean()
    assert estimate is not None
    assert estimate.point == pytest.approx(ratio)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_a_small_sample_still_has_a_cost_with_a_wide_interval() -> None:
    costs, ok = np.array([0.02] * 8 + [0.05] * 2), np.array([1.0] * 8 + [0.0] * 2)
    rows = [
        case_result("p", i, cost=float(costs[i]), failure=None if ok[i] else FailureClass.EMPTY)
        for i in range(10)
    ]

    estimate = whole(rows).cost_per_success_usd

    influence = costs / costs.mean() - ok / ok.mean()
    half = stats.t.ppf(0.975, 9) * np.std(influence, ddof=1) / np.sqrt(10)
    assert estimate is not None
    assert estimate.point == pytest.approx(0.0325)
    assert estimate.low == pytest.approx(0.0325 * np.exp(-half))
    assert estimate.high == pytest.approx(0.0325 * np.exp(half))
