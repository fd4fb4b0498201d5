"""What moved: traffic, primary, judge or price, each from weeks made for it."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from app.decision.drift import (
    AnchorResult,
    CanaryResult,
    FreshLevel,
    PriceShift,
    WeekOfDrift,
    drift_report,
    fresh_level,
    week_number,
)
from app.decision.readings import last_price, reading_of
from app.domain.attempts import FailureClass, Reply
from app.domain.prices import Usage
from app.domain.results import CaseResult, DriftReport, Segment
from app.domain.scores import Score, ScoreRecord
from app.ports import Baseline
from tests.fakes.case_results import case_result
from tests.fakes.providers import completion
from tests.fakes.small_plans import plan, price

PLAN = plan("c")


def weeks(
    *, traffic: float = 0.0, primary: float = 0.0, judge: float = 0.0, seed: int = 1
) -> list[WeekOfDrift]:
    """Ten weeks of 20 anchors from the first; something changes in the last two.

    Anchors of route `extract` carry one and a half times the primary's change.
    """
    rng = np.random.default_rng(seed)
    stored = rng.uniform(0.6, 0.9, 20)
    routes = ["extract" if i % 2 else "chat" for i in range(20)]
    share = np.array([1.5 if route == "extract" else 0.5 for route in routes])
    told = []
    for number in range(10):
        moved = float(number >= 8)
        noise = 0.05 * rng.normal(size=(2, 20))
        told.append(
            WeekOfDrift(
                week=f"2026-W{number + 1:02d}",
                fresh=FreshLevel(
                    mean=0.75 + moved * (traffic + primary + judge) + float(0.01 * rng.normal()),
                    variance=0.0002,
                ),
                anchors=[
                    AnchorResult(
                        anchor=f"anchor-{i}",
                        origin_week="2026-W01",
                        reply_now=float(
                            stored[i] + moved * (primary * share[i] + judge) + noise[0, i]
                        ),
                        stored_now=float(stored[i] + moved * judge + noise[1, i]),
                        stored_then=float(stored[i]),
                        segments={"route": routes[i]},
                    )
                    for i in range(20)
                ]
                if number
                else [],
                canaries=[
                    CanaryResult(canary=f"canary-{i}", now=0.8 + moved * judge, then=0.8)
                    for i in range(6)
                ],
            )
        )
    return told


def report(*, traffic: float = 0.0, primary: float = 0.0, judge: float = 0.0) -> DriftReport:
    return drift_report(weeks(traffic=traffic, primary=primary, judge=judge), primary="prod")


def test_quiet_weeks_name_no_cause() -> None:
    found = report()

    assert found.causes == ()
    assert not found.regressed
    assert found.sentences == ()


def test_a_degraded_primary_is_called_by_its_name_and_place() -> None:
    found = report(primary=-0.2)

    assert found.causes == ("primary",)
    assert found.regressed
    assert found.primary is not None
    assert found.primary.point == pytest.approx(-0.2, abs=0.04)
    assert found.worst_segment == Segment(name="route", value="extract")
    assert found.sentences[0].startswith("prod got worse on its anchor prompts: −0.2")
    assert "The fall is largest in route=extract: −0.3" in found.sentences[1]


def test_harder_traffic_is_not_blamed_on_the_primary() -> None:
    found = report(traffic=-0.15)

    assert found.causes == ("traffic",)
    assert not found.regressed
    assert found.traffic is not None
    assert found.traffic.point == pytest.approx(-0.15, abs=0.05)


def test_a_harsher_judge_is_not_blamed_on_the_primary() -> None:
    found = report(judge=-0.2)

    assert found.causes == ("judge",)
    assert not found.regressed
    assert found.judge is not None
    assert found.judge.point == pytest.approx(-0.2, abs=0.04)


def test_a_dearer_primary_is_a_price_and_nothing_else() -> None:
    shift = PriceShift(
        usages=[Usage(input_tokens=100 * i, output_tokens=200 + i) for i in range(1, 30)],
        now=price("4.5", "22.5"),
        then=price("3", "15"),
    )

    found = drift_report(weeks(), primary="prod", price=shift)

    assert found.causes == ("price",)
    assert found.price is not None
    assert found.price.point == pytest.approx(0.5)
    assert found.sentences == ("prod costs +50.0 % at equal usage: its price changed.",)


def test_an_unchanged_price_moves_nothing() -> None:
    same = PriceShift(
        usages=[Usage(input_tokens=100 * i, output_tokens=200) for i in range(1, 30)],
        now=price(),
        then=price(source="list"),
    )

    found = drift_report(weeks(), primary="prod", price=same)

    assert found.causes == ()
    assert found.price is not None
    assert found.price.point == pytest.approx(0.0, abs=1e-12)


def test_without_anchors_nothing_is_claimed() -> None:
    bare = [replace(week, anchors=[], canaries=[]) for week in weeks(primary=-0.2)]

    found = drift_report(bare, primary="prod")

    assert (found.traffic, found.primary, found.judge) == (None, None, None)
    assert found.causes == ()


def test_without_any_week_nothing_is_claimed() -> None:
    assert drift_report([], primary="prod") == DriftReport()


def test_the_fresh_level_is_the_weighted_mean_and_its_variance() -> None:
    scores = np.random.default_rng(1).uniform(0.2, 0.9, 50)
    rows = [case_result("p", i, float(score)) for i, score in enumerate(scores)]
    rows += [case_result("p", 99, 0.0, is_anchor=True), case_result("other", 1, 0.0)]

    level = fresh_level(rows, "p")

    assert level is not None
    assert level.mean == pytest.approx(scores.mean())
    assert level.variance == pytest.approx(scores.var(ddof=1) / 50, rel=1e-6)


def test_an_outage_says_nothing_of_the_level() -> None:
    rows = [case_result("p", i, 0.5 + 0.1 * (i % 5)) for i in range(50)]
    down = [case_result("p", 50 + i, 0.0, failure=FailureClass.OVERLOADED) for i in range(2)]

    assert fresh_level([*rows, *down], "p") == fresh_level(rows, "p")
    assert reading_of(PLAN, "2026-W13", [*rows, *down], (), {}, {}) is not None
    many = [*rows, *(replace(row, case_id=f"x{row.case_id}") for row in down * 5)]
    assert reading_of(PLAN, "2026-W13", many, (), {}, {}) is None


def test_an_outage_on_an_anchor_is_no_fall() -> None:
    baseline = Baseline(
        case_id="a-0",
        week="2026-W09",
        reply=Reply(case_id="a-0", model_name="p", call_key="k", result=completion("yes"),
                    attempts=1, spend_usd=Decimal(0)),
        quality=0.8,
    )  # fmt: skip
    fresh = [case_result("p", i, 0.5 + 0.1 * (i % 5)) for i in range(50)]
    well = replace(case_result("p", 99, 0.8, is_anchor=True), anchor_of="a-0")
    down = replace(
        case_result("p", 99, 0.0, failure=FailureClass.OVERLOADED, is_anchor=True), anchor_of="a-0"
    )
    judged = ScoreRecord(
        case_id=well.case_id,
        model_name="stored:p",
        evaluator="judge",
        evaluator_version="v",
        result=Score(value=0.8),
    )

    def anchors(row: CaseResult) -> object:
        told = reading_of(PLAN, "2026-W13", [*fresh, row], [judged], {"a-0": baseline}, {})
        assert told is not None
        return told["anchors"]

    assert len(anchors(well)) == 1  # type: ignore[arg-type]
    assert anchors(down) == []


def test_the_price_before_is_that_of_the_same_primary() -> None:
    old = {"primary": "new one", "price": price("1").to_json()}
    other = {"primary": "old one", "price": price("3").to_json()}

    assert last_price([old, other], {"primary": "new one"}) == price("1")
    assert last_price([other], {"primary": "new one"}) is None


def test_weeks_are_numbered_without_a_gap_at_new_year() -> None:
    assert week_number("2027-W01") == week_number("2026-W53") + 1


def test_a_fall_is_not_healed_by_anchors_that_the_ill_primary_answered_first() -> None:
    ill = weeks(primary=-0.3)
    shown = drift_report(ill, primary="prod")
    assert shown.regressed
    rotated = [
        replace(
            week,
            week=f"2026-W{number:02d}",
            anchors=[
                replace(
                    anchor,
                    anchor=f"new-{anchor.anchor}",
                    origin_week="2026-W10",
                    reply_now=anchor.stored_then,
                    stored_now=anchor.stored_then,
                )
                for anchor in week.anchors
            ],
        )
        for number, week in ((11, ill[-1]), (12, ill[-1]), (13, ill[-1]))
    ]
    healed = [
        replace(week, anchors=[replace(a, reply_now=a.stored_now) for a in ill[-1].anchors])
        for week in rotated
    ]

    assert drift_report([*ill, *rotated], primary="prod").regressed
    assert not drift_report([*ill, *healed], primary="prod").regressed


def test_the_weeks_of_a_fall_are_named_once_it_has_healed_and_not_before() -> None:
    ill = weeks(primary=-0.3)
    well = [
        replace(
            ill[-1],
            week=f"2026-W{number}",
            anchors=[replace(one, reply_now=one.stored_now) for one in ill[-1].anchors],
        )
        for number in (11, 12, 13)
    ]

    told = [drift_report([*ill, *well[:count]], primary="prod").ill_weeks for count in range(4)]

    assert told[:2] == [(), ()]
    assert told[2] == told[3]
    assert {"2026-W09", "2026-W10"} <= set(told[2])
    assert not {"2026-W11", "2026-W12"} & set(told[2])
