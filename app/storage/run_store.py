"""Runs, their Samples, shards and what was paid for."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    Column,
    Row,
    RowMapping,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app import __version__
from app.domain.alerts import Alert
from app.domain.attempts import AttemptState, FailureClass, Purpose, Reply, SettledCalls, ShardRef
from app.domain.cases import Case, Sample, Window
from app.domain.errors import FenceLost, RunInProgress
from app.domain.json_values import JsonObject
from app.domain.plans import Plan
from app.domain.prices import CostCheck
from app.domain.runs import ABANDONED, ClaimedShard, Run, RunStatus, Shard, Slot, SpendLine, Trigger
from app.ports import Scrub
from app.storage.alert_store import write_alerts
from app.storage.case_rows import (
    case_of,
    case_row,
    result_of,
    run_of,
    shard_of,
    slot_column,
)
from app.storage.documents import plain
from app.storage.engine import Database
from app.storage.ledger import caps_of_plan
from app.storage.tables import ATTEMPTS, CASES, LOG_PAGES, PLANS, RUNS, SCORES, SHARDS

#: A process that asked for the Run of a slot has so long to begin it.
_BEGINNING = timedelta(seconds=60)
#: A process may be frozen for a while; longer, and a Run by hand holds up no slot.
_ABANDONED = timedelta(seconds=60)
_ACTIVE = (RunStatus.DUE.value, RunStatus.RUNNING.value)


class PostgresRuns:
    """Runs, Samples and shards in Postgres.

    Args:
        database: The results database.
        now: The injected clock's `now`.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    # --- slots and leases -----------------------------------------------------------------------

    async def request(self, plan: Plan, slot: Slot, trigger: Trigger, *, seed: int) -> Run | None:
        """Insert the Run of a slot in status `due`; None when the slot already has one."""
        values = _new_run(plan, slot, trigger, seed=seed, now=self._now())
        async with self._database.transaction() as connection:
            await _know_plan(connection, plan, self._now())
            row = (
                await connection.execute(
                    upsert(RUNS)
                    .values(values)
                    .on_conflict_do_nothing(index_elements=["plan_name", "slot_key"])
                    .returning(*RUNS.c)
                )
            ).mappings()
            found = row.one_or_none()
        return run_of(found) if found is not None else None

    async def begin(
        self, run: Run, plan: Plan, *, owner: str, now: datetime, lease_s: float
    ) -> Run:
        """Make it the Plan's one active Run and own it until the lease runs out."""
        async with self._database.transaction() as connection:
            await _know_plan(connection, plan, now)
            await _lock_plan(connection, plan.name)
            await _refuse_if_busy(connection, run, owner=owner, now=now)
            settled = await _settled_count(connection, run.run_id)
            current = (
                (await connection.execute(select(RUNS).where(RUNS.c.run_id == run.run_id)))
                .mappings()
                .one()
            )
            restarts = 0
            if current["status"] == RunStatus.RUNNING.value or current["error_code"] == ABANDONED:
                has_progress = settled > current["progress_mark"]
                restarts = 1 if has_progress else current["restarts"] + 1
            started_at = current["started_at"] or now
            row = await connection.execute(
                update(RUNS)
                .where(RUNS.c.run_id == run.run_id)
                .values(
                    status=RunStatus.RUNNING.value,
                    started_at=started_at,
                    finished_at=None,
                    error_code=None,
                    error_message=None,
                    owner=owner,
                    lease_until=now + timedelta(seconds=lease_s),
                    restarts=restarts,
                    progress_mark=settled,
                )
                .returning(*RUNS.c)
            )
            return run_of(row.mappings().one())

    async def allow(self, run_id: str, plan: Plan, *, now: datetime, anew: bool = False) -> None:
        """Store what the Run may spend: once, or anew while nobody works it."""
        is_idle = or_(
            RUNS.c.status != RunStatus.RUNNING.value,
            RUNS.c.lease_until.is_(None),
            RUNS.c.lease_until < now,
        )
        async with self._database.transaction() as connection:
            await connection.execute(
                update(RUNS)
                .where(RUNS.c.run_id == run_id, is_idle if anew else RUNS.c.caps.is_(None))
                .values(caps=caps_of_plan(plan).to_json())
            )

    async def renew(self, run_id: str, *, owner: str, now: datetime, lease_s: float) -> bool:
        """Hold the lease for longer; False when the Run is final or in other hands."""
        async with self._database.transaction() as connection:
            renewed = await connection.execute(
                update(RUNS)
                .where(
                    RUNS.c.run_id == run_id,
                    RUNS.c.owner == owner,
                    RUNS.c.status == RunStatus.RUNNING.value,
                )
                .values(lease_until=now + timedelta(seconds=lease_s))
            )
            return renewed.rowcount == 1

    async def release(self, run_id: str, *, owner: str) -> None:
        """Give the lease back, so that the Run can be resumed at once."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(RUNS)
                .where(RUNS.c.run_id == run_id, RUNS.c.owner == owner)
                .values(lease_until=None)
            )

    async def holder(self, run_id: str) -> str | None:
        """Who owns the Run's lease, run out or not; None when nobody does."""
        query = select(RUNS.c.owner).where(
            RUNS.c.run_id == run_id,
            RUNS.c.status == RunStatus.RUNNING.value,
            RUNS.c.lease_until.is_not(None),
        )
        async with self._database.transaction() as connection:
            owner = (await connection.execute(query)).scalar_one_or_none()
        return None if owner is None else str(owner)

    async def orphans(self, plan_name: str, *, now: datetime) -> Sequence[Run]:
        """Runs of slots, due or running, that nobody holds; Runs by hand are left to hands."""
        is_due = (RUNS.c.trigger == Trigger.SCHEDULE.value) | (RUNS.c.created_at < now - _BEGINNING)
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                select(RUNS)
                .where(
                    RUNS.c.plan_name == plan_name,
                    RUNS.c.status.in_(_ACTIVE),
                    RUNS.c.trigger != Trigger.HAND.value,
                    or_(RUNS.c.status == RunStatus.RUNNING.value, is_due),
                    or_(RUNS.c.lease_until.is_(None), RUNS.c.lease_until < now),
                )
                .order_by(RUNS.c.slot_at)
            )
            return [run_of(row) for row in rows.mappings()]

    async def end_abandoned(
        self, plan_name: str, *, now: datetime, scrub: Scrub | None
    ) -> Sequence[Run]:
        """End Runs by hand that nobody works any more as partial, and return them.

        Texts that the plan does not keep go in the same commit.
        """
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                update(RUNS)
                .where(
                    RUNS.c.plan_name == plan_name,
                    RUNS.c.status == RunStatus.RUNNING.value,
                    RUNS.c.trigger == Trigger.HAND.value,
                    or_(RUNS.c.lease_until.is_(None), RUNS.c.lease_until < now - _ABANDONED),
                )
                .values(
                    status=RunStatus.PARTIAL.value,
                    finished_at=now,
                    error_code=ABANDONED,
                    lease_until=None,
                )
                .returning(RUNS.c.run_id)
            )
            return [
                await _left_behind(connection, run_id, scrub) for run_id in rows.scalars().all()
            ]

    async def newest_slot(self, plan_name: str) -> Slot | None:
        """The newest slot of the Plan that has a row of any status, Runs by hand apart."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                select(RUNS)
                .where(
                    RUNS.c.plan_name == plan_name,
                    RUNS.c.trigger != Trigger.HAND.value,
                )
                .order_by(RUNS.c.slot_key.desc())
                .limit(1)
            )
            found = rows.mappings().one_or_none()
        return run_of(found).slot if found is not None else None

    async def record_missed(
        self,
        plan: Plan,
        slots: Sequence[Slot],
        *,
        status: RunStatus,
        now: datetime,
        alert: Alert | None = None,
    ) -> int:
        """Insert rows for slots that will not be run (missed, skipped); count the new ones.

        The alert goes to the outbox in the same commit, where a row is new.
        """
        if not slots:
            return 0
        rows = [
            {
                **_new_run(plan, slot, Trigger.SCHEDULE, seed=0, now=now),
                "status": status.value,
                "finished_at": now,
                "error_code": status.value,
            }
            for slot in slots
        ]
        async with self._database.transaction() as connection:
            await _know_plan(connection, plan, now)
            inserted = await connection.execute(
                upsert(RUNS)
                .values(rows)
                .on_conflict_do_nothing(index_elements=["plan_name", "slot_key"])
                .returning(RUNS.c.run_id)
            )
            count = len(inserted.all())
            if count and alert is not None:
                await write_alerts(connection, plan.name, [alert], [], now=now)
            return count

    # --- runs -----------------------------------------------------------------------------------

    async def run(self, run_id: str) -> Run | None:
        """The Run with this id (or unique prefix)."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                select(RUNS)
                .where(cast(RUNS.c.run_id, Text).startswith(run_id, autoescape=True))
                .limit(2)
            )
            found = rows.mappings().all()
        return run_of(found[0]) if len(found) == 1 else None

    async def active_run(self, plan_name: str) -> Run | None:
        """The Plan's Run in work, if any."""
        return await self.latest_run(plan_name, statuses=(RunStatus.RUNNING,))

    async def latest_run(self, plan_name: str, *, statuses: Sequence[RunStatus] = ()) -> Run | None:
        """The Plan's newest Run, optionally of these statuses."""
        runs = await self.runs(plan_name, statuses=statuses, limit=1)
        return runs[0] if runs else None

    async def runs(
        self, plan_name: str, *, statuses: Sequence[RunStatus] = (), limit: int = 100
    ) -> Sequence[Run]:
        """The Plan's Runs, newest first."""
        query = select(RUNS).where(RUNS.c.plan_name == plan_name)
        if statuses:
            query = query.where(RUNS.c.status.in_([status.value for status in statuses]))
        query = query.order_by(RUNS.c.slot_at.desc(), RUNS.c.created_at.desc()).limit(limit)
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [run_of(row) for row in rows.mappings()]

    async def plan_names(self) -> Sequence[str]:
        """Every plan that has a row."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(select(PLANS.c.plan_name).order_by(PLANS.c.plan_name))
            return [str(row[0]) for row in rows]

    # --- samples --------------------------------------------------------------------------------

    async def save_sample(self, run: Run, sample: Sample, frozen: JsonObject) -> Run:
        """Commit the Sample with the frozen Policy, once; a second call changes nothing."""
        async with self._database.transaction() as connection:
            locked = await connection.execute(
                select(RUNS).where(RUNS.c.run_id == run.run_id).with_for_update()
            )
            current = locked.mappings().one()
            if current["window_start"] is not None:
                return run_of(current)
            cases = [case_row(case, run.run_id) for case in (*sample.cases, *sample.anchors)]
            if cases:
                await connection.execute(insert(CASES), cases)
            await connection.execute(delete(LOG_PAGES).where(LOG_PAGES.c.run_id == run.run_id))
            row = await connection.execute(
                update(RUNS)
                .where(RUNS.c.run_id == run.run_id)
                .values(
                    window_start=sample.window.start,
                    window_end=sample.window.end,
                    cases_requested=sample.requested,
                    cases_sampled=len(sample.cases),
                    drawn=sample.drawn,
                    frame=sample.frame,
                    skipped=plain(sample.skipped),
                    mean_logged_output_tokens=sample.mean_logged_output_tokens,
                    replayable=sample.replayable,
                    frozen=plain(frozen),
                )
                .returning(*RUNS.c)
            )
            return run_of(row.mappings().one())

    async def sample(self, run_id: str) -> Sample | None:
        """The Sample of a Run with its Cases and anchors, None before it was saved."""
        async with self._database.transaction() as connection:
            runs = await connection.execute(select(RUNS).where(RUNS.c.run_id == run_id))
            run = runs.mappings().one_or_none()
            if run is None or run["window_start"] is None:
                return None
            rows = await connection.execute(
                select(CASES)
                .where(CASES.c.run_id == run_id, CASES.c.body.is_not(None))
                .order_by(CASES.c.ordinal)
            )
            cases = [case_of(row) for row in rows.mappings()]
        return Sample(
            window=Window(start=run["window_start"], end=run["window_end"]),
            seed=run["seed"],
            frame=run["frame"],
            requested=run["cases_requested"],
            drawn=run["drawn"],
            cases=tuple(case for case in cases if not case.is_anchor),
            anchors=tuple(case for case in cases if case.is_anchor),
            skipped=run["skipped"],
            mean_logged_output_tokens=run["mean_logged_output_tokens"],
            replayable=run["replayable"],
        )

    async def anchors(self, plan_name: str, *, before_run: str) -> Sequence[Case]:
        """The anchors of the Plan's last complete Run."""
        last = (
            select(RUNS.c.run_id)
            .where(
                RUNS.c.plan_name == plan_name,
                RUNS.c.run_id != before_run,
                RUNS.c.status == RunStatus.DONE.value,
                RUNS.c.trigger != Trigger.HAND.value,
            )
            .order_by(RUNS.c.slot_at.desc())
            .limit(1)
            .scalar_subquery()
        )
        query = select(CASES).where(
            CASES.c.run_id == last,
            CASES.c.is_anchor,
            CASES.c.body.is_not(None),
            CASES.c.body[_REDACTED].is_(None),
        )
        async with self._database.transaction() as connection:
            rows = await connection.execute(query.order_by(CASES.c.ordinal))
            return [case_of(row) for row in rows.mappings()]

    async def earlier_cases(self, plan_name: str, *, before_run: str, limit: int) -> Sequence[Case]:
        """Cases of earlier complete Runs that can become anchors, newest Runs first.

        Only those that were answered: with candidates dropped early, many Cases never are. And
        only those whose texts are stored as they were: repeated without what redaction took out,
        a prompt would be another prompt.
        """
        replies = select(ATTEMPTS.c.attempt_id).where(
            ATTEMPTS.c.run_id == CASES.c.run_id,
            ATTEMPTS.c.case_id == CASES.c.case_id,
            ATTEMPTS.c.purpose == Purpose.REPLAY.value,
            ATTEMPTS.c.is_final,
            ATTEMPTS.c.reply.is_not(None),
        )
        query = (
            select(CASES)
            .join(RUNS, RUNS.c.run_id == CASES.c.run_id)
            .where(
                RUNS.c.plan_name == plan_name,
                RUNS.c.run_id != before_run,
                RUNS.c.status == RunStatus.DONE.value,
                RUNS.c.trigger != Trigger.HAND.value,
                ~CASES.c.is_anchor,
                CASES.c.body.is_not(None),
                CASES.c.body[_REDACTED].is_(None),
                replies.exists(),
                ~replies.where(ATTEMPTS.c.reply[_REDACTED].is_not(None)).exists(),
            )
            .order_by(RUNS.c.slot_at.desc(), CASES.c.ordinal)
            .limit(limit)
        )
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [case_of(row) for row in rows.mappings()]

    async def scrub(self, run_id: str, clean: Callable[[str], str] | None) -> None:
        """Replace every stored text of the Run by its cleaned form; None removes all bodies."""
        async with self._database.transaction() as connection:
            await scrub_texts(connection, run_id, clean)

    async def quarantined(self, plan_name: str, *, primary: str, attempts: int) -> frozenset[str]:
        """Fingerprints of prompts that the primary never answered in so many Attempts."""
        values = {"plan_name": plan_name, "primary": primary, "attempts": attempts}
        async with self._database.transaction() as connection:
            rows = await connection.execute(_QUARANTINED, values)
            return frozenset(str(row.prompt_hash) for row in rows)

    # --- shards ---------------------------------------------------------------------------------

    async def plan_shards(self, run_id: str, shards: Sequence[Shard]) -> None:
        """Add the shards of a block, once."""
        if not shards:
            return
        rows = [
            {
                "run_id": run_id,
                "shard_no": shard.shard_no,
                "block": shard.block,
                "models": list(shard.models),
                "case_ids": list(shard.case_ids),
                "fence": 0,
                "is_done": False,
            }
            for shard in shards
        ]
        async with self._database.transaction() as connection:
            await connection.execute(upsert(SHARDS).on_conflict_do_nothing(), rows)

    async def shards(self, run_id: str) -> Sequence[Shard]:
        """All shards so far, in order."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                select(SHARDS).where(SHARDS.c.run_id == run_id).order_by(SHARDS.c.shard_no)
            )
            return [shard_of(row) for row in rows.mappings()]

    async def claim(
        self, run_id: str, shard_no: int, *, owner: str, at: datetime, holder: str | None = None
    ) -> ClaimedShard:
        """Take the shard under a new Fence; `sent` Attempts of earlier owners become ambiguous."""
        async with self._database.transaction() as connection:
            if holder is not None:
                await _require_holder(connection, run_id, holder)
            claimed = await connection.execute(
                update(SHARDS)
                .where(SHARDS.c.run_id == run_id, SHARDS.c.shard_no == shard_no)
                .values(fence=SHARDS.c.fence + 1, owner=owner, claimed_at=at)
                .returning(*SHARDS.c)
            )
            shard = shard_of(claimed.mappings().one())
            if shard.fence > 1:
                await connection.execute(
                    _made_ambiguous(run_id).where(ATTEMPTS.c.shard_no == shard_no)
                )
            rows = await connection.execute(
                select(CASES)
                .where(CASES.c.case_id.in_(shard.case_ids), CASES.c.body.is_not(None))
                .order_by(CASES.c.ordinal)
            )
            return ClaimedShard(shard=shard, cases=tuple(case_of(row) for row in rows.mappings()))

    async def settled(self, shard: Shard) -> SettledCalls:
        """What earlier owners of the shard's Cases already paid for."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                select(ATTEMPTS)
                .where(ATTEMPTS.c.run_id == shard.run_id, ATTEMPTS.c.shard_no == shard.shard_no)
                .order_by(ATTEMPTS.c.attempt_no)
            )
            calls: dict[tuple[str, str], list[RowMapping]] = {}
            for row in rows.mappings():
                calls.setdefault((row["case_id"], row["call_key"]), []).append(row)
        ended = {key: reply for key, group in calls.items() if (reply := _reply_of(group))}
        return SettledCalls(
            replies=ended,
            tried_at={
                key: tuple(row["settled_at"] or row["sent_at"] for row in group)
                for key, group in calls.items()
                if key not in ended
            },
        )

    async def close_shard(self, ref: ShardRef, *, at: datetime) -> bool:
        """Mark the shard done; True when it was the last open shard of its block."""
        async with self._database.transaction() as connection:
            # One at a time, or the last two of a block would each see the other one open. A lock
            # that the journal's foreign keys pass by.
            await connection.execute(
                select(RUNS.c.run_id)
                .where(RUNS.c.run_id == ref.run_id)
                .with_for_update(key_share=True)
            )
            closed = await connection.execute(
                update(SHARDS)
                .where(
                    SHARDS.c.run_id == ref.run_id,
                    SHARDS.c.shard_no == ref.shard_no,
                    SHARDS.c.fence == ref.fence,
                )
                .values(is_done=True, done_at=at)
                .returning(SHARDS.c.block)
            )
            block = closed.scalar_one_or_none()
            if block is None:
                raise FenceLost(f"shard {ref.shard_no} of run {ref.run_id} has a newer owner")
            still_open = await connection.execute(
                select(func.count()).where(
                    SHARDS.c.run_id == ref.run_id, SHARDS.c.block == block, ~SHARDS.c.is_done
                )
            )
            return still_open.scalar_one() == 0

    # --- money ----------------------------------------------------------------------------------

    async def spend(self, run_id: str) -> Sequence[SpendLine]:
        """What the Run spent, by model and purpose."""
        both = ATTEMPTS.c.cost_usd.is_not(None) & ATTEMPTS.c.reported_cost_usd.is_not(None)
        query = (
            select(
                ATTEMPTS.c.model_name,
                ATTEMPTS.c.purpose,
                ATTEMPTS.c.failure_class,
                func.count().label("attempts"),
                func.coalesce(func.sum(ATTEMPTS.c.cost_usd), 0).label("spend_usd"),
                func.count().filter(ATTEMPTS.c.cost_usd.is_(None)).label("unknown_cost"),
                func.count().filter(both).label("checked"),
                func.sum(ATTEMPTS.c.cost_usd).filter(both).label("computed_usd"),
                func.sum(ATTEMPTS.c.reported_cost_usd).filter(both).label("reported_usd"),
            )
            .where(ATTEMPTS.c.run_id == run_id)
            .group_by(ATTEMPTS.c.model_name, ATTEMPTS.c.purpose, ATTEMPTS.c.failure_class)
            .order_by(ATTEMPTS.c.model_name, ATTEMPTS.c.purpose)
        )
        lines: dict[tuple[str, str], list[Row[Any]]] = {}
        async with self._database.transaction() as connection:
            for row in await connection.execute(query):
                lines.setdefault((row.model_name, row.purpose), []).append(row)
        return [
            SpendLine(
                model_name=model_name,
                purpose=Purpose(purpose),
                attempts=sum(row.attempts for row in rows),
                spend_usd=sum((Decimal(row.spend_usd) for row in rows), Decimal(0)),
                unknown_cost=sum(row.unknown_cost for row in rows),
                check=_check(model_name, rows),
                failures={
                    FailureClass(row.failure_class): row.attempts
                    for row in rows
                    if row.failure_class is not None
                },
            )
            for (model_name, purpose), rows in lines.items()
        ]

    async def spend_since(self, plan_name: str, since: datetime) -> Decimal:
        """What the Plan has charged to its caps since then, open reservations included."""
        query = select(
            func.coalesce(func.sum(func.coalesce(ATTEMPTS.c.cost_usd, ATTEMPTS.c.reserved_usd)), 0)
        ).where(ATTEMPTS.c.plan_name == plan_name, ATTEMPTS.c.sent_at >= since)
        async with self._database.transaction() as connection:
            return Decimal((await connection.execute(query)).scalar_one())


