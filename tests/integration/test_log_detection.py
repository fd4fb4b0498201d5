"""`init` on databases of several kinds: the plan it writes must read the log it found."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from app.cli.guidance import guide
from app.domain.cases import Window
from app.domain.errors import ConfigError, LogSourceError
from app.domain.models import Secret
from app.domain.plans import SampleSettings
from app.logsources.detection import find_logs
from app.plans import load_plans
from app.sampling.draw import DrawRequest, draw_sample
from app.sandbox.runner import running_in_thread
from app.settings import Settings, load_settings
from app.wiring import log_source
from tests.fakes.log_apis import FakeApi, Kept, ServedApi

NOW = datetime(2026, 3, 9, tzinfo=UTC)
WINDOW = Window(start=NOW - timedelta(days=7), end=NOW)
AT = "timestamptz '2026-03-03' + n * interval '1 second'"
OWN = f"""
CREATE TABLE public.llm_requests (request_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  logged_at timestamptz NOT NULL, "userInput" text, question text, completion varchar(999),
  model_name text, feature text, session_id text);
CREATE INDEX ON public.llm_requests (logged_at);
INSERT INTO public.llm_requests (logged_at, question, completion, model_name, feature, session_id)
  SELECT {AT}, 'question ' || n, 'answer', CASE WHEN n % 4 = 0 THEN 'gpt-4.1-mini'
    ELSE 'gpt-4.1' END, 'search', 's' || n FROM generate_series(1, 40) AS n;
CREATE TABLE public.users (id bigint PRIMARY KEY, created_at timestamptz, name text);
CREATE TABLE public.articles (id bigint PRIMARY KEY, created_at timestamptz, body text);
"""
LITELLM = f"""
CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, call_type text, "startTime" timestamp,
  model_group text, status text, cache_hit text, messages jsonb, response jsonb,
  proxy_server_request jsonb, prompt_tokens int, completion_tokens int, session_id text);
INSERT INTO "LiteLLM_SpendLogs" SELECT 'r' || n, 'acompletion', {AT}, 'claude-sonnet-4-5',
  'success', '', '{{}}', '{{}}', jsonb_build_object('messages', jsonb_build_array(
    jsonb_build_object('role', 'user', 'content', 'hello ' || n))), 1, 1, ''
  FROM generate_series(1, 40) AS n;
"""
SPANS = f"""
CREATE TABLE public.otel_traces (span_id text PRIMARY KEY, start_time timestamptz, attributes jsonb);
INSERT INTO public.otel_traces SELECT 's' || n, {AT}, jsonb_build_object('gen_ai.input.messages',
  '[{{"role": "user", "parts": [{{"type": "text", "content": "q ' || n || '"}}]}}]')
  FROM generate_series(1, 40) AS n;
"""
PHOENIX = f"""
CREATE TABLE spans (id int PRIMARY KEY, start_time timestamptz, span_kind text, attributes jsonb,
  status_code text, llm_token_count_prompt int, llm_token_count_completion int);
INSERT INTO spans SELECT n, {AT}, 'LLM', jsonb_build_object('metadata', '{{"route": "chat"}}'::jsonb,
  'llm', jsonb_build_object('model_name', 'gpt-4.1', 'input_messages', jsonb_build_array(jsonb_build_object('message', jsonb_build_object('role',
  'user', 'content', 'q ' || n))))), 'OK', 1, 1 FROM generate_series(1, 40) AS n;
"""
ODD = f"""
CREATE SCHEMA audit;
CREATE TABLE audit."GenAI_Audit" ("auditPk" uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  ts_utc timestamptz, "usrQuestion" text, "botAnswer" text, llm varchar(80), meta jsonb);
INSERT INTO audit."GenAI_Audit" (ts_utc, "usrQuestion", "botAnswer", llm, meta)
  SELECT {AT}, 'question ' || n, 'answer', 'claude-sonnet-4-5', '{{"team": "b2b", "pod": "x-1"}}'
  FROM generate_series(1, 40) AS n;
"""
EPOCH = """
CREATE TABLE llm_calls (call_id bigserial PRIMARY KEY, epoch_ms bigint, "Input" text, model text);
INSERT INTO llm_calls (epoch_ms, "Input", model)
  SELECT 1000 * extract(epoch FROM timestamptz '2026-03-03' + n * interval '1 second'), 'q ' || n,
    'gpt-4.1' FROM generate_series(1, 40) AS n;
