"""Shards: how the Cases of a block are cut into pieces of work and worked in one process."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from app.domain.cases import Case
from app.domain.errors import ShardDeferred, StorageUnavailable
from app.domain.runs import Shard
from app.ports import Clock

CASES_PER_SHARD = 5
CALLS_PER_SLOT = 6
#: Fewer beside other workers: what one has begun, another that has nothing left cannot do.
CALLS_PER_SLOT_SHARED = 4
_STORAGE_PAUSE_S = 2.0


def cut_shards(
    run_id: str, cases: Sequence[Case], *, block: int, models: Sequence[str], first_no: int
) -> tuple[Shard, ...]:
    """Cut Cases into shards of a few; all models of a Case stay in one shard."""
    pieces = [cases[at : at + CASES_PER_SHARD] for at in range(0, len(cases), CASES_PER_SHARD)]
    return tuple(
        Shard(
            run_id=run_id,
            shard_no=first_no + number,
            block=block,
            models=tuple(models),
            case_ids=tuple(case.case_id for case in piece),
        )
        for number, piece in enumerate(pieces)
    )


def shards_at_once(shards: Sequence[Shard], slots: int) -> int:
    """How many of these shards must be open for every slot to find a call, and no more."""
    calls = max((len(shard.case_ids) * len(shard.models) for shard in shards), default=1)
    return shards_for(slots, calls)


def shards_for(slots: int, calls: int, *, per_slot: int = CALLS_PER_SLOT) -> int:
    """How many shards of so many replayed calls must be open to keep every slot busy.

    A shard ends with its slowest judgement, and until the next one opens the others must have
    enough left to do. Everything beyond only holds replies in memory.
    """
    return max(2, -(-per_slot * slots // max(1, calls)))


async def work_in_process(
    shards: Sequence[Shard],
    work: Callable[[Shard], Awaitable[None]],
    *,
    at_once: int,
    pause: Callable[[float], Awaitable[None]],
    clock: Clock,
) -> None:
    """Work all shards, a few at once; a deferred shard comes back when it is due.

    Args:
        shards: What is to be worked.
        work: Works one of them.
        at_once: How many at once.
        pause: Waits so many seconds, and raises when the Run was asked to stop.
        clock: The injected clock.

    A shard that the database failed comes back soon: what it settled is not done again.

    After the first error no further shard is begun; those begun are brought to their end, so that
    no call in flight is abandoned, and then the error is raised.
    """
    line = _Line(shards, clock, pause)
    workers = [asyncio.ensure_future(_work_line(line, work)) for _ in range(at_once)]
    ended = await asyncio.gather(*workers, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException):
            raise outcome


class _Line:
    """Shards in the order in which they are due, by a clock that never jumps."""

    def __init__(
        self, shards: Sequence[Shard], clock: Clock, pause: Callable[[float], Awaitable[None]]
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._due: list[tuple[float, int, Shard]] = [
            (clock.monotonic(), number, shard) for number, shard in enumerate(shards)
        ]
        heapq.heapify(self._due)
        self.is_broken = False

    async def take(self) -> Shard | None:
        while self._due and not self.is_broken:
            due, number, shard = heapq.heappop(self._due)
            wait_s = due - self._clock.monotonic()
            if wait_s <= 0:
                return shard
            heapq.heappush(self._due, (due, number, shard))
            await self._pause(min(wait_s, 1.0))
        return None

    def put_back(self, shard: Shard, *, after_s: float) -> None:
        due = self._clock.monotonic() + after_s
        heapq.heappush(self._due, (due, shard.shard_no, shard))

    def put_back_until(self, shard: Shard, until: datetime) -> None:
        self.put_back(shard, after_s=(until - self._clock.now()).total_seconds())


async def _work_line(line: _Line, work: Callable[[Shard], Awaitable[None]]) -> None:
    while (shard := await line.take()) is not None:
        try:
            await work(shard)
        except ShardDeferred as deferral:
            line.put_back_until(shard, deferral.until)
        except StorageUnavailable:
            line.put_back(shard, after_s=_STORAGE_PAUSE_S)
        except BaseException:
            line.is_broken = True
            raise
