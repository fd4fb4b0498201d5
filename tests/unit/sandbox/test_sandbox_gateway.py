import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.lib.streaming import AsyncMessageStreamManager

from app.sandbox.brain import true_quality
from app.sandbox.calllog import CallLog
from app.sandbox.gateway import Gateway, gateway_app
from app.sandbox.replies import read
from app.sandbox.runner import running
from app.sandbox.tasks import recognise
from app.sandbox.world import World, load_world
from app.sandbox.worlds import JUDGE, MINI, PRIME, SWIFT, named_world, with_model

PROMPT = (
    "my order K-48213 with the bread maker was due on 3 March 2026 and there is still no sign of "
    "it. Where is it now, and when will I get it?"
)
WEATHER = {
    "name": "get_weather",
    "description": "Current weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def ask(prompt: str = PROMPT, model: str = PRIME, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "max_tokens": 800, "messages": messages, **more}


def events(text: str) -> list[dict[str, object]]:
    return [
        json.loads(line.removeprefix("data: "))
        for line in text.splitlines()
        if line.startswith("data: {")
    ]


def streamed_text(text: str) -> str:
    deltas = [event["delta"] for event in events(text) if event["type"] == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas if isinstance(delta, dict))


def test_a_plain_reply_has_the_shape_of_a_message(gateway: Gateway, http: httpx.Client) -> None:
    response = http.post("/v1/messages", json=ask())
    message = response.json()
    assert response.status_code == 200
    assert response.headers["request-id"].startswith("req_")
    assert message["type"] == "message"
    assert message["model"] == PRIME
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["input_tokens"] >= len(PROMPT) // 4
    assert message["usage"]["output_tokens"] == -(-len(message["content"][0]["text"]) // 4)


def test_the_same_prompt_gets_the_same_reply_in_any_order_and_process(
    gateway: Gateway, http: httpx.Client
) -> None:
    prompts = [PROMPT.replace("K-48213", f"K-{number}") for number in range(48213, 48223)]

    def replies(order: list[str]) -> dict[str, str]:
        return {
            p: http.post("/v1/messages", json=ask(p)).json()["content"][0]["text"] for p in order
        }

    first = replies(prompts)
    gateway.world = named_world("calm")
    assert replies(list(reversed(prompts))) == first
    for prompt, text in first.items():
        assert read(text, recognise([prompt])) == true_quality(
            gateway.world, PRIME, prompt, week=gateway.week
        )


def test_another_seed_model_or_week_gives_another_reply(
    gateway: Gateway, http: httpx.Client
) -> None:
    def text(model: str = PRIME) -> str:
        return str(http.post("/v1/messages", json=ask(model=model)).json()["content"][0]["text"])

    first = text()
    assert text(SWIFT) != first
    gateway.clock.set(gateway.world.starts_at + timedelta(days=7))
    assert text() != first
    gateway.clock.set(gateway.world.starts_at)
    assert text() == first
    gateway.world = replace(gateway.world, seed=2)
    assert text() != first


def test_a_stream_says_the_same_as_a_plain_reply(gateway: Gateway, http: httpx.Client) -> None:
    plain = http.post("/v1/messages", json=ask()).json()
    for chunks in (1, 7):
        gateway.world = replace(gateway.world, chunks=chunks)
        response = http.post("/v1/messages", json=ask(stream=True))
        assert response.headers["content-type"].startswith("text/event-stream")
        found = events(response.text)
        assert [event["type"] for event in found] == [
            "message_start",
            "content_block_start",
            *["content_block_delta"] * chunks,
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        assert streamed_text(response.text) == plain["content"][0]["text"]
        assert found[-2]["usage"] == plain["usage"]


async def test_the_anthropic_sdk_reads_a_stream(gateway: Gateway, url: str) -> None:
    async with anthropic.AsyncAnthropic(api_key="any", base_url=url, max_retries=0) as client:
        manager = client.messages.stream(
            model=PRIME, max_tokens=800, messages=[{"role": "user", "content": PROMPT}]
        )
        text, message = await read_stream(manager)
    assert read(text) is not None
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 10


async def read_stream(
    manager: AsyncMessageStreamManager[None],
) -> tuple[str, anthropic.types.Message]:
    async with manager as stream:
        text = "".join([piece async for piece in stream.text_stream])
        return text, await stream.get_final_message()


async def test_the_anthropic_sdk_reads_a_forced_tool_call(gateway: Gateway, url: str) -> None:
    async with anthropic.AsyncAnthropic(api_key="any", base_url=url, max_retries=0) as client:
        message = await client.messages.create(
            model=JUDGE,
            max_tokens=300,
            system="Grade the reply from 1 to 5.",
            messages=[{"role": "user", "content": "<q>Why?</q><reply>No idea.</reply>"}],
            tools=[
                {
                    "name": "record",
                    "input_schema": {
                        "type": "object",
                        "properties": {"score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
                    },
                }
            ],
            tool_choice={"type": "tool", "name": "record"},
        )
    block = message.content[0]
    assert message.stop_reason == "tool_use"
    assert isinstance(block, anthropic.types.ToolUseBlock)
    assert block.input == {"score": 1}


async def test_the_openai_sdk_reads_plain_streamed_and_tool_replies(
    gateway: Gateway, url: str
) -> None:
    function = {"name": "get_weather", "parameters": WEATHER["input_schema"]}
    tool_request: dict[str, Any] = {
        "model": PRIME,
        "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    }
    async with openai.AsyncOpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0) as client:
        plain = await client.chat.completions.create(
            model=PRIME, messages=[{"role": "user", "content": PROMPT}]
        )
        stream = await client.chat.completions.create(
            model=PRIME,
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        called = await client.chat.completions.create(**tool_request)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content
    assert plain.choices[0].finish_reason == "stop"
    assert chunks[-1].usage == plain.usage
    assert called.choices[0].finish_reason == "tool_calls"
    calls = called.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert json.loads(calls[0].function.arguments) == {"city": "Oslo"}


def test_both_vendors_endpoints_speak_for_the_same_model(
    gateway: Gateway, http: httpx.Client
) -> None:
    one = http.post("/v1/messages", json=ask()).json()["content"][0]["text"]
    other = http.post(
        "/v1/chat/completions",
        json={"model": PRIME, "messages": [{"role": "user", "content": PROMPT}]},
    ).json()["choices"][0]["message"]["content"]
    assert one == other


def test_an_openai_stream_reports_usage_only_when_asked(
    gateway: Gateway, http: httpx.Client
) -> None:
    asked = {"model": PRIME, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    assert "usage" not in http.post("/v1/chat/completions", json=asked).text
    asked["stream_options"] = {"include_usage": True}
    text = http.post("/v1/chat/completions", json=asked).text
    assert text.rstrip().endswith("data: [DONE]")
    assert '"usage"' in text


def test_offered_tools_are_called_when_they_fit_the_prompt(
    gateway: Gateway, http: httpx.Client
) -> None:
    gateway.world = with_model(
        gateway.world, PRIME, replace(gateway.world.models[PRIME], quality=1.0)
    )
    fits = ask("Tell me the weather in Oslo, please.", tools=[WEATHER])
    message = http.post("/v1/messages", json=fits).json()
    assert message["stop_reason"] == "tool_use"
    assert message["content"][0]["input"] == {"city": "Oslo"}
    text = http.post("/v1/messages", json={**fits, "stream": True}).text
    pieces = [e["delta"] for e in events(text) if e["type"] == "content_block_delta"]
    assert pieces == [{"type": "input_json_delta", "partial_json": '{"city": "Oslo"}'}]
    does_not_fit = ask(tools=[WEATHER])
    assert http.post("/v1/messages", json=does_not_fit).json()["stop_reason"] == "end_turn"


def test_a_bad_model_calls_tools_with_wrong_arguments(gateway: Gateway, http: httpx.Client) -> None:
    gateway.world = with_model(
        gateway.world, MINI, replace(gateway.world.models[MINI], quality=0.0)
    )
    message = http.post("/v1/messages", json=ask("Weather in Oslo?", MINI, tools=[WEATHER])).json()
    assert message["content"][0]["input"] == {"city": "unknown"}


def test_a_result_of_a_tool_is_answered_in_words(gateway: Gateway, http: httpx.Client) -> None:
    turns = [
        {"role": "user", "content": "Weather in Oslo?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "4 degrees"}],
        },
    ]
    request = {"model": PRIME, "max_tokens": 300, "messages": turns, "tools": [WEATHER]}
    assert http.post("/v1/messages", json=request).json()["stop_reason"] == "end_turn"


def test_max_tokens_and_stop_sequences_end_a_reply(gateway: Gateway, http: httpx.Client) -> None:
    cut = http.post("/v1/messages", json=ask() | {"max_tokens": 5}).json()
    assert cut["stop_reason"] == "max_tokens"
    assert cut["usage"]["output_tokens"] == 5
    stopped = http.post("/v1/messages", json=ask(stop_sequences=["in order"])).json()
    assert stopped["stop_reason"] == "stop_sequence"
    assert stopped["stop_sequence"] == "in order"
    assert not stopped["content"][0]["text"].count("in order")


@pytest.mark.parametrize("header", [{"x-api-key": "right"}, {"authorization": "Bearer right"}])
def test_both_ways_of_sending_a_key_are_accepted(
    gateway: Gateway, http: httpx.Client, header: dict[str, str]
) -> None:
    gateway.world = replace(gateway.world, api_keys=("right",))
    assert http.post("/v1/messages", json=ask(), headers=header).status_code == 200
    wrong = {name: value.replace("right", "wrong") for name, value in header.items()}
    refused = http.post("/v1/messages", json=ask(), headers=wrong)
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "authentication_error"
    assert http.post("/v1/messages", json=ask()).status_code == 401


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "sandbox-nobody"}, 404),
        ({"max_tokens": 0}, 400),
        ({"messages": []}, 400),
        ({"messages": [{"role": "user", "content": ""}]}, 400),
        ({"messages": "hello"}, 400),
        ({"messages": [{"role": "user", "content": "x" * 900_000}]}, 400),
        ({"messages": [{"role": "user", "content": "x" * 2_000_000}]}, 413),
    ],
)
def test_requests_no_model_would_take_are_refused(
    gateway: Gateway, http: httpx.Client, change: dict[str, object], status: int
) -> None:
    gateway.world = replace(gateway.world, max_request_bytes=1_500_000)
    response = http.post("/v1/messages", json=ask() | change)
    assert response.status_code == status
    assert response.json()["type"] == "error"


def test_a_body_that_is_no_json_is_refused(gateway: Gateway, http: httpx.Client) -> None:
    assert http.post("/v1/messages", content=b"{nope").status_code == 400
    assert http.post("/v1/messages", content=b"\xff\xfe").status_code == 400
    assert http.post("/v1/messages", content=b"[1]").status_code == 400


@pytest.mark.parametrize(
    "text", ["\ud800 lone", "nul \u0000 inside", "\U0001f600" * 50, "\u202e bidi", "\u200b"]
)
def test_strange_characters_are_answered(gateway: Gateway, http: httpx.Client, text: str) -> None:
    content = json.dumps(ask(text)).encode()
    assert http.post("/v1/messages", content=content).status_code == 200


def test_features_an_endpoint_lacks_are_refused(gateway: Gateway, http: httpx.Client) -> None:
    spec = replace(gateway.world.models[PRIME], rejects=("tools", "output_config", "temperature"))
    gateway.world = with_model(gateway.world, PRIME, spec)
    schema = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert http.post("/v1/messages", json=ask(tools=[WEATHER])).status_code == 400
    assert http.post("/v1/messages", json=ask(output_config=schema)).status_code == 400
    warm = ask(temperature=0.5)
    old, new = ({"anthropic-version": version} for version in ("2023-06-01", "2026-10-21"))
    assert http.post("/v1/messages", json=warm, headers=old).status_code == 200
    assert http.post("/v1/messages", json=warm, headers=new).status_code == 400
    assert http.post("/v1/messages", json=ask()).status_code == 200


def test_a_schema_is_met_by_an_ordinary_model(gateway: Gateway, http: httpx.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "count": {"type": "integer"}},
    }
    config = {"format": {"type": "json_schema", "schema": schema}}
    text = http.post("/v1/messages", json=ask(output_config=config)).json()["content"][0]["text"]
    assert set(json.loads(text)) == {"answer", "count"}
    assert read(text) is not None


def test_hidden_and_cached_tokens_are_reported(gateway: Gateway, http: httpx.Client) -> None:
    spec = replace(gateway.world.models[PRIME], thinking_tokens=200, cache_read_share=0.5)
    gateway.world = with_model(gateway.world, PRIME, spec)
    usage = http.post("/v1/messages", json=ask()).json()["usage"]
    assert usage["output_tokens_details"]["thinking_tokens"] > 50
    assert usage["output_tokens"] > usage["output_tokens_details"]["thinking_tokens"]
    assert usage["cache_read_input_tokens"] > 0


def test_the_world_can_be_shown_replaced_and_amended_over_http(
    gateway: Gateway, http: httpx.Client
) -> None:
    shown = http.get("/_sandbox/world").json()
    assert shown["models"][PRIME]["quality"] == 0.85
    amended = http.patch("/_sandbox/world", json={"models": {PRIME: {"quality": 0.4}}}).json()
    assert amended["models"][PRIME]["quality"] == 0.4
    assert amended["models"][SWIFT] == shown["models"][SWIFT]
    assert http.post("/_sandbox/world", json=shown).json() == shown
    assert http.post("/_sandbox/world", json={"named": "storm"}).json()["name"] == "storm"
    assert http.post("/_sandbox/world", json={"models": {"a": {"qualty": 1}}}).status_code == 400
    assert http.post("/_sandbox/world", json={"named": "nowhere"}).status_code == 400
    assert http.get("/_sandbox/world").json()["name"] == "storm"


async def test_a_world_kept_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    path.write_text(json.dumps(named_world("calm").to_json()))
    gateway = Gateway(load_world(path))
    gateway.watch(path, lambda: load_world(path))
    async with running(gateway_app(gateway)) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/v1/messages", json=ask())).status_code == 200
        path.write_text("{ half written")
        assert (await http.post("/v1/messages", json=ask())).status_code == 200
        path.write_text(json.dumps(World(models={}, name="empty").to_json()))
        assert (await http.post("/v1/messages", json=ask())).status_code == 404
        assert (await http.get("/_sandbox/world")).json()["name"] == "empty"


def test_the_week_follows_the_clock_set_by_hand_or_kept_in_a_file(
    gateway: Gateway, http: httpx.Client, tmp_path: Path
) -> None:
    at = gateway.world.starts_at + timedelta(days=16)
    answer = http.post("/_sandbox/clock", json={"now": at.isoformat()}).json()
    assert answer == {"now": at.isoformat(), "week": 3}
    file = tmp_path / "clock"
    file.write_text((at + timedelta(days=7)).isoformat())
    gateway.clock.follow(file)
    assert http.get("/_sandbox/clock").json()["week"] == 4
    file.write_text(json.dumps({"now": (at + timedelta(days=700)).isoformat()}))
    assert http.get("/_sandbox/clock").json()["week"] == 103
    assert http.post("/_sandbox/clock", json={"now": "yesterday"}).status_code == 400
    assert http.post("/_sandbox/clock", json={"now": "2026-01-05T00:00:00"}).status_code == 400


def test_every_call_is_logged_with_a_key_that_marks_repeats(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    gateway = Gateway(named_world("calm"), call_log=path)

    async def play() -> dict[str, object]:
        async with running(gateway_app(gateway)) as url, httpx.AsyncClient(base_url=url) as http:
            for prompt in (PROMPT, PROMPT, "something else"):
                headers = {"x-switchwise-attempt": "a1"}
                await http.post("/v1/messages", json=ask(prompt), headers=headers)
            await http.post("/v1/messages", json=ask(model="sandbox-nobody"))
            counts: dict[str, object] = (await http.get("/_sandbox/calls?rows=1&since=3")).json()
            return counts

    counts = asyncio.run(play())
    gateway.calls.close()
    assert counts["received"] == counts["finished"] == 4
    assert (counts["paid"], counts["distinct_paid"], counts["repeated"]) == (3, 2, 1)
    assert counts["in_flight"] == 0
    assert counts["by_outcome"] == {"ok": 3, "unknown_model": 1}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["nth"] for row in rows[:3]] == [1, 2, 1]
    assert rows[0]["key"] == rows[1]["key"] != rows[2]["key"]
    assert rows[0]["headers"] == {"x-switchwise-attempt": "a1"}
    assert counts["rows"] == rows[3:]


def test_a_log_counts_gradings_of_one_matter_that_were_asked_for_twice() -> None:
    log = CallLog()
    for judged in ("m1", "m1", "m2", None):
        log.receive("k", JUDGE)
        row = {"model": JUDGE, "status": 200, "outcome": "ok", "is_paid": True, "key": "k"}
        log.finish({**row, "judged": judged, "week": 1})
    assert log.counts()["judged"] == 3
    assert log.counts()["judged_again"] == 1


def test_the_models_are_listed(gateway: Gateway, http: httpx.Client) -> None:
    listed = http.get("/v1/models").json()["data"]
    assert PRIME in [entry["id"] for entry in listed]
    assert http.get("/_sandbox/health").json()["status"] == "ok"
