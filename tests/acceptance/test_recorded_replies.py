"""Recorded replies of real models: the pipeline's figures equal those computed from the file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.runner import running_in_thread
from tests.fakes.recorded_gateway import (
    JUDGE,
    JUDGE_TOKENS,
    Recorded,
    read_recorded,
    recorded_gateway,
)
from tests.processes import ROOT, switchwise

DATA = ROOT.parent / "shared" / "data"
JUDGE_PRICE = (1.0, 5.0)

MTBENCH = {
    "gpt-4-1106-preview": (10.0, 30.0),
    "claude-3-5-sonnet-20240620": (3.0, 15.0),
    "mixtral-8x7b-instruct-v0.1": (0.6, 0.6),
    "llama-2-7b-base": (0.2, 0.2),
}
ZEROEVAL = {
    "gpt-4o-2024-08-06": (2.5, 10.0),
    "gpt-4o-mini-2024-07-18": (0.15, 0.60),
    "claude-3-opus-20240229": (15.0, 75.0),
    "Meta-Llama-3-8B-Instruct": (0.2, 0.2),
}


def recorded(name: str, models: Sequence[str]) -> list[Recorded]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the recorded replies are not at {path}")
    return read_recorded(path, models=models)


def plan_text(
    url: str, prompts: Path, prices: Mapping[str, tuple[float, float]], evaluators: str, n: int
) -> str:
    primary, *candidates = prices

    def model(name: str) -> str:
        rates = prices[name]
        return (
            f"{{name: {json.dumps(name)}, model: {json.dumps(name)}, "
            f"price: {{input: {rates[0]}, output: {rates[1]}}}}}"
        )

    return f"""
version: 1
name: recorded
gateway: {{base_url: {url}, api_key: "${{LLM_API_KEY}}", concurrency: 16, timeout: 30s}}
primary: {model(primary)}
candidates: [{", ".join(model(name) for name in candidates)}]
logs: {{preset: file, path: {prompts}, segments: {{set: segment}}}}
sample: {{n: {n}, adaptive: false, anchors: 0}}
{evaluators}
"""


def report_of(
    tmp_path: Path,
    database_url: str,
    rows: Sequence[Recorded],
    prices: Mapping[str, tuple[float, float]],
    evaluators: str,
) -> dict[str, Any]:
    prompts = {row.prompt: row for row in rows}
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        "".join(
            json.dumps(
                {"prompt": row.prompt, "expected": row.reference, "segment": row.segment},
                ensure_ascii=False,
            )
            + "\n"
            for row in prompts.values()
        ),
        encoding="utf-8",
    )
    with running_in_thread(recorded_gateway(rows)) as url:
        plan = tmp_path / "plan.yaml"
        plan.write_text(plan_text(url, file, prices, evaluators, len(prompts)))
        ran = switchwise(
            "run",
            "--config",
            str(plan),
            "--json",
            cwd=tmp_path,
            env={"DATABASE_URL": database_url, "LLM_API_KEY": "k"},
            timeout_s=240,
        )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout)
    assert found["cases"]["sampled"] == len(prompts)
    return found


def assert_figures(
    report: Mapping[str, Any],
    rows: Sequence[Recorded],
    scores: Mapping[tuple[str, str], float],
    prices: Mapping[str, tuple[float, float]],
) -> None:
    """Mean score, spend and paired difference of every model, against plain sums over the file."""
    prompts = {row.prompt for row in rows}
    n = len(prompts)
    by_model = {
        name: [row for row in rows if row.model == name] for name in {row.model for row in rows}
    }
    means: dict[str, float] = {}
    for model in report["models"]:
        mine = by_model[model["name"]]
        inward, outward = prices[model["name"]]
        spend = sum(r.input_tokens * inward + r.output_tokens * outward for r in mine) / 1e6
        means[model["name"]] = sum(scores[(r.model, r.prompt)] for r in mine) / n
        assert model["cases"] == n
        assert model["quality"]["value"] == pytest.approx(means[model["name"]], abs=1e-9)
        assert float(model["spend_usd"]) == pytest.approx(spend, rel=1e-9)
        assert float(model["cost_per_1k_usd"]) == pytest.approx(1000 * spend / n, rel=1e-9)
        assert float(model["cost_per_quality_usd"]["value"]) == pytest.approx(
            spend / n / means[model["name"]], rel=1e-9
        )
    primary = report["models"][0]["name"]
    for comparison in report["comparisons"]:
        difference = means[comparison["candidate"]] - means[primary]
        assert comparison["pairs"] == n
        assert comparison["quality_delta"]["value"] == pytest.approx(difference, abs=1e-9)
        assert comparison["quality_delta"]["low"] < comparison["quality_delta"]["high"]


def test_judged_scores_spend_and_differences_equal_the_file(
    tmp_path: Path, database_url: str
) -> None:
    rows = recorded("replay_mtbench_A.jsonl.gz", list(MTBENCH))
    evaluators = f"""
evaluators: [{{type: judge}}]
judge:
  models: [{{name: judge, model: {JUDGE}, price: {{input: {JUDGE_PRICE[0]}, output: {JUDGE_PRICE[1]}}}}}]
  canaries: 0
"""
    report = report_of(tmp_path, database_url, rows, MTBENCH, evaluators)
    assert_figures(report, rows, {(r.model, r.prompt): r.score for r in rows}, MTBENCH)
    distinct = len({(r.prompt, r.output) for r in rows})
    expected = distinct * sum(
        tokens * price for tokens, price in zip(JUDGE_TOKENS, JUDGE_PRICE, strict=True)
    )
    assert float(report["spend"]["judge_usd"]) == pytest.approx(expected / 1e6)
    verdicts = {c["candidate"]: c["verdict"] for c in report["comparisons"]}
    assert verdicts["llama-2-7b-base"] == "worse"
    ratio = next(c for c in report["comparisons"] if c["candidate"] == "llama-2-7b-base")
    assert ratio["value_ratio"]["high"] < 0.2  # by the ratio alone it would win


def test_exact_answers_in_json_equal_the_file(tmp_path: Path, database_url: str) -> None:
    rows = recorded("replay_zeroeval_A.jsonl.gz", list(ZEROEVAL))
    rows = [row for row in rows if row.segment == "gsm"]
    evaluators = "evaluators: [{type: numeric, field: answer}]\n"
    report = report_of(tmp_path, database_url, rows, ZEROEVAL, evaluators)
    assert_figures(report, rows, {(r.model, r.prompt): r.score for r in rows}, ZEROEVAL)
    verdicts = {c["candidate"]: c["verdict"] for c in report["comparisons"]}
    assert verdicts["Meta-Llama-3-8B-Instruct"] == "worse"


def test_exact_python_literals_in_json_nearly_equal_the_file(
    tmp_path: Path, database_url: str
) -> None:
    rows = recorded("replay_zeroeval_A.jsonl.gz", list(ZEROEVAL))
    rows = [row for row in rows if row.segment == "crux"]
    evaluators = "evaluators: [{type: exact, field: answer, compare: literal}]\n"
    report = report_of(tmp_path, database_url, rows, ZEROEVAL, evaluators)
    for model in report["models"]:
        scores = [row.score for row in rows if row.model == model["name"]]
        mean = sum(scores) / len(scores)
        # The recorded parser took a few answers for equal that differ as literals.
        assert model["quality"]["value"] == pytest.approx(mean, abs=0.03)
