"""Slots: how many calls of one endpoint are in flight, adapted to what the endpoint bears."""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import count

from app.domain.models import Endpoint

#: Turn, number and what is set when the slot is given.
_Place = tuple["Turn", int, asyncio.Future[None]]

_WATCHED = 20
_THROTTLED_SHARE = 0.25
_DECREASE = 0.7


class NoSlots(Exception):
    """The pool has no slot left for anybody: others have them all."""


class Turn(IntEnum):
    """Who goes first among those who wait: whoever has the longest way to go.

    A reply is judged after it arrived, so that a Run whose last replies come late ends late, with
    most slots empty. Judge calls wait for nothing but a slot: they fill the end.
    """

    AT_ONCE = 0
    REPLY = 1
    JUDGEMENT = 2


class Slots:
    """A pool of slots whose size falls under throttling and recovers.

    Of those who wait the earlier `Turn` goes first, and among equals who came first.

    A few refusals are ordinary and change nothing. When more than a quarter of the last twenty
    answers were throttled the size falls by 30 %, at most once per twenty answers; every full
    round of accepted calls gives one slot back, up to the configured size.

    Args:
        size: The configured concurrency, at least 1; 0 holds all calls back until `limit`, which
            lets them go or turns them away.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError("a pool cannot have less than no slot")
        self._most = size
        self._size = float(size)
        self._in_flight = 0
        self._waiting: list[_Place] = []
        self._numbers = count()
        self._throttled: deque[bool] = deque(maxlen=_WATCHED)

    @property
    def size(self) -> int:
        """Calls that may be in flight now."""
        return max(1, int(self._size)) if self._most else 0

    @property
    def in_flight(self) -> int:
        """Calls that hold a slot."""
        return self._in_flight

    @asynccontextmanager
    async def slot(self, turn: Turn = Turn.REPLY) -> AsyncIterator[None]:
        """Hold one slot for the body of the `async with`."""
        await self.acquire(turn)
        try:
            yield
        finally:
            self.release()

    async def acquire(self, turn: Turn = Turn.REPLY) -> None:
        """Wait for a slot and take it.

        Raises:
            NoSlots: If the pool was limited to none.
        """
        if self._in_flight < self.size and not self._waiting:
            self._in_flight += 1
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (turn, next(self._numbers), given))
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled() and given.exception() is None:
                self.release()
            else:
                given.cancel()  # passed over when its turn comes
            raise

    def release(self) -> None:
        """Give the slot back and let the next in line go."""
        self._in_flight -= 1
        self._admit()

    def retake(self) -> None:
        """Take a slot without waiting, even one too many: it is given back at once."""
        self._in_flight += 1

    def limit(self, most: int) -> None:
        """Have so many slots from now on, less what throttling took away; at 0 nobody waits."""
        if most == 0:
            self._turn_away()
        if most == self._most:
            return
        kept = self._size / self._most if self._most else 1.0
        self._most, self._size = most, most * kept
        self._admit()

    def observe(self, *, throttled: bool) -> None:
        """Learn from one answer of the endpoint."""
        self._throttled.append(throttled)
        if throttled:
            self._shrink()
        elif self._size < self._most:
            self._size = min(self._most, self._size + 1 / max(self._size, 1))
            self._admit()

    def _shrink(self) -> None:
        if len(self._throttled) == _WATCHED and sum(self._throttled) > _THROTTLED_SHARE * _WATCHED:
            self._size = max(1.0, self._size * _DECREASE)
            self._throttled.clear()

    def _turn_away(self) -> None:
        while self._waiting:
            *_, given = heapq.heappop(self._waiting)
            if not given.done():
                given.set_exception(NoSlots())

    def _admit(self) -> None:
        while self._waiting and self._in_flight < self.size:
            *_, given = heapq.heappop(self._waiting)
            if not given.done():
                self._in_flight += 1
                given.set_result(None)


class SlotPools:
    """The pools of all endpoints that one process calls, on behalf of any Run.

    Args:
        limit_of: How many calls of an endpoint may be in flight here.
    """

    def __init__(self, limit_of: Callable[[Endpoint], int] | None = None) -> None:
        self._limit_of = limit_of or (lambda endpoint: endpoint.concurrency)
        self._pools: dict[str, tuple[Endpoint, Slots]] = {}

    def pool(self, key: str, endpoint: Endpoint) -> Slots:
        """The pool of an endpoint; the least concurrency that is told of this key counts."""
        if key not in self._pools:
            self._pools[key] = (endpoint, Slots(self._limit_of(endpoint)))
        known, slots = self._pools[key]
        if endpoint.concurrency < known.concurrency:
            self._pools[key] = (endpoint, slots)
            slots.limit(self._limit_of(endpoint))
        return slots

    def adjust(self) -> None:
        """Follow limits that have changed."""
        for endpoint, slots in self._pools.values():
            slots.limit(self._limit_of(endpoint))
