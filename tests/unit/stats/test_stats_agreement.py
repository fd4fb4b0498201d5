"""Agreement of raters against independent computations."""

import numpy as np
import pytest
from scipy import stats

from app.stats.agreement import spearman, weighted_kappa
from app.stats.arrays import InvalidNumbersError, NotEnoughDataError

LEVELS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
RNG = np.random.default_rng(6)
FIRST = RNG.choice(LEVELS, 80)
SECOND = np.clip(FIRST + RNG.choice([-0.25, 0.0, 0.0, 0.25], 80), 0, 1)


def kappa_by_hand(a: np.ndarray, b: np.ndarray, power: int) -> float:
    observed = np.mean(np.abs(a - b) ** power)
    chance = np.mean([[abs(x - y) ** power for y in b] for x in a])
    return float(1 - observed / chance)


@pytest.mark.parametrize(("weighting", "power"), [("quadratic", 2), ("linear", 1)])
def test_kappa_weighs_disagreement_by_distance(weighting: str, power: int) -> None:
    found = weighted_kappa(FIRST, SECOND, weighting=weighting)  # type: ignore[arg-type]
    assert found is not None
    assert found.point == pytest.approx(kappa_by_hand(FIRST, SECOND, power))
    assert found.low < found.point < found.high


def test_random_raters_do_not_agree() -> None:
    found = weighted_kappa(FIRST, RNG.permutation(FIRST))
    assert found is not None
    assert not found.excludes(0.0)


def test_a_rater_who_never_varies_has_no_kappa() -> None:
    assert weighted_kappa(np.full(20, 0.5), np.full(20, 0.5)) is None


def test_kappa_ignores_the_order_of_items() -> None:
    order = RNG.permutation(80)
    assert weighted_kappa(FIRST[order], SECOND[order]) == weighted_kappa(FIRST, SECOND)


def test_spearman_agrees_with_scipy_and_brackets_it() -> None:
    found = spearman(FIRST, SECOND)
    assert found is not None
    assert found.point == pytest.approx(stats.spearmanr(FIRST, SECOND).statistic)
    z = np.arctanh(found.point)
    half = 1.959964 * np.sqrt((1 + found.point**2 / 2) / 77)
    assert (found.low, found.high) == pytest.approx((np.tanh(z - half), np.tanh(z + half)))


def test_perfect_order_is_not_beyond_one() -> None:
    found = spearman(np.arange(12), np.arange(12))
    assert found is not None
    assert found.point <= 1.0


def test_no_order_means_no_correlation() -> None:
    assert spearman(np.full(12, 0.5), np.arange(12)) is None


def test_few_or_unequal_ratings_are_refused() -> None:
    with pytest.raises(NotEnoughDataError, match="9 rated items"):
        spearman(np.arange(9), np.arange(9))
    with pytest.raises(InvalidNumbersError, match="cannot be compared"):
        weighted_kappa(np.zeros(12), np.zeros(11))
    with pytest.raises(InvalidNumbersError, match="ascending"):
        weighted_kappa(FIRST, SECOND, levels=(1.0, 0.0))
