"""Rows of products' own tables, in the shapes that those products write."""

import json
from collections.abc import Callable, Mapping

import pytest

from app.domain.cases import SkipReason
from app.logsources import litellm, otel, phoenix
from app.ports import LogRow
from app.sampling.prompts import Replayable, replayable_of

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "Weather", "input_schema": CITY}
WEATHER_OPENAI = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather", "parameters": CITY},
}
EXPECTED_TURNS = [
    {"role": "user", "content": "Weather in Rome?"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}}],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}],
    },
]


def read(reading: Callable[[LogRow], LogRow], **fields: object) -> Replayable | SkipReason:
    row = LogRow(source_id="1", created_at=None, segments={}, fields=fields)
    return replayable_of(reading(row))


def replayable(reading: Callable[[LogRow], LogRow], **fields: object) -> Replayable:
    found = read(reading, **fields)
    assert isinstance(found, Replayable), found
    return found


# --- LiteLLM ---------------------------------------------------------------------------------

CHAT = {"model": "gpt", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
CUT = "Hi... (litellm_truncated skipped 900 chars) ...bye"


def spend_log(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "messages": CHAT,
        "prompt": {},
        "response": {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]},
        "status": "success",
        "cache_hit": "False",
        "call_type": "acompletion",
        "conversation": "session",
        "output_tokens": "7",
    }
    return {**row, **changes}


def test_a_chat_call_through_litellm_is_replayed_with_its_parameters() -> None:
    found = replayable(litellm.read_spend_log, **spend_log())
    assert found.prompt.params == {"max_tokens": 50}
    assert (found.reply.text, found.conversation, found.output_tokens) == ("Hello", "session", 7)


def test_an_anthropic_call_through_litellm_is_replayed_with_its_system_prompt() -> None:
    body = {**CHAT, "system": [{"type": "text", "text": "Be brief."}]}
    reply = {"type": "message", "content": [{"type": "text", "text": "Hello"}]}
    found = replayable(
        litellm.read_spend_log,
        **spend_log(messages=body, response=reply, call_type="anthropic_messages"),
    )
    assert (found.prompt.system, found.reply.text) == ("Be brief.", "Hello")


def test_messages_in_their_own_column_are_used_when_there_is_no_request() -> None:
    fields = spend_log(messages={}, prompt=CHAT["messages"])
    assert replayable(litellm.read_spend_log, **fields).prompt.last_user_text == "Hi"


LITELLM_SKIPS: Mapping[str, tuple[dict[str, object], SkipReason]] = {
    "failed": ({"status": "failure", "messages": {}}, SkipReason.FAILED),
    "cached": ({"cache_hit": "True"}, SkipReason.CACHED),
    "embedding": ({"call_type": "aembedding"}, SkipReason.UNSUPPORTED),
    "cut": (
        {"messages": {"messages": [{"role": "user", "content": CUT}]}},
        SkipReason.CUT_BY_LOGGER,
    ),
    "cut system prompt": ({"messages": {**CHAT, "system": CUT}}, SkipReason.CUT_BY_LOGGER),
    "cut whole": ({"messages": {"litellm_truncated": True}}, SkipReason.CUT_BY_LOGGER),
    "removed": (
        {"messages": {"messages": [{"role": "user", "content": "redacted-by-litellm"}]}},
        SkipReason.CUT_BY_LOGGER,
    ),
    "not stored": ({"messages": {}, "response": {}}, SkipReason.EMPTY),
    "not text": ({"messages": b"\xff"}, SkipReason.UNREADABLE),
}


@pytest.mark.parametrize(("changes", "reason"), LITELLM_SKIPS.values(), ids=LITELLM_SKIPS.keys())
def test_litellm_rows_are_skipped_for_their_reason(
    changes: dict[str, object], reason: SkipReason
) -> None:
    assert read(litellm.read_spend_log, **spend_log(**changes)) is reason


def test_a_reply_that_litellm_cut_is_no_reply() -> None:
    reply = {"choices": [{"message": {"content": CUT}}]}
    assert replayable(litellm.read_spend_log, **spend_log(response=reply)).reply.text is None


# --- Phoenix ---------------------------------------------------------------------------------


def span(**llm: object) -> dict[str, object]:
    said = {"message": {"role": "user", "content": "Hi"}}
    answered = {"message": {"role": "assistant", "content": "Hello"}}
    whole = {"input_messages": [said], "output_messages": [answered], **llm}
    return {"llm": whole, "session": {"id": "s1"}}


def test_an_openinference_span_is_replayed_with_its_parameters() -> None:
    parameters = json.dumps({"temperature": 0.5, "max_tokens": 9, "model": "x"})
    found = replayable(phoenix.read_span, messages=span(invocation_parameters=parameters))
    assert found.prompt.params == {"temperature": 0.5, "max_tokens": 9}
    assert (found.prompt.last_user_text, found.reply.text, found.conversation) == (
        "Hi",
        "Hello",
        "s1",
    )