# --- parts --------------------------------------------------------------------------------------


#: Marks a stored body or reply that redaction has changed.
_REDACTED = "redacted"

_QUARANTINED = text("""
    WITH tried AS (
      SELECT c.prompt_hash, a.run_id, count(*) AS attempts,
        bool_or(a.stop_reason IS NOT NULL) AS is_answered
      FROM switchwise.attempts AS a JOIN switchwise.cases AS c USING (case_id)
      WHERE a.plan_name = :plan_name AND a.model_name = :primary AND a.purpose = 'replay'
      GROUP BY c.prompt_hash, a.run_id),
    healthy AS (
      SELECT run_id FROM tried GROUP BY run_id HAVING avg(is_answered::int) >= 0.5)
    SELECT prompt_hash FROM tried JOIN healthy USING (run_id)
    GROUP BY prompt_hash HAVING NOT bool_or(is_answered) AND sum(attempts) >= :attempts
""")


def _check(model_name: str, rows: Sequence[Row[Any]]) -> CostCheck | None:
    checked = [row for row in rows if row.checked]
    if not checked:
        return None
    return CostCheck(
        model_name=model_name,
        calls=sum(row.checked for row in checked),
        computed_usd=sum((Decimal(row.computed_usd) for row in checked), Decimal(0)),
        reported_usd=sum((Decimal(row.reported_usd) for row in checked), Decimal(0)),
    )


