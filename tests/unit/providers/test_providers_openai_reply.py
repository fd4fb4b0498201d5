"""What only chat completions say: their choices, their usage, their requests."""

import json
from typing import Any

import pytest

from app.domain.attempts import FailureClass, StopReason
from app.domain.cases import Message, Prompt
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.prices import Usage
from app.ports import ModelRequest
from app.providers.messages import NotMappable
from app.providers.openai import body_of
from app.providers.openai_reply import OpenAIReply, usage_of
from app.providers.replies import BadReply, Content
from tests.fakes.vendor_replies import MODEL, OpenAIShape

SHAPE = OpenAIShape()
ENDPOINT = Endpoint(base_url="http://gateway.test/v1", api="openai")
SPEC = ModelSpec(name="m", model=MODEL, role=Role.PRIMARY, endpoint=ENDPOINT)
HELLO = Prompt(messages=(Message(role="user", content="Hi"),))


def of_message(message: dict[str, Any], finish: str = "stop") -> Content:
    reply = OpenAIReply(SPEC)
    choice = {"index": 0, "message": message, "finish_reason": finish}
    reply.document({**SHAPE.message(), "choices": [choice]})
    return reply.content()


def of_chunks(*chunks: bytes) -> Content:
    reply = OpenAIReply(SPEC)
    for chunk in chunks:
        reply.event(b"", chunk.removeprefix(b"data: ").strip())
    return reply.content()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, Usage(input_tokens=100, output_tokens=20)),
        (
            {"prompt_tokens_details": {"cached_tokens": 60}},
            Usage(input_tokens=40, output_tokens=20, cache_read_tokens=60),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}},
            Usage(
                input_tokens=10, output_tokens=20, cache_read_tokens=60, cache_write_5m_tokens=30
            ),
        ),
        (
            {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
            Usage(input_tokens=36, output_tokens=20, cache_read_tokens=64),
        ),
        (
            {"cache_read_input_tokens": 50, "cache_creation_input_tokens": 25},
            Usage(
                input_tokens=25, output_tokens=20, cache_read_tokens=50, cache_write_5m_tokens=25
            ),
        ),
        (
            {"completion_tokens_details": {"reasoning_tokens": 15}, "total_tokens": 120},
            Usage(input_tokens=100, output_tokens=20, thinking_tokens=15),
        ),
        (
            {"completion_tokens_details": {"reasoning_tokens": 15}, "total_tokens": 135},
            Usage(input_tokens=100, output_tokens=35, thinking_tokens=15),
        ),
        (
            {"prompt_tokens_details": None, "completion_tokens_details": None},
            Usage(input_tokens=100, output_tokens=20),
        ),
    ],
)
def test_every_shape_of_usage_is_counted_once(usage: dict[str, Any], expected: Usage) -> None:
    assert usage_of({"prompt_tokens": 100, "completion_tokens": 20, **usage}) == expected


def test_more_cached_tokens_than_input_cannot_be() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 11},
    }

    with pytest.raises(BadReply):
        usage_of(usage)


def test_a_forced_tool_call_that_finishes_with_stop_is_tool_use() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "grade", "arguments": '{"n": 1}'}}

    content = of_message({"content": None, "tool_calls": [call]})

    assert content.stop_reason is StopReason.TOOL_USE
    assert content.tool_calls == ({"type": "tool_use", "name": "grade", "input": {"n": 1}},)


def test_several_calls_of_a_stream_are_kept_apart() -> None:
    def piece(index: int, **function: str) -> bytes:
        return SHAPE.chunk({"tool_calls": [{"index": index, "function": function}]})

    content = of_chunks(
        *SHAPE.opening(),
        piece(0, name="a", arguments='{"x":'),
        piece(1, name="b", arguments="{}"),
        piece(0, arguments=" 1}"),
        *SHAPE.closing(stop="tool"),
        SHAPE.end(),
    )

    assert content.tool_calls == (
        {"type": "tool_use", "name": "a", "input": {"x": 1}},
        {"type": "tool_use", "name": "b", "input": {}},
    )


def test_a_refusal_in_words_is_a_refusal() -> None:
    content = of_message({"content": None, "refusal": "I cannot."})

    assert content.stop_reason is StopReason.REFUSAL
    assert content.text == "I cannot."


def test_a_stream_without_done_but_with_finish_and_usage_is_whole() -> None:
    assert of_chunks(*SHAPE.opening(), *SHAPE.texts("A"), *SHAPE.closing()).text == "A"


