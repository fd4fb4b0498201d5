"""Deterministic checks of a reply's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.scores import Score, Unscored
from app.evaluation.text_checks import Contains, Exact, Length, Regex, normalise
from tests.fakes.judges import case, completion


@pytest.mark.parametrize("text", ["Paris", "  paris ", "PARIS.", '"Paris"', "**Paris**", "“Paris”"])
def test_exact_forgives_case_spacing_quotes_and_a_final_stop(text: str) -> None:
    assert Exact().score(case(reference="Paris"), completion(text)) == Score(
        value=1.0, reason="equals the reference"
    )


@pytest.mark.parametrize("text", ["Paris, France", "Pariss", "", "not Paris"])
def test_exact_forgives_nothing_else(text: str) -> None:
    result = Exact().score(case(reference="Paris"), completion(text))
    assert isinstance(result, Score)
    assert result.value == 0.0


def test_exact_without_a_reference_is_unscored() -> None:
    assert isinstance(Exact().score(case(), completion("Paris")), Unscored)


def test_exact_takes_the_logged_reply_only_when_asked_to() -> None:
    logged = case(logged="Paris")
    assert isinstance(Exact().score(logged, completion("Paris")), Unscored)
    assert Exact(reference="logged").score(logged, completion("Paris")) == Score(
        value=1.0, reason="equals the reference"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"reasoning": "…", "answer": "42"}', 1.0),
        ('```json\n{"reasoning": "a\nb", "answer": "42"}\n```', 1.0),
        ('Sure!\n{"answer": 42}\nDone.', 1.0),
        ('{"answer": "41"}', 0.0),
        ('{"result": "42"}', 0.0),
        ("42", 0.0),
    ],
)
def test_exact_can_compare_one_field_of_the_json_in_a_reply(text: str, expected: float) -> None:
    result = Exact(field="answer").score(case(reference="42"), completion(text))
    assert isinstance(result, Score)
    assert result.value == expected


@pytest.mark.parametrize(
    ("given_text", "reference", "same"),
    [
        ("[1,2]", "[1, 2]", True),
        ('["a", "b"]', "['a', 'b']", True),
        ('{"a": 1}', "{'a': 1}", True),
        ("true", "True", True),
        ("abc", "'abc'", True),
        ("a\nb", "'a\\nb'", True),
        (" ", "' '", True),
        ("1", "True", False),
        ("[1, 2]", "[2, 1]", False),
        ("Abc", "'abc'", False),
        ("'1 '", "'1'", False),
        ("1if", "2", False),
        ("(" * 5000, "1", False),
    ],
)
def test_exact_can_compare_values_instead_of_texts(
    given_text: str, reference: str, *, same: bool
) -> None:
    result = Exact(compare="literal").score(case(reference=reference), completion(given_text))
    assert isinstance(result, Score)
    assert result.value == float(same)


def test_raw_comparison_minds_every_character() -> None:
    evaluator = Exact(compare="raw")
    assert evaluator.score(case(reference="Paris"), completion("paris")) == Score(
        value=0.0, reason="differs from the reference"
    )


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(max_size=60))
def test_every_reply_equals_itself(text: str) -> None:
    for compare in ("text", "literal", "raw"):
        result = Exact(compare=compare).score(case(reference=text), completion(text))
        assert isinstance(result, Score)
        assert result.value == 1.0


def test_contains_finds_the_expected_text_whatever_its_case_and_line_breaks() -> None:
    result = Contains().score(
        case(reference="twenty-eight days"), completion("You have TWENTY-EIGHT\ndays to return it.")
    )
    assert result == Score(value=1.0, reason="all found")


def test_contains_wants_every_one_of_several_texts() -> None:
    evaluator = Contains(expected=("refund", "28 days"))
    assert evaluator.score(case(), completion("A refund takes 28 days.")) == Score(
        value=1.0, reason="all found"
    )
    assert evaluator.score(case(), completion("A refund is possible.")) == Score(
        value=0.0, reason="1 of 2 expected texts missing"
    )


def test_contains_can_mind_capitals() -> None:
    evaluator = Contains(expected="NASA", case_sensitive=True)
    result = evaluator.score(case(), completion("nasa"))
    assert isinstance(result, Score)
    assert result.value == 0.0


def test_contains_of_nothing_is_unscored_and_not_a_pass() -> None:
    assert isinstance(Contains().score(case(reference=""), completion("x")), Unscored)


def test_regex_searches_or_matches_wholly_or_forbids() -> None:
    reply = completion("Order A-123 shipped")
    assert Regex(pattern=r"A-\d+").score(case(), reply).value == 1.0
    assert Regex(pattern=r"A-\d+", full=True).score(case(), reply).value == 0.0
    assert Regex(pattern=r"A-\d+", forbid=True).score(case(), reply).value == 0.0
    assert Regex(pattern=r"B-\d+", forbid=True).score(case(), reply).value == 1.0


def test_a_broken_pattern_is_refused_when_made() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        Regex(pattern="(")


@pytest.mark.parametrize(("unit", "count"), [("words", 4), ("characters", 18), ("lines", 2)])
def test_length_counts_words_characters_or_lines(unit: str, count: int) -> None:
    reply = completion("one two\nthree four")
    within = Length(at_least=count, at_most=count, unit=unit)  # type: ignore[arg-type]
    beyond = Length(at_least=count + 1, unit=unit)  # type: ignore[arg-type]
    assert within.score(case(), reply).value == 1.0
    assert beyond.score(case(), reply).value == 0.0


def test_length_without_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="at_least, at_most or both"):
        Length()


def test_the_version_changes_with_a_parameter_and_with_nothing_else() -> None:
    assert Exact(field="answer").version == Exact(field="answer").version
    assert Exact(field="answer").version != Exact(field="result").version
    assert Exact().version != Contains().version
