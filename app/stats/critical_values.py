"""Critical values of SCAN: how large the best of many looks must be.

Under the worst null a candidate's weekly z's are independent standard normals, and SCAN takes the
largest of its pooled windows in each of 52 weeks. `simulate_maxima` draws that largest value for
200,000 years; its upper quantiles are the critical values. By Bonferroni over M candidates they
depend on alpha / M alone, so one table of levels serves every plan.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite

import numpy as np
from scipy import special

from app.stats.arrays import FloatArray

WINDOWS = (1, 2, 3, 4, 6, 8, 12)
"""Weeks pooled by SCAN."""

WEEKS_PER_YEAR = 52
PATHS = 200_000
SEED = 11

TABLE: tuple[tuple[float, float], ...] = (
    (0.5, 2.5022),
    (0.4, 2.6286),
    (0.3, 2.7721),
    (0.25, 2.8536),
    (0.2, 2.9462),
    (0.15, 3.0581),
    (0.1, 3.2059),
    (0.2 / 3, 3.3394),
    (0.05, 3.4310),
    (0.1 / 3, 3.5510),
    (0.025, 3.6334),
    (0.05 / 3, 3.7500),
    (0.0125, 3.8277),
    (0.01, 3.8886),
    (0.05 / 6, 3.9416),
    (0.00625, 4.0189),
    (0.005, 4.0772),
    (0.05 / 12, 4.1206),
    (0.003, 4.2004),
    (0.002, 4.2843),
    (0.0015, 4.3436),
    (0.001, 4.4468),
    (0.0007, 4.5096),
    (0.0005, 4.6094),
    (0.0003, 4.7123),
    (0.0002, 4.8280),
    (0.0001, 4.9788),
)
"""(alpha / M, critical value), as `table()` recomputes them."""

_LOG_LEVELS = np.log([level for level, _ in TABLE[::-1]])
_VALUES = np.array([value for _, value in TABLE[::-1]])


@lru_cache(maxsize=256)
def critical_value(candidates: int, alpha: float) -> float:
    """Return the z that the best window of a candidate must reach.

    Args:
        candidates: Candidates of the plan, M >= 1.
        alpha: Chance per year of any false alert, in (0, 0.5].

    Returns:
        c(M, alpha), interpolated in the shipped table; beyond its last level the Bonferroni bound
        over every look of the year, which is conservative.

    Raises:
        ValueError: If the arguments are out of range.

    >>> [round(critical_value(m, 0.05), 2) for m in (1, 4, 12)]
    [3.43, 3.83, 4.12]
    """
    if candidates < 1:
        raise ValueError(f"a plan has at least one candidate, not {candidates}")
    if not (isfinite(alpha) and 0 < alpha <= TABLE[0][0]):
        raise ValueError(f"the yearly false-alert budget must lie in (0, 0.5], not {alpha}")
    level = alpha / candidates
    if level < TABLE[-1][0]:
        looks = WEEKS_PER_YEAR * len(WINDOWS)
        return float(-special.ndtri(level / looks))
    return float(np.interp(np.log(level), _LOG_LEVELS, _VALUES))


def simulate_maxima(
    paths: int = PATHS, *, seed: int = SEED, weeks: int = WEEKS_PER_YEAR
) -> FloatArray:
    """Return the largest windowed z of each simulated null year, sorted ascending.

    Windows are already full in the first week: the plan has run for a while.

    Args:
        paths: Years to draw; rounded up to whole batches of 10,000.
        seed: Seed of the generator.
        weeks: Looks per year.

    Returns:
        Shape (paths,), sorted.

    >>> maxima = simulate_maxima(10_000)
    >>> 3.3 < float(np.quantile(maxima, 0.95)) < 3.6
    True
    """
    rng = np.random.default_rng(seed)
    batch = 10_000
    longest = max(WINDOWS)
    maxima = []
    for _ in range(-(-paths // batch)):
        walk = np.zeros((weeks + longest, batch))
        np.cumsum(rng.standard_normal((weeks + longest - 1, batch)), axis=0, out=walk[1:])
        largest = np.full(batch, -np.inf)
        for window in WINDOWS:
            sums = walk[longest:] - walk[longest - window : -window]
            np.maximum(largest, sums.max(axis=0) / np.sqrt(window), out=largest)
        maxima.append(largest)
    return np.sort(np.concatenate(maxima))


def table(maxima: FloatArray, levels: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return (level, critical value) for each level, as shipped in `TABLE`.

    >>> table(np.arange(101.0), [0.5, 0.05])
    ((0.5, 50.0), (0.05, 95.0))
    """
    return tuple((level, round(float(np.quantile(maxima, 1 - level)), 4)) for level in levels)
