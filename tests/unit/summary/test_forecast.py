"""What a Run would cost and could show, before anything is sent."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from app.domain.models import Role
from app.domain.plans import EvaluatorSettings
from app.domain.prices import Usage
from app.stats.evidence import pair_evidence
from app.summary.forecast import forecast
from tests.fakes.case_results import model
from tests.fakes.small_plans import plan, price, sample

PRICES = {"p": price(), "c": price("1", "5"), "judge": price("5", "25")}


def test_the_expected_cost_follows_from_logged_tokens_and_prices() -> None:
    drawn = sample(10)

    found = forecast(plan("c"), drawn, PRICES)

    tokens = round(drawn.cases[0].prompt.size_bytes / 4)
    each = price().cost(Usage(input_tokens=tokens, output_tokens=200))
    primary = found.models["p"]
    assert primary is not None
    assert primary.expected_usd == each * 10
    assert primary.low_usd < primary.expected_usd < primary.high_usd


def test_a_candidate_may_cost_one_block_only_when_spending_adapts() -> None:
    drawn = sample(100)

    adaptive = forecast(plan("c"), drawn, PRICES).models["c"]
    full = forecast(plan("c", adaptive=False), drawn, PRICES).models["c"]

    assert adaptive is not None
    assert full is not None
    assert adaptive.low_usd * 5 == pytest.approx(full.low_usd)
    assert adaptive.high_usd == full.high_usd


def test_an_unknown_price_is_said_and_never_zero() -> None:
    found = forecast(plan("c"), sample(10), {**PRICES, "c": None})

    assert found.models["c"] is None
    assert "The price of c is unknown: nothing can be spent on it." in found.notes


def test_the_total_is_the_sum_of_its_parts() -> None:
    found = forecast(plan("c"), sample(10), PRICES)

    parts = [*found.models.values(), found.judging]
    assert found.total.expected_usd == sum(
        (part.expected_usd for part in parts if part is not None), Decimal(0)
    )


def test_a_reply_is_never_longer_than_its_limit() -> None:
    limited = plan("c")
    short = replace(
        limited, candidates=(replace(limited.candidates[0], params={"max_tokens": 50}),)
    )

    found = forecast(short, sample(10), PRICES).models["c"]
    free = forecast(limited, sample(10), PRICES).models["c"]

    assert found is not None
    assert free is not None
    assert found.expected_usd < free.expected_usd


def test_a_hundred_prompts_show_only_a_large_saving_at_once() -> None:
    found = forecast(plan("c"), sample(100), PRICES)

    assert found.detectable_ratio == pytest.approx(0.58, abs=0.005)
    assert found.detectable_difference == pytest.approx(0.05, abs=0.005)
    equal = found.weeks[0]
    assert (equal.difference, equal.ratio, equal.median_weeks) == (0.0, 0.7, 3)
    assert "default spread" in found.basis


def test_the_plans_own_history_replaces_the_defaults() -> None:
    rng = np.random.default_rng(2)
    shared = rng.uniform(0.4, 0.9, 60)
    cost = rng.gamma(4.0, 0.0025, 60)
    week = pair_evidence(cost * 0.5, cost, shared + rng.uniform(0, 0.1, 60), shared)

    found = forecast(plan("c"), sample(100), PRICES, [week])

    assert found.basis.startswith("the plan's own 1 stored weeks")
    # The quality test assumes rare outright losses: sd √(0.05 × 0.95), so (3.43 × 0.218/0.05)² = 224.
    assert found.weeks[0].pairs == pytest.approx(224, abs=1)


def test_what_twelve_weeks_cannot_hold_is_not_promised() -> None:
    found = forecast(plan("c"), sample(4), PRICES)

    assert found.weeks[0].pairs is not None
    assert found.weeks[0].median_weeks is None
    assert any("is not found within 12 weeks" in sentence for sentence in found.sentences)


def test_embeddings_are_forecast_beside_the_judge() -> None:
    use = EvaluatorSettings(type="similarity", options={"measure": "embeddings"})
    made = plan("c")
    without = forecast(made, sample(), PRICES)
    made = replace(
        made, evaluators=(*made.evaluators, use), embedder=model("embeddings", Role.EMBEDDER)
    )

    found = forecast(made, sample(), {**PRICES, "embeddings": price("0.1", "0")})

    assert found.embedding_calls == found.calls == 8
    assert found.embedding is not None
    assert found.embedding.expected_usd == Decimal("0.00032")  # 8 calls of 2 x 200 tokens
    assert found.total.expected_usd == without.total.expected_usd + found.embedding.expected_usd
    assert without.embedding_calls == 0
    assert without.embedding is None
