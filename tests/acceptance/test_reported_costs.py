"""Gateways that say what a call cost: where that differs from our prices, everybody is told."""

import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.sandbox.gateway import Gateway
from app.sandbox.logs import seed_logs
from app.sandbox.runner import running_in_thread, sandbox_app
from app.sandbox.slack import Slack
from app.sandbox.worlds import named_world
from tests.processes import switchwise

PRICES = {  # USD per million tokens, in and out, as the plan has them
    "sandbox-prime": (Decimal(3), Decimal(15)),
    "sandbox-swift": (Decimal("1.8"), Decimal(9)),
    "sandbox-judge": (Decimal(1), Decimal(5)),
}
PLAN = """
version: 1
name: billed
gateway: {{base_url: "{url}", api_key: "${{LLM_API_KEY}}", concurrency: 4, timeout: 20s}}
primary: {{name: prime, model: sandbox-prime, price: {{input: 3, output: 15}}}}
candidates:
  - name: swift
    model: sandbox-swift
    base_url: "{url}/v1"
    api_key: "${{LLM_API_KEY}}"
    api: openai
    price: {{input: 1.8, output: 9}}
logs: {{table: public.ai_logs}}
sample: {{n: 12, adaptive: false, anchors: 0}}
judge: {{canaries: 2, models: [{{name: judge, model: sandbox-judge, price: {{input: 1, output: 5}}}}]}}
budget: {{per_run_usd: 5}}
slack: {{token: "${{SLACK_BOT_TOKEN}}", channel: C0TEST, base_url: "{url}/api/"}}
privacy: {{store_bodies: full}}
"""


@dataclass
class Billing:
    """A gateway before the sandbox that reports costs: in the usage of a stream, else in a header.

    Attributes:
        factors: How much of the true cost is reported, by model; 1 for others.
        slack: What was posted.
    """

    app: ASGIApp
    factors: dict[str, Decimal]
    slack: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"].startswith("/api/"):
            self.slack.append(body.decode("utf-8", "replace"))
        asked = json.loads(body) if body.startswith(b"{") else {}
        meter = _Meter(self._rate(asked.get("model")), is_stream=asked.get("stream") is True)
        is_told = False

        async def again() -> Message:
            nonlocal is_told
            if is_told:
                return await receive()
            is_told = True
            return {"type": "http.request", "body": body}

        start: Message = {}

        async def metered(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            told, header = meter.metered(message.get("body", b""))
            if start:
                kept = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
                await send({**start, "headers": [*kept, *header]})
                start = {}
            await send({**message, "body": told})

        await self.app(scope, again, metered)

    def _rate(self, model: object) -> tuple[Decimal, Decimal]:
        name = str(model)
        factor = self.factors.get(name, Decimal(1)) / 1_000_000
        paid_in, paid_out = PRICES.get(name, (Decimal(0), Decimal(0)))
        return paid_in * factor, paid_out * factor


@dataclass
class _Meter:
    rate: tuple[Decimal, Decimal]
    is_stream: bool
    tokens_in: int = 0

    def metered(self, body: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The body with its cost in the usage of a stream, else a header beside it."""
        if self.is_stream:
            return re.sub(rb"(?m)^data: (\{.*\})$", self._line, body), []
        try:
            usage = json.loads(body).get("usage")
        except (ValueError, AttributeError):
            return body, []
        cost = self._cost(usage) if usage else None
        return body, [] if cost is None else [(b"x-litellm-response-cost", str(cost).encode())]

    def _line(self, found: re.Match[bytes]) -> bytes:
        event: dict[str, Any] = json.loads(found[1])
        usage = event.get("usage")
        began = event.get("message", {}).get("usage") if event.get("type") else None
        if began:
            self.tokens_in = began["input_tokens"]
        if usage:
            usage["cost"] = float(self._cost(usage))
        return b"data: " + json.dumps(event).encode()

    def _cost(self, usage: dict[str, Any]) -> Decimal:
        tokens_in = usage.get("input_tokens") or usage.get("prompt_tokens") or self.tokens_in
        tokens_out = usage.get("output_tokens") or usage.get("completion_tokens") or 0
        return tokens_in * self.rate[0] + tokens_out * self.rate[1]


def ran(folder: Path, database_url: str, factors: dict[str, str]) -> tuple[Billing, str]:
    """A run behind such a gateway: the gateway, and what `run` wrote on stderr."""
    now = datetime.fromtimestamp(time.time(), UTC)
    seed_logs(database_url, weeks=1, rows_per_week=60, ends_at=now, seed=5)
    sandbox = sandbox_app(Gateway(named_world("calm")), Slack())
    billing = Billing(sandbox, {name: Decimal(factor) for name, factor in factors.items()})
    with running_in_thread(billing) as url:
        (folder / "plan.yaml").write_text(PLAN.format(url=url))
        run = switchwise("run", cwd=folder, env=env_of(database_url), timeout_s=200)
    assert run.returncode == 0, run.stderr
    return billing, run.stderr


def env_of(database_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "LLM_API_KEY": "key-0",
        "SLACK_BOT_TOKEN": "xoxb-test",
        "SWITCHWISE_CONFIG": "plan.yaml",
    }


def shown(folder: Path, database_url: str, *words: str) -> str:
    done = switchwise(*words, cwd=folder, env=env_of(database_url))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_gateway_that_charges_other_prices_is_named_wherever_the_run_is_told_of(
    database_url: str, tmp_path: Path
) -> None:
    factors = {"sandbox-prime": "1.05", "sandbox-swift": "1.015", "sandbox-judge": "0.9"}
    billing, told = ran(tmp_path, database_url, factors)
    report = json.loads(shown(tmp_path, database_url, "report", "--json"))
    gaps = {one["model_name"]: one["gap"] for one in report["spend"]["reported"]}
    assert gaps == pytest.approx({"prime": 0.05, "swift": 0.015, "judge": -0.1}, abs=1e-6)
    prime, judge = "prime: the gateway reports", "judge: the gateway reports"
    assert [
        words.partition(" reports")[0] + " reports" for words in report["spend"]["warnings"]
    ] == [
        judge,
        prime,
    ]
    html = tmp_path / "report.html"
    shown(tmp_path, database_url, "report", "--html", str(html))
    posted = "\n".join(billing.slack)
    places = {
        "stderr of run": told,
        "report": shown(tmp_path, database_url, "report"),
        "report --md": shown(tmp_path, database_url, "report", "--md"),
        "report --html": html.read_text(),
        "Slack": posted.replace("*", ""),
        "prices": shown(tmp_path, database_url, "prices"),
    }
    for place, text in places.items():
        flat = " ".join(text.split())
        assert prime in flat, place
        assert judge in flat, place
        assert "swift: the gateway reports" not in flat, place


def test_bills_that_agree_within_two_percent_are_no_news(database_url: str, tmp_path: Path) -> None:
    billing, told = ran(
        tmp_path, database_url, {"sandbox-prime": "1.019", "sandbox-judge": "0.981"}
    )
    report = json.loads(shown(tmp_path, database_url, "report", "--json"))
    assert report["spend"]["warnings"] == []
    assert len(report["spend"]["reported"]) == 3
    assert "the gateway reports" not in told
    assert "the gateway reports" not in "\n".join(billing.slack)
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM switchwise.attempts WHERE reported_cost_usd IS NULL"
        ).fetchone()
    assert row == (0,)
