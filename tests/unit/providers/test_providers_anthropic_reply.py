"""What only the Messages API says: its blocks, its usage, its requests."""

import json
from typing import Any

import pytest

from app.domain.attempts import FailureClass, StopReason
from app.domain.cases import Message, Prompt
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.prices import Usage
from app.ports import ModelRequest
from app.providers.anthropic import arguments
from app.providers.anthropic_reply import AnthropicReply
from app.providers.replies import BadReply, Content
from tests.fakes.vendor_replies import MODEL, AnthropicShape

SHAPE = AnthropicShape()
SPEC = ModelSpec(
    name="m", model=MODEL, role=Role.PRIMARY, endpoint=Endpoint(base_url="http://gateway.test")
)
TOOL = {"name": "grade", "description": "Grade it", "input_schema": {"type": "object"}}


def read(*events: dict[str, Any]) -> Content:
    reply = AnthropicReply(SPEC)
    for event in events:
        reply.event(b"", json.dumps(event).encode())
    return reply.content()


def start(**usage: object) -> dict[str, Any]:
    message = {"id": "msg_1", "model": MODEL, "usage": {"input_tokens": 10, **usage}}
    return {"type": "message_start", "message": message}


def delta(**usage: object) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 5, **usage},
    }


STOP = {"type": "message_stop"}


def of_message(**changes: Any) -> Content:
    reply = AnthropicReply(SPEC)
    reply.document({**SHAPE.message(), **changes})
    return reply.content()


def bad(**changes: Any) -> BadReply:
    with pytest.raises(BadReply) as caught:
        of_message(**changes)
    return caught.value


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 3, "output_tokens": 2}, Usage(input_tokens=3, output_tokens=2)),
        (
            {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 90},
            Usage(input_tokens=3, output_tokens=2, cache_read_tokens=90),
        ),
        (
            {"input_tokens": 3, "output_tokens": 2, "cache_creation_input_tokens": 40},
            Usage(input_tokens=3, output_tokens=2, cache_write_5m_tokens=40),
        ),
        (
            {
                "input_tokens": 3,
                "output_tokens": 2,
                "cache_creation_input_tokens": 40,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 10,
                    "ephemeral_1h_input_tokens": 30,
                },
            },
            Usage(
                input_tokens=3, output_tokens=2, cache_write_5m_tokens=10, cache_write_1h_tokens=30
            ),
        ),
        (
            {
                "input_tokens": 3,
                "output_tokens": 2,
                "cache_creation_input_tokens": 40,
                "cache_creation": {"ephemeral_1h_input_tokens": 30},
            },
            Usage(
                input_tokens=3, output_tokens=2, cache_write_5m_tokens=10, cache_write_1h_tokens=30
            ),
        ),
        (
            {
                "input_tokens": 3,
                "output_tokens": 20,
                "cache_read_input_tokens": None,
                "cache_creation": None,
                "output_tokens_details": {"thinking_tokens": 15},
            },
            Usage(input_tokens=3, output_tokens=20, thinking_tokens=15),
        ),
        (
            {"input_tokens": 0, "output_tokens": 2, "cache_read_input_tokens": 90},
            Usage(input_tokens=0, output_tokens=2, cache_read_tokens=90),
        ),
    ],
)
def test_every_shape_of_usage_is_counted(usage: dict[str, Any], expected: Usage) -> None:
    assert of_message(usage=usage).usage == expected


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ({"output_tokens": 1}, {}, Usage(input_tokens=10, output_tokens=5)),
        ({"input_tokens": 0}, {"input_tokens": 12}, Usage(input_tokens=12, output_tokens=5)),
        ({"input_tokens": 12}, {"input_tokens": 0}, Usage(input_tokens=12, output_tokens=5)),
        (
            {"cache_read_input_tokens": 7},
            {"cache_read_input_tokens": None},
            Usage(input_tokens=10, output_tokens=5, cache_read_tokens=7),
        ),
    ],
)
def test_cumulative_counts_keep_their_greatest_value(
    first: dict[str, Any], last: dict[str, Any], expected: Usage
) -> None:
    assert read(start(**first), delta(**last), STOP).usage == expected


def test_a_cut_stream_tells_what_was_counted() -> None:
    reply = AnthropicReply(SPEC)
    assert reply.usage_so_far() is None

    reply.event(b"", json.dumps(start(output_tokens=1)).encode())

    assert reply.usage_so_far() == Usage(input_tokens=10, output_tokens=1)


def test_thinking_is_neither_text_nor_first_content() -> None:
    reply = AnthropicReply(SPEC)
    events = [
        start(),
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "hm"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": "x"},
        },
        {"type": "content_block_stop", "index": 0},
    ]
    for event in events:
        reply.event(b"", json.dumps(event).encode())
        assert not reply.has_content
    text = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "text", "text": ""},
    }
    piece = {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "text_delta", "text": "A"},
    }
    for event in (text, piece, delta(), STOP):
        reply.event(b"", json.dumps(event).encode())

    assert reply.has_content
    assert reply.content().text == "A"


def test_text_blocks_follow_each_other_without_a_gap() -> None:
    blocks = [{"type": "text", "text": "one "}, {"type": "text", "text": "two", "citations": []}]

    assert of_message(content=blocks).text == "one two"


