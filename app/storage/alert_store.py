"""Alert state and the outbox: written with what they tell of, delivered at least once."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.alerts import Alert, AlertKind, Delivery, OpenAlert, OutboxItem, StuckDelivery
from app.storage.clean_text import clean_text
from app.storage.documents import alert_from_json, plain
from app.storage.engine import Database
from app.storage.tables import ALERTS, OUTBOX

#: How an acknowledgement without an end reads; stored as null.
FOR_GOOD = datetime(9999, 1, 1, tzinfo=UTC)

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_TRIES_THAT_TELL = 3
_LEASED_AT_ONCE = 50


class PostgresAlerts:
    """Alerts and outbox in Postgres.

    Args:
        database: The results database.
        now: The injected clock's `now`.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def open_alerts(self, plan_name: str) -> Sequence[OpenAlert]:
        """Alerts that are open, acknowledged ones included."""
        query = (
            select(ALERTS)
            .where(ALERTS.c.plan_name == plan_name, ALERTS.c.resolved_at.is_(None))
            .order_by(ALERTS.c.opened_at, ALERTS.c.alert_id)
        )
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [_open_alert(row) for row in rows.mappings()]

    async def enqueue(
        self, plan_name: str, alerts: Sequence[Alert], states: Sequence[OpenAlert]
    ) -> None:
        """Put alerts in the outbox outside a Run's end, with the state they change."""
        async with self._database.transaction() as connection:
            await write_alerts(connection, plan_name, alerts, states, now=self._now())

    async def lease_outbox(
        self,
        *,
        owner: str,
        now: datetime,
        lease_s: float,
        plan_names: Sequence[str] | None = None,
    ) -> Sequence[OutboxItem]:
        """Claim what is due for delivery, of these Plans or of all; a dead owner's lease runs out.

        Of each key only the oldest waiting message is handed out, so that an answer never
        overtakes the message it answers.
        """
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                _LEASE,
                {
                    "owner": owner,
                    "now": now,
                    "until": now + timedelta(seconds=lease_s),
                    "most": _LEASED_AT_ONCE,
                    "plans": list(plan_names) if plan_names is not None else None,
                },
            )
            return [_outbox_item(row) for row in rows.mappings()]

    async def record_delivery(self, item: OutboxItem, delivery: Delivery, *, now: datetime) -> None:
        """Note the outcome; undelivered items become due again with back-off."""
        async with self._database.transaction() as connection:
            if delivery.is_delivered:
                await _delivered(connection, item, delivery, now)
            else:
                await _undelivered(connection, item, delivery, now)

    async def acknowledge(
        self, key: str, *, reason: str, until: datetime | None, now: datetime
    ) -> OpenAlert | None:
        """Acknowledge an open alert, for good when `until` is None; None when there is none."""
        statement = (
            update(ALERTS)
            .where(ALERTS.c.key == key, ALERTS.c.resolved_at.is_(None))
            .values(
                acknowledged_at=now,
                acknowledged_until=until if until is not None and until < FOR_GOOD else None,
                acknowledged_reason=clean_text(reason),
            )
            .returning(*ALERTS.c)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        return _open_alert(row) if row is not None else None

    # --- for operators --------------------------------------------------------------------------

    async def failing(self, plan_name: str) -> Sequence[StuckDelivery]:
        """Messages given up, and those that failed several times, oldest first."""
        query = (
            select(OUTBOX)
            .where(
                OUTBOX.c.plan_name == plan_name,
                OUTBOX.c.delivered_at.is_(None),
                OUTBOX.c.failed_at.is_not(None) | (OUTBOX.c.tries >= _TRIES_THAT_TELL),
            )
            .order_by(OUTBOX.c.outbox_id)
        )
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [_stuck(row) for row in rows.mappings()]

    async def retry_failed(self, plan_name: str, *, now: datetime) -> int:
        """Make messages that were given up due again, for when it was mended; count them."""
        statement = (
            update(OUTBOX)
            .where(
                OUTBOX.c.plan_name == plan_name,
                OUTBOX.c.delivered_at.is_(None),
                OUTBOX.c.failed_at.is_not(None),
            )
            .values(failed_at=None, due_at=now)
        )
        async with self._database.transaction() as connection:
            return (await connection.execute(statement)).rowcount

    async def outbox_age_s(self, *, now: datetime) -> float:
        """Seconds the oldest message has waited for delivery, given-up ones left out; 0 if none."""
        async with self._database.transaction() as connection:
            oldest: datetime | None = (await connection.execute(_OLDEST)).scalar_one()
        return max(0.0, (now - oldest).total_seconds()) if oldest is not None else 0.0


async def write_alerts(
    connection: AsyncConnection,
    plan_name: str,
    alerts: Sequence[Alert],
    states: Sequence[OpenAlert],
    *,
    now: datetime,
) -> None:
    """Write messages and alert states inside the caller's transaction.

    A state with a new key opens an alert, one that is resolved closes the open alert of its key,
    every other one tells of a later message. Acknowledgements are the operator's and stay.
    """
    for state in states:
        if state.resolved_at is not None:
            await _close(connection, state)
        else:
            await _open_or_touch(connection, plan_name, state)
    if alerts:
        rows = [_outbox_row(plan_name, alert, now) for alert in alerts]
        await connection.execute(insert(OUTBOX), rows)


# --- statements ---------------------------------------------------------------------------------

_WAITING = "delivered_at IS NULL AND failed_at IS NULL"
#: The alert a message is about: the latest of its key that was open when it was composed.
_ITS_ALERT = """
    SELECT {what} FROM switchwise.alerts AS a
    WHERE a.key = o.key AND a.plan_name = o.plan_name AND a.opened_at <= o.created_at
    ORDER BY a.opened_at DESC, a.alert_id DESC LIMIT 1
"""
_LEASE = text(f"""
    WITH due AS (
      SELECT outbox_id FROM switchwise.outbox AS o
      WHERE {_WAITING} AND due_at <= :now AND (leased_until IS NULL OR leased_until <= :now)
        AND (cast(:plans AS text[]) IS NULL OR plan_name = ANY(cast(:plans AS text[])))
        AND NOT EXISTS (
          SELECT 1 FROM switchwise.outbox AS earlier
          WHERE earlier.key = o.key AND earlier.plan_name = o.plan_name
            AND earlier.outbox_id < o.outbox_id
            AND earlier.delivered_at IS NULL AND earlier.failed_at IS NULL)
      ORDER BY outbox_id LIMIT :most
      FOR UPDATE SKIP LOCKED
    ), leased AS (
      UPDATE switchwise.outbox AS o SET leased_by = :owner, leased_until = :until
      FROM due WHERE o.outbox_id = due.outbox_id
      RETURNING o.*
    )
    SELECT o.outbox_id, o.plan_name, o.alert, o.tries, o.created_at,
      ({_ITS_ALERT.format(what="a.thread")}) AS thread
    FROM leased AS o ORDER BY o.outbox_id
""")
_KEEP_THREAD = text(f"""
    UPDATE switchwise.alerts AS told SET thread = :reference
    FROM switchwise.outbox AS o
    WHERE o.outbox_id = :outbox_id AND told.thread IS NULL
      AND told.alert_id = ({_ITS_ALERT.format(what="a.alert_id")})
""")
_OLDEST = text(f"SELECT min(created_at) FROM switchwise.outbox WHERE {_WAITING}")


async def _open_or_touch(connection: AsyncConnection, plan_name: str, state: OpenAlert) -> None:
    values = {
        "plan_name": plan_name,
        "key": clean_text(state.key),
        "kind": state.kind.value,
        "title": clean_text(state.title),
        "opened_at": state.opened_at,
        "last_sent_at": state.last_sent_at,
        "run_id": state.run_id,
        "thread": state.thread,
        "facts": plain(state.facts),
    }
    latest = ("title", "last_sent_at", "run_id", "facts")
    await connection.execute(
        upsert(ALERTS)
        .values(values)
        .on_conflict_do_update(
            index_elements=["key"],
            index_where=ALERTS.c.resolved_at.is_(None),
            set_={name: values[name] for name in latest},
        )
    )


async def _close(connection: AsyncConnection, state: OpenAlert) -> None:
    await connection.execute(
        update(ALERTS)
        .where(ALERTS.c.key == clean_text(state.key), ALERTS.c.resolved_at.is_(None))
        .values(resolved_at=state.resolved_at)
    )


async def _delivered(
    connection: AsyncConnection, item: OutboxItem, delivery: Delivery, now: datetime
) -> None:
    await connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.outbox_id == item.outbox_id)
        .values(
            delivered_at=now,
            failed_at=None,
            tries=OUTBOX.c.tries + 1,
            leased_by=None,
            leased_until=None,
            last_error=None,
            reference=delivery.reference,
        )
    )
    if delivery.reference is not None:
        await connection.execute(
            _KEEP_THREAD, {"reference": delivery.reference, "outbox_id": item.outbox_id}
        )


