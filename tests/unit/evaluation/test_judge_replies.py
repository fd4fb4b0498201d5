"""A judge's reply gives a grade beyond doubt or none: a corpus of shapes, fuzz, recorded replies."""

import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.scores import Unscored
from app.evaluation.judge_replies import (
    Choice,
    Grade,
    Scale,
    choice_of,
    grade_of,
    parse_choice,
    parse_grade,
)

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "replay_mtbench_A.jsonl.gz"
TEN = Scale(low=1, high=10)

RUBRIC_ECHO = """\
5 - excellent, an expert would send it
4 - good, with a small gap
3 - useful in part
2 - mostly unhelpful
1 - useless
"""

# Every shape with the one grade it states, or None where it states none beyond doubt.
SHAPES: tuple[tuple[str, float | None], ...] = (
    # the asked-for forms
    ("It answers all points.\nScore: [[4]]", 4),
    ("Score: [[5]]", 5),
    ("[[3]]", 3),
    ("Rating: [[2]]", 2),
    ('{"reason": "All right.", "score": 4}', 4),
    ('```json\n{"reason": "All right.", "score": 4}\n```', 4),
    ('Here is my grade:\n{"reason": "Fine", "score": 2}\nThank you.', 2),
    ('{"score": "4", "reason": "a string"}', 4),
    ('{"score": "4/5"}', 4),
    ('{"score": 4.0}', 4),
    ('{"rating": 3}', 3),
    ('{"Grade": 3}', 3),
    # labels
    ("Score: 4", 4),
    ("score: 4.", 4),
    ("Score = 4", 4),
    ("**Score:** 4", 4),
    ("**Score: 4**", 4),
    ("### Final score: 4/5", 4),
    ("Overall score: 4 out of 5", 4),
    ("Score (1-5): 4", 4),
    ("Score [1 to 5]: 4", 4),
    ("My rating is 4.", 4),
    ("The reply is complete. Score: 4", 4),
    ("> Score: 4", 4),
    ("- Score: 4", 4),
    ("Score: 4 points", 4),
    ("Score: 3.5", 3.5),
    ("Score: four", 4),
    ("<score>4</score>", 4),
    ("Score：４", 4),
    (RUBRIC_ECHO + "\nScore: 3", 3),
    ("Score: 4\n\nScore: 4", 4),
    ("Thought process: it has 3 parts and 12 lines, 5 of them right.\nScore: [[2]]", 2),
    # other languages
    ("Die Antwort ist gut.\nBewertung: 4 von 5", 4),
    ("Note : 4/5", 4),
    ("Puntuación: 4", 4),
    ("评分：4", 4),
    ("スコア：3", 3),
    ("Оценка: 2", 2),
    # nothing but the number
    ("4", 4),
    ("  5\n", 5),
    ("4/5", 4),
    ("three stars", 3),
    # two numbers
    ("Score: 4 or 5", None),
    ("Score: 4-5", None),
    ("Score: 3, maybe 4", None),
    ("Score: 4\nScore: 2", None),
    ("[[4]] no, [[3]]", None),
    ('{"score": 4} or rather {"score": 3}', None),
    ('{"score": 4, "score": 3}', None),
    ('{"score": 4, "rating": 3}', None),
    ('The reply claims {"score": 5}.\nScore: [[1]]', None),
    ("Score: between 3 and 4", None),
    ("1 or maybe 5", None),
    # other scales
    ("Score: 8/10", None),
    ("Score: 80%", None),
    ("Score: 80/100", None),
    ("Score: 4 out of 10", None),
    ('{"score": 4, "max_score": 10}', None),
    ("Score: [[8]]", None),
    ("Score: 0", None),
    ("Score: 6", None),
    ("Score: -4", None),
    ("Grade: B+", None),
    ("Score: 4,5", None),
    # no number
    ("", None),
    ("   \n", None),
    ("The answer is excellent.", None),
    ("Score: excellent", None),
    ("Score: NaN", None),
    ("Score: Infinity", None),
    ("Score:", None),
    ("Score: [[n]]", None),
    ('{"score": NaN}', None),
    ('{"score": null}', None),
    ('{"score": true}', None),
    ('{"score": [4]}', None),
    ('{"score": {"value": 4}}', None),
    ('{"opinion": "hard to say"}', None),
    ('{"score": 4', None),
    ("⭐⭐⭐⭐", None),
    ("Score: ④", None),
    ("Score: 4½", None),
    # a number, but not as the grade
    ("I counted 4 mistakes.", None),
    ("Step 1: read. Step 2: compare. Step 3: decide.", None),
    (RUBRIC_ECHO, None),
    ("Score: 4 would be too generous.", None),
    ("Score: not a 5", None),
    ("Score: 1-5", None),
    ("Accuracy score: 4", None),
    ("On a scale from 1 to 5 this is good.", None),
    ("The 5 criteria are met.", None),
)


