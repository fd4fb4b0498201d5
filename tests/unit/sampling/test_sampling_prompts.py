import json
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.cases import Message, Prompt, SkipReason
from app.ports import LogRow
from app.sampling.prompts import Replayable, replayable_of

WEATHER = {
    "name": "weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
WEATHER_OPENAI = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": WEATHER["input_schema"],
    },
}
DEEP = '{"a":' * 500 + "1" + "}" * 500
PIXEL = "iVBORw0KGgo="


def read(**fields: object) -> Replayable | SkipReason:
    return replayable_of(LogRow(source_id="1", created_at=None, segments={}, fields=fields))


def replayable(**fields: object) -> Replayable:
    found = read(**fields)
    assert isinstance(found, Replayable), found
    return found


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def assistant(content: object, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **more}


def call(arguments: str = '{"city": "Rome"}', call_id: str = "c1") -> dict[str, object]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": "weather", "arguments": arguments},
    }


TOOL_TALK_OPENAI = [
    user("Weather in Rome?"),
    assistant(None, tool_calls=[call()]),
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]
TOOL_TALK_ANTHROPIC = [
    user("Weather in Rome?"),
    assistant([{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}}]),
    user([{"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}]),
]


def test_a_text_prompt_is_one_user_turn() -> None:
    assert replayable(prompt="Hello").prompt == Prompt(
        messages=(Message(role="user", content="Hello"),)
    )


def test_a_text_prompt_that_looks_like_json_stays_text() -> None:
    text = '[{"role": "user", "content": "x"}]'
    assert replayable(prompt=text).prompt.last_user_text == text


def test_messages_may_be_json_text() -> None:
    prompt = replayable(messages=json.dumps([user("Hi"), assistant("Yes?"), user("Go")])).prompt
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]


def test_a_json_prompt_column_may_hold_messages() -> None:
    assert replayable(prompt=[user("Hi")]).prompt.last_user_text == "Hi"


def test_leading_system_messages_become_the_system_prompt() -> None:
    logged = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        user("Hi"),
    ]
    assert replayable(messages=logged).prompt.system == "Be brief.\n\nBe kind."


def test_a_system_column_goes_before_the_messages_own() -> None:
    logged = [{"role": "system", "content": "Be kind."}, user("Hi")]
    assert replayable(messages=logged, system="Be brief.").prompt.system == "Be brief.\n\nBe kind."


def test_a_system_prompt_that_is_logged_twice_is_sent_once() -> None:
    logged = [{"role": "system", "content": "Be brief."}, user("Hi")]
    assert replayable(messages=logged, system="Be brief.").prompt.system == "Be brief."


def test_a_system_prompt_in_blocks_is_joined() -> None:
    blocks = [
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be kind."},
    ]
    body = {"system": blocks, "messages": [user("Hi")]}
    assert replayable(messages=body).prompt.system == "Be brief.\n\nBe kind."


def test_openai_and_anthropic_tool_calls_are_the_same_prompt() -> None:
    openai = replayable(messages=TOOL_TALK_OPENAI, tools=[WEATHER_OPENAI]).prompt
    assert openai == replayable(messages=TOOL_TALK_ANTHROPIC, tools=[WEATHER]).prompt
    assert openai.tools == (WEATHER,)


def test_results_of_parallel_calls_are_one_turn() -> None:
    logged = [
        user("Rome and Oslo?"),
        assistant("", tool_calls=[call(), call('{"city": "Oslo"}', "c2")]),
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "snow"},
    ]
    prompt = replayable(messages=logged, tools=json.dumps([WEATHER_OPENAI])).prompt
    assert len(prompt.messages) == 3
    assert len(prompt.messages[2].content) == 2


def test_legacy_function_calls_are_tool_calls() -> None:
    logged = [
        user("Weather in Rome?"),
        assistant(None, function_call={"name": "weather", "arguments": '{"city": "Rome"}'}),
        {"role": "function", "name": "weather", "content": "sunny"},
    ]
    body = {"messages": logged, "functions": [WEATHER_OPENAI["function"]]}
    assert replayable(messages=body).prompt.tools == (WEATHER,)


def test_images_of_both_vendors_are_the_same_prompt() -> None:
    openai = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
    ]
    anthropic = [
        {"type": "text", "text": "What is this?"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
        },
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    ]
    assert (
        replayable(messages=[user(openai)]).prompt == replayable(messages=[user(anthropic)]).prompt
    )


def test_thinking_of_earlier_turns_is_left_out() -> None:
    thought = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "Yes?"},
    ]
    prompt = replayable(messages=[user("Hi"), assistant(thought), user("Go")]).prompt
    assert prompt.messages[1] == Message(role="assistant", content="Yes?")


