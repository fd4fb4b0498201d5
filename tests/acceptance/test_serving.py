"""The daemon by itself: a slot that fell before it started is run once, told once, pinged once."""

import http.server
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from app.sandbox.logs import seed_logs
from app.sandbox.runner import running_process
from tests.fixtures.postgres import free_port
from tests.processes import ROOT, command, environment

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PLAN = """
version: 1
name: unattended
gateway: {{base_url: {url}, api_key: "${{LLM_API_KEY}}", concurrency: 8, timeout: 20s}}
primary: {{name: prime, model: sandbox-prime, price: {{input: 3, output: 15}}}}
candidates: [{{name: swift, model: sandbox-swift, price: {{input: 1.8, output: 9}}}}]
logs: {{table: public.ai_logs, columns: {{messages: messages}}, where: "status = 'success'"}}
sample: {{n: 30, adaptive: false}}
judge: {{models: [{{name: judge, model: sandbox-judge, price: {{input: 1, output: 5}}}}]}}
schedule: {{cron: "{cron}", timezone: UTC, catch_up: 24h}}
slack: {{token: "${{SLACK_BOT_TOKEN}}", channel: C0TEST, base_url: "{url}/api/"}}
heartbeat_url: {heartbeat}
server: {{bind: "127.0.0.1:{port}"}}
"""


@contextmanager
def heartbeat_server() -> Iterator[tuple[str, list[str]]]:
    """A server that notes every request."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/ping", seen
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serving(plan: Path, database_url: str, count: int) -> Iterator[Sequence[subprocess.Popen[str]]]:
    env = environment(
        DATABASE_URL=database_url,
        LLM_API_KEY="key",
        SLACK_BOT_TOKEN="xoxb-test",
        PYTHONPATH=str(ROOT),
        LOG_FORMAT="json",
    )
    services = [
        subprocess.Popen(
            command("serve", "--config", str(plan / f"plan{number}.yaml")),
            env=env,
            cwd=plan,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        yield services
    finally:
        for service in services:
            if service.poll() is None:
                service.kill()
            service.communicate(timeout=20)


def wait_for(is_true: object, *, seconds: float = 90.0) -> None:
    """Wait until the callable says yes."""
    assert callable(is_true)
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


@pytest.mark.parametrize("daemons", [1, 2])
def test_a_slot_before_the_start_is_run_once_told_once_and_pinged(
    daemons: int, database_url: str, tmp_path: Path
) -> None:
    now = datetime.fromtimestamp(time.time(), UTC)
    slot = now - timedelta(hours=1)
    seed_logs(database_url, weeks=1, rows_per_week=200, ends_at=slot, seed=3)
    ports = [free_port() for _ in range(daemons)]
    with running_process("--world", "demo") as sandbox, heartbeat_server() as (url, pings):
        for number, port in enumerate(ports):
            cron = f"{slot.minute} {slot.hour} * * {DAYS[slot.weekday()]}"
            (tmp_path / f"plan{number}.yaml").write_text(
                PLAN.format(url=sandbox["url"], cron=cron, heartbeat=url, port=port)
            )
        with serving(tmp_path, database_url, daemons) as services:

            def messages() -> list[object]:
                got = httpx.get(f"{sandbox['url']}/_sandbox/messages", trust_env=False).json()
                return list(got["messages"] if isinstance(got, dict) else got)

            wait_for(lambda: pings and messages())
            for port in ports:
                health = httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
                assert health.status_code == 200, health.text
            for service in services:
                service.send_signal(signal.SIGTERM)
            ends = [service.wait(timeout=30) for service in services]
        calls = httpx.get(f"{sandbox['url']}/_sandbox/calls", trust_env=False).json()
        assert ends == [0] * daemons
        assert pings == ["/ping"]
        assert len(messages()) == 1
        assert calls["repeated"] == 0
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT status, trigger FROM switchwise.runs").fetchall()
        attempts = connection.execute("SELECT count(*) FROM switchwise.attempts").fetchone()
    assert found == [("done", "schedule")]
    assert attempts is not None
    assert calls["paid"] == attempts[0], json.dumps(calls)
