"""Every form in which a gateway goes wrong, each on a candidate of its own, in one real Run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.world import Fault, FaultKind, World
from app.sandbox.worlds import PRICES, PRIME, SWIFT, named_world
from tests.faults.rig import Rig, note, rig, slower
from tests.fixtures.postgres import new_database

N = 2
TIMEOUT_S = 3.0
INCOMPLETE = ("error_event", "cut_stream", "malformed_event", "clean_end")
PROTOCOL = ("html", "empty_body", "other_vendor", "error_body", "no_usage", "other_model")
OWN = {"refusal": "refusal", "truncation": "truncated", "empty_content": "empty"}
TOO_LARGE = ("too_large", "context_length")
SILENT = ("hang", "ping_forever")
THROTTLED = {"two": "2", "minus": "-1", "word": "abc", "date": "date:3"}


def faults() -> dict[str, Fault]:
    """Candidate -> what goes wrong with it; the silent and throttled ones recover once."""
    always = {
        kind: Fault(kind=FaultKind(kind)) for kind in (*INCOMPLETE, *PROTOCOL, *OWN, *TOO_LARGE)
    }
    silent = {kind: Fault(kind=FaultKind(kind), first=1) for kind in SILENT}
    throttled = {
        name: Fault(kind=FaultKind.RATE_LIMITED, retry_after=form, first=1)
        for name, form in THROTTLED.items()
    }
    return {**always, **silent, **throttled}


def world_of(seed: int) -> World:
    calm = slower(named_world("calm", seed=seed), ttft_ms=10.0)
    broken = {
        f"sandbox-{name}": replace(calm.models[SWIFT], faults=(fault,))
        for name, fault in faults().items()
    }
    return replace(calm, models={**calm.models, **broken})


def candidate(name: str) -> dict[str, Any]:
    price = {kind: float(usd) for kind, usd in PRICES[SWIFT].items()}
    return {"name": name, "model": f"sandbox-{name}", "price": price}


@pytest.fixture(
    scope="module", params=[1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
)
def made(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pg_server: str,
    template_database: str,
) -> Iterator[Rig]:
    """One complete Run over all of it."""
    folder = tmp_path_factory.mktemp("forms")
    with (
        new_database(pg_server, template=template_database) as dsn,
        rig(folder, dsn, world=world_of(request.param), n=N, judge=True) as made,
    ):
        made.plan["gateway"]["timeout"] = f"{TIMEOUT_S:g}s"
        made.plan["candidates"] = [candidate(name) for name in faults()]
        process = made.run()
        assert made.finish(process, within_s=120) == 0, made.errors_of(process)
        yield made


def attempts(made: Rig, name: str) -> list[dict[str, Any]]:
    return made.query(
        "SELECT * FROM switchwise.attempts WHERE model_name = %s AND purpose = 'replay'"
        " ORDER BY case_id, attempt_no",
        name,
    )


def result(made: Rig, name: str) -> dict[str, Any]:
    (row,) = made.query(
        "SELECT * FROM switchwise.model_results WHERE segment_name = 'all' AND model_name = %s",
        name,
    )
    return row


@pytest.mark.parametrize("kind", INCOMPLETE)
def test_a_reply_that_does_not_end_is_incomplete_and_its_cost_is_never_zero(
    kind: str, made: Rig
) -> None:
    rows = attempts(made, kind)
    assert {row["failure_class"] for row in rows} == {"incomplete"}
    assert all(row["cost_usd"] is None or row["cost_usd"] > 0 for row in rows)
    assert len(rows) <= 3 * N
    assert result(made, kind)["successes"] == 0


@pytest.mark.parametrize("kind", PROTOCOL)
def test_a_reply_of_another_shape_is_a_protocol_error_and_its_cost_is_never_zero(
    kind: str, made: Rig
) -> None:
    rows = attempts(made, kind)
    assert {row["failure_class"] for row in rows} == {"protocol_error"}
    assert all(row["cost_usd"] is None or row["cost_usd"] > 0 for row in rows)
    assert result(made, kind)["successes"] == 0


@pytest.mark.parametrize("kind", [*INCOMPLETE, *PROTOCOL])
def test_what_is_no_reply_has_no_score(kind: str, made: Rig) -> None:
    scored = made.value(
        "SELECT count(*) FROM switchwise.scores WHERE model_name = %s AND score IS NOT NULL", kind
    )
    assert scored == 0


def test_the_judge_is_asked_about_replies_alone(made: Rig) -> None:
    judged = made.value("SELECT count(*) FROM switchwise.attempts WHERE purpose = 'judge'")
    answering = {"prime", *SILENT, *THROTTLED}
    replies = made.value(
        "SELECT count(*) FROM switchwise.attempts WHERE purpose = 'replay' AND is_final"
        " AND failure_class IS NULL AND model_name = ANY(%s)",
        sorted(answering),
    )
    assert replies == N * len(answering)
    assert judged <= replies


@pytest.mark.parametrize(("kind", "failure"), OWN.items())
def test_a_refusal_a_cut_reply_and_an_empty_one_are_classes_of_their_own(
    kind: str, failure: str, made: Rig
) -> None:
    found = result(made, kind)
    assert found["failures"] == {failure: N}
    assert (found["successes"], found["attempts"]) == (0, N)
    assert found["spend_usd"] > 0


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_prompt_too_large_for_a_candidate_is_asked_once_and_is_its_failure(
    kind: str, made: Rig
) -> None:
    found = result(made, kind)
    assert found["failures"] == {"too_large": N}
    assert (found["attempts"], found["quality"]) == (N, 0.0)


@pytest.mark.parametrize("kind", SILENT)
def test_a_total_deadline_ends_a_hang_and_endless_pings(kind: str, made: Rig) -> None:
    rows = [row for row in attempts(made, kind) if row["attempt_no"] == 1]
    assert {row["failure_class"] for row in rows} == {"timeout"}
    assert len(rows) == N
    worst_s = max(row["latency_seconds"] for row in rows)
    note(f"23 {kind}", deadline_s=TIMEOUT_S, longest_s=round(worst_s, 2))
    assert TIMEOUT_S - 0.5 <= worst_s <= TIMEOUT_S + 2
    assert result(made, kind)["successes"] == N


@pytest.mark.parametrize("name", THROTTLED)
def test_every_form_of_retry_after_is_waited_out_as_asked_and_costs_nothing(
    name: str, made: Rig
) -> None:
    waits_s = gaps(made, name)
    asked_s = {"two": 2.0, "date": 1.5}.get(name, 0.0)  # a date counts whole seconds
    note(f"19 Retry-After {THROTTLED[name]}", waited_s=[round(wait_s, 1) for wait_s in waits_s])
    assert len(waits_s) == N
    assert all(asked_s <= wait_s < asked_s + 10 for wait_s in waits_s)
    throttled = [row for row in attempts(made, name) if row["failure_class"] == "rate_limited"]
    assert [row["cost_usd"] for row in throttled] == [0] * N
    assert result(made, name)["failures"] == {}


def gaps(made: Rig, model: str) -> list[float]:
    """Seconds between the end of the first and the start of the second call of every prompt."""
    calls: dict[str, dict[int, dict[str, Any]]] = {}
    for call in made.calls():
        if call["model"] == f"sandbox-{model}":
            calls.setdefault(call["key"], {})[call["nth"]] = call
    return [
        two["received_at"] - (one["received_at"] + one["duration_s"])
        for one, two in ((both[1], both[2]) for both in calls.values())
    ]


def test_the_gateway_saw_what_the_journal_says(made: Rig) -> None:
    assert made.value("SELECT count(*) FROM switchwise.attempts") == made.received()
    assert made.lost_results() == 0
    assert len(made.messages()) == 1


def test_a_prompt_too_large_for_the_primary_leaves_its_pair_out_and_is_counted(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=12, models=2, ttft_ms=10.0) as made:
        fault = Fault(kind=FaultKind.CONTEXT_LENGTH, sticky=True, rate=0.3)
        made.change_model(PRIME, faults=(fault,))
        process = made.run()
        assert made.finish(process) == 0, made.errors_of(process)
        refused = result(made, "prime")["failures"]["too_large"]
        assert 0 < refused < 12
        most = made.value("SELECT max(attempt_no) FROM switchwise.attempts")
        assert most == 1
        (row,) = made.query("SELECT * FROM switchwise.comparisons WHERE segment_name = 'all'")
        assert row["tests"]["dropped_pairs"] == {"primary: too_large": refused}
        note("26 on the primary", pairs=row["pairs"], left_out=refused)


def test_a_model_without_a_price_is_refused_by_name_before_any_call(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=4) as made:
        del made.plan["candidates"][0]["price"]
        process = made.run()
        assert made.finish(process) == 2
        told = made.errors_of(process)
        assert "swift (sandbox-swift)" in told
        assert "price_as" in told
        assert made.received() == 0
        check = made.start("check")
        assert made.finish(check) != 0
        assert "swift" in (tmp_path / "out-1").read_text() + made.errors_of(check)
        assert made.received() <= len(made.plan["candidates"]) + 1


@pytest.mark.parametrize("runs", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_prompt_that_always_fails_is_tried_six_times_in_its_life_and_then_left_out(
    runs: int, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=12, models=2, ttft_ms=5.0, rows=12) as made:
        poison = made.value(
            "SELECT prompt FROM public.ai_logs WHERE status = 'success' ORDER BY id LIMIT 1"
        )
        fault = Fault(kind=FaultKind.SERVER_ERROR, contains=str(poison)[:60])
        made.change_model(PRIME, faults=(fault,))
        for _ in range(runs):
            process = made.run()
            assert made.finish(process) == 0, made.errors_of(process)
        tried = [row["tried"] for row in made.query(TRIED_IN_ITS_LIFE)]
        skipped = made.value("SELECT skipped FROM switchwise.runs ORDER BY created_at DESC LIMIT 1")
        note("30", runs=runs, poison_prompts=len(tried), attempts_each=tried)
        assert set(tried) == {6}
        assert skipped["quarantined"] >= len(tried)


TRIED_IN_ITS_LIFE = """
    SELECT count(*) AS tried FROM switchwise.attempts JOIN switchwise.cases USING (case_id)
    WHERE model_name = 'prime' AND failure_class = 'server_error' GROUP BY prompt_hash
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_model_that_is_down_is_called_twenty_times_and_then_probed(
    seed: int, tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=20, ttft_ms=20.0) as made:
        made.change_world(lambda world: replace(world, seed=seed))
        made.change_model(SWIFT, faults=(Fault(kind=FaultKind.OVERLOADED),))
        process = made.run()
        assert made.finish(process, within_s=150) == 0, made.errors_of(process)
        at = sorted(call["received_at"] for call in made.calls() if call["model"] == SWIFT)
        before_the_breaker = sum(moment - at[0] < 5.0 for moment in at)
        note("22", seed=seed, before_the_breaker=before_the_breaker, with_probes=len(at))
        assert before_the_breaker <= 20
        assert len(at) <= 26
        cases = made.value("SELECT cases_sampled FROM switchwise.runs")
        assert result(made, "prime")["cases"] == cases
        verdicts = made.query(
            "SELECT candidate_name, verdict FROM switchwise.comparisons WHERE segment_name = 'all'"
        )
        assert {row["candidate_name"]: row["verdict"] for row in verdicts}["swift"] == "unmeasured"
        assert len(made.messages()) == 1
