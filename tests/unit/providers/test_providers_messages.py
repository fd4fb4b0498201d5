"""The mapping to chat completions loses nothing, or refuses with a reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cases import Message, Prompt
from app.domain.json_values import JsonObject
from app.providers.messages import NotMappable, chat_params, is_strict, to_chat
from app.sampling.messages import conversation_of
from app.sampling.parameters import replay_params
from app.sampling.tools import tool_definitions

WORDS = st.text(min_size=1).filter(str.strip)
NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,20}", fullmatch=True)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(min_size=1), VALUES, max_size=3)


def text(words: str) -> JsonObject:
    return {"type": "text", "text": words}


IMAGES = st.one_of(
    st.builds(
        lambda path: {
            "type": "image",
            "source": {"type": "url", "url": f"https://pictures.test/{path}"},
        },
        st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True),
    ),
    st.builds(
        lambda kind, data: {
            "type": "image",
            "source": {"type": "base64", "media_type": f"image/{kind}", "data": data.hex()},
        },
        st.sampled_from(["png", "jpeg", "svg+xml"]),
        st.binary(min_size=1, max_size=8),
    ),
)


def said(role: str, blocks: list[JsonObject]) -> Message:
    """A message in our normal form: a lone text is a string."""
    alone = len(blocks) == 1 and blocks[0]["type"] == "text"
    content: Any = blocks[0]["text"] if alone else tuple(blocks)
    return Message(role="assistant" if role == "assistant" else "user", content=content)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns as vendors take them: calls answered in the next turn, before anything else in it."""
    messages = [
        said("user", draw(st.lists(st.builds(text, WORDS) | IMAGES, min_size=1, max_size=3)))
    ]
    for turn in range(draw(st.integers(0, 3))):
        words = draw(st.lists(st.builds(text, WORDS), max_size=2))
        calls: list[JsonObject] = [
            {
                "type": "tool_use",
                "id": f"call_{turn}_{number}",
                "name": draw(NAMES),
                "input": draw(OBJECTS),
            }
            for number in range(draw(st.integers(0, 2)))
        ]
        if not words and not calls:
            words = [text(draw(WORDS))]
        messages.append(said("assistant", [*words, *calls]))
        results: list[JsonObject] = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": draw(st.text())}
            for call in calls
        ]
        if results:
            messages.append(Message(role="user", content=tuple(results)))
        else:
            messages.append(said("user", [text(draw(WORDS))]))
    return tuple(messages)


TOOLS = st.lists(
    st.builds(
        lambda name, described, strict: {
            "name": name,
            **({"description": f"about {name}"} if described else {}),
            "input_schema": {"type": "object", "properties": {"x": {"type": "string"}}},
            **({"strict": True} if strict else {}),
        },
        NAMES,
        st.booleans(),
        st.booleans(),
    ),
    max_size=3,
)


@given(messages=conversations(), system=st.none() | WORDS, tools=TOOLS)
def test_a_prompt_survives_the_way_there_and_back(
    messages: tuple[Message, ...], system: str | None, tools: list[JsonObject]
) -> None:
    chat = to_chat(Prompt(messages=messages, system=system, tools=tuple(tools)))

    back = conversation_of(chat.messages)
    assert back.messages == messages
    assert back.system == system
    assert list(tool_definitions(list(chat.tools))) == tools


PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 9_999),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "stop_sequences": st.lists(st.text(min_size=1), min_size=1, max_size=4),
        "tool_choice": st.one_of(
            st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "none"}]),
            st.builds(lambda name: {"type": "tool", "name": name}, NAMES),
            st.builds(
                lambda kind: {"type": kind, "disable_parallel_tool_use": True},
                st.sampled_from(["auto", "any"]),
            ),
        ),
        "output_config": st.builds(
            lambda properties: {
                "format": {
                    "type": "json_schema",
                    "schema": {"type": "object", "properties": properties},
                }
            },
            OBJECTS,
        ),
    },
)


@given(params=PARAMS)
def test_parameters_survive_the_way_there_and_back(params: dict[str, Any]) -> None:
    chat = {**chat_params(params), "max_tokens": params.get("max_tokens")}

    assert replay_params(chat) == params


def test_a_turn_of_results_and_words_becomes_tool_messages_and_a_user_message() -> None:
    blocks = (
        {"type": "tool_result", "tool_use_id": "c1", "content": [text("12"), text("degrees")]},
        {"type": "tool_result", "tool_use_id": "c2"},
        text("And tomorrow?"),
    )

    chat = to_chat(Prompt(messages=(Message(role="user", content=blocks),)))

    assert chat.messages == (
        {"role": "tool", "tool_call_id": "c1", "content": [text("12"), text("degrees")]},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "user", "content": "And tomorrow?"},
    )


def test_what_shapes_no_reply_is_left_out() -> None:
    user = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    past = ({"type": "thinking", "thinking": "hm", "signature": "x"}, text("Hello"))
    prompt = Prompt(
        messages=(
            Message(role="user", content=(user, text("you"))),
            Message(role="assistant", content=past),
        ),
        tools=({"name": "t", "input_schema": {}, "cache_control": {"type": "ephemeral"}},),
    )

    chat = to_chat(prompt)

    assert "cache_control" not in str(chat)
    assert chat.messages[1] == {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("role", "blocks", "reason"),
    [
        (
            "assistant",
            [{"type": "tool_use", "id": "c", "name": "t", "input": {}}, text("x")],
            "text",
        ),
        ("assistant", [{"type": "server_tool_use", "name": "web_search"}], "text"),
        ("user", [text("x"), {"type": "tool_result", "tool_use_id": "c"}], "tool result"),
        ("user", [{"type": "tool_result", "tool_use_id": "c", "is_error": True}], "error"),
        (
            "user",
            [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "image"}]}],
            "more than text",
        ),
        ("user", [{"type": "document", "source": {}}, text("x")], "document"),
        ("user", [{"type": "image", "source": {"type": "file"}}, text("x")], "image"),
        ("user", [{"type": "image"}, text("x")], "image"),
    ],
)
def test_what_cannot_be_said_is_refused_with_a_reason(
    role: Any, blocks: list[JsonObject], reason: str
) -> None:
    prompt = Prompt(messages=(Message(role=role, content=tuple(blocks)),))

    with pytest.raises(NotMappable, match=reason):
        to_chat(prompt)


def test_a_vendors_own_tool_is_refused() -> None:
    with pytest.raises(NotMappable, match="web_search"):
        to_chat(Prompt(messages=(), tools=({"type": "web_search_20250305", "name": "web_search"},)))


@pytest.mark.parametrize(
    "params",
    [
        {"top_k": 4},
        {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
        {"output_config": {"novelty": 1}},
        {"output_config": 5},
        {"anything_else": 1},
    ],
)
def test_a_parameter_without_counterpart_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(NotMappable):
        chat_params(params)


def test_thinking_that_is_off_needs_no_counterpart() -> None:
    assert chat_params({"thinking": {"type": "disabled"}}) == {}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, True),
        ({"type": "object"}, False),
        ({"type": "object", "properties": {}, "required": [], "additionalProperties": False}, True),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "object"}},
                "required": ["a"],
                "additionalProperties": False,
            },
            False,
        ),
        (
            {
                "type": "object",
                "properties": {"a": {}, "b": {}},
                "required": ["a"],
                "additionalProperties": False,
            },
            False,
        ),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"anyOf": [{"type": "object", "properties": {}}]}, False),
    ],
)
def test_a_schema_is_strict_when_every_object_in_it_is(
    schema: dict[str, object], expected: bool
) -> None:
    assert is_strict(schema) is expected
