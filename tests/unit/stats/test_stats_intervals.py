"""Displayed intervals against independent computations, and how fast they come."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from app.stats.arrays import InvalidNumbersError, NotEnoughDataError
from app.stats.estimates import Estimate
from app.stats.evidence import pair_evidence
from app.stats.intervals import (
    cost_ratio_interval,
    difference_interval,
    mean_interval,
    percentile_intervals,
    percentile_ratio_interval,
    quality_difference,
    ratio_interval,
    resampled_counts,
    share_interval,
    value_ratio_bootstrap,
    value_ratio_interval,
    wilson,
)

RNG = np.random.default_rng(2)
COST = RNG.lognormal(sigma=0.8, size=120)
OTHER = COST * RNG.lognormal(sigma=0.4, size=120)
QUALITY = RNG.choice([0.25, 0.5, 0.75, 1.0], 120)


def percentile_interval(values: ArrayLike, percent: int, **design: Any) -> Estimate | None:
    (found,) = percentile_intervals(values, (percent,), **design)
    return found


def test_the_difference_in_quality_is_the_paired_t_interval() -> None:
    second = np.roll(QUALITY, 1)
    estimate = quality_difference(pair_evidence(COST, COST, QUALITY, second).plain)
    reference = stats.ttest_rel(QUALITY, second).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high))


def test_ties_alone_do_not_make_the_difference_certain() -> None:
    ones = np.ones(30)
    estimate = quality_difference(pair_evidence(ones, ones, ones, ones).plain)
    assert estimate.point == 0.0
    assert estimate.low == pytest.approx(-3.8415 / 33.8415, abs=1e-4)


def test_ratios_from_moments_follow_the_delta_method() -> None:
    moments = pair_evidence(COST, OTHER, QUALITY, QUALITY).plain
    estimate = cost_ratio_interval(moments)
    assert estimate is not None
    psi = COST / COST.mean() - OTHER / OTHER.mean()
    half = stats.t.ppf(0.975, 119) * psi.std(ddof=1) / np.sqrt(120)
    ratio = COST.mean() / OTHER.mean()
    assert estimate.point == pytest.approx(ratio)
    assert estimate.low == pytest.approx(ratio * np.exp(-half))
    assert estimate.high == pytest.approx(ratio * np.exp(half))


def test_a_ratio_without_a_denominator_has_no_interval() -> None:
    nothing = np.zeros(30)
    ones = np.ones(30)
    moments = pair_evidence(ones, ones, nothing, ones).plain
    assert value_ratio_interval(moments) is None
    assert cost_ratio_interval(pair_evidence(ones, nothing, ones, ones).plain) is None
    assert value_ratio_bootstrap(ones, ones, nothing, ones) is None
    assert ratio_interval(ones, nothing) is None


def test_wilson_agrees_with_scipy() -> None:
    for hits, n in ((0, 10), (3, 17), (99, 100), (50, 50)):
        ours = wilson(hits, n)
        theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_an_impossible_share_is_refused() -> None:
    with pytest.raises(InvalidNumbersError, match="no share"):
        wilson(11, 10)


def test_a_share_of_whole_conversations_is_less_certain() -> None:
    hits = np.repeat([True, False, True, True, False], 8)
    alone = share_interval(hits)
    together = share_interval(hits, clusters=np.arange(40) // 8)
    assert together.point == pytest.approx(alone.point)
    assert together.half_width > 2 * alone.half_width


def test_full_success_in_few_conversations_stays_modest() -> None:
    hits = np.ones(40, dtype=bool)
    assert share_interval(hits, clusters=np.arange(40) // 4).low == pytest.approx(
        wilson(10, 10).low
    )


def test_a_mean_has_the_t_interval() -> None:
    estimate = mean_interval(COST)
    low, high = stats.t.interval(0.95, 119, COST.mean(), stats.sem(COST))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_a_bounded_mean_stays_inside_its_bounds_and_modest_when_constant() -> None:
    assert mean_interval([0.9, 1.0, 1.0], bounds=(0.0, 1.0)).high <= 1.0
    constant = mean_interval(np.ones(30), bounds=(0.0, 1.0))
    assert constant.high == 1.0
    assert constant.low == pytest.approx(wilson(30, 30).low, abs=0.01)


def test_one_observation_carries_no_interval() -> None:
    with pytest.raises(NotEnoughDataError):
        mean_interval([1.0])
    with pytest.raises(NotEnoughDataError):
        difference_interval([1.0], [2.0])
    assert ratio_interval([1.0], [2.0]) is None


def test_cost_per_success_is_all_spend_over_all_successes() -> None:
    ok = RNG.random(120) < 0.9
    estimate = ratio_interval(COST, ok)
    assert estimate is not None
    assert estimate.point == pytest.approx(COST.sum() / ok.sum())
    assert estimate.low < estimate.point < estimate.high


def test_a_ratio_that_the_data_do_not_bound_has_no_interval() -> None:
    cost = np.array([1e-6, 5.0])
    earned = np.array([1.0, 1.0])
    few = pair_evidence(cost, cost[::-1].copy(), earned, earned).plain
    wide = replace(few, df=1.0)

    assert value_ratio_interval(wide) is None
    assert cost_ratio_interval(wide) is None
    bounded = ratio_interval(np.linspace(1.0, 2.0, 30), np.ones(30))
    assert bounded is not None
    assert bounded.high < 1_000 * bounded.point


def test_a_ratio_interval_agrees_with_a_plain_resampling_of_cases() -> None:
    rng = np.random.default_rng(8)
    draws = []
    for _ in range(4000):
        rows = rng.integers(0, 120, 120)
        draws.append(COST[rows].sum() / QUALITY[rows].sum())
    low, high = np.quantile(draws, [0.025, 0.975])
    estimate = ratio_interval(COST, QUALITY)
    assert estimate is not None
    # the hull of percentile and studentised ends reaches at least as far, and little further
    assert estimate.low == pytest.approx(low, rel=0.03)
    assert estimate.high >= high * 0.99
    assert estimate.high == pytest.approx(high, rel=0.12)


def test_a_success_that_many_resamples_miss_leaves_the_ratio_unbounded() -> None:
    one_success = np.zeros(40)
    one_success[0] = 1
    assert ratio_interval(np.ones(40), one_success) is None


def test_identical_models_have_the_ratio_one_exactly() -> None:
    estimate = value_ratio_bootstrap(COST, COST, QUALITY, QUALITY)
    assert estimate is not None
    assert (estimate.low, estimate.high) == pytest.approx((1.0, 1.0))


def test_conversations_are_resampled_whole() -> None:
    cost = np.repeat(RNG.lognormal(sigma=1.0, size=30), 4)
    alone = ratio_interval(cost, np.ones(120))
    together = ratio_interval(cost, np.ones(120), clusters=np.arange(120) // 4)
    assert alone is not None
    assert together is not None
    assert together.half_width > 1.5 * alone.half_width


def test_drift_between_weeks_does_not_widen_an_interval_resampled_within_weeks() -> None:
    weeks = np.repeat([0, 1], 60)
    cost = np.where(weeks == 0, 1.0, 5.0) * RNG.uniform(0.9, 1.1, 120)
    within = ratio_interval(cost, np.ones(120), strata=weeks)
    across = ratio_interval(cost, np.ones(120))
    assert within is not None
    assert across is not None
    assert within.half_width < across.half_width / 5


def test_the_same_draws_serve_every_model() -> None:
    assert resampled_counts((50,)) is resampled_counts((50,))
    assert not resampled_counts((50,)).flags.writeable


def test_a_percentile_without_support_is_absent() -> None:
    assert percentile_interval(np.arange(499), 99) is None
    assert percentile_interval(np.arange(500), 99) is not None
    assert percentile_ratio_interval([1.0] * 100, [1.0] * 99, 95) is None


def test_the_order_statistic_interval_covers_by_the_binomial() -> None:
    n, share = 100, 0.95
    estimate = percentile_interval(np.arange(1, n + 1), 95)
    assert estimate is not None
    low, high = int(estimate.low), int(estimate.high)
    too_low = 1 - stats.binom.cdf(high - 1, n, share)  # the percentile lies above the upper end
    too_high = stats.binom.cdf(low - 1, n, share)
    assert too_low <= 0.025
    assert too_high <= 0.025
    assert stats.binom.cdf(low, n, share) > 0.025  # and no narrower pair would do
    assert 1 - stats.binom.cdf(high - 2, n, share) > 0.025


def test_a_percentile_of_conversations_is_less_certain() -> None:
    seconds = np.repeat(RNG.lognormal(size=50), 4)
    alone = percentile_interval(seconds, 50)
    together = percentile_interval(seconds, 50, clusters=np.arange(200) // 4)
    assert alone is not None
    assert together is not None
    assert together.half_width > alone.half_width


@pytest.mark.parametrize("n", [9, 60, 600])
def test_percentiles_found_together_are_those_found_alone(n: int) -> None:
    seconds, weights = RNG.lognormal(size=n), RNG.uniform(0.5, 2.0, size=n)
    percents = (99, 50, 95)
    for design in ({}, {"clusters": np.arange(n) // 2}, {"weights": weights}):
        together = percentile_intervals(seconds, percents, **design)
        alone = [percentile_interval(seconds, percent, **design) for percent in percents]
        assert list(together) == alone
        assert [one is not None for one in together] == [n >= 500, n >= 10, n >= 100]


def test_a_weighted_percentile_counts_weights() -> None:
    values = np.arange(20.0)
    weights = np.where(values == 3, 100.0, 1.0)
    estimate = percentile_interval(values, 50, weights=weights)
    assert estimate is not None
    assert estimate.point == 3.0


def test_a_ratio_of_percentiles_brackets_the_ratio() -> None:
    slow = RNG.lognormal(sigma=0.5, size=300) * 1.3
    fast = RNG.lognormal(sigma=0.5, size=300)
    estimate = percentile_ratio_interval(slow.tolist(), fast.tolist(), 95)
    assert estimate is not None
    assert estimate.point == pytest.approx(np.percentile(slow, 95) / np.percentile(fast, 95))
    assert estimate.low < estimate.point < estimate.high


def test_a_ratio_of_weighted_percentiles_agrees_with_a_plain_resampling_of_calls() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.gamma(2.0, 1.0, 300), rng.gamma(2.0, 1.5, 300)
    weights = rng.uniform(0.5, 4.0, 300)
    both = (weights.tolist(), weights.tolist())

    found = percentile_ratio_interval(list(first), list(second), 50, weights=both)

    def drawn(values: np.ndarray) -> np.ndarray:
        rows = rng.integers(0, 300, (4_000, 300))
        medians = []
        for row in rows:
            order = row[np.argsort(values[row])]
            mass = np.cumsum(weights[order])
            medians.append(values[order[np.searchsorted(mass, mass[-1] / 2)]])
        return np.array(medians)

    low, high = np.quantile(drawn(first) / drawn(second), [0.025, 0.975])
    assert found is not None
    assert found.low == pytest.approx(low, rel=0.05)
    assert found.high == pytest.approx(high, rel=0.05)


def test_equal_weights_change_a_ratio_of_percentiles_by_no_more_than_interpolation() -> None:
    first, second = RNG.lognormal(size=400).tolist(), RNG.lognormal(size=400).tolist()
    plain = percentile_ratio_interval(first, second, 50)
    weighted = percentile_ratio_interval(first, second, 50, weights=([2.0] * 400, [2.0] * 400))
    assert plain is not None
    assert weighted is not None
    assert weighted.point == pytest.approx(plain.point, rel=0.02)
    assert weighted.low == pytest.approx(plain.low, rel=0.02)
    assert weighted.high == pytest.approx(plain.high, rel=0.02)


def test_a_ratio_of_percentiles_agrees_with_a_plain_resampling_of_calls() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.gamma(2.0, 1.0, 121), rng.gamma(2.0, 1.5, 101)

    found = percentile_ratio_interval(list(first), list(second), 95)

    drawn = [
        np.percentile(rng.choice(values, (4_000, values.size)), 95, axis=1)
        for values in (first, second)
    ]
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    assert found is not None
    assert found.low == pytest.approx(low, rel=0.05)
    assert found.high == pytest.approx(high, rel=0.05)


def test_a_whole_report_takes_less_than_half_a_second_of_cpu() -> None:
    n = 200
    rng = np.random.default_rng(0)
    costs = rng.lognormal(size=(4, n))
    qualities = rng.choice([0.25, 0.5, 0.75, 1.0], (4, n))
    ok = rng.random((4, n)) < 0.97
    seconds = rng.lognormal(size=(4, 2, n))
    resampled_counts.cache_clear()
    start = time.process_time()
    for model in range(4):
        mean_interval(qualities[model], bounds=(0.0, 1.0))
        share_interval(ok[model])
        ratio_interval(costs[model], ok[model])
        ratio_interval(costs[model], qualities[model])
        for metric in range(2):
            for percent in (50, 95, 99):
                percentile_interval(seconds[model, metric], percent)
        if model:
            pair_evidence(costs[model], costs[0], qualities[model], qualities[0])
            value_ratio_bootstrap(costs[model], costs[0], qualities[model], qualities[0])
            ratio_interval(costs[model], costs[0])
            difference_interval(costs[0], costs[model])
            percentile_ratio_interval(seconds[model, 1].tolist(), seconds[0, 1].tolist(), 95)
    assert time.process_time() - start < 0.5


CALLS: dict[str, Any] = {
    "mean": lambda c: mean_interval(COST, confidence=c),
    "share": lambda c: share_interval(QUALITY > 0.3, confidence=c),
    "ratio": lambda c: ratio_interval(COST, QUALITY, confidence=c),
    "value": lambda c: value_ratio_bootstrap(COST, OTHER, QUALITY, QUALITY[::-1], confidence=c),
    "difference": lambda c: difference_interval(COST, OTHER, confidence=c),
    "percentile": lambda c: percentile_interval(COST, 50, confidence=c),
    "clustered": lambda c: percentile_interval(
        COST, 90, clusters=np.arange(120) // 3, confidence=c
    ),
    "latency": lambda c: percentile_ratio_interval(COST.tolist(), OTHER.tolist(), 50, confidence=c),
    "quality": lambda c: quality_difference(
        pair_evidence(COST, OTHER, QUALITY, QUALITY[::-1]).plain, confidence=c
    ),
    "ties": lambda c: quality_difference(
        pair_evidence(COST, OTHER, QUALITY, QUALITY).plain, confidence=c
    ),
}


@pytest.mark.parametrize("name", sorted(CALLS))
@settings(max_examples=15, deadline=None)
@given(levels=st.tuples(st.floats(0.5, 0.995), st.floats(0.5, 0.995)))
def test_more_confidence_never_narrows(name: str, levels: tuple[float, float]) -> None:
    less, more = (CALLS[name](level) for level in sorted(levels))
    assert more.low <= less.low + 1e-12
    assert more.high >= less.high - 1e-12


@pytest.mark.parametrize("unit", [1e-6, 100.0])
def test_the_unit_of_money_scales_the_interval_and_nothing_else(unit: float) -> None:
    one, other = ratio_interval(COST, QUALITY), ratio_interval(COST * unit, QUALITY)
    assert one is not None
    assert other is not None
    assert (other.low, other.high) == pytest.approx((one.low * unit, one.high * unit))
    pure = value_ratio_bootstrap(COST, OTHER, QUALITY, QUALITY)
    same = value_ratio_bootstrap(COST * unit, OTHER * unit, QUALITY, QUALITY)
    assert pure is not None
    assert same is not None
    assert (same.low, same.high) == pytest.approx((pure.low, pure.high))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_cases_changes_no_interval(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(120)
    clusters = np.arange(120) // 3
    here = ratio_interval(COST, QUALITY, clusters=clusters)
    there = ratio_interval(COST[order], QUALITY[order], clusters=clusters[order])
    assert here is not None
    assert there is not None
    assert (here.low, here.high) == pytest.approx((there.low, there.high))
    p, q = (
        percentile_interval(COST, 50, clusters=clusters),
        percentile_interval(COST[order], 50, clusters=clusters[order]),
    )
    assert p == q


def test_negative_sums_have_no_ratio() -> None:
    with pytest.raises(InvalidNumbersError, match="at least 0"):
        ratio_interval([-1.0, 2.0], [1.0, 1.0])
