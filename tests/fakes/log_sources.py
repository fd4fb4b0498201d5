"""A log source in memory."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.domain.cases import Window
from app.ports import Ahead, Frame, LogRow


@dataclass(slots=True, kw_only=True)
class MemoryLogs:
    """Rows held in memory, drawn in the order of a seeded hash of their ids.

    Attributes:
        draws: The quota of every draw, to see how often the log was asked.
    """

    rows: Sequence[LogRow]
    warnings: tuple[str, ...] = ()
    draws: list[Mapping[str, int]] = field(default_factory=list)
    is_closed: bool = False

    async def check(self) -> tuple[str, ...]:
        return self.warnings

    async def frame(
        self, window: Window, *, by: Sequence[str], ahead: Ahead | None = None
    ) -> Frame:
        counts = Counter(stratum_of(row, by) for row in self._within(window))
        return Frame(rows=dict(counts) or {"": 0})

    async def draw(
        self,
        window: Window,
        *,
        seed: int,
        by: Sequence[str],
        quota: Mapping[str, int],
        offset: Mapping[str, int],
    ) -> Sequence[LogRow]:
        self.draws.append(dict(quota))
        ordered = sorted(self._within(window), key=lambda row: _place(row, seed))
        drawn: list[LogRow] = []
        for stratum, count in quota.items():
            of_stratum = [row for row in ordered if stratum_of(row, by) == stratum]
            first = offset.get(stratum, 0)
            drawn += [replace(row, stratum=stratum) for row in of_stratum[first : first + count]]
        return drawn

    async def explain(self, window: Window) -> str | None:
        return None

    async def close(self) -> None:
        self.is_closed = True

    def _within(self, window: Window) -> list[LogRow]:
        return [
            row
            for row in self.rows
            if row.created_at is None or window.start <= row.created_at < window.end
        ]


def stratum_of(row: LogRow, by: Sequence[str]) -> str:
    """How the adapters name the stratum of a row."""
    return " / ".join(row.segments.get(name, "") for name in by)


def _place(row: LogRow, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{row.source_id}".encode()).digest()
