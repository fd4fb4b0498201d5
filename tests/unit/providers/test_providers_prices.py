"""Prices come from the plan, the overrides or the shipped list, and never from nowhere."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import ConfigError
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.prices import Price, Rates, Usage
from app.providers.prices import ListPrices, parse_overrides

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PRICES = ListPrices()


def spec(model: str, *, base_url: str = "http://gateway.test", **changes: Any) -> ModelSpec:
    endpoint = Endpoint(base_url=base_url)
    return ModelSpec(name="m", model=model, role=Role.CANDIDATE, endpoint=endpoint, **changes)


def known(model: str, *, at: datetime = NOW, **changes: Any) -> Price:
    price = PRICES.price(spec(model, **changes), at)
    assert price is not None
    return price


# --- the shipped list -----------------------------------------------------------------------


def test_an_unknown_name_has_no_price() -> None:
    assert PRICES.price(spec("house-model-7"), NOW) is None


@pytest.mark.parametrize(
    ("model", "expected_usd"),
    [
        ("claude-sonnet-4-5", "0.0030000000"),
        ("claude-sonnet-4-5-20250929", "0.0030000000"),
        ("anthropic/claude-sonnet-4-5", "0.0030000000"),
        ("gpt-4o-mini", "0.00015"),
        ("openai/gpt-4o-mini", "0.00015"),
    ],
)
def test_a_thousand_input_tokens_cost_what_the_vendor_says(model: str, expected_usd: str) -> None:
    cost = known(model).cost(Usage(input_tokens=1_000, output_tokens=0))

    assert cost == Decimal(expected_usd)


def test_a_price_says_where_it_comes_from() -> None:
    assert known("gpt-4o-mini").source == f"{PRICES.list_name} (openai/gpt-4o-mini)"
    assert PRICES.list_name.startswith("genai-prices ")


def test_price_as_names_the_model_behind_an_alias() -> None:
    assert PRICES.price(spec("team-default"), NOW) is None
    assert known("team-default", price_as="gpt-4o-mini") == known("gpt-4o-mini")


def test_an_address_that_names_a_vendor_decides_whose_price_holds() -> None:
    groq = "https://api.groq.com/openai/v1"

    assert PRICES.price(spec("llama-3.3-70b-versatile"), NOW) is None
    assert "groq" in known("llama-3.3-70b-versatile", base_url=groq).source
    assert PRICES.price(spec("gpt-4o-mini", base_url=groq), NOW) is None


def test_one_hour_cache_writes_never_cost_less_than_five_minute_ones() -> None:
    rates = known(
        "aws/us.anthropic.claude-3-5-sonnet-20241022-v2:0", base_url="http://x.test"
    ).rates

    assert rates.cache_write_1h == rates.cache_write_5m


def test_a_tariff_that_rates_cannot_express_has_no_price() -> None:
    assert PRICES.price(spec("sonar-deep-research"), NOW) is None


def test_a_model_without_an_output_rate_has_no_price() -> None:
    assert PRICES.price(spec("text-embedding-3-small"), NOW) is None


def test_names_that_look_alike_are_suggested() -> None:
    assert "claude-sonnet-4-5" in PRICES.nearest_known("claude-sonet-4-5")
    assert PRICES.nearest_known("zzzzzzzzzz") == ()


def test_suggestions_name_overrides_too() -> None:
    book = ListPrices(parse_overrides("prices: {house-model: {input: 1, output: 2}}"))

    assert book.nearest_known("house-modle")[0] == "house-model"


MODELS = ("claude-sonnet-4-5", "claude-haiku-4-5", "gpt-4o-mini", "gpt-4.1", "gemini-2.5-pro")


@given(
    model=st.sampled_from(MODELS),
    fresh=st.integers(0, 400_000),
    read=st.integers(0, 100_000),
    out=st.integers(0, 60_000),
)
def test_costs_equal_the_lists_own_arithmetic(model: str, fresh: int, read: int, out: int) -> None:
    ours = known(model).cost(Usage(input_tokens=fresh, output_tokens=out, cache_read_tokens=read))

    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=fresh + read, cache_read_tokens=read, output_tokens=out),
        model,
        genai_request_timestamp=NOW,
    ).total_price
    assert ours == theirs


@pytest.mark.parametrize(
    ("usage", "per_million"),
    [
        ({"input_tokens": 1_000, "output_tokens": 500}, 1_000 * 3 + 500 * 15),
        ({"input_tokens": 0, "output_tokens": 1, "cache_read_tokens": 10_000}, 15 + 3_000),
        ({"input_tokens": 10, "output_tokens": 1, "cache_write_5m_tokens": 800}, 30 + 15 + 3_000),
        ({"input_tokens": 10, "output_tokens": 1, "cache_write_1h_tokens": 500}, 30 + 15 + 3_000),
        ({"input_tokens": 10, "output_tokens": 900, "thinking_tokens": 800}, 30 + 900 * 15),
        ({"input_tokens": 200_000, "output_tokens": 10}, 200_000 * 3 + 10 * 15),
        ({"input_tokens": 200_001, "output_tokens": 10}, 1_200_006 + 225),
        (
            {"input_tokens": 1, "output_tokens": 10, "cache_read_tokens": 200_000},
            120_006 + 225,
        ),
    ],
)
def test_bills_computed_by_hand_are_met_to_the_last_digit(
    usage: Mapping[str, int], per_million: Decimal | int
) -> None:
    cost = known("claude-sonnet-4-5").cost(Usage(**usage))

    assert cost == Decimal(per_million) / 1_000_000


# --- the plan and the overrides -------------------------------------------------------------


def test_the_plans_own_price_wins_over_everything() -> None:
    own = Price(rates=Rates(input=Decimal(1), output=Decimal(2)))
    book = ListPrices(parse_overrides("prices: {gpt-4o-mini: {input: 7, output: 8}}"))

    assert book.price(spec("gpt-4o-mini", price=own), NOW) is own


def test_an_override_wins_over_the_list() -> None:
    book = ListPrices(parse_overrides("prices: {gpt-4o-mini: {input: 7, output: 8}}"))

    price = book.price(spec("gpt-4o-mini"), NOW)

    assert price is not None
    assert price.rates.input == 7
    assert price.source == "prices.yaml"


DATED = """
version: 1
prices:
  house-model:
    - {input: 3, output: 6, since: 2026-12-01}
    - {input: 1, output: 2}
    - {input: 2, output: 4, since: 2026-11-23, cache_read: 0.2, per_request_usd: 0.001,
       tiers: [{above_input_tokens: 200000, input: 4, output: 8}]}