def _new_run(
    plan: Plan, slot: Slot, trigger: Trigger, *, seed: int, now: datetime
) -> dict[str, Any]:
    run_id = str(uuid.uuid4())
    return {
        "run_id": run_id,
        "plan_name": plan.name,
        "trigger": trigger.value,
        "status": RunStatus.DUE.value,
        "slot_key": slot_column(slot, trigger, run_id),
        "slot_at": slot.at,
        "closes_week": slot.closes_week,
        "iso_week": slot.iso_week,
        "seed": seed,
        "created_at": now,
        "cases_requested": plan.sample.n,
        "cases_sampled": 0,
        "drawn": 0,
        "frame": 0,
        "skipped": {},
        "config_hash": plan.config_hash,
        "app_version": __version__,
        "restarts": 0,
        "progress_mark": 0,
        "frozen": {},
    }


async def _know_plan(connection: AsyncConnection, plan: Plan, now: datetime) -> None:
    zone = str(plan.schedule.timezone) if plan.schedule else "UTC"
    statement = upsert(PLANS).values(
        plan_name=plan.name, created_at=now, config_hash=plan.config_hash, timezone=zone
    )
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["plan_name"],
            set_={"config_hash": statement.excluded.config_hash, "timezone": zone},
        )
    )


async def _lock_plan(connection: AsyncConnection, plan_name: str) -> None:
    await connection.execute(
        select(PLANS.c.plan_name).where(PLANS.c.plan_name == plan_name).with_for_update()
    )


