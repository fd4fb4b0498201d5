"""Recorded replies with reference answers score as they were scored when recorded."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.scores import Score
from app.evaluation.evaluator import Evaluator
from app.evaluation.numbers import Numeric
from app.evaluation.text_checks import Exact
from tests.fakes.judges import case, completion

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "replay_zeroeval_A.jsonl.gz"
EVALUATORS: dict[str, Evaluator] = {
    "gsm": Numeric(field="answer"),
    "crux": Exact(field="answer", compare="literal"),
}

pytestmark = pytest.mark.skipif(
    not RECORDED.exists(), reason="the recorded reference answers are not there"
)


def recorded(segment: str) -> Iterator[dict[str, Any]]:
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        yield from (row for row in rows if row["segment"] == segment and row["parse"] == "json")


@pytest.mark.parametrize(("segment", "agreement"), [("gsm", 1.0), ("crux", 0.99)])
def test_answers_in_json_score_as_recorded(segment: str, agreement: float) -> None:
    same, total = 0, 0
    for row in recorded(segment):
        asked = case(reference=row["reference"])
        result = EVALUATORS[segment].score(asked, completion(row["output"]))
        assert isinstance(result, Score)
        same += result.value == row["judge_score"]
        total += 1
    assert total > 3000
    assert same / total >= agreement
