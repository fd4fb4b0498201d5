"""The queue: shards as jobs on the results database.

The queue only says who works next. What was done is told by our own rows: a job that is run twice,
or too late, finds its shard done or its Fence gone.
"""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import procrastinate
import psycopg
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from procrastinate.worker import Worker
from psycopg.pq import TransactionStatus

from app.domain.errors import SchemaMismatch, StorageUnavailable
from app.workers.owners import is_gone
from app.workers.shares import Place

SCHEMA = "switchwise_queue"
HEARTBEAT_S = 5.0
STALLED_S = 15.0
GRACE_S = 15.0
_TASK = "work_shard"
_FETCH_S = 2.0
_FETCHER = "fetcher "
"""Before the queue's own number of a worker: the place that tells whose process that is."""
_CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": f"-c search_path={SCHEMA} -c statement_timeout=12s",
}
#: The server ends a statement before; a server that is frozen ends nothing.
_ANSWER_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to be worked, for the process that holds its Run."""

    run_id: str
    shard_no: int
    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledJob:
    """A job whose worker died at it."""

    job: Job

    @property
    def run_id(self) -> str:
        """The Run of its shard."""
        return str(self.job.task_kwargs["run_id"])

    @property
    def shard_no(self) -> int:
        """The number of its shard."""
        return int(str(self.job.task_kwargs["shard_no"]))


class TryAgain(Exception):
    """The job is to be run again after so many seconds."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        super().__init__(f"again in {after_s:.0f} s")


