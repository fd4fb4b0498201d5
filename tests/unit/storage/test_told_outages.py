"""When a results database that stays away is told of."""

from structlog.testing import capture_logs

from app.storage.outages import Outages


class Seconds:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(*noted: tuple[float, str]) -> list[tuple[str, int]]:
    clock = Seconds()
    outages = Outages(clock)
    with capture_logs() as lines:
        for at, reason in noted:
            clock.now = at
            outages.note(reason)
    return [(line["reason"], line["seconds"]) for line in lines]


def test_a_single_failure_is_told_by_whoever_met_it() -> None:
    assert told((0, "away")) == []


def test_trouble_that_stays_is_told_once_and_again_after_minutes() -> None:
    every_two = [(float(at), "the disk is full") for at in range(0, 700, 2)]
    assert told(*every_two) == [
        ("the disk is full", 6),
        ("the disk is full", 306),
        ("the disk is full", 606),
    ]


def test_two_kinds_of_trouble_do_not_hide_each_other() -> None:
    found = told((0, "full"), (1, "away"), (6, "full"), (7, "away"))
    assert found == [("full", 6), ("away", 6)]


def test_trouble_after_a_good_hour_is_new_trouble() -> None:
    assert told((0, "away"), (3600, "away")) == []