async def _refuse_if_busy(
    connection: AsyncConnection, run: Run, *, owner: str, now: datetime
) -> None:
    """Raise when another Run of the Plan is active or this one is held by somebody else."""
    rows = await connection.execute(
        select(RUNS).where(
            RUNS.c.plan_name == run.plan_name, RUNS.c.status == RunStatus.RUNNING.value
        )
    )
    for row in rows.mappings():
        if row["run_id"] != run.run_id:
            raise RunInProgress(
                f"run {row['run_id']} of {run.plan_name} is active; "
                f"resume it with: switchwise run --resume {row['run_id']}"
            )
        is_held = row["lease_until"] is not None and row["lease_until"] >= now
        if is_held and row["owner"] != owner:
            raise RunInProgress(f"run {run.run_id} is held by {row['owner']}")
    ended = await connection.execute(select(RUNS.c.status).where(RUNS.c.run_id == run.run_id))
    status = RunStatus(ended.scalar_one())
    if status.is_final and status is not RunStatus.PARTIAL:
        raise RunInProgress(f"run {run.run_id} is {status.value} already")
    lost = await _why_it_cannot_go_on(connection, run.run_id)
    if lost is not None:
        raise RunInProgress(
            f"run {run.run_id} cannot go on: {lost}. Begin a new one: switchwise run"
        )


