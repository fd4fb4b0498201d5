"""The unattended service: plans that cannot run, logs and disks in trouble, signals, silence."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from app.clocks import write_clock
from app.domain.errors import StorageUnavailable
from app.sandbox.logs import seed_logs
from app.storage.migrations import upgrade
from app.storage.postgres_server import PostgresServer
from tests.faults.processes import Forked
from tests.faults.rig import CONCURRENCY, Rig, note, rig, slower, weekly
from tests.fixtures.postgres import free_port

SUNDAY = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
DUE = SUNDAY + timedelta(minutes=1)
WEEK = timedelta(weeks=1)


def stop(made: Rig, process: Forked) -> None:
    process.signal(signal.SIGTERM)
    assert made.finish(process, within_s=25) == 0, made.errors_of(process)


def move(made: Rig, at: datetime) -> None:
    assert made.clock_file is not None
    write_clock(made.clock_file, at)


# --- plans and logs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mistake", "code", "named"),
    [
        (lambda plan: plan["candidates"][0].pop("price"), "UnknownPrice", "sandbox-swift"),
        pytest.param(
            lambda plan: plan["logs"]["columns"].update(messages="mesages"),
            "LogSourceError",
            "mesages",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda plan: plan["logs"].update(table="public.no_logs"),
            "LogSourceError",
            "no_logs",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_slot_that_the_plan_forbids_fails_with_one_message_that_names_what_to_mend(
    mistake: Callable[[dict[str, Any]], object],
    code: str,
    named: str,
    tmp_path: Path,
    database_url: str,
) -> None:
    with rig(tmp_path, database_url, n=4, logs_end_at=SUNDAY) as made:
        weekly(made, DUE)
        mistake(made.plan)
        service = made.serve()
        made.until(lambda: made.statuses() == {"failed": 1}, what="the run has failed")
        made.until(lambda: len(made.messages()) == 1, what="its message")
        stop(made, service)
        again = made.serve()  # begins with a tick of its own
        made.until(lambda: "serving" in made.errors_of(again), what="it serves again")
        stop(made, again)
        assert made.statuses() == {"failed": 1}
        assert made.value("SELECT error_code FROM switchwise.runs") == code
        (message,) = made.messages()
        assert named in str(message["arguments"])
        assert made.received() == 0


def test_a_log_database_that_is_away_at_the_slot_is_waited_for(
    tmp_path: Path, database_url: str, own_postgres: Callable[[], PostgresServer]
) -> None:
    logs = own_postgres()
    dsn = logs.dsn
    seed_logs(dsn, weeks=1, rows_per_week=100, ends_at=SUNDAY, seed=3)
    logs.stop("fast")
    with rig(tmp_path, database_url, n=5, models=2, logs_end_at=SUNDAY) as made:
        weekly(made, DUE)
        made.plan["logs"]["dsn"] = dsn
        service = made.serve()
        made.until(lambda: made.statuses() == {"running": 1}, what="the run was begun")
        assert made.received() == 0
        health = answer(made, "healthz")
        assert '"lease_age_seconds":{"fault":' in health
        assert '"loop_lag_seconds":' in health
        metrics = answer(made, "metrics")
        assert 'switchwise_lease_age_seconds{plan="fault"}' in metrics
        assert "switchwise_loop_lag_seconds " in metrics
        assert "process_open_fds " in metrics
        logs.start()
        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        stop(made, service)
        assert made.lost_results() == 0
        assert len(made.messages()) == 1


def answer(made: Rig, path: str) -> str:
    url = f"http://{made.plan['server']['bind']}/{path}"
    with urllib.request.urlopen(url, timeout=20) as response:
        return bytes(response.read()).decode()


SLOW_VIEW = """
DO $$ BEGIN
  CREATE VIEW public.slow_logs AS SELECT logs.* FROM public.ai_logs AS logs
    WHERE pg_sleep(0.05 + 0 * logs.id) IS NOT NULL;
END $$;
"""
LARGE_TABLE = """
DO $$ BEGIN
  CREATE UNLOGGED TABLE public.slow_logs AS
    SELECT n AS id, '2026-02-22T06:00:00Z'::timestamptz + n * interval '0.06 s' AS created_at,
      'success' AS status, 'sandbox-prime' AS model, 'Be brief.' AS system, 'Yes.' AS response,
      '[{"role": "user", "content": "Why?"}]'::jsonb AS messages
    FROM generate_series(1, 10000000) AS n;
