"""Many simulated years at once, by the same tests that `app.stats.scan` makes one at a time.

A week of many years is reduced to sufficient statistics with numpy, and the pooled windows of all
years and weeks are tested in one call of `quality_z` and `value_z`. A test proves that the result
equals `app.stats.scan` and `next_state`, run year by year on the same rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.stats.critical_values import WINDOWS, critical_value
from app.stats.scan import RESOLVE_Z, SHORT_WEEKS, TestPolicy
from app.stats.switch_tests import (
    SUCCESS_Z,
    cost_skewness,
    difference_skewness,
    quality_z,
    success_z,
    value_ratio,
    value_z,
)
from tests.calibration.worlds import Batch, Floats, World

BATCH_YEARS = 250

Slide = Callable[[Floats, int], Floats]

WORST_KINDS = ("", "worst_")
"""Statistics that a window must pass with: as scored, and with unscored replies at their worst."""


@dataclass(frozen=True, kw_only=True)
class Weeks:
    """Sufficient statistics, first axes (years, weeks, candidates).

    `mean`, `cov`, `n_eff`, `df` are of scored pairs; the `worst_` ones of all pairs with unscored
    replies at their worst.
    """

    mean: Floats
    cov: Floats
    n_eff: Floats
    df: Floats
    loose: Floats
    thirds: Floats
    gap_third: Floats
    worst_mean: Floats
    worst_cov: Floats
    worst_n_eff: Floats
    worst_df: Floats
    worst_loose: Floats
    worst_thirds: Floats
    worst_gap_third: Floats
    n10: Floats
    n01: Floats


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What every look finds, axes (years, weeks, candidates); windows come first in `z`.

    `z[i]` and `plain_z[i]` belong to `WINDOWS[i]` and are -inf where the window is not yet full or
    holds too few pairs.
    """

    z: Floats
    plain_z: Floats
    week_z: Floats
    points_pass: NDArray[np.bool_]
    success_z: Floats
    week_success_z: Floats


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Per (years, candidates): week (from 1) of the first alert and its resolution, 0 for never."""

    alerted: NDArray[np.intp]
    resolved: NDArray[np.intp]


def simulate(
    world: World,
    *,
    years: int,
    n: int,
    weeks: int = 52,
    seed: int = 1,
    policy: TestPolicy | None = None,
    states: bool = False,
) -> Outcome:
    """Run SCAN for `years` simulated years of a world; rounded up to whole batches."""
    policy = policy or TestPolicy()
    parts = []
    for rng, size in batches(years, seed):
        statistics = reduce_weeks(world, rng, years=size, n=n, weeks=weeks)
        parts.append(decide(world, statistics, policy, states=states))
    return Outcome(
        alerted=np.concatenate([part.alerted for part in parts]),
        resolved=np.concatenate([part.resolved for part in parts]),
    )


def batches(years: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    """Yield a generator and a size per batch of years; the seed alone decides the draws."""
    count = -(-years // BATCH_YEARS)
    for sequence in np.random.SeedSequence(seed).spawn(count):
        yield np.random.default_rng(sequence), min(years, BATCH_YEARS)


def reduce_weeks(
    world: World, rng: np.random.Generator, *, years: int, n: int, weeks: int
) -> Weeks:
    """Draw a world's weeks and keep their sufficient statistics."""
    drawn = [statistics(world.draw(rng, years, n, week)) for week in range(weeks)]
    stacked = {
        f.name: np.stack([getattr(week, f.name) for week in drawn], axis=1) for f in fields(Weeks)
    }
    if not world.hide_worst:  # nothing is unscored: the worst case is the plain one
        stacked |= {name: stacked[name.removeprefix("worst_")] for name in stacked}
    return Weeks(**stacked)


