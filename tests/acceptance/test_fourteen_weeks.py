"""Fourteen weeks of one plan, as its channel sees them: a price cut, a regression, an outage."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.simulated_weeks import Simulation, Told, simulate

GOOD, BAD, PRIMARY = "swift", "mini", "prime"
KINDS = {
    "Switch recommended": "switch",
    "Still recommended": "reminder",
    "No longer recommended": "resolved",
    f"{PRIMARY} got worse": "worse",
    f"{PRIMARY} is back": "back",
    "Run incomplete": "outage",
}


@dataclass(frozen=True)
class Message:
    week: int
    kind: str
    body: str


def kind_of(message: Any) -> str:
    text = str(message["text"])
    return next((kind for start, kind in KINDS.items() if text.startswith(start)), text[:80])


def messages_of(weeks: Sequence[Told]) -> list[Message]:
    return [
        Message(
            week=told.week,
            kind=kind_of(message),
            body=json.dumps(message["blocks"], ensure_ascii=False),
        )
        for told in weeks
        for message in told.messages
    ]


def wrongs(messages: Sequence[Message]) -> list[str]:
    """What differs from the story that the channel must tell."""
    told = [(message.kind, message.week) for message in messages]
    first, *_ = [week for kind, week in told if kind == "switch"] or [0]
    wrong = []

    def expect(what: str, is_right: bool) -> None:
        if not is_right:
            wrong.append(what)

    def weeks(kind: str) -> list[int]:
        return [week for other, week in told if other == kind]

    later = [week for week in weeks("switch") if week != first]
    expect("one switch message in week 5, 6 or 7", first in {5, 6, 7})
    expect("at most one renewed switch message, in weeks 8 to 14", _at_most_one(later))
    expect("at most one resolved message, in weeks 8 to 14", _at_most_one(weeks("resolved")))
    expect("one regression message in week 8 or 9", weeks("worse") in ([8], [9]))
    expect("its closing in week 11, 12 or 13", weeks("back") in ([11], [12], [13]))
    expect("one message about the outage in week 12", weeks("outage") == [12])
    expect("nothing else", {kind for kind, _ in told} <= {*KINDS.values()} - {"reminder"})
    expect("nothing about the bad one", not any(BAD in message.body for message in messages))
    for message in messages:
        if message.kind == "worse":
            expect("the primary as the cause", f"*Cause:* {PRIMARY} itself" in message.body)
            expect("no switch advice in the regression message", GOOD not in message.body)
        if message.kind in {"switch", "resolved", "outage"}:
            expect(f"the good candidate in {message.kind}", GOOD in message.body)
    return wrong


def _at_most_one(weeks: Sequence[int]) -> bool:
    return len(weeks) <= 1 and all(8 <= week <= 14 for week in weeks)


def assert_story(weeks: Sequence[Told], seed: int) -> None:
    messages = messages_of(weeks)
    print(f"seed {seed}: " + ", ".join(f"{m.kind} in week {m.week}" for m in messages))
    assert [told.document["status"] for told in weeks] == ["done"] * 14
    assert wrongs(messages) == []


@pytest.mark.slow
def test_the_channel_hears_of_the_good_candidate_the_regression_and_the_outage_and_nothing_else(
    database_url: str, tmp_path: Path
) -> None:
    weeks = simulate(database_url, tmp_path, Simulation(seed=1, n=100))
    assert_story(weeks, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_channel_tells_the_story_of_every_seed(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    """All 200 prompts on every model: with adaptive spending the good candidate sits most of them
    out while it is too dear, and one seed in five shows it later than week 7."""
    simulation = Simulation(seed=seed, is_adaptive=False)
    assert_story(simulate(database_url, tmp_path, simulation), seed=seed)


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ([("switch", 8)], "one switch message in week 5, 6 or 7"),
        ([("worse", 8), ("worse", 9)], "one regression message in week 8 or 9"),
        ([("outage", 12), ("outage", 13)], "one message about the outage in week 12"),
        ([("back", 10)], "its closing in week 11, 12 or 13"),
        ([("reminder", 9)], "nothing else"),
        ([("Missed 1 slot", 9)], "nothing else"),
    ],
)
def test_a_channel_that_hears_something_else_is_noticed(
    told: list[tuple[str, int]], wrong: str
) -> None:
    assert wrong in wrongs([Message(week=week, kind=kind, body=GOOD) for kind, week in told])
