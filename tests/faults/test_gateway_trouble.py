"""A gateway that refuses, throttles, fails or asks for patience."""

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from app.sandbox.world import Fault, FaultKind
from app.sandbox.worlds import PRIME, SWIFT, named_world
from tests.faults.rig import CONCURRENCY, Rig, rig, slower, with_spec


def refusing(made: Rig, model: str | None, kind: FaultKind, **rule: object) -> None:
    fault = Fault(kind=kind, **rule)  # type: ignore[arg-type]
    if model is None:
        made.change_world(lambda world: replace(world, faults=(fault,)))
    else:
        made.change_world(lambda world: with_spec(world, model, faults=(fault,)))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (FaultKind.UNAUTHORIZED, "key"),
        pytest.param(FaultKind.BILLING, "billing", marks=pytest.mark.slow),
        pytest.param(FaultKind.SPEND_LIMIT, "billing", marks=pytest.mark.slow),
        pytest.param(FaultKind.NOT_FOUND, "not found", marks=pytest.mark.slow),
    ],
)
def test_a_refusal_of_everything_fails_the_run_at_once_with_one_message_that_says_what_to_mend(
    kind: FaultKind, word: str, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url) as made:
        refusing(made, None, kind)
        process = made.run()
        made.finish(process)
        assert made.statuses() == {"failed": 1}
        assert made.received() <= CONCURRENCY
        (message,) = made.messages()
        assert word in str(message["arguments"]).lower()


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.NOT_FOUND,
        pytest.param(FaultKind.FORBIDDEN, marks=pytest.mark.slow),
    ],
)
def test_a_candidate_that_is_refused_is_unmeasured_and_the_others_finish(
    kind: FaultKind, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=20) as made:
        refusing(made, SWIFT, kind)
        process = made.run()
        assert made.finish(process) == 0, made.errors_of(process)
        calls = Counter(call["model"] for call in made.calls())
        assert calls[SWIFT] <= CONCURRENCY
        cases = made.value("SELECT cases_sampled FROM switchwise.runs")
        assert calls[PRIME] == cases
        verdicts = {
            row["candidate_name"]: row["verdict"]
            for row in made.query(
                "SELECT candidate_name, verdict FROM switchwise.comparisons"
                " WHERE segment_name = 'all'"
            )
        }
        assert verdicts["swift"] == "unmeasured"
        assert len(made.messages()) == 1


def test_a_storm_of_errors_is_journaled_and_ridden_out(tmp_path: Path, database_url: str) -> None:
    storm = replace(slower(named_world("storm"), ttft_ms=20.0), seed=5)
    with rig(tmp_path, database_url, world=storm, n=60) as made:
        process = made.run()
        assert made.finish(process) == 0, made.errors_of(process)
        most = made.value(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM switchwise.attempts"
            " GROUP BY case_id, call_key) a"
        )
        assert most <= 3
        assert made.value("SELECT count(*) FROM switchwise.attempts") == made.received()
        complete = made.value(
            "SELECT avg((failure_class IS NULL)::int) FROM switchwise.attempts WHERE is_final"
        )
        assert complete >= 0.95
        unnamed = made.value(
            "SELECT count(*) FROM switchwise.attempts WHERE request_id IS NULL"
            " AND failure_class <> 'connection'"
        )
        assert unnamed == 0


def test_a_long_retry_after_defers_the_shard_and_holds_up_nothing_else(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=60, ttft_ms=20.0) as made:
        refusing(made, PRIME, FaultKind.RATE_LIMITED, retry_after="7200", sticky=True, rate=0.12)
        process = made.run()
        made.until(lambda: _stuck_only_on_deferred(made), what="all other shards are done")
        refused = [call for call in made.calls() if call["status"] == 429]
        assert refused  # another draw of prompts every minute: none is refused in 1 of 2,000
        assert made.value("SELECT count(*) FROM switchwise.shards WHERE is_done") > 0
        assert max(Counter(call["key"] for call in refused).values()) == 1
        process.signal(signal.SIGTERM)
        assert made.finish(process, within_s=10) == 4
        refusing(made, PRIME, FaultKind.RATE_LIMITED, rate=0.0)
        process = made.resume()
        assert made.finish(process) == 0, made.errors_of(process)
        assert made.lost_results() == 0
        assert made.repeated_calls() == len(refused)


def _stuck_only_on_deferred(made: Rig) -> bool:
    """Whether every call that can be made has been answered."""
    rows = made.query("SELECT count(*) AS open FROM switchwise.attempts WHERE state = 'sent'")
    done = made.query(
        "SELECT count(*) FILTER (WHERE is_done) AS done, count(*) AS all FROM switchwise.shards"
    )[0]
    throttled = made.query(
        "SELECT DISTINCT shard_no FROM switchwise.attempts WHERE failure_class = 'rate_limited'"
    )
    return bool(rows[0]["open"] == 0 and 0 < done["all"] == done["done"] + len(throttled))
