"""One Postgres data directory and the server over it: create, start, attach, stop."""

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlencode

import psycopg

from app.domain.errors import StorageUnavailable
from app.storage.binaries import (
    Account,
    Binaries,
    BinarySource,
    can_enter,
    find_binaries,
    run_as,
    server_account,
)

#: Name of the superuser and of the database that every server has.
DATABASE_NAME = "switchwise"

StopMode = Literal["fast", "immediate", "smart"]

_SOCKET_PORT = 5432
#: Longest socket folder: sun_path holds 103 bytes everywhere, less "/.s.PGSQL.5432".
_SOCKET_FOLDER_BYTES = 103 - len("/.s.PGSQL.5432")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+@-]+")
_SHORT_PARENT = Path("/tmp")  # noqa: S108 - owner and mode of what we make there are checked
#: By these names a process reaches what it holds open, even below folders closed to it.
_OWN_HANDLES = Path("/proc/self/fd")
_READY_WITHIN_S = 45.0
#: Within this a server tells its process id after it was begun.
_BEGUN_WITHIN_S = 5.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """What postmaster.pid says about the server."""

    pid: int
    port: int
    socket_folder: str


class PostgresServer:
    """A Postgres server over one data directory, reached by a private socket or by loopback TCP.

    A lock file beside the directory is held by the server itself (its processes inherit it), so
    whether a server lives is known for sure, whatever its pid file says.

    Args:
        data: The data directory; made at the first start.
        tcp_port: Listen on 127.0.0.1 at this port instead of a socket.
        is_durable: False survives a killed process but no power cut; for tests only.
        source: Where to look for the Postgres programs.
    """

    def __init__(
        self,
        data: Path,
        *,
        tcp_port: int | None = None,
        is_durable: bool = True,
        source: BinarySource = "any",
    ) -> None:
        self._source = source
        self._data = data.absolute()
        self._tcp_port = tcp_port
        self._is_durable = is_durable

    @property
    def pid(self) -> int | None:
        """The process id of the living server, None when there is none."""
        found = _read_postmaster(self._data)
        return found.pid if found and _is_server_of(found.pid, self._data) else None

    @property
    def dsn(self) -> str:
        """The URL of database `switchwise` on the server.

        Raises:
            StorageUnavailable: No server runs.
        """
        found = _read_postmaster(self._data)
        if found is None:
            raise StorageUnavailable(f"no Postgres runs over {self._data}")
        return self._dsn(found, DATABASE_NAME)

    def start(self) -> str:
        """Start the server, or attach to the one that lives, and return its DSN.

        Raises:
            StorageUnavailable: It cannot be started, with the reason and what to do.
        """
        try:
            self._data.parent.mkdir(parents=True, exist_ok=True)
            account = server_account(self._data)
            with _opened(self._lock_file) as lock:
                if not self._is_alive(lock):
                    self._launch(account, lock)
            return self._when_ready()
        except OSError as error:
            raise StorageUnavailable(f"the embedded Postgres cannot start: {error}") from error

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; harmless when none runs.

        Raises:
            StorageUnavailable: It did not stop in time.
        """
        found = _read_postmaster(self._data)
        if found is None or self.pid is None:
            return
        socket_folder = Path(found.socket_folder)
        account = server_account(self._data)
        pg_ctl = find_binaries(account, self._source).program("pg_ctl")
        with _reachable(account, self._data) as (folder, handles):
            answer = run_as(
                account, [pg_ctl, "-D", folder, "-w", "-m", mode, "stop"], inherit=handles
            )
        if answer.returncode != 0 and self.pid is not None:
            raise StorageUnavailable(f"the embedded Postgres did not stop: {_last_words(answer)}")
        if socket_folder.parent == _SHORT_PARENT:
            with suppress(OSError):
                socket_folder.rmdir()

    def stop_begun(self) -> None:
        """Stop a server whose start was cut off, once it has told its process id."""
        deadline = time.monotonic() + _BEGUN_WITHIN_S
        while self.pid is None and self._is_locked() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self.stop()

    def _is_locked(self) -> bool:
        with _opened(self._lock_file) as lock:
            return not _try_lock(lock)

    @property
    def _lock_file(self) -> Path:
        return self._data.with_name(f"{self._data.name}.lock")

    def _is_alive(self, lock: int) -> bool:
        """Take the server's lock; True when a server has it and answers."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while not _try_lock(lock):
            if self._answers():
                return True
            if time.monotonic() > deadline:
                raise StorageUnavailable(
                    f"the Postgres over {self._data} (process {self.pid or 'unknown'}) lives but "
                    "does not answer: end that process, then try again"
                )
            time.sleep(_POLL_S)  # starting, or the last processes of a killed server are leaving
        return self._answers()  # somebody may have started it by hand, without the lock

    def _answers(self) -> bool:
        found = _read_postmaster(self._data)
        if found is None:
            return False
        try:
            with psycopg.connect(self._dsn(found, "postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _launch(self, account: Account, lock: int) -> None:
        binaries = find_binaries(account, self._source)
        if not (self._data / "PG_VERSION").exists():
            self._create(account, binaries)
        _require_same_major(self._data, account, binaries)
        socket_folder = None if self._tcp_port else _socket_folder(self._data, account)
        _clear_stale_locks(self._data, socket_folder)
        options = self._settings(binaries.major, socket_folder)
        deadline = time.monotonic() + _READY_WITHIN_S
        with _reachable(account, self._data) as (folder, handles):
            command = [
                binaries.program("pg_ctl"),
                *("-D", folder),
                *("-w", "-t", str(round(_READY_WITHIN_S))),
                *("-l", f"{folder}/server.log"),
                *("-o", shlex.join(f"-c{name}={value}" for name, value in options.items())),
                "start",
            ]
            while (answer := run_as(account, command, inherit=[lock, *handles])).returncode != 0:
                reason = _log_tail(self._data) or _last_words(answer)
                if "shared memory block" not in reason or time.monotonic() > deadline:
                    raise StorageUnavailable(f"the embedded Postgres did not start: {reason}")
                time.sleep(_POLL_S)  # processes of a killed server still leave

    def _create(self, account: Account, binaries: Binaries) -> None:
        """Make the data directory beside its place and move it there when it is whole."""
        data = self._data
        if data.exists() and any(data.iterdir()):
            raise StorageUnavailable(
                f"{data} is not a Postgres data directory and not empty: "
                "choose another SWITCHWISE_HOME or move it away"
            )
        scratch = data.with_name(f"{data.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        if account.is_dropped:
            os.chown(scratch, account.uid, account.gid)
        with _reachable(account, scratch) as (folder, handles):
            command = [
                binaries.program("initdb"),
                *("-D", folder),
                *("-U", DATABASE_NAME),
                *("-A", "trust"),
                *("--encoding", "UTF8"),
                *("--locale", "C"),
                *(() if self._is_durable else ("--no-sync",)),
            ]
            answer = run_as(account, command, inherit=handles)
        if answer.returncode != 0:
            shutil.rmtree(scratch, ignore_errors=True)
            raise StorageUnavailable(f"initdb failed: {_last_words(answer)}")
        scratch.rename(data)

    def _settings(self, major: int, socket_folder: Path | None) -> dict[str, str]:
        """Small memory, few processes, nothing on the network unless asked."""
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp_port else "",
            "port": str(self._tcp_port or _SOCKET_PORT),
            "unix_socket_directories": str(socket_folder or ""),
            "unix_socket_permissions": "0700",
            "shared_buffers": "32MB",
            "max_connections": "60",
            "max_wal_size": "256MB",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "max_logical_replication_workers": "0",
            "max_parallel_workers_per_gather": "0",
            "jit": "off",
            "search_path": "public",  # not "$user": the superuser is named like our schema
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
        }
        if major >= 18:
            settings["io_method"] = "sync"
        if not self._is_durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return settings

    def _when_ready(self) -> str:
        found = _read_postmaster(self._data)
        if found is None:
            raise StorageUnavailable(f"the Postgres over {self._data} went away as it started")
        try:
            with psycopg.connect(
                self._dsn(found, "postgres"), autocommit=True, connect_timeout=10
            ) as connection:
                has_it = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME]
                ).fetchone()
                if has_it is None:
                    connection.execute(f"CREATE DATABASE {DATABASE_NAME}")
        except psycopg.errors.DuplicateDatabase:
            pass  # another process was quicker
        except psycopg.Error as error:
            raise StorageUnavailable(f"the embedded Postgres does not serve: {error}") from error
        return self._dsn(found, DATABASE_NAME)

    def _dsn(self, found: Postmaster, database: str) -> str:
        if self._tcp_port:
            return f"postgresql://{DATABASE_NAME}@127.0.0.1:{found.port}/{database}"
        where = urlencode({"host": found.socket_folder, "port": found.port}, quote_via=quote)
        return f"postgresql://{DATABASE_NAME}@/{database}?{where}"


