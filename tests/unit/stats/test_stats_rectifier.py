"""Human labels correct the judge and pay for it in uncertainty."""

from typing import Any

import numpy as np
import pytest

from app.stats.arrays import InvalidNumbersError, NotEnoughDataError
from app.stats.evidence import pair_evidence
from app.stats.rectifier import best_power, rectifier


def labelled(n: int = 200, bias: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    human = rng.uniform(0.2, 0.8, (n, 2))
    judged = np.clip(human + np.array([bias, 0.0]) + rng.normal(0, 0.05, (n, 2)), 0, 1)
    return judged, human


def test_the_shift_is_the_judges_mean_error_and_its_covariance() -> None:
    judged, human = labelled()
    found = rectifier(judged, human)
    error = human - judged
    assert found.shift == pytest.approx(tuple(error.mean(axis=0)))
    assert np.allclose(found.cov, np.cov(error, rowvar=False) / 200)
    assert (found.n, found.clusters, found.power) == (200, 200, 1.0)


def test_labels_of_one_conversation_count_once() -> None:
    judged, human = labelled()
    twice = rectifier(
        np.repeat(judged, 2, axis=0), np.repeat(human, 2, axis=0), clusters=np.arange(400) // 2
    )
    assert np.allclose(twice.cov, rectifier(judged, human).cov)
    assert twice.clusters == 200


def test_corrected_moments_move_quality_and_leave_cost() -> None:
    rng = np.random.default_rng(0)
    cost = rng.lognormal(size=100)
    moments = pair_evidence(cost, cost, rng.random(100), rng.random(100)).plain
    found = rectifier(*labelled())
    corrected = found.apply(moments)
    assert corrected.mean[:2] == moments.mean[:2]
    assert corrected.mean[2] == pytest.approx(moments.mean[2] + found.shift[0])
    assert corrected.cov[2][3] == pytest.approx(moments.cov[2][3] + found.cov[0][1])
    assert corrected.cov[0] == pytest.approx(moments.cov[0])
    assert corrected.df == 99


def test_a_power_below_one_mixes_in_the_labelled_mean() -> None:
    judged, human = labelled()
    found = rectifier(judged, human, power=0.5)
    rng = np.random.default_rng(0)
    cost = rng.lognormal(size=100)
    moments = pair_evidence(cost, cost, rng.random(100), rng.random(100)).plain
    corrected = found.apply(moments)
    by_hand = 0.5 * moments.mean[2] + (human[:, 0] - 0.5 * judged[:, 0]).mean()
    assert corrected.mean[2] == pytest.approx(by_hand)
    assert corrected.cov[0][2] == pytest.approx(0.5 * moments.cov[0][2])


def test_the_best_power_minimises_the_variance_of_the_corrected_difference() -> None:
    rng = np.random.default_rng(9)
    human = rng.random((150, 2))
    judged = np.clip(0.5 + 0.4 * (human - 0.5) + rng.normal(0, 0.2, (150, 2)), 0, 1)
    best = best_power(judged, human, unlabelled=500)
    d, f = human[:, 0] - human[:, 1], judged[:, 0] - judged[:, 1]

    def variance(power: float) -> float:
        return float(power**2 * f.var(ddof=1) / 500 + (d - power * f).var(ddof=1) / 150)

    assert 0 < best < 1
    assert variance(best) <= min(variance(best - 0.01), variance(best + 0.01))


def test_a_judge_that_says_nothing_gets_no_power_and_one_that_never_varies_full() -> None:
    rng = np.random.default_rng(1)
    human = rng.random((400, 2))
    assert best_power(1 - human, human, unlabelled=400) == 0.0
    assert best_power(np.full((400, 2), 0.5), human, unlabelled=400) == 1.0


@pytest.mark.parametrize(
    ("judged", "human", "says"),
    [
        ([[0.5, 0.5]] * 3, [[0.5, 0.5]] * 2, "same pairs"),
        ([0.5, 0.5], [0.5, 0.5], "shape"),
        ([[0.5, 1.5]] * 2, [[0.5, 0.5]] * 2, "between 0 and 1"),
        ([[0.5, np.nan]] * 2, [[0.5, 0.5]] * 2, "not finite"),
    ],
)
def test_labels_that_do_not_fit_are_refused(judged: Any, human: Any, says: str) -> None:
    with pytest.raises(InvalidNumbersError, match=says):
        rectifier(judged, human)


def test_one_label_is_not_enough() -> None:
    with pytest.raises(NotEnoughDataError):
        rectifier([[0.5, 0.5]], [[0.5, 0.5]])
    with pytest.raises(InvalidNumbersError, match="power"):
        rectifier([[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2, power=1.5)
