"""The Attempt journal and the budget ledger: one group commit for whoever asks meanwhile.

Whatever is asked while a commit is under way goes into the next one, so that a call costs a share
of a transaction and still never leaves before its row is durable. Each batch

1. locks the shards it writes for (shared), and refuses whoever's fence is not the shard's own;
2. locks the ledger rows of their Runs and months, all in one order;
3. scores;
4. settles, so that money comes back before more is reserved;
5. inserts what fits its caps, refuses the rest, and commits.

A commit whose answer was lost may have been made: every request can be written again. Openings are
refused while the database is away; what was paid for waits until it can be written.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg

from app.domain.attempts import AttemptOpening, AttemptOutcome, AttemptState, ShardRef
from app.domain.errors import FenceLost, StorageUnavailable, SwitchwiseError
from app.domain.scores import ScoreRecord
from app.ports import BudgetRefusal, Clock
from app.storage.engine import (
    ANSWER_WITHIN_S,
    LOCK_WITHIN_S,
    PASSING,
    STATEMENT_WITHIN_S,
    connected,
    hang_up,
    hanging_up,
    unavailable,
)
from app.storage.journal_rows import (
    KnownAttempt,
    attempts_of,
    fences_of,
    inserted_attempts,
    inserted_scores,
    read_attempts,
    read_fences,
    settled_attempts,
)
from app.storage.ledger import Account, Caps, CapsOf, Moves, lock_accounts, refusal
from app.storage.statements import (
    Cursor,
    Statement,
    cursor_of,
    execute_all,
    execute_apart,
    next_rows,
)

__all__ = ["Caps", "PostgresJournal"]

CLOSE_WITHIN_S = 3.0
_LAST_WORDS_S = 0.2
_RETRY_PAUSES_S = (0.1, 0.5, 1.0, 2.0)
_MOST_AT_ONCE = 500
_BEGIN = Statement(
    text=f"BEGIN; SET LOCAL statement_timeout = '{STATEMENT_WITHIN_S:.0f}s';"
    f" SET LOCAL lock_timeout = '{LOCK_WITHIN_S:.0f}s'"
)
_COMMIT = Statement(text="COMMIT")


@dataclass(slots=True, eq=False)
class _Open:
    item: AttemptOpening
    done: "asyncio.Future[BudgetRefusal | None]"

    @property
    def shard(self) -> ShardRef:
        return self.item.shard


@dataclass(slots=True, eq=False)
class _Settle:
    item: AttemptOutcome
    done: "asyncio.Future[None]"

    @property
    def shard(self) -> ShardRef:
        return self.item.shard


@dataclass(slots=True, eq=False)
class _Score:
    shard: ShardRef
    records: Sequence[ScoreRecord]
    done: "asyncio.Future[None]"


_Request = _Open | _Settle | _Score
_Answers = list[tuple[_Request, object]]


class PostgresJournal:
    """Journal and ledger over one connection, kept alive and reopened as needed.

    Args:
        dsn: The results database.
        clock: The injected clock.
        caps: Plan name -> its caps, for Runs that were begun before caps were stored with them.
        answer_within_s: Seconds to wait for the answer to one batch.
    """

    def __init__(
        self, dsn: str, *, clock: Clock, caps: CapsOf, answer_within_s: float = ANSWER_WITHIN_S
    ) -> None:
        self._dsn = dsn
        self._clock = clock
        self._caps = caps
        self._answer_within_s = answer_within_s
        self._waiting: list[_Request] = []
        self._flushing: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._is_closed = False

    async def open(self, opening: AttemptOpening) -> BudgetRefusal | None:
        """Reserve the money and commit the Attempt as sent, before it is sent."""
        done: asyncio.Future[BudgetRefusal | None] = asyncio.get_running_loop().create_future()
        self._ask(_Open(opening, done))
        return await done

    async def settle(self, outcome: AttemptOutcome) -> None:
        """Commit how the Attempt ended and exchange its reservation for its cost.

        It is written even when the caller is cancelled meanwhile.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_noticed)
        self._ask(_Settle(outcome, done))
        await asyncio.shield(done)

    async def score(self, shard: ShardRef, records: Sequence[ScoreRecord]) -> None:
        """Commit the scores of replies; equal keys are written once."""
        if not records:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_noticed)
        self._ask(_Score(shard, tuple(records), done))
        await asyncio.shield(done)

    async def close(self) -> None:
        """Write what waits, as far as that is possible within seconds, and end.

        Whoever still waits then learns that the storage is unavailable.
        """
        self._is_closed = True
        flushing = self._flushing
        if flushing is not None and not flushing.done():
            await asyncio.wait({flushing}, timeout=CLOSE_WITHIN_S)
            if self._connection is not None:
                hang_up(self._connection)
                await asyncio.wait({flushing}, timeout=_LAST_WORDS_S)
            flushing.cancel()
            with suppress(asyncio.CancelledError):
                await flushing
        self._refuse_waiting(StorageUnavailable("the journal was closed before this was written"))
        await self._drop_connection()

    # --- gathering ----------------------------------------------------------------------------

    def _ask(self, request: _Request) -> None:
        if self._is_closed:
            raise StorageUnavailable("the journal is closed")
        self._waiting.append(request)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush_all())

    async def _flush_all(self) -> None:
        failures = 0
        while self._waiting:
            await asyncio.sleep(0)  # let others ask, too
            batch = self._take(_MOST_AT_ONCE)
            try:
                await self._flush(batch)
                failures = 0
            except PASSING as error:
                self._put_back(batch, error)
                pause_s = _RETRY_PAUSES_S[min(failures, len(_RETRY_PAUSES_S) - 1)]
                failures += 1
                if self._waiting:
                    await self._clock.sleep(pause_s)
            except asyncio.CancelledError:
                self._waiting = [*batch, *self._waiting]
                raise
            except Exception:  # noqa: BLE001 - one row that cannot be written must not stop the others
                await self._flush_singly(batch)

    async def _flush_singly(self, batch: Sequence[_Request]) -> None:
        """One request spoils a batch: write each alone, so that only the bad one fails."""
        for number, request in enumerate(batch):
            try:
                await self._flush([request])
            except PASSING as trouble:
                self._put_back(batch[number:], trouble)
                return
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                _answer(request, _refused_row(error))

    def _take(self, most: int) -> list[_Request]:
        """What is to be written next; openings that nobody waits for any more are left out."""
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return [one for one in taken if not (isinstance(one, _Open) and one.done.done())]

    def _put_back(self, batch: Sequence[_Request], error: BaseException) -> None:
        """Tell those who may not send; keep what is paid for until it can be written."""
        for request in batch:
            if isinstance(request, _Open):
                _answer(request, unavailable(error))
        kept = [request for request in batch if not isinstance(request, _Open)]
        self._waiting = [*kept, *self._waiting]

    def _refuse_waiting(self, error: StorageUnavailable) -> None:
        refused, self._waiting = self._waiting, []
        for request in refused:
            _answer(request, error)

    # --- writing ------------------------------------------------------------------------------

    async def _flush(self, batch: Sequence[_Request]) -> None:
        """Write a batch in one transaction, then tell everyone."""
        if not batch:
            return
        try:
            connection = await self._connected()
            with hanging_up(connection, after_s=self._answer_within_s):
                async with cursor_of(connection) as cursor:
                    answers = await self._write(cursor, batch)
        except BaseException:
            await self._drop_connection()
            raise
        for request, answer in answers:
            _answer(request, answer)

    async def _write(self, cursor: Cursor, batch: Sequence[_Request]) -> _Answers:
        """Read and lock, write texts apart, then write the rest and commit."""
        await execute_all(
            cursor,
            [
                _BEGIN,
                fences_of({_shard_key(request) for request in batch}),
                attempts_of([one.item.attempt_id for one in batch if not isinstance(one, _Score)]),
            ],
        )
        fences, stored = read_fences(await next_rows(cursor))
        known = read_attempts(await next_rows(cursor))
        current: list[_Request] = []
        answers: _Answers = []
        for request in batch:
            if fences.get(_shard_key(request)) == request.shard.fence:
                current.append(request)
            else:
                answers.append((request, _lost(request.shard)))
        scores = [one for one in current if isinstance(one, _Score)]
        rows = [(one.shard, record) for one in scores for record in one.records]
        if rows:
            await execute_apart(cursor, inserted_scores(rows, self._clock.now()))
        answers += await self._write_attempts(cursor, current, known, stored)
        return [*answers, *((one, None) for one in scores)]

    async def _write_attempts(
        self,
        cursor: Cursor,
        current: Sequence[_Request],
        known: Mapping[str, KnownAttempt],
        stored: Mapping[str, Caps],
    ) -> _Answers:
        """Settle and open what may be, and commit."""
        opens = [one for one in current if isinstance(one, _Open)]
        settles = [one for one in current if isinstance(one, _Settle)]
        fresh = {one.item.attempt_id: one.item for one in opens if one.item.attempt_id not in known}
        ending = {
            one.item.attempt_id: one.item
            for one in settles
            if _is_sent(known.get(one.item.attempt_id))
        }
        caps = {**self._unstored(opens, known, stored), **stored}
        limits = {
            key: _limits(item.plan_name, item.shard.run_id, item.sent_at, caps)
            for key, item in fresh.items()
        }
        charged = {
            key: _limits(known[key].plan_name, known[key].run_id, known[key].sent_at, caps)
            for key in ending
        }
        zones = {run_id: one.zone for run_id, one in caps.items()}
        used = await lock_accounts(
            cursor,
            {
                **{a: zones[item.shard.run_id] for key, item in fresh.items() for a in limits[key]},
                **{a: zones[known[key].run_id] for key in ending for a in charged[key]},
            },
        )
        moves = Moves(used)
        for key, outcome in ending.items():
            if outcome.cost_usd is not None:
                freed_usd = known[key].reserved_usd
                moves.add(charged[key], reserved_usd=-freed_usd, spent_usd=outcome.cost_usd)
        accepted, broken = _reserve(fresh, limits, moves)
        if ending:
            await execute_apart(cursor, settled_attempts(list(ending.values())))
        inserted = [inserted_attempts(accepted)] if accepted else []
        await execute_all(cursor, [*inserted, *moves.written(), *(() if broken else (_COMMIT,))])
        refusals = {
            key: await refusal(cursor, account, cap_usd=cap_usd, at=fresh[key].sent_at)
            for key, (account, cap_usd) in broken.items()
        }
        if broken:
            await execute_all(cursor, [_COMMIT])
        return [
            *((one, _settled_answer(known.get(one.item.attempt_id), one)) for one in settles),
            *(
                (one, _opened_answer(known.get(one.item.attempt_id), one, refusals))
                for one in opens
            ),
        ]

    def _unstored(
        self,
        opens: Sequence[_Open],
        known: Mapping[str, KnownAttempt],
        stored: Mapping[str, Caps],
    ) -> dict[str, Caps]:
        """The caps of Runs that have none stored: those of their plans, as this process knows."""
        plans = {one.item.shard.run_id: one.item.plan_name for one in opens}
        plans |= {one.run_id: one.plan_name for one in known.values()}
        return {
            run_id: self._caps(plan_name)
            for run_id, plan_name in plans.items()
            if run_id not in stored
        }

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await connected(self._dsn)
            await self._connection.set_autocommit(True)  # BEGIN and COMMIT are ours
        return self._connection

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            hang_up(connection)
            with suppress(*PASSING):
                await connection.close()


