"""Each test of a switch against its formula written out by hand."""

from math import log, sqrt

import numpy as np
import pytest
from scipy import stats

from app.stats.evidence import pair_evidence
from app.stats.switch_tests import (
    NEVER,
    LatencyCheck,
    cost_skewness,
    is_supported,
    latency_check,
    quality_z,
    success_z,
    value_ratio,
    value_refusal,
    value_z,
    z_of_t,
)

MEAN = np.array([0.6, 1.0, 0.72, 0.75])
COV = np.array(
    [
        [4e-3, 2e-3, 0.0, 0.0],
        [2e-3, 8e-3, 0.0, 0.0],
        [0.0, 0.0, 6e-4, 3e-4],
        [0.0, 0.0, 3e-4, 6e-4],
    ]
)


def to_z(t: float, df: float) -> float:
    return float(stats.norm.ppf(stats.t.cdf(t, df)))


def test_t_becomes_the_z_of_the_same_tail() -> None:
    for t in (-3.0, -0.2, 0.0, 1.5, 4.0):
        assert float(z_of_t(t, 17)) == pytest.approx(to_z(t, 17), abs=1e-9)


def test_a_huge_t_keeps_a_finite_z() -> None:
    assert z_of_t([np.inf, -np.inf, 1e9, -1e9], 1e4).tolist() == [-NEVER, NEVER, -NEVER, NEVER]


def test_quality_adds_half_a_lost_pair() -> None:
    n, k, margin = 100.0, 0.5, 0.05
    d, per_pair = -0.03, n * 6e-4
    shrunk = (n * d - k) / (n + k)
    spread = (n * (per_pair + d * d) + k) / (n + k) - shrunk**2
    assert spread > margin * (1 - margin)
    t = (shrunk + margin) / sqrt(spread / (n + k))
    assert float(quality_z(MEAN, COV, n, 99, margin=margin)) == pytest.approx(to_z(t, 99))


def test_quality_floors_the_variance_of_ties() -> None:
    n, k, margin = 200.0, 0.5, 0.05
    t = (-k / (n + k) + margin) / sqrt(margin * (1 - margin) / (n + k))
    z = quality_z([1, 1, 0.9, 0.9], np.zeros((4, 4)), n, 199, margin=margin)
    assert float(z) == pytest.approx(to_z(t, 199))


def test_value_takes_the_smaller_of_delta_and_fieller() -> None:
    x_c, x_p, q_c, q_p = MEAN
    bar = 0.9
    delta = np.array([1 / x_c, -1 / x_p, -1 / q_c, 1 / q_p])
    t_delta = (log(bar) - log(x_c / q_c / (x_p / q_p))) / sqrt(delta @ COV @ delta)
    linear = np.array([q_p, -bar * q_c, -bar * x_p, x_c])
    t_linear = (bar * x_p * q_c - x_c * q_p) / sqrt(linear @ COV @ linear)
    expected = min(to_z(t_delta, 99), to_z(t_linear, 99))
    assert float(value_z(MEAN, COV, 1e6, 99, bar=bar)) == pytest.approx(expected)


def test_value_floors_the_variance_by_the_losses_the_saving_affords() -> None:
    bar, n = 0.9, 100.0
    mean = [0.8, 1.0, 1.0, 1.0]
    a = 0.8 / bar
    t_linear = (bar - 0.8) / sqrt(a * (1 - a) / n * bar**2)
    t_delta = (log(bar) - log(0.8)) / sqrt((1 - a) / a / n)
    z = value_z(mean, np.zeros((4, 4)), n, 99, bar=bar)
    assert float(z) == pytest.approx(min(to_z(t_linear, 99), to_z(t_delta, 99)))


def test_a_bill_with_the_heavier_tail_convinces_less() -> None:
    plain = value_z(MEAN, COV, 100, 99, bar=0.9)
    leaning = value_z(MEAN, COV, 100, 99, bar=0.9, skewness=-2.0)
    assert float(leaning) < float(plain)
    assert float(value_z(MEAN, COV, 100, 99, bar=0.9, skewness=2.0)) == float(plain)


def test_halls_transformation_is_the_published_cubic() -> None:
    x_c, x_p, q_c, q_p = MEAN
    bar, n, skewness = 0.9, 1e4, -2.0
    linear = np.array([q_p, -bar * q_c, -bar * x_p, x_c])
    delta = np.array([1 / x_c, -1 / x_p, -1 / q_c, 1 / q_p])
    t = min(
        (bar * x_p * q_c - x_c * q_p) / sqrt(linear @ COV @ linear),
        (log(bar) - log(x_c / q_c / (x_p / q_p))) / sqrt(delta @ COV @ delta),
    )
    g = skewness / sqrt(n)
    bent = t + g / 3 * t**2 + g**2 / 27 * t**3 + g / 6
    z = value_z(MEAN, COV, n, 1e9, bar=bar, skewness=skewness)
    assert float(z) == pytest.approx(bent, abs=1e-6)


def test_no_saving_however_large_convinces_from_a_handful_of_skewed_bills() -> None:
    mean = [0.01, 1.0, 0.75, 0.75]
    z = value_z(mean, COV * 1e-4, 20, 1e9, bar=0.9, skewness=-6.0)
    assert float(z) < 3.43