def test_kinds_of_event_that_are_yet_to_come_are_passed_over() -> None:
    content = read({"type": "ping"}, start(), {"type": "novelty", "x": 1}, delta(), STOP)

    assert content.text == ""


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "message_stop"}],
        [delta()],
        [start(), start()],
        [start(), {"type": "content_block_delta", "index": 0, "delta": {}}],
        [start(), {"type": "content_block_start", "index": 0}],
        [start(), {"type": "content_block_stop", "index": 3}],
    ],
)
def test_events_out_of_order_break_the_reply_off(events: list[dict[str, Any]]) -> None:
    with pytest.raises(BadReply) as caught:
        read(*events)

    assert caught.value.failure_class is FailureClass.INCOMPLETE


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram"},
        {"type": "server_tool_use", "name": "web_search"},
        {"type": "text", "text": None},
        {"type": "text"},
        {"type": "tool_use", "input": {}},
        {"type": "tool_use", "name": "", "input": {}},
        {},
        "text",
    ],
)
def test_an_unknown_or_empty_block_is_a_protocol_error(block: object) -> None:
    assert bad(content=[block]).failure_class is FailureClass.PROTOCOL


@pytest.mark.parametrize("content", [None, "text", {}])
def test_content_that_is_no_list_is_a_protocol_error(content: object) -> None:
    assert bad(content=content).failure_class is FailureClass.PROTOCOL


def test_an_unknown_kind_of_delta_is_a_protocol_error() -> None:
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "smell_delta"}}

    with pytest.raises(BadReply) as caught:
        read(start(), block, piece)

    assert caught.value.failure_class is FailureClass.PROTOCOL


@pytest.mark.parametrize("value", ["[1]", "1", "NaN", '{"a": NaN}', "{"])
def test_tool_input_that_is_no_object_breaks_the_reply_off(value: str) -> None:
    tool = {"type": "tool_use", "name": "t", "id": "x", "input": {}}
    piece = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": value},
    }

    with pytest.raises(BadReply) as caught:
        read(
            start(),
            {"type": "content_block_start", "index": 0, "content_block": tool},
            piece,
            delta(),
            STOP,
        )

    assert caught.value.failure_class is FailureClass.INCOMPLETE


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop_sequence", StopReason.STOP_SEQUENCE),
        ("tool_use", StopReason.TOOL_USE),
        ("model_context_window_exceeded", StopReason.MAX_TOKENS),
    ],
)
def test_stop_reasons_are_mapped(reason: str, expected: StopReason) -> None:
    assert of_message(stop_reason=reason).stop_reason is expected


def test_a_paused_turn_is_no_reply() -> None:
    assert bad(stop_reason="pause_turn").failure_class is FailureClass.PROTOCOL


# --- requests -------------------------------------------------------------------------------


def asked(
    prompt: Prompt | None = None, own: dict[str, object] | None = None, **changes: Any
) -> Any:
    spec = ModelSpec(
        name="m", model=MODEL, role=Role.PRIMARY, endpoint=SPEC.endpoint, params=own or {}
    )
    asked_with = {"max_tokens": 64, "deadline_s": 5.0, **changes}
    said = prompt or Prompt(messages=(Message(role="user", content="Hi"),))
    return arguments(ModelRequest(model=spec, prompt=said, **asked_with))


def test_the_whole_prompt_is_sent() -> None:
    blocks = ({"type": "text", "text": "Hi"}, {"type": "image", "source": {"type": "url"}})
    prompt = Prompt(
        messages=(Message(role="user", content=blocks),),
        system="Be brief.",
        tools=(TOOL,),
        params={
            "stop_sequences": ["END"],
            "tool_choice": {"type": "auto"},
            "thinking": {"type": "disabled"},
            "temperature": 0.5,
            "top_k": 3,
            "max_tokens": 4_096,
            "system": "not this",
            "messages": [],
            "stream": False,
        },
    )

    assert asked(prompt) == {
        "model": MODEL,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": list(blocks)}],
        "stream": True,
        "system": "Be brief.",
        "tools": [TOOL],
        "stop_sequences": ["END"],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "disabled"},
        "extra_body": {"temperature": 0.5, "top_k": 3},
    }


def test_a_judge_is_made_to_answer_with_its_tool() -> None:
    prompt = Prompt(messages=(Message(role="user", content="Hi"),), tools=({"name": "other"},))

    sent = asked(prompt, answer_tool=TOOL, stream=False)

    assert sent["tools"] == [TOOL]
    assert sent["tool_choice"] == {"type": "tool", "name": "grade"}
    assert sent["stream"] is False


def test_a_judge_is_made_to_answer_by_its_schema() -> None:
    schema = {"type": "object", "properties": {}}

    sent = asked(own={"output_config": {"effort": "low"}}, answer_schema=schema)

    assert sent["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }


def test_a_tool_choice_without_tools_is_not_sent() -> None:
    prompt = Prompt(
        messages=(Message(role="user", content="Hi"),), params={"tool_choice": {"type": "auto"}}
    )

    assert "tool_choice" not in asked(prompt)
