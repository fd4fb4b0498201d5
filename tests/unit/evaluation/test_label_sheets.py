"""Label sheets: blind, stratified, safe to open, and read back to the right models."""

import csv
import io
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.domain.cases import Case
from app.domain.errors import ConfigError
from app.domain.labels import JudgedCase, JudgedReply
from app.domain.scores import Score, ScoreRecord
from app.evaluation.label_sheets import (
    BlindPair,
    blind_pairs,
    csv_sheet,
    html_sheet,
    labels_of,
    read_sheet,
    sides_of,
)
from tests.fakes.judges import case, completion

AT = datetime(2026, 3, 29, tzinfo=UTC)
VERSIONS = {"prod": "v1", "small": "v1"}


def judged(number: int, *, route: str = "chat", weight: float = 0.01) -> JudgedCase:
    asked: Case = replace(
        case(f"Question {number}?", case_id=f"case-{number}", segments={"route": route}),
        weight=weight,
        stratum=route,
    )
    return JudgedCase(
        run_id="run-1",
        case=asked,
        replies={name: reply(f"{text} {number}") for name, text in (("prod", "P"), ("small", "S"))},
    )


def reply(text: str) -> JudgedReply:
    record = ScoreRecord(
        case_id="case-1",
        model_name="any",
        evaluator="judge",
        evaluator_version="v1",
        result=Score(value=0.5),
        judge_model="judge",
    )
    return JudgedReply(completion=completion(text), records=(record,))


def drawn(cases: list[JudgedCase], wanted: int, seed: int = 1) -> list[BlindPair]:
    return blind_pairs(cases, primary="prod", candidate="small", wanted=wanted, seed=seed)


def rows_of(sheet: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(sheet)))


def filled(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_every_stratum_is_drawn_by_its_share_of_the_traffic() -> None:
    cases = [judged(n, route="chat" if n < 60 else "code") for n in range(80)]

    found = drawn(cases, 40)

    assert Counter(pair.judged.case.stratum for pair in found) == {"chat": 30, "code": 10}


def test_heavier_cases_are_drawn_more_often() -> None:
    cases = [judged(n, weight=0.05 if n == 0 else 0.01) for n in range(30)]

    times = sum(
        any(pair.judged.case.case_id == "case-0" for pair in drawn(cases, 5, seed))
        for seed in range(200)
    )

    assert times > 200 * 5 / 30 * 2


def test_the_same_seed_draws_the_same_pairs() -> None:
    cases = [judged(n) for n in range(30)]

    assert drawn(cases, 10, 3) == drawn(cases, 10, 3)
    assert drawn(cases, 10, 3) != drawn(cases, 10, 4)


def test_a_sheet_names_no_model_and_shows_each_first_about_half_the_time() -> None:
    pairs = drawn([judged(n) for n in range(200)], 200)
    sheet = csv_sheet(pairs)

    assert "prod" not in sheet
    assert "small" not in sheet
    firsts = sum(row["reply_a"].startswith("P") for row in rows_of(sheet))
    assert 70 < firsts < 130


def test_scores_find_their_models_whatever_the_side() -> None:
    rows = rows_of(csv_sheet(drawn([judged(n) for n in range(40)], 40)))
    for row in rows:
        row["score_a"], row["score_b"] = ("5", "2") if row["reply_a"][0] == "P" else ("2", "5")

    labels = [
        label
        for score in read_sheet(filled(rows), labelled_by="ann")
        for label in labels_of(score, VERSIONS, primary="prod", candidates=("tiny", "small"), at=AT)
    ]

    assert Counter((label.model_name, label.score) for label in labels) == {
        ("prod", 1.0): 40,
        ("small", 0.25): 40,
    }


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_reply_becomes_a_formula_in_a_spreadsheet(start: str) -> None:
    one = judged(1)
    replies = {**one.replies, "small": reply(f"{start}cmd|calc!A1"), "prod": reply(f"{start}1")}

    (row,) = rows_of(csv_sheet(drawn([replace(one, replies=replies)], 1)))

    assert row["reply_a"].startswith(f"'{start}")
    assert row["reply_b"].startswith(f"'{start}")


def test_the_page_shows_hostile_replies_as_text() -> None:
    one = judged(1)
    replies = {**one.replies, "small": reply("<script>alert(1)</script></pre>")}

    page = html_sheet(
        drawn([replace(one, replies=replies)], 1),
        plan_name="<b>bot</b>",
        public_url='https://x/"onload="',
    )

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>bot" not in page
    assert '"onload="' not in page


@pytest.mark.parametrize("wrong", ["6", "0", "good", "nan", "1e9"])
def test_a_score_off_the_scale_is_refused_by_name(wrong: str) -> None:
    rows = rows_of(csv_sheet(drawn([judged(1)], 1)))
    rows[0]["score_a"] = wrong

    with pytest.raises(
        ConfigError, match="pair 1 of the sheet: score_a takes a number from 1 to 5"
    ):
        read_sheet(filled(rows), labelled_by="ann")


def test_unscored_pairs_are_passed_over_and_half_scored_ones_kept() -> None:
    rows = rows_of(csv_sheet(drawn([judged(n) for n in range(2)], 2)))
    rows[1]["score_b"] = "3,5"

    (score,) = read_sheet(filled(rows), labelled_by="ann")

    assert score.scores == (None, 0.625)


def test_a_score_without_a_scorer_is_refused() -> None:
    rows = rows_of(csv_sheet(drawn([judged(1)], 1)))
    rows[0]["score_a"] = "3"

    with pytest.raises(ConfigError, match="nobody is named"):
        read_sheet(filled(rows))


def test_a_pair_of_another_run_is_refused() -> None:
    rows = rows_of(csv_sheet(drawn([judged(1)], 1)))
    rows[0] |= {"score_a": "3", "run": "run-2"}
    (score,) = read_sheet(filled(rows), labelled_by="ann")

    with pytest.raises(ConfigError, match="no such judged pair"):
        labels_of(score, VERSIONS, primary="prod", candidates=("small",), at=AT)


def test_a_sheet_without_its_columns_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks the column case, pair, run"):
        read_sheet("score_a,score_b\n1,2\n")


def test_sides_depend_on_the_pair_alone() -> None:
    assert sides_of("abc", "p", "c") == sides_of("abc", "p", "c")
    assert set(sides_of("abc", "p", "c")) == {"p", "c"}
