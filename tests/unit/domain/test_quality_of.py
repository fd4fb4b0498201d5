"""The one rule by which scores become the quality of a reply."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.attempts import FailureClass
from app.domain.scores import (
    DROPPED_OUT,
    Score,
    ScoreRecord,
    Unscored,
    not_asked,
    quality_of,
    unscored_reason,
)


def graded(
    value: float | None, *, weight: float = 1.0, name: str = "judge", judge: str | None = None
) -> ScoreRecord:
    return ScoreRecord(
        case_id="c",
        model_name="m",
        evaluator=name,
        evaluator_version="v",
        result=Unscored(reason="no score found") if value is None else Score(value=value),
        weight=weight,
        judge_model=judge,
    )


def gate(value: float | None, *, name: str = "not_refused") -> ScoreRecord:
    return ScoreRecord(
        case_id="c",
        model_name="m",
        evaluator=name,
        evaluator_version="v",
        result=Unscored(reason="it raised") if value is None else Score(value=value),
        is_gate=True,
        weight=0.0,
    )


def test_quality_is_the_weighted_mean_of_the_graded_evaluators() -> None:
    records = [gate(1.0), graded(0.75, weight=0.8), graded(0.25, weight=0.2, name="tone")]
    assert quality_of(records, None)[0] == pytest.approx(0.65)


def test_an_unsuccessful_reply_is_worth_nothing_and_keeps_its_class() -> None:
    assert quality_of([graded(1.0)], FailureClass.REFUSAL) == (0.0, FailureClass.REFUSAL)


def test_a_failed_gate_makes_the_reply_unsuccessful_whatever_else_is_unknown() -> None:
    records = [gate(0.0), gate(None, name="json_valid"), graded(None)]
    assert quality_of(records, None) == (0.0, FailureClass.GATE)


def test_a_gate_that_could_not_be_judged_leaves_the_quality_unknown() -> None:
    records = [gate(None), graded(1.0)]
    assert quality_of(records, None) == (None, None)
    assert unscored_reason(records) == "not_refused: it raised"


def test_an_unscored_part_leaves_the_quality_unknown_and_names_itself() -> None:
    records = [graded(None), graded(1.0, name="tone")]
    assert quality_of(records, None) == (None, None)
    assert unscored_reason(records) == "judge: no score found"


def test_a_part_without_weight_is_not_needed() -> None:
    records = [graded(0.5), graded(None, weight=0.0, name="pairwise")]
    assert quality_of(records, None) == (0.5, None)
    assert unscored_reason(records) is None


def test_no_graded_evaluator_means_no_quality() -> None:
    assert quality_of([gate(1.0)], None) == (None, None)
    assert unscored_reason([gate(1.0)]) == "no graded evaluator applies to this Case"


def test_a_panel_counts_as_its_mean_and_not_once_per_judge() -> None:
    records = [
        graded(1.0, weight=0.5, name="judge:a", judge="a"),
        graded(0.5, weight=0.5, name="judge:b", judge="b"),
        graded(0.0, weight=0.5, name="tone"),
    ]
    assert quality_of(records, None)[0] == pytest.approx(0.375)


@pytest.mark.parametrize("absence", [DROPPED_OUT, not_asked(FailureClass.OVERLOADED)])
def test_a_judge_that_was_not_there_does_not_lose_the_reply(absence: Unscored) -> None:
    absent = replace(graded(None, name="judge:b", judge="b"), result=absence)
    records = [graded(0.75, name="judge:a", judge="a"), absent]
    assert quality_of(records, None) == (0.75, None)
    assert unscored_reason(records) is None
    assert quality_of([absent], None) == (None, None)
    assert unscored_reason([absent]) == f"judge:b: {absence.reason}"


@pytest.mark.parametrize(
    "gap", [Unscored(reason="no score found"), not_asked(FailureClass.TOO_LARGE)]
)
def test_a_judge_that_cannot_grade_this_reply_leaves_its_quality_unknown(gap: Unscored) -> None:
    silent = replace(graded(None, name="judge:b", judge="b"), result=gap)
    records = [graded(0.75, name="judge:a", judge="a"), silent]
    assert quality_of(records, None) == (None, None)
    assert unscored_reason(records) == f"judge:b: {gap.reason}"


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from([0.0, 0.2, 0.8]),
            st.sampled_from("abcd"),
            st.booleans(),
        ),
        max_size=8,
    ).flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows)))))
)
def test_quality_stays_a_share_and_order_is_irrelevant(
    drawn: tuple[list[tuple[float, float, str, bool]], list[int]],
) -> None:
    rows, order = drawn
    weights: dict[str, float] = {}
    records = [
        graded(
            None if missing else value,
            weight=weights.setdefault(name, weight),
            name=name,
            judge=str(index),
        )
        for index, (value, weight, name, missing) in enumerate(rows)
    ]
    quality, failure = quality_of(records, None)
    assert failure is None
    assert quality is None or 0.0 <= quality <= 1.0
    assert (quality is None) == (unscored_reason(records) is not None)
    again, _ = quality_of([records[index] for index in order], None)
    assert again == (None if quality is None else pytest.approx(quality))