def start_server(
    data: Path,
    *,
    tcp_port: int | None = None,
    is_durable: bool = True,
    source: BinarySource = "any",
) -> PostgresServer:
    """A started server over `data` that nobody shares; the caller stops it."""
    server = PostgresServer(data, tcp_port=tcp_port, is_durable=is_durable, source=source)
    server.start()
    return server


def _read_postmaster(data: Path) -> Postmaster | None:
    """What the pid file says; None when there is none or it is unfinished."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return Postmaster(pid=int(lines[0]), port=int(lines[3]), socket_folder=lines[4])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether that process is a server over `data` and no zombie or unrelated program."""
    if _OWN_HANDLES.exists():
        try:
            return Path(f"/proc/{pid}/cwd").samefile(data)
        except OSError:
            return False
    told = run_as(
        Account(name="", uid=os.geteuid(), gid=os.getegid(), is_dropped=False),
        ["/bin/ps", "-p", str(pid), "-o", "stat=,comm="],
    ).stdout
    return "postgres" in told and not told.lstrip().startswith("Z")


def _require_same_major(data: Path, account: Account, binaries: Binaries) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found == str(binaries.major):
        return
    bin_folder = f"/usr/lib/postgresql/{found}/bin"
    prefix = f"runuser -u {account.name} -- " if account.is_dropped else ""
    folder = shlex.quote(str(data))
    options = shlex.quote("-c listen_addresses= -k /tmp")
    dump = (
        f"{prefix}{bin_folder}/pg_ctl -D {folder} -o {options} -w start && "
        f"{bin_folder}/pg_dump -h /tmp -U {DATABASE_NAME} {DATABASE_NAME} "
        f"> switchwise-{found}.sql && "
        f"{prefix}{bin_folder}/pg_ctl -D {folder} -w stop"
    )
    raise StorageUnavailable(
        f"the data directory {data} is of PostgreSQL {found}, but the programs found here are of "
        f"{binaries.version} ({binaries.folder}). Dump it with the programs of PostgreSQL {found}:"
        f"\n  {dump}\nthen move the directory away, start again, and load the dump with psql"
    )


