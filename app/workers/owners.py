"""Owners: names of processes that hold leases, and whether such a process is certainly gone.

A lease runs out by itself; knowing that its holder is gone only saves the wait. So where nothing
is known for sure (another machine, another container, no /proc) the holder counts as alive.
"""

import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from app.domain.json_values import fingerprint

_PROC = Path("/proc")


def owner_name() -> str:
    """A name for this process that no other process has."""
    pid = os.getpid()
    return f"{socket.gethostname()}/{_place()}/{pid}.{_started_at(pid)}/{uuid.uuid4().hex[:12]}"


def is_gone(owner: str) -> bool:
    """Whether the process of that name has certainly ended."""
    parts = owner.split("/")
    if len(parts) != 4 or parts[1] != _place() or not parts[1]:
        return False
    pid, _, started_at = parts[2].partition(".")
    return _started_at(int(pid)) != started_at


def _place() -> str:
    """The process namespace of this boot, in which a pid means something; "" when unknown."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return fingerprint([boot, (_PROC / "self/ns/pid").readlink().name])[:12]
    return ""


def _started_at(pid: int) -> str:
    """When the process started, in ticks since the boot; "" when there is no such process."""
    with suppress(OSError):
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = stat.rpartition(")")[2].split()
        return "" if state in {"Z", "X"} else fields[18]
    return ""
