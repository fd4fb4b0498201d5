"""A LiteLLM proxy as the gateway: a whole run through its `/v1/messages`, streaming and not.

The proxy lives in a virtual environment of its own, outside the lock; `--litellm PATH` names an
installed one.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.clocks import SystemClock
from app.domain.attempts import Completion, StopReason
from app.domain.cases import Message, Prompt
from app.domain.models import Endpoint, ModelSpec, Role, Secret
from app.ports import ModelRequest
from app.providers.anthropic import AnthropicProvider
from app.sandbox.logs import log_rows
from app.sandbox.runner import running_process
from tests.fixtures.postgres import free_port
from tests.processes import ROOT, environment, switchwise

pytestmark = pytest.mark.slow

VERSION = "litellm[proxy]==1.106.2"
HOME = ROOT / ".switchwise" / "litellm"
INSTALL_WITHIN_S = 900
START_WITHIN_S = 400
KEY = "sk-proxy-1234"
N = 24
ENDS = datetime(2026, 3, 30, tzinfo=UTC)
#: Alias -> what stands behind it, and USD per token in and out.
MODELS = {
    "team-large": ("anthropic/sandbox-prime", "0.000003", "0.000015"),
    "team-small": ("openai/sandbox-swift", "0.0000018", "0.000009"),
    "team-judge": ("anthropic/sandbox-judge", "0.000001", "0.000005"),
}
PLAN = """
version: 1
name: behind-a-proxy
gateway: {{base_url: {url}, api_key: "${{LLM_API_KEY}}", concurrency: 4, timeout: 60s}}
primary: {{name: large, model: team-large, price: {{input: 3, output: 15, cache_read: 0.3}}}}
candidates:
  - {{name: small, model: team-small, price: {{input: 1.8, output: 9}}}}
logs: {{preset: file, path: logs.jsonl}}
sample: {{n: {n}, adaptive: false, anchors: 0}}
judge:
  canaries: 0
  models: [{{name: judge, model: team-judge, price: {{input: 1, output: 5, cache_read: 0.1}}}}]
budget: {{per_run_usd: 5}}
"""


@dataclass(frozen=True)
class Proxied:
    """One finished run behind the proxy."""

    report: dict[str, Any]
    calls: list[dict[str, Any]]
    dsn: str
    url: str
    stderr: str
    checked: str


@pytest.fixture(scope="module")
def program(pytestconfig: pytest.Config) -> Path:
    """The proxy's program, installed on first use."""
    given = pytestconfig.getoption("--litellm")
    if given is not None:
        return Path(given)
    program = HOME / "bin" / "litellm"
    if program.exists():
        return program
    for command in (
        [sys.executable, "-m", "venv", str(HOME)],
        [str(HOME / "bin" / "python"), "-m", "pip", "install", "-q", VERSION],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_WITHIN_S)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"{VERSION} cannot be installed here: {error}")
    return program


