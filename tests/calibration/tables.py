"""The measured tables of docs/statistics.md, one function each; every figure is re-run from here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.stats import switch_tests
from app.stats.drift import Cause
from app.stats.evidence import pair_evidence
from app.stats.intervals import quality_difference, value_ratio_bootstrap, value_ratio_interval
from app.stats.rectifier import rectifier
from app.stats.scan import TestPolicy
from tests.calibration import years as fast
from tests.calibration.drifts import (
    DriftWorld,
    attribution_within,
    false_attributions,
    false_regressions,
)
from tests.calibration.rules import Naive, Rule, WeeklyTests, can_judge, simulate_rule
from tests.calibration.spending import SIX_MIXED, margin_of_six, price_cut, spend
from tests.calibration.worlds import CHANGE_WEEK, WORLDS, Floats, World, thresholds
from tests.calibration.years import (
    Corrections,
    Outcome,
    batches,
    binomial_interval,
    decide,
    reduce_weeks,
    simulate,
)

NEVER = 999


@dataclass(frozen=True, kw_only=True)
class Table:
    """A caption, column heads and rows of text, printed as Markdown."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = [f"**{self.caption}**", "", "| " + " | ".join(self.heads) + " |"]
        lines.append("|" + "---|" * len(self.heads))
        lines.extend("| " + " | ".join(row) + " |" for row in self.rows)
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much to simulate."""

    years: int = 4000
    power_years: int = 400
    pairs: tuple[int, ...] = (50, 100, 200)
    seed: int = 1
    worlds: tuple[str, ...] = ()

    def chosen(self, names: Sequence[str]) -> list[World]:
        wanted = [name for name in names if not self.worlds or name in self.worlds]
        return [WORLDS[name] for name in wanted]


def false_alert_rate(outcome: Outcome, world: World) -> float:
    """Return the share of years in which a candidate that never qualifies is alerted."""
    bad = [not good for good in world.truth().qualifies()]
    return float((outcome.alerted[:, bad] > 0).any(axis=1).mean())


def weeks_to_alert(outcome: Outcome, candidate: int = 0, since: int = 1) -> Floats:
    """Return weeks from week `since` (inclusive) to the first alert, 999 for never."""
    weeks = outcome.alerted[:, candidate]
    return np.where(weeks > 0, weeks - since + 1, NEVER).astype(float)


def nulls(size: Size) -> Table:
    """Yearly false-alert rates of SCAN in worlds where nobody qualifies."""
    rows = []
    for world in size.chosen([name for name, world in WORLDS.items() if world.is_null]):
        rates = [
            false_alert_rate(simulate(world, years=size.years, n=n, seed=size.seed), world)
            for n in size.pairs
        ]
        rows.append((world.name, world.says, " · ".join(f"{rate:.3f}" for rate in rates)))
    half = 1.96 * sqrt(0.05 * 0.95 / size.years)
    return Table(
        caption=f"Yearly false-alert rate, {size.years} years (±{half:.3f} at a rate of .05)",
        heads=("world", "truth", f"SCAN, n = {' · '.join(map(str, size.pairs))}"),
        rows=tuple(rows),
    )


def powers(size: Size) -> Table:
    """How soon candidates that qualify are found, and how soon a change is noticed."""
    rows = []
    for name in ("cheaper-equal", "slightly-worse", "one-good-of-four"):
        for world in size.chosen([name]):
            cells = []
            for n in size.pairs:
                found = weeks_to_alert(simulate(world, years=size.power_years, n=n, seed=size.seed))
                cells.append(f"{(found <= 8).mean():.2f} ({np.median(found):.0f})")
            rows.append((name, world.says, "found within 8 weeks (median)", " · ".join(cells)))
    for world in size.chosen(["price-cut"]):
        found_after = [
            np.median(
                weeks_to_alert(
                    simulate(world, years=size.power_years, n=n, seed=size.seed), 0, CHANGE_WEEK
                )
            )
            for n in size.pairs
        ]
        cells = [f"{weeks:.0f}" for weeks in found_after]
        rows.append((world.name, world.says, "median weeks to the alert", " · ".join(cells)))
    for world in size.chosen(["degradation"]):
        cells = [f"{np.median(resolution_weeks(world, size, n)):.0f}" for n in size.pairs]
        rows.append((world.name, world.says, "median weeks to the resolution", " · ".join(cells)))
    return Table(
        caption=f"What SCAN finds, {size.power_years} years",
        heads=("world", "truth", "measure", f"n = {' · '.join(map(str, size.pairs))}"),
        rows=tuple(rows),
    )


def resolution_weeks(world: World, size: Size, n: int) -> Floats:
    """Return weeks from the change to the resolution, of alerts open when it came."""
    outcome = simulate(world, years=size.power_years, n=n, seed=size.seed, states=True)
    is_open = (outcome.alerted > 0) & (outcome.alerted < CHANGE_WEEK)
    early = (outcome.resolved > 0) & (outcome.resolved < CHANGE_WEEK)
    resolved = np.where(outcome.resolved > 0, outcome.resolved, NEVER)
    return (resolved[is_open & ~early] - CHANGE_WEEK + 1).astype(float)


def rules(size: Size, extra: Callable[[], Rule] | None = None, label: str = "yours") -> Table:
    """Yearly false-alert rates of other rules in the same worlds, fewer years."""
    count = min(size.power_years, size.years)
    judged: list[tuple[str, Callable[[], Rule]]] = [
        ("lowest cost per quality", Naive),
        ("weekly tests, Holm", WeeklyTests),
    ]
    if extra is not None:
        judged.append((label, extra))
    names = size.worlds or ("twins", "margin-of-four", "bar", "heavy-bar", "cheap-bad")
    rows = []
    for world in size.chosen(names):
        cells = []
        for _, make in judged:
            cells.append(_rule_cell(make, world, size, count))
        scan = simulate(world, years=count, n=size.pairs[0], seed=size.seed)
        rows.append((world.name, *cells, _cell(scan, world)))
    return Table(
        caption=f"Rules compared at n = {size.pairs[0]}, {count} years: yearly false alerts where "
        "nobody qualifies, else found within 8 weeks (median week)",
        heads=("world", *(name for name, _ in judged), "SCAN"),
        rows=tuple(rows),
    )


def safeguards(size: Size) -> Table:
    """What each safeguard prevents: the yearly error without it."""
    rows = []
    for label, world_name, off in _SAFEGUARDS:
        world = WORLDS[world_name]
        years = max(size.years // 4, 1)
        cells = []
        for n in size.pairs:
            kept = simulate(world, years=years, n=n, seed=size.seed)
            with off():
                lost = simulate(world, years=years, n=n, seed=size.seed)
            cells.append(
                f"{false_alert_rate(lost, world):.2f} → {false_alert_rate(kept, world):.2f}"
            )
        rows.append((label, world.name, " · ".join(cells)))
    return Table(
        caption=f"Yearly error without → with each safeguard, {max(size.years // 4, 1)} years",
        heads=("safeguard", "world", f"n = {' · '.join(map(str, size.pairs))}"),
        rows=tuple(rows),
    )


def intervals(size: Size) -> Table:
    """Coverage of nominal 95 % intervals."""
    draws = max(size.power_years, 100)
    rows = []
    for n in (30, 100, 300):
        for label, name in (
            ("as in production", "twins"),
            ("binary", "binary"),
            ("heavy tails (σ 1.5)", "heavy-bar"),
            ("Pareto 2.2", "pareto-bar"),
            ("conversations of 4", "clustered"),
        ):
            cover = coverage(WORLDS[name], n, draws, size.seed)
            rows.append((str(n), label, *(f"{share:.3f}" for share in cover)))
    return Table(
        caption=f"Coverage at nominal .95, {draws} samples",
        heads=("n", "world", "D (t)", "R (delta, verdict)", "R (bootstrap, displayed)"),
        rows=tuple(rows),
    )


def coverage(world: World, n: int, draws: int, seed: int) -> tuple[float, float, float]:
    """Return the coverage of the t interval on D and of both intervals on R."""
    rng = np.random.default_rng((seed, n))
    truth = world.truth()
    hits = np.zeros(3)
    batch = world.draw(rng, draws, n, 0)
    clusters = np.arange(n) // batch.turns
    for i in range(draws):
        columns = (
            batch.cost[i, :, 1],
            batch.cost[i, :, 0],
            batch.quality[i, :, 1],
            batch.quality[i, :, 0],
        )
        moments = pair_evidence(*columns, clusters=clusters).plain
        d = quality_difference(moments)
        delta, boot = (
            value_ratio_interval(moments),
            value_ratio_bootstrap(*columns, clusters=clusters),
        )
        hits[0] += not d.excludes(truth.difference[0])
        hits[1] += delta is not None and not delta.excludes(truth.ratio[0])
        hits[2] += boot is not None and not boot.excludes(truth.ratio[0])
    return float(hits[0] / draws), float(hits[1] / draws), float(hits[2] / draws)


def spending(size: Size) -> Table:
    """Calls, findings and errors of the adaptive design against the full one."""
    rows = []
    for n in (n for n in size.pairs if n >= 100):
        full, lean = (
            spend(SIX_MIXED, years=size.power_years, n=n, seed=size.seed, is_adaptive=adaptive)
            for adaptive in (False, True)
        )
        false = f"{(lean.alerted[:, 2:] > 0).any(axis=1).mean():.3f}"
        for column, says in enumerate(("30 % cheaper equal", "-.02 at half the cost")):
            label = f"six mixed, n = {n}: {says}"
            cells = (_found(run.alerted[:, column]) for run in (full, lean))
            rows.append((label, f"{lean.calls:.2f}", *cells, false))
        for week, is_noisy in ((5, False), (CHANGE_WEEK, False), (5, True)):
            world = price_cut(week, is_noisy=is_noisy)
            full, lean = (
                spend(
                    world,
                    years=size.power_years,
                    n=n,
                    weeks=week + 12,
                    seed=size.seed,
                    is_adaptive=adaptive,
                )
                for adaptive in (False, True)
            )
            cells = (_found(run.alerted[:, 0], week) for run in (full, lean))
            rows.append(
                (f"twin, half price from week {week}, n = {n}", f"{lean.calls:.2f}", *cells, "–")
            )
    worst = spend(margin_of_six(), years=size.power_years, n=100, seed=size.seed)
    error = f"{(worst.alerted > 0).any(axis=1).mean():.3f}"
    rows.append(("six at the margin, n = 100", f"{worst.calls:.2f}", "–", "–", error))
    return Table(
        caption=f"Adaptive spending, {size.power_years} years: median weeks to the alert (share "
        "found within 8)",
        heads=("world", "calls (full = 1)", "full design", "adaptive", "yearly false alerts"),
        rows=tuple(rows),
    )


def drifts(size: Size) -> Table:
    """How often a change in week 6 is given to its cause within two Runs."""
    seeds = max(size.power_years // 2, 20)
    rows = []
    for cause, effect in ((Cause.PRIMARY, -0.2), (Cause.JUDGE, -0.2), (Cause.TRAFFIC, -0.15)):
        named = [
            attribution_within(DriftWorld(cause=cause, effect=effect), s) for s in range(seeds)
        ]
        causes = [found.causes if found else () for found in named]
        right = sum(c == (cause,) for c in causes) / seeds
        silent = sum(c == () for c in causes) / seeds
        rows.append((f"{cause.value} {effect:+.2f}", f"{right:.3f}", f"{1 - right - silent:.3f}"))
    years = max(size.power_years // 4, 20)
    rows.append(("nothing (a year)", "–", f"{false_attributions(years, seed=size.seed):.3f}"))
    rows.append(
        (
            "nothing: regression alert (a year)",
            "–",
            f"{false_regressions(years, seed=size.seed):.3f}",
        )
    )
    return Table(
        caption=f"Drift at n = 100 with 20 anchors, {seeds} seeds ({years} years for the nulls)",
        heads=("change", "right cause alone within two Runs", "another or more causes"),
        rows=tuple(rows),
    )


def judge_bias(size: Size) -> Table:
    """A judge that favours the candidate by .023, uncorrected and corrected by 200 labelled pairs."""
    years = max(size.years // 4, 1)
    rows = []
    for label, labels in (("uncorrected", 0), ("200 labelled pairs", 200), ("500", 500)):
        rates = [biased_rate(n, years, size.seed, labels=labels) for n in size.pairs]
        rows.append((label, " · ".join(f"{rate:.3f}" for rate in rates)))
    return Table(
        caption=f"Yearly error at D = -.05 when the judge adds .023 to the candidate, {years} years",
        heads=("correction", f"n = {' · '.join(map(str, size.pairs))}"),
        rows=tuple(rows),
    )


def biased_rate(n: int, years: int, seed: int, *, labels: int, bias: float = 0.023) -> float:
    """Return the yearly error when the judge raises some of the candidate's scores a level."""
    world = WORLDS["margin"]
    alerted = []
    for rng, size in batches(years, seed):
        biased = _BiasedWorld(world=world, bias=bias)
        weeks = reduce_weeks(biased, rng, years=size, n=n, weeks=52)  # type: ignore[arg-type]
        corrections = _labels(biased, rng, size, labels) if labels else None
        found = decide(world, weeks, TestPolicy(), corrections=corrections)
        alerted.append(found.alerted)
    return float((np.concatenate(alerted) > 0).mean())


