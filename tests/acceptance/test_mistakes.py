"""The commonest mistakes: one clear message, exit code 2 or 3, and not a single call."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from app.sandbox.gateway import Gateway
from app.sandbox.logs import seed_logs
from app.sandbox.runner import running_in_thread, sandbox_app
from app.sandbox.worlds import named_world
from tests.processes import switchwise

GOOD = """
version: 1
name: support-bot
gateway: {base_url: "URL", api_key: "${LLM_API_KEY}"}
primary: {name: prime, model: sandbox-prime, price: {input: 3, output: 15}}
candidates: [{name: swift, model: sandbox-swift, price: {input: 1.8, output: 9}}]
logs: {table: public.ai_logs, columns: {messages: messages}}
sample: {n: 20, window: 7d}
judge: {models: [{name: judge, model: sandbox-judge, price: {input: 1, output: 5}}]}
schedule: {cron: "0 6 * * sun", timezone: Europe/London}
"""

MISTAKES = {
    "unset variable": ("${LLM_API_KEY}", "${NO_SUCH_KEY}", 2, "NO_SUCH_KEY"),
    "unknown key": ("sample: {n: 20,", "sample: {m: 20,", 2, "sample.m"),
    "unknown price": (
        "model: sandbox-swift, price: {input: 1.8, output: 9}",
        "model: sandbox-swift",
        2,
        "swift",
    ),
    "missing column": ("messages: messages", "messages: mesages", 3, "messages"),
    "empty window": ("window: 7d", "window: 1m", 3, "no rows"),
    "wrong time zone": ("Europe/London", "Europe/Londn", 2, "Europe/London"),
    "numeric weekday": ("0 6 * * sun", "0 6 * * 1", 2, "mon, tue"),
    "duplicate key": ("name: support-bot", "name: support-bot\nname: other", 2, "name"),
    "python object": ("{n: 20,", "{n: !!python/object:os.system x,", 2, "python"),
    "bad URL": ('base_url: "URL"', "base_url: htp//x", 2, "base_url"),
    "missing table": ("public.ai_logs", "public.ai_lags", 3, "ai_logs"),
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[str, Gateway]]:
    found = Gateway(named_world("calm"))
    with running_in_thread(sandbox_app(found)) as url:
        yield url, found


@pytest.fixture
def log_table(database_url: str) -> str:
    ends_at = datetime.fromtimestamp(time.time(), UTC) - timedelta(hours=1)
    seed_logs(database_url, weeks=1, rows_per_week=60, ends_at=ends_at, seed=3)
    return database_url


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_a_mistake_is_named_and_nothing_is_called(
    name: str, gateway: tuple[str, Gateway], log_table: str, tmp_path: Path
) -> None:
    right, wrong, code, told = MISTAKES[name]
    url, _ = gateway
    plan = tmp_path / "plan.yaml"
    assert right in GOOD
    plan.write_text(GOOD.replace(right, wrong).replace("URL", url))
    before = httpx.get(f"{url}/_sandbox/calls", trust_env=False).json()["received"]

    ended = switchwise(
        "run",
        "--config",
        str(plan),
        cwd=tmp_path,
        env={"DATABASE_URL": log_table, "LLM_API_KEY": "key"},
    )

    assert ended.returncode == code, ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 8, ended.stderr
    assert httpx.get(f"{url}/_sandbox/calls", trust_env=False).json()["received"] == before


def test_the_same_plan_without_a_mistake_passes_the_check(
    gateway: tuple[str, Gateway], log_table: str, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(GOOD.replace("URL", gateway[0]))
    ended = switchwise(
        "check",
        "--config",
        str(plan),
        cwd=tmp_path,
        env={"DATABASE_URL": log_table, "LLM_API_KEY": "key"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with psycopg.connect(log_table) as connection:
        assert connection.execute("SELECT count(*) FROM switchwise.runs").fetchone() == (0,)
