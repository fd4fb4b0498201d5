"""The main job as a user runs it: the installed command, real HTTP, an own Postgres over TCP."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from scipy import stats
from slack_sdk.models.blocks import Block

from app.domain.errors import StorageUnavailable
from app.sandbox.logs import seed_logs
from app.sandbox.runner import running_process
from app.storage.postgres_server import start_server
from tests.fixtures.postgres import free_port
from tests.processes import switchwise

N = 60
PLAN = """
version: 1
name: support-bot
gateway: {{base_url: {url}, api_key: "${{LLM_API_KEY}}", concurrency: 8, timeout: 20s}}
primary: {{name: prime, model: sandbox-prime, price: {{input: 3, output: 15}}}}
candidates:
  - {{name: swift, model: sandbox-swift, price: {{input: 1.8, output: 9}}}}
  - {{name: mini, model: sandbox-mini, price: {{input: 0.05, output: 0.2}}}}
logs:
  table: public.ai_logs
  columns: {{messages: messages}}
  where: "status = 'success'"
  segments: {{route: route}}
sample: {{n: {n}, adaptive: false, anchors: 0}}
evaluators:
  - {{type: not_refused, gate: true}}
  - {{type: json_valid, gate: true, when: {{route: extract}}}}
  - {{type: judge}}
judge: {{models: [{{name: judge, model: sandbox-judge, price: {{input: 1, output: 5}}}}]}}
budget: {{per_run_usd: 25}}
slack: {{token: "${{SLACK_BOT_TOKEN}}", channel: C0TEST, base_url: "{url}/api/"}}
"""


@dataclass(frozen=True)
class Job:
    """One finished run by hand and where everything is."""

    report: dict[str, Any]
    dsn: str
    url: str
    checked: str
    planned: str
    folder: Path
    env: Mapping[str, str]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, own_database: str) -> Iterator[Job]:
    folder = tmp_path_factory.mktemp("job")
    now = datetime.fromtimestamp(time.time(), UTC)
    seed_logs(own_database, weeks=1, rows_per_week=400, ends_at=now, seed=11)
    with running_process("--world", "demo", "--seed", "5") as sandbox:
        plan = folder / "plan.yaml"
        plan.write_text(PLAN.format(url=sandbox["url"], n=N))
        env = {
            "DATABASE_URL": own_database,
            "LOGS_DATABASE_URL": own_database,
            "LLM_API_KEY": "key",
            "SLACK_BOT_TOKEN": "xoxb-test",
            "SWITCHWISE_CONFIG": str(plan),
        }
        outputs = []
        for arguments in (["check"], ["plan"], ["run", "--json"]):
            ended = switchwise(*arguments, cwd=folder, env=env, timeout_s=200)
            assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
            outputs.append(ended.stdout)
        yield Job(
            report=json.loads(outputs[2]),
            dsn=own_database,
            url=sandbox["url"],
            checked=outputs[0],
            planned=outputs[1],
            folder=folder,
            env=env,
        )


@pytest.fixture(scope="module")
def own_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of the job's own, on a second server over TCP."""
    try:
        server = start_server(
            tmp_path_factory.mktemp("pg") / "data", tcp_port=free_port(), is_durable=False
        )
    except StorageUnavailable as error:
        pytest.skip(f"a server of its own needs Postgres programs: {error}")
    try:
        yield server.dsn
    finally:
        server.stop("immediate")


