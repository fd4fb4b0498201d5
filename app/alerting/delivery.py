"""Deliver what waits in the outbox: at least once, never blocking a Run or its verdict."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import structlog

from app.domain.alerts import Delivery, OutboxItem
from app.ports import AlertStore, Clock, Notifier

LEASE_S = 180.0
LONGEST_DELIVERY_S = 80.0
"""A notifier is given this long; a lease that could run out meanwhile is not used."""

_log = structlog.get_logger(__name__)


async def deliver_due(
    alerts: AlertStore, notifiers: Mapping[str, Notifier], *, owner: str, clock: Clock
) -> int:
    """Try every due item of these plans once; items of other plans are left alone.

    1. Lease what is due, the oldest message of each key.
    2. Send one after the other; what a lease may not outlast is left for the next round.
    3. Once a plan's notifier asks for patience, its other items wait as long.
    4. Note each outcome at once: a crash before that sends the message again. A notifier that
       breaks or does not end has not delivered: the messages behind go on.

    Args:
        alerts: The outbox.
        notifiers: Plan name -> what delivers its alerts.
        owner: Who leases the items.
        clock: The injected clock.

    Returns:
        How many were delivered.
    """
    delivered = 0
    asked_to_wait: dict[str, Delivery] = {}
    began_s = clock.monotonic()
    items = await alerts.lease_outbox(
        owner=owner, now=clock.now(), lease_s=LEASE_S, plan_names=tuple(notifiers)
    )
    for item in items:
        if clock.monotonic() - began_s > LEASE_S - LONGEST_DELIVERY_S:
            break
        delivery = asked_to_wait.get(item.plan_name)
        if delivery is None:
            delivery = await _deliver(item, notifiers[item.plan_name])
            _tell(item, delivery)
        if delivery.retry_after_s is not None and not delivery.is_delivered:
            asked_to_wait[item.plan_name] = replace(delivery, reference=None)
        await alerts.record_delivery(item, delivery, now=clock.now())
        delivered += delivery.is_delivered
    return delivered


async def _deliver(item: OutboxItem, notifier: Notifier) -> Delivery:
    """Try once, for so long; of what went wrong the kind alone is told: words might quote texts."""
    try:
        async with asyncio.timeout(LONGEST_DELIVERY_S):
            return await notifier.deliver(item.alert, thread=item.thread)
    except Exception as error:  # noqa: BLE001 - a bad message must not hold up the others
        return Delivery(is_delivered=False, error=type(error).__name__)


def _tell(item: OutboxItem, delivery: Delivery) -> None:
    log = _log.bind(plan=item.plan_name, run_id=item.alert.run_id, key=item.alert.key)
    if delivery.is_delivered:
        log.info("message delivered", tries=item.tries + 1)
    else:
        log.warning(
            "message not delivered",
            tries=item.tries + 1,
            reason=delivery.error,
            given_up=delivery.is_permanent,
        )