"""


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 11, 22, 23, 59, tzinfo=UTC), 1),
        (datetime(2026, 11, 23, 0, 0, tzinfo=UTC), 2),
        (datetime(2026, 11, 30, 23, 59, tzinfo=UTC), 2),
        (datetime(2026, 12, 1, 0, 0, tzinfo=UTC), 3),
        (datetime(2030, 1, 1, 0, 0, tzinfo=UTC), 3),
    ],
)
def test_a_dated_price_holds_from_its_date_on(at: datetime, expected: int) -> None:
    price = ListPrices(parse_overrides(DATED)).price(spec("house-model"), at)

    assert price is not None
    assert price.rates.input == expected


def test_an_entry_may_hold_every_kind_of_rate() -> None:
    entry = parse_overrides(DATED)["house-model"][1]

    assert entry.since == date(2026, 11, 23)
    assert entry.price.rates.cache_read == Decimal("0.2")
    assert entry.price.per_request_usd == Decimal("0.001")
    assert entry.price.tiers[0].rates.output == 8
    assert entry.price.source == "prices.yaml since 2026-11-23"


def test_before_its_first_date_a_model_is_priced_by_the_list() -> None:
    book = ListPrices(
        parse_overrides("prices: {gpt-4o-mini: [{input: 7, output: 8, since: 2027-01-01}]}")
    )

    assert book.price(spec("gpt-4o-mini"), NOW) == known("gpt-4o-mini")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("prices: [1]", "prices"),
        ("[]", "prices"),
        ("{}", "prices"),
        ("models: {}", "prices"),
        ("prices: {m: 5}", "prices.m"),
        ("prices: {m: []}", "prices.m"),
        ("prices: {m: {input: 1}}", "prices.m"),
        ("prices: {m: {input: -1, output: 1}}", "prices.m"),
        ("prices: {m: {input: .nan, output: 1}}", "prices.m"),
        ("prices: {m: {input: a lot, output: 1}}", "prices.m"),
        ("prices: {m: {input: 1, output: 1, cached: 1}}", "cached"),
        ("prices: {m: {input: 1, output: 1, since: soon}}", "since"),
        ("prices: {m: [{input: 1, output: 1}, {input: 2, output: 1}]}", "same date"),
        ("prices: {m: {input: 1", "YAML"),
        ("prices: !!python/object:os.system {}", "YAML"),
    ],
)
def test_a_wrong_overrides_file_is_refused_by_name(text: str, names: str) -> None:
    with pytest.raises(ConfigError, match=r"prices\.yaml") as caught:
        parse_overrides(text)

    assert names in str(caught.value)


def test_the_shipped_overrides_file_holds_no_price() -> None:
    text = (Path(__file__).parents[3] / "config/prices.yaml").read_text(encoding="utf-8")

    assert parse_overrides(text) == {}
    assert parse_overrides("") == {}


# --- embeddings -----------------------------------------------------------------------------


def test_what_embeds_needs_no_price_of_output() -> None:
    embedder = ModelSpec(
        name="embeddings",
        model="voyage-3",
        role=Role.EMBEDDER,
        endpoint=Endpoint(base_url="http://gateway.test", api="embeddings"),
    )
    price = PRICES.price(embedder, NOW)

    assert price is not None
    assert price.cost(Usage(input_tokens=1_000_000, output_tokens=0)) == Decimal("0.06")
    assert PRICES.price(spec("voyage-3"), NOW) is None
