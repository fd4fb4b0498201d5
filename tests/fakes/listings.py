"""A store of listings in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.ports import ListedPage


@dataclass(slots=True)
class MemoryListings:
    """Pages by listing and number."""

    kept: dict[str, dict[int, ListedPage]] = field(default_factory=dict)

    async def pages(self, listing: str) -> Sequence[ListedPage]:
        return [page for _, page in sorted(self.kept.get(listing, {}).items())]

    async def add(self, listing: str, page: ListedPage) -> None:
        self.kept.setdefault(listing, {}).setdefault(page.number, page)