END $$;
"""


@pytest.mark.parametrize(
    "make", [SLOW_VIEW, pytest.param(LARGE_TABLE, marks=pytest.mark.slow)], ids=["view", "10M rows"]
)
def test_logs_that_take_too_long_end_the_run_with_advice_and_without_a_write(
    make: str, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=5, models=2, logs_end_at=SUNDAY) as made:
        with psycopg.connect(database_url) as connection:
            connection.execute(make)
        weekly(made, DUE)
        made.plan["logs"] |= {"table": "public.slow_logs", "statement_timeout": "1s"}
        before = made.value(WRITTEN)
        service = made.serve()
        took_s = made.until(lambda: made.statuses() == {"failed": 1}, what="the run has failed")
        made.until(lambda: len(made.messages()) == 1, what="its message")
        stop(made, service)
        (message,) = made.messages()
        told = str(message["arguments"])
        assert "statement_timeout" in told
        assert "sample.window" in told
        assert made.received() == 0
        assert made.value(WRITTEN) == before
        note("12 slow logs", failed_after_s=round(took_s, 1))


WRITTEN = (
    "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint AS written"
    " FROM pg_stat_user_tables WHERE schemaname = 'public' AND pg_stat_force_next_flush() IS NOT NULL"
)


ERASING = """
CREATE FUNCTION public.erase(bigint) RETURNS boolean LANGUAGE plpgsql
AS 'BEGIN DELETE FROM public.ai_logs; RETURN true; END';
"""


@pytest.fixture
def writing_role(database_url: str) -> Iterator[str]:
    """DSN of a role that may also write the log table."""
    role = f"logs_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
        connection.execute(
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {role}"
        )
        connection.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    parts = urlsplit(database_url)
    place = parts.netloc.rpartition("@")[2]
    try:
        yield parts._replace(netloc=f"{role}:pw@{place}").geturl()
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role} CASCADE")
            connection.execute(f"DROP ROLE {role}")


def test_a_log_role_that_can_write_is_warned_about_and_cannot_write_from_here(
    writing_role: str, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=5, models=2) as made:
        made.variables["READING_DSN"] = writing_role
        made.plan["logs"]["dsn"] = "${READING_DSN}"
        with psycopg.connect(database_url) as connection:
            connection.execute(ERASING)
        rows = made.value("SELECT count(*) FROM public.ai_logs")
        made.finish(made.start("check"))
        told = (tmp_path / "out-0").read_text() + (tmp_path / "err-0").read_text()
        assert "WARNING" in told
        assert "REVOKE" in told
        assert "DELETE" in told
        made.plan["logs"]["where"] = "public.erase(id)"
        process = made.run()
        assert made.finish(process) == 3
        assert "read-only" in made.errors_of(process)
        assert made.value("SELECT count(*) FROM public.ai_logs") == rows
        assert made.received() <= 3  # the check's own


# --- disks --------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, *, size_mb: int) -> Iterator[Path]:
    """A file system of its own, of this size."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0777", "none", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return ballast


