"""The readings of a model's figures."""

from typing import Any

import numpy as np
import pytest

from app.cli.reports import remarks
from app.domain.models import Role
from app.domain.results import CaseResult, Percentiles, Summary
from app.domain.runs import RunStatus
from app.stats.estimates import Estimate
from app.summary.document import RunFigures, document
from app.summary.patterns import pattern
from app.summary.summaries import summarise
from tests.fakes.case_results import case_result, model
from tests.fakes.small_plans import run, sample


def exactly(value: float) -> Estimate:
    return Estimate(point=value, low=value, high=value, confidence=0.95, n=100)


def figures(
    name: str, quality: float, cost: float, p50: float = 1.0, p95: float | None = 2.0
) -> Summary:
    return Summary(
        model_name=name,
        model=name,
        role=Role.CANDIDATE,
        cases=100,
        successes=100,
        unscored=0,
        quality=exactly(quality),
        success_rate=exactly(1.0),
        cost_per_success_usd=exactly(cost / 1000),
        cost_per_1k_usd=exactly(cost),
        cost_per_quality_usd=None,
        latency_s=Percentiles(p50=exactly(p50), p95=None if p95 is None else exactly(p95)),
    )


GOOD_AND_DEAR = figures("big", 0.90, 10.0)
FAIR_AND_CHEAP = figures("small", 0.65, 1.0)


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (
            GOOD_AND_DEAR,
            (
                "High quality (0.90; high from 0.80) at high cost (10.0 times the cheapest usable "
                "model's; high from 1.5 times): for critical paths."
            ),
        ),
        (
            FAIR_AND_CHEAP,
            (
                "Moderate quality (0.65; high from 0.80) at low cost (the lowest; high from 1.5 times): "
                "for high-volume paths."
            ),
        ),
    ],
)
def test_quality_and_cost_say_where_a_model_belongs(summary: Summary, expected: str) -> None:
    assert pattern(summary, [GOOD_AND_DEAR, FAIR_AND_CHEAP]) == expected


def test_a_useless_model_however_cheap_does_not_make_the_others_look_dear() -> None:
    useless = figures("useless", 0.20, 0.01)
    assert pattern(FAIR_AND_CHEAP, [useless, FAIR_AND_CHEAP, GOOD_AND_DEAR]) == (
        "Moderate quality (0.65; high from 0.80) at low cost (the lowest; high from 1.5 times): "
        "for high-volume paths."
    )


def test_low_quality_on_every_model_points_at_the_prompt() -> None:
    everyone = [figures("a", 0.40, 1.0), figures("b", 0.30, 9.0)]

    readings = [pattern(summary, everyone) for summary in everyone]

    assert (
        readings
        == ["Low quality on every model (best 0.40, below 0.50): mend the prompt, not the model."]
        * 2
    )


def test_low_quality_on_one_model_points_at_the_model() -> None:
    poor = figures("poor", 0.30, 1.0)

    reading = pattern(poor, [GOOD_AND_DEAR, poor])

    assert reading is not None
    assert "the model is the limit, not the prompt" in reading


def test_a_wide_latency_asks_for_a_timeout() -> None:
    slow_tail = figures("tail", 0.9, 1.0, p50=1.0, p95=4.0)

    reading = pattern(slow_tail, [slow_tail])

    assert reading is not None
    assert reading.endswith(
        "High latency variance (p95 is 4.0 times p50, from 3 on it is high): "
        "set a timeout and a fallback."
    )


def test_an_unsupported_tail_is_not_called_wide() -> None:
    unknown_tail = figures("tail", 0.9, 1.0, p95=None)

    reading = pattern(unknown_tail, [unknown_tail])

    assert reading is not None
    assert "variance" not in reading


def told_of(rows: list[CaseResult], *names: str) -> dict[str, str]:
    """The reading of every model as a Run's document and report show it."""
    summaries = summarise(rows, [model(name) for name in names])
    figures = RunFigures(
        run=run(), status=RunStatus.DONE, sample=sample(), summaries=summaries, comparisons=()
    )
    made: Any = document(figures)
    said = list(remarks(made))
    found = {one["name"]: str(one["pattern"]) for one in made["models"]}
    assert all(f"{name}: {pattern}" in said for name, pattern in found.items())
    return found


def results_of(
    name: str, quality: float, cost: float, *, spread: float = 0.1, n: int = 120
) -> list[CaseResult]:
    rng = np.random.default_rng(3)
    return [
        case_result(name, i, min(quality, 1.0), cost, latency_s=float(rng.lognormal(0, spread)))
        for i in range(n)
    ]


def test_every_reading_fires_from_the_results_of_a_run_and_is_reported() -> None:
    mixed = told_of(
        [
            *results_of("big", 0.9, 0.02),
            *results_of("small", 0.65, 0.002),
            *results_of("jumpy", 0.85, 0.002, spread=1.2),
        ],
        "big",
        "small",
        "jumpy",
    )
    poor = told_of([*results_of("a", 0.4, 0.02), *results_of("b", 0.3, 0.01)], "a", "b")

    assert mixed["big"].endswith("for critical paths.")
    assert mixed["small"].endswith("for high-volume paths.")
    assert "High latency variance" in mixed["jumpy"]
    assert "High latency variance" not in mixed["big"]
    assert all("mend the prompt, not the model" in reading for reading in poor.values())
