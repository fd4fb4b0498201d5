import csv
import io
from typing import Any

import pytest
from rich.console import Console

from app.cli.reports import (
    circumstances,
    headline,
    leaderboard,
    print_report,
    remarks,
    report_csv,
    report_markdown,
    segments,
    verdict_sentences,
)
from app.cli.tables import Table, markdown_table, terminal_table
from app.domain.results import VerdictKind
from tests.fakes.run_documents import comparison, document, figure, model


def printed(told: dict[str, Any], width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_report(told, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestText:
    def test_the_headline_names_the_recommended_candidate(self) -> None:
        assert headline(document()) == (
            "support-bot, 2026-03-29 06:00: switch recommended, prod → haiku"
        )

    def test_without_a_recommendation_the_primary_is_kept(self) -> None:
        told = document(comparisons=[comparison("haiku", verdict="undecided")])
        assert headline(told).endswith(": keep prod")

    @pytest.mark.parametrize("status", ["partial", "failed", "running", "missed", "skipped"])
    def test_a_run_that_is_not_complete_never_claims_a_verdict(self, status: str) -> None:
        told = headline(document(status=status))
        assert "recommended" not in told
        assert "keep" not in told

    def test_the_circumstances_count_what_was_skipped_and_why(self) -> None:
        lines = circumstances(document(status="partial", error="the cap was reached"))
        assert "100 cases of 2,310 logged prompts, 2026-03-22 to 2026-03-29; 20 anchors" in lines
        assert "Skipped: 3 empty, 1 too long" in lines
        assert "Why: the cap was reached" in lines

    def test_the_leaderboard_holds_every_model_with_interval_and_count(self) -> None:
        table = leaderboard(document())
        assert table.rows[0] == (
            "prod (primary)",
            "100",
            "0.85 (0.81–0.89)",
            "99.0 % (95–100 %)",
            "$0.0067 ($0.0061–0.0073)",
        )
        assert table.emphasised == {0}

    def test_the_bill_of_a_cheaper_candidate_goes_down(self) -> None:
        text = printed(document())
        assert "−38 % (−44 to −31 %)" in text
        assert "400 in 4 weeks" in text
        assert "−1.2 pp (−3.0 to +0.6)" in text

    def test_an_interval_that_rounding_would_close_keeps_a_digit(self) -> None:
        told = document(comparisons=[comparison("haiku", saving=figure(0.99, 0.986, 0.994))])
        assert "−99 % (−99.4 to −98.6 %)" in printed(told)

    def test_every_figure_of_cost_speed_and_guardrails_has_its_interval(self) -> None:
        text = printed(document())
        for shown in (
            "$0.0056 ($0.0051–0.0061)",
            "$5.60 ($5.10–6.10)",
            "320 ms (300–350 ms)",
            "1.2 s (1.1–1.3 s)",
            "3.1 s (2.7–3.9 s)",
            "× 0.80 (0.75–0.86)",
            "× 0.70 (0.60–0.82)",
            "$1,140 ($920.00–1,310)",
        ):
            assert shown in text

    def test_a_percentile_that_the_sample_cannot_support_is_withheld_with_the_reason(self) -> None:
        assert "Latency p99 is withheld below 500 successful timed replies: prod 97, haiku 97." in (
            list(remarks(document()))
        )

    def test_a_figure_without_interval_says_why_it_is_missing(self) -> None:
        short = model(
            "prod", "primary", quality=None, absent={"quality": "no reply carries a score"}
        )
        told = list(remarks(document(models=[short])))
        assert "prod has no quality: no reply carries a score." in told

    def test_models_on_different_prompts_are_not_compared_without_a_warning(self) -> None:
        told = document(models=[model("prod", "primary"), model("haiku", cases=40)])
        (warning,) = [line for line in remarks(told) if "different prompts" in line]
        assert "all 100 prompts (haiku 40)" in warning
        assert not any("different prompts" in line for line in remarks(document()))

    def test_a_verdict_that_is_held_from_earlier_weeks_says_when_it_ends(self) -> None:
        told = document(comparisons=[comparison("haiku", tests={"is_hit": False})])
        (held,) = [line for line in remarks(told) if "stays recommended" in line]
        assert "below −2.33" in held
        fresh = document(comparisons=[comparison("haiku", tests={"is_hit": True})])
        assert not any("stays recommended" in line for line in remarks(fresh))

    def test_verdicts_are_sentences_with_their_reasons(self) -> None:
        assert list(verdict_sentences(document())) == [
            "haiku: switch. Saves 31–44 % at equal quality."
        ]

    @pytest.mark.parametrize("kind", list(VerdictKind))
    def test_every_verdict_has_words_of_its_own(self, kind: VerdictKind) -> None:
        told = document(comparisons=[comparison("haiku", verdict=kind.value, reasons=["Why."])])
        (sentence,) = verdict_sentences(told)
        assert sentence.endswith(". Why.")
        assert kind.value == "switch" or sentence != f"haiku: {kind.value}. Why."

    def test_a_caveat_of_all_candidates_is_said_once(self) -> None:
        both = [
            comparison("haiku", caveats=["Shared", "Own"]),
            comparison("opus", caveats=["Shared"]),
        ]
        told = document(comparisons=both)
        sentences = list(verdict_sentences(told))
        assert "Own." in sentences[0]
        assert not any("Shared" in sentence for sentence in sentences)
        assert "Shared" in list(remarks(told))

    def test_a_losing_segment_is_named_even_when_the_average_wins(self) -> None:
        part = {
            "segment": "route",
            "value": "extract",
            "pairs": 62,
            "quality_delta": figure(-0.09, -0.14, -0.04),
            "is_worse": True,
        }
        table = segments(document(comparisons=[comparison("haiku", segments=[part])]))
        assert table is not None
        assert table.rows == [
            ("haiku", "route=extract", "62", "−0.09 (−0.14 to −0.04)", "–", "worse")
        ]
        assert segments(document()) is None

    def test_first_and_later_turns_are_shown_apart_or_said_to_be_too_few(self) -> None:
        first, later = (
            {"segment": "turn", "value": value, "pairs": pairs, "quality_delta": delta}
            for value, pairs, delta in (
                ("first", 310, figure(-0.01, -0.03, 0.01)),
                ("later", 15, None),
            )
        )
        table = segments(document(comparisons=[comparison("haiku", segments=[first, later])]))
        assert table is not None
        assert [row[1:4] for row in table.rows] == [
            ("turn=first", "310", "−0.01 (−0.03 to +0.01)"),
            ("turn=later", "15", "– (below 30 pairs)"),
        ]

    def test_spend_shows_the_judge_apart_and_unknown_costs(self) -> None:
        told = document(models=[model("prod", "primary", unknown_cost=2)])
        assert "$0.56 + 2 unknown" in printed(told)
        assert "Spent $14.20 of a budget of $25.00: models $11.90, judge $2.30." in list(
            remarks(told)
        )

    def test_a_run_that_measured_nothing_can_be_shown(self) -> None:
        told = document(status="failed", error="no rows", models=[], comparisons=[])
        told["window"] = {"start": None, "end": None}
        told["cases"] = {"frame": 0, "sampled": 0, "skipped": {}, "anchors": 0}
        assert "Why: no rows" in printed(told)
        assert "no rows" in report_markdown(told)

    def test_nothing_is_lost_on_a_narrow_terminal(self) -> None:
        text = "".join(printed(document(), width=80).split())
        for figure_text in ("0.85", "(0.81–0.89)", "$0.0056", "switch", "(0.58–0.68)"):
            assert figure_text in text

    def test_names_with_brackets_are_not_taken_for_markup(self) -> None:
        told = document(comparisons=[], models=[model("[red]x[/red]", "primary")])
        assert "[red]x[/red]" in printed(told)


class TestOtherForms:
    def test_markdown_holds_tables_and_escapes_what_would_break_them(self) -> None:
        told = document(models=[model("a|b", "primary")], comparisons=[])
        text = report_markdown(told)
        assert "| a\\|b (primary) |" in text
        assert text.startswith("## support-bot, 2026-03-29 06:00")

    def test_every_line_of_a_markdown_table_has_the_same_cells(self) -> None:
        table = Table(title="t", columns=("a", "b"), rows=[("1", "-"), ("x|y", "")])
        lines = markdown_table(table).splitlines()[2:]
        assert {line.replace("\\|", "").count("|") for line in lines} == {3}

    def test_csv_has_a_line_per_model_with_raw_figures(self) -> None:
        rows = list(csv.DictReader(io.StringIO(report_csv(document()))))
        assert [row["name"] for row in rows] == ["prod", "haiku"]
        prod, haiku = rows
        assert prod["verdict"] == ""
        assert (haiku["quality"], haiku["quality_low"]) == ("0.84", "0.8")
        assert (haiku["cost_per_1k_usd"], haiku["monthly_saving_usd"]) == ("5.6", "1140")
        assert (haiku["latency_p95_ms"], haiku["latency_p99_ms"]) == ("3100.0", "")
        assert haiku["verdict"] == "switch"
        assert haiku["failures"] == "3"
        assert (haiku["success_rate_low"], haiku["cost_per_1k_high_usd"]) == ("0.95", "6.1")
        assert (haiku["success_delta_low"], haiku["latency_p95_ratio_high"]) == ("-0.03", "0.82")
        assert prod["success_delta_low"] == ""

    def test_csv_of_a_run_without_models_still_names_the_run(self) -> None:
        rows = list(csv.DictReader(io.StringIO(report_csv(document(models=[], comparisons=[])))))
        assert rows[0]["status"] == "done"

    def test_a_terminal_table_keeps_emphasis_and_titles(self) -> None:
        console = Console(file=io.StringIO(), width=60)
        console.print(terminal_table(Table(title="T", columns=("a",), rows=[("x",)])))
        assert isinstance(console.file, io.StringIO)
        assert "T" in console.file.getvalue()