async def _why_it_cannot_go_on(connection: AsyncConnection, run_id: str) -> str | None:
    """What became of the prompts of the Run; None while all of them are as they were."""
    for condition, why in (
        (
            CASES.c.body.is_(None),
            "its prompts were removed (privacy.store_bodies or retention.bodies)",
        ),
        (
            CASES.c.body[_REDACTED].is_not(None),
            "its prompts were redacted when it ended (privacy.store_bodies): they would be others",
        ),
    ):
        found = await connection.execute(
            select(CASES.c.case_id).where(CASES.c.run_id == run_id, condition).limit(1)
        )
        if found.first() is not None:
            return why
    return None


async def _left_behind(connection: AsyncConnection, run_id: str, scrub: Scrub | None) -> Run:
    """The Run that was just ended as abandoned: fenced off, scrubbed, and told what to do."""
    await fence_off(connection, run_id)
    if scrub is not None:
        await scrub_texts(connection, run_id, scrub.clean)
    lost = await _why_it_cannot_go_on(connection, run_id)
    told = (
        "its process ended before it did; finish it with: switchwise run --resume RUN"
        if lost is None
        else f"its process ended before it did, and it cannot go on: {lost}"
    )
    row = await connection.execute(
        update(RUNS).where(RUNS.c.run_id == run_id).values(error_message=told).returning(*RUNS.c)
    )
    return run_of(row.mappings().one())


