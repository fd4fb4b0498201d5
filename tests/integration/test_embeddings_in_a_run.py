"""A Run that measures by embeddings: every call journaled, priced apart, tried again and resumed."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.sandbox.world import Fault, FaultKind
from app.sandbox.worlds import JUDGE
from tests.faults.rig import CONCURRENCY, Rig, rig

N = 20
PRICE_USD = Decimal("0.02")
_SPENT = """
    SELECT purpose, count(*) AS calls, sum(cost_usd) AS usd, sum(input_tokens) AS tokens
    FROM switchwise.attempts GROUP BY 1
"""
_SCORES = """
    SELECT s.score, a.reply_hash FROM switchwise.scores s
    JOIN switchwise.attempts a USING (case_id, model_name)
    WHERE s.evaluator = 'similarity' AND a.purpose = 'replay' AND a.is_final
"""


def measured_by_embeddings(made: Rig) -> None:
    made.plan["embeddings"] = {"model": JUDGE, "price": {"input": float(PRICE_USD)}}
    made.plan["evaluators"] += [
        {"type": "similarity", "measure": "embeddings", "reference": "logged"}
    ]


def embedded(made: Rig) -> list[dict[str, Any]]:
    return [call for call in made.calls() if call["api"] == "embeddings"]


def test_embeddings_are_journaled_tried_again_and_paid_apart_from_the_models(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=N, models=2, ttft_ms=1) as made:
        measured_by_embeddings(made)
        throttled = Fault(kind=FaultKind.RATE_LIMITED, first=1, retry_after="0")
        made.change_model(JUDGE, faults=(throttled,))
        process = made.run()
        assert made.finish(process) == 0, made.errors_of(process)
        (output,) = [json.loads((made.folder / "out-0").read_text(encoding="utf-8"))]
        spent = {row["purpose"]: row for row in made.query(_SPENT)}
        calls = embedded(made)
        scores = made.query(_SCORES)

    paid = [call for call in calls if call["is_paid"]]
    asked = {call["key"] for call in calls}
    assert [call["status"] for call in calls].count(429) == len(asked) > N
    assert {call["key"] for call in paid} == asked
    assert spent["judge"]["calls"] == len(calls)
    assert spent["judge"]["tokens"] == sum(call["input_tokens"] for call in paid)
    assert spent["judge"]["usd"] == spent["judge"]["tokens"] * PRICE_USD / 1_000_000
    spend = output["spend"]
    assert Decimal(spend["embeddings_usd"]) == Decimal(spend["judge_usd"]) == spent["judge"]["usd"]
    assert Decimal(spend["models_usd"]) == spent["replay"]["usd"]
    assert len(scores) == 2 * N
    assert all(0.0 <= row["score"] <= 1.0 for row in scores)
    assert len({row["score"] for row in scores}) > N / 2
    assert all(model["quality"]["value"] > 0 for model in output["models"])


def test_a_killed_run_pays_no_settled_embedding_again(tmp_path: Path, database_url: str) -> None:
    with rig(tmp_path, database_url, n=N, models=2, ttft_ms=60) as made:
        measured_by_embeddings(made)
        process = made.run()
        made.until(lambda: len(embedded(made)) >= 8, what="8 embeddings")
        process.kill()
        process = made.resume()
        assert made.finish(process) == 0, made.errors_of(process)

        assert made.repeated_calls() <= CONCURRENCY * 2
        assert made.paid_twice() == 0
        assert made.lost_results() == 0
        assert len(made.query(_SCORES)) == 2 * N


def test_an_endpoint_that_refuses_its_key_ends_the_run_with_one_message(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=N, models=2, ttft_ms=1) as made:
        measured_by_embeddings(made)
        made.change_model(JUDGE, faults=(Fault(kind=FaultKind.UNAUTHORIZED),))
        process = made.run()
        assert made.finish(process) == 3, made.errors_of(process)

        assert made.statuses() == {"failed": 1}
        assert len(made.messages()) == 1
        assert "embeddings" in str(made.messages()[0])
