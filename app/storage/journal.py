"""The Attempt journal and the budget ledger: one group commit for whoever asks meanwhile.

Whatever is asked while a commit is under way goes into the next one, so that a call costs a share
of a transaction and still never leaves before its row is durable. Each batch

1. locks the shards it writes for (shared), and refuses whoever's fence is not the shard's own;
2. locks the ledger rows of capped plans, and refuses what does not fit;
3. inserts, settles and scores in one statement each, and moves the money.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import tuple_row

from app.domain.attempts import AttemptOpening, AttemptOutcome, Completion, ShardRef
from app.domain.errors import FenceLost, StorageUnavailable
from app.domain.scores import ScoreRecord, Unscored
from app.ports import BudgetRefusal, Clock
from app.storage.clean_text import clean_text, json_text

FLUSH_DEADLINE_S = 20.0
_RETRY_PAUSES_S = (0.1, 0.5, 1.0, 2.0)
CONNECT_OPTIONS: dict[str, int | str] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "options": "-c statement_timeout=15000 -c lock_timeout=10000",
}

_TROUBLE = (psycopg.OperationalError, psycopg.InterfaceError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """A Plan's caps in USD and the time zone of its months."""

    per_run_usd: Decimal | None = None
    per_month_usd: Decimal | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    def periods(self, run_id: str, at: datetime) -> dict[str, Decimal]:
        """The ledger periods a call of this Run counts into, with their caps."""
        periods: dict[str, Decimal] = {}
        if self.per_run_usd is not None:
            periods[run_period(run_id)] = self.per_run_usd
        if self.per_month_usd is not None:
            periods[month_period(at, self.zone)] = self.per_month_usd
        return periods


def run_period(run_id: str) -> str:
    """The ledger period of a Run."""
    return f"run:{run_id}"


def month_period(at: datetime, zone: ZoneInfo) -> str:
    """The ledger period of a month in a time zone."""
    return f"month:{at.astimezone(zone):%Y-%m}"


@dataclass(slots=True)
class _Open:
    item: AttemptOpening
    done: "asyncio.Future[BudgetRefusal | None]"

    @property
    def shard(self) -> ShardRef:
        return self.item.shard


@dataclass(slots=True)
class _Settle:
    item: AttemptOutcome
    done: "asyncio.Future[None]"

    @property
    def shard(self) -> ShardRef:
        return self.item.shard


@dataclass(slots=True)
class _Score:
    item: ScoreRecord
    shard: ShardRef
    done: "asyncio.Future[None]"


_Request = _Open | _Settle | _Score
_Cursor = psycopg.AsyncCursor[tuple[object, ...]]
_Ledger = dict[tuple[str, str], Decimal]