async def _require_holder(connection: AsyncConnection, run_id: str, holder: str) -> None:
    """Nobody takes the Run over before this transaction ends; raise when somebody has."""
    found = await connection.execute(
        select(RUNS.c.owner)
        .where(RUNS.c.run_id == run_id, RUNS.c.status == RunStatus.RUNNING.value)
        .with_for_update(read=True)
    )
    if found.scalar_one_or_none() != holder:
        raise FenceLost(f"run {run_id} is not held by {holder} any more")


async def fence_off(connection: AsyncConnection, run_id: str) -> None:
    """Refuse whatever is still written for a Run that has ended; what is in flight is ambiguous.

    Call it once the Run's own row is locked, as a claim locks it. Shards are locked in the order of
    the journal, or its batches and this would wait for each other.
    """
    await connection.execute(
        select(SHARDS.c.shard_no)
        .where(SHARDS.c.run_id == run_id)
        .order_by(SHARDS.c.shard_no)
        .with_for_update(key_share=True)
    )
    await connection.execute(
        update(SHARDS).where(SHARDS.c.run_id == run_id).values(fence=SHARDS.c.fence + 1)
    )
    await connection.execute(_made_ambiguous(run_id))


def _made_ambiguous(run_id: str) -> Update:
    """Marks what was sent and is not settled as possibly paid; its reservations stay charged."""
    is_sent = (ATTEMPTS.c.run_id == run_id, ATTEMPTS.c.state == AttemptState.SENT.value)
    return update(ATTEMPTS).where(*is_sent).values(state=AttemptState.AMBIGUOUS.value)


