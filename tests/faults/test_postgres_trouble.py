"""A Postgres that is stopped, killed or cut off in the middle of a Run."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.storage.migrations import upgrade
from app.storage.postgres_server import PostgresServer
from tests.faults.rig import CONCURRENCY, rig


@pytest.mark.parametrize("outage_s", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_while_results_cannot_be_stored_no_new_call_is_made_and_the_run_goes_on_unaided(
    outage_s: float, tmp_path: Path, own_postgres: Callable[[], PostgresServer]
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    with rig(tmp_path, server.dsn, n=30, ttft_ms=150.0) as made:
        process = made.run()
        made.until_received(30, process)
        server.stop("immediate")
        stopped_at = time.time()
        time.sleep(outage_s)
        started_at = time.time()
        server.start()
        assert made.finish(process, within_s=90) == 0, made.errors_of(process)
        meanwhile = [call for call in made.calls() if stopped_at < call["received_at"] < started_at]
        assert len(meanwhile) <= CONCURRENCY
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.statuses() == {"done": 1}
        assert len(made.messages()) == 1


def test_a_run_survives_the_loss_of_any_connection(tmp_path: Path, database_url: str) -> None:
    with rig(tmp_path, database_url, n=40) as made:
        process = made.run()
        for moment in (20, 60, 100):
            made.until_received(moment, process)
            made.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert made.finish(process) == 0, made.errors_of(process)
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.statuses() == {"done": 1}