class _WhenAsked(BaseRetryStrategy):
    """Runs a job again when its work said so, after those that waited longer.

    A task without a strategy is never run again, whatever it raises.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if not isinstance(exception, TryAgain):
            return None
        return RetryDecision(
            retry_in={"seconds": max(0, round(exception.after_s))}, priority=job.priority - 1
        )


Work = Callable[[ShardJob], Awaitable[None]]
MayWork = Callable[[str], bool]


class _OpenQueues(JobManager):
    """Fetches jobs only of queues that may be worked now, asked anew each time.

    Attributes:
        announce: Called before the first job is fetched under a number.
    """

    may_work: MayWork = staticmethod(lambda _queue: True)
    announce: Callable[[int], Awaitable[None]]
    _announced: int | None = None

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        wanted = [queue for queue in queues or () if self.may_work(queue)]
        if not wanted:
            return None
        if worker_id != self._announced:
            await self.announce(worker_id)
            self._announced = worker_id
        return await super().fetch_job(wanted, worker_id)


class ShardQueue:
    """Shards as jobs; a job runs in one worker at a time, and again when that worker died.

    Args:
        dsn: The results database, without a pooler that shares sessions.
        worker: The name under which this process is known to other workers.
    """

    def __init__(self, dsn: str, *, worker: str = "") -> None:
        self._name = worker or uuid.uuid4().hex
        self._connector = procrastinate.PsycopgConnector(
            conninfo=dsn.replace("postgresql+psycopg://", "postgresql://", 1),
            kwargs=_CONNECT,
            connection_class=_ImpatientConnection,
            min_size=1,
            max_size=4,
            timeout=10.0,
            reconnect_timeout=5.0,  # then whoever asks next begins anew: pauses stay short
        )
        self._app = procrastinate.App(connector=self._connector)
        self._jobs = self._app.job_manager = _OpenQueues(self._connector)
        self._jobs.announce = self._announce
        self._work: Work | None = None
        self._task = self._app.task(name=_TASK, retry=_WhenAsked())(self._run)
        self._worker: Worker | None = None
        self._failed_at: float | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            StorageUnavailable: If the database cannot be reached.
            SchemaMismatch: If it holds no queue.
        """
        try:
            await self._app.open_async()
            found = await self._rows("SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS has")
        except (ConnectorException, psycopg.Error) as error:
            raise StorageUnavailable("the queue cannot be reached") from error
        if not found[0]["has"]:
            await self.close()
            raise SchemaMismatch("the database holds no queue: run switchwise db upgrade")

    async def close(self) -> None:
        """Give back all connections."""
        await self._app.close_async()

    # --- handing out ------------------------------------------------------------------------------

    async def put(self, queue: str, jobs: Sequence[ShardJob]) -> None:
        """Add jobs; one that waits already is not added again."""
        for job in jobs:
            deferrer = self._task.configure(
                queue=queue, queueing_lock=f"{job.run_id}/{job.shard_no}"
            )
            with suppress(AlreadyEnqueued), _in_our_words():
                await deferrer.defer_async(
                    run_id=job.run_id, shard_no=job.shard_no, holder=job.holder
                )

    async def states(self, queue: str, run_id: str) -> Mapping[int, str]:
        """The state of the latest job of each shard: todo, doing, failed or succeeded."""
        rows = await self._rows(
            "SELECT DISTINCT ON ((args->>'shard_no')::int) (args->>'shard_no')::int AS shard_no,"
            " status::text AS status FROM procrastinate_jobs"
            " WHERE queue_name = %(queue)s AND args->>'run_id' = %(run_id)s"
            " ORDER BY (args->>'shard_no')::int, id DESC",
            queue=queue,
            run_id=run_id,
        )
        return {int(row["shard_no"]): str(row["status"]) for row in rows}

    async def withdraw(self, queue: str, run_id: str) -> None:
        """Remove all jobs of the Run that no worker is at."""
        await self._rows(
            "DELETE FROM procrastinate_jobs WHERE queue_name = %(queue)s"
            " AND args->>'run_id' = %(run_id)s AND status <> 'doing' RETURNING id",
            queue=queue,
            run_id=run_id,
        )

    async def stalled(self, queue: str) -> Sequence[StalledJob]:
        """Jobs of workers that died; nobody runs them until they are given back.

        A worker is dead when it was silent for long, or when its process is certainly gone. After
        a time in which nobody reached the database silence says nothing: those at work get as long
        to store what they hold.
        """
        rows = await self._rows(_FETCHERS, prefix=_FETCHER)
        gone = [int(row["what"][len(_FETCHER) :]) for row in rows if is_gone(row["worker"])]
        found: list[Job] = []
        with _in_our_words():
            if self._has_been_well_for(STALLED_S):
                found += await self._jobs.get_stalled_jobs(
                    queue=queue, seconds_since_heartbeat=STALLED_S
                )
            for worker_id in gone:
                found += await self._jobs.list_jobs_async(
                    queue=queue, status="doing", worker_id=worker_id
                )
        return [StalledJob(job=job) for job in {job.id: job for job in found}.values()]

    async def give_back(self, stalled: StalledJob) -> None:
        """Let others run the job of a dead worker."""
        with _in_our_words():
            await self._app.job_manager.retry_job(stalled.job)

    # --- working ----------------------------------------------------------------------------------

    async def run_worker(
        self,
        queues: Sequence[str],
        work: Work,
        *,
        at_once: int,
        may_work: MayWork = lambda _queue: True,
    ) -> None:
        """Run jobs of these queues until `stop_worker`; raises when the database went away.

        Args:
            queues: Names of queues.
            work: Does a job.
            at_once: Jobs done at the same time.
            may_work: Asked before every job: whether one of this queue may be begun.
        """
        self._work = work
        self._jobs.may_work = may_work
        self._worker = Worker(
            self._app,
            queues=queues,
            name="shards",
            concurrency=at_once,
            fetch_job_polling_interval=_FETCH_S,
            shutdown_graceful_timeout=GRACE_S,
            delete_jobs="successful",
            install_signal_handlers=False,
            update_heartbeat_interval=HEARTBEAT_S,
            stalled_worker_timeout=STALLED_S,
        )
        with _in_our_words():
            await self._worker.run()  # type: ignore[no-untyped-call]

    def stop_worker(self) -> None:
        """Take no further job; those at work have seconds to end."""
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]

    async def places(self, names: Iterable[str]) -> Mapping[str, Place]:
        """Say that we live, and learn our place among the live workers of each name."""
        wanted = sorted(names)
        await self._say_we_live([*wanted, *self._fetcher()])
        rows = await self._rows(_LIVING, names=wanted, stalled_s=STALLED_S)
        living = {
            str(row["what"]): [worker for worker in row["workers"] if not is_gone(worker)]
            for row in rows
        }
        return {
            name: Place(place=workers.index(self._name), workers=len(workers))
            for name, workers in living.items()
            if self._name in workers
        }

    async def leave(self) -> None:
        """Let the others have our places, and forget workers that were not seen for long."""
        await self._rows(_LEAVE, worker=self._name)

    def _fetcher(self) -> Iterator[str]:
        """Under which name jobs are fetched here, once they are."""
        if self._worker is not None and self._worker.worker_id is not None:
            yield f"{_FETCHER}{self._worker.worker_id}"

    async def _announce(self, worker_id: int) -> None:
        """Tell whose process it is that fetches under this number."""
        await self._say_we_live([f"{_FETCHER}{worker_id}"])

    async def _say_we_live(self, names: Sequence[str]) -> None:
        await self._rows(_SAY_WE_LIVE, worker=self._name, names=names, heartbeat_s=HEARTBEAT_S)

    async def _run(self, run_id: str, shard_no: int, holder: str) -> None:
        if self._work is None:
            raise TryAgain(1.0)
        await self._work(ShardJob(run_id=run_id, shard_no=shard_no, holder=holder))

    async def _rows(self, statement: str, **values: object) -> list[dict[str, Any]]:
        try:
            with _in_our_words():
                rows = list(await self._connector.execute_query_all_async(statement, **values))
        except StorageUnavailable:
            self._failed_at = time.monotonic()
            raise
        return rows

    def _has_been_well_for(self, seconds: float) -> bool:
        """Whether every statement of the last so many seconds was answered."""
        return self._failed_at is None or time.monotonic() - self._failed_at >= seconds


