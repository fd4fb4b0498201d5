"""Logs behind the API of a product: keys of the window first, bodies of the drawn rows after.

A listing that breaks off goes on where it ended when it is asked again.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.cases import Window
from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings
from app.logsources.exported_records import READINGS, Reading
from app.logsources.exported_rows import log_row
from app.logsources.log_apis import LogApi
from app.logsources.orders import place_of, stratum_of
from app.ports import Frame, LogRow

_BODIES_AT_ONCE = 8


@dataclass(slots=True)
class _Listing:
    """The keys of a window, as far as they are read."""

    rows: dict[str, tuple[LogRow, Mapping[str, object]]] = field(default_factory=dict)
    cursor: str | None = None
    is_whole: bool = False


class ApiLogs:
    """The log of a product, read through its API."""

    def __init__(self, settings: LogSettings, api: LogApi) -> None:
        self._settings = settings
        self._api = api
        self._reading: Reading = READINGS[settings.preset]
        self._listings: dict[Window, _Listing] = {}

    async def check(self) -> tuple[str, ...]:
        """No warnings: the API answers and keeps records.

        Raises:
            LogSourceError: If it cannot be read, or holds nothing.
        """
        page = await self._api.page(None, None)
        if not page.records:
            raise LogSourceError(
                f"{self._settings.preset} holds no records: do these keys belong to the project "
                "that is in production?"
            )
        return ()

    async def frame(self, window: Window, *, by: Sequence[str]) -> Frame:
        """Count the rows of the window, by stratum when segments are named."""
        counts = Counter(stratum_of(row.segments, by) for row, _ in await self._keys(window))
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
        """Take the next `quota[stratum]` rows of each stratum in the seeded order."""
        strata: dict[str, list[Mapping[str, object]]] = {stratum: [] for stratum in quota}
        keys = await self._keys(window)
        for row, record in sorted(keys, key=lambda key: place_of(key[0].source_id, seed)):
            stratum = stratum_of(row.segments, by)
            if stratum in strata:
                strata[stratum].append(record)
        chosen = [
            (stratum, record)
            for stratum, records in strata.items()
            for record in records[offset.get(stratum, 0) :][: quota[stratum]]
        ]
        slots = asyncio.Semaphore(_BODIES_AT_ONCE)

        async def body(stratum: str, record: Mapping[str, object]) -> LogRow:
            async with slots:
                whole = await self._api.whole(record)
            return self._row({**record, **whole}, stratum)

        return await asyncio.gather(*(body(stratum, record) for stratum, record in chosen))

    async def explain(self, window: Window) -> str | None:  # noqa: ARG002 - the port's signature
        """An API tells nothing of what a listing costs it."""
        return None

    async def close(self) -> None:
        """Give back connections and forget the keys."""
        self._listings.clear()
        await self._api.close()

    async def _keys(self, window: Window) -> list[tuple[LogRow, Mapping[str, object]]]:
        listing = self._listings.setdefault(window, _Listing())
        while not listing.is_whole:
            page = await self._api.page(window, listing.cursor)
            for record in page.records:
                row = self._row(record, "") if self._reading(record) is not None else None
                if row is None or row.created_at is None:
                    continue
                if window.start <= row.created_at < window.end:
                    listing.rows[row.source_id] = (row, record)
            listing.is_whole = page.cursor is None or page.cursor == listing.cursor
            listing.cursor = page.cursor
        return list(listing.rows.values())

    def _row(self, record: Mapping[str, object], stratum: str) -> LogRow:
        named = self._reading(record) or {}
        return log_row(named, place=0, settings=self._settings, stratum=stratum)
