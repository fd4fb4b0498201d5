import csv
import io

from rich.console import Console

from app.cli.histories import history_csv, history_rows, print_history
from tests.fakes.run_documents import comparison, document

WEEKS = [
    document(slot="2026-03-15T06:00"),
    document(slot="2026-03-22T06:00", config_hash="bbbb"),
    document(
        slot="2026-03-29T06:00",
        config_hash="bbbb",
        comparisons=[comparison("haiku", verdict="worse")],
    ),
]


def test_there_is_a_row_per_run_and_model_oldest_first() -> None:
    rows = history_rows(WEEKS)
    assert [(row["slot"][:10], row["name"]) for row in rows] == [
        ("2026-03-15", "prod"),
        ("2026-03-15", "haiku"),
        ("2026-03-22", "prod"),
        ("2026-03-22", "haiku"),
        ("2026-03-29", "prod"),
        ("2026-03-29", "haiku"),
    ]
    assert rows[-1]["verdict"] == "worse"
    assert rows[-2]["verdict"] is None


def test_one_model_can_be_followed() -> None:
    assert {row["name"] for row in history_rows(WEEKS, model="haiku")} == {"haiku"}


def test_a_changed_configuration_marks_the_run_after_it_and_only_that() -> None:
    marked = {row["slot"][:10] for row in history_rows(WEEKS) if row["is_new_configuration"]}
    assert marked == {"2026-03-22"}


def test_the_mark_is_explained_where_it_is_shown() -> None:
    console = Console(file=io.StringIO(), width=160)
    print_history(history_rows(WEEKS), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "2026-03-22 06:00 *" in text
    assert "may not be comparable" in text


def test_no_run_yet_is_said_in_words() -> None:
    console = Console(file=io.StringIO(), width=160)
    print_history([], console)
    assert isinstance(console.file, io.StringIO)
    assert "No scheduled run is complete yet." in console.file.getvalue()


def test_csv_puts_intervals_in_columns_of_their_own() -> None:
    row = next(iter(csv.DictReader(io.StringIO(history_csv(history_rows(WEEKS))))))
    assert (row["quality"], row["quality_low"], row["quality_high"]) == ("0.85", "0.81", "0.89")
    assert row["cost_per_quality_low_usd"] == "0.0061"
