"""Logged tool calls, replayed over the wire of both vendors and scored against what was logged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from app.clocks import SystemClock
from app.domain.attempts import Completion, StopReason
from app.domain.cases import Case
from app.domain.models import Endpoint, ModelSpec, Role, Secret
from app.domain.scores import Score
from app.evaluation.tool_calls import ToolCall
from app.ports import LogRow, ModelRequest, Provider
from app.providers.anthropic import AnthropicProvider
from app.providers.openai import OpenAIProvider
from app.sampling.prompts import Replayable, replayable_of
from tests.fakes.gateway_server import GatewayServer, plain, streaming
from tests.fakes.vendor_replies import MODEL, AnthropicShape, OpenAIShape, Shape

Call = tuple[str, Mapping[str, object]]
WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
SEARCH = {
    "name": "search",
    "description": "Search the shop",
    "schema": {"type": "object", "properties": {"query": {"type": "string"}}},
}
REFUND = {
    "name": "refund",
    "description": "Pay money back",
    "schema": {
        "type": "object",
        "properties": {"order": {"type": "string"}, "lines": {"type": "array"}},
    },
}
TOOLS = (WEATHER, SEARCH, REFUND)
PARIS: Call = ("weather", {"city": "Paris"})
OSLO: Call = ("weather", {"city": "Oslo", "days": 2})
SHOES: Call = ("search", {"query": "red shoes"})
BACK: Call = ("refund", {"order": "A-1", "lines": [{"sku": "x", "n": 1}]})
NO_ARGUMENTS: Call = ("refund", {})


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A logged request that was answered with calls, what the model does now, and what it is worth.

    Attributes:
        earlier: Turns before the question: a call and its result.
    """

    name: str
    question: str
    logged: Sequence[Call]
    made: Sequence[Call]
    worth: float
    shape: Literal["openai", "anthropic"] = "openai"
    compare: Literal["equal", "subset", "ignore"] = "equal"
    choice: str | None = None
    earlier: Call | None = None
    is_streamed: bool = False