def rows(job: Job, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(job.dsn) as connection:
        return connection.execute(query, {"run": job.report["run_id"]}).fetchall()


def model(job: Job, name: str) -> dict[str, Any]:
    return next(m for m in job.report["models"] if m["name"] == name)


CALLS = """
    SELECT a.model_name, a.case_id::text, c.weight, coalesce(c.conversation, c.case_id::text),
      sum(a.cost_usd), count(*), bool_or(a.is_final AND a.failure_class IS NULL),
      max(a.latency_seconds) FILTER (WHERE a.is_final),
      max(a.ttft_seconds) FILTER (WHERE a.is_final)
    FROM switchwise.attempts a JOIN switchwise.cases c USING (case_id)
    WHERE a.run_id = %(run)s AND a.purpose = 'replay'
    GROUP BY 1, 2, 3, 4
"""


@dataclass(frozen=True)
class Row:
    """One Case and model, recomputed by SQL and plain arithmetic."""

    weight: float
    conversation: str
    cost: float
    attempts: int
    is_success: bool
    quality: float
    latency: float
    ttft: float


def recomputed(job: Job) -> dict[str, dict[str, Row]]:
    scores: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    query = (
        "SELECT model_name, case_id::text, score, is_gate FROM switchwise.scores"
        " WHERE run_id = %(run)s AND model_name NOT LIKE 'canary%%'"
    )
    for name, case_id, score, is_gate in rows(job, query):
        scores.setdefault((name, case_id), []).append((score, is_gate))
    found: dict[str, dict[str, Row]] = {}
    for name, case_id, weight, conversation, cost, attempts, completed, latency, ttft in rows(
        job, CALLS
    ):
        given = scores.get((name, case_id), [])
        passed = completed and all(score == 1 for score, is_gate in given if is_gate)
        graded = [score for score, is_gate in given if not is_gate]
        found.setdefault(name, {})[case_id] = Row(
            weight=weight,
            conversation=conversation,
            cost=float(cost),
            attempts=attempts,
            is_success=passed,
            quality=float(np.mean(graded)) if passed else 0.0,
            latency=latency,
            ttft=ttft,
        )
    return found


def test_check_and_plan_tell_what_will_happen_and_spend_nothing(job: Job) -> None:
    assert "support-bot" in job.checked
    assert "$" in job.planned
    assert rows(job, "SELECT count(*) FROM switchwise.runs")[0][0] == 1


def test_every_count_and_sum_equals_the_rows(job: Job) -> None:
    found = recomputed(job)
    assert job.report["status"] == "done"
    assert job.report["cases"]["sampled"] == len(found["prime"])
    for name, cases in found.items():
        told = model(job, name)
        weights = np.array([row.weight for row in cases.values()])
        weights = weights / weights.sum()
        cost = np.array([row.cost for row in cases.values()])
        quality = np.array([row.quality for row in cases.values()])
        success = np.array([row.is_success for row in cases.values()], dtype=float)
        assert told["cases"] == len(cases)
        assert told["successes"] == int(success.sum())
        assert told["attempts"] == sum(row.attempts for row in cases.values())
        assert told["retries"] == told["attempts"] - len(cases)
        assert (
            Decimal(told["spend_usd"])
            == rows(
                job,
                "SELECT sum(cost_usd) FROM switchwise.attempts WHERE run_id = %(run)s"
                f" AND purpose = 'replay' AND model_name = '{name}'",
            )[0][0]
        )
        assert told["quality"]["value"] == pytest.approx(weights @ quality)
        assert told["success_rate"] == pytest.approx(weights @ success)
        per_success = (weights @ cost) / (weights @ success)
        assert float(told["cost_per_success_usd"]) == pytest.approx(per_success, rel=1e-9)
        assert float(told["cost_per_1k_usd"]) == pytest.approx(1000 * weights @ cost, rel=1e-9)
        assert float(told["cost_per_quality_usd"]["value"]) == pytest.approx(
            (weights @ cost) / (weights @ quality), rel=1e-9
        )
    judge = rows(
        job,
        "SELECT sum(cost_usd) FROM switchwise.attempts WHERE run_id = %(run)s"
        " AND purpose = 'judge'",
    )[0][0]
    spend = job.report["spend"]
    assert Decimal(spend["judge_usd"]) == judge
    assert Decimal(spend["total_usd"]) == Decimal(spend["models_usd"]) + judge


def test_every_comparison_equals_the_pairs(job: Job) -> None:
    found = recomputed(job)
    for comparison in job.report["comparisons"]:
        theirs, ours = found[comparison["candidate"]], found["prime"]
        cases = sorted(ours)
        weights = np.array([ours[case].weight for case in cases])
        cost_c = weights @ np.array([theirs[case].cost for case in cases])
        cost_p = weights @ np.array([ours[case].cost for case in cases])
        quality_c = weights @ np.array([theirs[case].quality for case in cases])
        quality_p = weights @ np.array([ours[case].quality for case in cases])
        assert comparison["pairs"] == len(cases)
        assert comparison["window_weeks"] == 1
        assert comparison["quality_delta"]["value"] == pytest.approx(quality_c - quality_p)
        assert comparison["saving"]["value"] == pytest.approx(1 - cost_c / cost_p)
        assert comparison["value_ratio"]["value"] == pytest.approx(
            (cost_c / quality_c) / (cost_p / quality_p)
        )


def test_the_interval_of_the_quality_difference_is_the_clustered_t_interval(job: Job) -> None:
    found = recomputed(job)
    for comparison in job.report["comparisons"]:
        theirs, ours = found[comparison["candidate"]], found["prime"]
        cases = sorted(ours)
        weights = np.array([ours[case].weight for case in cases])
        difference = np.array([theirs[case].quality - ours[case].quality for case in cases])
        mean = weights @ difference
        residuals: dict[str, float] = {}
        for case, weight, one in zip(cases, weights, difference, strict=True):
            key = ours[case].conversation
            residuals[key] = residuals.get(key, 0.0) + weight * (one - mean)
        groups = len(residuals)
        variance = sum(value**2 for value in residuals.values()) * groups / (groups - 1)
        half = stats.t.ppf(0.975, groups - 1) * np.sqrt(variance)
        assert comparison["quality_delta"]["low"] == pytest.approx(mean - half, abs=1e-9)
        assert comparison["quality_delta"]["high"] == pytest.approx(mean + half, abs=1e-9)


def test_every_bootstrap_interval_agrees_with_an_independent_bootstrap(job: Job) -> None:
    found = recomputed(job)
    rng = np.random.default_rng(99)
    for name, cases in found.items():
        conversations = sorted({row.conversation for row in cases.values()})
        place = {key: number for number, key in enumerate(conversations)}
        sums = np.zeros((len(conversations), 3))
        for row in cases.values():
            part = row.weight * np.array([row.cost, row.quality, row.is_success])
            sums[place[row.conversation]] += part
        picks = rng.multinomial(
            len(conversations), np.full(len(conversations), 1 / len(conversations)), size=20_000
        )
        cost, quality, _success = (picks @ sums).T
        low, high = np.quantile(cost / quality, [0.025, 0.975])
        told = model(job, name)["cost_per_quality_usd"]
        width = high - low
        assert float(told["low"]) == pytest.approx(low, abs=0.3 * width)
        assert float(told["high"]) == pytest.approx(high, abs=0.6 * width)


def test_percentiles_are_shown_where_the_sample_supports_them(job: Job) -> None:
    found = recomputed(job)
    for name, cases in found.items():
        latencies = [1000 * row.latency for row in cases.values() if row.is_success]
        told = model(job, name)["latency_ms"]
        if len(latencies) >= 10:
            assert min(latencies) <= told["p50"] <= max(latencies)
            assert told["p50"] == pytest.approx(np.median(latencies), rel=0.2)
        assert told["p99"] is None  # sixty cases cannot support it


def test_the_report_stored_is_the_report_printed(job: Job) -> None:
    stored = rows(job, "SELECT results FROM switchwise.benchmark_results WHERE run_id = %(run)s")[
        0
    ][0]
    assert stored == job.report
    printed = switchwise("report", "--json", cwd=job.folder, env=job.env)
    assert json.loads(printed.stdout) == job.report


def test_slack_received_exactly_one_valid_message(job: Job) -> None:
    received = httpx.get(f"{job.url}/_sandbox/messages", trust_env=False).json()
    messages = received["messages"] if isinstance(received, dict) else received
    assert len(messages) == 1
    for block in Block.parse_all(messages[0]["blocks"]):
        block.validate_json()
    assert "by hand" in json.dumps(messages[0])


def test_a_run_by_hand_opens_no_alert_and_pools_no_evidence(job: Job) -> None:
    for table in ("alerts", "evidence", "candidate_states"):
        assert rows(job, f"SELECT count(*) FROM switchwise.{table}")[0][0] == 0


def test_the_log_table_is_untouched(job: Job) -> None:
    assert rows(job, "SELECT count(*) FROM public.ai_logs")[0][0] == 400