TABLES: dict[str, Callable[[Size], Table]] = {
    "nulls": nulls,
    "powers": powers,
    "rules": rules,
    "safeguards": safeguards,
    "intervals": intervals,
    "spending": spending,
    "drifts": drifts,
    "judge": judge_bias,
}


@dataclass(frozen=True, kw_only=True)
class _BiasedWorld:
    """A world seen through a judge that favours the candidate."""

    world: World
    bias: float
    hide_worst: float = 0.0

    def draw(self, rng: np.random.Generator, years: int, n: int, week: int) -> Any:
        batch = self.world.draw(rng, years, n, week)
        return replace(batch, quality=self.judged(rng, batch.quality))

    def judged(self, rng: np.random.Generator, quality: Floats) -> Floats:
        """Return scores of which just so many are raised a level that the mean rises by `bias`."""
        seen = quality.copy()
        below_top = 1 - top_share(self.world.candidates[0].quality)
        raised = (rng.random(quality.shape[:-1]) < self.bias / 0.25 / below_top) & (
            quality[..., 1] < 1
        )
        seen[..., 1] += 0.25 * raised
        return seen


def top_share(mean: float) -> float:
    """Return the share of graded replies of this mean that earn the top level."""
    return float(special.ndtr(-thresholds(round(mean, 12))[-1]))


