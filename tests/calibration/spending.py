"""Adaptive spending, simulated: blocks, drops, the bench and light monitoring, week by week.

The rules are those of `app.decision.adaptive`, made for many years at once; a test proves that the
same Cases are paid for and the same alerts raised as by `app.decision.Decider`, year by year.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from app.stats.critical_values import WINDOWS, critical_value
from app.stats.scan import (
    BENCH_Z,
    BLOCK_CASES,
    DROP_FIRST_BLOCK_Z,
    DROP_LATER_BLOCK_Z,
    HOPE_WEEKS,
    HOPE_Z,
    MONITORING_CASES,
    RESOLVE_Z,
    SHORT_WEEKS,
    TestPolicy,
)
from app.stats.switch_tests import SUCCESS_Z, TAIL_SUPPORT
from tests.calibration.worlds import WORLDS, Batch, Bools, Candidate, Floats, World
from tests.calibration.years import Looks, Weeks, batches, look, statistics

SIX_MIXED = World(
    name="six-mixed",
    says="30 % cheaper equal, -.02 at half the cost, at the margin, twin, dearer, cheap and bad",
    candidates=(
        Candidate(cost=0.7),
        Candidate(quality=0.73, cost=0.5),
        Candidate(quality=0.70, cost=0.5),
        Candidate(),
        Candidate(cost=1.3),
        Candidate(quality=0.50, cost=0.2),
    ),
    is_null=False,
)

NOISY_CORRELATION = 0.2


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What a design costs and finds.

    Attributes:
        calls: Paid calls, primary included, as a share of the full design's.
        alerted: Week of the first alert per (year, candidate), 0 for never.
        used: Cases that each (year, week, candidate) was run on.
    """

    calls: float
    alerted: NDArray[np.intp]
    used: NDArray[np.intp]


def spend(
    world: World,
    *,
    years: int,
    n: int,
    weeks: int = 52,
    seed: int = 1,
    is_adaptive: bool = True,
    has_anchors: bool = True,
) -> Spending:
    """Simulate years of a world under the full or the adaptive design.

    With anchors (the default of a plan) the primary answers every Case, also those that all
    candidates sit out: only so is a change of the traffic seen.
    """
    calls, alerted, used = [], [], []
    for rng, size in batches(years, seed):
        plan = _Plan.of(size, world, n, is_adaptive=is_adaptive)
        cases = [plan.step(world.draw(rng, size, n, week), week) for week in range(weeks)]
        used.append(np.stack(cases, axis=1))
        primary = n * size * weeks if has_anchors else used[-1].max(axis=2).sum()
        calls.append((used[-1].sum() + primary) / (size * weeks * n * world.models))
        alerted.append(plan.alerted)
    return Spending(
        calls=float(np.mean(calls)),
        alerted=np.concatenate(alerted),
        used=np.concatenate(used),
    )


def margin_of_six() -> World:
    """Return six candidates exactly at the margin: the worst case for the yearly error."""
    return replace(
        WORLDS["margin"], name="margin-of-six", candidates=(Candidate(quality=0.7, cost=0.5),) * 6
    )


def price_cut(week: int, *, is_noisy: bool = False) -> World:
    """Return a twin, too dear to be worth its Cases, whose price is halved in a week (from 1).

    A noisy judge raises the standard deviation of the score's difference from .24 to .32.
    """
    world = WORLDS["price-cut"]
    return replace(
        world,
        name=f"price-cut-{week}",
        price=lambda number: 1.0 if number < week - 1 else 0.5,
        score_correlation=NOISY_CORRELATION if is_noisy else world.score_correlation,
    )


