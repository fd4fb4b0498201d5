"""SCAN's windows, its hit, its states and what they spend."""

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest

from app.stats.arrays import NotEnoughDataError
from app.stats.evidence import Evidence, pair_evidence, pool
from app.stats.rectifier import rectifier
from app.stats.scan import (
    ScanResult,
    State,
    TestPolicy,
    block_z,
    drops_after_block,
    is_benched,
    leads_head_to_head,
    next_state,
    scan,
    segment_loses,
)
from app.stats.switch_tests import quality_z, success_z, value_z

POLICY = TestPolicy()


def week(
    seed: int = 0, n: int = 100, *, cost: float = 0.5, quality: float = 0.0, **more: Any
) -> Evidence:
    """A week of pairs at this cost ratio and quality difference, noisy on both sides."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.5, 0.9, n)
    shared = rng.lognormal(sigma=0.5, size=n)
    columns = (
        cost * shared * rng.lognormal(sigma=0.2, size=n),
        shared * rng.lognormal(sigma=0.2, size=n),
        np.clip(base + quality + rng.normal(0, 0.1, n), 0, 1),
        np.clip(base + rng.normal(0, 0.1, n), 0, 1),
    )
    more.setdefault("latency_c", np.ones(n))
    more.setdefault("latency_p", np.ones(n))
    return pair_evidence(*columns, **more)


def look(weeks: list[Evidence], **more: Any) -> ScanResult:
    more.setdefault("candidates", 1)
    return scan(weeks, more.pop("policy", POLICY), **more)


def test_every_window_the_held_weeks_fill_is_tested() -> None:
    result = look([week(i) for i in range(7)])
    assert [window.weeks for window in result.windows] == [1, 2, 3, 4, 6]
    assert result.weeks_held == 7


def test_a_window_is_tested_on_its_pooled_weeks() -> None:
    weeks = [week(i, n=60 + 10 * i, quality=-0.04) for i in range(4)]
    window = look(weeks).windows[1]
    last_two = pool(weeks[2:]).plain
    n = last_two.independent_n
    assert window.quality_z == pytest.approx(
        float(quality_z(last_two.mean, last_two.cov, n, last_two.df, margin=0.05)),
        abs=0.02,
    )
    assert window.value_z == pytest.approx(
        float(value_z(last_two.mean, last_two.cov, n, last_two.df, bar=0.9)), abs=0.5
    )
    assert window.n == 170


def test_at_most_twelve_weeks_are_pooled() -> None:
    result = look([week(i) for i in range(20)])
    assert result.windows[-1].weeks == 12
    assert result.longest is not None
    assert result.longest.n == 1200


def test_a_good_candidate_hits() -> None:
    result = look([week(i) for i in range(3)])
    assert result.is_hit
    assert result.best is not None
    assert result.best.z >= result.critical_value == pytest.approx(3.43, abs=0.01)


def test_more_candidates_ask_for_more() -> None:
    weeks = [week(i) for i in range(3)]
    assert look(weeks, candidates=8).critical_value > look(weeks).critical_value


def test_a_window_with_too_few_pairs_cannot_hit() -> None:
    result = look([week(n=29, cost=0.1)])
    assert not result.windows[0].is_enough
    assert result.best is None
    assert not result.reaches_critical_value


def test_turns_of_few_conversations_are_too_few_pairs() -> None:
    result = look([week(clusters=[i // 4 for i in range(100)])])
    assert result.windows[0].independent_pairs == 25
    assert not result.windows[0].is_enough


def test_this_weeks_own_points_must_agree() -> None:
    bad_week = week(9, quality=-0.12)
    result = look([*(week(i, quality=0.1) for i in range(6)), bad_week])
    assert result.reaches_critical_value
    assert result.points is not None
    assert not result.points.pass_policy
    assert not result.is_hit


def test_a_hit_must_hold_with_unscored_replies_at_their_worst() -> None:
    scored = [False] * 5 + [True] * 95
    window = look([week(i, scored_c=scored) for i in range(3)]).windows[-1]
    assert window.worst_quality_z < window.quality_z - 1
    assert window.z == min(window.worst_quality_z, window.worst_value_z)


def test_without_unscored_replies_the_worst_case_is_the_plain_one() -> None:
    window = look([week()]).windows[0]
    assert (window.worst_quality_z, window.worst_value_z) == (window.quality_z, window.value_z)


def test_the_success_guardrail_looks_at_the_longest_window() -> None:
    failing = [i < 8 for i in range(100)]
    weeks = [week(i, ok_c=[not bad for bad in failing]) for i in range(4)]
    result = look(weeks)
    assert result.success_z == pytest.approx(float(success_z(400, 32, 0, margin=0.05)))
    assert not result.success_passes
    assert not result.is_hit


def test_a_slower_candidate_is_vetoed_by_latency_and_said_so() -> None:
    result = look([week(i, latency_c=np.full(100, 2.0)) for i in range(3)])
    assert result.is_slower
    assert not result.is_hit


def test_an_unsupported_p95_blocks_the_hit_until_it_is_supported() -> None:
    first = look([week(0, n=90, cost=0.2, quality=0.2)])
    later = look([week(i, n=90, cost=0.2, quality=0.2) for i in range(2)])
    assert first.hits_before_latency
    assert not first.is_slower
    assert not first.is_hit
    assert later.is_hit


def test_an_unmeasured_week_is_neither_pooled_nor_judged() -> None:
    stormy = week(5, outage_c=[True] * 6 + [False] * 94)
    weeks = [week(i) for i in range(4)]
    result = look([*weeks, stormy])
    assert "outage" in (result.unmeasured_because or "")
    assert result.points is None
    assert result.windows == look(weeks).windows
    assert not result.is_hit


def test_no_measured_week_yields_no_window_and_no_error() -> None:
    result = look([week(outage_c=[True] * 60 + [False] * 40)])
    assert result.windows == ()
    assert result.longest is None
    assert result.best is None
    assert not result.is_watched


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(NotEnoughDataError):
        look([])


def test_a_bias_allowance_is_taken_from_the_candidate_in_every_figure() -> None:
    weeks = [week(i) for i in range(3)]
    strict = look(weeks, policy=replace(POLICY, bias_allowance=0.1))
    plain = look(weeks)
    assert strict.windows[0].difference == pytest.approx(plain.windows[0].difference - 0.1)
    assert strict.windows[0].value_z < plain.windows[0].value_z
    assert strict.points is not None
    assert plain.points is not None
    assert strict.points.difference == pytest.approx(plain.points.difference - 0.1)
    assert strict.difference is not None
    assert strict.difference.point == pytest.approx(strict.windows[-1].difference)


def test_an_allowance_larger_than_the_quality_refuses_the_ratio() -> None:
    result = look([week()], policy=replace(POLICY, bias_allowance=1.0))
    assert "no quality" in (result.windows[0].refusal or "")
    assert result.windows[0].value_ratio is None
    assert result.value_ratio is None


def test_a_rectifier_is_added_once_after_pooling() -> None:
    rng = np.random.default_rng(1)
    human = rng.random((300, 2))
    judged = np.clip(human + np.array([0.1, 0.0]) + rng.normal(0, 0.1, (300, 2)), 0, 1)
    correction = rectifier(judged, human)
    weeks = [week(i) for i in range(8)]
    result = look(weeks, rectifier=correction)
    pooled = correction.apply(pool(weeks).plain)
    assert result.windows[-1].difference == pytest.approx(pooled.mean[2] - pooled.mean[3])
    assert result.difference is not None
    sd = sqrt(pooled.difference_variance)
    assert result.difference.half_width == pytest.approx(1.97 * sd, rel=0.01)
    assert sd > sqrt(correction.cov[0][0] + correction.cov[1][1] - 2 * correction.cov[0][1])


def test_a_short_window_is_judged_with_the_tail_the_longest_has_met() -> None:
    rng = np.random.default_rng(4)
    ones = np.ones(100)
    dear = np.where(np.arange(100) < 3, 40.0, 0.3) * rng.uniform(0.9, 1.1, 100)
    calm = np.full(100, 0.3) * rng.uniform(0.9, 1.1, 100)
    quality = rng.uniform(0.6, 0.9, 100)
    lucky = pair_evidence(calm, ones, quality, quality, latency_c=ones, latency_p=ones)
    dear_week = pair_evidence(dear, ones, quality, quality, latency_c=ones, latency_p=ones)
    alone = look([lucky]).windows[0]
    warned = look([dear_week, *[lucky] * 11]).windows[0]
    assert alone.value_z > 5
    assert warned.value_z < 3.43
    assert warned.cost_skewness < -5 < alone.cost_skewness


# --- states ---------------------------------------------------------------------------------------


def test_quiet_turns_to_alert_at_the_first_hit() -> None:
    step = next_state(State.QUIET, look([week(i) for i in range(3)]))
    assert step.state is State.ALERT
    assert "reaches 3.43" in step.reason
    assert not step.drops_history


def test_a_promising_candidate_is_watched() -> None:
    result = look([week(0, n=40, cost=0.6, quality=0.0)])
    assert not result.is_hit
    assert next_state(State.QUIET, result).state is State.WATCH


def test_many_candidates_raise_the_bar_of_watching_too() -> None:
    weeks = [week(0, n=40, cost=0.6, quality=0.0)]
    assert next_state(State.QUIET, look(weeks)).state is State.WATCH
    assert next_state(State.QUIET, look(weeks, candidates=500)).state is State.QUIET


def test_a_watched_candidate_that_disappoints_falls_quiet() -> None:
    assert next_state(State.WATCH, look([week(quality=-0.2)])).state is State.QUIET


def test_an_alert_stays_open_without_a_new_hit() -> None:
    lukewarm = look([week(0, n=40, cost=0.7)])
    assert not lukewarm.is_hit
    assert next_state(State.ALERT, lukewarm).state is State.ALERT


def test_a_broken_week_resolves_an_alert_and_drops_the_history() -> None:
    step = next_state(State.ALERT, look([*(week(i) for i in range(8)), week(9, quality=-0.25)]))
    assert step.state is State.RESOLVED
    assert step.drops_history


def test_failing_replies_alone_resolve_an_alert() -> None:
    failing = week(9, ok_c=[False] * 25 + [True] * 75, quality=0.3)
    result = look([*(week(i) for i in range(8)), failing])
    assert result.week_success_z is not None
    assert result.week_success_z < -2.33
    assert next_state(State.ALERT, result).state is State.RESOLVED


def test_a_slow_decline_resolves_an_alert_by_the_last_four_weeks() -> None:
    weeks = [week(i, quality=0.0) for i in range(8)] + [
        week(20 + i, n=40, quality=-0.08) for i in range(4)
    ]
    result = look(weeks)
    assert result.windows[0].plain_z > -2.33
    step = next_state(State.ALERT, result)
    assert step.state is State.RESOLVED
    assert "last 4" in step.reason


def test_a_resolution_is_reported_once() -> None:
    assert next_state(State.RESOLVED, look([week(quality=-0.2)])).state is State.QUIET


def test_a_candidate_may_alert_again_after_a_resolution() -> None:
    assert next_state(State.RESOLVED, look([week(i) for i in range(3)])).state is State.ALERT


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (State.QUIET, State.QUIET),
        (State.WATCH, State.WATCH),
        (State.ALERT, State.ALERT),
        (State.RESOLVED, State.QUIET),
    ],
)
def test_an_unmeasured_week_moves_nobody(before: State, after: State) -> None:
    result = look([week(0), week(1, outage_p=[True] * 6 + [False] * 94)])
    assert next_state(before, result).state is after


# --- spending -------------------------------------------------------------------------------------


def test_block_z_is_the_smaller_test_of_the_blocks_so_far() -> None:
    evidence = week(n=20, quality=-0.3)
    assert block_z(evidence, POLICY) == look([evidence]).windows[0].plain_z
    assert drops_after_block(block_z(evidence, POLICY), 0)


def test_a_later_block_drops_sooner() -> None:
    assert not drops_after_block(-1.3, 0)
    assert drops_after_block(-1.31, 0)
    assert not drops_after_block(-1.0, 2)
    assert drops_after_block(-1.01, 2)


def test_the_bench_is_for_a_poor_recent_past() -> None:
    assert is_benched(-1.51)
    assert not is_benched(-1.5)
    assert look([week(i, quality=-0.3) for i in range(2)]).is_benched(100)


def test_six_weeks_at_the_margin_are_hopeless_and_four_are_not() -> None:
    weeks = [week(i, quality=-0.06) for i in range(6)]
    assert look(weeks).is_hopeless(100)
    assert not look(weeks[:4]).is_hopeless(100)


def test_a_candidate_of_which_little_was_seen_is_not_hopeless() -> None:
    weeks = [week(i, quality=-0.03, n=20) for i in range(6)]
    assert look(weeks).is_hopeless(20)
    assert not look(weeks).is_hopeless(200)


def test_a_candidate_that_improved_lately_is_not_hopeless() -> None:
    weeks = [week(i, quality=-0.1) for i in range(8)] + [week(20 + i) for i in range(4)]
    result = look(weeks)
    assert result.windows[-1].plain_z < 1.43
    assert not result.is_hopeless(100)


# --- several candidates, segments -----------------------------------------------------------------


def test_a_clear_leader_wins_head_to_head_and_an_equal_does_not() -> None:
    assert leads_head_to_head(pool([week(i, cost=0.5) for i in range(4)]), POLICY)
    assert not leads_head_to_head(pool([week(i, cost=1.0) for i in range(4)]), POLICY)


def test_a_cheaper_but_worse_candidate_does_not_lead() -> None:
    assert not leads_head_to_head(pool([week(i, cost=0.5, quality=-0.1) for i in range(4)]), POLICY)


def test_a_losing_segment_is_named_only_beyond_the_adjusted_bound() -> None:
    loser = week(n=40, quality=-0.1)
    assert segment_loses(loser, segments=1)
    assert not segment_loses(loser, segments=20_000)
    assert not segment_loses(week(n=40), segments=1)


@pytest.mark.parametrize(
    "change",
    [
        {"quality_margin": 0.0},
        {"min_saving": 1.0},
        {"min_saving": -0.1},
        {"false_alerts_per_year": 0.6},
        {"max_latency_p95_ratio": 0.0},
        {"bias_allowance": 1.1},
        {"min_pairs": 1},
    ],
)
def test_a_policy_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"range|at least"):
        replace(POLICY, **change)