async def _settled_count(connection: AsyncConnection, run_id: str) -> int:
    counted = await connection.execute(
        select(func.count()).where(
            ATTEMPTS.c.run_id == run_id, ATTEMPTS.c.state == AttemptState.SETTLED.value
        )
    )
    return int(counted.scalar_one())


def _reply_of(group: Sequence[RowMapping]) -> Reply | None:
    """The end of a call from its Attempts; None while none of them is final."""
    final = next((row for row in group if row["is_final"]), None)
    if final is None:
        return None
    return Reply(
        case_id=final["case_id"],
        model_name=final["model_name"],
        call_key=final["call_key"],
        result=result_of(final),
        attempts=len(group),
        spend_usd=sum((Decimal(row["cost_usd"] or 0) for row in group), Decimal(0)),
        is_cost_known=all(row["cost_usd"] is not None for row in group),
        felt_latency_s=final["felt_latency_seconds"],
    )


async def scrub_texts(
    connection: AsyncConnection, run_id: str, clean: Callable[[str], str] | None
) -> None:
    """Replace every stored text of the Run by its cleaned form; None removes all bodies."""
    if clean is None:
        await _remove_bodies(connection, run_id)
    else:
        await _clean_bodies(connection, run_id, clean)


async def _remove_bodies(connection: AsyncConnection, run_id: str) -> None:
    await connection.execute(update(CASES).where(CASES.c.run_id == run_id).values(body=None))
    await connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.run_id == run_id).values(reply=None))
    await connection.execute(
        update(SCORES).where(SCORES.c.run_id == run_id).values(reason=None, detail={})
    )