def _labels(biased: _BiasedWorld, rng: np.random.Generator, years: int, labels: int) -> Corrections:
    """Return one rectifier per year, from labelled pairs of before the year."""
    batch = biased.world.draw(rng, years, labels, 0)
    judged = biased.judged(rng, batch.quality)
    pair = [1, 0]  # candidate first, as everywhere in app.stats
    found = [rectifier(judged[y][:, pair], batch.quality[y][:, pair]) for y in range(years)]
    return Corrections(
        shift=np.array([[r.shift] for r in found]),
        cov=np.array([[r.cov] for r in found]),
        df=labels - 1.0,
    )


def _rule_cell(make: Callable[[], Rule], world: World, size: Size, years: int) -> str:
    if not can_judge(make(), world):
        return "–"
    outcome = simulate_rule(make, world, years=years, n=size.pairs[0], seed=size.seed)
    return _cell(outcome, world)


def _cell(outcome: Outcome, world: World) -> str:
    if world.is_null:
        rate = false_alert_rate(outcome, world)
        low, high = binomial_interval(round(rate * len(outcome.alerted)), len(outcome.alerted))
        return f"{rate:.3f} ({low:.3f}–{high:.3f})"
    found = weeks_to_alert(outcome)
    return f"{(found <= 8).mean():.2f} ({np.median(found):.0f})"


