"""Worlds: streams of weekly results whose true D and R are known exactly.

Scores lie on the judge's five levels (or are right or wrong) and come from a Gaussian copula, so
their means are exact sums, not simulated ones. Costs are log-normal with mean exactly one times
the model's price. Model 0 is the primary.

The default world has q_p = .75, a between-model correlation of scores of .55, sd(d) = .236 and a
standard deviation of the per-prompt influence on ln R of 1.03.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEVELS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
SCORE_SD = 0.249
SCORE_LATENT_CORRELATION = 0.622
COST_SIGMA = 0.95
COST_SHARED_VARIANCE = 0.686


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One week of many years: cost, quality, ok and scored have shape (years, n, models).

    Costs are at the first week's prices. Rows come in conversations of `turns`.
    """

    cost: Floats
    quality: Floats
    ok: Bools | None = None
    scored: Bools | None = None
    turns: int = 1


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is true of each candidate in a week."""

    difference: tuple[float, ...]
    ratio: tuple[float, ...]

    def qualifies(self, margin: float = 0.05, bar: float = 0.9) -> tuple[bool, ...]:
        slack = 1e-9  # a candidate exactly at a margin does not qualify
        return tuple(
            d > -margin + slack and r < bar - slack
            for d, r in zip(self.difference, self.ratio, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model's true mean quality, and its cost as a multiple of the primary's."""

    quality: float = 0.75
    cost: float = 1.0


