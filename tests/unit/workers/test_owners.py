import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.workers import owners
from app.workers.owners import is_gone, owner_name


def test_this_process_is_not_gone() -> None:
    assert not is_gone(owner_name())


def test_two_names_of_one_process_differ() -> None:
    assert owner_name() != owner_name()


def test_a_process_that_ended_is_gone() -> None:
    code = "from app.workers.owners import owner_name; print(owner_name())"
    named = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert is_gone(named.stdout.strip())


def test_a_process_that_took_over_a_pid_is_another_one() -> None:
    host, place, process, name = owner_name().split("/")
    pid, _, started_at = process.partition(".")
    assert is_gone(f"{host}/{place}/{pid}.{int(started_at) - 1}/{name}")


def test_nothing_is_said_of_processes_elsewhere() -> None:
    assert not is_gone("other-host/0123456789ab/1.5/abc")
    assert not is_gone("a name of another form")


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc that shows this process and none of the others."""
    for name in ("sys", "self", str(os.getpid())):
        (tmp_path / name).symlink_to(Path("/proc") / name)
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    return tmp_path


def named(pid: int) -> str:
    """How a process of this machine would be named."""
    host, place, _, name = owner_name().split("/")
    return f"{host}/{place}/{pid}.12345/{name}"


def not_there(_proc: Path, _pid: int) -> None:
    """The process is not listed at all."""


def unreadable(proc: Path, pid: int) -> None:
    """What is told of the process cannot be read."""
    (proc / str(pid) / "stat").mkdir(parents=True)


@pytest.mark.parametrize("hide", [not_there, unreadable])
def test_a_process_that_is_hidden_from_us_counts_as_alive_until_it_ends(
    hidden: Path, hide: Callable[[Path, int], None]
) -> None:
    waiting = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    hide(hidden, waiting.pid)
    was_gone = is_gone(named(waiting.pid))
    waiting.communicate(b"\n")
    assert (was_gone, is_gone(named(waiting.pid))) == (False, True)


def test_a_process_of_another_user_that_is_hidden_counts_as_alive(
    hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not (hidden / "1").exists()
    assert not is_gone(named(1))


def test_a_process_that_ended_and_was_not_fetched_is_gone() -> None:
    ended = subprocess.Popen(
        [sys.executable, "-c", "from app.workers.owners import owner_name; print(owner_name())"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ended.stdout is not None
    name = ended.stdout.read().strip()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    is_zombie_gone = is_gone(name)
    ended.communicate()
    assert is_zombie_gone