CASES = [
    Logged(name="same call", question="Weather in Paris?", logged=[PARIS], made=[PARIS], worth=1),
    Logged(
        name="same call, streamed",
        question="Weather in Paris?",
        logged=[PARIS],
        made=[PARIS],
        worth=1,
        is_streamed=True,
    ),
    Logged(
        name="logged by Anthropic",
        question="Weather in Oslo?",
        logged=[OSLO],
        made=[OSLO],
        worth=1,
        shape="anthropic",
    ),
    Logged(
        name="logged by Anthropic, streamed",
        question="Weather in Oslo?",
        logged=[OSLO],
        made=[OSLO],
        worth=1,
        shape="anthropic",
        is_streamed=True,
    ),
    Logged(
        name="other city",
        question="Weather in Paris?",
        logged=[PARIS],
        made=[("weather", {"city": "Lyon"})],
        worth=0.5,
    ),
    Logged(name="other tool", question="Weather?", logged=[PARIS], made=[SHOES], worth=0),
    Logged(name="no call", question="Weather in Paris?", logged=[PARIS], made=[], worth=0),
    Logged(
        name="a needless call beside",
        question="Weather in Paris?",
        logged=[PARIS],
        made=[PARIS, SHOES],
        worth=0.5,
    ),
    Logged(
        name="two calls in the same order",
        question="Paris and Oslo?",
        logged=[PARIS, OSLO],
        made=[PARIS, OSLO],
        worth=1,
    ),
    Logged(
        name="two calls in another order",
        question="Paris and Oslo?",
        logged=[PARIS, OSLO],
        made=[OSLO, PARIS],
        worth=1,
        shape="anthropic",
    ),
    Logged(name="one of two", question="Both?", logged=[PARIS, SHOES], made=[SHOES], worth=0.5),
    Logged(
        name="the same call twice for once",
        question="Weather in Paris?",
        logged=[PARIS],
        made=[PARIS, PARIS],
        worth=0.5,
    ),
    Logged(name="nested arguments", question="Refund A-1", logged=[BACK], made=[BACK], worth=1),
    Logged(
        name="nested arguments that differ",
        question="Refund A-1",
        logged=[BACK],
        made=[("refund", {"order": "A-1", "lines": [{"sku": "x", "n": 2}]})],
        worth=0.5,
    ),
    Logged(
        name="whole numbers written as decimals",
        question="Oslo?",
        logged=[OSLO],
        made=[("weather", {"days": 2.0, "city": "Oslo"})],
        worth=1,
    ),
    Logged(
        name="more arguments than logged",
        question="Paris?",
        logged=[PARIS],
        made=[("weather", {"city": "Paris", "days": 3})],
        worth=0.5,
    ),
    Logged(
        name="more arguments than logged, allowed",
        question="Paris?",
        logged=[PARIS],
        made=[("weather", {"city": "Paris", "days": 3})],
        worth=1,
        compare="subset",
    ),
    Logged(
        name="arguments that do not matter",
        question="Paris?",
        logged=[PARIS],
        made=[OSLO],
        worth=1,
        compare="ignore",
    ),
    Logged(
        name="no arguments",
        question="Refund.",
        logged=[NO_ARGUMENTS],
        made=[NO_ARGUMENTS],
        worth=1,
        is_streamed=True,
    ),
    Logged(
        name="a forced tool",
        question="Shoes",
        logged=[SHOES],
        made=[SHOES],
        worth=1,
        choice="search",
    ),
    Logged(
        name="any tool required",
        question="Shoes",
        logged=[SHOES],
        made=[SHOES],
        worth=1,
        choice="required",
        shape="anthropic",
    ),
    Logged(
        name="after an earlier call and its result",
        question="And in Oslo, for two days?",
        logged=[OSLO],
        made=[OSLO],
        worth=1,
        earlier=PARIS,
    ),
    Logged(
        name="after an earlier call, logged by Anthropic",
        question="And in Oslo, for two days?",
        logged=[OSLO],
        made=[OSLO],
        worth=1,
        earlier=PARIS,
        shape="anthropic",
        is_streamed=True,
    ),
    Logged(
        name="letters of every script",
        question="Погода?",
        logged=[("weather", {"city": "Zürich “東京”"})],
        made=[("weather", {"city": "Zürich “東京”"})],
        worth=1,
    ),
]
SHAPES: tuple[Shape, ...] = (AnthropicShape(), OpenAIShape())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.api)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_logged_tool_call_is_replayed_and_scored(case: Logged, shape: Shape) -> None:
    found = replayable_of(_row(case))
    assert isinstance(found, Replayable), found
    async with GatewayServer(_answer(case, shape)) as gateway:
        result = await _sent(found, shape, gateway.url, is_streamed=case.is_streamed)
        sent = gateway.received[0].json
    assert isinstance(result, Completion), result
    _check_request(sent, case, shape)
    assert result.stop_reason is (StopReason.TOOL_USE if case.made else StopReason.END_TURN)
    assert [(call["name"], call["input"]) for call in result.tool_calls] == [
        (name, dict(arguments)) for name, arguments in case.made
    ]
    scored = ToolCall(compare=case.compare).score(_case(found), result)
    assert isinstance(scored, Score), scored
    assert scored.value == pytest.approx(case.worth)


def _row(case: Logged) -> LogRow:
    is_openai = case.shape == "openai"
    body: dict[str, object] = {
        "messages": (_openai_turns if is_openai else _anthropic_turns)(case),
        "tools": [_definition(tool, is_openai=is_openai) for tool in TOOLS],
    }
    if case.choice is not None:
        body["tool_choice"] = _choice(case.choice, is_openai=is_openai)
    response = (_openai_reply if is_openai else _anthropic_reply)(case.logged)
    return LogRow(
        source_id="1",
        created_at=None,
        segments={},
        fields={"messages": json.dumps(body), "response": json.dumps(response)},
    )


def _definition(tool: Mapping[str, object], *, is_openai: bool) -> dict[str, object]:
    named = {"name": tool["name"], "description": tool["description"]}
    if is_openai:
        return {"type": "function", "function": {**named, "parameters": tool["schema"]}}
    return {**named, "input_schema": tool["schema"]}


