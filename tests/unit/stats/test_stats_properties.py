"""What must hold of every decision, whatever the data."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.stats.evidence import Evidence, pair_evidence
from app.stats.intervals import quality_difference, value_ratio_interval
from app.stats.scan import ScanResult, State, TestPolicy, next_state, scan

POLICY = TestPolicy()


def rows(seed: int, *, cost: float, quality: float, n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.lognormal(sigma=0.6, size=n)
    base = rng.uniform(0.3, 0.8, n)
    return {
        "cost_c": cost * shared * rng.lognormal(sigma=0.3, size=n),
        "cost_p": shared * rng.lognormal(sigma=0.3, size=n),
        "quality_c": np.clip(base + quality + rng.normal(0, 0.1, n), 0, 1),
        "quality_p": np.clip(base + rng.normal(0, 0.1, n), 0, 1),
        "ok_c": rng.random(n) < 0.98,
        "ok_p": rng.random(n) < 0.98,
        "latency_c": rng.lognormal(sigma=0.2, size=n),
        "latency_p": rng.lognormal(sigma=0.2, size=n),
        "clusters": rng.integers(0, n // 2, n),
    }


def evidence(columns: dict[str, np.ndarray]) -> Evidence:
    values: dict[str, Any] = dict(columns)
    four = [values.pop(name) for name in ("cost_c", "cost_p", "quality_c", "quality_p")]
    return pair_evidence(*four, **values)


def look(weeks: list[dict[str, np.ndarray]]) -> ScanResult:
    return scan([evidence(week) for week in weeks], POLICY, candidates=3)


def all_z(result: ScanResult) -> list[float]:
    return [z for w in result.windows for z in (w.quality_z, w.value_z, w.cost_skewness)]


history = st.builds(
    lambda seed, weeks, cost, quality: [
        rows(seed * 100 + i, cost=cost, quality=quality) for i in range(weeks)
    ],
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.floats(0.2, 1.2),
    st.floats(-0.1, 0.1),
)


@settings(max_examples=20, deadline=None)
@given(weeks=history, seed=st.integers(0, 10**6))
def test_the_order_of_cases_changes_no_verdict(
    weeks: list[dict[str, np.ndarray]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shuffled = []
    for week in weeks:
        order = rng.permutation(60)
        shuffled.append({name: column[order] for name, column in week.items()})
    assert all_z(look(shuffled)) == pytest.approx(all_z(look(weeks)), rel=1e-6, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(weeks=history, unit=st.sampled_from([1e-6, 0.01, 100.0, 1e6]))
def test_the_unit_of_money_changes_no_verdict(
    weeks: list[dict[str, np.ndarray]], unit: float
) -> None:
    scaled = [
        {**week, "cost_c": week["cost_c"] * unit, "cost_p": week["cost_p"] * unit} for week in weeks
    ]
    assert all_z(look(scaled)) == pytest.approx(all_z(look(weeks)), rel=1e-6, abs=1e-6)
    assert look(scaled).is_hit == look(weeks).is_hit


@settings(max_examples=20, deadline=None)
@given(weeks=history)
def test_the_names_of_conversations_change_no_verdict(
    weeks: list[dict[str, np.ndarray]],
) -> None:
    renamed = [
        {**week, "clusters": np.array([f"chat {900 - c}" for c in week["clusters"]])}
        for week in weeks
    ]
    assert all_z(look(renamed)) == pytest.approx(all_z(look(weeks)), rel=1e-6, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(weeks=history, levels=st.tuples(st.floats(0.5, 0.999), st.floats(0.5, 0.999)))
def test_more_confidence_never_narrows_what_is_shown(
    weeks: list[dict[str, np.ndarray]], levels: tuple[float, float]
) -> None:
    moments = evidence(weeks[0]).plain
    less, more = sorted(levels)
    wide, slim = (
        quality_difference(moments, confidence=more),
        quality_difference(moments, confidence=less),
    )
    assert wide.low <= slim.low
    assert wide.high >= slim.high
    wide_r, slim_r = (
        value_ratio_interval(moments, confidence=more),
        value_ratio_interval(moments, confidence=less),
    )
    assert wide_r is not None
    assert slim_r is not None
    assert wide_r.low <= slim_r.low
    assert wide_r.high >= slim_r.high


@settings(max_examples=40, deadline=None)
@given(weeks=history, gain=st.floats(0.0, 0.2), discount=st.floats(0.3, 1.0))
def test_a_better_candidate_never_loses_its_recommendation(
    weeks: list[dict[str, np.ndarray]], gain: float, discount: float
) -> None:
    """Quality up by the same amount everywhere, or the whole bill cut: a hit stays a hit."""
    room = 1.0 - max(float(week["quality_c"].max()) for week in weeks)
    better = [
        {
            **week,
            "cost_c": week["cost_c"] * discount,
            "quality_c": week["quality_c"] + min(gain, room),
        }
        for week in weeks
    ]
    before, after = look(weeks), look(better)
    if before.is_hit:
        assert after.is_hit
    was = next_state(State.ALERT, before).state
    if was is State.ALERT:
        assert next_state(State.ALERT, after).state is State.ALERT


@settings(max_examples=30, deadline=None)
@given(weeks=history, failure=st.integers(0, 59))
def test_mending_a_failed_reply_never_loses_a_recommendation(
    weeks: list[dict[str, np.ndarray]], failure: int
) -> None:
    broken = [dict(week) for week in weeks]
    broken[-1]["ok_c"] = broken[-1]["ok_c"].copy()
    broken[-1]["ok_c"][failure] = False
    broken[-1]["latency_c"] = broken[-1]["latency_p"]
    mended = [dict(week) for week in broken]
    mended[-1]["ok_c"] = broken[-1]["ok_c"].copy()
    mended[-1]["ok_c"][failure] = True
    if look(broken).is_hit:
        assert look(mended).is_hit