def _socket_folder(data: Path, account: Account) -> Path:
    """A short folder that only the account enters: beside the data, or else under /tmp."""
    beside = data.with_name("run")
    path = str(beside)
    if len(os.fsencode(path)) <= _SOCKET_FOLDER_BYTES and _PLAIN_PATH.fullmatch(path):
        _make_private(beside, account)
        if can_enter(account, beside):
            return beside
    key = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    short = _SHORT_PARENT / f"switchwise-{account.uid}-{key}"
    _make_private(short, account)
    return short


def _make_private(folder: Path, account: Account) -> None:
    """Make the folder with mode 0700 for the account, or refuse one that somebody planted."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(folder, account.uid, account.gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid:
        raise StorageUnavailable(
            f"{folder} must be a folder of user {account.name}: remove it and try again"
        )
    folder.chmod(0o700)


def _clear_stale_locks(data: Path, socket_folder: Path | None) -> None:
    """Remove what a killed server left, unless a living one owns it.

    Postgres does so itself only when the recorded process id is free; after a restart of a
    container another program, or a zombie, often has it.
    """
    pid_file = data / "postmaster.pid"
    recorded = _read_postmaster(data)
    if recorded is not None and _is_server_of(recorded.pid, data):
        raise StorageUnavailable(
            f"another server (process {recorded.pid}) runs over {data} and does not answer"
        )
    pid_file.unlink(missing_ok=True)
    if socket_folder is not None:
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (socket_folder / name).unlink(missing_ok=True)


@contextmanager
def _reachable(account: Account, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """A name by which the account's processes reach the folder, and what they must inherit for it.

    Below a folder that is closed to the account no path leads there; an open handle does.
    """
    if can_enter(account, folder):
        yield str(folder), []
        return
    if not _OWN_HANDLES.exists():
        raise StorageUnavailable(
            f"user {account.name} cannot enter {folder}: set SWITCHWISE_HOME to a folder "
            "whose parents it can enter, or DATABASE_URL"
        )
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(_OWN_HANDLES / str(handle)), [handle]
    finally:
        os.close(handle)


def _last_words(answer: subprocess.CompletedProcess[str]) -> str:
    told = answer.stderr.strip() or answer.stdout.strip() or "it said nothing"
    return " | ".join(line.strip() for line in told.splitlines()[-3:])


def _log_tail(data: Path) -> str:
    """The last complaint in the server's log."""
    try:
        lines = (data / "server.log").read_text(errors="replace").splitlines()[-40:]
    except FileNotFoundError:
        return ""
    fatal = [i for i, line in enumerate(lines) if "FATAL" in line or "PANIC" in line]
    start = fatal[-1] if fatal else -1
    return " | ".join(line.strip() for line in lines[start:][:4])


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A lock file, open for the length of the block."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
