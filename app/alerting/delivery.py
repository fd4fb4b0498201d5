"""Deliver what waits in the outbox: at least once, never blocking a Run or its verdict."""

from collections.abc import Mapping

from app.domain.alerts import Delivery
from app.ports import AlertStore, Clock, Notifier

LEASE_S = 60.0


async def deliver_due(
    alerts: AlertStore, notifiers: Mapping[str, Notifier], *, owner: str, clock: Clock
) -> int:
    """Try every due item of the outbox once.

    Args:
        alerts: The outbox.
        notifiers: Plan name -> what delivers its alerts; items of other plans are left alone.
        owner: Who leases the items.
        clock: The injected clock.

    Returns:
        How many were delivered.
    """
    delivered = 0
    for item in await alerts.lease_outbox(owner=owner, now=clock.now(), lease_s=LEASE_S):
        notifier = notifiers.get(item.plan_name)
        if notifier is None:
            delivery = Delivery(is_delivered=False, error="no such plan is loaded here")
        else:
            delivery = await notifier.deliver(item.alert, thread=item.thread)
        await alerts.record_delivery(item, delivery, now=clock.now())
        delivered += delivery.is_delivered
    return delivered
