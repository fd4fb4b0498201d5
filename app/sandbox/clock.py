"""The simulated clock of the sandbox: set by hand, read from a file, or the machine's own."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path


class SandboxClock:
    """Tells the simulated instant.

    A clock file wins over a time set by hand, which wins over the machine's time. The file holds
    an ISO 8601 instant, bare or as `{"now": …}`, and is read again whenever it has changed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._set: datetime | None = None
        self._read: tuple[int, int, datetime] | None = None

    def now(self) -> datetime:
        """The simulated instant."""
        if self._path is not None:
            return self._from_file(self._path)
        return self._set or datetime.fromtimestamp(time.time(), UTC)

    def set(self, instant: datetime | None) -> None:
        """Stops the clock at an instant, or lets the machine's time through again."""
        self._set = instant

    def follow(self, path: Path | None) -> None:
        """Reads the time from that file from now on; None stops doing so."""
        self._path, self._read = path, None

    def _from_file(self, path: Path) -> datetime:
        stat = path.stat()
        if self._read is None or self._read[:2] != (stat.st_mtime_ns, stat.st_ino):
            instant = parse_instant(path.read_text(encoding="utf-8"))
            self._read = (stat.st_mtime_ns, stat.st_ino, instant)
        return self._read[2]


def parse_instant(text: str) -> datetime:
    """The instant an ISO 8601 text or a JSON object with `now` names; it must have an offset."""
    text = text.strip()
    if text.startswith("{"):
        text = str(json.loads(text)["now"])
    instant = datetime.fromisoformat(text.strip('"'))
    if instant.tzinfo is None:
        raise ValueError(f"the instant {text} has no offset from UTC")
    return instant