def test_a_reply_logged_as_the_last_message_is_not_part_of_the_question() -> None:
    found = replayable(messages=[user("Hi"), assistant("Hello!")])
    assert (len(found.prompt.messages), found.reply.text) == (1, "Hello!")


def test_a_reply_logged_twice_is_recognised() -> None:
    found = replayable(messages=[user("Hi"), assistant("Hello! ")], response="Hello!")
    assert (len(found.prompt.messages), found.reply.text) == (1, "Hello!")


def test_words_put_in_the_models_mouth_are_refused() -> None:
    found = read(messages=[user("JSON please"), assistant("{")], response='"a": 1}')
    assert found is SkipReason.UNSUPPORTED


REFUSED: Mapping[str, Sequence[object]] = {
    "audio": [user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}])],
    "file": [user([{"type": "file", "file": {"file_id": "f"}}])],
    "document": [user([{"type": "document", "source": {"type": "base64"}}])],
    "image by file id": [
        user([{"type": "image", "source": {"type": "file", "file_id": "f"}}]),
    ],
    "image in a local file": [user([{"type": "image_url", "image_url": {"url": "file:///x"}}])],
    "late system message": [user("a"), {"role": "system", "content": "b"}, user("c")],
    "call without a result": [user("a"), assistant(None, tool_calls=[call()]), user("b")],
    "result without a call": [user("a"), {"role": "tool", "tool_call_id": "c9", "content": "x"}],
    "unknown role": [{"role": "critic", "content": "a"}],
    "not an object": ["just text"],
    "arguments that are a list": [user("a"), assistant(None, tool_calls=[call("[1]")]), user("b")],
}


@pytest.mark.parametrize("logged", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_sent_to_every_model_is_refused(logged: Sequence[object]) -> None:
    assert read(messages=logged, tools=[WEATHER]) is SkipReason.UNSUPPORTED


def test_calls_of_tools_that_were_not_logged_are_refused() -> None:
    assert read(messages=TOOL_TALK_OPENAI) is SkipReason.UNSUPPORTED


def test_a_vendors_own_tool_is_refused() -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    assert read(prompt="Hi", tools=tools) is SkipReason.UNSUPPORTED


EMPTY: Mapping[str, Mapping[str, object]] = {
    "no prompt at all": {},
    "blank text": {"prompt": " \n\t"},
    "no messages": {"messages": []},
    "an empty body": {"messages": {}},
    "blank messages": {"messages": [user("")]},
    "a system prompt alone": {"messages": [{"role": "system", "content": "Be brief."}]},
}


@pytest.mark.parametrize("fields", EMPTY.values(), ids=EMPTY.keys())
def test_rows_without_a_question_are_empty(fields: Mapping[str, object]) -> None:
    assert read(**fields) is SkipReason.EMPTY


UNREADABLE: Mapping[str, Mapping[str, object]] = {
    "broken JSON": {"messages": '[{"role": "user", "cont'},
    "bytes of no encoding": {"prompt": b"\xff\xfe\xfd"},
    "half a surrogate pair": {"messages": '[{"role": "user", "content": "\\ud83d"}]'},
    "broken params": {"prompt": "Hi", "params": "{"},
    "params that are a list": {"prompt": "Hi", "params": "[1]"},
    "broken arguments": {
        "messages": [user("a"), assistant(None, tool_calls=[call("{")]), user("b")]
    },
    "nested without end": {"messages": "[" * 200_000},
    "arguments nested without measure": {
        "messages": [
            user("a"),
            assistant(None, tool_calls=[call(DEEP)]),
            {"role": "tool", "tool_call_id": "c1", "content": "b"},
        ],
        "tools": [WEATHER],
    },
    "a tool's schema nested without measure": {
        "prompt": "Hi",
        "tools": [{**WEATHER, "input_schema": json.loads(DEEP)}],
    },
    "a logged reply's call nested without measure": {
        "prompt": "Hi",
        "tool_calls": [call(DEEP)],
    },
    "a number that is none": {"prompt": "Hi", "params": '{"temperature": NaN}'},
    "no role": {"messages": [{"content": "Hi"}]},
}


@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_broken_rows_are_unreadable(fields: Mapping[str, object]) -> None:
    assert read(**fields) is SkipReason.UNREADABLE


def test_a_nul_makes_a_prompt_binary() -> None:
    assert read(messages='[{"role": "user", "content": "a\\u0000b"}]') is SkipReason.BINARY


def test_line_breaks_and_tabs_are_no_binary() -> None:
    assert replayable(prompt="a\tb\r\nc\x0c").prompt.last_user_text == "a\tb\r\nc\x0c"


@pytest.mark.parametrize("status", ["failure", "ERROR", "500", 429, "timeout"])
def test_failed_calls_are_skipped(status: object) -> None:
    assert read(prompt="Hi", status=status) is SkipReason.FAILED


@pytest.mark.parametrize("status", ["success", "200", 200, "", None, "ok"])
def test_other_calls_are_kept(status: object) -> None:
    assert isinstance(read(prompt="Hi", status=status), Replayable)


def test_cache_hits_are_skipped() -> None:
    assert read(prompt="Hi", cache_hit="True") is SkipReason.CACHED


def test_a_reason_the_source_gives_is_kept() -> None:
    row = LogRow(
        source_id="1", created_at=None, segments={}, fields={"prompt": "Hi"}, skip="cut_by_logger"
    )
    assert replayable_of(row) is SkipReason.CUT_BY_LOGGER


def test_parameters_get_their_names_of_the_messages_api() -> None:
    logged = {
        "model": "gpt",
        "stream": True,
        "user": "ann",
        "max_completion_tokens": 300,
        "temperature": 0.2,
        "stop": "END",
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "presence_penalty": 0,
    }
    prompt = replayable(prompt="Hi", params=json.dumps(logged), tools=[WEATHER]).prompt
    assert prompt.params == {
        "max_tokens": 300,
        "temperature": 0.2,
        "stop_sequences": ["END"],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }


def test_a_parameter_column_wins_over_the_body() -> None:
    body = {"messages": [user("Hi")], "temperature": 1.0, "max_tokens": 50}
    prompt = replayable(messages=body, params={"temperature": 0.0}).prompt
    assert prompt.params == {"temperature": 0.0, "max_tokens": 50}


def test_a_json_schema_is_asked_for_in_the_messages_apis_way() -> None:
    schema = {"type": "object"}
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    prompt = replayable(prompt="Hi", params={"response_format": response_format}).prompt
    assert prompt.params == {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


@pytest.mark.parametrize(
    "params", [{"presence_penalty": 0.5}, {"logit_bias": {"50256": -100}}, {"n": 3}]
)
def test_parameters_without_a_counterpart_are_refused(params: dict[str, object]) -> None:
    assert read(prompt="Hi", params=params) is SkipReason.UNSUPPORTED


@pytest.mark.parametrize(
    ("logged", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        (
            {"type": "function", "function": {"name": "weather"}},
            {"type": "tool", "name": "weather"},
        ),
        ({"type": "tool", "name": "weather"}, {"type": "tool", "name": "weather"}),
    ],
)
def test_tool_choices_are_translated(logged: object, sent: dict[str, object]) -> None:
    params = {"tool_choice": logged}
    prompt = replayable(prompt="Hi", tools=[WEATHER], params=params).prompt
    assert prompt.params["tool_choice"] == sent


def test_a_responses_api_request_is_replayed_as_a_conversation() -> None:
    body = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather in Rome?"}]},
            {"type": "reasoning", "summary": []},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "weather",
                "arguments": '{"city": "Rome"}',
            },
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        ],
        "tools": [{"type": "function", "name": "weather", **without_name(WEATHER)}],
        "max_output_tokens": 100,
    }
    prompt = replayable(messages=body).prompt
    expected = replayable(messages=TOOL_TALK_OPENAI, tools=[WEATHER], system="Be brief.").prompt
    assert (prompt.messages, prompt.system) == (expected.messages, expected.system)
    assert prompt.params == {"max_tokens": 100}


