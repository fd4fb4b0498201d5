"""The promises, measured: 4,000 simulated years at every margin and bar."""

import numpy as np
import pytest

from app.stats.drift import Cause
from tests.calibration.drifts import (
    DriftWorld,
    attribution_within,
    false_attributions,
    false_regressions,
)
from tests.calibration.spending import SIX_MIXED, margin_of_six, price_cut, spend
from tests.calibration.tables import (
    Size,
    biased_rate,
    coverage,
    false_alert_rate,
    resolution_weeks,
    weeks_to_alert,
)
from tests.calibration.worlds import CHANGE_WEEK, WORLDS
from tests.calibration.years import simulate

pytestmark = pytest.mark.slow

FULL_YEARS = 4000
OTHER_YEARS = 400
AT_NO_MARGIN = {"twins", "cheap-bad"}
NULLS = sorted(name for name, world in WORLDS.items() if world.is_null and not world.is_beyond)
IS_BINARY = {name for name, world in WORLDS.items() if world.scores == "binary"}


@pytest.mark.parametrize("name", NULLS)
def test_yearly_false_alerts_stay_within_the_budget(name: str) -> None:
    world = WORLDS[name]
    years = OTHER_YEARS if name in AT_NO_MARGIN else FULL_YEARS
    rate = false_alert_rate(simulate(world, years=years, n=100, seed=1), world)
    assert rate <= (0.07 if name in IS_BINARY else 0.06)


def test_a_cheaper_equal_candidate_is_found_within_eight_weeks() -> None:
    found = weeks_to_alert(simulate(WORLDS["cheaper-equal"], years=OTHER_YEARS, n=100, seed=1))
    assert (found <= 8).mean() >= 0.98


def test_a_slightly_worse_candidate_at_half_the_cost_is_found_within_eight_weeks() -> None:
    found = weeks_to_alert(simulate(WORLDS["slightly-worse"], years=OTHER_YEARS, n=100, seed=1))
    assert (found <= 8).mean() >= 0.55


def test_a_price_cut_is_found_in_a_median_of_three_weeks() -> None:
    outcome = simulate(WORLDS["price-cut"], years=OTHER_YEARS, n=100, seed=1)
    assert np.median(weeks_to_alert(outcome, 0, CHANGE_WEEK)) <= 3


def test_a_degraded_candidate_is_resolved_in_a_median_of_two_weeks() -> None:
    size = Size(power_years=OTHER_YEARS)
    assert np.median(resolution_weeks(WORLDS["degradation"], size, 100)) <= 2


@pytest.mark.parametrize("n", [30, 100, 300])
def test_the_interval_on_d_covers_as_stated(n: int) -> None:
    d, _, _ = coverage(WORLDS["twins"], n, 1000, 1)
    assert 0.93 <= d <= 0.97


@pytest.mark.parametrize("name", ["heavy-bar", "pareto-bar"])
@pytest.mark.parametrize("n", [30, 100, 300])
def test_the_interval_on_r_covers_under_heavy_tails(name: str, n: int) -> None:
    _, _, r = coverage(WORLDS[name], n, 1000, 1)
    assert r >= 0.92


def test_adaptive_spending_halves_the_bill_without_delaying_what_it_finds() -> None:
    full = spend(SIX_MIXED, years=250, n=100, is_adaptive=False)
    lean = spend(SIX_MIXED, years=250, n=100)
    assert lean.calls <= 0.45
    never = 99
    before, after = (
        np.median(np.where(run.alerted[:, :2] > 0, run.alerted[:, :2], never), axis=0)
        for run in (full, lean)
    )
    assert after.tolist() == before.tolist()


@pytest.mark.parametrize("week", [5, CHANGE_WEEK])
def test_adaptive_spending_finds_a_price_cut_in_a_median_of_three_weeks(week: int) -> None:
    alerted = spend(price_cut(week), years=OTHER_YEARS, n=100, weeks=week + 12).alerted[:, 0]
    assert (alerted[alerted > 0] >= week).all()
    assert np.median(np.where(alerted > 0, alerted - week + 1, 99)) <= 3


def test_adaptive_spending_keeps_the_yearly_error() -> None:
    outcome = spend(margin_of_six(), years=500, n=100)
    assert (outcome.alerted > 0).any(axis=1).mean() <= 0.06


@pytest.mark.parametrize(
    ("cause", "effect"), [(Cause.PRIMARY, -0.2), (Cause.JUDGE, -0.2), (Cause.TRAFFIC, -0.15)]
)
def test_changes_are_given_to_the_right_cause_in_nine_of_ten_plans(
    cause: Cause, effect: float
) -> None:
    world = DriftWorld(cause=cause, effect=effect)
    found = [attribution_within(world, seed) for seed in range(200)]
    right = [attribution is not None and attribution.causes == (cause,) for attribution in found]
    assert np.mean(right) >= 0.9


def test_nothing_is_blamed_in_years_without_change() -> None:
    assert false_regressions(100) <= 0.08
    assert false_attributions(100) <= 0.08


@pytest.mark.parametrize("labels", [200, 500])
def test_labels_bring_a_biased_judge_back_within_the_budget(labels: int) -> None:
    assert biased_rate(100, 1000, 1, labels=labels) <= 0.06
