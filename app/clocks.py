"""Clocks: the machine's own, and one that a file tells to every process of a demonstration."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The instant, in UTC."""
        return datetime.fromtimestamp(time.time(), UTC)

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let others run for that long."""
        await asyncio.sleep(seconds)


class FileClock(SystemClock):
    """Starts at the ISO 8601 instant a file holds, at the moment the file was last written.

    From there it goes on at the machine's speed. Writing the file again moves every process that
    reads it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, datetime] | None = None

    def now(self) -> datetime:
        """The instant the file tells, plus the time since it was written."""
        written_ns = self._path.stat().st_mtime_ns
        if self._known is None or self._known[0] != written_ns:
            told = datetime.fromisoformat(self._path.read_text(encoding="utf-8").strip())
            self._known = (written_ns, told.astimezone(UTC))
        return self._known[1] + timedelta(seconds=max(0.0, time.time() - written_ns / 1e9))


def write_clock(path: Path, instant: datetime) -> None:
    """Set the clock of every process that reads the file; the change is atomic."""
    fresh = path.with_suffix(".new")
    fresh.write_text(instant.isoformat(), encoding="utf-8")
    fresh.replace(path)
