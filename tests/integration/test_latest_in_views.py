"""Which Run the views call the plan's latest: the one that the pages and Prometheus show."""

import psycopg
import pytest

from tests.fixtures.documented_sql import as_reader
from tests.fixtures.stored_history import StoredHistory

HISTORY = StoredHistory(weeks=4)
VIEWS = ("runs", "model_results", "leaderboard", "comparisons")


def latest(dsn: str, view: str) -> set[str]:
    rows = as_reader(dsn, f"SELECT DISTINCT run_id FROM switchwise_bi.{view} WHERE is_latest")
    return {str(run_id) for (run_id,) in rows}


def change(dsn: str, week: int, values: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"UPDATE switchwise.runs SET {values} WHERE run_id = '{HISTORY.run_ids[week]}'".encode()
        )


@pytest.mark.parametrize("view", VIEWS)
def test_a_run_by_hand_and_a_slot_filled_in_later_are_not_the_latest(
    database_url: str, view: str
) -> None:
    HISTORY.store(database_url)
    assert latest(database_url, view) == {HISTORY.run_ids[-1]}

    change(database_url, 0, "trigger = 'as_of', finished_at = finished_at + interval '1 year'")
    change(database_url, 3, "trigger = 'hand'")

    assert latest(database_url, view) == {HISTORY.run_ids[2]}


def test_a_plan_that_was_only_run_by_hand_has_no_latest_run(database_url: str) -> None:
    HISTORY.store(database_url)
    for week in range(HISTORY.weeks):
        change(database_url, week, "trigger = 'hand'")

    assert [view for view in VIEWS if latest(database_url, view)] == []
    assert len(as_reader(database_url, "SELECT 1 FROM switchwise_bi.runs")) == HISTORY.weeks
