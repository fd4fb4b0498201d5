"""What calls cost, computed by hand from the bytes of the wire to the dollar of the ledger."""

import asyncio
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.calls.caller import Caller, CallerPolicy, CallRequest
from app.domain.attempts import (
    AttemptOpening,
    AttemptOutcome,
    Completion,
    Failure,
    FailureClass,
    Purpose,
    Reply,
    ShardRef,
)
from app.domain.cases import Message, Prompt
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.prices import CostCheck, Price
from app.providers.anthropic_reply import AnthropicReply
from app.providers.openai_reply import OpenAIReply
from app.providers.prices import ListPrices, parse_overrides
from app.providers.replies import money
from tests.fakes.clocks import HandClock
from tests.fakes.providers import FakeProvider, failure
from tests.fakes.providers import completion as plain_completion
from tests.fakes.vendor_replies import AnthropicShape, OpenAIShape

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUSE = """
prices:
  house-flat: {input: 2, output: 10, per_request_usd: 0.005}
  house-long:
    - {input: 1, output: 4, cache_read: 0.1, tiers: [{above_input_tokens: 1000, input: 2, output: 6}]}
  house-next: [{input: 1, output: 1}, {since: 2026-11-01, input: 3, output: 9}]
"""
BOOK = ListPrices(parse_overrides(HOUSE))


def spec(model: str, **changes: Any) -> ModelSpec:
    endpoint = Endpoint(base_url="http://gateway.test")
    return ModelSpec(name="m", model=model, role=Role.PRIMARY, endpoint=endpoint, **changes)


def priced(name: str) -> Price:
    price = BOOK.price(spec(name), NOW)
    assert price is not None
    return price


def anthropic(**usage: object) -> Mapping[str, object]:
    return {"input_tokens": 1_000, "output_tokens": 200, **usage}


def openai(**usage: object) -> Mapping[str, object]:
    return {"prompt_tokens": 1_000, "completion_tokens": 200, "total_tokens": 1_200, **usage}


def written(five: int, hour: int) -> Mapping[str, object]:
    parts = {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour}
    return anthropic(cache_creation_input_tokens=five + hour, cache_creation=parts)


#: What the wire says, priced as, and the bill in millionths of a dollar, by hand.
BILLS: dict[str, tuple[Mapping[str, object], str, str]] = {
    "plain": (anthropic(), "claude-sonnet-4-5", "6000"),  # 1000·3 + 200·15
    "cache read": (
        anthropic(cache_read_input_tokens=8_000),
        "claude-sonnet-4-5",
        "8400",  # + 8000·0.30
    ),
    "five-minute cache": (written(4_000, 0), "claude-sonnet-4-5", "21000"),  # + 4000·3.75
    "one-hour cache": (written(0, 4_000), "claude-sonnet-4-5", "30000"),  # + 4000·6
    "both caches": (written(1_000, 2_000), "claude-haiku-4-5", "7250"),  # 1000+1000+1250+4000
    "a cache write of unnamed age": (
        anthropic(cache_creation_input_tokens=4_000),
        "claude-sonnet-4-5",
        "21000",
    ),
    "thinking is output": (
        anthropic(output_tokens=900, output_tokens_details={"thinking_tokens": 800}),
        "claude-sonnet-4-5",
        "16500",  # 3000 + 900·15
    ),
    "long context by cached input": (
        anthropic(cache_read_input_tokens=200_000),
        "claude-sonnet-4-5",
        "130500",  # 1000·6 + 200000·0.60 + 200·22.50
    ),
    "at the edge of long context": (
        anthropic(input_tokens=200_000),
        "claude-sonnet-4-5",
        "603000",  # 200000·3 + 200·15
    ),
    "batch": (anthropic(), "claude-haiku-4-5@batch", "1000"),  # 1000·0.5 + 200·2.5
    "chat": (openai(), "gpt-4.1", "3600"),  # 1000·2 + 200·8
    "chat with cached input": (
        openai(prompt_tokens_details={"cached_tokens": 600}),
        "gpt-4.1",
        "2700",  # 400·2 + 600·0.5 + 200·8
    ),
    "reasoning inside the output": (
        openai(completion_tokens_details={"reasoning_tokens": 150}),
        "gpt-4.1",
        "3600",
    ),
    "reasoning beside the output": (
        openai(completion_tokens_details={"reasoning_tokens": 150}, total_tokens=1_350),
        "gpt-4.1",
        "4800",  # 1000·2 + 350·8
    ),
    "a cache hit in a gateway's own words": (
        openai(prompt_cache_hit_tokens=600),
        "gpt-4.1",
        "2700",
    ),
    "a fee per request": (openai(), "house-flat", "9000"),  # 2000 + 2000 + 5000
    "a house's long context": (
        openai(prompt_tokens=1_001, total_tokens=1_201),
        "house-long",
        "3202",  # 1001·2 + 200·6
    ),
    "just below it, cached": (
        openai(prompt_tokens_details={"cached_tokens": 500}),
        "house-long",
        "1350",  # 500·1 + 500·0.1 + 200·4
    ),
    "a price that changed this month": (openai(), "house-next", "4800"),  # 1000·3 + 200·9
}


