import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings
from app.logsources.layout import Column, Layout, layout_of, quoted, table_parts
from app.logsources.statements import HIGHEST, bound_of, seed_of

TABLE = (
    Column(name="id", type_name="bigint"),
    Column(name="created_at", type_name="timestamp with time zone"),
    Column(name="prompt", type_name="text"),
    Column(name="messages", type_name="jsonb"),
    Column(name="route", type_name="text"),
    Column(name="metadata", type_name="jsonb"),
)


def layout(**settings: object) -> Layout:
    return layout_of(
        LogSettings(**settings),  # type: ignore[arg-type]
        TABLE,
        name="ai_logs",
        relation=sql.SQL("ai_logs AS log"),
        usual={},
    )


def test_columns_of_our_own_names_are_found() -> None:
    assert set(layout().fields) == {"prompt", "messages"}


def test_naming_the_prompt_rules_the_messages_out() -> None:
    found = layout(columns={"prompt": "route"})
    assert {ours: column.name for ours, column in found.fields.items()} == {"prompt": "route"}


def test_a_segment_that_is_a_column_is_quoted_and_any_other_is_an_expression() -> None:
    found = layout(segments={"route": "route", "team": "metadata->>'team'"})
    assert found.segments["route"].as_string(None) == '"log"."route"'
    assert found.segments["team"].as_string(None) == "(metadata->>'team'\n)"
    assert found.segment_columns == ("route",)


def test_a_percent_sign_of_the_operator_is_no_placeholder() -> None:
    where = layout(where="prompt LIKE '%x%'").where
    assert where is not None
    assert where.as_string(None) == "prompt LIKE '%%x%%'"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ai_logs", ("ai_logs",)),
        ("public.ai_logs", ("public", "ai_logs")),
        ('"LiteLLM_SpendLogs"', ("LiteLLM_SpendLogs",)),
        ('app."say ""hi"""', ("app", 'say "hi"')),
        ("été.журнал", ("été", "журнал")),
    ],
)
def test_table_names_are_taken_apart(name: str, parts: tuple[str, ...]) -> None:
    assert table_parts(name) == parts


@settings(deadline=None)
@given(
    st.lists(
        st.text(min_size=1, max_size=9).filter(lambda t: "\x00" not in t), min_size=1, max_size=3
    )
)
def test_quoting_and_taking_apart_are_inverse(parts: list[str]) -> None:
    assert table_parts(quoted(*parts)) == tuple(parts)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_other_text_is_refused_or_is_made_of_identifiers(name: str) -> None:
    try:
        parts = table_parts(name)
    except LogSourceError:
        return
    assert table_parts(quoted(*parts)) == parts


@settings(deadline=None)
@given(wanted=st.integers(1, 1_000), rows=st.integers(0, 10**9))
def test_a_bound_lies_in_the_range_of_the_hash(wanted: int, rows: int) -> None:
    assert -(2**63) < bound_of(wanted, rows) <= HIGHEST


def test_a_bound_lets_a_little_more_through_than_wanted() -> None:
    expected = (bound_of(100, 200_000) + 2**63) / 2**64 * 200_000
    assert 170 < expected < 190


def test_all_rows_need_no_bound() -> None:
    assert bound_of(100, 150) == HIGHEST


@settings(deadline=None)
@given(st.integers(-(2**63), 2**64))
def test_seeds_fit_the_databases_hash_functions(seed: int) -> None:
    assert -(2**63) <= seed_of(seed) < 2**63
    assert (seed_of(seed) - seed) % 2**64 == 0
