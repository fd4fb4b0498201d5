"""Handing out: the holder of a Run has its shards worked by whoever is free."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.domain.errors import ShardDeferred, StorageUnavailable
from app.domain.runs import Run, Shard
from app.pipeline import work_shard
from app.run_tools import Progress, RunTools
from app.workers.queue import ShardJob, ShardQueue

_LOOK_S = 0.5
_RESCUE_EVERY = 10
_MOST_LOOKS_FOR_OTHERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOut:
    """Puts shards in the queue, and returns when all of them are done.

    A shard that a worker could not do is done here, so that the reason becomes the Run's.
    """

    queue: ShardQueue
    name: str

    async def __call__(self, run: Run, shards: Sequence[Shard], tools: RunTools) -> None:
        """Have the shards worked.

        Raises:
            BudgetExhausted, GatewayRefused, RunInterrupted: If the Run cannot go on.
        """
        wanted = {shard.shard_no for shard in shards}
        await self.queue.withdraw(self.name, run.run_id)
        looks = 0
        while True:
            try:
                if await self._look(run, wanted, tools, is_rescue=looks % _RESCUE_EVERY == 0):
                    return
            except StorageUnavailable:
                pass  # a look can be taken again
            looks += 1
            await tools.caller.pause(_LOOK_S)

    async def _look(self, run: Run, wanted: set[int], tools: RunTools, *, is_rescue: bool) -> bool:
        """Put what nobody has in the queue; True when everything is done."""
        shards = [s for s in await tools.runs.shards(run.run_id) if s.shard_no in wanted]
        still_open = [shard for shard in shards if not shard.is_done]
        _tell(shards, tools)
        if not still_open:
            return True
        states = await self.queue.states(self.name, run.run_id)
        failed = [shard for shard in still_open if states.get(shard.shard_no) == "failed"]
        if failed:
            await self._find_out(run, failed[0], tools)
            return False
        await self.queue.put(
            self.name,
            [
                ShardJob(run_id=run.run_id, shard_no=shard.shard_no, holder=tools.owner)
                for shard in still_open
                if states.get(shard.shard_no) not in {"todo", "doing"}
            ],
        )
        if is_rescue:
            await self._rescue(run, tools)
        return False

    async def _rescue(self, run: Run, tools: RunTools) -> None:
        """Have others do the jobs of the dead.

        Their shards are claimed before: what was in flight is ambiguous from then on, and nobody
        waits for its money.
        """
        for stalled in await self.queue.stalled(self.name):
            if stalled.run_id == run.run_id:
                await tools.runs.claim(
                    run.run_id,
                    stalled.shard_no,
                    owner=tools.owner,
                    at=tools.clock.now(),
                    holder=tools.holder or tools.owner,
                )
            await self.queue.give_back(stalled)

    async def _find_out(self, run: Run, shard: Shard, tools: RunTools) -> None:
        """Do the shard here, once others have ended theirs: either it succeeds or says why not."""
        for _ in range(_MOST_LOOKS_FOR_OTHERS):
            await self._rescue(run, tools)  # nobody ends the jobs of the dead
            await self.queue.withdraw(self.name, run.run_id)
            if "doing" not in (await self.queue.states(self.name, run.run_id)).values():
                break
            await tools.caller.pause(_LOOK_S)
        with suppress(ShardDeferred):  # not now: the next look puts it in the queue again
            await work_shard(run, shard, tools)


def _tell(shards: Sequence[Shard], tools: RunTools) -> None:
    tools.on_progress(
        Progress(
            cases_done=sum(len(shard.case_ids) for shard in shards if shard.is_done),
            cases_total=sum(len(shard.case_ids) for shard in shards),
        )
    )