def completed(usage: Mapping[str, object], model: str) -> Any:
    if "prompt_tokens" in usage:
        reply: Any = OpenAIReply(spec(model))
        reply.document({**OpenAIShape().message(model=model), "usage": usage})
    else:
        reply = AnthropicReply(spec(model))
        reply.document({**AnthropicShape().message(model=model), "usage": usage})
    return reply.content()


@pytest.mark.parametrize("name", BILLS)
def test_a_bill_from_the_wire_equals_the_one_by_hand(name: str) -> None:
    usage, model, millionths = BILLS[name]
    content = completed(usage, model.removesuffix("@batch"))
    assert priced(model).cost(content.usage) == Decimal(millionths) / 1_000_000


@pytest.mark.parametrize("name", BILLS)
def test_no_bill_exceeds_what_was_reserved_for_it(name: str) -> None:
    usage, model, millionths = BILLS[name]
    used = completed(usage, model.removesuffix("@batch")).usage
    bound = priced(model).upper_bound(input_bytes=used.prompt_tokens, max_tokens=used.output_tokens)
    assert bound >= Decimal(millionths) / 1_000_000


def test_batch_prices_are_refused_where_the_list_knows_none() -> None:
    assert BOOK.price(spec("house-flat@batch"), NOW) is None
    assert BOOK.price(spec("claude-haiku-4-5@batch"), datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_the_list_tells_how_new_it_is() -> None:
    assert datetime(2026, 6, 1, tzinfo=UTC) < BOOK.newest_change(NOW) <= NOW
    early = datetime(2025, 7, 1, tzinfo=UTC)
    assert BOOK.newest_change(early) <= early


# --- retries and failed attempts ----------------------------------------------------------------


class Ledger:
    """A journal that keeps what was settled."""

    def __init__(self) -> None:
        self.settled: list[AttemptOutcome] = []

    async def open(self, opening: AttemptOpening) -> None:
        assert json.dumps(opening.price)

    async def settle(self, outcome: AttemptOutcome) -> None:
        self.settled.append(outcome)

    async def score(self, shard: ShardRef, records: object) -> None:
        raise AssertionError("nothing is scored here")


async def called(*answers: Completion | Failure) -> tuple[Reply, Ledger]:
    model = spec("gpt-4.1")
    ledger = Ledger()
    provider = FakeProvider(answers)
    caller = Caller(
        provider_for=lambda _endpoint: provider,
        journal=ledger,
        clock=HandClock(),
        rng=random.Random(1),
        policy=CallerPolicy(primary=model.endpoint),
    )
    request = CallRequest(
        shard=ShardRef(run_id="r", shard_no=0, fence=1),
        plan_name="p",
        case_id="c",
        call_key="replay:m",
        purpose=Purpose.REPLAY,
        model=model,
        prompt=Prompt(messages=(Message(role="user", content="hello"),)),
        max_tokens=100,
        price=priced("gpt-4.1"),
    )
    async with asyncio.timeout(10):
        return await caller.call(request), ledger


THOUSAND = plain_completion(input_tokens=1_000, output_tokens=200)  # $0.0036


async def test_a_refused_attempt_costs_nothing_and_its_retry_is_paid() -> None:
    reply, ledger = await called(failure(FailureClass.RATE_LIMITED, http_status=429), THOUSAND)
    assert (reply.spend_usd, reply.is_cost_known) == (Decimal("0.0036"), True)
    assert [outcome.cost_usd for outcome in ledger.settled] == [0, Decimal("0.0036")]


async def test_a_cut_attempt_makes_the_cost_unknown_and_its_retry_is_still_counted() -> None:
    cut = failure(FailureClass.INCOMPLETE, http_status=200, is_cost_unknown=True)
    reply, ledger = await called(cut, THOUSAND)
    assert (reply.spend_usd, reply.is_cost_known) == (Decimal("0.0036"), False)
    assert [outcome.cost_usd for outcome in ledger.settled] == [None, Decimal("0.0036")]


async def test_a_call_that_fails_for_good_costs_what_its_attempts_cost() -> None:
    reply, ledger = await called(failure(FailureClass.BAD_REQUEST, http_status=400))
    assert reply.failure_class is FailureClass.BAD_REQUEST
    assert reply.spend_usd == sum(outcome.cost_usd or 0 for outcome in ledger.settled) == 0


# --- the gateway's own account ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("computed", "reported", "is_off"),
    [
        ("1.00", "1.02", False),
        ("1.00", "1.0201", True),
        ("1.00", "0.979", True),
        ("0", "0", False),
        ("0", "0.01", True),
    ],
)
def test_costs_that_differ_by_more_than_two_per_cent_are_off(
    computed: str, reported: str, is_off: bool
) -> None:
    check = CostCheck(
        model_name="m", calls=3, computed_usd=Decimal(computed), reported_usd=Decimal(reported)
    )
    assert check.is_off is is_off


@pytest.mark.parametrize(
    "told", ["1e200000", "1e-200000", 10**400, "1000000.01", "-1", "NaN", None]
)
def test_a_bill_that_no_call_can_have_is_no_bill(told: object) -> None:
    assert money(told) is None


def test_a_bill_of_a_fraction_of_a_cent_is_taken_as_it_is() -> None:
    assert money(3.25e-7) == Decimal("3.25E-7")