def test_skewness_is_that_of_the_linear_form() -> None:
    rng = np.random.default_rng(5)
    cost_c, cost_p = rng.lognormal(sigma=1.2, size=400), rng.lognormal(sigma=0.3, size=400)
    ones = np.ones(400)
    pairs = pair_evidence(cost_c, cost_p, ones, ones)
    got = cost_skewness(pairs.mean, pairs.cov, 400, pairs.cost_thirds, bar=0.9)
    assert float(got) == pytest.approx(stats.skew(0.9 * cost_p - cost_c, bias=False), rel=0.01)


@pytest.mark.parametrize(
    ("mean", "says"),
    [
        ([1.0, 1.0, 0.0, 0.5], "candidate earned no quality"),
        ([1.0, 1.0, -0.1, 0.5], "candidate earned no quality"),
        ([1.0, 1.0, 0.5, 0.0], "primary earned no quality"),
        ([1.0, 0.0, 0.5, 0.5], "primary cost nothing"),
    ],
)
def test_a_ratio_without_a_denominator_is_refused_with_a_reason(
    mean: list[float], says: str
) -> None:
    assert float(value_z(mean, COV, 100, 99, bar=0.9)) == NEVER
    assert says in (value_refusal((mean[0], mean[1], mean[2], mean[3])) or "")


def test_a_candidate_that_costs_nothing_saves() -> None:
    cov = COV.copy()
    cov[0, :] = cov[:, 0] = 0.0
    assert float(value_z([0.0, 1.0, 0.7, 0.75], cov, 100, 99, bar=0.9)) > 5


def test_no_test_ever_yields_nan() -> None:
    values = [0.0, 1e-12, 0.5, 1.0]
    means = np.array(np.meshgrid(values, values, values, values)).reshape(4, -1).T
    for cov in (np.zeros((4, 4)), COV):
        z = value_z(means, np.broadcast_to(cov, (len(means), 4, 4)), 30, 29, bar=0.9)
        q = quality_z(means, np.broadcast_to(cov, (len(means), 4, 4)), 30, 29, margin=0.05)
        assert np.isfinite(z).all()
        assert np.isfinite(q).all()


def test_success_follows_bonett_and_price() -> None:
    n, n10, n01 = 120, 7, 3
    a, b = (n10 + 1) / (n + 2), (n01 + 1) / (n + 2)
    z = (b - a + 0.05) / sqrt((a + b - (b - a) ** 2) / (n + 2))
    assert float(success_z(n, n10, n01, margin=0.05)) == pytest.approx(z)


def test_success_of_thirty_ties_is_not_taken_for_granted() -> None:
    assert float(success_z(30, 0, 0, margin=0.05)) < 2.33
    assert float(success_z(100, 0, 0, margin=0.05)) > 2.33


def latency(ratio: float, n: int) -> LatencyCheck:
    one = np.ones(n)
    pairs = pair_evidence(one, one, one, one, latency_c=one * ratio, latency_p=one)
    return latency_check(pairs, p50_bound=1.25, p95_bound=1.5)


def test_latency_within_bounds_passes() -> None:
    assert latency(1.2, 100).passes


def test_latency_beyond_the_median_bound_is_slower() -> None:
    check = latency(1.3, 100)
    assert check.is_slower
    assert not check.passes


def test_an_unsupported_p95_blocks_without_being_called_slower() -> None:
    check = latency(1.0, 99)
    assert check.p95_ratio is None
    assert not check.is_slower
    assert not check.passes


def test_a_tail_may_be_slower_where_the_median_is_not() -> None:
    one = np.ones(100)
    tail = np.r_[np.ones(90), np.full(10, 9.0)]
    pairs = pair_evidence(one, one, one, one, latency_c=tail, latency_p=one)
    check = latency_check(pairs, p50_bound=1.25, p95_bound=1.5)
    assert check.p50_ratio == 1.0
    assert check.is_slower


def test_a_candidate_that_is_slow_on_most_of_the_traffic_is_slower() -> None:
    one = np.ones(200)
    slow = np.r_[np.full(50, 3.0), np.ones(150)]
    heavy = np.r_[np.full(50, 9.0), np.ones(150)]  # a quarter of the rows, three quarters of calls
    pairs = pair_evidence(one, one, one, one, weights=heavy, latency_c=slow, latency_p=one)
    check = latency_check(pairs, p50_bound=1.25, p95_bound=5.0)
    assert check.p50_ratio == 3.0
    assert check.is_slower


@pytest.mark.parametrize(("n", "percent"), [(100, 95), (500, 99), (10, 50)])
def test_a_percentile_needs_five_observations_beyond_it(n: int, percent: int) -> None:
    assert is_supported(n, percent)
    assert not is_supported(n - 1, percent)


def test_the_value_ratio_is_a_ratio_of_sums() -> None:
    assert float(value_ratio([2.0, 8.0, 0.5, 0.8])) == pytest.approx((2 / 0.5) / (8 / 0.8))
    assert float(value_ratio([2.0, 8.0, 0.0, 0.8])) == np.inf
