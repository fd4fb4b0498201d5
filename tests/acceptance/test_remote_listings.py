"""Listings of remote logs over real HTTP: a killed run goes on at the page it was killed at."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from starlette.types import ASGIApp

from app.sandbox.gateway import Gateway
from app.sandbox.runner import running_in_thread, sandbox_app
from app.sandbox.worlds import named_world
from tests.fakes.log_apis import KEYS, LANGFUSE_KEYS, FakeApi, Kept, ServedApi
from tests.faults.processes import Forked
from tests.processes import environment

ROWS = 1_100  # three pages of any product at the least
WANTED = 8
PLAN = """
version: 1
name: remote
gateway: {{base_url: "{gateway}", api_key: "${{LLM_API_KEY}}", concurrency: 4, timeout: 20s}}
primary: {{name: prime, model: sandbox-prime, price: {{input: 3, output: 15}}}}
candidates: [{{name: swift, model: sandbox-swift, price: {{input: 1.8, output: 9}}}}]
logs: {{preset: {product}, options: {{base_url: "{api}", {keys}}}, segments: {{route: {route}}}}}
sample: {{n: {wanted}, adaptive: false, anchors: 0}}
evaluators: [{{type: not_refused, gate: true}}, {{type: regex, pattern: "."}}]
budget: {{per_run_usd: 5}}
"""
ROUTES = {"langfuse": "metadata.route", "helicone": "properties.route", "openai": "metadata.route"}


@pytest.mark.parametrize("product", ["langfuse", "langfuse-v1", "helicone", "openai"])
def test_a_listing_cut_by_kill_9_goes_on_where_it_ended_and_asks_no_page_again(
    product: str, database_url: str, tmp_path: Path
) -> None:
    api = served(product)
    with running_in_thread(api) as url, running_in_thread(gateway()) as gateway_url:
        api.api.bodies_url = url
        env = written(tmp_path, api.api.product, url, gateway_url, database_url)
        killed = Forked(("run", "--no-notify"), tmp_path, env, "first")
        assert api.is_silent.wait(60), (tmp_path / "err-first").read_text()
        killed.kill()
        run_id = one(database_url, "SELECT run_id::text FROM switchwise.runs")
        kept = one(database_url, "SELECT count(*) FROM switchwise.log_pages")
        resumed = Forked(("run", "--no-notify", "--resume", str(run_id)), tmp_path, env, "second")
        assert resumed.wait(120) == 0, (tmp_path / "err-second").read_text()
    assert kept == api.silent_at - 1
    asked = Counter(api.pages)
    assert [page for page, times in asked.items() if times > 1] == [api.pages[api.silent_at - 1]]
    assert len(asked) >= 3
    found = "SELECT frame, drawn, status FROM switchwise.runs"
    assert rows_of(database_url, found) == [(ROWS, WANTED, "done")]
    assert one(database_url, "SELECT count(DISTINCT source_id) FROM switchwise.cases") == WANTED
    assert one(database_url, "SELECT count(*) FROM switchwise.log_pages") == 0


def test_kept_pages_hold_ids_times_and_segments_and_no_text(
    database_url: str, tmp_path: Path
) -> None:
    api = served("openai")  # its listing brings replies along
    with running_in_thread(api) as url, running_in_thread(gateway()) as gateway_url:
        env = written(tmp_path, "openai", url, gateway_url, database_url)
        killed = Forked(("run", "--no-notify"), tmp_path, env, "first")
        assert api.is_silent.wait(60), (tmp_path / "err-first").read_text()
        killed.kill()
    pages = str(one(database_url, "SELECT string_agg(records, '') FROM switchwise.log_pages"))
    assert '"route":"chat"' in pages
    assert "fine" not in pages
    assert "prompt" not in pages


def served(product: str) -> ServedApi:
    now = datetime.fromtimestamp(time.time(), UTC)
    rows = [
        Kept(row_id=f"{n:04}", at=now - timedelta(minutes=5 + n), prompt=f"Say {n}.", route="chat")
        for n in range(ROWS)
    ]
    fake = FakeApi(product.removesuffix("-v1"), rows, has_v2=product != "langfuse-v1")
    return ServedApi(fake, silent_at=3)


def gateway() -> ASGIApp:
    return sandbox_app(Gateway(named_world("calm")))


def written(
    folder: Path, product: str, url: str, gateway_url: str, database_url: str
) -> dict[str, str]:
    """Write the plan; the environment that a run of it needs."""
    keys = LANGFUSE_KEYS if product == "langfuse" else KEYS
    (folder / "plan.yaml").write_text(
        PLAN.format(
            gateway=gateway_url,
            product=product,
            api=url,
            keys=", ".join(f'{name}: "${{{name.upper()}}}"' for name in keys),
            route=ROUTES[product],
            wanted=WANTED,
        )
    )
    return environment(
        DATABASE_URL=database_url,
        LLM_API_KEY="key-0",
        SWITCHWISE_CONFIG="plan.yaml",
        **{name.upper(): value for name, value in keys.items()},
    )


def one(dsn: str, query: str) -> object:
    return rows_of(dsn, query)[0][0]


def rows_of(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()