class PostgresJournal:
    """Journal and ledger over one connection, kept alive and reopened as needed.

    Args:
        dsn: The results database.
        clock: The injected clock.
        caps: Plan name -> its caps; plans without caps keep no ledger rows.
    """

    def __init__(self, dsn: str, *, clock: Clock, caps: Callable[[str], Caps]) -> None:
        self._dsn = dsn
        self._clock = clock
        self._caps = caps
        self._waiting: list[_Request] = []
        self._flushing: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None

    async def open(self, opening: AttemptOpening) -> BudgetRefusal | None:
        """Reserve the money and commit the Attempt as sent, before it is sent."""
        done: asyncio.Future[BudgetRefusal | None] = asyncio.get_running_loop().create_future()
        self._ask(_Open(opening, done))
        return await done

    async def settle(self, outcome: AttemptOutcome) -> None:
        """Commit how the Attempt ended and exchange its reservation for its cost."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ask(_Settle(outcome, done))
        await asyncio.shield(done)

    async def score(self, shard: ShardRef, records: Sequence[ScoreRecord]) -> None:
        """Commit the scores of replies; equal keys are written once."""
        loop = asyncio.get_running_loop()
        requests = [_Score(record, shard, loop.create_future()) for record in records]
        for request in requests:
            self._ask(request)
        for request in requests:
            await request.done

    async def close(self) -> None:
        """Write what waits and give the connection back."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing}, timeout=FLUSH_DEADLINE_S)
        await self._drop_connection()

    # --- gathering ----------------------------------------------------------------------------

    def _ask(self, request: _Request) -> None:
        self._waiting.append(request)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush_all())

    async def _flush_all(self) -> None:
        failures = 0
        while self._waiting:
            await asyncio.sleep(0)
            batch, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(FLUSH_DEADLINE_S):
                    await self._flush(batch)
                failures = 0
            except _TROUBLE as error:
                await self._drop_connection()
                self._waiting = _kept(batch, error) + self._waiting
                pause_s = _RETRY_PAUSES_S[min(failures, len(_RETRY_PAUSES_S) - 1)]
                failures += 1
                if self._waiting:
                    await self._clock.sleep(pause_s)
            except psycopg.Error as error:
                await self._drop_connection()
                await self._flush_singly(batch, error)

    async def _flush_singly(self, batch: list[_Request], error: psycopg.Error) -> None:
        """One request spoils a batch: write each alone, so that only the bad one fails."""
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        for request in batch:
            try:
                async with asyncio.timeout(FLUSH_DEADLINE_S):
                    await self._flush([request])
            except _TROUBLE as trouble:
                await self._drop_connection()
                self._waiting = _kept([request], trouble) + self._waiting
            except psycopg.Error as alone:
                await self._drop_connection()
                _fail(request, alone)

    async def _flush(self, batch: list[_Request]) -> None:
        """Write a batch in one transaction, then tell everyone."""
        connection = await self._connected()
        answers: list[tuple[_Request, object]] = []
        async with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            fences = await _fences(cursor, batch)
            current = []
            for request in batch:
                if (
                    fences.get((request.shard.run_id, request.shard.shard_no))
                    == request.shard.fence
                ):
                    current.append(request)
                else:
                    answers.append((request, _lost(request.shard)))
            settles = [request for request in current if isinstance(request, _Settle)]
            if settles:
                await _write_settles(cursor, settles, self._caps)
                answers.extend((request, None) for request in settles)
            opens = [request for request in current if isinstance(request, _Open)]
            if opens:
                answers.extend(await _write_opens(cursor, opens, self._caps))
            scores = [request for request in current if isinstance(request, _Score)]
            if scores:
                await _write_scores(cursor, scores, self._clock.now())
                answers.extend((request, None) for request in scores)
        for request, answer in answers:
            _answer(request, answer)

    async def _connected(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._dsn,
                autocommit=True,
                **CONNECT_OPTIONS,  # type: ignore[arg-type]
            )
        return self._connection

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_TROUBLE, psycopg.Error):
                async with asyncio.timeout(2.0):
                    await connection.close()


# --- answers ----------------------------------------------------------------------------------


def _answer(request: _Request, answer: object) -> None:
    if request.done.done():
        return
    if isinstance(answer, BaseException):
        request.done.set_exception(answer)
    else:
        request.done.set_result(answer)  # type: ignore[arg-type]


def _fail(request: _Request, error: psycopg.Error) -> None:
    refusal = StorageUnavailable(f"the results database refused a row: {type(error).__name__}")
    refusal.__cause__ = error
    _answer(request, refusal)


def _kept(batch: Sequence[_Request], error: BaseException) -> list[_Request]:
    """Tell those who may not send; keep what is paid for until it can be written."""
    kept: list[_Request] = []
    for request in batch:
        if isinstance(request, _Open):
            refusal = StorageUnavailable("the results database cannot be written")
            refusal.__cause__ = error
            _answer(request, refusal)
        elif not request.done.done():
            kept.append(request)
    return kept


def _lost(shard: ShardRef) -> FenceLost:
    return FenceLost(f"shard {shard.shard_no} of run {shard.run_id} has a newer owner")


# --- statements -------------------------------------------------------------------------------


