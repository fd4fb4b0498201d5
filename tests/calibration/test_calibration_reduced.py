"""A quick look at the promises: too few years to measure, enough to catch a broken method."""

import numpy as np
import pytest

from app.stats.drift import Cause
from tests.calibration.drifts import DriftWorld, attribution_within
from tests.calibration.spending import SIX_MIXED, spend
from tests.calibration.tables import (
    Size,
    biased_rate,
    coverage,
    false_alert_rate,
    resolution_weeks,
    weeks_to_alert,
)
from tests.calibration.worlds import CHANGE_WEEK, WORLDS
from tests.calibration.years import binomial_interval, simulate

YEARS = 150
NULLS = sorted(name for name, world in WORLDS.items() if world.is_null and not world.is_beyond)
BOUND = 0.07


@pytest.mark.parametrize("name", NULLS)
def test_false_alerts_are_rare_where_nobody_qualifies(name: str) -> None:
    world = WORLDS[name]
    rate = false_alert_rate(simulate(world, years=YEARS, n=100, seed=11), world)
    low, _ = binomial_interval(round(rate * YEARS), YEARS)
    assert low <= BOUND


def test_a_cheaper_equal_candidate_is_found_within_eight_weeks() -> None:
    found = weeks_to_alert(simulate(WORLDS["cheaper-equal"], years=YEARS, n=100, seed=11))
    assert (found <= 8).mean() >= 0.96


def test_a_slightly_worse_candidate_at_half_the_cost_is_found_more_often_than_not() -> None:
    found = weeks_to_alert(simulate(WORLDS["slightly-worse"], years=YEARS, n=100, seed=11))
    assert (found <= 8).mean() >= 0.5


def test_one_good_candidate_is_found_among_three_that_do_not_qualify() -> None:
    world = WORLDS["one-good-of-four"]
    outcome = simulate(world, years=100, n=100, seed=11)
    assert (weeks_to_alert(outcome) <= 8).mean() >= 0.9
    assert false_alert_rate(outcome, world) <= 0.1


def test_a_price_cut_is_found_within_three_weeks() -> None:
    outcome = simulate(WORLDS["price-cut"], years=100, n=100, seed=11)
    assert np.median(weeks_to_alert(outcome, 0, CHANGE_WEEK)) <= 3


def test_a_degraded_candidate_is_resolved_within_two_weeks() -> None:
    weeks = resolution_weeks(WORLDS["degradation"], Size(power_years=100, seed=11), 100)
    assert len(weeks) > 80
    assert np.median(weeks) <= 2


def test_displayed_intervals_cover_the_truth() -> None:
    d, _, r = coverage(WORLDS["twins"], 100, 80, 11)
    assert 0.88 <= d <= 0.99
    assert r >= 0.86


def test_adaptive_spending_saves_more_than_half_of_the_calls() -> None:
    assert spend(SIX_MIXED, years=15, n=100, weeks=26, seed=11).calls <= 0.5


@pytest.mark.parametrize(
    ("cause", "effect"), [(Cause.PRIMARY, -0.2), (Cause.JUDGE, -0.2), (Cause.TRAFFIC, -0.15)]
)
def test_a_change_is_given_to_its_cause_within_two_runs(cause: Cause, effect: float) -> None:
    world = DriftWorld(cause=cause, effect=effect)
    found = [attribution_within(world, seed) for seed in range(20)]
    right = [attribution is not None and attribution.causes == (cause,) for attribution in found]
    assert sum(right) >= 16


def test_a_biased_judge_misleads_until_labels_correct_it() -> None:
    assert biased_rate(100, 100, 11, labels=0) > 0.5
    assert biased_rate(100, 100, 11, labels=200) < 0.15
