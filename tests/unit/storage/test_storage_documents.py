"""Values become JSON that `jsonb` takes, whatever they hold."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.alerts import Alert, AlertKind, News
from app.domain.models import Secret
from app.storage.clean_text import clean_json, clean_text
from app.storage.documents import alert_from_json, plain

ANY_TEXT = st.text(st.characters(exclude_categories=()))
ANY_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | ANY_TEXT
    | st.timedeltas()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(ANY_TEXT | st.integers(), inner)
    ),
    max_leaves=20,
)


def is_kept_by_postgres(text: str) -> bool:
    text.encode("utf-8")  # raises on a lone surrogate
    return "\x00" not in text


def strings_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [found for pair in value.items() for part in pair for found in strings_of(part)]
    return (
        [found for item in value for found in strings_of(item)] if isinstance(value, list) else []
    )


@given(ANY_VALUE)
def test_every_value_becomes_json_that_postgres_keeps(value: object) -> None:
    made = plain(value)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert all(is_kept_by_postgres(text) for text in strings_of(made))


@given(ANY_VALUE)
def test_what_is_plain_already_stays_as_it_is(value: object) -> None:
    assert plain(plain(value)) == plain(value)


@given(ANY_TEXT)
def test_text_that_postgres_keeps_is_left_alone(text: str) -> None:
    try:
        is_kept = is_kept_by_postgres(text)
    except UnicodeEncodeError:
        is_kept = False
    assert (clean_text(text) == text) == is_kept


def test_numbers_without_an_end_read_as_unknown() -> None:
    assert plain([float("nan"), float("inf"), Decimal("NaN")]) == [None, None, None]
    assert clean_json({"x": (float("-inf"), 1.5)}) == {"x": [None, 1.5]}


def test_nouns_of_the_domain_become_plain() -> None:
    @dataclass(frozen=True)
    class Noun:
        kind: AlertKind
        cost_usd: Decimal
        at: datetime
        lasts: timedelta
        facts: Any

    noun = Noun(
        AlertKind.RUN,
        Decimal("0.10"),
        datetime(2026, 3, 29, 6, tzinfo=UTC),
        timedelta(days=1),
        MappingProxyType({News.NEW: frozenset({"b", "a"})}),
    )
    assert plain(noun) == {
        "kind": "run",
        "cost_usd": "0.10",
        "at": "2026-03-29T06:00:00+00:00",
        "lasts": 86400.0,
        "facts": {"new": ["a", "b"]},
    }


@pytest.mark.parametrize("value", [b"bytes", object(), AlertKind, {None: 1}, {True: 1}])
def test_what_has_no_plain_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        plain(value)


def test_a_secret_never_becomes_plain_text() -> None:
    assert "canary" not in json.dumps(plain_or_refused(Secret("canary")))


def plain_or_refused(value: object) -> object:
    try:
        return plain({"token": value})
    except TypeError as refusal:
        return str(refusal)


@given(ANY_TEXT, st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=4))
def test_an_alert_is_read_back_as_it_was(text: str, fields: list[tuple[str, str]]) -> None:
    alert = Alert(
        key="p/switch:a",
        kind=AlertKind.SWITCH,
        news=News.CHANGED,
        run_id=None,
        title=clean_text(text),
        lead="lead",
        fields=tuple((clean_text(name), clean_text(value)) for name, value in fields),
        chart={"points": [[0.5, 1]]},
    )
    assert alert_from_json(json.loads(json.dumps(plain(alert)))) == alert