def on_small_disk(server: PostgresServer, folder: Path) -> None:
    """Keep what Attempts are stored in on that disk."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
        for table in ("attempts", "scores"):
            connection.execute(f"ALTER TABLE switchwise.{table} SET TABLESPACE small")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
def test_a_full_disk_stops_calls_and_the_run_goes_on_when_space_is_freed(
    tmp_path: Path, own_postgres: Callable[[], PostgresServer]
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    place = Path(tempfile.mkdtemp(prefix="small-disk-"))
    place.chmod(0o755)
    try:
        with small_disk(place / "disk", size_mb=8) as disk:
            shutil.chown(disk, user=data_owner(server))
            on_small_disk(server, disk)
            fill_up_and_free(tmp_path, server, disk)
            server.stop("immediate")
    finally:
        shutil.rmtree(place)


def fill_up_and_free(folder: Path, server: PostgresServer, disk: Path) -> None:
    with rig(folder, server.dsn, n=40, ttft_ms=100.0) as made:
        process = made.run()
        made.until_received(30, process)
        ballast = fill(disk)
        made.until(lambda: is_still(made), what="no more calls")
        refused_at = made.received()
        time.sleep(2)
        meanwhile = made.received() - refused_at
        assert meanwhile <= CONCURRENCY
        settled = "SELECT count(*) FROM switchwise.attempts WHERE state = 'settled'"
        unstored = made.received() - made.value(settled)
        assert unstored <= CONCURRENCY
        assert process.poll() is None
        ballast.unlink()
        assert made.finish(process, within_s=90) == 0, made.errors_of(process)
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.statuses() == {"done": 1}
        assert len(made.messages()) == 1
        note(
            "11 disk full",
            calls_meanwhile=meanwhile,
            unstored=unstored,
            repeated=made.repeated_calls(),
        )


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
def test_a_disk_full_under_the_write_ahead_log_is_an_outage_and_the_run_goes_on(
    tmp_path: Path, own_postgres: Callable[[], PostgresServer]
) -> None:
    server = own_postgres()
    upgrade(server.dsn)
    place = Path(tempfile.mkdtemp(prefix="small-disk-"))
    place.chmod(0o755)
    try:
        with small_disk(place / "disk", size_mb=128) as disk:
            owner = data_owner(server)
            server.stop()
            move_log(tmp_path / "own-pg-0" / "pg_wal", disk / "wal", owner)
            server.start()
            break_and_free(tmp_path, server, disk)
            server.stop("immediate")
    finally:
        shutil.rmtree(place)


def move_log(log: Path, to: Path, owner: int) -> None:
    """Keep the write-ahead log elsewhere."""
    shutil.move(log, to)
    for file in (to, *to.rglob("*")):
        os.chown(file, owner, -1)
    log.symlink_to(to)


def break_and_free(folder: Path, server: PostgresServer, disk: Path) -> None:
    with rig(folder, server.dsn, n=40, ttft_ms=100.0) as made:
        process = made.run()
        made.until_received(30, process)
        made.disconnect()
        ballast = fill(disk)
        made.until(lambda: is_broken(server), what="Postgres gives up")
        broken_at = time.time()
        time.sleep(5)
        ballast.unlink()
        freed_at = time.time()
        server.start()
        assert made.finish(process, within_s=120) == 0, made.errors_of(process)
        meanwhile = sum(broken_at < call["received_at"] < freed_at for call in made.calls())
        assert meanwhile <= CONCURRENCY
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.statuses() == {"done": 1}
        assert len(made.messages()) == 1
        note(
            "11 disk full under the log",
            calls_meanwhile=meanwhile,
            repeated=made.repeated_calls(),
        )


def is_broken(server: PostgresServer) -> bool:
    """Ask for one new segment of the log after the other; whether Postgres ended over it."""
    with (
        contextlib.suppress(psycopg.OperationalError, StorageUnavailable),
        psycopg.connect(server.dsn, autocommit=True, connect_timeout=2) as connection,
    ):
        for _ in range(10):
            connection.execute("SELECT pg_logical_emit_message(false, 'x', 'y')")
            connection.execute("SELECT pg_switch_wal()")
    return server.pid is None


def is_still(made: Rig) -> bool:
    """Whether no call has come for a second."""
    before = made.received()
    time.sleep(1)
    return made.received() == before


def data_owner(server: PostgresServer) -> int:
    return Path(f"/proc/{server.pid}").stat().st_uid


# --- messages and heartbeat ---------------------------------------------------------------------


def test_a_message_that_was_given_up_goes_out_after_the_next_start(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=4, models=2, ttft_ms=5.0, logs_end_at=SUNDAY) as made:
        weekly(made, DUE)
        set_slack(made, "invalid_auth")
        service = made.serve()
        made.until(lambda: given_up(made) == 1, what="the message was given up")
        stop(made, service)
        assert made.statuses() == {"done": 1}
        set_slack(made, "ok")
        service = made.serve()
        made.until(lambda: given_up(made) == 0, what="it went out")
        stop(made, service)
        accepted = [one for one in made.messages() if one["outcome"] == "ok"]
        assert len(accepted) == 1


def set_slack(made: Rig, mode: str) -> None:
    body = json.dumps({"mode": mode}).encode()
    request = urllib.request.Request(
        f"{made.url}/_sandbox/slack", data=body, headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()


def given_up(made: Rig) -> int:
    return int(
        made.value(
            "SELECT count(*) FROM switchwise.outbox"
            " WHERE failed_at IS NOT NULL AND delivered_at IS NULL"
        )
    )


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """A URL that hears heartbeats, and what it heard."""
    heard: list[str] = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ping", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_without_a_service_the_heartbeat_stops_and_status_says_overdue(
    tmp_path: Path, database_url: str
) -> None:
    with (
        rig(tmp_path, database_url, n=4, models=2, ttft_ms=5.0, logs_end_at=SUNDAY) as made,
        listener() as (url, heard),
    ):
        weekly(made, DUE)
        made.plan["heartbeat_url"] = url
        service = made.serve()
        made.until(lambda: len(heard) == 1, what="the heartbeat of the first run")
        service.kill()
        in_time = made.start("status")
        assert made.finish(in_time) == 0
        move(made, SUNDAY + WEEK + timedelta(hours=5))  # within the grace
        assert made.finish(made.start("status")) == 0
        move(made, SUNDAY + WEEK + timedelta(hours=7))
        late = made.start("status")
        assert made.finish(late) == 1
        assert "OVERDUE" in (tmp_path / f"out-{made.processes.index(late)}").read_text()
        assert len(heard) == 1


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_clock_that_jumps_over_the_next_slot_counts_it_as_missed_and_measures_nothing_negative(
    replicas: int, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=10, ttft_ms=300.0, logs_end_at=SUNDAY) as made:
        weekly(made, DUE)
        services = [made.serve() for _ in range(replicas)]
        made.until(lambda: made.received() >= 8, what="calls")
        move(made, DUE + timedelta(days=8))
        made.until(lambda: made.statuses() == {"done": 1, "missed": 1}, what="the run is done")
        made.until(lambda: len(made.messages()) == 2, what="both messages")
        for service in services:
            stop(made, service)
        assert made.statuses() == {"done": 1, "missed": 1}
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0
        assert made.paid_twice() == 0
        assert len(made.messages()) == 2
        negative = made.value(
            "SELECT count(*) FROM switchwise.attempts"
            " WHERE latency_seconds < 0 OR ttft_seconds < 0 OR felt_latency_seconds < 0"
        )
        assert negative == 0
        note("16 clock +8 days", replicas=replicas, repeated=made.repeated_calls())


# --- starting and stopping ----------------------------------------------------------------------


def test_without_its_database_the_service_refuses_to_start_and_says_so(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=4) as made:
        made.dsn, dsn = f"postgresql://nobody:secretword@127.0.0.1:{free_port()}/x", made.dsn
        service = made.serve()
        code = made.finish(service, within_s=40)
        made.dsn = dsn
        told = made.errors_of(service)
        assert code == 3
        assert "results database" in told
        assert "secretword" not in told
        assert "Traceback" not in told


def test_a_port_in_use_is_named_at_the_start(tmp_path: Path, database_url: str) -> None:
    with rig(tmp_path, database_url, n=4) as made, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        made.plan["server"] = {"bind": f"127.0.0.1:{taken.getsockname()[1]}"}
        service = made.start("serve")
        assert made.finish(service, within_s=40) == 2
        told = made.errors_of(service)
        assert f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}" in told
        assert "server.bind" in told
        assert "Traceback" not in told


@pytest.mark.parametrize(("begin", "word"), [(Rig.serve, "serving"), (Rig.worker, "working")])
def test_a_signal_in_the_moment_it_says_that_it_is_up_ends_it_cleanly(
    begin: Callable[[Rig], Forked], word: str, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=4, logs_end_at=SUNDAY) as made:
        weekly(made, DUE)
        upgrade(database_url)
        process = begin(made)
        deadline = time.monotonic() + 60
        while f'"{word}"' not in made.errors_of(process):  # no pause: the moment is short
            assert process.poll() is None, made.errors_of(process)
            assert time.monotonic() < deadline, made.errors_of(process)
        stop(made, process)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        pytest.param(signal.SIGINT, signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_second_signal_ends_the_service_at_once_and_the_run_is_resumed(
    first: signal.Signals, second: signal.Signals, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=10, models=2, ttft_ms=30_000.0, logs_end_at=SUNDAY) as made:
        made.plan["gateway"]["timeout"] = "60s"
        weekly(made, DUE)
        service = made.serve()
        made.until(lambda: made.received() >= CONCURRENCY, what="calls in flight")
        service.signal(first)
        made.until(lambda: "stopping" in made.errors_of(service), what="it stops")
        time.sleep(1.2)
        assert service.poll() is None
        service.signal(second)
        began = time.monotonic()
        assert made.finish(service, within_s=5) == 128 + second
        note("3 second signal", ended_after_s=round(time.monotonic() - began, 1))
        made.change_world(lambda world: slower(world, ttft_ms=5.0))
        service = made.serve()
        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        stop(made, service)
        assert made.repeated_calls() <= CONCURRENCY
        assert made.lost_results() == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_leader_of_a_process_group_ends_cleanly_on_either_signal(
    number: signal.Signals, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=4) as made:
        made.plan["server"] = {"bind": f"127.0.0.1:{free_port()}"}
        service = made.start_afresh("serve", wrapper=("setsid",))
        try:
            made.until(lambda: is_serving(made), what="it serves")
            assert os.getpgid(service.pid) == service.pid
            os.killpg(service.pid, number)
            assert service.wait(25) == 0
        finally:
            service.kill()
            service.wait(5)


def is_serving(made: Rig) -> bool:
    with contextlib.suppress(OSError):
        url = f"http://{made.plan['server']['bind']}/readyz"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    return False
