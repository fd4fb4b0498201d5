"""Logs that hold what no prompt should: the Run completes, and every row is accounted for."""

import json
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.rig import note, rig

ROWS = 30
ODD_ROWS = [
    (1, None, None),
    (2, "", "[]"),
    (3, "x" * 1_000_000, None),
    (4, "family 👩‍👩‍👧 emoji", None),
    (5, None, '[{"role": "user", "content": "nul \\u0000"}]'),
    (6, None, '[{"role": "user", "content": "half \\ud83d"}]'),
    (7, None, '"just text"'),
    (8, "\x01\x02\x03\x04", None),
    (9, None, "[1, 2]"),
    (10, "ligature ﬁ, right-to-left \u202e, zero width \u200b", None),
    *((number, f"Where is parcel {number}?", None) for number in range(11, ROWS + 1)),
]


def test_odd_rows_are_skipped_with_their_reason_and_the_run_completes(
    tmp_path: Path, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE odd_logs (id int PRIMARY KEY, created_at timestamptz, prompt text,"
            " messages json)"
        )
        for row in ODD_ROWS:
            connection.execute(
                "INSERT INTO odd_logs VALUES (%s, now() - interval '1 hour', %s, %s)", row
            )
    with rig(tmp_path, database_url, n=100, models=2, judge=True, ttft_ms=5.0) as made:
        made.plan["logs"] = {
            "table": "public.odd_logs",
            "columns": {
                "id": "id",
                "created_at": "created_at",
                "prompt": "prompt",
                "messages": "messages",
            },
        }
        process = made.run()
        assert made.finish(process) == 0, made.errors_of(process)
        told: dict[str, Any] = json.loads((tmp_path / "out-0").read_text(encoding="utf-8"))
        skipped = told["cases"]["skipped"]
        assert skipped == {"binary": 2, "empty": 2, "too_long": 1, "unreadable": 1,
                           "unsupported_content": 1}  # fmt: skip
        assert told["cases"]["sampled"] + sum(skipped.values()) == ROWS
        for model in told["models"]:
            judged = made.value(
                "SELECT count(*) FROM switchwise.scores"
                " WHERE evaluator = 'judge' AND score IS NOT NULL AND model_name = %s",
                model["name"],
            )
            failed = sum(model["failures"].values())
            assert judged + failed == told["cases"]["sampled"]
        assert made.lost_results() == 0
        note("34 odd rows", rows=ROWS, cases=told["cases"]["sampled"], skipped=skipped)