def _choice(choice: str, *, is_openai: bool) -> object:
    if choice == "required":
        return "required" if is_openai else {"type": "any"}
    if is_openai:
        return {"type": "function", "function": {"name": choice}}
    return {"type": "tool", "name": choice}


def _openai_turns(case: Logged) -> list[dict[str, object]]:
    asked: dict[str, object] = {"role": "user", "content": case.question}
    if case.earlier is None:
        return [asked]
    return [
        {"role": "user", "content": "First things first."},
        _openai_reply([case.earlier]),
        {"role": "tool", "tool_call_id": "c0", "content": "sunny"},
        asked,
    ]


def _anthropic_turns(case: Logged) -> list[dict[str, object]]:
    if case.earlier is None:
        return [{"role": "user", "content": case.question}]
    result = {"type": "tool_result", "tool_use_id": "c0", "content": "sunny"}
    return [
        {"role": "user", "content": "First things first."},
        {"role": "assistant", "content": _anthropic_blocks([case.earlier])},
        {"role": "user", "content": [result, {"type": "text", "text": case.question}]},
    ]


def _openai_reply(calls: Sequence[Call]) -> dict[str, object]:
    listed = [
        {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": listed}


def _anthropic_reply(calls: Sequence[Call]) -> dict[str, object]:
    return {"type": "message", "role": "assistant", "content": _anthropic_blocks(calls)}


def _anthropic_blocks(calls: Sequence[Call]) -> list[dict[str, object]]:
    return [
        {"type": "tool_use", "id": f"c{number}", "name": name, "input": dict(arguments)}
        for number, (name, arguments) in enumerate(calls)
    ]


def _answer(case: Logged, shape: Shape) -> Any:
    if case.is_streamed:
        ((name, arguments),) = case.made
        text = json.dumps(arguments)
        pieces = (text[:5], text[5:]) if arguments else ()
        return streaming(
            [
                *shape.opening(),
                *shape.tool_call(name, *pieces),
                *shape.closing(stop="tool"),
                shape.end(),
            ]
        )
    if not case.made:
        return plain(shape.message("It is sunny."))
    document = shape.message(stop="tool")
    if shape.api == "anthropic":
        document["content"] = _anthropic_blocks(case.made)
    else:
        document["choices"][0]["message"] = _openai_reply(case.made)
    return plain(document)


async def _sent(found: Replayable, shape: Shape, url: str, *, is_streamed: bool) -> object:
    endpoint = Endpoint(base_url=url + shape.path, api_key=Secret("k"), api=shape.api)
    model = ModelSpec(name="m", model=MODEL, role=Role.CANDIDATE, endpoint=endpoint)
    adapter = OpenAIProvider if shape.api == "openai" else AnthropicProvider
    provider: Provider = adapter(endpoint, SystemClock())
    request = ModelRequest(
        model=model, prompt=found.prompt, max_tokens=200, deadline_s=10.0, stream=is_streamed
    )
    try:
        return await provider.send(request)
    finally:
        await provider.close()


def _check_request(sent: Mapping[str, Any], case: Logged, shape: Shape) -> None:
    """The vendor is offered the tools of the log, in its own words, and the turns as they were."""
    is_openai = shape.api == "openai"
    assert sent["tools"] == [_definition(tool, is_openai=is_openai) for tool in TOOLS]
    if case.choice is not None:
        assert sent["tool_choice"] == _choice(case.choice, is_openai=is_openai)
    else:
        assert "tool_choice" not in sent
    text = json.dumps(sent["messages"], ensure_ascii=False)
    assert case.question in text
    if case.earlier is not None:
        assert "sunny" in text
        assert ('"tool_calls"' in text) is is_openai
        assert ('"tool_result"' in text) is not is_openai


def _case(found: Replayable) -> Case:
    return Case(
        case_id="c",
        source_id="1",
        ordinal=0,
        weight=1.0,
        prompt=found.prompt,
        tool_calls=found.reply.tool_calls,
    )
