"""CPU of the run's process per call, beside a bare loop with the same SDK in the same run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pytest

from app.sandbox.logs import seed_logs
from app.sandbox.runner import running_process
from tests.processes import ROOT, command, environment

PLAN = """
version: 1
name: benchmark
gateway: {{base_url: {url}, api_key: "${{LLM_API_KEY}}", concurrency: 16, timeout: 30s}}
primary: {{name: prime, model: sandbox-prime, price: {{input: 3, output: 15}}}}
candidates:
  - {{name: swift, model: sandbox-swift, price: {{input: 1.8, output: 9}}}}
  - {{name: mini, model: sandbox-mini, price: {{input: 0.05, output: 0.2}}}}
  - {{name: large, model: sandbox-large, price: {{input: 5, output: 25}}}}
logs: {{table: public.ai_logs, columns: {{messages: messages}}, where: "status = 'success'"}}
sample: {{n: 200, adaptive: false, anchors: 0}}
evaluators: [{{type: judge}}]
judge: {{models: [{{name: judge, model: sandbox-judge, price: {{input: 1, output: 5}}}}], canaries: 0}}
"""
LIMIT_MS = 3.0
ROUNDS = 5
"""Of which the medians count: the CPU of equal work differs by half on a shared machine."""
MOST_TIMES_BARE = 1.7
"""On a machine so busy that the bare loop alone costs 1.8 ms, the ratio is what can be asserted."""


def cpu_of(arguments: Sequence[str], env: Mapping[str, str], out: Path) -> float:
    """CPU seconds of one process, its children left out."""
    with out.open("wb") as stdout:
        process = subprocess.Popen(arguments, env=dict(env), cwd=ROOT, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def calls_in(out: Path) -> int:
    """How many calls the printed report counts."""
    return int(json.loads(out.read_text())["spend"]["attempts"])


@pytest.mark.slow
def test_a_call_costs_at_most_three_milliseconds_of_cpu_above_start_up(
    database_url: str, tmp_path: Path
) -> None:
    now = datetime.fromtimestamp(time.time(), UTC)
    seed_logs(database_url, weeks=1, rows_per_week=400, ends_at=now, seed=3)
    env = environment(DATABASE_URL=database_url, LLM_API_KEY="key", PYTHONPATH=str(ROOT))
    out = tmp_path / "report.json"
    with running_process("--world", "calm") as sandbox:
        plan = tmp_path / "plan.yaml"
        plan.write_text(PLAN.format(url=sandbox["url"]))
        run = [*command("run", "--config", str(plan), "--json", "--no-notify")]
        bare = [sys.executable, "-m", "tests.benchmarks.bare_loop", sandbox["url"]]
        ours, loops = [], []
        for _ in range(ROUNDS):
            start_s = cpu_of([*run, "--n", "4"], env, out)
            start_calls = calls_in(out)
            whole_s = cpu_of(run, env, out)
            whole_calls = calls_in(out)
            assert whole_calls >= 1400
            ours.append(1000 * (whole_s - start_s) / (whole_calls - start_calls))
            bare_start_s = cpu_of([*bare, "16", "16"], env, out)
            bare_s = cpu_of([*bare, str(whole_calls), "16"], env, out)
            loops.append(1000 * (bare_s - bare_start_s) / (whole_calls - 16))
            print(
                f"\n{whole_calls} calls: {ours[-1]:.2f} ms CPU a call above start-up"
                f" ({start_s:.2f} s); a bare loop with the same SDK {loops[-1]:.2f} ms"
                f" ({bare_start_s:.2f} s); ratio {ours[-1] / loops[-1]:.2f}"
            )
    ours_ms, bare_ms = median(ours), median(loops)
    print(f"medians: {ours_ms:.2f} ms, bare {bare_ms:.2f} ms, ratio {ours_ms / bare_ms:.2f}")
    assert ours_ms <= max(LIMIT_MS, MOST_TIMES_BARE * bare_ms)