@dataclass(kw_only=True)
class _Plan:
    """The state of a batch of years, all candidates at once."""

    world: World
    ends: tuple[int, ...]
    policy: TestPolicy
    is_adaptive: bool
    bar: float
    history: list[Weeks]
    start: NDArray[np.intp]
    is_open: Bools
    is_benched: Bools
    alerted: NDArray[np.intp]

    @classmethod
    def of(cls, years: int, world: World, n: int, *, is_adaptive: bool) -> "_Plan":
        shape = (years, len(world.candidates))
        policy = TestPolicy()
        return cls(
            world=world,
            ends=(*range(BLOCK_CASES, n, BLOCK_CASES), n),
            policy=policy,
            is_adaptive=is_adaptive,
            bar=critical_value(len(world.candidates), policy.false_alerts_per_year),
            history=[],
            start=np.zeros(shape, dtype=np.intp),
            is_open=np.zeros(shape, dtype=np.bool_),
            is_benched=np.zeros(shape, dtype=np.bool_),
            alerted=np.zeros(shape, dtype=np.intp),
        )

    def step(self, batch: Batch, week: int) -> NDArray[np.intp]:
        """Replay one week block by block, look once, move states; return the Cases used."""
        ends = self.ends if self.is_adaptive else self.ends[-1:]
        blocks = [statistics(_first(batch, end)) for end in ends]
        used = self._blocks_used(blocks, week)
        self.history = [*self.history, _select(blocks, used)][-max(WINDOWS) :]
        self._move(self._look(self.history, week), week)
        return np.array(ends)[used - 1]

    def _blocks_used(self, blocks: list[Weeks], week: int) -> NDArray[np.intp]:
        used = np.full(self.start.shape, len(blocks))
        is_running = np.ones(self.start.shape, dtype=bool)
        if self.history and self.world.price_factor(week) != self.world.price_factor(week - 1):
            self.is_benched = self._benched(self._look(self.history, week, ahead=1))
        earlier = self._pairs_held(week)
        for done, block in enumerate(blocks[:-1], start=1):
            is_dropped = self.is_benched | self._has_no_chance(block, done, week, is_running)
            is_dropped &= earlier + _pairs(block) >= self.policy.min_pairs
            is_watched_over = np.full(used.shape, done * BLOCK_CASES >= MONITORING_CASES)
            is_dropped = np.where(self.is_open, is_watched_over, is_dropped)
            used[is_running & is_dropped] = done
            is_running &= ~is_dropped
        return used

    def _has_no_chance(self, block: Weeks, done: int, week: int, among: Bools) -> Bools:
        """Say whose blocks so far are poor, and their last weeks together with them too."""
        least = DROP_FIRST_BLOCK_Z if done == 1 else DROP_LATER_BLOCK_Z
        alone = self._look([block], week).week_z[:, -1]
        poor = among & ~self.is_open & ~self.is_benched & (alone < least)
        rows, columns = np.nonzero(poor)
        if len(rows) and self.history:
            weeks = [_at(one, rows, columns) for one in (*self.history, block)][-max(WINDOWS) :]
            start = self.start[rows, columns][:, None]
            short, _ = _last_window(self._look(weeks, week, start=start), SHORT_WEEKS)
            poor[rows, columns] = short[:, 0] < least
        return poor

    def _look(
        self,
        history: Sequence[Weeks],
        week: int,
        *,
        start: NDArray[np.intp] | None = None,
        ahead: int = 0,
    ) -> Looks:
        """Look at the latest of some weeks at this week's prices; `ahead` weeks have no data."""
        begins = self.start if start is None else start
        return look(
            _joined(history),
            self.policy,
            price=np.full(len(history), self.world.price_factor(week)),
            start=begins - (week + 1 - ahead - len(history)),
            is_latest=True,
        )

    def _pairs_held(self, week: int) -> Floats:
        held = np.zeros(self.start.shape)
        for age, one in enumerate(reversed(self.history), start=1):
            held += np.where(week - age >= self.start, _pairs(one), 0.0)
        return held

    def _move(self, looks: Looks, week: int) -> None:
        z = looks.z[:, :, -1].max(axis=0)
        hit = (z >= self.bar) & looks.points_pass[:, -1] & (looks.success_z[:, -1] >= SUCCESS_Z)
        hit &= self._knows_latency(looks)
        short, _ = _last_window(looks, SHORT_WEEKS)
        week_z = np.minimum(looks.week_z[:, -1], looks.week_success_z[:, -1])
        closing = self.is_open & ((week_z < RESOLVE_Z) | (short < 0))
        opening = ~self.is_open & hit
        self.alerted = np.where(opening & (self.alerted == 0), week + 1, self.alerted)
        self.is_open = (self.is_open & ~closing) | opening
        self.is_benched = self._benched(looks)
        if closing.any():
            self.start = np.where(closing, week, self.start)
            self.is_benched = self._benched(self._look(self.history, week))

    def _knows_latency(self, looks: Looks) -> Bools:
        """Say whose longest window supports a 95th percentile, without which nothing is said."""
        _, weeks = _last_window(looks, max(WINDOWS))
        return np.asarray(self._replies(weeks) * (100 - 95) >= TAIL_SUPPORT * 100)

    def _replies(self, weeks: NDArray[np.intp]) -> Floats:
        """Return the Cases of so many last weeks."""
        total = np.cumsum([one.worst_n_eff for one in reversed(self.history)], axis=0)
        return np.asarray(np.take_along_axis(total, weeks[None] - 1, axis=0)[0])

    def _benched(self, looks: Looks) -> Bools:
        short, recent = _last_window(looks, SHORT_WEEKS)
        longest, weeks = _last_window(looks, max(WINDOWS))
        full = max(WINDOWS) * self.ends[-1]
        hope = np.maximum(
            (longest + HOPE_Z) * np.sqrt(np.maximum(full / self._replies(weeks), 1.0)),
            (short + HOPE_Z) * np.sqrt(max(WINDOWS) / recent),
        )
        return np.asarray((short < BENCH_Z) | ((weeks >= HOPE_WEEKS) & (hope < self.bar)))


