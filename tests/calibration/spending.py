"""Adaptive spending, simulated: blocks, drops, the bench and light monitoring, week by week."""

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
from app.stats.switch_tests import SUCCESS_Z, quality_z, value_z
from tests.calibration.worlds import WORLDS, Batch, Candidate, Floats, World
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


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What a design costs and finds.

    Attributes:
        calls: Paid calls, primary included, as a share of the full design's.
        alerted: Week of the first alert per (year, candidate), 0 for never.
    """

    calls: float
    alerted: NDArray[np.intp]


def spend(
    world: World,
    *,
    years: int,
    n: int,
    weeks: int = 52,
    seed: int = 1,
    is_adaptive: bool = True,
) -> Spending:
    """Simulate years of a world under the full or the adaptive design."""
    policy = TestPolicy()
    calls, alerted = [], []
    for rng, size in batches(years, seed):
        plan = _Plan.of(size, len(world.candidates), n, policy, is_adaptive=is_adaptive)
        for week in range(weeks):
            plan.step(world.draw(rng, size, n, week), week)
        calls.append(plan.calls / (size * weeks * n * world.models))
        alerted.append(plan.alerted)
    return Spending(calls=float(np.mean(calls)), alerted=np.concatenate(alerted))


@dataclass(kw_only=True)
class _Plan:
    """The state of a batch of years, all candidates at once."""

    n: int
    policy: TestPolicy
    is_adaptive: bool
    bar: float
    history: list[Weeks]
    start: NDArray[np.intp]
    is_open: NDArray[np.bool_]
    is_benched: NDArray[np.bool_]
    alerted: NDArray[np.intp]
    calls: float = 0.0

    @classmethod
    def of(
        cls, years: int, candidates: int, n: int, policy: TestPolicy, *, is_adaptive: bool
    ) -> "_Plan":
        shape = (years, candidates)
        return cls(
            n=n,
            policy=policy,
            is_adaptive=is_adaptive,
            bar=critical_value(candidates, policy.false_alerts_per_year),
            history=[],
            start=np.zeros(shape, dtype=np.intp),
            is_open=np.zeros(shape, dtype=np.bool_),
            is_benched=np.zeros(shape, dtype=np.bool_),
            alerted=np.zeros(shape, dtype=np.intp),
        )

    def step(self, batch: Batch, week: int) -> None:
        """Replay one week block by block, look once, and move every candidate's state."""
        blocks = [
            statistics(_first(batch, end)) for end in range(BLOCK_CASES, self.n + 1, BLOCK_CASES)
        ]
        used = (
            self._blocks_used(blocks)
            if self.is_adaptive
            else np.full(self.start.shape, len(blocks))
        )
        self.calls += BLOCK_CASES * float(used.sum() + used.max(axis=1).sum())
        self.history = [*self.history, _select(blocks, used)][-max(WINDOWS) :]
        joined = _joined(self.history)
        looks = look(joined, self.policy, start=self.start - (week + 1 - len(self.history)))
        self._move(looks, week)

    def _blocks_used(self, blocks: list[Weeks]) -> NDArray[np.intp]:
        used = np.full(self.start.shape, len(blocks))
        running = np.ones(self.start.shape, dtype=bool)
        for index, block in enumerate(blocks[:-1]):
            threshold = DROP_FIRST_BLOCK_Z if index == 0 else DROP_LATER_BLOCK_Z
            dropped = running & (_block_z(block, self.policy) < threshold)
            used[dropped] = index + 1
            running &= ~dropped
        used = np.where(self.is_benched, 1, used)
        monitored = min(MONITORING_CASES // BLOCK_CASES, len(blocks))
        return np.where(self.is_open, monitored, used)

    def _move(self, looks: Looks, week: int) -> None:
        z = looks.z[:, :, -1].max(axis=0)
        hit = (z >= self.bar) & looks.points_pass[:, -1] & (looks.success_z[:, -1] >= SUCCESS_Z)
        short, _ = _last_window(looks, SHORT_WEEKS)
        longest, weeks = _last_window(looks, max(WINDOWS))
        hope = (longest + HOPE_Z) * np.sqrt(max(WINDOWS) / weeks)
        recent_hope = (short + HOPE_Z) * np.sqrt(max(WINDOWS) / np.minimum(weeks, SHORT_WEEKS))
        hopeless = (weeks >= HOPE_WEEKS) & (np.maximum(hope, recent_hope) < self.bar)
        week_z = np.minimum(looks.week_z[:, -1], looks.week_success_z[:, -1])
        closing = self.is_open & ((week_z < RESOLVE_Z) | (short < 0))
        opening = ~self.is_open & hit
        self.alerted = np.where(opening & (self.alerted == 0), week + 1, self.alerted)
        self.start = np.where(closing, week, self.start)
        self.is_open = (self.is_open & ~closing) | opening
        self.is_benched = (short < BENCH_Z) | hopeless


def _last_window(looks: Looks, most: int) -> tuple[Floats, NDArray[np.intp]]:
    """Return plain z and weeks of the longest window held now, of at most `most` weeks."""
    z = looks.plain_z[0][:, -1]
    weeks = np.ones(z.shape, dtype=np.intp)
    for window, size in zip(looks.plain_z[:, :, -1], WINDOWS, strict=True):
        held = np.isfinite(window) & (size <= most)
        z, weeks = np.where(held, window, z), np.where(held, size, weeks)
    return z, weeks


def margin_of_six() -> World:
    """Return six candidates exactly at the margin: the worst case for the yearly error."""
    return replace(
        WORLDS["margin"], name="margin-of-six", candidates=(Candidate(quality=0.7, cost=0.5),) * 6
    )


def _first(batch: Batch, end: int) -> Batch:
    """Return the first rows of a batch."""
    return replace(
        batch,
        cost=batch.cost[:, :end],
        quality=batch.quality[:, :end],
        ok=None if batch.ok is None else batch.ok[:, :end],
        scored=None if batch.scored is None else batch.scored[:, :end],
    )


def _block_z(block: Weeks, policy: TestPolicy) -> Floats:
    return np.minimum(
        quality_z(block.mean, block.cov, block.n_eff, block.df, margin=policy.quality_margin),
        value_z(block.mean, block.cov, block.n_eff, block.df, bar=policy.bar),
    )


def _select(blocks: list[Weeks], used: NDArray[np.intp]) -> Weeks:
    """Return per (year, candidate) the statistics of the blocks that were replayed."""
    rows, columns = np.indices(used.shape)
    chosen = {
        f.name: np.stack([getattr(block, f.name) for block in blocks])[used - 1, rows, columns]
        for f in fields(Weeks)
    }
    return Weeks(**chosen)


def _joined(history: list[Weeks]) -> Weeks:
    joined = {
        f.name: np.stack([getattr(week, f.name) for week in history], axis=1) for f in fields(Weeks)
    }
    return Weeks(**joined | {name: joined[name.removeprefix("worst_")] for name in joined})
