import io
from typing import Any

from rich.console import Console

from app.cli.explanations import explanation, print_explanation
from tests.fakes.run_documents import comparison, document

TESTS: dict[str, Any] = {
    "candidates": 2,
    "false_alerts_per_year": 0.05,
    "min_pairs": 30,
    "unmeasured": None,
    "transition": {"from": "watch", "to": "alert", "reason": "first hit"},
    "dropped_pairs": {"budget": 3},
    "left_out_weeks": {},
    "critical_value": 3.43,
    "best_window_weeks": 4,
    "is_hit": True,
    "has_enough_pairs": True,
    "quality": {"margin": 0.05, "this_week": -0.012},
    "value": {"bar": 0.9, "this_week": 0.61},
    "success": {
        "margin": 0.05,
        "z": 4.1,
        "needed_z": 2.33,
        "only_primary": 2,
        "only_candidate": 1,
        "passes": True,
    },
    "latency": {
        "p50_ratio": 0.8,
        "p95_ratio": None,
        "max_p50_ratio": 1.25,
        "max_p95_ratio": 1.5,
        "is_supported": False,
        "passes": False,
    },
    "windows": [
        {
            "weeks": 4,
            "pairs": 400.0,
            "independent_pairs": 380.0,
            "quality_delta": -0.01,
            "quality_z": 3.6,
            "worst_quality_z": 3.6,
            "worst_value_z": 8.1,
            "value_ratio": 0.63,
            "value_z": 8.1,
            "z": 3.6,
            "short_of_z": 0.0,
        }
    ],
}


def explained(**changes: Any) -> str:
    console = Console(file=io.StringIO(), width=160)
    one = comparison("haiku", tests=TESTS | changes)
    print_explanation(document(comparisons=[one]), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_test_of_the_policy_is_shown_with_what_it_needs() -> None:
    text = explained()
    for words in (
        "at least 30",
        "above −0.050",
        "below × 0.90",
        "z ≥ 2.33 for a loss below 0.05",
        "at most × 1.25 and × 1.50",
        "z ≥ 3.43",
        "reached",
    ):
        assert words in text


def test_a_test_that_could_not_be_made_neither_passes_nor_fails() -> None:
    (line,) = [line for line in explained().splitlines() if "Latency" in line]
    assert "too few replies to tell" in line
    assert "fails" not in line
    assert "passes" not in line


def test_the_change_of_state_and_the_pairs_left_out_are_told() -> None:
    text = explained()
    assert "State: watch → alert (first hit)." in text
    assert "Pairs left out: budget (3)." in text
    assert "at most 5 % for this plan, over 2 candidates" in text


def test_a_run_by_hand_is_explained_without_a_chance_of_false_alerts() -> None:
    console = Console(file=io.StringIO(), width=160)
    one = comparison("haiku", tests=TESTS)
    print_explanation(document(comparisons=[one]) | {"triggered_by": "hand"}, console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "State: watch → alert" in told
    assert "false alert" not in told


def test_an_unmeasured_week_says_why_instead_of_showing_tests() -> None:
    text = explained(unmeasured="more than 5 % unscored", windows=[])
    assert "Not measured this week: more than 5 % unscored." in text
    assert "Needed" not in text


def test_the_json_form_holds_the_tests_as_stored() -> None:
    told = explanation(document(comparisons=[comparison("haiku", tests=TESTS)]))
    assert told["comparisons"][0]["tests"] == TESTS
    assert told["comparisons"][0]["verdict"] == "switch"


def test_verdicts_that_a_bound_decides_come_with_the_margin_to_them() -> None:
    console = Console(file=io.StringIO(), width=160)
    one = comparison("haiku", tests=TESTS) | {
        "quality_delta": {"value": -0.09, "low": -0.12, "high": -0.06},
        "value_ratio": {"value": 0.62, "low": 0.58, "high": 0.66},
    }
    print_explanation(document(comparisons=[one]), console)
    assert isinstance(console.file, io.StringIO)
    told = " ".join(console.file.getvalue().split())

    assert "worse quality at most −0.060 below −0.050 yes, by 0.010" in told
    assert "dearer value ratio at least 0.580 above 1 no, 0.420 away" in told
    assert "keep value ratio at least 0.580 above 0.900 no, 0.320 away" in told


def test_a_correction_by_human_labels_is_told() -> None:
    told = explained(assumptions={"human_labels": 210, "bias_allowance": 0.0})

    assert "corrected by 210 pairs labelled by people" in told


def test_evidence_that_suffices_passes_although_this_week_does_not() -> None:
    text = explained(is_hit=False)
    (evidence,) = [line for line in text.splitlines() if "best window" in line]
    (together,) = [line for line in text.splitlines() if "together" in line]

    assert "z 3.60 over 4 weeks" in evidence
    assert "passes" in evidence
    assert "fails" in together
    assert "stays recommended although this look alone does not show it anew" in " ".join(
        text.split()
    )


def test_an_open_recommendation_says_what_would_withdraw_it() -> None:
    text = " ".join(explained().split())

    assert "withdrawn smallest z of this week 3.60 below −2.33 no, 5.930 away" in text
    assert "withdrawn smallest z of 4 weeks 3.60 below 0 no, 3.600 away" in text


def test_unscored_replies_taken_at_their_worst_are_told() -> None:
    (window,) = TESTS["windows"]
    worst = window | {"worst_quality_z": 2.1, "worst_value_z": 8.0, "z": 2.1}

    text = " ".join(explained(windows=[worst]).split())

    assert "Smallest z of 4 weeks takes unscored replies at their worst" in text
    assert "at their worst" not in explained()