_SAY_WE_LIVE = """
    INSERT INTO switchwise.worker_places AS p (worker, what, joined_at, seen_at)
    SELECT %(worker)s, what, clock_timestamp(), clock_timestamp()
    FROM unnest(%(names)s::text[]) AS what
    ON CONFLICT (what, worker) DO UPDATE SET seen_at = excluded.seen_at
      WHERE abs(extract(epoch FROM excluded.seen_at - p.seen_at)) > %(heartbeat_s)s
    RETURNING p.what
"""
_LIVING = """
    SELECT what, array_agg(worker ORDER BY joined_at, worker) AS workers
    FROM switchwise.worker_places
    WHERE what = ANY(%(names)s::text[])
      AND abs(extract(epoch FROM clock_timestamp() - seen_at)) < %(stalled_s)s
    GROUP BY what
"""
_FETCHERS = """
    SELECT what, worker FROM switchwise.worker_places WHERE starts_with(what, %(prefix)s)
"""
_LEAVE = """
    DELETE FROM switchwise.worker_places
    WHERE worker = %(worker)s OR seen_at < clock_timestamp() - interval '1 day'
    RETURNING what
"""


class _ImpatientConnection(psycopg.AsyncConnection[Any]):
    """Hangs up when the server owes an answer for too long; asking it to cancel would wait, too.

    Who listens for notifications is owed none, and waits as long as it takes.
    """

    async def wait(self, *args: Any, **how: Any) -> Any:
        """Every wait for the server, of whatever statement."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_ANSWER_WITHIN_S, self._hang_up_if_owed)
        try:
            return await super().wait(*args, **how)
        finally:
            timer.cancel()

    def _hang_up_if_owed(self) -> None:
        with suppress(psycopg.Error, OSError):
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                with socket.socket(fileno=os.dup(self.pgconn.socket)) as line:
                    line.shutdown(socket.SHUT_RDWR)


class _in_our_words:  # noqa: N801 - reads as a statement
    """Turn trouble with the database into StorageUnavailable."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, AlreadyEnqueued):
            return
        if isinstance(error, (ConnectorException, psycopg.OperationalError, OSError)):
            raise StorageUnavailable("the queue cannot be reached") from error