def test_tool_calls_of_an_openinference_span_are_replayed() -> None:
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    turns = [
        {"message": {"role": "user", "content": "Weather in Rome?"}},
        {
            "message": {
                "role": "assistant",
                "tool_calls": [{"tool_call": {"id": "c1", "function": function}}],
            }
        },
        {"message": {"role": "tool", "tool_call_id": "c1", "content": "sunny"}},
    ]
    tools = [{"tool": {"json_schema": json.dumps(WEATHER_OPENAI)}}]
    found = replayable(phoenix.read_span, messages=span(input_messages=turns, tools=tools))
    assert [message.to_json() for message in found.prompt.messages] == EXPECTED_TURNS
    assert found.prompt.tools == (WEATHER,)


def test_images_of_an_openinference_span_are_replayed() -> None:
    image = {"type": "image", "image": {"image": {"url": "https://example.org/a.png"}}}
    contents = [
        {"message_content": {"type": "text", "text": "What is it?"}},
        {"message_content": image},
    ]
    turns = [{"message": {"role": "user", "contents": contents}}]
    found = replayable(phoenix.read_span, messages=span(input_messages=turns))
    assert found.prompt.messages[0].content == (
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    )


PHOENIX_SKIPS: Mapping[str, tuple[dict[str, object], SkipReason]] = {
    "failed": ({"messages": span(), "status": "ERROR"}, SkipReason.FAILED),
    "hidden": (
        {
            "messages": span(
                input_messages=[{"message": {"role": "user", "content": "__REDACTED__"}}]
            )
        },
        SkipReason.CUT_BY_LOGGER,
    ),
    "no messages": ({"messages": {"llm": {}}}, SkipReason.EMPTY),
    "audio": (
        {
            "messages": span(
                input_messages=[
                    {
                        "message": {
                            "role": "user",
                            "contents": [{"message_content": {"type": "audio", "audio": {}}}],
                        }
                    }
                ]
            )
        },
        SkipReason.UNSUPPORTED,
    ),
}


@pytest.mark.parametrize(("fields", "reason"), PHOENIX_SKIPS.values(), ids=PHOENIX_SKIPS.keys())
def test_phoenix_spans_are_skipped_for_their_reason(
    fields: dict[str, object], reason: SkipReason
) -> None:
    assert read(phoenix.read_span, **fields) is reason


# --- OpenTelemetry GenAI ---------------------------------------------------------------------

GEN_AI = {
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
    "gen_ai.input.messages": json.dumps(
        [
            {"role": "user", "parts": [{"type": "text", "content": "Weather in Rome?"}]},
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "hm"},
                    {
                        "type": "tool_call",
                        "id": "c1",
                        "name": "weather",
                        "arguments": {"city": "Rome"},
                    },
                ],
            },
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}],
            },
        ]
    ),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "Sunny."}]}]
    ),
    "gen_ai.tool.definitions": json.dumps([WEATHER_OPENAI]),
    "gen_ai.request.max_tokens": 9,
    "gen_ai.usage.output_tokens": 3,
    "gen_ai.conversation.id": "talk",
}


def test_a_gen_ai_span_is_replayed_as_it_was() -> None:
    found = replayable(otel.read_span, messages=GEN_AI)
    assert [message.to_json() for message in found.prompt.messages] == EXPECTED_TURNS
    assert (found.prompt.system, found.prompt.tools) == ("Be brief.", (WEATHER,))
    assert found.prompt.params == {"max_tokens": 9}
    assert (found.reply.text, found.conversation, found.output_tokens) == ("Sunny.", "talk", 3)


def test_nested_attributes_are_read_as_dotted_ones_are() -> None:
    turns = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    nested = {"gen_ai": {"input": {"messages": turns}}}
    assert replayable(otel.read_span, messages=nested).prompt.last_user_text == "Hi"


OTEL_SKIPS: Mapping[str, tuple[dict[str, object], SkipReason]] = {
    "failed": ({**GEN_AI, "error.type": "timeout"}, SkipReason.FAILED),
    "not recorded": ({"gen_ai.request.model": "x"}, SkipReason.EMPTY),
    "audio": (
        {
            "gen_ai.input.messages": [
                {
                    "role": "user",
                    "parts": [{"type": "blob", "modality": "audio", "content": "AAAA"}],
                }
            ]
        },
        SkipReason.UNSUPPORTED,
    ),
}


@pytest.mark.parametrize(("attributes", "reason"), OTEL_SKIPS.values(), ids=OTEL_SKIPS.keys())
def test_gen_ai_spans_are_skipped_for_their_reason(
    attributes: dict[str, object], reason: SkipReason
) -> None:
    assert read(otel.read_span, messages=attributes) is reason
