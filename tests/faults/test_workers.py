"""Several workers on one queue: one killed, one frozen, the database away, one cap for all."""

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.sandbox.world import Fault, FaultKind
from app.sandbox.worlds import LARGE, PRIME
from app.storage.migrations import upgrade
from app.storage.postgres_server import PostgresServer
from tests.faults.ledgers import paid, used
from tests.faults.processes import Forked
from tests.faults.rig import CONCURRENCY, Rig, note, rig, weekly

SUNDAY = datetime(2026, 3, 1, 6, 1, tzinfo=UTC)


@pytest.mark.slow
def test_a_killed_workers_shards_are_taken_over_and_the_endpoint_never_sees_more_calls_than_allowed(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=40, ttft_ms=250.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY)
        service, worker = made.serve(), made.worker()
        made.until(lambda: len(owners(made)) == 2, what="both work")
        worker.kill()
        took_s = made.until(lambda: not held_by(made, worker), within_s=30, what="a takeover")
        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        stop(made, service)
        assert made.peak_in_flight() <= CONCURRENCY
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.paid_twice() == 0
        assert len(made.messages()) == 1
        note("2 workers, one killed", takeover_s=round(took_s, 1), repeated=made.repeated_calls())


@pytest.mark.slow
def test_a_killed_service_leaves_its_run_to_another_and_workers_go_on(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=60, ttft_ms=250.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY)
        services = [made.serve(), made.serve()]
        workers = [made.worker(), made.worker()]
        made.until(lambda: len(owners(made)) >= 3, what="several work")
        holder = made.value("SELECT owner FROM switchwise.runs")
        holding = next(one for one in services if f"/{one.pid}." in holder)
        holding.kill()
        made.until(lambda: made.statuses() == {"done": 1}, within_s=120, what="the run is done")
        for process in (*services, *workers):
            if process is not holding:
                stop(made, process)
        assert made.peak_in_flight() <= CONCURRENCY
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert len(made.messages()) == 1


@pytest.mark.parametrize(
    "outage_s",
    [pytest.param(5.0, marks=pytest.mark.slow), pytest.param(60.0, marks=pytest.mark.slow)],
)
def test_a_database_that_is_away_stops_calls_and_the_service_goes_on_unaided(
    outage_s: float, tmp_path: Path, own_postgres: Callable[[], PostgresServer]
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    with rig(tmp_path, server.dsn, n=40, ttft_ms=250.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY)
        service, worker = made.serve(), made.worker()
        made.until(lambda: len(owners(made)) == 2, what="both work")
        server.stop("immediate")
        stopped_at = time.time()
        time.sleep(outage_s)
        started_at = time.time()
        server.start()
        made.until(lambda: made.statuses() == {"done": 1}, within_s=180, what="the run is done")
        stop(made, service)
        stop(made, worker)
        meanwhile = [call for call in made.calls() if stopped_at < call["received_at"] < started_at]
        assert len(meanwhile) <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.repeated_calls() <= CONCURRENCY
        assert len(made.messages()) == 1
        note(f"9 Postgres stopped for {outage_s:.0f} s", calls_meanwhile=len(meanwhile),
             repeated=made.repeated_calls())  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_two_workers_and_five_restarts_keep_to_one_cap(
    seed: int, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=100, ttft_ms=80.0, logs_end_at=SUNDAY) as made:
        made.change_world(lambda world: replace(world, seed=seed))
        weekly(made, SUNDAY)
        made.plan["budget"] = {"per_run_usd": 1.0}
        for model in (PRIME, LARGE):
            made.change_model(
                model, tokens=4000, faults=(Fault(kind=FaultKind.TRUNCATION, rate=0.3),)
            )
        service, worker = made.serve(), made.worker()
        for kills in range(5):
            made.until_more(4, within_s=90)
            assert used(made) <= 1
            if kills % 2:
                worker.kill()
                worker = made.worker()
            else:
                service.kill()
                service = made.serve()
        took_s = made.until(
            lambda: made.statuses() == {"partial": 1}, within_s=120, what="the cap is met"
        )
        stop(made, service)
        stop(made, worker)
        assert used(made) <= 1
        assert paid(made) <= 1
        assert len(made.messages()) == 1
        note(
            "28 cap $1",
            seed=seed,
            charged=used(made),
            billed=round(paid(made), 4),
            ended_after_s=round(took_s, 1),
        )


@pytest.mark.slow
def test_a_frozen_backend_makes_the_service_unwell_within_half_a_minute(
    tmp_path: Path, own_postgres: Callable[[], PostgresServer]
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    with rig(tmp_path, server.dsn, n=10, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY)
        service = made.serve()
        made.until(lambda: health(made) == 200, what="the service is well")
        assert server.pid is not None
        frozen = processes_of(server.pid)
        for pid in frozen:
            _signal(pid, signal.SIGSTOP)
        try:
            took_s = made.until(lambda: health(made) == 503, within_s=40, what="it says so")
        finally:
            for pid in frozen:
                _signal(pid, signal.SIGCONT)
        made.until(lambda: health(made) == 200, within_s=60, what="it is well again")
        stop(made, service)
        assert took_s <= 30
        note("10 frozen Postgres", unhealthy_after_s=round(took_s, 1))


def owners(made: Rig) -> set[str]:
    """Who has worked a shard so far."""
    return {row["owner"] for row in made.query("SELECT DISTINCT owner FROM switchwise.shards")} - {
        None
    }


def held_by(made: Rig, process: Forked) -> int:
    """How many shards that are not done the process claimed last."""
    return int(
        made.value(
            "SELECT count(*) FROM switchwise.shards WHERE NOT is_done AND owner LIKE %s",
            f"%/{process.pid}.%",
        )
    )


def stop(made: Rig, process: Forked) -> None:
    process.signal(signal.SIGTERM)
    assert made.finish(process, within_s=25) == 0, made.errors_of(process)


def health(made: Rig) -> int:
    url = f"http://{made.plan['server']['bind']}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            json.load(answer)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def processes_of(postmaster: int) -> list[int]:
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
    return [postmaster, *(int(pid) for pid in children.split())]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