def statistics(batch: Batch) -> Weeks:
    """Reduce one week of many years, axes (years, candidates)."""
    years, n, models = batch.cost.shape
    quality = batch.quality if batch.ok is None else np.where(batch.ok, batch.quality, 0.0)
    per_candidate = []
    for c in range(1, models):
        table = np.stack(
            (batch.cost[..., c], batch.cost[..., 0], quality[..., c], quality[..., 0]), axis=-1
        )
        every = np.ones((years, n))
        if batch.scored is None:
            plain = worst = _moments(table, every, batch.turns)
        else:
            has_c, has_p = batch.scored[..., c], batch.scored[..., 0]
            plain = _moments(table, (has_c & has_p).astype(float), batch.turns)
            table[..., 2] = np.where(has_c, table[..., 2], 0.0)
            table[..., 3] = np.where(has_p, table[..., 3], 1.0)
            worst = _moments(table, every, batch.turns)
        lost = won = np.zeros(years)
        if batch.ok is not None:
            lost = (batch.ok[..., 0] & ~batch.ok[..., c]).sum(axis=1).astype(float)
            won = (~batch.ok[..., 0] & batch.ok[..., c]).sum(axis=1).astype(float)
        per_candidate.append((*plain, *worst, lost, won))
    columns = [np.stack(column, axis=1) for column in zip(*per_candidate, strict=True)]
    return Weeks(**dict(zip((f.name for f in fields(Weeks)), columns, strict=True)))