async def _undelivered(
    connection: AsyncConnection, item: OutboxItem, delivery: Delivery, now: datetime
) -> None:
    """Give it back; one that somebody else delivered meanwhile stays delivered."""
    pause_s = pause_before_retry_s(item.tries + 1, delivery.retry_after_s)
    await connection.execute(
        update(OUTBOX)
        .where(OUTBOX.c.outbox_id == item.outbox_id, OUTBOX.c.delivered_at.is_(None))
        .values(
            tries=OUTBOX.c.tries + 1,
            due_at=now + timedelta(seconds=pause_s),
            failed_at=now if delivery.is_permanent else None,
            leased_by=None,
            leased_until=None,
            last_error=clean_text(delivery.error or "not delivered")[:500],
        )
    )


def pause_before_retry_s(tries: int, retry_after_s: float | None) -> float:
    """Seconds before the next try: doubling, at least what was asked for, at most an hour."""
    doubled = _FIRST_PAUSE_S * 2.0 ** min(tries - 1, 16)
    asked = retry_after_s if retry_after_s is not None and math.isfinite(retry_after_s) else 0.0
    return min(max(doubled, asked), _LONGEST_PAUSE_S)


# --- rows ---------------------------------------------------------------------------------------


def _outbox_row(plan_name: str, alert: Alert, now: datetime) -> dict[str, Any]:
    return {
        "plan_name": plan_name,
        "key": clean_text(alert.key),
        "alert": plain(alert),
        "created_at": now,
        "due_at": now,
        "tries": 0,
    }


