"""The public array interface: weeks of plain arrays, states and verdicts, no database."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.decision import Decider
from app.decision.decider import scaled_costs
from app.domain.plans import Policy
from app.domain.results import CandidateState, VerdictKind
from app.stats.arrays import InvalidNumbersError
from app.stats.evidence import pair_evidence

NAMES = ["p", "a", "b"]


class Week:
    """Arrays of one week: candidates `a` and `b` with set effects."""

    def __init__(
        self, seed: int, *, n: int = 400, quality: tuple[float, float] = (0.0, -0.3),
        cost: tuple[float, float] = (0.5, 0.05),
    ) -> None:  # fmt: skip
        rng = np.random.default_rng([seed, n])
        base = rng.uniform(0.6, 0.8, n)
        money = rng.gamma(9.0, 0.001, n)
        noise = rng.normal(size=(4, n))
        self.quality = np.column_stack(
            [
                base,
                *(np.clip(base + d + 0.05 * e, 0, 1) for d, e in zip(quality, noise, strict=False)),
            ]
        )
        self.cost = np.column_stack(
            [money, *(money * r * np.exp(0.1 * e) for r, e in zip(cost, noise[2:], strict=True))]
        )
        self.ok = np.ones((n, 3), dtype=bool)
        seconds = rng.gamma(16.0, 0.1, n)
        self.latency = np.column_stack([seconds] * 3)


def feed(decider: Decider, week: Week, columns: list[int] | None = None) -> None:
    pick = columns or [0, 1, 2]
    decider.week(week.cost[:, pick], week.quality[:, pick], week.ok[:, pick], week.latency[:, pick])


def test_a_better_value_model_is_recommended_and_a_bad_cheap_one_is_not() -> None:
    decider = Decider(NAMES, "p")
    week = Week(1)

    found = decider.week(week.cost, week.quality, week.ok, week.latency)

    assert found.recommended == ("a",)
    assert found.verdicts["b"].kind is VerdictKind.WORSE
    assert found.comparisons["a"].pairs == 400


def test_weeks_add_up() -> None:
    decider = Decider(NAMES, "p")
    for seed in range(3):
        feed(decider, Week(seed, n=100, cost=(0.6, 0.05)))

    week = Week(3, n=100, cost=(0.6, 0.05))
    found = decider.week(week.cost, week.quality, week.ok, week.latency)

    assert found.comparisons["a"].pairs == 400
    assert found.comparisons["a"].window_weeks == 4


def test_a_model_that_was_not_run_on_a_case_makes_no_pair() -> None:
    week = Week(1)
    week.cost[20:, 2] = np.nan

    found = Decider(NAMES, "p").week(week.cost, week.quality, week.ok, week.latency)

    assert found.comparisons["b"].pairs == 20
    assert found.comparisons["a"].pairs == 400


def test_an_unscored_reply_is_masked_not_invented() -> None:
    week = Week(1)
    week.quality[:3, 1] = np.nan

    found = Decider(NAMES, "p").week(week.cost, week.quality, week.ok, week.latency)

    longest = found.looks["a"].weeks[-1]
    assert longest.unscored == pytest.approx(3 / 400)


def test_an_outage_leaves_the_week_unmeasured() -> None:
    week = Week(1)
    outage = np.zeros((400, 3))
    outage[:30, 1] = 1
    week.ok[:30, 1] = False

    found = Decider(NAMES, "p").week(week.cost, week.quality, week.ok, week.latency, outage=outage)

    assert found.verdicts["a"].kind is VerdictKind.UNMEASURED
    assert found.states["a"] is CandidateState.QUIET


def test_without_latency_nothing_is_recommended() -> None:
    week = Week(1)

    found = Decider(NAMES, "p").week(week.cost, week.quality, week.ok, None)

    assert found.recommended == ()


def test_a_new_epoch_forgets() -> None:
    decider = Decider(NAMES, "p")
    feed(decider, Week(1))
    decider.new_epoch()

    week = Week(2, n=30)
    found = decider.week(week.cost, week.quality, week.ok, week.latency)

    assert found.comparisons["a"].pairs == 30


def test_a_price_cut_counts_for_the_weeks_before_it_too() -> None:
    before, after = Week(1, cost=(0.95, 0.05)), Week(2, cost=(0.475, 0.05))
    decider = Decider(NAMES, "p")
    feed(decider, before)
    decider.reprice({"a": 0.5})

    found = decider.week(after.cost, after.quality, after.ok, after.latency)

    ratio = found.comparisons["a"].value_ratio
    assert ratio is not None
    assert ratio.point == pytest.approx(0.475, rel=0.03)


def test_scaled_evidence_is_that_of_scaled_costs() -> None:
    week = Week(1)
    plain = pair_evidence(week.cost[:, 1], week.cost[:, 0], week.quality[:, 1], week.quality[:, 0])
    dearer = pair_evidence(
        week.cost[:, 1] * 3, week.cost[:, 0] * 2, week.quality[:, 1], week.quality[:, 0]
    )

    scaled = scaled_costs(plain, 3.0, 2.0)

    np.testing.assert_allclose(scaled.mean, dearer.mean)
    np.testing.assert_allclose(scaled.cov, dearer.cov, atol=1e-18)


def test_a_hopeless_candidate_needs_no_further_block() -> None:
    decider = Decider(NAMES, "p")
    feed(decider, Week(1, quality=(0.0, 0.0), n=100))
    blocks = Week(2, n=40)

    dropped = decider.drops(blocks.cost, blocks.quality, blocks.ok, blocks_done=2)

    assert list(dropped) == ["b"]
    assert dropped["b"].startswith("cannot qualify this week")


@pytest.mark.parametrize("names", [["p", "p"], ["a", "b"]])
def test_names_that_make_no_sense_are_refused(names: list[str]) -> None:
    with pytest.raises(InvalidNumbersError):
        Decider(names, "p")


def test_arrays_of_another_shape_are_refused() -> None:
    week = Week(1)

    with pytest.raises(InvalidNumbersError, match="quality has shape"):
        Decider(NAMES, "p").week(week.cost, week.quality[:, :2], week.ok, week.latency)


def test_the_array_interface_and_a_plan_agree() -> None:
    policy = Policy(min_saving=0.2)
    week = Week(4)
    found = Decider(NAMES, "p", policy).week(week.cost, week.quality, week.ok, week.latency)

    tests = found.comparisons["a"].tests
    value = tests["value"]
    assert isinstance(value, dict)
    assert value["bar"] == pytest.approx(0.8)
    assert tests["candidates"] == 2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), unit=st.sampled_from([1e-4, 0.01, 100.0, 1e6]))
def test_the_unit_of_money_changes_nothing(seed: int, unit: float) -> None:
    effects = np.random.default_rng(seed)
    week = Week(
        seed, quality=(effects.uniform(-0.1, 0.1), -0.3), cost=(effects.uniform(0.3, 1), 0.5)
    )

    dollars = Decider(NAMES, "p").week(week.cost, week.quality, week.ok, week.latency)
    other = Decider(NAMES, "p").week(week.cost * unit, week.quality, week.ok, week.latency)

    assert other.states == dollars.states
    assert [v.kind for v in other.verdicts.values()] == [v.kind for v in dollars.verdicts.values()]
    first, second = dollars.looks["a"].result, other.looks["a"].result
    assert first is not None
    assert second is not None
    assert second.windows[0].z == pytest.approx(first.windows[0].z, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_relabelling_the_candidates_changes_nothing_but_the_labels(seed: int) -> None:
    effects = np.random.default_rng(seed)
    week = Week(
        seed, quality=tuple(effects.uniform(-0.1, 0.1, 2)), cost=tuple(effects.uniform(0.3, 1, 2))
    )
    swapped = [2, 0, 1]

    one = Decider(NAMES, "p").week(week.cost, week.quality, week.ok, week.latency)
    other = Decider(["b", "p", "a"], "p").week(
        week.cost[:, swapped], week.quality[:, swapped], week.ok[:, swapped],
        week.latency[:, swapped],
    )  # fmt: skip

    assert dict(one.states) == dict(other.states)
    assert {k: v.reasons for k, v in one.verdicts.items()} == {
        k: v.reasons for k, v in other.verdicts.items()
    }


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_cases_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    week = Week(seed, quality=(rng.uniform(-0.1, 0.1), -0.3), cost=(rng.uniform(0.3, 1), 0.5))
    order = rng.permutation(400)

    one = Decider(NAMES, "p").week(week.cost, week.quality, week.ok, week.latency)
    other = Decider(NAMES, "p").week(
        week.cost[order], week.quality[order], week.ok[order], week.latency[order]
    )

    assert one.states == other.states
    first, second = one.looks["a"].result, other.looks["a"].result
    assert first is not None
    assert second is not None
    assert second.windows[0].z == pytest.approx(first.windows[0].z, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    better=st.floats(0.0, 0.2),
    cheaper=st.floats(0.5, 1.0),
    faster=st.floats(0.5, 1.0),
)
def test_making_a_candidate_better_never_loses_it_a_recommendation(
    seed: int, better: float, cheaper: float, faster: float
) -> None:
    rng = np.random.default_rng(seed)
    plain, improved = Decider(NAMES, "p"), Decider(NAMES, "p")
    quality, cost = (rng.uniform(-0.06, 0.02), -0.3), (rng.uniform(0.5, 0.9), 0.5)
    for number in range(3):
        week = Week(seed * 3 + number, n=150, quality=quality, cost=cost)
        before = plain.week(week.cost, week.quality, week.ok, week.latency)
        # Uniformly better: every reply at least as good, every call cheaper and faster.
        week.quality[:, 1] = week.quality[:, 1] + better * (1 - week.quality[:, 1])
        week.cost[:, 1] *= cheaper
        week.latency[:, 1] *= faster
        after = improved.week(week.cost, week.quality, week.ok, week.latency)

        if "a" in before.recommended:
            assert "a" in after.recommended
