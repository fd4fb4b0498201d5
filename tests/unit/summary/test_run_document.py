"""The document of a Run against its contract."""

import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.alerts import Alert, AlertKind, News
from app.domain.attempts import FailureClass, Purpose
from app.domain.models import Role
from app.domain.results import (
    CandidateState,
    Comparison,
    DriftReport,
    JudgeReport,
    Segment,
    SegmentComparison,
    Verdict,
    VerdictKind,
)
from app.domain.runs import RunStatus, SpendLine
from app.stats.estimates import Estimate
from app.summary.document import RunFigures, document, money
from app.summary.summaries import summarise
from tests.fakes.case_results import case_result, model, world
from tests.fakes.small_plans import run, sample


def around(point: float, half: float = 0.02) -> Estimate:
    return Estimate(point=point, low=point - half, high=point + half, confidence=0.95, n=400)


COMPARISON = Comparison(
    candidate="c",
    primary="p",
    pairs=400,
    window_weeks=4,
    wins=100,
    ties=200,
    losses=100,
    quality_delta=around(-0.01),
    saving=around(0.4),
    value_ratio=around(0.6),
    success_delta=around(0.0),
    latency_p50_ratio=0.8,
    latency_p95_ratio=0.7,
    latency_p50=around(0.8),
    monthly_saving_usd=around(1140.0, 200.0),
    verdict=Verdict(kind=VerdictKind.SWITCH, reasons=("It saves.",), caveats=("Assumed.",)),
    state=CandidateState.ALERT,
    segments=(
        SegmentComparison(
            segment=Segment(name="route", value="extract"),
            pairs=62,
            quality_delta=around(-0.09),
            saving=None,
            value_ratio=None,
            is_worse=True,
        ),
    ),
)


def figures() -> RunFigures:
    rows = world(np.random.default_rng(1), 100, {"p": (0.8, 1.0), "c": (0.7, 0.5)})
    rows.append(case_result("c", 101, failure=FailureClass.REFUSAL, weight=0.01))
    models = [model("p", Role.PRIMARY), model("c")]
    return RunFigures(
        run=run(),
        status=RunStatus.DONE,
        sample=sample(),
        summaries=summarise(rows, models),
        comparisons=(COMPARISON,),
        judge=JudgeReport(
            models=("judge",), judged=200, unscored=1, canaries=6, spend_usd=Decimal("0.30")
        ),
        spend=(
            SpendLine(
                model_name="p", purpose=Purpose.REPLAY, attempts=100, spend_usd=Decimal("1.10")
            ),
            SpendLine(
                model_name="judge", purpose=Purpose.JUDGE, attempts=200, spend_usd=Decimal("0.30")
            ),
        ),
        budget_usd=Decimal(25),
        alerts=(
            Alert(
                key="support-bot/switch:c",
                kind=AlertKind.SWITCH,
                news=News.NEW,
                run_id="run-1",
                title="Switch recommended: p → c",
                lead="It saves.",
            ),
        ),
    )


def plain(value: RunFigures) -> dict[str, object]:
    """The document as a reader of the JSON gets it."""
    loaded = json.loads(json.dumps(document(value), allow_nan=False))
    assert isinstance(loaded, dict)
    return loaded


def test_the_contract_keys_are_there() -> None:
    told = document(figures())

    assert set(told) >= {
        "run_id", "plan", "slot", "status", "window", "seed", "cases", "models", "comparisons",
        "drift", "judge", "spend", "alerts",
    }  # fmt: skip
    assert told["cases"] == {
        "frame": 700,
        "requested": 4,
        "drawn": 4,
        "sampled": 4,
        "skipped": {"empty": 2},
        "anchors": 0,
    }
    assert told["slot"] == "2026-03-29T06:00"
    assert told["spend"] == {
        "models_usd": "1.10",
        "judge_usd": "0.30",
        "embeddings_usd": None,
        "total_usd": "1.40",
        "budget_usd": "25",
        "attempts": 300,
        "unknown_cost": 0,
        "reported": [],
        "warnings": [],
    }
    assert told["alerts"] == [
        {"key": "support-bot/switch:c", "kind": "switch", "title": "Switch recommended: p → c"}
    ]