def _found(alerted: NDArray[np.intp], since: int = 1) -> str:
    weeks = np.where(alerted > 0, alerted - since + 1, NEVER)
    return f"{np.median(weeks):.0f} ({(weeks <= 8).mean():.2f})"


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _plain_t() -> Any:
    def plain(mean: Any, cov: Any, _n: Any, df: Any, *, margin: float, skewness: Any) -> Any:
        variance = cov[..., 2, 2] + cov[..., 3, 3] - 2 * cov[..., 2, 3]
        gap = mean[..., 2] - mean[..., 3] + margin
        certain = variance <= 0
        t = np.where(certain, np.inf, gap / np.sqrt(np.where(certain, 1.0, variance)))
        return switch_tests.z_of_t(t, df)

    return _patched(fast, "quality_z", plain)


def _turns_independent() -> Any:
    return _patched(fast, "_moments", lambda table, mask, _turns: _MOMENTS(table, mask, 1))


def _conversations_unseen() -> Any:
    def raw(total: Floats, clusters: Floats, cov: Floats, loose: Floats) -> Floats:
        return total

    return _patched(fast, "_independent", raw)


_MOMENTS = fast._moments

_SAFEGUARDS: tuple[tuple[str, str, Callable[[], Any]], ...] = (
    ("pseudo-pair and variance floor", "rare-losses", _plain_t),
    ("pseudo-pair and variance floor", "binary-6-1", _plain_t),
    ("pseudo-pair and variance floor", "binary", _plain_t),
    ("covariance clustered by conversation", "clustered", _turns_independent),
    ("floor counted in conversations", "rare-losses-clustered", _conversations_unseen),
    ("floor counted in conversations", "binary-clustered", _conversations_unseen),
    (
        "floor of the value test",
        "rare-losses-bar",
        lambda: _patched(switch_tests, "_loss_variance", lambda *_: 0.0),
    ),
    (
        "skewness of the bill",
        "dear-tail-bar",
        lambda: _patched(switch_tests, "_hall", lambda t, _: t),
    ),
    (
        "skewness of the bill",
        "dear-calls-bar",
        lambda: _patched(switch_tests, "_hall", lambda t, _: t),
    ),
    (
        "unscored replies at their worst",
        "worst-unscored",
        lambda: _patched(fast, "WORST_KINDS", ("",)),
    ),
    (
        "unscored replies at their worst",
        "worst-unscored-binary",
        lambda: _patched(fast, "WORST_KINDS", ("",)),
    ),
)