async def _fences(cursor: _Cursor, batch: Sequence[_Request]) -> Mapping[tuple[str, int], int]:
    shards = {(request.shard.run_id, request.shard.shard_no) for request in batch}
    await cursor.execute(
        """
        SELECT s.run_id::text, s.shard_no, s.fence
        FROM switchwise.shards AS s
        JOIN unnest(%s::uuid[], %s::int[]) AS asked(run_id, shard_no) USING (run_id, shard_no)
        FOR SHARE OF s
        """,
        ([run_id for run_id, _ in shards], [shard_no for _, shard_no in shards]),
    )
    return {(str(row[0]), int(str(row[1]))): int(str(row[2])) for row in await cursor.fetchall()}


async def _write_opens(
    cursor: _Cursor, requests: Sequence[_Open], caps: Callable[[str], Caps]
) -> list[tuple[_Request, object]]:
    """Insert the Attempts that fit their caps; the others learn which cap forbids them."""
    limits = {
        (request.item.plan_name, period): cap_usd
        for request in requests
        for period, cap_usd in _periods(request.item, caps).items()
    }
    used = await _lock_ledger(cursor, limits, caps)
    accepted: list[_Open] = []
    refused: list[tuple[_Request, object]] = []
    for request in requests:
        item = request.item
        keys = [(item.plan_name, period) for period in _periods(item, caps)]
        broken = next((key for key in keys if used[key] + item.reserved_usd > limits[key]), None)
        if broken is not None:
            refused.append((request, await _refusal(cursor, broken, limits[broken])))
            continue
        for key in keys:
            used[key] += item.reserved_usd
        accepted.append(request)
    inserted = await _insert_attempts(cursor, [request.item for request in accepted])
    moves: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for request in accepted:
        if request.item.attempt_id in inserted:
            for period in _periods(request.item, caps):
                _add(moves, (request.item.plan_name, period), request.item.reserved_usd, Decimal(0))
    await _move_money(cursor, moves)
    return [*refused, *((request, None) for request in accepted)]


def _periods(item: AttemptOpening, caps: Callable[[str], Caps]) -> Mapping[str, Decimal]:
    return caps(item.plan_name).periods(item.shard.run_id, item.sent_at)


async def _lock_ledger(
    cursor: _Cursor, limits: Mapping[tuple[str, str], Decimal], caps: Callable[[str], Caps]
) -> _Ledger:
    """The money charged to each period, its rows locked; missing rows are made from the journal."""
    used: _Ledger = {}
    for plan_name, period in sorted(limits):
        await cursor.execute(_SELECT_LEDGER, (plan_name, period))
        row = await cursor.fetchone()
        if row is None:
            since, run_id = _span(period, caps(plan_name).zone)
            await cursor.execute(_MAKE_LEDGER, (plan_name, period, plan_name, since, run_id))
            await cursor.execute(_SELECT_LEDGER, (plan_name, period))
            row = await cursor.fetchone()
        used[(plan_name, period)] = Decimal(str(row[0])) if row else Decimal(0)
    return used


_SELECT_LEDGER = (
    "SELECT reserved_usd + spent_usd FROM switchwise.ledger"
    " WHERE plan_name = %s AND period = %s FOR UPDATE"
)


_MAKE_LEDGER = """
    INSERT INTO switchwise.ledger (plan_name, period, reserved_usd, spent_usd)
    SELECT %s, %s,
      coalesce(sum(reserved_usd) FILTER (WHERE cost_usd IS NULL), 0), coalesce(sum(cost_usd), 0)
    FROM switchwise.attempts
    WHERE plan_name = %s AND sent_at >= %s AND run_id = coalesce(%s::uuid, run_id)
    ON CONFLICT DO NOTHING
"""


def _span(period: str, zone: ZoneInfo) -> tuple[datetime, str | None]:
    """When the Attempts of a period begin, and the Run they belong to if it is one Run's."""
    kind, _, value = period.partition(":")
    if kind == "run":
        return datetime(1970, 1, 1, tzinfo=zone), value
    year, month = value.split("-")
    return datetime(int(year), int(month), 1, tzinfo=zone), None


