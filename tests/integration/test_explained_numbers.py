"""Every number that `explain` prints, worked out again from the stored results with plain numpy.

The formulas stand in docs/statistics.md; nothing of app.stats is used but its table of critical
values, which is checked against the published one.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from app.cli.explanations import explanation
from app.clocks import SystemClock
from app.domain.results import CaseResult
from app.wiring import open_storage
from tests.fixtures.judged_weeks import JudgedWeeks, simulate
from tests.fixtures.postgres import new_database

Array = NDArray[np.float64]
D = np.array([0.0, 0.0, 1.0, -1.0])
MARGIN, BAR, ONE_CANDIDATE = 0.05, 0.9, 3.43


@dataclass(frozen=True, kw_only=True)
class Week:
    """One week by hand: weighted means, clustered covariance, third moments."""

    mean: Array
    cov: Array
    n: float
    groups: int
    loose: float
    thirds: Array
    lean: float
    lost: float
    won: float
    candidate_s: list[tuple[float, float]]
    primary_s: list[tuple[float, float]]


def by_hand(rows: Sequence[CaseResult]) -> Week:
    fresh = [row for row in rows if not row.is_anchor]
    mine = {row.case_id: row for row in fresh if row.model_name == "prime"}
    pairs = [(row, mine[row.case_id]) for row in fresh if row.model_name == "swift"]
    weight = np.array([p.weight for _, p in pairs])
    weight /= weight.sum()
    table = np.array(
        [[float(c.spend_usd), float(p.spend_usd), c.quality, p.quality] for c, p in pairs],
        dtype=float,
    )
    mean = weight @ table
    residual = weight[:, None] * (table - mean)
    talks = [p.conversation or p.case_id for _, p in pairs]
    names = sorted(set(talks))
    sums = np.array([residual[[talk == name for talk in talks]].sum(axis=0) for name in names])
    g, n = len(names), 1 / float((weight**2).sum())
    third = g**2 / ((g - 1) * (g - 2))
    gap, rows_gap = sums @ D, residual @ D
    costs = [third * float((sums[:, 0] ** k * sums[:, 1] ** (3 - k)).sum()) for k in (3, 2, 1, 0)]
    return Week(
        mean=mean,
        cov=g / (g - 1) * sums.T @ sums,
        n=n,
        groups=g,
        loose=len(pairs) / (len(pairs) - 1) * float((rows_gap**2).sum()),
        thirds=np.array(costs),
        lean=third * float((gap**3).sum()),
        lost=n * float(weight[[p.is_success > c.is_success for c, p in pairs]].sum()),
        won=n * float(weight[[c.is_success > p.is_success for c, p in pairs]].sum()),
        candidate_s=timed([c for c, _ in pairs], weight),
        primary_s=timed([p for _, p in pairs], weight),
    )


def timed(rows: Sequence[CaseResult], weight: np.ndarray) -> list[tuple[float, float]]:
    """Seconds of successful responses, and how many average rows each stands for."""
    counts = weight * len(rows)
    return [
        (row.latency_s, float(count))
        for row, count in zip(rows, counts, strict=True)
        if row.is_success and row.latency_s is not None
    ]


def median(of: Sequence[tuple[float, float]]) -> float:
    """The least value that, with those below it, has half of the weight."""
    seconds, counts = np.array(sorted(of)).T
    reached = np.flatnonzero(np.cumsum(counts) >= counts.sum() / 2 - 1e-9)
    return float(seconds[reached[0]])


def pooled(weeks: Sequence[Week]) -> Week:
    total = sum(week.n for week in weeks)
    f = [week.n / total for week in weeks]
    return Week(
        mean=np.sum([a * week.mean for a, week in zip(f, weeks, strict=True)], axis=0),
        cov=np.sum([a**2 * week.cov for a, week in zip(f, weeks, strict=True)], axis=0),
        n=total,
        groups=sum(week.groups for week in weeks),
        loose=sum(a**2 * week.loose for a, week in zip(f, weeks, strict=True)),
        thirds=np.sum([a**3 * week.thirds for a, week in zip(f, weeks, strict=True)], axis=0),
        lean=sum(a**3 * week.lean for a, week in zip(f, weeks, strict=True)),
        lost=sum(week.lost for week in weeks),
        won=sum(week.won for week in weeks),
        candidate_s=[s for week in weeks for s in week.candidate_s],
        primary_s=[s for week in weeks for s in week.primary_s],
    )


def independent(week: Week) -> float:
    turns = max(1.0, week.n / week.groups)
    seen = float(D @ week.cov @ D) + (turns / week.n) ** 2
    return week.n / min(max(seen / (week.loose + turns / week.n**2), 1.0), turns)


def z_of(t: float, df: int) -> float:
    return float(stats.norm.isf(stats.t.sf(t, df)) if t > 0 else stats.norm.ppf(stats.t.cdf(t, df)))


def bent(t: float, lean: float) -> float:
    if lean >= 0 or t <= 0:
        return t
    held = min(t, -3 / lean)
    return min(t, held + lean / 3 * held**2 + lean**2 / 27 * held**3 + lean / 6)


def quality_z(week: Week, df: int) -> float:
    n = independent(week)
    difference = float(D @ week.mean)
    total = n + 0.5
    shrunk = (n * difference - 0.5) / total
    per_pair = n * float(D @ week.cov @ D)
    spread = (n * (per_pair + difference**2) + 0.5) / total - shrunk**2
    variance = max(spread, MARGIN * (1 - MARGIN)) / total
    lean = 0.5 * min(week.lean / variance**1.5, 0.0)
    return z_of(bent((shrunk + MARGIN) / np.sqrt(variance), lean), df)


def value_z(week: Week, df: int) -> float:
    n = independent(week)
    x_c, x_p, q_c, q_p = week.mean
    paid = x_c / (BAR * x_p)
    afforded = min(paid, 1.0)
    floor = q_p * afforded * (1 - afforded) / n
    g = np.array([-q_p, BAR * q_c, BAR * x_p, -x_c])
    linear = max(float(g @ week.cov @ g), floor * (BAR * x_p) ** 2)
    h = np.array([1 / x_c, -1 / x_p, -1 / q_c, 1 / q_p])
    log_ratio = max(float(h @ week.cov @ h), floor / (q_p * paid) ** 2)
    c, p = -q_p, BAR * q_c
    third = np.array([c**3, 3 * c**2 * p, 3 * c * p**2, p**3]) @ week.thirds
    lean = min(float(third) / linear**1.5, 0.0)
    ratio = x_c * q_p / (x_p * q_c)
    ts = (np.log(BAR / ratio) / np.sqrt(log_ratio), (BAR * x_p * q_c - x_c * q_p) / np.sqrt(linear))
    return min(z_of(bent(float(t), lean), df) for t in ts)


@pytest.fixture(scope="module")
def told(
    pg_server: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, list[Week]]]:
    """What `explain --json` prints of the second week, and both weeks by hand."""
    with new_database(pg_server, template=template_database) as dsn:
        what = JudgedWeeks(weeks=2, n=60, anchors=5, rows_per_week=200)
        runs = simulate(dsn, tmp_path_factory.mktemp("explained"), what)

        async def results() -> list[Sequence[CaseResult]]:
            async with open_storage(dsn, SystemClock()) as storage:
                return [await storage.runs.results(run.document["run_id"]) for run in runs]

        weeks = [by_hand(rows) for rows in asyncio.run(results())]
        (one,) = explanation(runs[-1].document)["comparisons"]
        yield {**runs[-1].document["comparisons"][0], **one}, weeks


def degrees(weeks: Sequence[Week]) -> int:
    return sum(week.groups - 1 for week in weeks)


@pytest.mark.parametrize("window", [1, 2])
def test_the_tests_of_every_window_follow_from_the_stored_results(
    told: tuple[Any, list[Week]], window: int
) -> None:
    explained, weeks = told
    held = weeks[-window:]
    week, df = pooled(held), degrees(held)
    (shown,) = [one for one in explained["tests"]["windows"] if one["weeks"] == window]

    x_c, x_p, q_c, q_p = week.mean
    assert shown["quality_delta"] == pytest.approx(q_c - q_p)
    assert shown["value_ratio"] == pytest.approx(x_c / q_c / (x_p / q_p))
    assert shown["independent_pairs"] == pytest.approx(min(week.n, week.groups))
    assert shown["quality_z"] == pytest.approx(quality_z(week, df))
    assert shown["value_z"] == pytest.approx(value_z(week, df))
    assert shown["z"] == pytest.approx(min(shown["quality_z"], shown["value_z"]))
    assert shown["short_of_z"] == pytest.approx(max(ONE_CANDIDATE - shown["z"], 0), abs=0.005)


def test_the_intervals_follow_from_the_stored_results(told: tuple[Any, list[Week]]) -> None:
    explained, weeks = told
    week = pooled(weeks)
    t = stats.t.ppf(0.975, degrees(weeks))

    x_c, x_p, q_c, q_p = week.mean
    half = t * np.sqrt(D @ week.cov @ D)
    assert explained["quality_delta"]["low"] == pytest.approx(q_c - q_p - half)
    assert explained["quality_delta"]["high"] == pytest.approx(q_c - q_p + half)
    ratio, h = x_c * q_p / (x_p * q_c), np.array([1 / x_c, -1 / x_p, -1 / q_c, 1 / q_p])
    spread = t * np.sqrt(h @ week.cov @ h)
    assert explained["value_ratio"]["low"] == pytest.approx(ratio * np.exp(-spread))
    assert explained["value_ratio"]["high"] == pytest.approx(ratio * np.exp(spread))


def test_the_guardrails_follow_from_the_stored_results(told: tuple[Any, list[Week]]) -> None:
    explained, weeks = told
    week = pooled(weeks)
    tests = explained["tests"]

    lost, won = ((count + 1) / (week.n + 2) for count in (week.lost, week.won))
    z = (won - lost + MARGIN) / np.sqrt((lost + won - (won - lost) ** 2) / (week.n + 2))
    assert tests["success"]["z"] == pytest.approx(z)
    assert tests["success"]["passes"] == (z >= 2.33)
    assert (
        len({round(count, 6) for _, count in week.primary_s}) > 1
    )  # some rows were logged several times
    p50 = median(week.candidate_s) / median(week.primary_s)
    assert tests["latency"]["p50_ratio"] == pytest.approx(p50)
    assert tests["critical_value"] == pytest.approx(ONE_CANDIDATE, abs=0.005)
    x_c, x_p, q_c, q_p = weeks[-1].mean
    assert tests["quality"]["this_week"] == pytest.approx(q_c - q_p)
    assert tests["value"]["this_week"] == pytest.approx(x_c * q_p / (x_p * q_c))
