"""The pace of an endpoint: turns given one at a time, whoever asks."""

import asyncio
from dataclasses import replace

import psycopg

from app.domain.models import Endpoint
from app.storage.engine import Database
from app.storage.pace import PostgresPace

HERE = Endpoint(base_url="http://localhost:1", concurrency=8, rate_per_min=60)


async def test_two_processes_that_ask_at_once_are_given_turns_one_after_the_other(
    database_url: str,
) -> None:
    first, second = Database(database_url), Database(database_url)
    try:
        paces = [PostgresPace(first), PostgresPace(second)]
        waits = sorted(await asyncio.gather(*(paces[n % 2].turn(HERE) for n in range(8))))
    finally:
        await first.close()
        await second.close()
    assert waits[0] == 0
    assert all(number - 2 < wait <= number for number, wait in enumerate(waits[1:], start=1))
    assert waits[-1] - waits[1] > 4


async def test_endpoints_do_not_wait_for_each_other(database_url: str) -> None:
    database = Database(database_url)
    try:
        pace = PostgresPace(database)
        await pace.turn(HERE)
        assert await pace.turn(replace(HERE, base_url="http://localhost:2")) == 0
        assert await pace.turn(HERE) > 0
    finally:
        await database.close()


async def test_an_endpoint_without_a_rate_has_its_turn_at_once_and_no_row(
    database_url: str,
) -> None:
    database = Database(database_url)
    try:
        for _ in range(3):
            assert await PostgresPace(database).turn(replace(HERE, rate_per_min=None)) == 0
    finally:
        await database.close()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT * FROM switchwise.endpoint_pace").fetchall() == []


async def test_a_database_whose_clock_was_set_back_delays_calls_by_minutes_at_most(
    database_url: str,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO switchwise.endpoint_pace VALUES (%s, now() + interval '2 hours')",
            (HERE.key,),
        )
    database = Database(database_url)
    try:
        assert await PostgresPace(database).turn(HERE) <= 60
    finally:
        await database.close()