def test_reasoning_is_neither_text_nor_first_content() -> None:
    reply = OpenAIReply(SPEC)
    for chunk in (*SHAPE.opening(), SHAPE.chunk({"reasoning_content": "hm"})):
        reply.event(b"", chunk.removeprefix(b"data: ").strip())

    assert not reply.has_content


def test_an_opening_chunk_about_the_content_filter_names_no_model() -> None:
    opening = b'data: {"id": "", "model": "", "choices": [], "prompt_filter_results": []}\n\n'

    assert (
        of_chunks(opening, *SHAPE.opening(), *SHAPE.texts("A"), *SHAPE.closing(), SHAPE.end()).text
        == "A"
    )


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "hologram"}]},
        {"content": 5},
        {"content": None, "tool_calls": "x"},
        {"content": None, "tool_calls": [{"id": "c"}]},
        {"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]},
        {"content": None, "function_call": {"name": "x"}},
    ],
)
def test_unknown_content_is_a_protocol_error(message: dict[str, Any]) -> None:
    with pytest.raises(BadReply) as caught:
        of_message(message)

    assert caught.value.failure_class is FailureClass.PROTOCOL


def test_a_second_choice_is_a_protocol_error() -> None:
    second = {"index": 1, "message": {"content": "x"}, "finish_reason": "stop"}
    reply = OpenAIReply(SPEC)

    with pytest.raises(BadReply):
        reply.document({**SHAPE.message(), "choices": [second]})


# --- requests -------------------------------------------------------------------------------


def body(
    prompt: Prompt = HELLO,
    own: dict[str, object] | None = None,
    url: str = ENDPOINT.base_url,
    **changes: Any,
) -> dict[str, Any]:
    endpoint = Endpoint(base_url=url, api="openai")
    spec = ModelSpec(name="m", model=MODEL, role=Role.PRIMARY, endpoint=endpoint, params=own or {})
    asked_with = {"max_tokens": 64, "deadline_s": 5.0, **changes}
    sent = body_of(ModelRequest(model=spec, prompt=prompt, **asked_with))
    return dict(json.loads(json.dumps(sent)))


def test_a_stream_asks_for_its_usage() -> None:
    assert body()["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body(stream=False)


@pytest.mark.parametrize(
    ("url", "own", "name"),
    [
        ("http://gateway.test/v1", {}, "max_tokens"),
        ("https://api.openai.com/v1", {}, "max_completion_tokens"),
        ("https://team.openai.azure.com/v1", {}, "max_completion_tokens"),
        ("https://notopenai.com/v1", {}, "max_tokens"),
        ("http://gateway.test/v1", {"max_completion_tokens": 1}, "max_completion_tokens"),
    ],
)
def test_the_limit_goes_under_the_name_the_server_knows(
    url: str, own: dict[str, object], name: str
) -> None:
    sent = body(url=url, own=own)

    assert {key: sent[key] for key in sent if key.startswith("max_")} == {name: 64}


def test_a_judge_is_made_to_answer_with_its_tool() -> None:
    tool = {"name": "grade", "input_schema": {"type": "object"}}

    sent = body(answer_tool=tool)

    assert [t["function"]["name"] for t in sent["tools"]] == ["grade"]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "grade"}}


def test_a_judge_is_made_to_answer_by_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"score": {"type": "integer"}},
        "required": ["score"],
        "additionalProperties": False,
    }

    form = body(answer_schema=schema)["response_format"]

    assert form["type"] == "json_schema"
    assert form["json_schema"] == {"name": "answer", "schema": schema, "strict": True}


def test_strictness_is_not_claimed_for_a_schema_that_is_not_strict() -> None:
    loose = {"type": "object", "properties": {"score": {"type": "integer"}}}

    assert body(answer_schema=loose)["response_format"]["json_schema"]["strict"] is False


def test_logged_parameters_are_translated_and_own_ones_win_in_either_vocabulary() -> None:
    prompt = Prompt(
        messages=HELLO.messages,
        params={"temperature": 0.5, "stop_sequences": ["A"], "top_k": 3, "metadata": {"u": 1}},
    )

    sent = body(prompt, own={"stop_sequences": ["B"], "top_k": 5, "reasoning_effort": "low"})

    assert sent["stop"] == ["B"]
    assert sent["top_k"] == 5
    assert sent["reasoning_effort"] == "low"
    assert sent["temperature"] == 0.5
    assert "metadata" not in sent
    assert "stop_sequences" not in sent


def test_a_logged_parameter_without_counterpart_is_refused_until_it_is_set_to_null() -> None:
    prompt = Prompt(messages=HELLO.messages, params={"top_k": 3})

    with pytest.raises(NotMappable, match="top_k"):
        body(prompt)
    assert "top_k" not in body(prompt, own={"top_k": None})