"""
KINDS = {
    "generic": (OWN, "llm_requests"),
    "litellm": (LITELLM, '"LiteLLM_SpendLogs"'),
    "otel": (SPANS, "otel_traces"),
    "phoenix": (PHOENIX, "spans"),
    "generic, odd names": (ODD, 'audit."GenAI_Audit"'),
    "generic, time as a number": (EPOCH, "llm_calls"),
}

Fill = Callable[..., str]


@pytest.fixture
def fill(empty_database_url: str) -> Fill:
    def run(*scripts: str) -> str:
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            for script in scripts:
                connection.execute(script.encode())
        return empty_database_url

    return run


def settings(dsn: str | None) -> Settings:
    return Settings.model_construct(
        logs_database_url=None if dsn is None else Secret(dsn),
        database_url=None,
        llm_api_key=None,
        llm_base_url=None,
    )


@pytest.mark.parametrize("preset", KINDS)
async def test_the_preset_and_table_are_recognised(fill: Fill, preset: str) -> None:
    script, table = KINDS[preset]
    found = await find_logs(fill(script))
    assert (found[0].preset, found[0].table) == (preset.partition(",")[0], table)


@pytest.mark.parametrize("preset", KINDS)
def test_the_written_plan_reads_the_log(fill: Fill, tmp_path: Path, preset: str) -> None:
    dsn = fill(KINDS[preset][0])
    path = tmp_path / "plan.yaml"
    told = guide(path, settings(dsn), file=None, table=None)
    variables = {
        "LOGS_DATABASE_URL": dsn,
        "LLM_API_KEY": "k",
        "LLM_BASE_URL": "https://proxy.example.com",
    }
    (plan,) = load_plans(path, variables)
    assert plan.logs.preset == preset.partition(",")[0]
    assert any("switchwise check --online" in line for line in told)

    async def drawn() -> int:
        source = log_source(plan, dsn)
        request = DrawRequest(
            run_id="r", window=WINDOW, seed=1, settings=SampleSettings(n=30, adaptive=False)
        )
        try:
            return (await draw_sample(source, request)).drawn
        finally:
            await source.close()

    import asyncio  # noqa: PLC0415 - `guide` runs a loop of its own

    assert asyncio.run(drawn()) == 30


def test_columns_segments_and_models_go_into_the_plan(fill: Fill, tmp_path: Path) -> None:
    dsn = fill(OWN)
    path = tmp_path / "plan.yaml"
    guide(path, settings(dsn), file=None, table=None)
    (plan,) = load_plans(path, {"LOGS_DATABASE_URL": dsn, "LLM_API_KEY": "k"})
    assert plan.logs.columns["prompt"] == "question"
    assert plan.logs.columns["created_at"] == "logged_at"
    assert plan.logs.columns["response"] == "completion"
    assert plan.logs.columns["conversation"] == "session_id"
    assert plan.logs.segments == {"feature": "feature"}
    assert plan.primary.model == "gpt-4.1"
    assert [model.model for model in plan.candidates] == ["gpt-4.1-mini", "gpt-4.1-nano"]
    assert plan.primary.endpoint.api == "openai"


@pytest.mark.parametrize(
    ("script", "models", "segments"),
    [
        (PHOENIX, ("gpt-4.1",), {"route": "attributes->'metadata'->>'route'"}),
        (ODD, ("claude-sonnet-4-5",), {"team": "meta->>'team'"}),
    ],
)
async def test_models_and_segments_inside_json_are_found(
    fill: Fill, script: str, models: tuple[str, ...], segments: dict[str, str]
) -> None:
    found = (await find_logs(fill(script)))[0]
    assert (found.models, found.segments) == (models, segments)


def test_another_table_can_be_chosen_and_the_others_are_named(fill: Fill, tmp_path: Path) -> None:
    dsn = fill(OWN, LITELLM)
    told = guide(tmp_path / "a.yaml", settings(dsn), file=None, table=None)
    assert "llm_requests" in next(line for line in told if "also" in line)
    guide(tmp_path / "b.yaml", settings(dsn), file=None, table="llm_requests")
    (plan,) = load_plans(tmp_path / "b.yaml", {"LOGS_DATABASE_URL": dsn, "LLM_API_KEY": "k"})
    assert plan.logs.table == "llm_requests"
    with pytest.raises(ConfigError, match=r"those that do: .*llm_requests"):
        guide(tmp_path / "c.yaml", settings(dsn), file=None, table="users")


async def test_tables_that_only_look_a_little_like_logs_are_left_alone(fill: Fill) -> None:
    found = await find_logs(fill(OWN))
    assert [one.table for one in found] == ["llm_requests"]


def test_without_a_log_the_example_is_written_and_the_reason_told(
    fill: Fill, tmp_path: Path
) -> None:
    told = guide(tmp_path / "a.yaml", settings(fill("SELECT 1")), file=None, table=None)
    assert "no table looks like one" in told[0]
    (plan,) = load_plans(tmp_path / "a.yaml", {"LLM_API_KEY": "k"})
    assert plan.logs.table == "public.ai_logs"


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("postgresql://127.0.0.1:1/x?connect_timeout=2", "cannot be reached"),
        ("postgresql://me:secret@word/x?y", "percent-encoded"),
    ],
)
def test_a_database_that_cannot_be_read_stops_before_anything_is_written(
    tmp_path: Path, dsn: str, words: str
) -> None:
    with pytest.raises(LogSourceError, match=words) as told:
        guide(tmp_path / "b.yaml", settings(dsn), file=None, table=None)
    assert "mend LOGS_DATABASE_URL" in str(told.value)
    assert "secret" not in str(told.value)
    assert not list(tmp_path.iterdir())


async def test_a_database_that_cannot_be_reached_is_an_error_of_the_log() -> None:
    with pytest.raises(LogSourceError, match="cannot be reached"):
        await find_logs("postgresql://127.0.0.1:1/x")


KEYS = {
    "langfuse": {"LANGFUSE_PUBLIC_KEY": "pk-1", "LANGFUSE_SECRET_KEY": "sk-1"},
    "helicone": {"HELICONE_API_KEY": "key-1"},
    "openai": {"OPENAI_API_KEY": "key-1"},
}
PLACES = {"helicone": "properties.route"}


@pytest.fixture
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A product behind a real address, and its keys in the environment."""
    product: str = request.param
    now = datetime.fromtimestamp(time.time(), UTC)
    rows = [
        Kept(row_id=f"{n}", at=now - timedelta(hours=1 + n), prompt=f"Say {n}.", route="chat")
        for n in range(30)
    ]
    fake = FakeApi(product, rows)
    for name in [name for keys in KEYS.values() for name in keys]:
        monkeypatch.delenv(name, raising=False)
    with running_in_thread(ServedApi(fake)) as url:
        fake.bodies_url = url
        for name, value in {**KEYS[product], f"{product.upper()}_BASE_URL": url}.items():
            monkeypatch.setenv(name, value)
        yield product


