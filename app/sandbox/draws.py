"""Seeded draws: the same parts give the same number, in any order and any process."""

import hashlib
import math
import random
from bisect import bisect_left
from functools import lru_cache
from statistics import NormalDist

_STANDARD = NormalDist()
_SOLVER_STEPS = 36


def fingerprint(*parts: object) -> str:
    """The 24 hex digits that stand for these parts."""
    return _digest(parts, size=12).hex()


def uniform(*parts: object) -> float:
    """A number strictly between 0 and 1, fixed by the parts."""
    return (int.from_bytes(_digest(parts, size=8), "big") + 0.5) / 2.0**64


def normal(*parts: object) -> float:
    """A standard normal number, fixed by the parts."""
    return _STANDARD.inv_cdf(min(max(uniform(*parts), 1e-12), 1.0 - 1e-12))


def stream(*parts: object) -> random.Random:
    """A generator of its own, fixed by the parts."""
    return random.Random(_digest(parts, size=8))


def share(latent: float) -> float:
    """The place in 0..1 of a standard normal number among all such numbers."""
    return _STANDARD.cdf(latent)


def level(place: float, mean: float, sd: float, steps: int) -> int:
    """The level 0..steps found at a place of the distribution with this mean and spread.

    Over all places the mean of level/steps is exactly `mean`; the standard deviation is as near
    `sd` as a distribution on these levels allows. A higher place never gives a lower level.
    """
    return min(bisect_left(_cumulative(round(mean, 6), round(sd, 6), steps), place), steps)


@lru_cache(maxsize=4096)
def _cumulative(mean: float, sd: float, steps: int) -> tuple[float, ...]:
    """Cumulated probabilities of the levels 0..steps by maximum entropy."""
    points = [k / steps for k in range(steps + 1)]
    if mean <= 0.0:
        return (1.0,) * (steps + 1)
    if mean >= 1.0:
        return (0.0,) * steps + (1.0,)
    low, high = -400.0 * steps, 60.0
    weights = _weights(points, mean, 0.0)
    for _ in range(_SOLVER_STEPS):
        curve = (low + high) / 2.0
        weights = _weights(points, mean, curve)
        spread = sum(w * (x - mean) ** 2 for w, x in zip(weights, points, strict=True))
        if spread < sd * sd:
            low = curve
        else:
            high = curve
    total, cumulated = 0.0, []
    for weight in weights:
        total += weight
        cumulated.append(total)
    return tuple(cumulated)


def _weights(points: list[float], mean: float, curve: float) -> list[float]:
    """Probabilities ∝ exp(slope·(x − mean) + curve·(x − mean)²) with exactly this mean."""
    low, high = -2000.0, 2000.0
    weights: list[float] = []
    for _ in range(_SOLVER_STEPS + 12):
        slope = (low + high) / 2.0
        powers = [slope * (x - mean) + curve * (x - mean) ** 2 for x in points]
        top = max(powers)
        raw = [math.exp(power - top) for power in powers]
        total = sum(raw)
        weights = [value / total for value in raw]
        if sum(w * x for w, x in zip(weights, points, strict=True)) < mean:
            low = slope
        else:
            high = slope
    return weights


def _digest(parts: tuple[object, ...], *, size: int) -> bytes:
    text = "\x1f".join([part if isinstance(part, str) else str(part) for part in parts])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
