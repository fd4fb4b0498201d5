"""The budget ledger: money reserved and spent per cap, moved in the journal's transactions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.json_values import JsonObject
from app.domain.plans import Plan
from app.ports import BudgetRefusal
from app.storage.statements import Cursor, Statement

#: Plan name and period: the key of a ledger row.
Account = tuple[str, str]

#: No call is in flight longer; an older row in state `sent` was left behind by a dead owner.
_LONGEST_FLIGHT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """A Plan's caps in USD and the time zone of its months."""

    per_run_usd: Decimal | None = None
    per_month_usd: Decimal | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    def periods(self, run_id: str, at: datetime) -> dict[str, Decimal | None]:
        """The ledger periods a call of this Run counts into, with their caps.

        Both are counted whether they are capped or not: a cap that is set later, or by another
        process, knows everything.
        """
        return {
            run_period(run_id): self.per_run_usd,
            month_period(at, self.zone): self.per_month_usd,
        }

    def to_json(self) -> JsonObject:
        """As it is stored with a Run."""
        return {
            "per_run_usd": None if self.per_run_usd is None else format(self.per_run_usd, "f"),
            "per_month_usd": None
            if self.per_month_usd is None
            else format(self.per_month_usd, "f"),
            "timezone": self.zone.key,
        }


CapsOf = Callable[[str], Caps]


def caps_of_plan(plan: Plan) -> Caps:
    """The caps of a plan."""
    zone = plan.schedule.timezone if plan.schedule else ZoneInfo("UTC")
    return Caps(
        per_run_usd=plan.budget.per_run_usd, per_month_usd=plan.budget.per_month_usd, zone=zone
    )


def caps_of_json(stored: Mapping[str, Any]) -> Caps:
    """The caps that were stored with a Run."""
    per_run, per_month = stored["per_run_usd"], stored["per_month_usd"]
    return Caps(
        per_run_usd=None if per_run is None else Decimal(per_run),
        per_month_usd=None if per_month is None else Decimal(per_month),
        zone=ZoneInfo(stored["timezone"]),
    )


def run_period(run_id: str) -> str:
    """The ledger period of a Run."""
    return f"run:{run_id}"


def month_period(at: datetime, zone: ZoneInfo) -> str:
    """The ledger period of a month in a time zone."""
    return f"month:{at.astimezone(zone):%Y-%m}"


class Moves:
    """Money to be moved, summed per account.

    Args:
        used_usd: What is charged to each locked account; kept up to date with every move.
    """

    def __init__(self, used_usd: dict[Account, Decimal]) -> None:
        self.used_usd = used_usd
        self._sums: dict[Account, tuple[Decimal, Decimal]] = {}

    def add(
        self, accounts: Iterable[Account], *, reserved_usd: Decimal, spent_usd: Decimal
    ) -> None:
        """Move the same sums on each of the accounts."""
        for account in accounts:
            reserved, spent = self._sums.get(account, (Decimal(0), Decimal(0)))
            self._sums[account] = (reserved + reserved_usd, spent + spent_usd)
            self.used_usd[account] += reserved_usd + spent_usd

    def written(self) -> Sequence[Statement]:
        """What writes the sums to rows that are locked already."""
        if not self._sums:
            return ()
        return (
            Statement(
                text="""
            UPDATE switchwise.ledger AS l
            SET reserved_usd = l.reserved_usd + m.reserved_usd,
              spent_usd = l.spent_usd + m.spent_usd
            FROM unnest(%s::text[], %s::text[], %s::numeric[], %s::numeric[])
              AS m(plan_name, period, reserved_usd, spent_usd)
            WHERE l.plan_name = m.plan_name AND l.period = m.period
            """,
                values=(
                    [plan_name for plan_name, _ in self._sums],
                    [period for _, period in self._sums],
                    [reserved for reserved, _ in self._sums.values()],
                    [spent for _, spent in self._sums.values()],
                ),
            ),
        )


async def lock_accounts(
    cursor: Cursor, accounts: Mapping[Account, ZoneInfo]
) -> dict[Account, Decimal]:
    """The money charged to each account, its rows locked in one order for everyone.

    Args:
        cursor: The transaction.
        accounts: Each with the time zone of its months.

    A missing row is made from the journal: the ledger can always be recomputed.
    """
    wanted = sorted(accounts)
    if not wanted:
        return {}
    used = await _lock(cursor, wanted)
    missing = [account for account in wanted if account not in used]
    if missing:
        for account in missing:
            await _make(cursor, account, accounts[account])
        used = await _lock(cursor, wanted)
    return used


async def refusal(
    cursor: Cursor, account: Account, *, cap_usd: Decimal, at: datetime
) -> BudgetRefusal:
    """The cap that forbids a call, and whether money in flight may come back."""
    plan_name, period = account
    _, run_id = _kind(period)
    await cursor.execute(_IN_FLIGHT, (plan_name, at - _LONGEST_FLIGHT, run_id))
    found = await cursor.fetchone()
    name = "budget.per_month_usd" if run_id is None else "budget.per_run_usd"
    return BudgetRefusal(cap=name, cap_usd=cap_usd, may_fit_later=bool(found and found[0]))


async def _lock(cursor: Cursor, accounts: list[Account]) -> dict[Account, Decimal]:
    await cursor.execute(
        """
        SELECT l.plan_name, l.period, l.reserved_usd + l.spent_usd
        FROM switchwise.ledger AS l
        JOIN unnest(%s::text[], %s::text[]) AS wanted(plan_name, period) USING (plan_name, period)
        ORDER BY l.plan_name, l.period
        FOR UPDATE OF l
        """,
        ([plan_name for plan_name, _ in accounts], [period for _, period in accounts]),
    )
    return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}


async def _make(cursor: Cursor, account: Account, zone: ZoneInfo) -> None:
    plan_name, period = account
    month, run_id = _kind(period)
    since, until = _month_bounds(month, zone) if month else (None, None)
    await cursor.execute(_MAKE, (plan_name, period, plan_name, since, until, run_id))


def _kind(period: str) -> tuple[str | None, str | None]:
    """The month of a period, or its Run."""
    kind, _, value = period.partition(":")
    return (None, value) if kind == "run" else (value, None)


def _month_bounds(month: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    year, number = (int(part) for part in month.split("-"))
    start = datetime(year, number, 1, tzinfo=zone)
    return start, datetime(year + number // 12, number % 12 + 1, 1, tzinfo=zone)


_MAKE = """
    INSERT INTO switchwise.ledger (plan_name, period, reserved_usd, spent_usd)
    SELECT %s, %s,
      coalesce(sum(reserved_usd) FILTER (WHERE cost_usd IS NULL), 0), coalesce(sum(cost_usd), 0)
    FROM switchwise.attempts
    WHERE plan_name = %s AND sent_at >= coalesce(%s::timestamptz, '-infinity')
      AND sent_at < coalesce(%s::timestamptz, 'infinity') AND run_id = coalesce(%s::uuid, run_id)
    ON CONFLICT DO NOTHING
"""
_IN_FLIGHT = """
    SELECT EXISTS (
      SELECT 1 FROM switchwise.attempts AS a
      JOIN switchwise.shards AS s USING (run_id, shard_no)
      JOIN switchwise.runs AS r USING (run_id)
      WHERE a.plan_name = %s AND a.state = 'sent' AND a.fence = s.fence AND r.status = 'running'
        AND a.sent_at > %s AND a.run_id = coalesce(%s::uuid, a.run_id))
"""