@dataclass(frozen=True, kw_only=True)
class World:
    """A stream of weeks with known truth.

    `scores` draws quality for given means (graded ones correlate between models by
    `score_correlation` before they are rounded to levels), `change(week, candidate)` moves a candidate over time,
    `price(week)` multiplies candidates' costs from then on (stored usage is re-priced), and
    `hide_worst` leaves a share of replies unscored, the worst ones. `dear_tail` gives the
    candidates' costs a log-normal tail of their own, `dear_calls` makes a share of their calls so
    many times dearer, `dear_pareto` gives them a Pareto tail; none changes their mean cost. A world that
    `is_beyond` shows where the method ends: no bound is promised there.
    """

    name: str
    says: str
    candidates: tuple[Candidate, ...]
    primary: Candidate = field(default_factory=Candidate)
    scores: str = "graded"
    score_correlation: float = SCORE_LATENT_CORRELATION
    flips: tuple[float, float] = (0.0, 0.0)
    turns: int = 1
    icc: float = 0.0
    cost_sigma: float = COST_SIGMA
    cost_shared: float = COST_SHARED_VARIANCE
    pareto: float | None = None
    dear_tail: float = 0.0
    dear_pareto: float | None = None
    dear_calls: tuple[float, float] = (0.0, 1.0)
    change: Callable[[int, Candidate], Candidate] | None = None
    price: Callable[[int], float] | None = None
    wander: float = 0.0
    hide_worst: float = 0.0
    is_null: bool = True
    is_beyond: bool = False

    @property
    def models(self) -> int:
        return 1 + len(self.candidates)

    def candidates_in(self, week: int) -> tuple[Candidate, ...]:
        change = self.change
        if change is None:
            return self.candidates
        return tuple(change(week, candidate) for candidate in self.candidates)

    def price_factor(self, week: int) -> float:
        return 1.0 if self.price is None else self.price(week)

    def _dear(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats | float:
        share, factor = self.dear_calls
        if share:
            return np.where(rng.random(shape) < share, factor, 1.0) / (1 + share * (factor - 1))
        if self.dear_pareto is not None:
            a = self.dear_pareto
            return rng.random(shape) ** (-1 / a) * (a - 1) / a
        if self.dear_tail:
            return np.exp(self.dear_tail * rng.standard_normal(shape) - self.dear_tail**2 / 2)
        return 1.0

    def truth(self, week: int = 0) -> Truth:
        p = self.primary
        now = self.candidates_in(week)
        return Truth(
            difference=tuple(c.quality - p.quality for c in now),
            ratio=tuple(
                (c.cost * self.price_factor(week) / c.quality) / (p.cost / p.quality) for c in now
            ),
        )

    def draw(self, rng: np.random.Generator, years: int, n: int, week: int) -> Batch:
        """Draw week `week` (from 0) of `years` independent years."""
        now = (self.primary, *self.candidates_in(week))
        means = np.array([model.quality for model in now]) + self.wander * np.sin(week / 3.0)
        quality = _SCORES[self.scores](self, rng, (years, n), means)
        cost = self._costs(rng, (years, n), np.array([model.cost for model in now]), week)
        batch = Batch(cost=cost, quality=quality, turns=self.turns)
        return _hide_worst(batch, self.hide_worst) if self.hide_worst else batch

    def _costs(
        self, rng: np.random.Generator, shape: tuple[int, int], prices: Floats, week: int
    ) -> Floats:
        shared_sd = np.sqrt(self.cost_shared)
        own_sd = np.sqrt(max(self.cost_sigma**2 - self.cost_shared, 0.0))
        common = _clustered(rng, (*shape, 1), self.turns, self.icc)
        own = _clustered(rng, (*shape, self.models), self.turns, self.icc)
        cost = np.exp(own_sd * own - own_sd**2 / 2).astype(np.float64)
        if self.pareto is None:
            cost *= np.exp(shared_sd * common - self.cost_shared / 2)
        else:
            tail = special.ndtr(-common.astype(np.float64))
            cost *= tail ** (-1 / self.pareto) * (self.pareto - 1) / self.pareto
        cost[..., 1:] *= self._dear(rng, (*shape, self.models - 1))
        # traffic drifts: every model's prompts get longer and shorter together
        return np.asarray(cost * prices * np.exp(2 * self.wander * np.sin(week / 4.0)))


def graded(world: World, rng: np.random.Generator, shape: tuple[int, int], means: Floats) -> Floats:
    """Scores on five levels with exactly these means."""
    r = world.score_correlation
    common = _clustered(rng, (*shape, 1), world.turns, world.icc)
    latent = np.sqrt(r) * common + np.sqrt(1 - r) * _clustered(
        rng, (*shape, len(means)), world.turns, world.icc
    )
    quality = np.zeros(latent.shape)
    for model, mean in enumerate(means):
        for threshold in thresholds(round(float(mean), 12)):
            quality[..., model] += 0.25 * (latent[..., model] > threshold)
    return quality


def binary(world: World, rng: np.random.Generator, shape: tuple[int, int], means: Floats) -> Floats:
    """Right or wrong: the candidate loses `flips[0]` and wins `flips[1]` of all pairs.

    The primary is right where a shared draw lies below its mean; the candidate's answer flips in
    fixed bands of that draw, so that losses and wins have exactly these shares.
    """
    lost, won = world.flips
    p = float(means[0])
    quality = np.empty((*shape, len(means)))
    base = _uniform(rng, (*shape, 1), world)[..., 0]
    quality[..., 0] = base < p
    for model in range(1, len(means)):
        u = _uniform(rng, (*shape, 1), world)[..., 0]
        right = quality[..., 0] == 1
        quality[..., model] = np.where(right, u >= lost / p, u < won / (1 - p) if p < 1 else False)
    return quality


_SCORES: dict[str, Callable[[World, np.random.Generator, tuple[int, int], Floats], Floats]] = {
    "graded": graded,
    "binary": binary,
}


@lru_cache(maxsize=256)
def thresholds(mean: float) -> tuple[float, ...]:
    """Return the latent thresholds of the flattest five-level score with this mean and sd .249."""

    def shares(tilt: Any) -> Any:
        weight = np.exp(tilt[0] * LEVELS + tilt[1] * LEVELS**2)
        return weight / weight.sum()

    def misfit(tilt: Any) -> Any:
        p = shares(tilt)
        return [p @ LEVELS - mean, p @ LEVELS**2 - mean**2 - SCORE_SD**2]

    solution = optimize.root(misfit, [0.0, 0.0], tol=1e-14)
    assert np.abs(misfit(solution.x)).max() < 1e-9, f"no five-level score has mean {mean}"
    above = 1 - np.cumsum(shares(solution.x))[:-1]
    return tuple(float(z) for z in -special.ndtri(above))


def _clustered(
    rng: np.random.Generator, shape: tuple[int, ...], turns: int, icc: float
) -> NDArray[np.float32]:
    """Standard normals, correlated by `icc` within runs of `turns` rows (axis 1)."""
    own = rng.standard_normal(shape, dtype=np.float32)
    if turns == 1:
        return own
    years, n, models = shape
    groups = -(-n // turns)
    shared = np.repeat(rng.standard_normal((years, groups, models), np.float32), turns, axis=1)
    return np.asarray(np.sqrt(icc) * shared[:, :n] + np.sqrt(1 - icc) * own, dtype=np.float32)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], world: World) -> Floats:
    if world.turns == 1:
        return rng.random(shape)
    return np.asarray(special.ndtr(_clustered(rng, shape, world.turns, world.icc)), np.float64)