@pytest.mark.parametrize("api", KEYS, indirect=True)
def test_the_api_of_a_product_becomes_the_log_and_its_plan_reads_it(
    api: str, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    told = guide(path, settings(None), file=None, table=None, preset=api)
    assert f"the API of {api}" in told[0]
    assert "gpt-4.1" in told[1]
    assert "key-1" not in path.read_text()
    (plan,) = load_plans(path, {**load_settings().variables, "LLM_API_KEY": "k"})
    assert plan.logs.segments == {"route": PLACES.get(api, "metadata.route")}
    now = datetime.fromtimestamp(time.time(), UTC)
    window = Window(start=now - timedelta(days=7), end=now)

    async def drawn() -> int:
        source = log_source(plan, "")
        chosen = SampleSettings(n=10, adaptive=False)
        request = DrawRequest(run_id="r", window=window, seed=1, settings=chosen)
        try:
            await source.check()
            return (await draw_sample(source, request)).drawn
        finally:
            await source.close()

    import asyncio  # noqa: PLC0415 - as above

    assert asyncio.run(drawn()) == 10


@pytest.mark.parametrize("api", ["langfuse"], indirect=True)
def test_without_a_database_a_product_whose_keys_are_set_is_read(api: str, tmp_path: Path) -> None:
    told = guide(tmp_path / "plan.yaml", settings(None), file=None, table=None)
    assert f"the API of {api}" in told[0]


@pytest.mark.parametrize("api", ["openai"], indirect=True)
def test_the_key_of_a_vendor_alone_only_offers_its_stored_prompts(api: str, tmp_path: Path) -> None:
    told = guide(tmp_path / "plan.yaml", settings(None), file=None, table=None)
    assert "LOGS_DATABASE_URL is not set" in told[0]
    assert f"--preset {api}" in told[1]


@pytest.mark.parametrize("api", ["langfuse"], indirect=True)
def test_keys_that_are_missing_are_named(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANGFUSE_SECRET_KEY")
    with pytest.raises(ConfigError, match="LANGFUSE_SECRET_KEY"):
        guide(tmp_path / "plan.yaml", settings(None), file=None, table=None, preset=api)
    with pytest.raises(ConfigError, match="langfuse, helicone, openai"):
        guide(tmp_path / "plan.yaml", settings(None), file=None, table=None, preset="litelm")
