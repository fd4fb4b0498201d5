"""A spend-log table of a LiteLLM proxy, with ten thousand rows of every kind."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from app.domain.cases import Window
from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings, SampleSettings
from app.logsources.litellm import LiteLLMLogs
from app.sampling.draw import DrawRequest, draw_sample

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=7))
ROWS = 10_000
TABLE = """CREATE TABLE "LiteLLM_SpendLogs" (
    "request_id" TEXT NOT NULL PRIMARY KEY, "call_type" TEXT NOT NULL,
    "api_key" TEXT NOT NULL DEFAULT '', "spend" DOUBLE PRECISION NOT NULL DEFAULT 0.0,
    "total_tokens" INTEGER NOT NULL DEFAULT 0, "prompt_tokens" INTEGER NOT NULL DEFAULT 0,
    "completion_tokens" INTEGER NOT NULL DEFAULT 0, "startTime" TIMESTAMP(3) NOT NULL,
    "endTime" TIMESTAMP(3) NOT NULL, "completionStartTime" TIMESTAMP(3),
    "model" TEXT NOT NULL DEFAULT '', "model_id" TEXT DEFAULT '', "model_group" TEXT DEFAULT '',
    "custom_llm_provider" TEXT DEFAULT '', "api_base" TEXT DEFAULT '', "user" TEXT DEFAULT '',
    "metadata" JSONB DEFAULT '{}', "cache_hit" TEXT DEFAULT '', "cache_key" TEXT DEFAULT '',
    "request_tags" JSONB DEFAULT '[]', "team_id" TEXT, "end_user" TEXT,
    "requester_ip_address" TEXT, "messages" JSONB DEFAULT '{}', "response" JSONB DEFAULT '{}',
    "session_id" TEXT, "status" TEXT, "mcp_namespaced_tool_name" TEXT,
    "proxy_server_request" JSONB DEFAULT '{}')"""
CUT = "start... (litellm_truncated skipped 12982 chars) ...end"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}

Made = tuple[str, str, str, object]


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def _with_tools(n: int) -> list[dict[str, object]]:
    return [
        user(f"Weather {n}?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]


#: Kind -> (reason it is skipped or None, call_type, status, cache_hit, request body).
KINDS: dict[str, tuple[str | None, Callable[[int], Made]]] = {
    "chat": (
        None,
        lambda n: ("acompletion", "success", "False", {"messages": [user(f"chat {n}")]}),
    ),
    "anthropic": (
        None,
        lambda n: (
            "anthropic_messages",
            "success",
            "None",
            {"system": "Be brief.", "messages": [user(f"claude {n}")], "max_tokens": 99},
        ),
    ),
    "tools": (
        None,
        lambda n: (
            "acompletion",
            "success",
            "",
            {"messages": _with_tools(n), "tools": [TOOL]},
        ),
    ),
    "responses": (
        None,
        lambda n: (
            "aresponses",
            "success",
            "False",
            {"input": f"respond {n}", "instructions": "Be kind."},
        ),
    ),
    "continued": (
        "unsupported_content",
        lambda n: (
            "aresponses",
            "success",
            "False",
            {"input": f"and {n}?", "previous_response_id": "resp_1"},
        ),
    ),
    "embedding": (
        "unsupported_content",
        lambda n: ("aembedding", "success", "False", {"input": [f"embed {n}"]}),
    ),
    "audio": (
        "unsupported_content",
        lambda n: (
            "acompletion",
            "success",
            "False",
            {"messages": [user([{"type": "input_audio", "input_audio": {"data": str(n)}}])]},
        ),
    ),
    "failure": (
        "failed_call",
        lambda n: ("acompletion", "failure", "False", {"messages": [user(f"fail {n}")]}),
    ),
    "cached": (
        "cache_hit",
        lambda n: ("acompletion", "success", "True", {"messages": [user(f"again {n}")]}),
    ),
    "cut": (
        "cut_by_logger",
        lambda n: ("acompletion", "success", "False", {"messages": [user(f"{n} {CUT}")]}),
    ),
    "not stored": ("empty", lambda _n: ("acompletion", "success", "False", {})),
    "blank": ("empty", lambda _n: ("acompletion", "success", "False", {"messages": [user(" ")]})),
}


@pytest.fixture
def dsn(empty_database_url: str) -> str:
    kinds = list(KINDS.values())
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(TABLE.encode())
        copy = (
            b'COPY "LiteLLM_SpendLogs" (request_id, call_type, "startTime", "endTime", status,'
            b" cache_hit, proxy_server_request, response, completion_tokens, session_id) FROM STDIN"
        )
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": "ok"}}]})
        with connection.cursor().copy(copy) as rows:
            for n in range(ROWS):
                _, make = kinds[n % len(kinds)]
                call_type, status, cache_hit, body = make(n)
                at = START.replace(tzinfo=None) + timedelta(seconds=50 * n)
                row = (f"req-{n}", call_type, at, at, status, cache_hit, json.dumps(body))
                rows.write_row((*row, reply, 40, f"session-{n // 3}"))
    return empty_database_url


def expected(until: int) -> Counter[str | None]:
    reasons = [reason for reason, _ in KINDS.values()]
    return Counter(reasons[n % len(reasons)] for n in range(until))


async def test_all_rows_are_counted_by_the_reason_they_were_made_with(dsn: str) -> None:
    logs = LiteLLMLogs(LogSettings(preset="litellm"), dsn=dsn)
    request = DrawRequest(
        run_id="run", window=WINDOW, seed=1, settings=SampleSettings(n=ROWS, adaptive=False)
    )
    sample = await draw_sample(logs, request)
    await logs.close()
    reasons = expected(ROWS)
    assert sample.frame == ROWS
    assert sample.drawn == len(sample.cases) == reasons.pop(None)
    assert dict(sample.skipped) == dict(reasons)
    assert sample.mean_logged_output_tokens == 40
    assert {case.logged_response for case in sample.cases} == {"ok"}


async def test_a_small_draw_is_made_of_replayable_rows(dsn: str) -> None:
    logs = LiteLLMLogs(LogSettings(preset="litellm"), dsn=dsn)
    request = DrawRequest(run_id="run", window=WINDOW, seed=1, settings=SampleSettings(n=100))
    sample = await draw_sample(logs, request)
    await logs.close()
    assert sample.drawn == 100
    looked_at = 100 + sum(sample.skipped.values())
    assert 200 < looked_at < 450  # a third of the rows can be replayed


async def test_a_proxy_that_stores_no_prompts_is_told_which_setting_does(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("""UPDATE "LiteLLM_SpendLogs" SET proxy_server_request = '{}'""")
    logs = LiteLLMLogs(LogSettings(preset="litellm"), dsn=dsn)
    with pytest.raises(LogSourceError, match="store_prompts_in_spend_logs"):
        await logs.check()
    await logs.close()


async def test_a_database_without_the_table_says_so(empty_database_url: str) -> None:
    logs = LiteLLMLogs(LogSettings(preset="litellm"), dsn=empty_database_url)
    with pytest.raises(LogSourceError, match="no table 'LiteLLM_SpendLogs'"):
        await logs.check()
    await logs.close()