# --- answers ----------------------------------------------------------------------------------


def _answer(request: _Request, answer: object) -> None:
    if request.done.done():
        return
    if isinstance(answer, BaseException):
        request.done.set_exception(answer)
    else:
        request.done.set_result(answer)  # type: ignore[arg-type]


def _noticed(done: "asyncio.Future[None]") -> None:
    """Look at the outcome, so that one whose caller was cancelled raises no complaint."""
    if not done.cancelled():
        done.exception()


def _lost(shard: ShardRef) -> FenceLost:
    return FenceLost(f"shard {shard.shard_no} of run {shard.run_id} has a newer owner")


def _refused_row(error: Exception) -> SwitchwiseError:
    """A row that the database will never take: not a matter of trying again."""
    refused = SwitchwiseError(f"a row of the journal cannot be written: {type(error).__name__}")
    refused.__cause__ = error
    return refused


def _settled_answer(known: KnownAttempt | None, request: _Settle) -> SwitchwiseError | None:
    """None when it is settled, now or before."""
    if known is None:
        return SwitchwiseError(f"attempt {request.item.attempt_id} was never opened")
    return _lost(request.shard) if known.state is AttemptState.AMBIGUOUS else None


def _opened_answer(
    known: KnownAttempt | None, request: _Open, refusals: Mapping[str, BudgetRefusal]
) -> SwitchwiseError | BudgetRefusal | None:
    """None when it may be sent: it is open, now or since a commit whose answer was lost."""
    if known is None:
        return refusals.get(request.item.attempt_id)
    if _is_sent(known):
        return None
    return SwitchwiseError(f"attempt {request.item.attempt_id} is {known.state} already")


