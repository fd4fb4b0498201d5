"""A worker: works shards of any Run of the plans it knows, whoever holds the Run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import structlog
from structlog.contextvars import bound_contextvars

from app.domain.errors import (
    FenceLost,
    RunInterrupted,
    ShardDeferred,
    StorageUnavailable,
    SwitchwiseError,
)
from app.domain.plans import Plan
from app.domain.runs import Run, RunStatus
from app.pipeline import work_shard
from app.ports import Clock, RunStore
from app.run_tools import RunTools
from app.workers.queue import ShardJob, ShardQueue, TryAgain
from app.workers.shares import Shares

_SHARE_S = 1.0
_JOINING_S = 3.0
_STORAGE_PAUSE_S = 2.0

_log = structlog.get_logger(__name__)
ToolsFor = Callable[[Run, Plan, asyncio.Event], AbstractAsyncContextManager[RunTools]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTools:
    """What a worker works with.

    Attributes:
        plans: Queue name -> the plan whose shards wait there.
        tools_for: Opens what a Run is worked with; the event stops its calls.
        on_share: Told when the share of this process may have changed.
        at_once: Shards worked at the same time.
    """

    queue: ShardQueue
    runs: RunStore
    clock: Clock
    plans: Mapping[str, Plan]
    tools_for: ToolsFor
    shares: Shares
    on_share: Callable[[], None]
    at_once: int


@dataclass(slots=True)
class _Open:
    """The tools of one Run, while shards of it are worked here."""

    tools: RunTools
    stack: AsyncExitStack
    jobs: int = 0


@dataclass(slots=True)
class ShardWorker:
    """Takes shards from the queue until it is told to stop."""

    tools: WorkerTools
    _open: dict[str, _Open] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _halt: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until stopped; calls in flight settle, the rest goes back to the queue."""
        sharing = asyncio.create_task(self._share())
        stopping = asyncio.create_task(self._stop_when(stop))
        try:
            while not stop.is_set():
                await self._work_until_trouble()
                if not stop.is_set():
                    await self.tools.clock.sleep(_STORAGE_PAUSE_S)
        finally:
            sharing.cancel()
            stopping.cancel()
            await self._close_all()
            with suppress(StorageUnavailable):
                await self.tools.queue.leave()

    async def _work_until_trouble(self) -> None:
        try:
            await self.tools.queue.run_worker(
                list(self.tools.plans),
                self._work,
                at_once=self.tools.at_once,
                may_work=self.tools.shares.may_work,
            )
        except StorageUnavailable as error:
            _log.warning("the queue is away", reason=str(error))

    async def _stop_when(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._halt.set()
        self.tools.queue.stop_worker()

    async def _share(self) -> None:
        """Keep to our share of every endpoint, which others' coming and going changes.

        Beside others a newcomer waits until they have made room. Shards of a plan are fetched only
        while each of its endpoints has a slot for us.
        """
        began = self.tools.clock.monotonic()
        while True:
            with suppress(StorageUnavailable):
                places = await self.tools.queue.places(self.tools.shares.names)
                is_alone = all(place.workers == 1 for place in places.values())
                if is_alone or self.tools.clock.monotonic() - began >= _JOINING_S:
                    self.tools.shares.settle(places)
                    self.tools.on_share()
            await self.tools.clock.sleep(_SHARE_S)

    # --- one shard --------------------------------------------------------------------------------

    async def _work(self, job: ShardJob) -> None:
        try:
            await self._work_shard(job)
        except ShardDeferred as deferral:
            wait = deferral.until - self.tools.clock.now()
            raise TryAgain(wait.total_seconds()) from deferral
        except RunInterrupted as error:
            raise TryAgain(0.0) from error
        except StorageUnavailable as error:
            raise TryAgain(_STORAGE_PAUSE_S) from error

    async def _work_shard(self, job: ShardJob) -> None:
        run = await self.tools.runs.run(job.run_id)
        if run is None or run.status is not RunStatus.RUNNING:
            return
        shards = await self.tools.runs.shards(job.run_id)
        shard = next((one for one in shards if one.shard_no == job.shard_no), None)
        if shard is None or shard.is_done:
            return
        with bound_contextvars(plan=run.plan_name, run_id=run.run_id, shard_no=shard.shard_no):
            try:
                async with self._tools_of(run) as tools:
                    await work_shard(run, shard, replace(tools, holder=job.holder))
            except (ShardDeferred, RunInterrupted, StorageUnavailable):
                raise
            except FenceLost as error:
                _log.info("shard is in other hands", reason=str(error))
            except SwitchwiseError as error:
                _log.warning("shard not done", reason=str(error))
                raise

    @asynccontextmanager
    async def _tools_of(self, run: Run) -> AsyncIterator[RunTools]:
        """The Run's tools, shared by its shards here; those of earlier Runs are closed."""
        async with self._opening:
            if run.run_id not in self._open:
                await self._close_idle()
                self._open[run.run_id] = await self._opened(run)
            found = self._open[run.run_id]
            found.jobs += 1
        try:
            yield found.tools
        finally:
            found.jobs -= 1

    async def _opened(self, run: Run) -> _Open:
        plan = next(plan for plan in self.tools.plans.values() if plan.name == run.plan_name)
        stack = AsyncExitStack()
        tools = await stack.enter_async_context(self.tools.tools_for(run, plan, self._halt))
        return _Open(tools, stack)

    async def _close_idle(self) -> None:
        for run_id, found in list(self._open.items()):
            if found.jobs == 0:
                del self._open[run_id]
                await found.stack.aclose()

    async def _close_all(self) -> None:
        for found in self._open.values():
            await found.stack.aclose()
        self._open.clear()
