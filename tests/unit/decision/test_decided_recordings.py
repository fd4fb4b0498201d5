"""Recorded replies of real models: the cheapest, worst one is never recommended."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from app.decision import Decider
from app.domain.results import VerdictKind

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
USD_PER_TOKEN = 1e-5


def recorded(name: str) -> Mapping[str, Mapping[str, tuple[float, float]]]:
    """(cost, score) of every scored reply by model and prompt, all at one price per token."""
    path = SHARED / f"replay_{name}_A.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the recorded replies are not at {path}")
    table: dict[str, dict[str, tuple[float, float]]] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            score = row["judge_score"]
            if score is None or row.get("turn", 1) != 1:
                continue
            cost = USD_PER_TOKEN * (row.get("output_tokens") or 1)
            table.setdefault(row["model"], {})[row["prompt_id"]] = (cost, float(score))
    return table


@pytest.mark.parametrize("name", ["mtbench", "zeroeval"])
def test_the_worst_recorded_model_is_called_worse_however_cheap_it_is(name: str) -> None:
    table = recorded(name)
    means = {model: np.mean([score for _, score in rows.values()]) for model, rows in table.items()}
    best, worst = max(means, key=lambda m: means[m]), min(means, key=lambda m: means[m])
    prompts = sorted(set(table[best]) & set(table[worst]))
    quality = np.array([[table[m][p][1] for m in (best, worst)] for p in prompts])
    cost = np.array([[table[best][p][0], table[best][p][0] / 1000] for p in prompts])
    assert len(prompts) >= 30

    decider = Decider([best, worst], best)
    for _ in range(4):
        found = decider.week(cost, quality, np.ones(cost.shape), np.ones(cost.shape))

    ratio = found.comparisons[worst].value_ratio
    assert ratio is not None
    assert ratio.high < 0.1  # by the ratio alone it would win tenfold
    assert found.recommended == ()
    assert found.verdicts[worst].kind is VerdictKind.WORSE