def _outbox_item(row: RowMapping) -> OutboxItem:
    return OutboxItem(
        outbox_id=row["outbox_id"],
        plan_name=row["plan_name"],
        alert=alert_from_json(row["alert"]),
        tries=row["tries"],
        created_at=row["created_at"],
        thread=row["thread"],
    )


def _open_alert(row: RowMapping) -> OpenAlert:
    until = row["acknowledged_until"]
    if until is None and row["acknowledged_at"] is not None:
        until = FOR_GOOD
    return OpenAlert(
        key=row["key"],
        kind=AlertKind(row["kind"]),
        opened_at=row["opened_at"],
        last_sent_at=row["last_sent_at"],
        title=row["title"],
        run_id=row["run_id"],
        thread=row["thread"],
        acknowledged_until=until,
        acknowledged_reason=row["acknowledged_reason"],
        resolved_at=row["resolved_at"],
        facts=row["facts"],
    )


def _stuck(row: RowMapping) -> StuckDelivery:
    return StuckDelivery(
        outbox_id=row["outbox_id"],
        key=row["key"],
        title=row["alert"]["title"],
        tries=row["tries"],
        error=row["last_error"] or "",
        is_permanent=row["failed_at"] is not None,
        created_at=row["created_at"],
        due_at=row["due_at"],
    )
