"""Sample-size arithmetic against the formula and against what it promises."""

from math import log

import numpy as np
import pytest
from scipy import stats

from app.stats.critical_values import critical_value
from app.stats.evidence import pair_evidence
from app.stats.planning import (
    Spread,
    design_effect,
    detectable_difference,
    detectable_ratio,
    pairs_needed,
    spread_of_history,
)
from app.stats.scan import TestPolicy

POLICY = TestPolicy()


def test_pairs_follow_the_formula() -> None:
    need = pairs_needed(difference=-0.02, ratio=0.5, policy=POLICY, candidates=4, power=0.8)
    reach = critical_value(4, 0.05) + stats.norm.ppf(0.8)
    assert need.quality == pytest.approx((reach * 0.236 / 0.03) ** 2)
    assert need.value == pytest.approx((reach * 1.03 / log(0.9 / 0.5)) ** 2)
    assert need.pairs == np.ceil(need.quality or 0)


def test_one_week_of_a_hundred_shows_a_ratio_of_58_percent_and_a_gain_of_5_points() -> None:
    assert detectable_ratio(100, policy=POLICY) == pytest.approx(0.58, abs=0.005)
    assert detectable_difference(100, policy=POLICY) == pytest.approx(0.05, abs=0.005)


def test_what_is_detectable_needs_just_so_many_pairs() -> None:
    ratio = detectable_ratio(250, policy=POLICY, candidates=3, power=0.7, design_effect=1.5)
    difference = detectable_difference(
        250, policy=POLICY, candidates=3, power=0.7, design_effect=1.5
    )
    need = pairs_needed(
        difference=difference,
        ratio=ratio,
        policy=POLICY,
        candidates=3,
        power=0.7,
        design_effect=1.5,
    )
    assert need.value == pytest.approx(250)
    assert need.quality == pytest.approx(250)


def test_an_effect_at_or_beyond_the_margin_is_never_found() -> None:
    assert pairs_needed(difference=-0.05, ratio=0.5, policy=POLICY).quality is None
    assert pairs_needed(difference=0.0, ratio=0.9, policy=POLICY).value is None
    need = pairs_needed(difference=-0.06, ratio=0.5, policy=POLICY)
    assert need.pairs is None
    assert need.weeks(100) is None


def test_weeks_are_whole_and_at_least_one() -> None:
    need = pairs_needed(difference=0.3, ratio=0.2, policy=POLICY)
    assert need.weeks(10_000) == 1
    assert need.weeks((need.pairs or 0) / 2) == 2


def test_conversations_multiply_the_pairs() -> None:
    one = pairs_needed(difference=0.0, ratio=0.6, policy=POLICY)
    four = pairs_needed(
        difference=0.0, ratio=0.6, policy=POLICY, design_effect=design_effect(4, 0.5)
    )
    assert four.quality == pytest.approx(2.5 * (one.quality or 0))


@pytest.mark.parametrize(("turns", "icc"), [(0.5, 0.5), (4, 1.2), (4, -0.1)])
def test_an_impossible_design_effect_is_refused(turns: float, icc: float) -> None:
    with pytest.raises(ValueError, match="no design effect"):
        design_effect(turns, icc)


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_certainty_cannot_be_bought(power: float) -> None:
    with pytest.raises(ValueError, match="power"):
        pairs_needed(difference=0.0, ratio=0.5, policy=POLICY, power=power)


def test_a_ratio_is_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        pairs_needed(difference=0.0, ratio=0.0, policy=POLICY)


def test_history_gives_the_plans_own_spread() -> None:
    rng = np.random.default_rng(0)
    cost, other = rng.lognormal(size=200), rng.lognormal(size=200)
    first, second = rng.uniform(0.5, 1, 200), rng.uniform(0.5, 1, 200)
    spread = spread_of_history([pair_evidence(cost, other, first, second)])
    psi = cost / cost.mean() - other / other.mean() - first / first.mean() + second / second.mean()
    assert spread.source == "history"
    assert spread.difference == pytest.approx((first - second).std(ddof=1), rel=1e-6)
    assert spread.value == pytest.approx(psi.std(ddof=1), rel=1e-6)


def test_no_or_too_little_history_leaves_the_stated_defaults() -> None:
    assert spread_of_history([]) == Spread()
    cost = np.arange(1.0, 21.0)
    short = pair_evidence(cost, cost, cost / 20, cost[::-1] / 20)
    assert spread_of_history([short]).source == "defaults"


def test_a_history_without_any_spread_is_not_believed() -> None:
    ones = np.ones(50)
    assert spread_of_history([pair_evidence(ones, ones, ones, ones)]) == Spread()


def test_a_larger_spread_needs_more_pairs() -> None:
    wide = Spread(difference=0.5, value=2.0, source="history")
    default = pairs_needed(difference=0.0, ratio=0.6, policy=POLICY)
    assert (pairs_needed(difference=0.0, ratio=0.6, policy=POLICY, spread=wide).pairs or 0) > (
        default.pairs or 0
    )
