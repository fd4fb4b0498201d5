"""Whole Runs with a judge that is gullible, babbles, prefers a position or loves long replies."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.alerting.words import money
from app.cli.case_explanations import explained_case, without_texts
from app.cli.labelling import exported_pairs, imported, sheet_of
from app.cli.reports import remarks
from app.evaluation.label_sheets import read_sheet
from app.web.application import create_app
from app.wiring import Storage, open_pages
from tests.fixtures.judged_weeks import FIRST_SLOT_AFTER, RUBRIC, JudgedWeeks, Told, simulate

SMALL = JudgedWeeks(n=40, anchors=0, rows_per_week=120)


def verdicts(told: Told) -> set[str]:
    return {one["verdict"] for one in told.document["comparisons"]}


def titles(told: Sequence[Told]) -> list[str]:
    return [str(message["text"]) for week in told for message in week.messages]


def test_a_gullible_judge_is_caught_in_every_run_and_told_once(
    database_url: str, tmp_path: Path
) -> None:
    what = replace(SMALL, world="gullible_judge", weeks=3)

    told = simulate(database_url, tmp_path, what)

    assert [one.document["judge"]["is_trusted"] for one in told] == [False] * 3
    assert [verdicts(one) for one in told] == [{"unmeasured"}] * 3
    alerts = [alert["key"] for one in told for alert in one.document["alerts"]]
    assert alerts.count("judged/run") == 1
    assert len([title for title in titles(told) if "misgraded" in title]) == 1


def test_a_babbling_judge_leaves_verdicts_unmeasured(database_url: str, tmp_path: Path) -> None:
    told = simulate(database_url, tmp_path, replace(SMALL, world="babbling_judge"))[-1]

    assert told.document["judge"]["unscored_rate"] > 0.05
    assert verdicts(told) == {"unmeasured"}
    assert any("have no score" in warning for warning in told.document["judge"]["warnings"])


def test_a_judge_that_prefers_the_first_yields_ties(database_url: str, tmp_path: Path) -> None:
    what = replace(SMALL, world="first_judge", mode="pairwise")

    told = simulate(database_url, tmp_path, what)[-1]

    with psycopg.connect(database_url) as connection:
        scores = connection.execute(
            "SELECT score FROM switchwise.scores WHERE evaluator = 'judge_pairwise'"
        ).fetchall()
    assert scores
    assert {score for (score,) in scores} == {0.5}
    assert any("prefers a position" in warning for warning in told.document["judge"]["warnings"])


def test_a_judge_that_loves_long_replies_is_reported(database_url: str, tmp_path: Path) -> None:
    what = JudgedWeeks(world="wordy_judge", n=80, anchors=0, rows_per_week=200)

    told = simulate(database_url, tmp_path, what)[-1]

    assert any("favours long replies" in warning for warning in told.document["judge"]["warnings"])
    assert told.document["judge"]["length_correlation"] > 0.1


def test_equal_replies_are_judged_once_and_judging_is_paid_apart(
    database_url: str, tmp_path: Path
) -> None:
    calls: list[dict[str, Any]] = []

    async def look(_told: Told, url: str, _storage: Storage) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            calls.append((await client.get(f"{url}/_sandbox/calls")).json())

    told = simulate(database_url, tmp_path, SMALL, after=look)[-1]

    with psycopg.connect(database_url) as connection:
        per_case = connection.execute(_CALLS_PER_CASE).fetchall()
        spent: dict[str, Decimal] = dict(connection.execute(_SPENT).fetchall())
        in_view = connection.execute("SELECT judge_cost_usd FROM switchwise_bi.runs").fetchall()
        canaries = connection.execute(_CANARY_CALLS).fetchall()[0][0]
    judged = sum(calls for calls, _, _ in per_case)
    assert all(calls == distinct for calls, distinct, _ in per_case)
    assert sum(distinct for _, distinct, _ in per_case) < sum(all_ for _, _, all_ in per_case)
    assert calls[0]["by_model"]["sandbox-judge"] == judged + canaries
    spend = told.document["spend"]
    assert Decimal(spend["judge_usd"]) == spent["judge"] > 0
    assert Decimal(spend["models_usd"]) == spent["replay"]
    models = sum((Decimal(one["spend_usd"]) for one in told.document["models"]), Decimal(0))
    assert models == spent["replay"]
    assert in_view == [(spent["judge"],)]


_CALLS_PER_CASE = """
    SELECT count(*) FILTER (WHERE a.purpose = 'judge'),
      count(DISTINCT a.reply_hash) FILTER (WHERE a.purpose = 'replay' AND a.is_final),
      count(*) FILTER (WHERE a.purpose = 'replay' AND a.is_final)
    FROM switchwise.attempts AS a JOIN switchwise.cases AS c USING (case_id)
    WHERE NOT EXISTS (SELECT FROM switchwise.scores AS s
      WHERE s.case_id = a.case_id AND s.is_gate AND NOT s.is_passed)
    GROUP BY a.case_id
"""
_CANARY_CALLS = """
    SELECT count(*) FROM switchwise.attempts
    WHERE purpose = 'judge' AND case_id NOT IN (SELECT case_id FROM switchwise.cases)
