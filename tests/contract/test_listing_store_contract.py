"""What every store of listings keeps."""

from collections.abc import AsyncIterator

import pytest

from app.domain.runs import Trigger
from app.ports import ListedPage, ListingStore
from app.storage.engine import Database
from app.storage.listing_store import PostgresListings
from app.storage.result_store import PostgresResults
from tests.fakes.clocks import HandClock
from tests.fakes.listings import MemoryListings
from tests.fakes.work import slot, weekly_plan

ODD = "nul \x00, lone \ud800, quote ', ünïcode ☃"
FIRST = ListedPage(number=1, records=({"id": "1"}, {"id": ODD}), cursor=ODD)
LAST = ListedPage(number=2, records=(), cursor=None)


@pytest.fixture(params=["postgres", "memory"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ListingStore]:
    if request.param == "memory":
        yield MemoryListings()
        return
    clock = HandClock()
    database = Database(request.getfixturevalue("database_url"))
    runs = PostgresResults(database, clock.now)
    run = await runs.request(weekly_plan(), slot(0), Trigger.SCHEDULE, seed=1)
    assert run is not None
    yield PostgresListings(database, run.run_id, clock.now)
    await database.close()


async def test_pages_come_back_as_they_were_in_their_order(store: ListingStore) -> None:
    await store.add("a", LAST)
    await store.add("a", FIRST)
    assert list(await store.pages("a")) == [FIRST, LAST]


async def test_a_page_that_is_kept_stays_as_it_is(store: ListingStore) -> None:
    await store.add("a", FIRST)
    await store.add("a", ListedPage(number=1, records=(), cursor=None))
    assert list(await store.pages("a")) == [FIRST]


async def test_listings_are_kept_apart(store: ListingStore) -> None:
    await store.add("a", FIRST)
    assert list(await store.pages("b")) == []
