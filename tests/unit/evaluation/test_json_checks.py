"""Checks of JSON replies."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.scores import Score, Unscored
from app.evaluation.json_checks import JsonSchema, JsonValid
from app.evaluation.json_text import NotJson, field_of, json_objects, parse_json
from tests.fakes.judges import case, completion

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "items": {"type": "array", "minItems": 1}},
    "required": ["total"],
}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        " [1, 2]\n",
        '"text"',
        "null",
        '```json\n{"a": 1}\n```',
        'Here it is:\n```\n{"a": 1}\n```\nAnything else?',
        '~~~\n{"a": 1}\n~~~',
    ],
)
def test_json_is_valid_alone_or_in_one_fence(text: str) -> None:
    assert JsonValid().score(case(), completion(text)).value == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{'a': 1}",
        '{"a": 1',
        'The answer is {"a": 1}',
        '{"a": NaN}',
        '{"a": Infinity}',
        "```json\n{}\n```\n```json\n{}\n```",
        '{"a": 1,}',
        "[" * 100_000,
        "1" * 5000,
    ],
)
def test_everything_else_is_not(text: str) -> None:
    assert JsonValid().score(case(), completion(text)).value == 0.0


def test_a_fence_can_be_forbidden() -> None:
    assert JsonValid(fence=False).score(case(), completion("```\n{}\n```")).value == 0.0


def test_the_kind_of_value_can_be_demanded() -> None:
    assert JsonValid(kind="object").score(case(), completion("[1]")) == Score(
        value=0.0, reason="valid JSON, but no object"
    )
    assert JsonValid(kind="array").score(case(), completion("[1]")).value == 1.0


def test_a_schema_is_met_or_the_place_is_named_without_the_value() -> None:
    evaluator = JsonSchema(schema=SCHEMA)
    assert evaluator.score(case(), completion('```\n{"total": 3.5}\n```')) == Score(
        value=1.0, reason="meets the schema"
    )
    assert evaluator.score(case(), completion('{"total": "secret"}')) == Score(
        value=0.0, reason="at $.total: fails `type`"
    )
    assert evaluator.score(case(), completion("no JSON at all")).value == 0.0  # type: ignore[union-attr]


def test_a_wrong_schema_is_refused_when_made() -> None:
    with pytest.raises(ValueError, match="not a JSON Schema"):
        JsonSchema(schema={"type": "objekt"})


def test_a_schema_never_fetches_what_it_refers_to() -> None:
    evaluator = JsonSchema(schema={"$ref": "http://127.0.0.1:1/schema.json"})
    assert isinstance(evaluator.score(case(), completion("{}")), Unscored)


def test_the_last_object_with_the_field_counts() -> None:
    text = 'Draft {"answer": "1"}, final {"answer": "2", "more": {"answer": "3"}}'
    assert field_of(text, "answer") == "2"
    assert field_of(text, "other") is None


def test_an_object_that_names_a_field_twice_is_not_read() -> None:
    assert list(json_objects('{"score": 5, "score": 1}')) == []


@given(st.text(max_size=300))
def test_no_text_breaks_the_readers(text: str) -> None:
    list(json_objects(text))
    with contextlib.suppress(NotJson):
        parse_json(text)
