"""Evidence against covariances worked out by hand, row by row."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.stats.arrays import InvalidNumbersError, NotEnoughDataError
from app.stats.evidence import (
    Evidence,
    Moments,
    MomentStack,
    pair_evidence,
    pool,
    pool_moments,
)


def table(n: int = 40, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return (
        rng.lognormal(size=n),
        rng.lognormal(size=n),
        rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], n),
        rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], n),
    )


def week(n: int = 40, seed: int = 0, **more: Any) -> Evidence:
    return pair_evidence(*table(n, seed), **more)


def test_independent_pairs_give_the_textbook_covariance_of_the_mean() -> None:
    rows = np.column_stack(table())
    evidence = week()
    assert np.allclose(evidence.mean, rows.mean(axis=0))
    assert np.allclose(evidence.cov, np.cov(rows, rowvar=False) / 40)
    assert (evidence.n, evidence.clusters, evidence.df) == (40, 40, 39.0)
    assert evidence.n_eff == pytest.approx(40)


def test_conversations_are_summed_before_they_are_squared() -> None:
    conversations = [i // 4 for i in range(40)]
    rows = np.column_stack(table())
    evidence = week(clusters=conversations)
    expected = np.zeros((4, 4))
    for g in range(10):
        total = (rows[4 * g : 4 * g + 4] - rows.mean(axis=0)).sum(axis=0) / 40
        expected += np.outer(total, total) * 10 / 9
    assert np.allclose(evidence.cov, expected)
    assert (evidence.clusters, evidence.df) == (10, 9.0)
    assert evidence.n_eff == pytest.approx(40)


def test_a_folded_row_weighs_as_often_as_it_was_drawn() -> None:
    cost_c, cost_p, quality_c, quality_p = [1.0, 2.0, 4.0], [2.0, 2.0, 3.0], [1, 0, 0.5], [1, 1, 0]
    evidence = pair_evidence(cost_c, cost_p, quality_c, quality_p, weights=[0.5, 0.25, 0.25])
    assert evidence.mean == pytest.approx((2.0, 2.25, 0.625, 0.75))
    # residuals of cost_c weighted: .5*(1-2), .25*(2-2), .25*(4-2)
    assert evidence.cov[0][0] == pytest.approx((0.25 + 0.0 + 0.25) * 3 / 2)
    assert evidence.n_eff == pytest.approx(1 / (0.25 + 0.0625 + 0.0625))


def test_weights_need_not_be_scaled_to_one() -> None:
    weights = np.arange(1, 41)
    assert week(weights=weights).mean == pytest.approx(week(weights=weights / 820).mean)


def test_strata_take_their_own_means() -> None:
    rows = np.column_stack(table())
    strata = ["a"] * 24 + ["b"] * 16
    expected = np.zeros((4, 4))
    for part in (rows[:24], rows[24:]):
        residual = (part - part.mean(axis=0)) / 40
        expected += len(part) / (len(part) - 1) * residual.T @ residual
    assert np.allclose(week(strata=strata).cov, expected)


def test_strata_of_one_conversation_are_put_together() -> None:
    alone = week(strata=["a"] * 38 + ["b", "c"])
    together = week(strata=["a"] * 38 + ["rest", "rest"])
    assert np.allclose(alone.cov, together.cov)


def test_a_single_lonely_stratum_joins_the_smallest_other() -> None:
    lonely = week(strata=["a"] * 20 + ["b"] * 19 + ["c"])
    joined = week(strata=["a"] * 20 + ["b"] * 20)
    assert np.allclose(lonely.cov, joined.cov)


def test_a_conversation_across_strata_counts_where_most_of_it_lies() -> None:
    clusters = [0, 0, 0, *range(1, 38)]
    split = week(clusters=clusters, strata=["a", "a", "b", *["a", "b"] * 18, "a"])
    whole = week(clusters=clusters, strata=["a", "a", "a", *["a", "b"] * 18, "a"])
    assert np.allclose(split.cov, whole.cov)


def test_an_unsuccessful_reply_has_no_quality_and_its_full_cost() -> None:
    cost = [1.0, 1.0, 1.0]
    evidence = pair_evidence(cost, cost, [0.9, 0.9, 0.9], [0.8] * 3, ok_c=[True, True, False])
    assert evidence.mean == pytest.approx((1.0, 1.0, 0.6, 0.8))
    assert (evidence.n10, evidence.n01) == (1.0, 0.0)


def test_an_unsuccessful_reply_needs_no_score() -> None:
    evidence = week(ok_c=[False] + [True] * 39, scored_c=[False] + [True] * 39)
    assert evidence.unscored == 0.0


def test_discordant_pairs_are_counted_in_effective_pairs() -> None:
    ones = [1.0] * 4
    evidence = pair_evidence(
        ones,
        ones,
        ones,
        ones,
        weights=[0.4, 0.2, 0.2, 0.2],
        ok_c=[False, True, True, True],
        ok_p=[True, True, True, False],
    )
    n = 1 / (0.16 + 3 * 0.04)
    assert evidence.n10 == pytest.approx(0.4 * n)
    assert evidence.n01 == pytest.approx(0.2 * n)


def test_unscored_pairs_leave_the_plain_moments_and_enter_the_worst_at_their_worst() -> None:
    cost = [1.0, 2.0, 3.0, 4.0]
    evidence = pair_evidence(
        cost,
        cost,
        [1.0, 0.5, 0.5, 0.5],
        [0.5, 0.5, 0.5, 0.25],
        scored_c=[False, True, True, True],
        scored_p=[True, True, True, False],
    )
    assert evidence.mean == pytest.approx((2.5, 2.5, 0.5, 0.5))
    assert evidence.worst.mean == pytest.approx((2.5, 2.5, 0.375, 0.625))
    assert evidence.unscored == pytest.approx(0.5)
    assert (evidence.n, evidence.n_eff, evidence.worst.n_eff) == (4, 2.0, 4.0)


def test_the_worst_case_is_the_plain_one_when_every_reply_is_scored() -> None:
    assert week().worst == week().plain


def test_latencies_are_of_successful_responses_only() -> None:
    seconds = [float(i) for i in range(40)]
    broken = [np.nan, *seconds[1:]]
    evidence = week(ok_c=[False] + [True] * 39, latency_c=broken, latency_p=seconds)
    assert evidence.latency_c == tuple(seconds[1:])
    assert len(evidence.latency_p) == 40


def test_latencies_count_what_their_rows_weigh() -> None:
    seconds = np.arange(40.0)[::-1]
    weights = np.r_[3.0, np.ones(39)]
    evidence = week(
        weights=weights, latency_c=seconds, latency_p=seconds, ok_p=[False] + [True] * 39
    )
    share = 40 / 42
    assert evidence.latency_c[-1] == 39.0
    assert evidence.latency_weights_c == pytest.approx((share,) * 39 + (3 * share,))
    assert evidence.latency_weights_p == ()  # the heavy row failed: those left count alike
    again = np.random.default_rng(3).permutation(40)
    columns = [column[again] for column in table()]
    other = pair_evidence(*columns, weights=weights[again], latency_c=seconds[again])
    assert other.latency_c == evidence.latency_c
    assert other.latency_weights_c == evidence.latency_weights_c
    assert Evidence.from_json(json.loads(json.dumps(evidence.to_json()))) == evidence


def test_a_pooled_week_without_weights_counts_one_a_row() -> None:
    seconds = np.arange(40.0)
    heavy = week(weights=np.r_[3.0, np.ones(39)], latency_c=seconds, latency_p=seconds)
    even = week(latency_c=seconds, latency_p=seconds)
    assert pool([even, even]).latency_weights_c == ()
    assert pool([even, heavy]).latency_weights_c == (1.0,) * 40 + heavy.latency_weights_c


def test_evidence_that_was_stored_before_latencies_had_weights_is_read() -> None:
    document = week(latency_c=np.arange(40), latency_p=np.arange(40)).to_json()
    del document["latency_weights_c"], document["latency_weights_p"]
    assert Evidence.from_json(document).latency_weights_p == ()


def test_one_weight_per_latency_is_asked_for() -> None:
    with pytest.raises(InvalidNumbersError, match="latency_weights_p"):
        replace(week(latency_c=np.arange(40), latency_p=np.arange(40)), latency_weights_p=(1.0,))


def test_pooling_adds_within_week_variances_and_not_the_drift_between_weeks() -> None:
    first, second = week(40, 1), week(80, 2)
    pooled = pool([first, second])
    assert np.allclose(pooled.mean, (np.array(first.mean) + 2 * np.array(second.mean)) / 3)
    assert np.allclose(pooled.cov, np.array(first.cov) / 9 + np.array(second.cov) * 4 / 9)
    assert (pooled.n, pooled.df, pooled.clusters) == (120, 118.0, 120)
    assert pooled.n_eff == pytest.approx(120)


def test_pooling_one_week_changes_nothing() -> None:
    assert pool([week()]) == week()


def test_pooling_in_two_steps_is_pooling_at_once() -> None:
    weeks = [week(30 + 10 * i, i) for i in range(3)]
    at_once, in_steps = pool(weeks), pool([pool(weeks[:2]), weeks[2]])
    assert np.allclose(at_once.mean, in_steps.mean)
    assert np.allclose(at_once.cov, in_steps.cov)
    assert np.allclose(at_once.cost_thirds, in_steps.cost_thirds)
    assert at_once.loose_variance == pytest.approx(in_steps.loose_variance)


def test_shares_of_outage_pool_by_calls() -> None:
    calm, stormy = week(40), week(80, outage_c=[True] * 3 + [False] * 77)
    assert pool([calm, stormy]).outage_c == pytest.approx(3 / 120)


def test_a_stack_pools_its_last_weeks() -> None:
    weeks = [week(30 + i, i).plain for i in range(4)]
    assert MomentStack.of(weeks).last(2) == pool_moments(weeks[2:])


def test_evidence_grown_by_a_whole_number_is_that_many_equal_weeks_pooled() -> None:
    one = week(clusters=[i // 2 for i in range(40)], ok_c=[False] * 3 + [True] * 37)
    three, pooled = one.grown(3), pool([one] * 3)
    for name in ("n", "clusters", "n_eff", "df", "n10", "loose_variance", "difference_third"):
        assert getattr(three, name) == pytest.approx(getattr(pooled, name))
    assert np.allclose(three.cov, pooled.cov)
    assert three.cost_thirds == pytest.approx(pooled.cost_thirds)
    assert np.allclose(three.worst.cov, pooled.worst.cov)


def test_repriced_evidence_is_that_of_the_repriced_costs() -> None:
    cost_c, cost_p, quality_c, quality_p = table()
    repriced = pair_evidence(cost_c, cost_p, quality_c, quality_p).repriced(0.5, 3.0)
    afresh = pair_evidence(cost_c * 0.5, cost_p * 3.0, quality_c, quality_p)
    assert repriced.mean == pytest.approx(afresh.mean)
    assert np.allclose(repriced.cov, afresh.cov)
    assert repriced.cost_thirds == pytest.approx(afresh.cost_thirds)
    assert repriced.worst.cost_thirds == pytest.approx(afresh.worst.cost_thirds)
    with pytest.raises(InvalidNumbersError, match="price factor"):
        repriced.repriced(0.0, 1.0)


def test_no_week_cannot_be_pooled() -> None:
    with pytest.raises(NotEnoughDataError, match="no week"):
        pool([])


def test_without_conversations_every_effective_pair_is_independent() -> None:
    assert week().plain.independent_n == pytest.approx(40)


def test_conversations_lost_whole_count_once_each() -> None:
    clusters = [i // 4 for i in range(400)]
    lost = np.repeat(np.random.default_rng(3).random(100) < 0.1, 4)
    ones = np.ones(400)
    moments = pair_evidence(ones, ones, 1.0 - lost, ones, clusters=clusters).plain
    assert moments.independent_n == pytest.approx(100, rel=0.05)


def test_ties_alone_are_worth_one_pair_a_conversation() -> None:
    ones = np.ones(40)
    moments = pair_evidence(ones, ones, ones, ones, clusters=[i // 4 for i in range(40)]).plain
    assert moments.independent_n == pytest.approx(10)


def test_third_moments_tell_which_bill_has_the_heavier_tail() -> None:
    cost_c = np.array([1.0] * 19 + [30.0])
    quality = np.ones(20)
    thirds = pair_evidence(cost_c, np.ones(20), quality, quality).cost_thirds
    by_hand = ((cost_c - cost_c.mean()) ** 3).sum() / 20**3 * 20**2 / (19 * 18)
    assert thirds == pytest.approx((by_hand, 0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scored_c": [False] * 3 + [True] * 37}, "no score"),
        ({"outage_p": [True] * 3 + [False] * 37}, "outage: 7.5% of the primary"),
        ({"clusters": [i % 9 for i in range(40)]}, "only 9 independent conversations"),
    ],
)
def test_a_week_that_cannot_be_judged_says_why(change: dict[str, Any], says: str) -> None:
    assert says in (week(**change).unmeasured_because or "")


def test_an_ordinary_week_is_measured() -> None:
    assert week(scored_c=[False] * 2 + [True] * 38).unmeasured_because is None


def test_evidence_survives_json() -> None:
    evidence = week(
        clusters=[i // 2 for i in range(40)],
        scored_c=[False] + [True] * 39,
        latency_c=np.arange(40),
        latency_p=np.arange(40),
        outage_c=[True] + [False] * 39,
    )
    assert Evidence.from_json(json.loads(json.dumps(evidence.to_json()))) == evidence
    assert Moments.from_json(json.loads(json.dumps(evidence.plain.to_json()))) == evidence.plain


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": [0.0] + [1.0] * 39}, "positive"),
        ({"weights": [1.0] * 39}, "39 rows where 40"),
        ({"clusters": [1, 2]}, "2 rows where 40"),
        ({"ok_c": [True]}, "ok_c has shape"),
        ({"latency_c": [-1.0] * 40}, "negative duration"),
        ({"latency_c": [1.0]}, "latency_c has shape"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidNumbersError, match=says):
        week(**change)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (0, -1.0, "negative cost"),
        (1, np.nan, "not finite"),
        (2, 1.5, "between 0 and 1"),
        (3, -0.1, "between 0 and 1"),
        (2, np.nan, "not finite"),
    ],
)
def test_impossible_numbers_are_refused(column: int, value: float, says: str) -> None:
    columns = [array.copy() for array in table()]
    columns[column][5] = value
    with pytest.raises(InvalidNumbersError, match=says):
        pair_evidence(*columns)


def test_a_single_conversation_carries_no_variance() -> None:
    with pytest.raises(NotEnoughDataError, match="1 independent conversation"):
        week(clusters=["only"] * 40)


def test_nothing_is_no_evidence() -> None:
    with pytest.raises(NotEnoughDataError):
        pair_evidence([], [], [], [])
    with pytest.raises(NotEnoughDataError, match="no pair"):
        week(scored_c=[False] * 40)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans(), clustered=st.booleans())
def test_the_order_of_cases_is_irrelevant(seed: int, weighted: bool, clustered: bool) -> None:
    rng = np.random.default_rng(seed)
    columns = table(24, seed)
    more: dict[str, Any] = {"strata": rng.choice(["x", "y", "z"], 24)}
    if weighted:
        more["weights"] = rng.integers(1, 4, 24)
    if clustered:
        more["clusters"] = rng.integers(0, 12, 24)
    order = rng.permutation(24)
    shuffled = {name: np.asarray(values)[order] for name, values in more.items()}
    here, there = (
        pair_evidence(*columns, **more),
        pair_evidence(*(column[order] for column in columns), **shuffled),
    )
    assert np.allclose(here.cov, there.cov, rtol=1e-9, atol=1e-15)
    assert np.allclose(here.mean, there.mean)
    assert here.independent_pairs == pytest.approx(there.independent_pairs)


def test_a_conversation_spread_evenly_over_strata_is_counted_the_same_in_any_order() -> None:
    rng = np.random.default_rng(3)
    n = 32
    table = [rng.random(n) for _ in range(4)]
    chats = [f"c{i // 4}" for i in range(n)]
    pure = [["x", "y"][i // 8 % 2] for i in range(n)]
    strata = [pure[i] if i // 4 % 2 else "x" if i % 4 < 3 else "y" for i in range(n)]
    weights = np.array([[0.1, 0.7, 0.2, 1.0][i % 4] for i in range(n)])  # a tie, but for rounding

    def taken(order: Sequence[int]) -> Evidence:
        return pair_evidence(
            *(column[list(order)] for column in table),
            weights=weights[list(order)],
            clusters=[chats[i] for i in order],
            strata=[strata[i] for i in order],
        )

    forth, back = taken(range(n)), taken(range(n - 1, -1, -1))
    np.testing.assert_allclose(forth.cov, back.cov, rtol=1e-9, atol=1e-18)
