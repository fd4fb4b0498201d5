import asyncio
from dataclasses import replace

import pytest

from app.calls.slots import NoSlots, SlotPools, Slots, Turn
from app.domain.models import Endpoint


async def test_no_more_calls_are_in_flight_than_there_are_slots() -> None:
    slots = Slots(3)
    most = 0

    async def call() -> None:
        nonlocal most
        async with slots.slot():
            most = max(most, slots.in_flight)
            await asyncio.sleep(0)

    await asyncio.gather(*(call() for _ in range(20)))
    assert most == 3
    assert slots.in_flight == 0


async def test_slots_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    slots = Slots(1)
    order: list[int] = []

    async def call(number: int) -> None:
        async with slots.slot():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(call(number) for number in range(8)))
    assert order == list(range(8))


async def test_judgements_let_replies_go_first_and_those_let_go_what_others_wait_for() -> None:
    slots = Slots(1)
    order: list[Turn] = []

    async def call(turn: Turn) -> None:
        async with slots.slot(turn):
            order.append(turn)
            await asyncio.sleep(0)

    await slots.acquire()
    waiting = [
        asyncio.create_task(call(turn))
        for turn in (Turn.JUDGEMENT, Turn.REPLY, Turn.JUDGEMENT, Turn.AT_ONCE, Turn.REPLY)
    ]
    await asyncio.sleep(0)
    slots.release()
    await asyncio.gather(*waiting)
    assert order == sorted(order)


async def test_a_few_refusals_leave_the_size_alone() -> None:
    slots = Slots(16)
    for number in range(200):
        slots.observe(throttled=number % 20 == 0)
    assert slots.size == 16


async def test_heavy_throttling_shrinks_the_pool_and_success_restores_it() -> None:
    slots = Slots(16)
    for _ in range(40):
        slots.observe(throttled=True)
    shrunk = slots.size
    assert shrunk < 12
    for _ in range(400):
        slots.observe(throttled=False)
    assert slots.size == 16


async def test_the_pool_never_shrinks_to_nothing() -> None:
    slots = Slots(4)
    for _ in range(2000):
        slots.observe(throttled=True)
    assert slots.size == 1


async def test_a_caller_who_stops_waiting_leaves_no_hole_in_the_line() -> None:
    slots = Slots(1)
    await slots.acquire()
    impatient = asyncio.create_task(slots.acquire())
    patient = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    slots.release()
    await asyncio.wait_for(patient, 1)
    assert slots.in_flight == 1


def test_less_than_no_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="less than no slot"):
        Slots(-1)


async def test_a_pool_of_nothing_holds_calls_back_until_it_gets_slots() -> None:
    slots = Slots(0)
    waiting = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.limit(1)
    await asyncio.wait_for(waiting, 1)
    assert slots.in_flight == 1


async def test_a_smaller_limit_is_kept_as_soon_as_calls_end() -> None:
    slots = Slots(4)
    for _ in range(4):
        await slots.acquire()
    slots.limit(2)
    waiting = asyncio.create_task(slots.acquire())
    for _ in range(2):
        slots.release()
        await asyncio.sleep(0)
    assert not waiting.done()
    slots.release()
    await asyncio.wait_for(waiting, 1)
    assert slots.in_flight == 2


def test_a_new_limit_keeps_what_throttling_took_away() -> None:
    slots = Slots(10)
    for _ in range(20):
        slots.observe(throttled=True)
    throttled = slots.size
    assert throttled < 10
    slots.limit(20)
    assert slots.size == 2 * throttled


async def test_endpoints_share_one_pool_by_key_and_follow_the_limit() -> None:
    most = {"a": 3}
    pools = SlotPools(lambda _endpoint: most["a"])
    pool = pools.pool("a", Endpoint(base_url="http://localhost:1"))
    assert pools.pool("a", Endpoint(base_url="http://localhost:1")) is pool
    most["a"] = 1
    pools.adjust()
    assert pool.size == 1


async def test_who_waits_for_a_pool_that_loses_its_last_slot_is_turned_away() -> None:
    slots = Slots(1)
    await slots.acquire()
    waiting = asyncio.ensure_future(slots.acquire())
    await asyncio.sleep(0)
    slots.limit(0)
    with pytest.raises(NoSlots):
        await waiting
    slots.release()
    assert slots.in_flight == 0
    slots.limit(1)
    await slots.acquire()
    assert slots.in_flight == 1


async def test_who_asks_a_pool_without_a_slot_is_turned_away_when_it_stays_so() -> None:
    slots = Slots(0)
    waiting = asyncio.ensure_future(slots.acquire())
    await asyncio.sleep(0)
    slots.limit(0)
    with pytest.raises(NoSlots):
        await waiting


def test_models_that_tell_different_limits_of_one_endpoint_keep_to_the_lower() -> None:
    wide = Endpoint(base_url="http://localhost:1", concurrency=8)
    narrow = replace(wide, concurrency=1)
    for order in ((wide, narrow), (narrow, wide)):
        pools = SlotPools()
        for endpoint in order:
            pools.pool(endpoint.key, endpoint)
        assert pools.pool(wide.key, wide).size == 1
        pools.adjust()
        assert pools.pool(wide.key, wide).size == 1
