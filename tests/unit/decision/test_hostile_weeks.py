"""Weeks that nobody would wish for: whatever the arrays, a true answer, an open one or a reason."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.decision import Decider
from app.decision.decider import ArrayDecision
from app.domain.plans import Policy
from app.domain.results import CandidateState, VerdictKind

NAMES = ["p", "a", "b"]
NO_FIGURE = re.compile(r"\b(nan|inf|None)\b|[−-]0\.00\b|\d{12}")


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """One week as the array interface takes it."""

    cost: np.ndarray
    quality: np.ndarray
    ok: np.ndarray
    latency: np.ndarray | None
    cluster: list[str] | None
    weights: np.ndarray | None
    strata: list[int] | None
    outage: np.ndarray | None

    def tell(self, decider: Decider) -> ArrayDecision:
        return decider.week(
            self.cost, self.quality, self.ok, self.latency, self.cluster,
            weights=self.weights, strata=self.strata, outage=self.outage,
        )  # fmt: skip

    def rows(self, order: np.ndarray) -> "Arrays":
        def taken(values: Any) -> Any:
            if isinstance(values, list):
                return [values[row] for row in order]
            return None if values is None else values[order]

        return replace(self, **{f.name: taken(getattr(self, f.name)) for f in fields(self)})

    def columns(self, order: list[int]) -> "Arrays":
        tables = ("cost", "quality", "ok", "latency", "outage")
        return replace(
            self,
            **{
                name: table[:, order]
                for name in tables
                if (table := getattr(self, name)) is not None
            },
        )


SIZES = (0, 1, 2, 3, 10, 12, 30, 100, 100, 150, 300)

QUALITIES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "all tie at 1": lambda rng, n: np.ones((n, 3)),
    "all tie at 0": lambda rng, n: np.zeros((n, 3)),
    "tie with the primary": lambda rng, n: np.repeat(rng.random((n, 1)), 3, axis=1),
    "right or wrong": lambda rng, n: (rng.random((n, 3)) < rng.uniform(0.5, 1, 3)).astype(float),
    "five levels": lambda rng, n: rng.choice([0, 0.25, 0.5, 0.75, 1.0], size=(n, 3)),
    "next to nothing": lambda rng, n: rng.random((n, 3)) * 10.0 ** -rng.integers(0, 30, 3),
    "one model earns nothing": lambda rng, n: np.ones((n, 3)) * (np.arange(3) != rng.integers(3)),
    "one reply earns anything": lambda rng, n: np.eye(max(n, 1), 1) * np.ones((1, 3)),
    "as usual": lambda rng, n: np.clip(
        rng.normal(0.75, 0.2, (n, 1)) + rng.normal(0, 0.1, (n, 3)), 0, 1
    ),
}
COSTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "all free": lambda rng, n: np.zeros((n, 3)),
    "one model free": lambda rng, n: np.full((n, 3), 0.01) * (np.arange(3) != rng.integers(3)),
    "constant": lambda rng, n: np.full((n, 3), 10.0 ** rng.uniform(-12, 6)),
    "no mean to speak of": lambda rng, n: 1e-6 * (1 + rng.pareto(1.1, (n, 3))),
    "eighteen decades apart": lambda rng, n: rng.random((n, 3)) * 10.0 ** rng.uniform(-12, 6, 3),
    "mostly free": lambda rng, n: np.where(rng.random((n, 3)) < 0.02, 1.0, 0.0),
    "as usual": lambda rng, n: 0.01 * rng.lognormal(0, 0.5, (n, 3)) * [1.0, 0.4, 0.9],
}
CLUSTERS: dict[str, Callable[[np.random.Generator, int], list[str] | None]] = {
    "none known": lambda rng, n: None,
    "one": lambda rng, n: ["same"] * n,
    "two": lambda rng, n: [f"c{i % 2}" for i in range(n)],
    "of four": lambda rng, n: [f"c{i // 4}" for i in range(n)],
    "one long, the rest single": lambda rng, n: [f"c{max(i - n // 2, 0)}" for i in range(n)],
}
WEIGHTS: dict[str, Callable[[np.random.Generator, int], np.ndarray | None]] = {
    "none": lambda rng, n: None,
    "one row is nearly all": lambda rng, n: np.where(np.arange(n) == 0, 1.0, 1e-9),
    "nine decades": lambda rng, n: 10.0 ** rng.uniform(-6, 3, n),
    "mild": lambda rng, n: rng.uniform(0.5, 2.0, n),
}


def arrays(rng: np.random.Generator, kinds: Mapping[str, str], n: int) -> Arrays:
    quality = QUALITIES[kinds["quality"]](rng, n)
    cost = COSTS[kinds["cost"]](rng, n)
    ok = np.ones((n, 3), dtype=bool)
    outage = latency = strata = None
    if rng.random() < 0.3:
        ok = rng.random((n, 3)) < rng.choice([0.0, 0.5, 0.97])
    if rng.random() < 0.2:
        outage = rng.random((n, 3)) < rng.choice([0.02, 0.3, 1.0])
    if rng.random() < 0.2:
        quality = np.where(rng.random((n, 3)) < rng.choice([0.01, 0.1, 1.0]), np.nan, quality)
    if rng.random() < 0.2:
        cost = np.where(rng.random((n, 3)) < rng.choice([0.1, 0.9]), np.nan, cost)
    if rng.random() < 0.8:
        latency = np.full((n, 3), rng.choice([0.0, 1e-9, 1.0])) * rng.lognormal(0, 0.3, (n, 3))
    if rng.random() < 0.3:
        strata = rng.integers(0, 5, n).tolist()
    return Arrays(
        cost=cost,
        quality=quality[:n],
        ok=ok,
        latency=latency,
        cluster=CLUSTERS[kinds["cluster"]](rng, n),
        weights=WEIGHTS[kinds["weights"]](rng, n),
        strata=strata,
        outage=outage,
    )


kinds_of_weeks = st.fixed_dictionaries(
    {
        "quality": st.sampled_from(sorted(QUALITIES)),
        "cost": st.sampled_from(sorted(COSTS)),
        "cluster": st.sampled_from(sorted(CLUSTERS)),
        "weights": st.sampled_from(sorted(WEIGHTS)),
    }
)


@dataclass(frozen=True, kw_only=True)
class Odd:
    """Some weeks of one kind, drawn when asked for."""

    seed: int
    kinds: Mapping[str, str]
    sizes: tuple[int, ...]

    def weeks(self) -> list[Arrays]:
        return [
            arrays(np.random.default_rng([self.seed, week]), self.kinds, n)
            for week, n in enumerate(self.sizes)
        ]


odd_weeks = st.builds(
    Odd,
    seed=st.integers(0, 2**32 - 1),
    kinds=kinds_of_weeks,
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=6).map(tuple),
)


def oddities(told: object, path: str = "") -> Iterator[str]:
    """Every figure that is not finite and every text that shows one, with where it is."""
    if isinstance(told, float):
        if not math.isfinite(told):
            yield f"{path}: {told}"
    elif isinstance(told, str):
        if NO_FIGURE.search(told):
            yield f"{path}: {told}"
    elif isinstance(told, Mapping):
        for key, value in told.items():
            yield from oddities(value, f"{path}[{key}]")
    elif isinstance(told, list | tuple):
        for index, value in enumerate(told):
            yield from oddities(value, f"{path}[{index}]")
    elif is_dataclass(told):
        for part in fields(told):
            yield from oddities(getattr(told, part.name), f"{path}.{part.name}")


@settings(max_examples=40, deadline=None)
@given(odd=odd_weeks, allowance=st.sampled_from([0.0, 0.02, 1.0]), rise=st.floats(-3, 3))
def test_no_week_whatever_it_holds_leads_to_a_crash_or_to_what_is_no_figure(
    odd: Odd, allowance: float, rise: float
) -> None:
    decider = Decider(NAMES, "p", bias_allowance=allowance)
    for week in odd.weeks():
        first = week.rows(np.arange(min(20, len(week.cost))))
        dropped = decider.drops(
            first.cost, first.quality, first.ok, first.cluster, blocks_done=1,
            weights=first.weights, strata=first.strata,
        )  # fmt: skip
        before = decider.states
        decided = week.tell(decider)
        for name, comparison in decided.comparisons.items():
            assert list(oddities(comparison)) == []
            assert list(oddities(decided.looks[name])) == []
            json.dumps(comparison.tests, allow_nan=False)
            result = decided.looks[name].result
            if decided.states[name] is CandidateState.ALERT is not before[name]:
                assert result is not None
                assert result.is_hit
                assert comparison.pairs >= 100
        assert list(oddities(dropped)) == []
        decider.reprice({"a": 10.0**rise})


@pytest.mark.parametrize(
    ("kinds", "n"),
    [
        ({"cluster": "one"}, 300),
        ({"cluster": "two"}, 300),
        ({"weights": "one row is nearly all"}, 300),
        ({}, 3),
        ({}, 0),
    ],
    ids=str,
)
def test_weeks_of_too_few_independent_pairs_are_unmeasured(kinds: dict[str, str], n: int) -> None:
    usual = {"quality": "as usual", "cost": "as usual", "cluster": "none known", "weights": "none"}
    decider = Decider(NAMES, "p")
    for week in range(6):
        rng = np.random.default_rng([5, week])
        table = replace(
            arrays(rng, usual | kinds, n), ok=np.ones((n, 3), dtype=bool), outage=None
        )  # only what is in question may stand in the way
        table = replace(table, cost=np.nan_to_num(table.cost, nan=0.01))
        decided = table.tell(decider)
    assert {v.kind for v in decided.verdicts.values()} == {VerdictKind.UNMEASURED}


def usual_week(
    seed: int, *, quality: float = 0.0, cost: float = 0.5, n: int = 200, failing: float = 0.005
) -> Arrays:
    """Return a week with conversations, weights, ties, failures and unscored replies."""
    rng = np.random.default_rng([seed, n])
    base = rng.choice([0.5, 0.75, 1.0], size=(n, 1), p=[0.1, 0.3, 0.6])
    noise = 0.25 * rng.choice([-1, 0, 1], size=(n, 3), p=[0.05, 0.9, 0.05])
    scores = np.clip(base + noise + [0.0, quality, -0.2], 0, 1)
    scores[rng.random((n, 3)) < 0.005] = np.nan
    return Arrays(
        cost=0.01 * rng.lognormal(0, 0.5, (n, 1)) * rng.lognormal(0, 0.2, (n, 3)) * [1, cost, 0.3],
        quality=scores,
        ok=rng.random((n, 3)) >= [0.01, failing, 0.02],
        latency=rng.lognormal(0, 0.2, (n, 3)),
        cluster=[f"c{c}" for c in rng.integers(0, n, n)],
        weights=rng.integers(1, 4, n).astype(float),
        strata=rng.integers(0, 3, n).tolist(),
        outage=None,
    )


@dataclass(frozen=True, kw_only=True)
class Usual:
    """Some weeks like those of a plan, drawn when asked for."""

    seed: int
    quality: float
    cost: float
    count: int

    def weeks(self) -> list[Arrays]:
        return [
            usual_week(1000 * self.seed + week, quality=self.quality, cost=self.cost)
            for week in range(self.count)
        ]


usual_weeks = st.builds(
    Usual,
    seed=st.integers(0, 10**6),
    quality=st.floats(-0.05, 0.1),
    cost=st.floats(0.2, 0.8),
    count=st.integers(2, 6),
)


def verdicts(decided: ArrayDecision) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {name: (v.kind, v.reasons) for name, v in sorted(decided.verdicts.items())}


@settings(max_examples=25, deadline=None)
@given(usual=usual_weeks, seed=st.integers(0, 10**6))
def test_the_order_of_cases_changes_nothing_over_weeks(usual: Usual, seed: int) -> None:
    one, other = Decider(NAMES, "p"), Decider(NAMES, "p")
    for week in usual.weeks():
        order = np.random.default_rng(seed).permutation(len(week.cost))
        assert verdicts(week.tell(one)) == verdicts(week.rows(order).tell(other))


@settings(max_examples=25, deadline=None)
@given(usual=usual_weeks)
def test_relabelling_the_candidates_changes_nothing_over_weeks(usual: Usual) -> None:
    one, other = Decider(NAMES, "p"), Decider(["a", "p", "b"], "p")
    renamed = {"a": "b", "b": "a"}
    for week in usual.weeks():
        expected = verdicts(week.tell(one))
        found = verdicts(week.columns([2, 0, 1]).tell(other))
        assert {renamed[name]: verdict for name, verdict in found.items()} == expected


@settings(max_examples=25, deadline=None)
@given(usual=usual_weeks, unit=st.sampled_from([1e-6, 0.92, 150.0, 1e6]))
def test_the_unit_of_money_changes_nothing_over_weeks(usual: Usual, unit: float) -> None:
    one, other = Decider(NAMES, "p"), Decider(NAMES, "p")
    for week in usual.weeks():
        expected = week.tell(one)
        found = replace(week, cost=week.cost * unit).tell(other)
        assert found.states == expected.states
        assert verdicts(found) == verdicts(expected)


@settings(max_examples=25, deadline=None)
@given(usual=usual_weeks, alphas=st.tuples(st.floats(0.001, 0.4), st.floats(0.001, 0.4)))
def test_a_smaller_budget_of_false_alerts_never_finds_more(
    usual: Usual, alphas: tuple[float, float]
) -> None:
    strict, lax = (
        Decider(NAMES, "p", Policy(false_alerts_per_year=alpha)) for alpha in sorted(alphas)
    )
    for week in usual.weeks():
        few, many = week.tell(strict), week.tell(lax)
        for name in ("a", "b"):
            first, second = few.looks[name].result, many.looks[name].result
            assert first is not None
            assert second is not None
            assert second.is_hit >= first.is_hit


@settings(max_examples=25, deadline=None)
@given(
    usual=usual_weeks,
    better=st.floats(0.0, 0.1),
    cheaper=st.floats(0.3, 1.0),
    mended=st.floats(0.0, 1.0),
)
def test_a_candidate_better_in_every_way_keeps_its_recommendation_over_weeks(
    usual: Usual, better: float, cheaper: float, mended: float
) -> None:
    plain, improved = Decider(NAMES, "p"), Decider(NAMES, "p")
    for week in usual.weeks():
        quality, cost, ok = week.quality.copy(), week.cost.copy(), week.ok.copy()
        quality[:, 1] += better * (1 - quality[:, 1])
        cost[:, 1] *= cheaper
        rng = np.random.default_rng(7)
        ok[:, 1] |= rng.random(len(ok)) < mended
        before = week.tell(plain)
        after = replace(week, quality=quality, cost=cost, ok=ok).tell(improved)
        if "a" in before.recommended:
            assert "a" in after.recommended


def test_the_weeks_of_these_properties_do_lead_to_recommendations() -> None:
    found = []
    for seed in range(10):
        decider = Decider(NAMES, "p")
        for week in range(4):
            decided = usual_week(1000 * seed + week, quality=0.05, cost=0.5).tell(decider)
        found.append("a" in decided.recommended)
    assert sum(found) >= 5
