"""Delivery from the outbox: at least once, patient, never in the way of others."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from app.alerting import delivery
from app.alerting.delivery import LEASE_S, LONGEST_DELIVERY_S, deliver_due
from app.domain.alerts import Alert, AlertKind, Delivery, News
from app.ports import AlertStore
from tests.fakes.clocks import HandClock
from tests.fakes.storage import Memory, MemoryAlerts

PLAN = "support-bot"
OK = Delivery(is_delivered=True, reference="C1:1.1")


@dataclass
class ListNotifier:
    """Keeps what it is given and answers as told; each delivery takes some time."""

    clock: HandClock
    answers: list[Delivery] = field(default_factory=list)
    told: list[tuple[str, str | None]] = field(default_factory=list)
    takes_s: float = 0.0
    name: str = "list"

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        self.told.append((alert.key, thread))
        self.clock.advance(self.takes_s)
        return self.answers.pop(0) if self.answers else OK

    async def check(self) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        """Nothing is held open."""


def alerts(*names: str) -> Sequence[Alert]:
    return [
        Alert(
            key=f"{PLAN}/switch:{name}",
            kind=AlertKind.SWITCH,
            news=News.NEW,
            run_id=None,
            title=name,
            lead="",
        )
        for name in names
    ]


async def outbox(clock: HandClock, *names: str, plan: str = PLAN) -> AlertStore:
    store = MemoryAlerts(Memory(), now=clock.now)
    await store.enqueue(plan, alerts(*names), [])
    return store


async def deliver(store: AlertStore, notifier: ListNotifier, *, owner: str = "us") -> int:
    return await deliver_due(store, {PLAN: notifier}, owner=owner, clock=notifier.clock)


async def test_what_is_delivered_is_delivered_once() -> None:
    notifier = ListNotifier(HandClock())
    store = await outbox(notifier.clock, "a", "b")
    assert [await deliver(store, notifier), await deliver(store, notifier)] == [2, 0]
    assert len(notifier.told) == 2


async def test_what_failed_comes_again_after_a_pause() -> None:
    notifier = ListNotifier(HandClock(), answers=[Delivery(is_delivered=False, error="500")])
    store = await outbox(notifier.clock, "a")
    assert [await deliver(store, notifier), await deliver(store, notifier)] == [0, 0]
    notifier.clock.advance(10)
    assert await deliver(store, notifier) == 1


async def test_what_an_operator_must_mend_is_not_tried_again_and_is_told() -> None:
    refused = Delivery(is_delivered=False, is_permanent=True, error="the Slack token is refused")
    notifier = ListNotifier(HandClock(), answers=[refused])
    store = await outbox(notifier.clock, "a")
    await deliver(store, notifier)
    notifier.clock.advance(timedelta(days=3).total_seconds())
    assert await deliver(store, notifier) == 0
    (stuck,) = await store.failing(PLAN)
    assert (stuck.is_permanent, stuck.error) == (True, "the Slack token is refused")


async def test_one_request_for_patience_spares_the_messages_behind_it() -> None:
    slow_down = Delivery(is_delivered=False, error="ratelimited", retry_after_s=30)
    notifier = ListNotifier(HandClock(), answers=[OK, slow_down])
    store = await outbox(notifier.clock, "a", "b", "c", "d")
    assert await deliver(store, notifier) == 1
    assert len(notifier.told) == 2
    notifier.clock.advance(31)
    assert await deliver(store, notifier) == 3


async def test_messages_of_plans_that_others_serve_are_left_alone() -> None:
    notifier = ListNotifier(HandClock())
    store = await outbox(notifier.clock, "a", plan="another")
    assert await deliver(store, notifier) == 0
    others = ListNotifier(notifier.clock)
    found = await deliver_due(store, {"another": others}, owner="them", clock=others.clock)
    assert found == 1


async def test_a_crash_before_the_outcome_is_noted_repeats_the_message_after_the_lease() -> None:
    clock = HandClock()
    store = await outbox(clock, "a")
    leased = await store.lease_outbox(owner="crashed", now=clock.now(), lease_s=LEASE_S)
    notifier = ListNotifier(clock)

    during = await deliver(store, notifier)
    clock.advance(LEASE_S)
    after = await deliver(store, notifier)

    assert len(leased) == 1
    assert [during, after] == [0, 1]


async def test_a_slow_server_does_not_let_two_replicas_send_the_same_message() -> None:
    clock = HandClock()
    names = [f"m{number:02d}" for number in range(20)]
    store = await outbox(clock, *names)
    slow = ListNotifier(clock, takes_s=LONGEST_DELIVERY_S)
    other = ListNotifier(clock)

    await deliver(store, slow)
    while await deliver(store, other, owner="them") or len(other.told) + len(slow.told) < 20:
        clock.advance(LEASE_S)

    told = [key for key, _ in (*slow.told, *other.told)]
    assert len(slow.told) < 20
    assert sorted(told) == sorted({*told})
    assert len(told) == 20


@dataclass
class SickNotifier(ListNotifier):
    """Breaks over one message, and never ends with another."""

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        if alert.title == "broken":
            raise ValueError("the text of a prompt")
        if alert.title == "endless":
            await asyncio.Event().wait()
        return await super().deliver(alert, thread=thread)


async def last_error(store: AlertStore, notifier: ListNotifier) -> str:
    """What is shown of the one message that fails time and again."""
    while not (stuck := await store.failing(PLAN)):
        notifier.clock.advance(3600)
        await deliver(store, notifier)
    return stuck[0].error


async def test_a_message_over_which_the_notifier_breaks_does_not_hold_up_those_behind() -> None:
    notifier = SickNotifier(HandClock())
    store = await outbox(notifier.clock, "broken", "well")
    assert await deliver(store, notifier) == 1
    assert [key for key, _ in notifier.told] == [f"{PLAN}/switch:well"]
    assert await last_error(store, notifier) == "ValueError"


async def test_a_delivery_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LONGEST_DELIVERY_S", 0.05)
    notifier = SickNotifier(HandClock())
    store = await outbox(notifier.clock, "endless", "well")
    async with asyncio.timeout(5):
        assert await deliver(store, notifier) == 1
        assert await last_error(store, notifier) == "TimeoutError"