def _hide_worst(batch: Batch, share: float) -> Batch:
    """Leave unscored the pairs in which each candidate did worst against the primary."""
    years, n, models = batch.quality.shape
    scored = np.ones((years, n, models), dtype=bool)
    hidden = round(share * n)
    for model in range(1, models):
        gap = batch.quality[..., model] - batch.quality[..., 0]
        worst = np.argpartition(gap, hidden, axis=1)[:, :hidden]
        np.put_along_axis(scored[..., model], worst, values=False, axis=1)
    return replace(batch, scored=scored)


def _from_week(
    first: int, before: Candidate, after: Candidate
) -> Callable[[int, Candidate], Candidate]:
    return lambda week, _: before if week < first else after


def _at_ratio(ratio: float, quality: float, primary: float = 0.75) -> Candidate:
    """Return the candidate of this quality whose value ratio is exactly `ratio`."""
    return Candidate(quality=quality, cost=ratio * quality / primary)


MARGIN = 0.05
BAR = 0.90
CHANGE_WEEK = 13

WORLDS: dict[str, World] = {
    world.name: world
    for world in (
        World(name="twins", says="one candidate, equal in all", candidates=(Candidate(),)),
        World(
            name="margin",
            says="D = -.05 exactly, at half the cost",
            candidates=(Candidate(quality=0.70, cost=0.5),),
        ),
        World(
            name="margin-of-four",
            says="four candidates, each at D = -.05 exactly",
            candidates=(Candidate(quality=0.70, cost=0.5),) * 4,
        ),
        World(
            name="bar",
            says="R = .90 exactly, quality +.10",
            candidates=(_at_ratio(BAR, 0.85),),
        ),
        World(
            name="bar-equal",
            says="R = .90 exactly, equal quality",
            candidates=(_at_ratio(BAR, 0.75),),
        ),
        World(
            name="heavy-bar",
            says="costs with sigma 1.5 (kurtosis in the thousands), R = .90 exactly",
            candidates=(_at_ratio(BAR, 0.85),),
            cost_sigma=1.5,
            cost_shared=1.6,
        ),
        World(
            name="pareto-bar",
            says="Pareto costs (tail index 2.2), R = .90 exactly",
            candidates=(_at_ratio(BAR, 0.85),),
            cost_sigma=0.5,
            cost_shared=0.0,
            pareto=2.2,
        ),
        World(
            name="dear-tail-bar",
            says="the candidate's costs alone have a heavy tail (sigma 1), R = .90 exactly",
            candidates=(_at_ratio(BAR, 0.85),),
            cost_sigma=0.5,
            cost_shared=0.2,
            dear_tail=1.0,
        ),
        World(
            name="dear-calls-bar",
            says="2 % of the candidate's calls cost 20 times as much, R = .90 exactly",
            candidates=(_at_ratio(BAR, 0.75),),
            cost_sigma=0.5,
            cost_shared=0.2,
            dear_calls=(0.02, 20.0),
        ),
        World(
            name="dear-pareto-bar",
            says="the candidate's costs alone have a Pareto tail (index 2.2), R = .90 exactly: beyond "
            "what is promised",
            candidates=(_at_ratio(BAR, 0.85),),
            cost_sigma=0.5,
            cost_shared=0.2,
            dear_pareto=2.2,
            is_beyond=True,
        ),
        World(
            name="cheap-bad",
            says="quality .33 against .91 at 1/79 of the cost per point",
            primary=Candidate(quality=0.91),
            candidates=(Candidate(quality=0.33, cost=0.33 / 0.91 / 79),),
        ),
        World(
            name="eight-nulls",
            says="eight candidates, four at D = -.05 and four at R = .90",
            candidates=(Candidate(quality=0.70, cost=0.5),) * 4 + (_at_ratio(BAR, 0.85),) * 4,
        ),
        World(
            name="clustered",
            says="conversations of 4, correlation .5, D = -.05 exactly",
            candidates=(Candidate(quality=0.70, cost=0.5),),
            turns=4,
            icc=0.5,
        ),
        World(
            name="clustered-bar",
            says="conversations of 4, correlation .5, R = .90 exactly",
            candidates=(_at_ratio(BAR, 0.85),),
            turns=4,
            icc=0.5,
        ),
        World(
            name="binary",
            says="right or wrong: 8 % lost, 3 % won, D = -.05 exactly",
            scores="binary",
            flips=(0.08, 0.03),
            candidates=(Candidate(quality=0.70, cost=0.5),),
        ),
        World(
            name="binary-6-1",
            says="right or wrong: 6 % lost, 1 % won, D = -.05 exactly",
            scores="binary",
            flips=(0.06, 0.01),
            candidates=(Candidate(quality=0.70, cost=0.5),),
        ),
        World(
            name="rare-losses",
            says="right or wrong: 5 % lost, none won, D = -.05 exactly",
            scores="binary",
            flips=(0.05, 0.0),
            primary=Candidate(quality=0.98),
            candidates=(Candidate(quality=0.93, cost=0.5),),
        ),
        World(
            name="rare-losses-clustered",
            says="5 % lost, none won, whole conversations of 4 together",
            scores="binary",
            flips=(0.05, 0.0),
            primary=Candidate(quality=0.98),
            candidates=(Candidate(quality=0.93, cost=0.5),),
            turns=4,
            icc=0.9,
        ),
        World(
            name="rare-losses-bar",
            says="3 % lost, none won, near-constant costs, R = .90 exactly",
            scores="binary",
            flips=(0.03, 0.0),
            primary=Candidate(quality=0.98),
            candidates=(_at_ratio(BAR, 0.95, 0.98),),
            cost_sigma=0.05,
            cost_shared=0.0,
        ),
        World(
            name="binary-bar",
            says="right or wrong, 2 % lost and 4 % won, near-constant costs, R = .90 exactly",
            scores="binary",
            flips=(0.02, 0.04),
            candidates=(_at_ratio(BAR, 0.77),),
            cost_sigma=0.05,
            cost_shared=0.0,
        ),
        World(
            name="binary-of-four",
            says="four candidates: 6 % lost, 1 % won, each at D = -.05 exactly",
            scores="binary",
            flips=(0.06, 0.01),
            candidates=(Candidate(quality=0.70, cost=0.5),) * 4,
        ),
        World(
            name="binary-clustered",
            says="6 % lost, 1 % won, conversations of 4 mostly together, D = -.05 exactly",
            scores="binary",
            flips=(0.06, 0.01),
            candidates=(Candidate(quality=0.70, cost=0.5),),
            turns=4,
            icc=0.9,
        ),
        World(
            name="worst-unscored",
            says="the candidate's worst 2 % unscored, D = -.05 exactly",
            candidates=(Candidate(quality=0.70, cost=0.5),),
            hide_worst=0.02,
        ),
        World(
            name="worst-unscored-binary",
            says="right or wrong (8 % lost, 3 % won), the worst 2 % unscored, D = -.05 exactly",
            scores="binary",
            flips=(0.08, 0.03),
            candidates=(Candidate(quality=0.70, cost=0.5),),
            hide_worst=0.02,
        ),
        World(
            name="weekly-drift",
            says="traffic and prompt length wander from week to week, D = -.05 exactly",
            candidates=(Candidate(quality=0.70, cost=0.5),),
            wander=0.1,
        ),
        World(
            name="restless-margin",
            says="the candidate's own quality swings by .03 about D = -.05 in waves of 19 weeks: "
            "beyond what is promised",
            candidates=(Candidate(quality=0.70, cost=0.5),),
            change=lambda week, c: replace(c, quality=c.quality + 0.03 * np.sin(week / 3.0)),
            is_beyond=True,
        ),
        World(
            name="cheaper-equal",
            says="equal quality, 30 % cheaper",
            candidates=(Candidate(cost=0.7),),
            is_null=False,
        ),
        World(
            name="slightly-worse",
            says="quality -.02 at half the cost",
            candidates=(Candidate(quality=0.73, cost=0.5),),
            is_null=False,
        ),
        World(
            name="one-good-of-four",
            says="one 30 % cheaper equal, three at D = -.05 exactly",
            candidates=(Candidate(cost=0.7), *(Candidate(quality=0.70, cost=0.5),) * 3),
            is_null=False,
        ),
        World(
            name="price-cut",
            says="twins until week 13, then the candidate's price is halved",
            candidates=(Candidate(),),
            price=lambda week: 1.0 if week < CHANGE_WEEK - 1 else 0.5,
            is_null=False,
        ),
        World(
            name="degradation",
            says="half the cost at equal quality until week 13, then quality -.20",
            candidates=(Candidate(cost=0.5),),
            change=_from_week(
                CHANGE_WEEK - 1, Candidate(cost=0.5), Candidate(quality=0.55, cost=0.5)
            ),
            is_null=False,
        ),
    )
}