@pytest.fixture(scope="module")
def proxied(
    program: Path, pg_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    from tests.fixtures.postgres import new_database  # noqa: PLC0415 - beside its only use

    folder = tmp_path_factory.mktemp("proxied")
    _write_logs(folder / "logs.jsonl")
    with (
        new_database(pg_server) as dsn,
        running_process(
            "--world", "demo", "--seed", "5", "--call-log", str(folder / "calls.jsonl")
        ) as sandbox,
        _running_proxy(program, folder, sandbox["url"]) as url,
    ):
        (folder / "plan.yaml").write_text(PLAN.format(url=url, n=N))
        env = {"DATABASE_URL": dsn, "LLM_API_KEY": KEY, "SWITCHWISE_CONFIG": "plan.yaml"}
        checked = switchwise("check", "--online", cwd=folder, env=env)
        assert checked.returncode == 0, checked.stdout
        (folder / "calls.jsonl").write_bytes(b"")
        ran = switchwise("run", "--json", cwd=folder, env=env, timeout_s=300)
        assert ran.returncode == 0, ran.stderr
        lines = (folder / "calls.jsonl").read_text().splitlines()
        yield Proxied(
            report=json.loads(ran.stdout),
            calls=[json.loads(line.lstrip("\0")) for line in lines],
            dsn=dsn,
            url=url,
            stderr=ran.stderr,
            checked=checked.stdout,
        )


def test_every_model_answers_the_check(proxied: Proxied) -> None:
    assert proxied.checked.count("answered in") == len(MODELS)


def test_the_run_is_whole_and_nothing_was_called_twice(proxied: Proxied) -> None:
    assert proxied.report["status"] == "done"
    assert {model["cases"] for model in proxied.report["models"]} == {
        proxied.report["cases"]["sampled"]
    }
    keys = [call["key"] for call in proxied.calls if call["is_paid"]]
    assert len(keys) == len(set(keys))


def test_tokens_and_costs_are_those_of_the_vendor_behind_the_proxy(proxied: Proxied) -> None:
    served: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for call in proxied.calls:
        assert call["status"] == 200
        served[call["model"]][0] += call["input_tokens"] + call["cache_read_tokens"]
        served[call["model"]][1] += call["output_tokens"]
    query = (
        "SELECT model, sum(input_tokens + cache_read_tokens), sum(output_tokens), sum(cost_usd)"
        " FROM switchwise.attempts GROUP BY model"
    )
    with psycopg.connect(proxied.dsn) as connection:
        stored = {row[0]: row[1:] for row in connection.execute(query.encode()).fetchall()}
    assert set(stored) == set(MODELS)
    for alias, (behind, per_input, per_output) in MODELS.items():
        tokens_in, tokens_out = served[behind.partition("/")[2]]
        assert stored[alias][:2] == (tokens_in, tokens_out), alias
        bill = tokens_in * Decimal(per_input) + tokens_out * Decimal(per_output)
        assert stored[alias][2] == bill, alias


def test_replays_were_streamed_and_judgements_were_not(proxied: Proxied) -> None:
    streamed = {call["model"]: call["is_stream"] for call in proxied.calls}
    assert streamed == {"sandbox-prime": True, "sandbox-swift": True, "sandbox-judge": False}
    for model in proxied.report["models"]:
        assert model["ttft_ms"]["p50"] > 0


def test_the_proxys_own_account_agrees_with_ours(proxied: Proxied) -> None:
    query = (
        "SELECT sum(cost_usd), sum(reported_cost_usd), count(reported_cost_usd)"
        " FROM switchwise.attempts WHERE model = 'team-judge'"
    )
    with psycopg.connect(proxied.dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    computed, reported, count = row
    assert count > 0
    assert float(reported) == pytest.approx(float(computed), rel=1e-6)
    assert "the gateway reports" not in proxied.stderr


@pytest.mark.parametrize("alias", ["team-large", "team-small"])
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_single_call_says_the_same_streamed_or_not(
    proxied: Proxied, alias: str, is_streamed: bool
) -> None:
    endpoint = Endpoint(base_url=proxied.url, api_key=Secret(KEY))
    model = ModelSpec(name="m", model=alias, role=Role.PRIMARY, endpoint=endpoint)
    prompt = Prompt(messages=(Message(role="user", content="Name three uses of a brick."),))
    provider = AnthropicProvider(endpoint, SystemClock())
    try:
        result = await provider.send(
            ModelRequest(
                model=model, prompt=prompt, max_tokens=400, deadline_s=60.0, stream=is_streamed
            )
        )
    finally:
        await provider.close()
    assert isinstance(result, Completion), result
    assert result.stop_reason is StopReason.END_TURN
    assert len(result.text) > 20
    assert result.usage.prompt_tokens > 0
    assert result.usage.output_tokens > 0
    assert (result.ttft_s is not None) is is_streamed


def _write_logs(path: Path) -> None:
    rows = log_rows(weeks=1, rows_per_week=3 * N, ends_at=ENDS, seed=11)
    lines = [
        json.dumps(
            {
                "id": str(number),
                "system": row.system,
                "messages": [{"role": role, "content": text} for role, text in row.messages],
                "response": row.response,
            }
        )
        for number, row in enumerate(rows)
        if row.status == "success" and row.messages
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


@contextlib.contextmanager
def _running_proxy(program: Path, folder: Path, sandbox: str) -> Iterator[str]:
    port = free_port()
    listed = [
        {
            "model_name": alias,
            "litellm_params": {
                "model": behind,
                "api_base": sandbox if behind.startswith("anthropic/") else f"{sandbox}/v1",
                "api_key": "k",
                "input_cost_per_token": float(per_input),
                "output_cost_per_token": float(per_output),
                "cache_read_input_token_cost": float(per_input) / 10,
            },
        }
        for alias, (behind, per_input, per_output) in MODELS.items()
    ]
    config = {
        "model_list": listed,
        "litellm_settings": {
            "use_chat_completions_url_for_anthropic_messages": True,
            "telemetry": False,
        },
        "general_settings": {"master_key": KEY},
    }
    (folder / "litellm.json").write_text(json.dumps(config))
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), "--config", "litellm.json", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment(LITELLM_LOCAL_MODEL_COST_MAP="True", HOME=str(folder)),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _await_proxy(process, url, folder / "litellm.log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)


def _await_proxy(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    give_up = time.monotonic() + START_WITHIN_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/liveliness", trust_env=False, timeout=2).is_success:
                return
        time.sleep(0.5)
    pytest.skip(f"the proxy does not start here: {log.read_text(errors='replace')[-600:]}")