async def _refusal(cursor: _Cursor, key: tuple[str, str], cap_usd: Decimal) -> BudgetRefusal:
    plan_name, period = key
    await cursor.execute(
        "SELECT EXISTS (SELECT 1 FROM switchwise.attempts"
        " WHERE plan_name = %s AND state = 'sent' AND sent_at > %s::timestamptz)",
        (plan_name, "-infinity"),
    )
    row = await cursor.fetchone()
    name = "budget.per_run_usd" if period.startswith("run:") else "budget.per_month_usd"
    return BudgetRefusal(cap=name, cap_usd=cap_usd, may_fit_later=bool(row and row[0]))


async def _insert_attempts(cursor: _Cursor, items: Sequence[AttemptOpening]) -> set[str]:
    """Insert the rows; returns the ids that were new (a repeated commit inserts nothing)."""
    if not items:
        return set()
    await cursor.execute(
        """
        INSERT INTO switchwise.attempts (
          attempt_id, run_id, shard_no, fence, plan_name, case_id, model_name, model, purpose,
          call_key, attempt_no, state, reserved_usd, price, sent_at, is_final)
        SELECT attempt_id, run_id, shard_no, fence, plan_name, case_id, model_name, model, purpose,
          call_key, attempt_no, 'sent', reserved_usd, price::jsonb, sent_at, false
        FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::int[], %s::text[], %s::uuid[],
          %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::numeric[], %s::text[],
          %s::timestamptz[]) AS new(
          attempt_id, run_id, shard_no, fence, plan_name, case_id, model_name, model, purpose,
          call_key, attempt_no, reserved_usd, price, sent_at)
        ON CONFLICT (attempt_id) DO NOTHING
        RETURNING attempt_id::text
        """,
        (
            [item.attempt_id for item in items],
            [item.shard.run_id for item in items],
            [item.shard.shard_no for item in items],
            [item.shard.fence for item in items],
            [item.plan_name for item in items],
            [item.case_id for item in items],
            [item.model_name for item in items],
            [item.model for item in items],
            [item.purpose.value for item in items],
            [item.call_key for item in items],
            [item.attempt_no for item in items],
            [item.reserved_usd for item in items],
            [json_text(item.price) for item in items],
            [item.sent_at for item in items],
        ),
    )
    return {str(row[0]) for row in await cursor.fetchall()}


async def _write_settles(
    cursor: _Cursor, requests: Sequence[_Settle], caps: Callable[[str], Caps]
) -> None:
    rows = [_settle_row(request.item) for request in requests]
    await cursor.execute(_SETTLE, tuple(list(column) for column in zip(*rows, strict=True)))
    settled = await cursor.fetchall()
    costs = {request.item.attempt_id: request.item.cost_usd for request in requests}
    moves: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for attempt_id, plan_name, run_id, reserved, sent_at in settled:
        cost_usd = costs[str(attempt_id)]
        if cost_usd is None or not isinstance(sent_at, datetime):
            continue
        for period in caps(str(plan_name)).periods(str(run_id), sent_at):
            _add(moves, (str(plan_name), period), -Decimal(str(reserved)), cost_usd)
    await _move_money(cursor, moves)


_SETTLE = """
    UPDATE switchwise.attempts AS a SET
      state = 'settled', cost_usd = new.cost_usd, settled_at = new.settled_at,
      is_final = new.is_final, stop_reason = new.stop_reason, failure_class = new.failure_class,
      http_status = new.http_status, error = new.error, request_id = new.request_id,
      input_tokens = new.input_tokens, output_tokens = new.output_tokens,
      cache_read_tokens = new.cache_read_tokens,
      cache_write_5m_tokens = new.cache_write_5m_tokens,
      cache_write_1h_tokens = new.cache_write_1h_tokens, thinking_tokens = new.thinking_tokens,
      ttft_seconds = new.ttft_seconds, latency_seconds = new.latency_seconds,
      felt_latency_seconds = new.felt_latency_seconds,
      reported_cost_usd = new.reported_cost_usd, reply_hash = new.reply_hash,
      reply = new.reply::jsonb
    FROM unnest(%s::uuid[], %s::numeric[], %s::timestamptz[], %s::bool[], %s::text[], %s::text[],
      %s::int[], %s::text[], %s::text[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[],
      %s::int[], %s::float8[], %s::float8[], %s::float8[], %s::numeric[], %s::text[], %s::text[])
      AS new(attempt_id, cost_usd, settled_at, is_final, stop_reason, failure_class, http_status,
      error, request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
      cache_write_1h_tokens, thinking_tokens, ttft_seconds, latency_seconds, felt_latency_seconds,
      reported_cost_usd, reply_hash, reply)
    WHERE a.attempt_id = new.attempt_id AND a.state = 'sent'
    RETURNING a.attempt_id::text, a.plan_name, a.run_id::text, a.reserved_usd, a.sent_at
"""