def without_name(tool: Mapping[str, object]) -> dict[str, object]:
    return {"description": tool["description"], "parameters": tool["input_schema"]}


def test_a_responses_api_request_that_continues_another_is_refused() -> None:
    body = {"input": "And now?", "previous_response_id": "resp_1"}
    assert read(messages=body) is SkipReason.UNSUPPORTED


RESPONSES: Mapping[str, object] = {
    "text": "Sunny.",
    "chat completion": {"choices": [{"message": {"role": "assistant", "content": "Sunny."}}]},
    "chat completion as text": '{"choices": [{"message": {"content": "Sunny."}}]}',
    "message": {"type": "message", "content": [{"type": "text", "text": "Sunny."}]},
    "responses": {
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Sunny."}]}]
    },
    "blocks": [{"type": "text", "text": "Sunny."}],
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
def test_the_logged_reply_is_found_in_any_shape(response: object) -> None:
    assert replayable(prompt="Hi", response=response).reply.text == "Sunny."


def test_a_json_reply_is_no_response_object() -> None:
    assert replayable(prompt="Hi", response='{"a": 1}').reply.text == '{"a": 1}'


@pytest.mark.parametrize(
    "response",
    [
        {"choices": [{"message": {"content": None, "tool_calls": [call()]}}]},
        {"type": "message", "content": TOOL_TALK_ANTHROPIC[1]["content"]},
        {"output": [{"type": "function_call", "name": "weather", "arguments": '{"city":"Rome"}'}]},
    ],
)
def test_logged_tool_calls_are_kept_for_comparison(response: object) -> None:
    reply = replayable(prompt="Hi", response=response).reply
    assert reply.tool_calls == ({"type": "tool_use", "name": "weather", "input": {"city": "Rome"}},)


def test_expected_tool_calls_of_a_suite_win_over_the_logged_ones() -> None:
    found = replayable(prompt="Hi", response="none", tool_calls=[call()])
    assert [used["name"] for used in found.reply.tool_calls] == ["weather"]


def test_a_broken_reply_does_not_cost_the_prompt() -> None:
    assert replayable(prompt="Hi", response=b"\xff ok").reply.text == "\ufffd ok"


def test_an_expected_answer_is_the_reference() -> None:
    assert replayable(prompt="Hi", expected="Hello").reference == "Hello"


# --- both shapes hold the same conversations -------------------------------------------------

TEXT = st.text("ab {}\n", min_size=1, max_size=8).filter(str.strip)
IMAGE = st.just({"type": "image", "source": {"type": "url", "url": "https://example.org/i.png"}})
TEXT_BLOCK = TEXT.map(lambda text: {"type": "text", "text": text})
USER_TURN = st.one_of(TEXT, st.lists(st.one_of(TEXT_BLOCK, IMAGE), min_size=2, max_size=3)).map(
    lambda content: [user(content)]
)


@st.composite
def tool_turn(draw: st.DrawFn) -> list[dict[str, object]]:
    ids = [f"id{n}" for n in range(draw(st.integers(1, 3)))]
    uses = [
        {"type": "tool_use", "id": i, "name": "weather", "input": {"city": draw(TEXT)}} for i in ids
    ]
    results = [{"type": "tool_result", "tool_use_id": i, "content": draw(TEXT)} for i in ids]
    said = draw(st.lists(TEXT_BLOCK, max_size=1))
    return [assistant([*said, *uses]), user(results)]


@st.composite
def conversation(draw: st.DrawFn) -> list[dict[str, object]]:
    turns: list[dict[str, object]] = list(draw(USER_TURN))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            turns += draw(tool_turn())
        turns.append(assistant(draw(TEXT)))
        turns += draw(USER_TURN)
    return turns


def as_openai(turns: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """The same conversation as Chat Completions would have it."""
    messages: list[dict[str, object]] = []
    for turn in turns:
        content = turn["content"]
        if isinstance(content, str):
            messages.append(dict(turn))
            continue
        assert isinstance(content, list)
        results = [block for block in content if block["type"] == "tool_result"]
        uses = [block for block in content if block["type"] == "tool_use"]
        parts = [
            {"type": "image_url", "image_url": {"url": block["source"]["url"]}}
            if block["type"] == "image"
            else block
            for block in content
            if block["type"] in {"text", "image"}
        ]
        if uses:
            calls = [call(json.dumps(use["input"]), use["id"]) for use in uses]
            messages.append(assistant(parts or None, tool_calls=calls))
        elif parts:
            messages.append({"role": turn["role"], "content": parts})
        messages += [
            {"role": "tool", "tool_call_id": block["tool_use_id"], "content": block["content"]}
            for block in results
        ]
    return messages


@settings(deadline=None)
@given(turns=conversation())
def test_an_anthropic_conversation_is_kept_as_it_was(turns: list[dict[str, object]]) -> None:
    prompt = replayable(messages=turns, tools=[WEATHER]).prompt
    assert [message.to_json() for message in prompt.messages] == turns


@settings(deadline=None)
@given(turns=conversation())
def test_the_openai_shape_of_a_conversation_is_the_same_prompt(
    turns: list[dict[str, object]],
) -> None:
    openai = replayable(messages=json.dumps(as_openai(turns)), tools=[WEATHER_OPENAI]).prompt
    assert openai == replayable(messages=turns, tools=[WEATHER]).prompt


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "input", "source"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(messages=JSON, tools=JSON, params=JSON, response=JSON, system=JSON)
def test_no_json_at_all_makes_the_reading_of_a_row_raise(
    messages: object, tools: object, params: object, response: object, system: object
) -> None:
    found = read(messages=messages, tools=tools, params=params, response=response, system=system)
    assert isinstance(found, Replayable | SkipReason)


@pytest.mark.parametrize(
    "turn",
    [
        assistant(None, refusal="I cannot do that."),
        assistant("", refusal="I cannot do that."),
        assistant([{"type": "refusal", "refusal": "I cannot do that."}]),
    ],
)
def test_a_refusal_in_an_earlier_turn_stays_what_the_assistant_said(
    turn: dict[str, object],
) -> None:
    found = replayable(messages=[user("Do it."), turn, user("Why not?")])
    assert [(message.role, message.content) for message in found.prompt.messages] == [
        ("user", "Do it."),
        ("assistant", "I cannot do that."),
        ("user", "Why not?"),
    ]