def _last_window(looks: Looks, most: int) -> tuple[Floats, NDArray[np.intp]]:
    """Return plain z and weeks of the longest window held now, of at most `most` weeks."""
    z = looks.plain_z[0][:, -1]
    weeks = np.ones(z.shape, dtype=np.intp)
    for window, size in zip(looks.plain_z[:, :, -1], WINDOWS, strict=True):
        held = np.isfinite(window) & (size <= most)
        z, weeks = np.where(held, window, z), np.where(held, size, weeks)
    return z, weeks


def _pairs(week: Weeks) -> Floats:
    """Return independent pairs."""
    return np.minimum(week.n_eff, week.df + 1)


def _first(batch: Batch, end: int) -> Batch:
    """Return the first rows of a batch."""
    return replace(
        batch,
        cost=batch.cost[:, :end],
        quality=batch.quality[:, :end],
        ok=None if batch.ok is None else batch.ok[:, :end],
        scored=None if batch.scored is None else batch.scored[:, :end],
    )


def _select(blocks: list[Weeks], used: NDArray[np.intp]) -> Weeks:
    """Return per (year, candidate) the statistics of the blocks that were replayed."""
    rows, columns = np.indices(used.shape)
    chosen = {
        f.name: np.stack([getattr(block, f.name) for block in blocks])[used - 1, rows, columns]
        for f in fields(Weeks)
    }
    return Weeks(**chosen)


def _at(week: Weeks, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Weeks:
    """Return the statistics of some (year, candidate) pairs, one a row."""
    return Weeks(**{f.name: getattr(week, f.name)[rows, columns][:, None] for f in fields(Weeks)})


def _joined(history: Sequence[Weeks]) -> Weeks:
    joined = {
        f.name: np.stack([getattr(week, f.name) for week in history], axis=1) for f in fields(Weeks)
    }
    return Weeks(**joined | {name: joined[name.removeprefix("worst_")] for name in joined})
