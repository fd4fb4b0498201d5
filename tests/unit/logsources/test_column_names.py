"""Columns are recognised by usual names, by the words of odd ones, and never by what merely tells of a text."""

import doctest

import pytest

from app.logsources import column_names, csv_text
from app.logsources.column_names import epoch_column, named_columns

TEXT, TIME, NUMBER = "text", "timestamp with time zone", "bigint"


@pytest.mark.parametrize(
    ("types", "found"),
    [
        (
            {"auditPk": "uuid", "usrQuestion": TEXT, "botAnswer": "character varying(900)"},
            {"prompt": "usrQuestion", "response": "botAnswer"},
        ),
        ({"Question": "", "Expected Answer": ""}, {"prompt": "Question", "reference": "Expected Answer"}),
        ({"prompt": TEXT, "question": TEXT}, {"prompt": "prompt"}),
        ({"chatMessages": "jsonb", "question": TEXT}, {"messages": "chatMessages"}),
        ({"question": TEXT, "prompt_hash": TEXT, "reply_len": TEXT}, {"prompt": "question"}),
        ({"user_input": TEXT, "llm_model_name": TEXT}, {"prompt": "user_input", "model": "llm_model_name"}),
        ({"question_id": TEXT, "prompt_tokens": NUMBER}, {"input_tokens": "prompt_tokens"}),
        ({"prompt": NUMBER, "customer_question": TEXT}, {"prompt": "customer_question"}),
    ],
)  # fmt: skip
def test_columns_are_found_by_their_names_and_types(
    types: dict[str, str], found: dict[str, str]
) -> None:
    assert named_columns(types) == found


def test_a_number_with_a_name_of_time_may_be_one() -> None:
    assert epoch_column({"call_id": NUMBER, "epoch_ms": NUMBER}) == "epoch_ms"
    assert epoch_column({"call_id": NUMBER, "total": NUMBER, "created": TEXT}) is None


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b\n1;2;3", ","),
        ("a;b", ";"),
        ("a\tb", "\t"),
        ('"x;y",b', ","),
        ("", ","),
        ("a|b|c", "|"),
    ],
)
def test_the_first_line_tells_what_separates_columns(text: str, separator: str) -> None:
    assert csv_text.delimiter_of(text) == separator


@pytest.mark.parametrize("module", [column_names, csv_text])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
