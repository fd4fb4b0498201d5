"""A rectifier: what human labels say a judge gets wrong, with its uncertainty.

Prediction-powered inference: Angelopoulos et al. (2023), Science 382, and PPI++,
arXiv:2311.01453. The judged mean is corrected by the mean error on labelled pairs, and the
correction's own covariance is added ONCE, after weeks are pooled: added weekly as if it were
independent, it would shrink with time and raise the yearly error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from app.stats.arrays import (
    FloatArray,
    InvalidNumbersError,
    Labels,
    NotEnoughDataError,
    codes,
    finite,
)
from app.stats.evidence import Moments, Vector

MIN_LABELLED_PAIRS = 200
"""Labelled pairs per judge version and model pair below which a rectifier says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectifier:
    """Correction of the judged (quality_c, quality_p).

    corrected = power * judged mean + shift, with covariance power^2 * judged + cov.

    Attributes:
        shift: Added to (power times) the judged means.
        cov: 2x2 covariance of `shift`.
        power: How far the judge is trusted, in [0, 1]; 1 is plain prediction-powered inference.
        n: Labelled pairs.
        clusters: Independent conversations among them.
    """

    shift: tuple[float, float]
    cov: tuple[tuple[float, float], tuple[float, float]]
    power: float
    n: int
    clusters: int

    def apply(self, moments: Moments) -> Moments:
        """Return pooled moments with judged qualities corrected and both uncertainties counted."""
        scale = np.array([1.0, 1.0, self.power, self.power])
        mean = scale * np.array(moments.mean) + np.array([0.0, 0.0, *self.shift])
        cov = np.outer(scale, scale) * np.array(moments.cov)
        cov[2:, 2:] += np.array(self.cov)
        extra = self.cov[0][0] + self.cov[1][1] - 2 * self.cov[0][1]
        return Moments(
            mean=_four(mean),
            cov=(_four(cov[0]), _four(cov[1]), _four(cov[2]), _four(cov[3])),
            n_eff=moments.n_eff,
            clusters=moments.clusters,
            df=min(moments.df, self.clusters - 1.0),
            loose_variance=self.power**2 * moments.loose_variance + max(extra, 0.0),
            cost_thirds=moments.cost_thirds,
            difference_third=self.power**3 * moments.difference_third,
        )


def rectifier(
    judged: ArrayLike, human: ArrayLike, *, clusters: Labels | None = None, power: float = 1.0
) -> Rectifier:
    """Return the rectifier estimated from pairs that a human has labelled.

    Args:
        judged: Shape (n, 2): the judge's quality of candidate and primary, in 0..1.
        human: Shape (n, 2): the human's.
        clusters: Conversation of each pair (default: every pair its own).
        power: Trust in the judge; `best_power` finds the value of least variance.

    Returns:
        The Rectifier.

    Raises:
        InvalidNumbersError: If shapes differ or a number lies outside 0..1.
        NotEnoughDataError: If fewer than two conversations are labelled.

    >>> r = rectifier([[0.9, 0.5], [0.7, 0.5]], [[0.8, 0.5], [0.7, 0.5]])
    >>> [round(v, 3) for v in r.shift], round(r.cov[0][0], 4)
    ([-0.05, 0.0], 0.0025)
    """
    if not 0 <= power <= 1:
        raise InvalidNumbersError(f"power lies between 0 and 1, not {power}")
    judge, truth = _pairs(judged, "judged"), _pairs(human, "human")
    if judge.shape != truth.shape:
        raise InvalidNumbersError("judged and human must hold the same pairs")
    error = truth - power * judge
    cov, count = _cluster_covariance(error, clusters)
    shift = error.mean(axis=0)
    return Rectifier(
        shift=(float(shift[0]), float(shift[1])),
        cov=(
            (float(cov[0, 0]), float(cov[0, 1])),
            (float(cov[1, 0]), float(cov[1, 1])),
        ),
        power=power,
        n=len(judge),
        clusters=count,
    )


def best_power(
    judged: ArrayLike, human: ArrayLike, *, unlabelled: float, clusters: Labels | None = None
) -> float:
    """Return the power of least variance for D, clipped to [0, 1] (PPI++, equation 6).

    Use it only where labelled and judged pairs come from the same traffic: a power below 1 mixes
    the labelled weeks' mean into every later week, which hides drift.

    Args:
        judged: Shape (n, 2), the judge's qualities.
        human: Shape (n, 2), the human's.
        unlabelled: Effective pairs that the judge alone has scored.
        clusters: Conversation of each pair.

    >>> best_power([[0.9, 0.5], [0.7, 0.5], [0.2, 0.5]], [[0.9, 0.5], [0.7, 0.5], [0.2, 0.5]],
    ...            unlabelled=3)
    0.5
    """
    judge, truth = _pairs(judged, "judged"), _pairs(human, "human")
    d = np.column_stack((truth[:, 0] - truth[:, 1], judge[:, 0] - judge[:, 1]))
    cov, _ = _cluster_covariance(d, clusters)
    if cov[1, 1] <= 0:
        return 1.0
    ratio = cov[0, 1] / ((1 + len(d) / unlabelled) * cov[1, 1])
    return round(float(np.clip(ratio, 0.0, 1.0)), 12)


def _pairs(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise InvalidNumbersError(f"{name} must have shape (n, 2), not {array.shape}")
    finite(array.ravel(), name)
    if ((array < 0) | (array > 1)).any():
        raise InvalidNumbersError(f"{name} must lie between 0 and 1")
    return array


def _cluster_covariance(values: FloatArray, clusters: Labels | None) -> tuple[FloatArray, int]:
    """Return the cluster-robust covariance of the mean and the number of clusters."""
    n = len(values)
    group = codes(clusters, "clusters", length=n)
    count = int(group.max()) + 1 if n else 0
    if count < 2:
        raise NotEnoughDataError(f"{count} labelled conversation(s) cannot carry a variance")
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, group, (values - values.mean(axis=0)) / n)
    return count / (count - 1) * (sums.T @ sums), count


def _four(values: FloatArray) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]), float(values[3]))
