"""Drift: changes are measured on anchors, clustered by anchor, and given to the right cause."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from app.stats.arrays import NotEnoughDataError
from app.stats.drift import (
    AnchorReading,
    CanaryReading,
    Cause,
    DriftWeek,
    attribute,
    clustered_mean,
    is_price_cause,
    price_change,
    regression,
)


def readings(
    rng: np.random.Generator,
    *,
    primary: float = 0.0,
    judge: float = 0.0,
    count: int = 20,
    origin: int = 1,
) -> tuple[AnchorReading, ...]:
    then = rng.uniform(0.6, 0.8, count)
    stored = then + judge + rng.normal(0, 0.02, count)
    now = stored + primary + rng.normal(0, 0.1, count)
    return tuple(
        AnchorReading(
            anchor=f"a{i}",
            origin=origin,
            reply_now=float(now[i]),
            stored_now=float(stored[i]),
            stored_then=float(then[i]),
            segment="east" if i % 2 else "west",
        )
        for i in range(count)
    )


def history(*, fresh: float, primary: float = 0.0, judge: float = 0.0) -> list[DriftWeek]:
    """Five calm weeks at .70, then one with these changes."""
    rng = np.random.default_rng(7)
    calm = [
        DriftWeek(week=w, fresh_mean=0.70, fresh_variance=4e-4, anchors=readings(rng))
        for w in range(1, 6)
    ]
    last = DriftWeek(
        week=6,
        fresh_mean=0.70 + fresh,
        fresh_variance=4e-4,
        anchors=readings(rng, primary=primary, judge=judge),
    )
    return [*calm, last]


def test_the_mean_of_single_readings_has_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(-0.1, 0.3, 25)
    change, z = clustered_mean(values)
    low, high = stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    assert (change.low, change.high) == pytest.approx((low, high))
    t = values.mean() / stats.sem(values)
    assert z == pytest.approx(stats.norm.ppf(stats.t.cdf(t, 24)))


def test_repeated_readings_of_an_anchor_add_no_certainty() -> None:
    values = np.random.default_rng(0).normal(-0.1, 0.3, 25)
    once, z_once = clustered_mean(values, [f"a{i}" for i in range(25)])
    often, z_often = clustered_mean(np.tile(values, 12), [f"a{i}" for i in range(25)] * 12)
    assert often.half_width == pytest.approx(once.half_width)
    assert z_often == pytest.approx(z_once)


def test_one_anchor_carries_no_variance() -> None:
    with pytest.raises(NotEnoughDataError):
        clustered_mean([0.1, 0.2], ["a", "a"])
    with pytest.raises(NotEnoughDataError):
        clustered_mean([])


def test_an_unchanged_score_has_no_z() -> None:
    change, z = clustered_mean([0.0] * 10)
    assert (change.low, change.high, z) == (0.0, 0.0, 0.0)


def test_a_fall_of_the_primary_is_its_regression() -> None:
    found = regression(history(fresh=-0.2, primary=-0.2))
    assert found is not None
    assert found.is_hit
    assert found.best is not None
    assert found.best.weeks == 1
    assert found.best.change.point == pytest.approx(-0.2, abs=0.05)


def test_a_rise_of_the_primary_is_no_regression() -> None:
    found = regression(history(fresh=0.2, primary=0.2))
    assert found is not None
    assert not found.is_hit


def test_a_harsher_judge_is_no_regression() -> None:
    found = regression(history(fresh=-0.2, judge=-0.2))
    assert found is not None
    assert not found.is_hit


def test_the_segment_that_fell_most_is_named() -> None:
    weeks = history(fresh=-0.2, primary=-0.2)
    worse = tuple(
        replace(r, reply_now=r.reply_now - 0.2) if r.segment == "east" else r
        for r in weeks[-1].anchors
    )
    found = regression([*weeks[:-1], replace(weeks[-1], anchors=worse)])
    assert found is not None
    assert found.segment == "east"
    assert found.segment_change is not None
    assert found.segment_change.point == pytest.approx(-0.4, abs=0.07)


def test_too_few_anchors_say_nothing() -> None:
    rng = np.random.default_rng(0)
    few = DriftWeek(week=1, fresh_mean=0.7, fresh_variance=1e-3, anchors=readings(rng, count=4))
    assert regression([few]) is None
    assert regression([]) is None
    assert attribute([few]) is None


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"fresh": -0.2, "primary": -0.2}, Cause.PRIMARY),
        ({"fresh": -0.2, "judge": -0.2}, Cause.JUDGE),
        ({"fresh": -0.15}, Cause.TRAFFIC),
        ({"fresh": 0.15}, Cause.TRAFFIC),
    ],
)
def test_a_change_is_given_to_its_cause_alone(change: dict[str, float], cause: Cause) -> None:
    found = attribute(history(**change))
    assert found is not None
    assert found.causes == (cause,)


def test_changes_that_cancel_on_fresh_samples_are_both_named() -> None:
    found = attribute(history(fresh=0.0, primary=-0.2, judge=0.2))
    assert found is not None
    assert found.causes == (Cause.PRIMARY, Cause.JUDGE)


def test_nothing_is_blamed_when_nothing_changed() -> None:
    found = attribute(history(fresh=0.0))
    assert found is not None
    assert found.causes == ()
    assert not found.traffic.excludes(0.0)


def test_the_parts_add_up_to_the_fresh_change() -> None:
    found = attribute(history(fresh=-0.3, primary=-0.2, judge=-0.1))
    assert found is not None
    assert found.traffic.point + found.primary.point + found.judge.point == pytest.approx(
        found.fresh.point
    )


def test_canaries_are_stored_replies_too() -> None:
    weeks = history(fresh=0.0)
    canaries = tuple(CanaryReading(canary=f"c{i}", now=0.3, then=0.5) for i in range(20))
    found = attribute([*weeks[:-1], replace(weeks[-1], canaries=canaries)])
    assert found is not None
    stored = 20 * found.weeks
    assert found.judge.point == pytest.approx(-0.2 * 20 / (stored + 20), abs=0.01)


def test_without_the_weeks_of_origin_there_is_nothing_to_compare_with() -> None:
    weeks = history(fresh=-0.2, primary=-0.2)
    assert attribute(weeks[-1:]) is None


def test_a_price_change_is_measured_at_equal_usage() -> None:
    cost = np.random.default_rng(0).lognormal(size=60)
    change = price_change(cost * 1.5, cost)
    assert change is not None
    assert (change.point, change.low, change.high) == pytest.approx((0.5, 0.5, 0.5))
    assert is_price_cause(change)
    assert not is_price_cause(price_change(cost, cost))


def test_without_a_former_price_there_is_no_price_change() -> None:
    assert price_change([1.0, 2.0], [0.0, 0.0]) is None
    assert not is_price_cause(None)
