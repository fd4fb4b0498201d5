"""What a Run would cost and could show, before anything is sent."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil, log

import numpy as np
import pytest

from app.domain.models import Role
from app.domain.plans import EvaluatorSettings
from app.domain.prices import Usage
from app.stats.critical_values import critical_value
from app.stats.evidence import Evidence, pair_evidence
from app.summary.forecast import forecast
from app.summary.run_costs import CallRange, RunCosts
from app.summary.track_record import ModelUse, TrackRecord, uses_of
from tests.fakes.case_results import case_result, model
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

    found = forecast(plan("c"), sample(100), PRICES, TrackRecord(weeks={"c": [week]}))

    assert found.basis.startswith("the plan's own history: 60 independent pairs of c in 1 week (")
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


def test_the_prompts_an_effect_takes_follow_from_the_printed_formula() -> None:
    c = critical_value(1, 0.05)

    equal, half, worse, better = forecast(plan("c"), sample(100), PRICES).weeks

    # N = max{[(c + z) sd_d/(margin + D)]^2, [(c + z) sd_R/ln(0.9/R)]^2}; z is 0, then .84.
    assert equal.pairs == ceil(max((c * 0.236 / 0.05) ** 2, (c * 1.03 / log(0.9 / 0.7)) ** 2))
    assert worse.pairs == ceil((c * 0.236 / 0.03) ** 2)
    assert equal.likely_pairs == pytest.approx(((c + 0.8416) * 0.236 / 0.05) ** 2, abs=1)
    assert (half.median_weeks, worse.median_weeks) == (3, 8)
    # Quality alone would take (3.43 x .236/.1)^2 = 66; a 95th percentile takes 100 replies.
    assert (better.pairs, better.median_weeks) == (100, 1)


def test_conversations_take_more_prompts_by_their_design_effect() -> None:
    drawn = sample(100)
    together = replace(
        drawn,
        cases=tuple(
            replace(case, conversation=f"talk-{i // 4}") for i, case in enumerate(drawn.cases)
        ),
    )

    single, grouped = (forecast(plan("c"), one, PRICES).weeks[0].pairs for one in (drawn, together))

    assert single is not None
    assert grouped is not None
    assert grouped == pytest.approx(2.5 * single, rel=0.01)


def test_effects_are_said_in_words_with_the_primary_by_name() -> None:
    found = forecast(plan("c"), sample(100), PRICES)

    assert found.sentences[1] == (
        "A candidate that is as good at 70 % of p's cost per quality point is found within "
        "3 weeks with an even chance, within 5 with a chance of four in five."
    )
    assert "because no Run of this plan has ended yet." in found.sentences[-1]


class TestTrackRecord:
    RECORD = TrackRecord(
        uses={
            "p": ModelUse(cases=100, input_tokens=300.0, output_tokens=150.0),
            "c": ModelUse(cases=40, input_tokens=310.0, output_tokens=90.0),
        },
        anchors=20,
        judged_usd=Decimal("0.002"),
        run_at=datetime(2026, 3, 22, 5, tzinfo=UTC),
    )

    def test_measured_tokens_and_prompts_give_the_expected_cost(self) -> None:
        found = forecast(plan("c"), sample(100), PRICES, self.RECORD)

        primary, candidate = found.models["p"], found.models["c"]
        assert primary is not None
        assert candidate is not None
        # 120 calls of (300 x $3 + 150 x $15)/1M; 40 of 100 calls of (310 x $1 + 90 x $5)/1M.
        assert primary.expected_usd == Decimal("0.378")
        assert candidate.expected_usd == Decimal("0.0304")
        # At most 100 calls of a quarter more tokens (388 and 112), at least one block of 20.
        assert candidate.high_usd == Decimal("0.0948")
        assert candidate.low_usd == 20 * Decimal("0.000608")

    def test_judging_costs_what_it_cost_per_reply(self) -> None:
        found = forecast(plan("c"), sample(100), PRICES, self.RECORD)

        assert found.judging is not None
        # 120 of p, 40 of c and 20 stored replies; at most 100 of c, at a quarter more each.
        assert found.judging.expected_usd == Decimal("0.36")
        assert found.judging.high_usd == 240 * Decimal("0.0025")
        assert found.judging.low_usd == 160 * Decimal("0.0016")

    def test_where_the_figures_come_from_is_said(self) -> None:
        notes = " ".join(forecast(plan("c"), sample(100), PRICES, self.RECORD).notes)

        assert "Tokens of p, c are those that the Run of 22 March 2026 measured" in notes
        assert "estimated" not in notes
        assert "estimated" in " ".join(forecast(plan("c"), sample(100), PRICES).notes)

    def test_the_spread_is_that_of_the_candidate_with_most_pairs(self) -> None:
        rng = np.random.default_rng(3)

        def week(pairs: int, noise: float) -> Evidence:
            cost, quality = rng.gamma(4.0, 0.0025, pairs), rng.uniform(0.4, 0.9, pairs)
            shifted = np.clip(quality + rng.normal(0, noise, pairs), 0, 1)
            return pair_evidence(cost * 0.5, cost, shifted, quality)

        record = TrackRecord(weeks={"wild": [week(40, 0.4)], "calm": [week(90, 0.1)] * 2})

        assert record.best_measured[0] == "calm"
        basis = forecast(plan("calm", "wild"), sample(100), PRICES, record).basis
        assert "180 independent pairs of calm in 2 weeks" in basis

    def test_few_replies_measure_nothing_and_anchors_are_no_prompts(self) -> None:
        rows = [replace(case_result("p", i), output_tokens=100 + i) for i in range(12)]
        rows += [replace(case_result("c", i), output_tokens=50) for i in range(9)]
        rows += [replace(case_result("p", 50), output_tokens=9_000, is_anchor=True)]

        uses = uses_of(rows)

        assert set(uses) == {"p"}
        assert uses["p"].cases == 12
        assert uses["p"].output_tokens == pytest.approx(105.5)

    def test_calls_are_counted_at_least_as_expected_and_at_most(self) -> None:
        costs = RunCosts(plan=plan("c"), sample=sample(100), prices=PRICES, record=self.RECORD)

        assert costs.calls == 220
        assert costs.judge_calls == 220 + 20 + 6
        assert costs.cases_of(costs.plan.candidates[0]) == CallRange(low=20, expected=40, high=100)
