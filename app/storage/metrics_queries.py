"""What is scraped, read from the rows: right from the first moment after a crash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from app.storage.engine import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """One metric with a value per set of labels."""

    name: str
    help: str
    labels: tuple[str, ...]
    values: Sequence[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who holds a running Run, and until when."""

    plan_name: str
    run_id: str
    owner: str
    until: datetime


async def read_leases(database: Database) -> Sequence[Lease]:
    """The leases of all running Runs, those that ran out included.

    Raises:
        StorageUnavailable: If the database cannot be reached.
    """
    async with database.transaction() as connection:
        rows = await connection.execute(_LEASES)
        return [
            Lease(
                plan_name=row.plan_name,
                run_id=str(row.run_id),
                owner=row.owner,
                until=row.lease_until,
            )
            for row in rows
        ]


async def read_gauges(database: Database, *, now: datetime) -> Sequence[Gauge]:
    """Every metric, in one transaction.

    Raises:
        StorageUnavailable: If the database cannot be reached.
    """
    gauges = []
    async with database.transaction() as connection:
        for name, (told, labels, query) in _METRICS.items():
            rows = await connection.execute(text(query), {"now": now})
            values = [
                (tuple(str(part) for part in row[:-1]), float(row[-1]))
                for row in rows
                if row[-1] is not None
            ]
            gauges.append(Gauge(name=name, help=told, labels=labels, values=values))
    return gauges


_LEASES = text("""
    SELECT plan_name, run_id, owner, lease_until FROM switchwise.runs
    WHERE status = 'running' AND lease_until IS NOT NULL ORDER BY plan_name
""")
_LATEST = """
    (SELECT DISTINCT ON (plan_name) run_id, plan_name FROM switchwise.runs
     WHERE status = 'done' AND trigger <> 'hand' ORDER BY plan_name, slot_at DESC) AS latest
"""
_BEGUN = """
    (SELECT DISTINCT ON (plan_name) run_id FROM switchwise.runs
     WHERE started_at IS NOT NULL ORDER BY plan_name, started_at DESC) AS begun
"""
_OF_LATEST = f"""
    SELECT latest.plan_name, m.model_name, m.role, m.{{column}}
    FROM {_LATEST} JOIN switchwise.model_results AS m USING (run_id)
    WHERE m.segment_name = 'all'
"""
_MODEL_LABELS = ("plan", "model", "role")
_WAITING = "delivered_at IS NULL AND failed_at IS NULL"

_METRICS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "switchwise_last_success_timestamp_seconds": (
        "When the newest complete scheduled run finished",
        ("plan",),
        """SELECT plan_name, extract(epoch FROM max(finished_at)) FROM switchwise.runs
           WHERE status = 'done' AND trigger <> 'hand' GROUP BY plan_name""",
    ),
    "switchwise_runs": (
        "Runs that are stored, by status",
        ("plan", "status"),
        "SELECT plan_name, status, count(*) FROM switchwise.runs GROUP BY plan_name, status",
    ),
    "switchwise_month_spend_usd": (
        "Spent this month in the plan's time zone, open reservations included",
        ("plan", "purpose"),
        """SELECT p.plan_name, a.purpose, sum(coalesce(a.cost_usd, a.reserved_usd))
           FROM switchwise.plans AS p JOIN switchwise.attempts AS a USING (plan_name)
           WHERE a.sent_at >= date_trunc('month', cast(:now AS timestamptz) AT TIME ZONE p.timezone)
             AT TIME ZONE p.timezone
           GROUP BY p.plan_name, a.purpose""",
    ),
    "switchwise_quality": (
        "Mean quality in the newest complete run, 0 to 1",
        _MODEL_LABELS,
        _OF_LATEST.format(column="quality"),
    ),
    "switchwise_success_rate": (
        "Share of successful responses in the newest complete run",
        _MODEL_LABELS,
        _OF_LATEST.format(column="success_rate"),
    ),
    "switchwise_cost_per_success_usd": (
        "Spend per successful response in the newest complete run",
        _MODEL_LABELS,
        _OF_LATEST.format(column="cost_per_success_usd"),
    ),
    "switchwise_open_alerts": (
        "Alerts that are not resolved",
        ("plan", "kind"),
        """SELECT plan_name, kind, count(*) FROM switchwise.alerts
           WHERE resolved_at IS NULL GROUP BY plan_name, kind""",
    ),
    "switchwise_outbox_age_seconds": (
        "How long the oldest message has waited for delivery; 0 when none waits",
        (),
        f"""SELECT greatest(0, coalesce(extract(epoch FROM cast(:now AS timestamptz)
              - min(created_at)), 0)) FROM switchwise.outbox WHERE {_WAITING}""",
    ),
    "switchwise_outbox_given_up": (
        "Messages that were given up: an operator must mend something",
        ("plan",),
        """SELECT plan_name, count(*) FROM switchwise.outbox
           WHERE delivered_at IS NULL AND failed_at IS NOT NULL GROUP BY plan_name""",
    ),
    "switchwise_queue_depth": (
        "Shards of runs at work that are not done",
        (),
        """SELECT count(*) FROM switchwise.shards AS s JOIN switchwise.runs AS r USING (run_id)
           WHERE r.status = 'running' AND NOT s.is_done""",
    ),
    "switchwise_run_attempts": (
        "Attempts of the newest run that was begun, by how they ended",
        ("plan", "model", "purpose", "class"),
        f"""SELECT a.plan_name, a.model_name, a.purpose,
             coalesce(a.failure_class, CASE a.state WHEN 'settled' THEN 'ok' ELSE a.state END),
             count(*)
           FROM switchwise.attempts AS a JOIN {_BEGUN} USING (run_id)
           GROUP BY 1, 2, 3, 4""",
    ),
}