"""
_SPENT = "SELECT purpose, sum(cost_usd) FROM switchwise.attempts GROUP BY 1"


def test_a_chosen_case_is_explained_by_rubric_reply_score_and_reason(
    database_url: str, tmp_path: Path
) -> None:
    shown: list[dict[str, Any]] = []

    async def look(_told: Told, _url: str, storage: Storage) -> None:
        with psycopg.connect(database_url) as connection:
            found = connection.execute("SELECT case_id::text FROM switchwise.cases").fetchone()
        assert found is not None
        shown.append(await explained_case(storage, "judged", None, found[0][:13]))

    simulate(database_url, tmp_path, SMALL, after=look)

    (case,) = shown
    assert case["rubrics"] == {"judge": RUBRIC}
    assert {model["name"] for model in case["models"]} >= {"prime"}
    prime = next(model for model in case["models"] if model["name"] == "prime")
    judged = next(score for score in prime["scores"] if score["evaluator"] == "judge")
    assert prime["reply"]
    assert judged["reason"]
    assert judged["score"] == prime["quality"]
    hidden = without_texts(case)
    assert str(prime["reply"]) not in str(hidden)
    assert judged["reason"] not in str(hidden)


def test_a_changed_rubric_breaks_the_epoch_in_report_and_message(
    database_url: str, tmp_path: Path
) -> None:
    told = simulate(database_url, tmp_path, replace(SMALL, weeks=2, rubric_changes_in=2))

    after = told[1].document["comparisons"][0]
    assert after["window_weeks"] == 1
    assert "the rubric changed" in after["epoch_reason"]
    assert any("the rubric changed" in str(message["blocks"]) for message in told[1].messages)


def test_labels_of_a_run_are_told_in_the_next_report_and_go_stale_with_the_judge(
    database_url: str, tmp_path: Path
) -> None:
    async def label(told: Told, _url: str, storage: Storage) -> None:
        if told.week != 1:
            return
        drawn = await exported_pairs(storage, "judged", candidate=None, wanted=30, runs=4)
        text = sheet_of(drawn, form="csv", public_url="https://pages.example.org")
        assert "swift" not in text
        assert "prime" not in text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == 30
        assert all(row["link"] == f"https://pages.example.org/cases/{row['case']}" for row in rows)
        filled = io.StringIO()
        writer = csv.DictWriter(filled, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {**row, "score_a": "5", "score_b": str(1 + n % 5)} for n, row in enumerate(rows)
        )
        scores = read_sheet(filled.getvalue(), labelled_by="ann")
        stored = await imported(storage, "judged", scores, at=FIRST_SLOT_AFTER)
        again = await imported(storage, "judged", scores, at=FIRST_SLOT_AFTER)
        assert (stored["labels"], stored["labelled_replies"]) == (60, 60)
        assert again["labelled_replies"] == 60
        assert (
            await exported_pairs(storage, "judged", candidate=None, wanted=30, runs=4)
        ).pairs == []

    later = simulate(
        database_url, tmp_path, replace(SMALL, weeks=3, rubric_changes_in=3), after=label
    )[1:]

    told, stale = (one.document["judge"] for one in later)
    assert (told["human"]["replies"], told["human"]["pairs"]) == (60, {"swift": 30})
    assert told["human"]["kappa"] is not None
    assert any("30 of the 200 labelled pairs" in warning for warning in told["warnings"])
    assert (stale["human"]["replies"], stale["human"]["stale"]) == (0, 60)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT labelled_replies, stale_labels FROM switchwise_bi.judges ORDER BY finished_at"
        ).fetchall()
    assert rows == [(None, None), (60, 0), (0, 60)]


def test_what_judging_costs_is_told_apart_wherever_spend_is_told(
    database_url: str, tmp_path: Path
) -> None:
    pages: list[str] = []

    async def look(_told: Told, _url: str, _storage: Storage) -> None:
        async with open_pages(database_url) as stored:
            app = create_app(
                stored,
                plans=(),
                token=None,
                now=lambda: FIRST_SLOT_AFTER,
                next_slot=lambda _plan: None,
            )
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web:
                pages.append((await web.get("/")).text)

    told = simulate(database_url, tmp_path, SMALL, after=look)[-1]

    spend = told.document["spend"]
    judge, models = (money(Decimal(spend[name])) for name in ("judge_usd", "models_usd"))
    assert Decimal(spend["total_usd"]) == Decimal(spend["judge_usd"]) + Decimal(spend["models_usd"])
    assert judge != models
    assert f"(judge {judge})" in str(told.messages[-1]["blocks"])
    assert f"models {models}, judge {judge}." in " ".join(remarks(told.document))
    assert f"<dt>Judge</dt><dd>{judge}</dd>" in pages[0]
    assert f"<dt>Models</dt><dd>{models}</dd>" in pages[0]
    with psycopg.connect(database_url) as connection:
        in_sql = connection.execute("SELECT cost_usd, judge_cost_usd FROM switchwise_bi.runs")
        assert in_sql.fetchall() == [(Decimal(spend["models_usd"]), Decimal(spend["judge_usd"]))]