def test_a_model_has_money_as_text_and_numbers_as_numbers() -> None:
    models = plain(figures())["models"]

    assert isinstance(models, list)
    candidate = models[1]
    assert set(candidate) >= {
        "name", "model", "role", "cases", "quality", "success_rate", "cost_per_success_usd",
        "cost_per_1k_usd", "cost_per_quality_usd", "spend_usd", "attempts", "retries", "ttft_ms",
        "latency_ms", "failures", "pattern",
    }  # fmt: skip
    assert candidate["failures"] == {"refusal": 1}
    assert isinstance(candidate["cost_per_success_usd"], str)
    assert set(candidate["cost_per_quality_usd"]) == {"value", "low", "high"}
    assert all(isinstance(v, str) for v in candidate["cost_per_quality_usd"].values())
    assert isinstance(candidate["quality"]["value"], float)
    assert isinstance(candidate["success_rate"], float)
    assert set(candidate["latency_ms"]) == {"p50", "p95", "p99"}
    assert candidate["latency_ms"]["p99"] is None
    assert candidate["latency_ms"]["p50"] > 500


def test_a_comparison_tells_verdict_state_and_segments() -> None:
    comparisons = plain(figures())["comparisons"]

    assert isinstance(comparisons, list)
    told = comparisons[0]
    assert (told["verdict"], told["state"], told["reasons"]) == ("switch", "alert", ["It saves."])
    assert told["success_delta"] == 0.0
    assert told["monthly_saving_usd"] == {"value": "1140", "low": "940", "high": "1340"}
    assert told["segments"][0] == {
        "segment": "route",
        "value": "extract",
        "pairs": 62,
        "quality_delta": {"value": -0.09, "low": -0.11, "high": pytest.approx(-0.07)},
        "saving": None,
        "value_ratio": None,
        "is_worse": True,
        "wins": 0,
        "ties": 0,
        "losses": 0,
    }


def test_figures_that_are_plain_by_contract_have_their_interval_beside_them() -> None:
    told = plain(figures())

    compared = told["comparisons"][0]["intervals"]  # type: ignore[index]
    assert compared["success_delta"] == {"value": 0.0, "low": -0.02, "high": 0.02}
    assert compared["latency_p50_ratio"]["value"] == told["comparisons"][0]["latency_p50_ratio"]  # type: ignore[index]
    assert compared["latency_p95_ratio"] is None
    for one in told["models"]:  # type: ignore[attr-defined]
        for name in ("success_rate", "cost_per_success_usd", "cost_per_1k_usd"):
            assert one["intervals"][name]["value"] == one[name]
        for name in ("ttft_ms", "latency_ms", "latency_with_retries_ms"):
            assert {p: f and f["value"] for p, f in one["intervals"][name].items()} == one[name]


def test_absent_figures_are_null() -> None:
    told = plain(replace(figures(), sample=None, comparisons=(), judge=JudgeReport(), spend=()))

    assert told["window"] == {"start": None, "end": None}
    assert told["judge"]["agreement"] is None  # type: ignore[index]
    assert told["drift"]["primary"] is None  # type: ignore[index]


def test_drift_is_told_with_its_causes() -> None:
    drift = DriftReport(
        primary=around(-0.2),
        causes=("primary",),
        regressed=True,
        worst_segment=Segment(name="route", value="extract"),
    )

    told = plain(replace(figures(), drift=drift))["drift"]

    assert isinstance(told, dict)
    assert told["primary"]["value"] == -0.2
    assert told["causes"] == ["primary"]
    assert told["worst_segment"] == {"segment": "route", "value": "extract"}


@given(st.floats(min_value=1e-12, max_value=1e9))
def test_money_is_plain_decimal_text_within_a_billionth(value: float) -> None:
    text = money(value)

    assert text is not None
    assert "e" not in text.lower()
    assert float(text) == pytest.approx(value, rel=1e-9)


@given(st.decimals(min_value=0, max_value=10**6, places=10))
def test_counted_money_is_written_exactly(value: Decimal) -> None:
    text = money(value)

    assert text is not None
    assert Decimal(text) == value


def test_what_embeddings_cost_is_part_of_evaluation_and_told_apart() -> None:
    line = SpendLine(
        model_name="embeddings", purpose=Purpose.JUDGE, attempts=9, spend_usd=Decimal("0.05")
    )
    whole = figures()

    spend = document(replace(whole, spend=(*whole.spend, line), embedder="embeddings"))["spend"]

    assert isinstance(spend, dict)
    assert {name: spend[name] for name in ("models_usd", "judge_usd", "embeddings_usd")} == {
        "models_usd": "1.10",
        "judge_usd": "0.35",
        "embeddings_usd": "0.05",
    }
