"""One paid call: journaled before it is sent, settled as it lands, tried again where that helps."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.calls.breaker import BreakerPolicy
from app.calls.caller import Caller, CallerPolicy, CallRequest
from app.calls.slots import SlotPools
from app.domain.attempts import (
    AttemptState,
    Completion,
    Failure,
    FailureClass,
    Purpose,
    Reply,
    SettledCalls,
)
from app.domain.errors import (
    BudgetExhausted,
    GatewayRefused,
    RunInterrupted,
    ShardDeferred,
    StorageUnavailable,
)
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.prices import Price, Rates
from app.ports import Journal, ModelRequest
from app.storage.ledger import Caps
from tests.fakes.clocks import HandClock
from tests.fakes.providers import Answer, FakeProvider, completion, failure
from tests.fakes.storage import Memory, Storage, storage_in_memory
from tests.fakes.work import Begun, begin_run, opening

HERE = Endpoint(base_url="http://localhost:1", concurrency=8)
PRIMARY = ModelSpec(name="p", model="p-1", role=Role.PRIMARY, endpoint=HERE)
CANDIDATE = ModelSpec(name="a", model="a-1", role=Role.CANDIDATE, endpoint=HERE)
PRICE = Price(rates=Rates(input=Decimal(3), output=Decimal(15)), source="plan")

Script = Callable[[ModelRequest], Answer | Awaitable[Answer]] | Sequence[Answer]


@dataclass(slots=True)
class Desk:
    """A caller over a scripted provider and a database in memory."""

    caller: Caller
    provider: FakeProvider
    storage: Storage
    memory: Memory
    begun: Begun
    clock: HandClock

    def request(
        self, case: int = 0, *, model: ModelSpec = PRIMARY, due_at: float | None = None
    ) -> CallRequest:
        found = self.begun.sample.cases[case % len(self.begun.sample.cases)]
        return CallRequest(
            shard=self.begun.ref,
            plan_name=self.begun.plan.name,
            case_id=found.case_id,
            model=model,
            purpose=Purpose.REPLAY,
            call_key=f"replay:{model.name}:{case}",
            prompt=found.prompt,
            max_tokens=1000,
            price=PRICE,
            due_at=due_at,
        )

    async def call(self, case: int = 0, *, model: ModelSpec = PRIMARY) -> Reply:
        return await self.caller.call(self.request(case, model=model))

    def states(self) -> list[AttemptState]:
        return [attempt.state for attempt in self.memory.attempts.values()]


async def desk(
    script: Script, *, caps: Caps | None = None, policy: CallerPolicy | None = None
) -> Desk:
    clock, memory = HandClock(), Memory()
    storage = storage_in_memory(clock, memory)
    begun = await begin_run(storage.runs, n=4)
    provider = FakeProvider(script)
    journal: Journal = storage.journal if caps is None else storage.another_journal(caps)
    caller = Caller(
        provider_for=lambda _endpoint: provider,
        journal=journal,
        clock=clock,
        rng=random.Random(1),
        policy=policy or CallerPolicy(primary=HERE),
    )
    return Desk(caller, provider, storage, memory, begun, clock)


async def test_an_attempt_is_committed_before_it_is_sent_and_settled_after() -> None:
    seen: list[AttemptState] = []

    def look(_request: ModelRequest) -> Completion:
        seen.extend(made.states())
        return completion()

    made = await desk(look)
    reply = await made.call()
    assert seen == [AttemptState.SENT]
    assert made.states() == [AttemptState.SETTLED]
    assert reply.completion is not None
    assert reply.spend_usd == PRICE.cost(reply.completion.usage)


async def test_a_call_that_is_settled_is_not_made_again() -> None:
    made = await desk([completion()])
    known = await made.call()
    made.caller.recall(SettledCalls(replies={(known.case_id, known.call_key): known}))
    assert await made.call() == known
    assert len(made.provider.requests) == 1


async def test_a_server_that_keeps_failing_is_tried_three_times_and_every_attempt_is_kept() -> None:
    made = await desk([failure(FailureClass.SERVER)])
    reply = await made.call()
    assert reply.failure_class is FailureClass.SERVER
    assert reply.attempts == 3
    finals = [a.outcome.is_final for a in made.memory.attempts.values() if a.outcome]
    assert finals == [False, False, True]


async def test_waiting_for_our_own_rate_is_not_felt_latency() -> None:
    throttled = failure(FailureClass.RATE_LIMITED, http_status=429, retry_after_s=30)
    made = await desk([throttled, throttled, completion(latency_s=0.5)])
    reply = await made.call()
    assert reply.felt_latency_s == pytest.approx(0.5)


async def test_a_retry_after_longer_than_a_minute_defers_the_shard() -> None:
    made = await desk([failure(FailureClass.RATE_LIMITED, http_status=429, retry_after_s=7200)])
    with pytest.raises(ShardDeferred) as deferred:
        await made.call()
    assert (deferred.value.until - made.clock.now()).total_seconds() == pytest.approx(7200)
    assert made.states() == [AttemptState.SETTLED]


async def test_a_model_that_asks_for_two_hours_again_and_again_is_given_up_after_six() -> None:
    made = await desk([failure(FailureClass.RATE_LIMITED, http_status=429, retry_after_s=7200)])
    for _ in range(3):
        with pytest.raises(ShardDeferred) as deferred:
            await made.call()
        made.clock.advance((deferred.value.until - made.clock.now()).total_seconds())
    assert (await made.call()).failure_class is FailureClass.RATE_LIMITED
    assert (await made.call(1)).failure_class is FailureClass.RATE_LIMITED


async def test_what_a_call_was_deferred_in_other_processes_counts() -> None:
    made = await desk([failure(FailureClass.RATE_LIMITED, http_status=429, retry_after_s=7200)])
    request, now = made.request(), made.clock.now()
    hours = (6.1, 4.1, 2.1)
    tried_at = tuple(now - timedelta(hours=hour) for hour in hours)
    key = (request.case_id, request.call_key)
    made.caller.recall(SettledCalls(tried_at={key: tried_at}))
    reply = await made.caller.call(request)
    assert reply.failure_class is FailureClass.RATE_LIMITED
    assert reply.attempts == 4


async def test_a_call_that_waits_gives_its_slot_to_others() -> None:
    alone = replace(HERE, concurrency=1)
    first = True

    def script(_request: ModelRequest) -> Answer:
        nonlocal first
        was_first, first = first, False
        return (
            failure(FailureClass.RATE_LIMITED, http_status=429, retry_after_s=30)
            if was_first
            else completion()
        )

    made = await desk(script)
    ended: list[int] = []

    async def one(case: int) -> None:
        await made.caller.call(made.request(case, model=replace(PRIMARY, endpoint=alone)))
        ended.append(case)

    await asyncio.gather(one(0), one(1))
    assert ended == [1, 0]


async def test_the_first_judgement_does_not_wait_behind_replies_that_came_later() -> None:
    order: list[str] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    async def answer(request: ModelRequest) -> Completion:
        order.append(request.model.name)
        begun.set()
        await gate.wait()
        return completion()

    judge = replace(PRIMARY, name="j", model="j-1", role=Role.JUDGE)
    made = await desk(answer, policy=CallerPolicy(primary=HERE, pools=one_slot()))
    judged = [replace(made.request(case, model=judge), purpose=Purpose.JUDGE) for case in (2, 3)]
    requests = [made.request(0), made.request(1), *judged, made.request(4)]
    calls = [asyncio.create_task(made.caller.call(request)) for request in requests]
    await begun.wait()
    gate.set()
    await asyncio.gather(*calls)
    assert order == ["p", "j", "p", "p", "j"]


async def test_calls_of_an_endpoint_with_a_rate_wait_for_their_turn() -> None:
    paced = replace(HERE, rate_per_min=60)
    pace = EverySecond()
    made = await desk([completion()], policy=CallerPolicy(primary=paced, pace=pace))
    for case in range(3):
        await made.call(case, model=replace(PRIMARY, endpoint=paced))
    assert made.clock.monotonic() >= 2
    assert pace.asked == 3
    assert [a.outcome.felt_latency_s for a in made.memory.attempts.values() if a.outcome] == [
        pytest.approx(completion().latency_s)
    ] * 3


async def test_without_a_turn_nothing_is_sent_and_stopping_ends_the_wait() -> None:
    paced = replace(HERE, rate_per_min=1)
    made = await desk([completion()], policy=CallerPolicy(primary=paced, pace=NoTurns()))
    call = asyncio.create_task(made.call(model=replace(PRIMARY, endpoint=paced)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert made.states() == []
    made.caller.interrupt("enough")
    with pytest.raises(RunInterrupted):
        await call
    assert made.provider.requests == []


class EverySecond:
    """Gives one turn a second."""

    def __init__(self) -> None:
        self.asked = 0

    async def turn(self, endpoint: Endpoint) -> float:
        del endpoint
        self.asked += 1
        return 0.0 if self.asked == 1 else 1.0


class NoTurns:
    """A database that is away."""

    async def turn(self, endpoint: Endpoint) -> float:
        del endpoint
        raise StorageUnavailable("away")


def one_slot() -> SlotPools:
    return SlotPools(lambda _endpoint: 1)


async def test_a_refused_primary_stops_the_run_and_nothing_more_is_called() -> None:
    made = await desk([failure(FailureClass.AUTH, http_status=401)])
    with pytest.raises(GatewayRefused, match="primary p"):
        await made.call()
    with pytest.raises(GatewayRefused):
        await made.call(1, model=CANDIDATE)
    assert len(made.provider.requests) == 1


async def test_a_candidate_refused_alone_is_not_called_again_and_the_primary_goes_on() -> None:
    def script(request: ModelRequest) -> Answer:
        is_candidate = request.model.name == "a"
        return failure(FailureClass.NOT_FOUND, http_status=404) if is_candidate else completion()

    made = await desk(script)
    for case in range(4):
        reply = await made.call(case, model=CANDIDATE)
        assert reply.failure_class is FailureClass.NOT_FOUND
        assert (await made.call(case)).completion is not None
    assert [r.model.name for r in made.provider.requests].count("a") == 1


async def test_credentials_refused_to_a_candidate_that_shares_them_stop_the_run() -> None:
    made = await desk([failure(FailureClass.AUTH, http_status=401)])
    with pytest.raises(GatewayRefused, match="candidate a"):
        await made.call(model=CANDIDATE)


async def test_credentials_that_were_accepted_before_are_not_to_blame() -> None:
    def script(request: ModelRequest) -> Answer:
        is_candidate = request.model.name == "a"
        return failure(FailureClass.AUTH, http_status=401) if is_candidate else completion()

    made = await desk(script)
    await made.call()
    assert (await made.call(model=CANDIDATE)).failure_class is FailureClass.AUTH
    assert (await made.call(1)).completion is not None


async def test_a_dead_model_is_given_up_within_twenty_calls() -> None:
    async def dead(_request: ModelRequest) -> Answer:
        await asyncio.sleep(0)
        return failure(FailureClass.OVERLOADED, http_status=529)

    made = await desk(dead)
    replies = await asyncio.gather(*(made.call(case, model=CANDIDATE) for case in range(60)))
    last = {reply.failure_class for reply in replies}
    assert last <= {FailureClass.OVERLOADED, FailureClass.BREAKER_OPEN}
    assert sum(r.failure_class is FailureClass.BREAKER_OPEN for r in replies) > 40
    # ten failures open it, calls in flight land, and the open breaker lets a few probes through
    assert len(made.provider.requests) <= 10 + HERE.concurrency + 8


async def test_a_model_that_recovers_is_called_again() -> None:
    policy = CallerPolicy(primary=HERE, breaker=BreakerPolicy(threshold=3, cooldown_s=1.0))
    made = await desk([failure(FailureClass.SERVER)] * 4 + [completion()], policy=policy)
    await made.call(0)
    assert (await made.call(1)).completion is not None
    assert (await made.call(2)).completion is not None


async def test_a_call_that_does_not_fit_the_cap_ends_the_run_once_nothing_is_in_flight() -> None:
    made = await desk([completion()], caps=Caps(per_run_usd=Decimal("0.001")))
    with pytest.raises(BudgetExhausted, match=r"per_run_usd"):
        await made.call()
    assert made.provider.requests == []


async def test_a_call_that_does_not_fit_waits_for_money_in_flight() -> None:
    """The reservation is an upper bound: what was not spent comes back."""
    gate, sent = asyncio.Event(), asyncio.Event()

    async def slow(_request: ModelRequest) -> Answer:
        sent.set()
        await gate.wait()
        return completion()

    made = await desk(slow)
    bound = made.request().upper_bound_usd
    made = await desk(slow, caps=Caps(per_run_usd=bound * Decimal("1.5")))
    first = asyncio.ensure_future(made.call(0))
    second = asyncio.ensure_future(made.call(1))
    await sent.wait()
    assert len(made.provider.requests) == 1
    gate.set()
    assert (await first).completion is not None
    assert (await second).completion is not None


async def test_money_that_died_with_its_owner_is_not_waited_for_for_ever() -> None:
    """Its shard must be claimed before anybody knows, and that needs a free worker."""
    made = await desk([completion()])
    bound = made.request().upper_bound_usd
    made = await desk([completion()], caps=Caps(per_run_usd=bound * Decimal("1.5")))
    left_behind = opening(made.begun, case=3, reserved_usd=str(bound))
    assert await made.caller._journal.open(left_behind) is None
    waiting = asyncio.ensure_future(made.call())
    while not waiting.done():
        await asyncio.sleep(0)
        made.clock.advance(1.0)
        made.caller._landed.set()
    with pytest.raises(ShardDeferred, match="in flight"):
        await waiting
    assert made.provider.requests == []


async def test_a_cut_reply_charges_its_reservation_and_leaves_the_cost_unknown() -> None:
    cut = failure(FailureClass.INCOMPLETE, http_status=200, is_cost_unknown=True)
    made = await desk([cut, completion()])
    reply = await made.call()
    assert not reply.is_cost_known
    charged = [attempt.charged_usd for attempt in made.memory.attempts.values()]
    assert charged[0] == made.request().upper_bound_usd


async def test_while_the_database_is_away_nothing_is_sent() -> None:
    made = await desk([completion()])
    made.memory.go_away()
    calling = asyncio.ensure_future(made.call())
    for _ in range(20):
        await asyncio.sleep(0)
    assert made.provider.requests == []
    made.memory.come_back()
    assert (await calling).completion is not None
    assert len(made.provider.requests) == 1


async def test_asked_to_stop_it_makes_no_new_call_and_settles_those_in_flight() -> None:
    gate, sent = asyncio.Event(), asyncio.Event()

    async def slow(_request: ModelRequest) -> Answer:
        sent.set()
        await gate.wait()
        return completion()

    made = await desk(slow)
    flying = asyncio.ensure_future(made.call(0))
    await sent.wait()
    made.caller.interrupt("asked to stop")
    with pytest.raises(RunInterrupted, match="asked to stop"):
        await made.call(1)
    gate.set()
    assert (await flying).completion is not None
    assert made.states() == [AttemptState.SETTLED]


async def test_a_pause_ends_at_once_when_asked_to_stop() -> None:
    class Endless(HandClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    made = await desk([completion()])
    made.caller._clock = Endless()
    pausing = asyncio.ensure_future(made.caller.pause(3600))
    await asyncio.sleep(0)
    made.caller.interrupt("asked to stop")
    with pytest.raises(RunInterrupted):
        await pausing


async def test_a_call_whose_endpoint_others_have_wholly_puts_its_shard_off() -> None:
    pools = SlotPools(lambda _endpoint: 0)
    made = await desk([completion()], policy=CallerPolicy(primary=HERE, pools=pools))
    calling = asyncio.ensure_future(made.call())
    for _ in range(10):  # until it waits
        await asyncio.sleep(0)
    pools.adjust()
    with pytest.raises(ShardDeferred, match="other workers have all slots"):
        await calling
    assert made.memory.attempts == {}


class TestOpenLoad:
    async def test_what_a_call_waited_after_its_arrival_counts_as_latency(self) -> None:
        made = await desk([completion(ttft_s=0.1, latency_s=0.5)])
        made.clock.advance(10)
        reply = await made.caller.call(made.request(due_at=made.clock.monotonic() - 2.0))
        assert reply.completion is not None
        assert reply.completion.latency_s == pytest.approx(2.5)
        assert reply.completion.ttft_s == pytest.approx(2.1)

    async def test_both_are_reported_when_both_are_asked_for(self) -> None:
        policy = CallerPolicy(primary=HERE, counts_from_arrival=False)

        async def half_a_second(_request: ModelRequest) -> Answer:
            await made.clock.sleep(0.5)
            return completion(latency_s=0.5)

        made = await desk(half_a_second, policy=policy)
        made.clock.advance(10)
        reply = await made.caller.call(made.request(due_at=made.clock.monotonic() - 2.0))
        assert reply.completion is not None
        assert reply.completion.latency_s == pytest.approx(0.5)
        assert reply.felt_latency_s == pytest.approx(2.5)

    async def test_a_failure_keeps_its_class(self) -> None:
        made = await desk([failure(FailureClass.BAD_REQUEST, http_status=400)])
        made.clock.advance(10)
        reply = await made.caller.call(made.request(due_at=9.0))
        assert isinstance(reply.result, Failure)
        assert reply.result.latency_s == pytest.approx(1.1)
