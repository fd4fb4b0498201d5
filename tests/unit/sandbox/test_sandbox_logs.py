import json
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import mean

import psycopg
import pytest

from app.sandbox.brain import true_quality
from app.sandbox.dialogue import Turn
from app.sandbox.logs import LogRow, drop_logs, log_rows, seed_logs
from app.sandbox.phrasebook import ROUTES
from app.sandbox.replies import read
from app.sandbox.tasks import recognise
from app.sandbox.worlds import PRIME, named_world

END = datetime(2026, 3, 30, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows() -> list[LogRow]:
    return list(log_rows(weeks=4, rows_per_week=300, ends_at=END, seed=1))


def is_whole(row: LogRow) -> bool:
    return bool(row.prompt) and "litellm_truncated" not in row.prompt


def test_rows_fill_the_weeks_evenly_and_in_order(rows: list[LogRow]) -> None:
    start = END - timedelta(weeks=4)
    assert len(rows) == 1200
    assert Counter((row.created_at - start) // timedelta(weeks=1) for row in rows) == dict.fromkeys(
        range(4), 300
    )
    moments = [row.created_at for row in rows]
    assert moments == sorted(moments)


def test_the_same_seed_makes_the_same_rows_and_more_weeks_keep_the_last_ones(
    rows: list[LogRow],
) -> None:
    assert list(log_rows(weeks=4, rows_per_week=300, ends_at=END, seed=1)) == rows
    assert list(log_rows(weeks=1, rows_per_week=300, ends_at=END, seed=1)) == rows[900:]
    assert list(log_rows(weeks=1, rows_per_week=300, ends_at=END, seed=2)) != rows[900:]


def test_traffic_is_varied_and_a_little_dirty(rows: list[LogRow]) -> None:
    assert set(Counter(row.route for row in rows)) == set(ROUTES)
    distinct = len({(row.system, row.messages) for row in rows})
    assert 0.94 < distinct / len(rows) < 0.99
    assert 5 <= sum(row.status == "error" for row in rows) <= 40
    assert any(not row.prompt for row in rows)
    assert any("litellm_truncated" in row.prompt for row in rows)
    assert any(row.metadata["stop_reason"] == "max_tokens" for row in rows)
    later = [row for row in rows if len(row.messages) > 1]
    assert 0.05 < len(later) / len(rows) < 0.2


def test_every_whole_prompt_is_recognised_and_every_reply_can_be_read(rows: list[LogRow]) -> None:
    for row in filter(is_whole, rows):
        task = recognise([text for role, text in row.messages if role == "user"])
        assert task.route == row.route
        assert row.metadata.get("expected") == task.expected_text()
        if row.response is not None and row.metadata["stop_reason"] == "end_turn":
            assert read(row.response, task) is not None


def test_turns_of_a_conversation_share_its_id(rows: list[LogRow]) -> None:
    conversations: dict[object, list[LogRow]] = {}
    for row in rows:
        conversations.setdefault(row.metadata["conversation_id"], []).append(row)
    several = [c for c in conversations.values() if len({row.messages for row in c}) > 1]
    assert several
    for conversation in several:
        assert len({row.messages[0] for row in conversation if is_whole(row)}) == 1


def test_a_traffic_shift_lowers_the_primarys_true_quality_by_fifteen_points() -> None:
    shift = END - timedelta(weeks=3)
    shifted = log_rows(weeks=6, rows_per_week=400, ends_at=END, seed=3, traffic_shift_from=shift)
    world = replace(named_world("calm"), seed=3)
    qualities: dict[bool, list[float]] = {True: [], False: []}
    for row in filter(is_whole, shifted):
        turns = tuple(Turn(role=role, text=text) for role, text in row.messages)
        quality = true_quality(world, PRIME, turns, week=1, system=row.system)
        qualities[row.created_at >= shift].append(quality)
    assert mean(qualities[False]) == pytest.approx(0.85, abs=0.025)
    assert mean(qualities[False]) - mean(qualities[True]) == pytest.approx(0.15, abs=0.035)


def test_the_table_is_filled_fast_and_added_to(empty_database_url: str) -> None:
    started = time.process_time()
    added = seed_logs(empty_database_url, weeks=2, rows_per_week=500, ends_at=END, seed=1)
    assert time.process_time() - started < 2.0
    assert added == 1000
    more = seed_logs(
        empty_database_url, weeks=1, rows_per_week=10, ends_at=END + timedelta(weeks=1), seed=1
    )
    assert more == 10
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT id), min(created_at), max(created_at), count(messages)"
            " FROM public.ai_logs"
        ).fetchone()
        assert found is not None
        assert found[:2] == (1010, 1010)
        assert END - timedelta(weeks=2) <= found[2] < found[3] < END + timedelta(weeks=1)
        assert found[4] == 1010
        sample = connection.execute(
            "SELECT prompt, messages, metadata->>'team', metadata->>'expected', model"
            " FROM public.ai_logs WHERE route = 'extract' AND status = 'success' LIMIT 1"
        ).fetchone()
        assert sample is not None
        assert sample[1][-1] == {"role": "user", "content": sample[0]}
        assert sample[2] in {"finance", "travel"}
        assert json.loads(sample[3])
        assert sample[4] == PRIME
    drop_logs(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        gone = connection.execute("SELECT to_regclass('public.ai_logs')").fetchone()
        assert gone == (None,)