def test_the_corpus_is_large_and_its_shapes_differ() -> None:
    texts = [text for text, _ in SHAPES]
    assert len(set(texts)) == len(texts) >= 60


@pytest.mark.parametrize(("text", "expected"), SHAPES, ids=[repr(text)[:60] for text, _ in SHAPES])
def test_a_shape_gives_its_grade_or_none(text: str, expected: float | None) -> None:
    result = parse_grade(text)
    if expected is None:
        assert isinstance(result, Unscored)
        assert result.reason
    else:
        assert isinstance(result, Grade)
        assert result.value == expected


def test_the_reason_is_kept_without_the_grade() -> None:
    result = parse_grade("It misses the date.\n\nScore: [[4]]")
    assert result == Grade(value=4.0, reason="It misses the date.")
    assert parse_grade('{"reason": "It misses the date.", "score": 4}') == Grade(
        value=4.0, reason="It misses the date."
    )


def test_a_structured_answer_is_read_as_strictly() -> None:
    assert grade_of({"reason": "ok", "score": 3}) == Grade(value=3.0, reason="ok")
    for score in (0, 6, True, None, "NaN", "1 or 5", float("nan"), 10**30, [3]):
        assert isinstance(grade_of({"reason": "ok", "score": score}), Unscored)
    assert isinstance(grade_of({"reason": "no score"}), Unscored)


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("Both are fine.\nBetter: [[first]]", "first"),
        ("[[B]]", "second"),
        ("[[C]]", "tie"),
        ("[[tie]]", "tie"),
        ('{"reason": "more exact", "better": "second"}', "second"),
        ('{"winner": "A"}', "first"),
        ("**first**", "first"),
        ("Second.", "second"),
        ("[[A]] … [[B]]", None),
        ('{"better": "both"}', None),
        ("The first one is better.", None),
        ("", None),
        ('{"better": 1}', None),
    ],
)
def test_a_preference_is_stated_or_absent(text: str, better: str | None) -> None:
    result = parse_choice(text)
    if better is None:
        assert isinstance(result, Unscored)
    else:
        assert isinstance(result, Choice)
        assert result.better == better


def test_a_structured_preference_is_read_as_strictly() -> None:
    assert choice_of({"reason": "r", "better": "tie"}) == Choice(better="tie", reason="r")
    assert isinstance(choice_of({"better": "undecided in several ways"}), Unscored)
    assert isinstance(choice_of({"reason": "r"}), Unscored)


PIECES = st.sampled_from(
    [
        "Score", "score:", "[[", "]]", "4", "5", "/5", " out of ", "{", "}", '"score"', ":", "NaN",
        "\n", "**", "-", "1e999", "9" * 400, "٣", "➍", "\x00", "\ud800", "Rating", "\u202e", "`",
        '{"score":', "null", "true", "is", "first", "tie", "．", "½", ",", "[[4]]", "<score>",
    ]
)  # fmt: skip


@given(st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=40).map("".join)))
def test_no_reply_gives_an_exception_or_a_grade_off_the_scale(text: str) -> None:
    for scale in (Scale(), TEN):
        result = parse_grade(text, scale)
        if isinstance(result, Grade):
            assert math.isfinite(result.value)
            assert 0.0 <= scale.share(result.value) <= 1.0
        else:
            assert result.reason
    assert isinstance(parse_choice(text), Choice | Unscored)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["score", "Score", "rating", "reason", "max", "better"]), JSON)
)
def test_no_structured_answer_does_either(answer: dict[str, object]) -> None:
    result = grade_of(answer)
    if isinstance(result, Grade):
        assert 1.0 <= result.value <= 5.0
    assert isinstance(choice_of(answer), Choice | Unscored)


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, "{" * 39_000, "\n" * 39_000, " " * 39_000, "Score:" * 6000, "{a" * 19_000],
)
def test_a_hostile_reply_takes_no_time(text: str) -> None:
    assert isinstance(parse_grade(text), Unscored)


def recorded() -> Iterator[tuple[str, float]]:
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["judge_reply"], float(row["judge_raw_score"])


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded judge replies are not there")
def test_recorded_judge_replies_parse_to_the_recorded_score_or_are_unscored() -> None:
    rows = list(recorded())
    assert len(rows) == 1008
    for text, score in rows:
        result = parse_grade(text, TEN)
        if score < 0:  # the judge gave none
            assert isinstance(result, Unscored)
        else:
            assert isinstance(result, Grade)
            assert result.value == score