def _settle_row(outcome: AttemptOutcome) -> tuple[object, ...]:
    result = outcome.result
    usage = result.usage
    counts = (
        (None,) * 6
        if usage is None
        else (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.thinking_tokens,
        )
    )
    failure = result.failure_class
    is_completion = isinstance(result, Completion)
    return (
        outcome.attempt_id,
        outcome.cost_usd,
        outcome.settled_at,
        outcome.is_final,
        result.stop_reason.value if isinstance(result, Completion) else None,
        failure.value if failure is not None else None,
        200 if is_completion else result.http_status,  # type: ignore[union-attr]
        None if is_completion else clean_text(result.message)[:500],  # type: ignore[union-attr]
        clean_text(result.request_id)[:200] if result.request_id else None,
        *counts,
        result.ttft_s if isinstance(result, Completion) else None,
        result.latency_s,
        outcome.felt_latency_s,
        result.reported_cost_usd if isinstance(result, Completion) else None,
        result.fingerprint if isinstance(result, Completion) else None,
        json_text({"text": result.text, "tool_calls": list(result.tool_calls)})
        if isinstance(result, Completion)
        else None,
    )


async def _write_scores(cursor: _Cursor, requests: Sequence[_Score], at: datetime) -> None:
    rows = [_score_row(request) for request in requests]
    columns = [list(column) for column in zip(*rows, strict=True)]
    await cursor.execute(
        """
        INSERT INTO switchwise.scores (
          run_id, case_id, model_name, evaluator, score, unscored_reason, reason, detail,
          evaluator_version, judge_model, is_gate, is_passed, weight, scored_at)
        SELECT run_id, case_id, model_name, evaluator, score, unscored_reason, reason,
          detail::jsonb, evaluator_version, judge_model, is_gate, is_passed, weight, %s
        FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::float8[], %s::text[],
          %s::text[], %s::text[], %s::text[], %s::text[], %s::bool[], %s::bool[], %s::float8[])
          AS new(run_id, case_id, model_name, evaluator, score, unscored_reason, reason, detail,
          evaluator_version, judge_model, is_gate, is_passed, weight)
        ON CONFLICT DO NOTHING
        """,
        (at, *columns),
    )


def _score_row(request: _Score) -> tuple[object, ...]:
    record = request.item
    is_unscored = isinstance(record.result, Unscored)
    return (
        request.shard.run_id,
        record.case_id,
        record.model_name,
        record.evaluator,
        record.score,
        clean_text(record.result.reason) or "unscored" if is_unscored else None,
        None if is_unscored else clean_text(record.result.reason),
        json_text(record.result.detail),
        record.evaluator_version,
        record.judge_model,
        record.is_gate,
        record.is_passed,
        0.0 if record.is_gate else record.weight,
    )


def _add(
    moves: dict[tuple[str, str], tuple[Decimal, Decimal]],
    key: tuple[str, str],
    reserved_usd: Decimal,
    spent_usd: Decimal,
) -> None:
    reserved, spent = moves.get(key, (Decimal(0), Decimal(0)))
    moves[key] = (reserved + reserved_usd, spent + spent_usd)


async def _move_money(
    cursor: _Cursor, moves: Mapping[tuple[str, str], tuple[Decimal, Decimal]]
) -> None:
    for (plan_name, period), (reserved_usd, spent_usd) in sorted(moves.items()):
        await cursor.execute(
            "UPDATE switchwise.ledger SET reserved_usd = reserved_usd + %s,"
            " spent_usd = spent_usd + %s WHERE plan_name = %s AND period = %s",
            (reserved_usd, spent_usd, plan_name, period),
        )
