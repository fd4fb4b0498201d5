"""Owners: names of processes that hold leases, and whether such a process is certainly gone.

A lease runs out by itself; knowing that its holder is gone only saves the wait. So where nothing
is known for sure (another machine, another container, no /proc, or one that hides the processes of
others) the holder counts as alive.
"""

import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from app.domain.json_values import fingerprint

_PROC = Path("/proc")
_ENDED = frozenset({"Z", "X"})


def owner_name() -> str:
    """A name for this process that no other process has."""
    pid = os.getpid()
    _, started_at = _seen(pid) or ("", "")
    return f"{socket.gethostname()}/{_place()}/{pid}.{started_at}/{uuid.uuid4().hex[:12]}"


def is_gone(owner: str) -> bool:
    """Whether the process of that name has certainly ended."""
    parts = owner.split("/")
    if len(parts) != 4 or parts[1] != _place() or not parts[1]:
        return False
    pid, _, started_at = parts[2].partition(".")
    seen = _seen(int(pid))
    if seen is None:
        return _is_nobody(int(pid))
    state, seen_start = seen
    return state in _ENDED or (bool(started_at) and seen_start != started_at)


def _place() -> str:
    """The process namespace of this boot, in which a pid means something; "" when unknown."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return fingerprint([boot, (_PROC / "self/ns/pid").readlink().name])[:12]
    return ""


def _seen(pid: int) -> tuple[str, str] | None:
    """The process's state, and its start in ticks since the boot; None when it cannot be seen."""
    with suppress(OSError):
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = stat.rpartition(")")[2].split()
        return state, fields[18]
    return None


def _is_nobody(pid: int) -> bool:
    """Whether there is no such process, however little /proc shows of those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
