"""Worlds that drift: the primary, the judge or the traffic changes in a known week.

A prompt has a latent ease, a reply adds noise of its own, the judge adds a little more. Scores lie
on five levels, so that a harsher judge and a worse reply look alike on fresh samples and differ on
anchors only.
"""

from dataclasses import dataclass, field

import numpy as np

from app.stats.drift import AnchorReading, Attribution, Cause, DriftWeek, attribute, regression
from tests.calibration.worlds import Floats, thresholds

ANCHORS = 20
ROTATION_WEEKS = 4
PROMPT_VARIANCE, REPLY_VARIANCE, JUDGE_VARIANCE = 0.6, 0.3, 0.1
QUALITY = 0.75


@dataclass(frozen=True, kw_only=True)
class DriftWorld:
    """What changes, from which week (1 is the first), and by how much."""

    cause: Cause | None = None
    effect: float = 0.0
    week: int = 6
    n: int = 100

    def shift(self, cause: Cause, week: int) -> float:
        return self.effect if cause is self.cause and week >= self.week else 0.0


@dataclass(kw_only=True)
class _Anchor:
    """One kept Case: its ease, its stored reply and the score that reply got then."""

    key: str
    origin: int
    ease: float
    reply: float
    traffic: float
    primary: float
    then: float


@dataclass(kw_only=True)
class DriftYear:
    """One simulated plan, week by week."""

    world: DriftWorld
    rng: np.random.Generator
    anchors: list[_Anchor] = field(default_factory=list)
    weeks: list[DriftWeek] = field(default_factory=list)

    def step(self) -> None:
        """Live through one more week: sample, repeat the anchors, keep some Cases as anchors."""
        week, rng, world = len(self.weeks) + 1, self.rng, self.world
        primary = world.shift(Cause.PRIMARY, week)
        judge = world.shift(Cause.JUDGE, week)
        traffic = world.shift(Cause.TRAFFIC, week)
        ease = rng.standard_normal(world.n) * np.sqrt(PROMPT_VARIANCE)
        reply = ease + rng.standard_normal(world.n) * np.sqrt(REPLY_VARIANCE)
        scores = self._judged(reply, primary + judge + traffic)
        readings = tuple(self._reading(anchor, primary, judge) for anchor in self.anchors)
        self.weeks.append(
            DriftWeek(
                week=week,
                fresh_mean=float(scores.mean()),
                fresh_variance=float(scores.var(ddof=1) / world.n),
                anchors=readings,
            )
        )
        if week == 1 or (week - 1) % ROTATION_WEEKS == 0:
            self._rotate(ease, reply, scores, (traffic, primary))

    def _reading(self, anchor: _Anchor, primary: float, judge: float) -> AnchorReading:
        again = anchor.ease + self.rng.standard_normal() * np.sqrt(REPLY_VARIANCE)
        now = self._judged(np.array([again]), anchor.traffic + primary + judge)
        stored = self._judged(np.array([anchor.reply]), anchor.traffic + anchor.primary + judge)
        return AnchorReading(
            anchor=anchor.key,
            origin=anchor.origin,
            reply_now=float(now[0]),
            stored_now=float(stored[0]),
            stored_then=anchor.then,
        )

    def _judged(self, latent: Floats, shift: float) -> Floats:
        noisy = latent + self.rng.standard_normal(latent.shape) * np.sqrt(JUDGE_VARIANCE)
        levels = np.array(thresholds(round(QUALITY + shift, 12)))
        return np.asarray(0.25 * (noisy[:, None] > levels).sum(axis=1), dtype=np.float64)

    def _rotate(
        self, ease: Floats, reply: Floats, scores: Floats, shifts: tuple[float, float]
    ) -> None:
        week = len(self.weeks)
        wanted = ANCHORS if not self.anchors else ANCHORS // 4
        chosen = self.rng.choice(len(ease), wanted, replace=False)
        fresh = [
            _Anchor(
                key=f"{week}-{row}",
                origin=week,
                ease=float(ease[row]),
                reply=float(reply[row]),
                traffic=shifts[0],
                primary=shifts[1],
                then=float(scores[row]),
            )
            for row in chosen
        ]
        self.anchors = [*self.anchors, *fresh][-ANCHORS:]


def live(world: DriftWorld, seed: int, weeks: int) -> DriftYear:
    """Return a plan that has lived through `weeks` weeks."""
    year = DriftYear(world=world, rng=np.random.default_rng(seed))
    for _ in range(weeks):
        year.step()
    return year


def attribution_within(world: DriftWorld, seed: int, runs: int = 2) -> Attribution | None:
    """Return the first attribution that names a cause within `runs` Runs of the change."""
    year = live(world, seed, world.week - 1)
    found = None
    for _ in range(runs):
        year.step()
        found = attribute(year.weeks)
        if found is not None and found.causes:
            break
    return found


def false_regressions(years: int, *, weeks: int = 52, seed: int = 1) -> float:
    """Return the share of years without any change in which the regression alert fires."""
    fired = 0
    for index in range(years):
        year = DriftYear(world=DriftWorld(), rng=np.random.default_rng((seed, index)))
        for _ in range(weeks):
            year.step()
            look = regression(year.weeks)
            if look is not None and look.is_hit:
                fired += 1
                break
    return fired / years


def false_attributions(years: int, *, weeks: int = 52, seed: int = 1) -> float:
    """Return the share of years without any change in which some cause is named."""
    named = 0
    for index in range(years):
        year = DriftYear(world=DriftWorld(), rng=np.random.default_rng((seed, index)))
        for _ in range(weeks):
            year.step()
            found = attribute(year.weeks)
            if found is not None and found.causes:
                named += 1
                break
    return named / years
