"""Logs behind the API of a product: keys of the window first, bodies of the drawn rows after.

A listing that breaks off goes on where it ended when it is asked again, in another process too
where a store keeps its pages.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.domain.cases import Window
from app.domain.errors import LogSourceError
from app.domain.json_values import JsonObject, fingerprint
from app.domain.plans import LogSettings
from app.logsources.exported_records import READINGS, Reading, Record
from app.logsources.exported_rows import log_row
from app.logsources.log_apis import LogApi
from app.logsources.orders import place_of, stratum_of
from app.ports import Ahead, Frame, ListedPage, ListingStore, LogRow

_BODIES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """A row of the window without its bodies.

    Attributes:
        record: What the API needs to find the bodies.
    """

    source_id: str
    at: datetime
    segments: Mapping[str, str]
    record: Record

    def to_json(self) -> JsonObject:
        """The key as it is kept."""
        return {
            "id": self.source_id,
            "at": self.at.isoformat(),
            "segments": dict(self.segments),
            "record": dict(self.record),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "_Key":
        """The key that `to_json` wrote."""
        segments, record = data["segments"], data["record"]
        if not isinstance(segments, Mapping) or not isinstance(record, Mapping):
            raise TypeError("segments and record must be objects")
        return cls(
            source_id=str(data["id"]),
            at=datetime.fromisoformat(str(data["at"])),
            segments=segments,
            record=record,
        )


@dataclass(slots=True)
class _Listing:
    """The keys of a window, as far as they are read."""

    keys: dict[str, _Key] = field(default_factory=dict)
    pages: int = 0
    cursor: str | None = None
    is_whole: bool = False

    def take(self, page: ListedPage) -> None:
        """Add one page."""
        for record in page.records:
            key = _Key.from_json(record)
            self.keys[key.source_id] = key
        self.is_whole = page.cursor is None or page.cursor == self.cursor
        self.cursor = page.cursor
        self.pages = page.number


class ApiLogs:
    """The log of a product, read through its API.

    Args:
        settings: What to read.
        api: The product's API.
        store: Keeps listings over the end of this process; None: they end with it.
    """

    def __init__(
        self, settings: LogSettings, api: LogApi, store: ListingStore | None = None
    ) -> None:
        self._settings = settings
        self._api = api
        self._store = store
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

    async def frame(
        self,
        window: Window,
        *,
        by: Sequence[str],
        ahead: Ahead | None = None,  # noqa: ARG002 - the port's signature
    ) -> Frame:
        """Count the rows of the window, by stratum when segments are named."""
        counts = Counter(stratum_of(key.segments, by) for key in await self._keys(window))
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
        strata: dict[str, list[_Key]] = {stratum: [] for stratum in quota}
        for key in sorted(await self._keys(window), key=lambda one: place_of(one.source_id, seed)):
            stratum = stratum_of(key.segments, by)
            if stratum in strata:
                strata[stratum].append(key)
        chosen = [
            (stratum, key)
            for stratum, keys in strata.items()
            for key in keys[offset.get(stratum, 0) :][: quota[stratum]]
        ]
        slots = asyncio.Semaphore(_BODIES_AT_ONCE)

        async def body(stratum: str, key: _Key) -> LogRow:
            async with slots:
                whole = await self._api.whole(key.record)
            row = self._row({**key.record, **whole}, stratum)
            return replace(
                row, source_id=key.source_id, created_at=key.at, segments=dict(key.segments)
            )

        return await asyncio.gather(*(body(stratum, key) for stratum, key in chosen))

    async def explain(self, window: Window) -> str | None:  # noqa: ARG002 - the port's signature
        """An API tells nothing of what a listing costs it."""
        return None

    async def close(self) -> None:
        """Give back connections and forget the keys."""
        self._listings.clear()
        await self._api.close()

    async def _keys(self, window: Window) -> list[_Key]:
        """Every key of the window; pages that are kept already are not asked for again."""
        name = self._name(window)
        listing = self._listings.get(window)
        if listing is None:
            listing = _Listing()
            for page in await self._store.pages(name) if self._store else ():
                listing.take(page)
            self._listings[window] = listing
        while not listing.is_whole:
            page = await self._page(window, listing)
            if self._store is not None:
                await self._store.add(name, page)
            listing.take(page)
        return list(listing.keys.values())

    async def _page(self, window: Window, listing: _Listing) -> ListedPage:
        """The next page, with those of its records that are rows of the window."""
        page = await self._api.page(window, listing.cursor)
        keys: list[JsonObject] = []
        for record in page.records:
            row = self._row(record, "") if self._reading(record) is not None else None
            if row is None or row.created_at is None:
                continue
            if window.start <= row.created_at < window.end:
                key = _Key(
                    source_id=row.source_id,
                    at=row.created_at,
                    segments=row.segments,
                    record=self._api.kept(record),
                )
                keys.append(key.to_json())
        return ListedPage(number=listing.pages + 1, records=tuple(keys), cursor=page.cursor)

    def _name(self, window: Window) -> str:
        """Listings of equal name hold the same keys."""
        base_url = self._settings.options.get("base_url")
        return fingerprint(
            [
                self._settings.preset,
                base_url.reveal() if base_url else "",
                dict(self._settings.columns),
                dict(self._settings.segments),
                window.start.isoformat(),
                window.end.isoformat(),
            ]
        )

    def _row(self, record: Mapping[str, object], stratum: str) -> LogRow:
        named = self._reading(record) or {}
        return log_row(named, place=0, settings=self._settings, stratum=stratum)
