import io
from typing import Any

from rich.console import Console

from app.cli.forecasts import print_forecast


def cost(low: str, expected: str, high: str) -> dict[str, str]:
    return {"low_usd": low, "expected_usd": expected, "high_usd": high}


def found(**changes: Any) -> dict[str, Any]:
    run = cost("0.35", "1.40", "2.44")
    made: dict[str, Any] = {
        "plan": "support-bot",
        "sample": {
            "frame": 2310,
            "drawn": 103,
            "cases": 100,
            "duplicates": 3,
            "skipped": {"empty": 2},
            "strata": {},
            "days": 7.0,
        },
        "anchors": 20,
        "models": [
            {"name": "prod", "calls": 120, "cost": cost("0.12", "0.21", "0.39")},
            {"name": "haiku", "calls": 100, "cost": None},
        ],
        "judge_calls": 246,
        "judge_cost": cost("0.19", "0.71", "1.15"),
        "embedding_calls": 0,
        "cost": run,
        "budget_usd": "2",
        "monthly": {
            "runs": 30 / 7,
            "is_scheduled": True,
            "models": {"prod": cost("0.50", "0.90", "1.69"), "haiku": None},
            "judge": cost("0.79", "3.02", "4.93"),
            "embedding": None,
            "cost": cost("1.52", "5.99", "10.47"),
            "budget_usd": None,
        },
        "weeks_to_decision": [
            {
                "quality_delta": 0.0,
                "value_ratio": 0.7,
                "pairs": 262,
                "median_weeks": 3,
                "likely_weeks": 5,
            },
            {
                "quality_delta": -0.02,
                "value_ratio": 0.5,
                "pairs": 1300,
                "median_weeks": None,
                "likely_weeks": None,
            },
        ],
        "sentences": ["One run shows this.", "An effect.", "This rests on the defaults."],
        "notes": ["The price of haiku is unknown: nothing can be spent on it."],
        "query_plan": None,
    }
    return made | changes


def printed(told: dict[str, Any], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_forecast(told, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line.split("  ")


def test_a_run_and_a_month_are_priced_per_model_and_the_judge_apart() -> None:
    text = printed(found())

    assert [cell.strip() for cell in line_of(text, "prod ") if cell.strip()] == [
        "prod",
        "120",
        "$0.21 ($0.12–0.39)",
        "$0.90 ($0.50–1.69)",
    ]
    assert "$0.71 ($0.19–1.15)" in text
    assert "$5.99 ($1.52–10.47)" in text
    assert "A month is 30 days: 4.3 runs by the schedule." in text


def test_a_model_without_a_price_has_no_figure_and_says_why() -> None:
    text = printed(found())

    assert [cell.strip() for cell in line_of(text, "haiku ") if cell.strip()] == [
        "haiku",
        "100",
        "–",
        "–",
    ]
    assert "The price of haiku is unknown" in text


def test_the_budget_is_held_against_the_range() -> None:
    assert "of a run, $2.00, holds the expected figure, not the high." in printed(found())
    assert "of a run, $25.00, holds even the high figure." in printed(found(budget_usd="25"))
    assert "is too small: a run would end as partial" in printed(found(budget_usd="1"))
    assert "There is no budget of a month." in printed(found())


def test_weeks_to_a_decision_are_a_table_and_what_takes_too_long_is_said_so() -> None:
    text = printed(found())

    assert "as good" in text
    assert "3 weeks" in text
    assert "more than 12" in text
    assert text.rstrip().endswith("Nothing was sent.")


def test_a_plan_without_a_schedule_says_what_a_month_is_taken_to_be() -> None:
    monthly = found()["monthly"] | {"is_scheduled": False}

    assert "if there is one a week (the plan has no schedule)" in printed(found(monthly=monthly))


def test_nothing_is_wider_than_a_hundred_columns() -> None:
    assert max(len(line.rstrip()) for line in printed(found()).splitlines()) <= 100