def _moments(table: Floats, mask: Floats, turns: int) -> tuple[Floats, ...]:
    """Return mean, covariance, n, df, loose variance and cost thirds of rows (years, n, 4)."""
    years, n, _ = table.shape
    count = mask.sum(axis=1)
    share = mask / count[:, None]
    mean = np.einsum("yn,yni->yi", share, table)
    residual = share[..., None] * (table - mean[:, None, :])
    gap = residual[..., 2] - residual[..., 3]
    loose = np.square(gap).sum(axis=1) * count / (count - 1)
    present = mask
    if turns > 1:
        groups = -(-n // turns)
        padded = np.zeros((years, groups * turns, 4))
        padded[:, :n] = residual
        residual = padded.reshape(years, groups, turns, 4).sum(axis=2)
        seats = np.zeros((years, groups * turns))
        seats[:, :n] = mask
        present = seats.reshape(years, groups, turns).max(axis=2)
    clusters = present.sum(axis=1)
    cov = residual.transpose(0, 2, 1) @ residual * (clusters / (clusters - 1))[:, None, None]
    c, p = residual[..., 0], residual[..., 1]
    thirds = np.stack([(c**a * p ** (3 - a)).sum(axis=1) for a in (3, 2, 1, 0)], axis=1)
    unbiased = clusters**2 / ((clusters - 1) * (clusters - 2))
    gap_third = ((residual[..., 2] - residual[..., 3]) ** 3).sum(axis=1) * unbiased
    return mean, cov, count, clusters - 1, loose, thirds * unbiased[:, None], gap_third


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """Rectifiers of (years, candidates), as `app.stats.rectifier` makes them one at a time."""

    shift: Floats
    cov: Floats
    df: float


def look(
    weeks: Weeks,
    policy: TestPolicy,
    *,
    price: Floats | None = None,
    start: NDArray[np.intp] | None = None,
    corrections: Corrections | None = None,
    is_latest: bool = False,
) -> Looks:
    """Test every window of every week, or of the latest alone.

    Args:
        weeks: Statistics at the first week's prices.
        policy: Margins and budget.
        price: Price factor of the candidates in each week; pooled weeks are re-priced at it.
        start: Week (from 0) in which each (year, candidate)'s history begins.
        corrections: Rectifiers, applied once after pooling.
        is_latest: Look in the latest week only; all axes of weeks then have length 1.
    """
    span = weeks.mean.shape[1]
    slide = _ending_now if is_latest else _sliding
    factor = np.ones(span) if price is None else price
    kinds = ("",) if weeks.worst_mean is weeks.mean else WORST_KINDS
    looked_at = slice(span - 1, span) if is_latest else slice(0, span)
    factor = factor[looked_at]
    pools = {
        (kind, size): _pool(weeks, size, factor, kind, slide) for kind in kinds for size in WINDOWS
    }
    if corrections is not None:
        pools = {key: _corrected(pool, corrections) for key, pool in pools.items()}
    held = np.arange(span)[None, :, None] + np.ones_like(weeks.n_eff, dtype=np.intp)
    held = held[:, looked_at]
    if start is not None:
        held = held - start[:, None, :]
    z, plain_z = [], []
    lean_d = {kind: _lean(pools, kind, held, _quality_skewness, policy) for kind in kinds}
    lean_r = {kind: _lean(pools, kind, held, _cost_skewness, policy) for kind in kinds}
    for i, size in enumerate(WINDOWS):
        both = [_z(pools[kind, size], lean_d[kind][i], lean_r[kind][i], policy) for kind in kinds]
        usable = held >= size
        enough = usable & (pools["", size].pairs >= policy.min_pairs)
        plain_z.append(np.where(usable, both[0], -np.inf))
        z.append(np.where(enough, np.min(both, axis=0), -np.inf))
    shift = np.zeros(2) if corrections is None else corrections.shift[:, None]
    points = _passes(weeks.mean[:, looked_at], shift, factor, policy)
    points &= _passes(weeks.worst_mean[:, looked_at], shift, factor, policy)
    return Looks(
        z=np.array(z),
        plain_z=np.array(plain_z),
        week_z=plain_z[0],
        points_pass=points,
        success_z=_success(weeks, held, policy, slide),
        week_success_z=_windowed_success(weeks, 1, policy, slide),
    )


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """One window of every week: pooled statistics at that week's prices."""

    mean: Floats
    cov: Floats
    n: Floats
    df: Floats
    thirds: Floats
    gap_third: Floats
    pairs: Floats


def decide(
    world: World,
    weeks: Weeks,
    policy: TestPolicy,
    *,
    states: bool = False,
    corrections: Corrections | None = None,
) -> Outcome:
    """Return when each candidate alerts first, and (with `states`) when that resolves."""
    span = weeks.mean.shape[1]
    price = np.array([world.price_factor(week) for week in range(span)])
    looks = look(weeks, policy, price=price, corrections=corrections)
    bar = critical_value(weeks.mean.shape[2], policy.false_alerts_per_year)
    success = looks.success_z >= SUCCESS_Z
    hit = (looks.z.max(axis=0) >= bar) & looks.points_pass & success
    alerted = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
    resolved = np.zeros_like(alerted)
    if states:
        closes = _closing(looks)
        after = np.arange(span)[None, :, None] >= alerted[:, None, :]
        closing = closes & after & (alerted > 0)[:, None, :]
        resolved = np.where(closing.any(axis=1), closing.argmax(axis=1) + 1, 0)
    return Outcome(alerted=alerted, resolved=resolved)


def _closing(looks: Looks) -> NDArray[np.bool_]:
    week_z = np.minimum(looks.week_z, looks.week_success_z)
    short = np.full(week_z.shape, -np.inf)
    for i, size in enumerate(WINDOWS):
        if size <= SHORT_WEEKS:
            short = np.where(np.isfinite(looks.plain_z[i]), looks.plain_z[i], short)
    return np.asarray((week_z < RESOLVE_Z) | (short < 0))


def _pool(weeks: Weeks, size: int, factor: Floats, kind: str, slide: Slide) -> _Pool:
    n_eff, df = getattr(weeks, f"{kind}n_eff"), getattr(weeks, f"{kind}df")
    total = slide(n_eff, size)

    def pooled(name: str, power: int) -> Floats:
        values = getattr(weeks, f"{kind}{name}")
        tail = (1,) * (values.ndim - n_eff.ndim)
        weight = (n_eff**power).reshape(*n_eff.shape, *tail)
        return slide(weight * values, size) / (total**power).reshape(*total.shape, *tail)

    scale = np.ones((len(factor), 4))
    scale[:, 0] = factor
    cov = pooled("cov", 2) * (scale[:, :, None] * scale[:, None, :])[None, :, None]
    clusters = slide(df + 1, size)
    thirds = pooled("thirds", 3) * (factor[:, None] ** np.array([3, 2, 1, 0]))[None, :, None]
    return _Pool(
        mean=pooled("mean", 1) * scale[None, :, None, :],
        cov=cov,
        n=_independent(total, clusters, cov, pooled("loose", 2)),
        df=slide(df, size),
        thirds=thirds,
        gap_third=pooled("gap_third", 3),
        pairs=np.minimum(total, clusters),
    )


def _lean(
    pools: dict[tuple[str, int], _Pool],
    kind: str,
    held: NDArray[np.intp],
    skewness_of: Callable[[_Pool, TestPolicy], Floats],
    policy: TestPolicy,
) -> list[Floats]:
    """Return each window's skewness, at most that of the longest window held."""
    own = [skewness_of(pools[kind, size], policy) for size in WINDOWS]
    longest = own[0]
    for size, skewness in zip(WINDOWS, own, strict=True):
        longest = np.where(held >= size, skewness, longest)
    return [np.minimum(skewness, longest) for skewness in own]


def _quality_skewness(pool: _Pool, policy: TestPolicy) -> Floats:
    return difference_skewness(
        pool.mean, pool.cov, pool.n, pool.gap_third, margin=policy.quality_margin
    )


def _cost_skewness(pool: _Pool, policy: TestPolicy) -> Floats:
    return cost_skewness(pool.mean, pool.cov, pool.n, pool.thirds, bar=policy.bar)


def _z(pool: _Pool, lean_d: Floats, lean_r: Floats, policy: TestPolicy) -> Floats:
    mean, cov, n, df = pool.mean, pool.cov, pool.n, pool.df
    return np.minimum(
        quality_z(mean, cov, n, df, margin=policy.quality_margin, skewness=lean_d),
        value_z(mean, cov, n, df, bar=policy.bar, skewness=lean_r),
    )


def _independent(total: Floats, clusters: Floats, cov: Floats, loose: Floats) -> Floats:
    """Return `Moments.independent_n` of every window."""
    variance = np.maximum(cov[..., 2, 2] + cov[..., 3, 3] - 2 * cov[..., 2, 3], 0.0)
    turns = np.maximum(total / clusters, 1.0)
    effect = (variance + (turns / total) ** 2) / (loose + turns / total**2)
    return total / np.clip(effect, 1.0, turns)


def _sliding(values: Floats, size: int) -> Floats:
    """Return sums over the last `size` weeks (fewer at the start) along axis 1."""
    sums = values.copy()
    for lag in range(1, size):
        sums[:, lag:] += values[:, :-lag]
    return sums


def _ending_now(values: Floats, size: int) -> Floats:
    """Return the sum over the last `size` weeks, axis 1 kept at length 1."""
    return np.asarray(values[:, -size:].sum(axis=1, keepdims=True))


def _corrected(pool: _Pool, by: Corrections) -> _Pool:
    """Return the window with judged qualities corrected and both uncertainties counted."""
    mean, cov = pool.mean.copy(), pool.cov.copy()
    mean[..., 2:] += by.shift[:, None]
    cov[..., 2:, 2:] += by.cov[:, None]
    return replace(pool, mean=mean, cov=cov, df=np.minimum(pool.df, by.df))


def _passes(mean: Floats, shift: Floats, factor: Floats, policy: TestPolicy) -> NDArray[np.bool_]:
    priced = mean.copy()
    priced[..., 0] *= factor[None, :, None]
    priced[..., 2:] += shift
    difference = priced[..., 2] - priced[..., 3]
    return np.asarray((difference > -policy.quality_margin) & (value_ratio(priced) < policy.bar))


def _success(
    weeks: Weeks, held: NDArray[np.intp], policy: TestPolicy, slide: Slide = _sliding
) -> Floats:
    """Return Bonett-Price z on the longest window held in each week."""
    z = np.empty(held.shape)
    for size in WINDOWS:
        z = np.where(held >= size, _windowed_success(weeks, size, policy, slide), z)
    return z


def _windowed_success(
    weeks: Weeks, size: int, policy: TestPolicy, slide: Slide = _sliding
) -> Floats:
    n_eff = weeks.worst_n_eff
    total = slide(n_eff, size)
    cov = slide((n_eff**2)[..., None, None] * weeks.worst_cov, size) / (total**2)[..., None, None]
    loose = slide(n_eff**2 * weeks.worst_loose, size) / total**2
    n = _independent(total, slide(weeks.worst_df + 1, size), cov, loose)
    share = n / total
    lost, won = slide(weeks.n10, size) * share, slide(weeks.n01, size) * share
    return success_z(n, lost, won, margin=policy.success_margin)


def binomial_interval(hits: int, years: int) -> tuple[float, float]:
    """Return the Clopper-Pearson 95 % interval of a simulated rate."""
    low = float(special.betaincinv(hits, years - hits + 1, 0.025)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, years - hits, 0.975)) if hits < years else 1.0
    return low, high