async def _clean_bodies(
    connection: AsyncConnection, run_id: str, clean: Callable[[str], str]
) -> None:
    for table, texts in (
        (CASES, ("body",)),
        (ATTEMPTS, ("reply",)),
        (SCORES, ("reason", "detail", "unscored_reason")),
    ):
        key = _key_columns(table)
        rows = await connection.execute(
            select(*key, *(table.c[name] for name in texts)).where(table.c.run_id == run_id)
        )
        changed = [
            {f"new_{name}": fresh[name] for name in texts}
            | {f"key_{column.name}": row[column.name] for column in key}
            for row in rows.mappings()
            if (fresh := {name: _marked(name, row[name], clean) for name in texts})
            != {name: row[name] for name in texts}
        ]
        if changed:
            statement = update(table).where(
                *(
                    column.is_not_distinct_from(bindparam(f"key_{column.name}", type_=column.type))
                    if column.nullable
                    else column == bindparam(f"key_{column.name}", type_=column.type)
                    for column in key
                )
            )
            values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in texts}
            await connection.execute(statement.values(values), changed)


def _marked(name: str, value: object, clean: Callable[[str], str]) -> object:
    """The cleaned value; a body or reply that was changed by it says so."""
    fresh = _cleaned(value, clean)
    if name in {"body", "reply"} and isinstance(fresh, dict) and fresh != value:
        return {**fresh, _REDACTED: True}
    return fresh


def _key_columns(table: Table) -> tuple[Column[Any], ...]:
    if table is SCORES:
        names = ("run_id", "case_id", "model_name", "evaluator", "judge_model")
        return tuple(table.c[name] for name in names)
    return tuple(table.primary_key.columns)


def _cleaned(value: object, clean: Callable[[str], str]) -> object:
    """The value with every text in it cleaned; image data holds no text and stays as it is."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        if value.get("type") == "image":
            return value
        return {key: _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    return value
