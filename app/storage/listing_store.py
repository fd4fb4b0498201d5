"""Pages of listings of remote logs, kept until the Run's Sample is committed."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from app.ports import ListedPage
from app.storage.engine import Database
from app.storage.tables import LOG_PAGES


class PostgresListings:
    """The ListingStore of one Run.

    Args:
        database: The results database.
        run_id: The Run; its pages go with it.
        now: The injected instant.
    """

    def __init__(self, database: Database, run_id: str, now: Callable[[], datetime]) -> None:
        self._database = database
        self._run_id = run_id
        self._now = now

    async def pages(self, listing: str) -> Sequence[ListedPage]:
        """The pages of a listing so far, in order."""
        query = (
            select(LOG_PAGES)
            .where(LOG_PAGES.c.run_id == self._run_id, LOG_PAGES.c.listing == listing)
            .order_by(LOG_PAGES.c.page_no)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            ListedPage(
                number=row["page_no"],
                records=tuple(json.loads(row["records"])),
                cursor=None if row["next_cursor"] is None else json.loads(row["next_cursor"]),
            )
            for row in rows
        ]

    async def add(self, listing: str, page: ListedPage) -> None:
        """Keep one more page; a page that is kept already stays as it is.

        Raises:
            StorageUnavailable: If it cannot be kept.
        """
        row = {
            "run_id": self._run_id,
            "listing": listing,
            "page_no": page.number,
            # As JSON in ASCII: ids of others may hold what Postgres takes for no text.
            "next_cursor": None if page.cursor is None else json.dumps(page.cursor),
            "records": json.dumps(list(page.records), separators=(",", ":")),
            "listed_at": self._now(),
        }
        async with self._database.transaction() as connection:
            await connection.execute(upsert(LOG_PAGES).values(row).on_conflict_do_nothing())