def _is_sent(attempt: KnownAttempt | None) -> bool:
    return attempt is not None and attempt.state is AttemptState.SENT


def _shard_key(request: _Request) -> tuple[str, int]:
    return (request.shard.run_id, request.shard.shard_no)


def _limits(
    plan_name: str, run_id: str, at: datetime, caps: Mapping[str, Caps]
) -> dict[Account, Decimal | None]:
    """The accounts an Attempt is charged to, with their caps."""
    periods = caps[run_id].periods(run_id, at)
    return {(plan_name, period): cap_usd for period, cap_usd in periods.items()}


def _reserve(
    fresh: Mapping[str, AttemptOpening],
    limits: Mapping[str, Mapping[Account, Decimal | None]],
    moves: Moves,
) -> tuple[list[AttemptOpening], dict[str, tuple[Account, Decimal]]]:
    """Attempts that fit all their caps, in the order they asked, and the cap of each other one."""
    accepted: list[AttemptOpening] = []
    broken: dict[str, tuple[Account, Decimal]] = {}
    for key, item in fresh.items():
        caps = limits[key].items()
        over = [
            (account, cap_usd)
            for account, cap_usd in caps
            if cap_usd is not None and moves.used_usd[account] + item.reserved_usd > cap_usd
        ]
        if over:
            broken[key] = over[0]
            continue
        moves.add(limits[key], reserved_usd=item.reserved_usd, spent_usd=Decimal(0))
        accepted.append(item)
    return accepted, broken
