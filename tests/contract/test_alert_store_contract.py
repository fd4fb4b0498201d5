"""What every alert store promises: state per key, and messages delivered at least once."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.alerts import Alert, AlertKind, Delivery, News, OpenAlert, OutboxItem
from app.storage.alert_store import PostgresAlerts
from app.storage.engine import Database
from tests.fakes.clocks import START, HandClock
from tests.fakes.storage import Storage

PLAN = "support-bot"
KEY = f"{PLAN}/switch:haiku"
DELIVERED = Delivery(is_delivered=True, reference="C1:171.5")
REFUSED = Delivery(is_delivered=False, error="Slack answered 500")


def alert(news: News = News.NEW, *, key: str = KEY, title: str = "Switch recommended") -> Alert:
    return Alert(
        key=key,
        kind=AlertKind.SWITCH,
        news=news,
        run_id="0f7a1f4e-8c0b-4d3e-9d6e-3f1f3ad3c001",
        title=title,
        lead="haiku saves 31–44 % at equal quality",
        fields=(("Cost", "$9.10 → $5.60"), ("Quality", "0.85")),
        lines=("Before you switch: …",),
        links=(("Report", "/runs/1"),),
        context=("± is a 95 % interval",),
        chart={"points": [[0.1, 2.5]], "primary": "p"},
    )


def opened(at: datetime = START, *, key: str = KEY, signature: str = "first") -> OpenAlert:
    return OpenAlert(
        key=key,
        kind=AlertKind.SWITCH,
        opened_at=at,
        last_sent_at=at,
        title="Switch recommended",
        run_id="0f7a1f4e-8c0b-4d3e-9d6e-3f1f3ad3c001",
        facts={"signature": signature},
    )


async def due(storage: Storage, *, owner: str = "us") -> Sequence[OutboxItem]:
    return await storage.alerts.lease_outbox(owner=owner, now=storage.clock.now(), lease_s=60)


async def deliver(storage: Storage, delivery: Delivery = DELIVERED) -> None:
    for item in await due(storage):
        await storage.alerts.record_delivery(item, delivery, now=storage.clock.now())


# --- state --------------------------------------------------------------------------------------


async def test_an_opened_alert_is_read_back_as_it_was(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    assert list(await storage.alerts.open_alerts(PLAN)) == [opened()]
    assert await storage.alerts.open_alerts("another") == []


async def test_a_later_message_updates_the_open_alert_of_its_key(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    later = replace(
        opened(signature="second"), last_sent_at=START + timedelta(days=7), title="Changed"
    )
    await storage.alerts.enqueue(PLAN, [alert(News.CHANGED)], [later])
    assert list(await storage.alerts.open_alerts(PLAN)) == [later]


async def test_opening_twice_leaves_one_open_alert(storage: Storage) -> None:
    await asyncio.gather(*(storage.alerts.enqueue(PLAN, [], [opened()]) for _ in range(4)))
    assert len(await storage.alerts.open_alerts(PLAN)) == 1


async def test_a_resolved_alert_is_closed_and_its_key_can_be_opened_anew(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    closed = replace(opened(), resolved_at=START + timedelta(days=7))
    await storage.alerts.enqueue(PLAN, [alert(News.RESOLVED)], [closed])
    assert await storage.alerts.open_alerts(PLAN) == []
    again = opened(START + timedelta(days=14))
    await storage.alerts.enqueue(PLAN, [alert()], [again])
    assert list(await storage.alerts.open_alerts(PLAN)) == [again]


async def test_closing_what_is_not_open_changes_nothing(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [], [replace(opened(), resolved_at=START)])
    assert await storage.alerts.open_alerts(PLAN) == []


# --- acknowledgement ----------------------------------------------------------------------------


async def test_an_acknowledgement_is_kept_until_its_date(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [], [opened()])
    until = START + timedelta(days=90)
    told = await storage.alerts.acknowledge(KEY, reason="tools", until=until, now=START)
    assert told == replace(opened(), acknowledged_until=until, acknowledged_reason="tools")
    assert list(await storage.alerts.open_alerts(PLAN)) == [told]


async def test_an_acknowledgement_without_a_date_never_runs_out(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [], [opened()])
    await storage.alerts.acknowledge(KEY, reason="for good", until=None, now=START)
    (known,) = await storage.alerts.open_alerts(PLAN)
    assert known.acknowledged_until is not None
    assert known.acknowledged_until > datetime(9000, 1, 1, tzinfo=UTC)


async def test_what_is_not_open_cannot_be_acknowledged(storage: Storage) -> None:
    assert (await storage.alerts.acknowledge("no/such", reason="r", until=None, now=START)) is None


async def test_a_run_that_read_the_alert_before_does_not_undo_an_acknowledgement(
    storage: Storage,
) -> None:
    await storage.alerts.enqueue(PLAN, [], [opened()])
    (read_before,) = await storage.alerts.open_alerts(PLAN)
    await storage.alerts.acknowledge(KEY, reason="known", until=None, now=START)
    await storage.alerts.enqueue(PLAN, [], [replace(read_before, facts={"signature": "new"})])
    (known,) = await storage.alerts.open_alerts(PLAN)
    assert (known.acknowledged_reason, known.facts) == ("known", {"signature": "new"})


# --- outbox -------------------------------------------------------------------------------------


async def test_a_message_is_read_back_as_it_was_and_leased_to_one(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    leases = await asyncio.gather(*(due(storage, owner=f"owner-{n}") for n in range(5)))
    items = [item for lease in leases for item in lease]
    assert [(item.alert, item.plan_name, item.tries) for item in items] == [(alert(), PLAN, 0)]


async def test_the_lease_of_a_dead_owner_runs_out(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    assert len(await due(storage, owner="dead")) == 1
    storage.clock.advance(59)
    assert await due(storage) == []
    storage.clock.advance(1)
    assert len(await due(storage)) == 1


async def test_a_delivered_message_is_never_handed_out_again(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    await deliver(storage)
    storage.clock.advance(10_000)
    assert await due(storage) == []


async def test_a_message_that_was_refused_comes_back_with_growing_pauses(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    (item,) = await due(storage)
    for pause_s in (5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600):
        await storage.alerts.record_delivery(item, REFUSED, now=storage.clock.now())
        storage.clock.advance(pause_s - 1)
        assert await due(storage) == []
        storage.clock.advance(1)
        (item,) = await due(storage)
    assert item.tries == 12


@pytest.mark.parametrize(
    ("asked_s", "pause_s"), [(300.0, 300), (7200.0, 3600), (float("nan"), 5), (-3.0, 5)]
)
async def test_a_pause_that_the_other_side_asks_for_is_honoured_up_to_an_hour(
    storage: Storage, asked_s: float, pause_s: int
) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    await deliver(storage, replace(REFUSED, retry_after_s=asked_s))
    storage.clock.advance(pause_s - 1)
    assert await due(storage) == []
    storage.clock.advance(1)
    assert len(await due(storage)) == 1


async def test_an_answer_never_overtakes_the_message_it_answers(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    await storage.alerts.enqueue(PLAN, [alert(News.CHANGED)], [opened()])
    await storage.alerts.enqueue(PLAN, [alert(key=f"{PLAN}/run")], [])
    handed_out = [(item.alert.key, item.alert.news) for item in await due(storage)]
    assert handed_out == [(KEY, News.NEW), (f"{PLAN}/run", News.NEW)]


async def test_answers_go_to_the_thread_of_the_first_message(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    await deliver(storage)
    await storage.alerts.enqueue(PLAN, [alert(News.CHANGED)], [opened()])
    (item,) = await due(storage)
    assert item.thread == DELIVERED.reference
    await storage.alerts.record_delivery(
        item, replace(DELIVERED, reference="C1:999.9"), now=storage.clock.now()
    )
    (known,) = await storage.alerts.open_alerts(PLAN)
    assert known.thread == DELIVERED.reference


async def test_the_recovery_goes_to_the_thread_of_the_alert_it_closes(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    await deliver(storage)
    storage.clock.advance(3600)
    closed = replace(opened(), resolved_at=storage.clock.now())
    await storage.alerts.enqueue(PLAN, [alert(News.RESOLVED)], [closed])
    (item,) = await due(storage)
    assert item.thread == DELIVERED.reference


async def test_an_alert_that_opens_anew_begins_a_new_thread(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [opened()])
    await deliver(storage)
    storage.clock.advance(3600)
    await storage.alerts.enqueue(PLAN, [], [replace(opened(), resolved_at=storage.clock.now())])
    storage.clock.advance(3600)
    await storage.alerts.enqueue(PLAN, [alert()], [opened(storage.clock.now())])
    (item,) = await due(storage)
    assert item.thread is None


async def test_a_late_failure_does_not_undo_a_delivery(storage: Storage) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    (slow,) = await due(storage, owner="slow")
    storage.clock.advance(60)
    await deliver(storage)
    await storage.alerts.record_delivery(slow, REFUSED, now=storage.clock.now())
    storage.clock.advance(10_000)
    assert await due(storage) == []


# --- for operators ------------------------------------------------------------------------------


async def test_a_permanent_refusal_is_not_tried_again_and_shows_as_failing(
    storage: Storage,
) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    permanent = Delivery(is_delivered=False, is_permanent=True, error="the token is refused")
    await deliver(storage, permanent)
    storage.clock.advance(100_000)
    assert await due(storage) == []
    (stuck,) = await storage.alerts.failing(PLAN)
    assert (stuck.key, stuck.title, stuck.error, stuck.tries, stuck.is_permanent) == (
        KEY,
        "Switch recommended",
        "the token is refused",
        1,
        True,
    )


async def test_a_message_that_was_given_up_lets_later_ones_of_its_key_pass(
    storage: Storage,
) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    await deliver(storage, Delivery(is_delivered=False, is_permanent=True, error="archived"))
    await storage.alerts.enqueue(PLAN, [alert(News.REMINDER)], [])
    (item,) = await due(storage)
    assert item.alert.news is News.REMINDER


async def test_a_message_shows_as_failing_after_several_tries_and_until_it_is_delivered(
    storage: Storage,
) -> None:
    await storage.alerts.enqueue(PLAN, [alert()], [])
    shown = []
    for _ in range(3):
        await deliver(storage, REFUSED)
        shown.append(len(await storage.alerts.failing(PLAN)))
        storage.clock.advance(3600)
    assert shown == [0, 0, 1]
    await deliver(storage)
    assert await storage.alerts.failing(PLAN) == []


async def test_what_was_mended_is_delivered_after_all(database_url: str) -> None:
    database, clock = Database(database_url), HandClock()
    alerts = PostgresAlerts(database, clock.now)
    await alerts.enqueue(PLAN, [alert()], [])
    (item,) = await alerts.lease_outbox(owner="us", now=START, lease_s=60)
    permanent = Delivery(is_delivered=False, is_permanent=True, error="archived")
    await alerts.record_delivery(item, permanent, now=START)
    assert await alerts.outbox_age_s(now=START + timedelta(hours=2)) == 0.0
    assert await alerts.retry_failed(PLAN, now=START) == 1
    assert await alerts.outbox_age_s(now=START + timedelta(hours=2)) == 7200.0
    assert len(await alerts.lease_outbox(owner="us", now=START, lease_s=60)) == 1
    await database.close()
