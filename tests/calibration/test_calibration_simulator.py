"""The simulator's truth is exact, and its fast path is SCAN itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from app.decision import Decider
from app.domain.results import CandidateState
from app.stats.critical_values import WINDOWS
from app.stats.evidence import Evidence
from app.stats.scan import State, TestPolicy, next_state, scan
from tests.calibration.__main__ import main
from tests.calibration.rules import (
    Naive,
    Scan,
    ask,
    can_judge,
    evidence_of,
    load,
    simulate_rule,
    week_arrays,
)
from tests.calibration.spending import SIX_MIXED, price_cut, spend
from tests.calibration.worlds import LEVELS, SCORE_SD, WORLDS, Candidate, World, thresholds
from tests.calibration.years import batches, binomial_interval, look, reduce_weeks, simulate


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_a_worlds_draws_have_the_stated_truth(name: str) -> None:
    world = WORLDS[name]
    rng = np.random.default_rng(5)
    week = 20
    batch = world.draw(rng, 400, 200, week)
    cost = batch.cost.copy()
    cost[..., 1:] *= world.price_factor(week)
    truth = world.truth(week)
    for c in range(1, world.models):
        gap = (batch.quality[..., c] - batch.quality[..., 0]).mean(axis=1)
        error = gap.std() / np.sqrt(400)
        assert abs(gap.mean() - truth.difference[c - 1]) < 5 * error + 1e-9
        bill = (
            cost[..., c] * world.primary.quality / max(1e-9, batch.quality[..., 0].mean())
        ).mean(axis=1)
        ratio = (cost[..., c].mean() / batch.quality[..., c].mean()) / (
            cost[..., 0].mean() / batch.quality[..., 0].mean()
        )
        spread = bill.std() / bill.mean() / np.sqrt(400)
        if world.wander == 0:
            assert ratio == pytest.approx(truth.ratio[c - 1], rel=max(0.02, 8 * spread))


def test_the_default_world_varies_as_production_does() -> None:
    batch = WORLDS["twins"].draw(np.random.default_rng(1), 400, 500, 0)
    first, second = batch.quality[..., 0], batch.quality[..., 1]
    psi = batch.cost[..., 1] - batch.cost[..., 0] - (second - first) / 0.75
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(0.55, abs=0.01)
    assert (second - first).std() == pytest.approx(0.236, abs=0.003)
    assert psi.std() == pytest.approx(1.03, abs=0.05)


@pytest.mark.parametrize("mean", [0.33, 0.55, 0.75, 0.91])
def test_score_levels_have_exactly_the_stated_mean_and_spread(mean: float) -> None:
    cuts = (-np.inf, *thresholds(mean), np.inf)
    shares = np.diff(norm.cdf(cuts))
    assert shares @ LEVELS == pytest.approx(mean, abs=1e-9)
    assert shares @ LEVELS**2 - mean**2 == pytest.approx(SCORE_SD**2, abs=1e-9)


def test_nulls_qualify_nobody_and_the_others_somebody() -> None:
    for world in WORLDS.values():
        qualified = any(any(world.truth(week).qualifies()) for week in (0, 30))
        assert qualified is not world.is_null


@pytest.mark.parametrize(
    ("name", "n", "years"),
    [
        ("margin-of-four", 40, 2),
        ("clustered", 48, 2),
        ("binary-clustered", 48, 2),
        ("worst-unscored-binary", 50, 2),
        ("dear-tail-bar", 40, 3),
        ("cheaper-equal", 50, 4),
        ("degradation", 50, 4),
    ],
)
def test_the_fast_path_alerts_in_the_very_weeks_that_scan_does(
    name: str, n: int, years: int
) -> None:
    world = WORLDS[name]
    fast = simulate(world, years=years, n=n, weeks=20)
    slow = simulate_rule(Scan, world, years=years, n=n, weeks=20)
    assert np.array_equal(fast.alerted, slow.alerted)


def test_the_fast_path_finds_the_z_that_scan_does() -> None:
    world = WORLDS["worst-unscored-binary"]
    policy = TestPolicy()
    (rng, _), (again, _) = next(batches(1, 3)), next(batches(1, 3))
    looks = look(reduce_weeks(world, rng, years=1, n=60, weeks=13), policy)
    history = []
    for week in range(13):
        arrays = week_arrays(world, world.draw(again, 1, 60, week), 0, week)
        history.append(evidence_of(arrays, "candidate-1"))
        result = scan(history, policy, candidates=1)
        for window in result.windows:
            at = WINDOWS.index(window.weeks)
            assert looks.z[at, 0, week, 0] == pytest.approx(
                window.z if window.is_enough else -np.inf, abs=1e-9
            )
            assert looks.plain_z[at, 0, week, 0] == pytest.approx(window.plain_z, abs=1e-9)
        assert looks.success_z[0, week, 0] == pytest.approx(result.success_z)
        assert looks.points_pass[0, week, 0] == (result.points and result.points.pass_policy)


def test_the_fast_path_resolves_in_the_very_week_that_scan_does() -> None:
    world = WORLDS["degradation"]
    fast = simulate(world, years=4, n=50, weeks=20, states=True)
    rng, _ = next(batches(4, 1))
    histories: list[list[Evidence]] = [[] for _ in range(4)]
    states = [State.QUIET] * 4
    resolved = np.zeros(4, dtype=int)
    for week in range(20):
        batch = world.draw(rng, 4, 50, week)
        for year in range(4):
            histories[year].append(
                evidence_of(week_arrays(world, batch, year, week), "candidate-1")
            )
            step = next_state(states[year], scan(histories[year], TestPolicy(), candidates=1))
            states[year] = step.state
            if step.state is State.RESOLVED and not resolved[year]:
                resolved[year] = week + 1
    assert np.array_equal(fast.resolved[:, 0], resolved)


def test_the_seed_alone_decides_the_years() -> None:
    first = simulate(WORLDS["cheaper-equal"], years=5, n=50, weeks=10, seed=4)
    again = simulate(WORLDS["cheaper-equal"], years=5, n=50, weeks=10, seed=4)
    other = simulate(WORLDS["cheaper-equal"], years=5, n=50, weeks=10, seed=5)
    assert np.array_equal(first.alerted, again.alerted)
    assert not np.array_equal(first.alerted, other.alerted)


def test_a_third_partys_rule_sees_arrays_and_names_models() -> None:
    seen: dict[str, Any] = {}

    def rule(
        cost: np.ndarray,
        quality: np.ndarray,
        ok: np.ndarray,
        latency: np.ndarray,
        cluster: np.ndarray,
        names: tuple[str, ...],
        primary: str,
    ) -> str:
        seen.update(shapes=(cost.shape, quality.shape, ok.shape, latency.shape, cluster.shape))
        assert primary == names[0]
        return names[2]

    outcome = simulate_rule(
        lambda: rule,
        WORLDS["margin-of-four"],
        years=2,
        n=30,
        weeks=2,
    )
    assert seen["shapes"] == ((30, 5),) * 4 + ((30,),)
    assert outcome.alerted.tolist() == [[0, 1, 0, 0]] * 2


def test_a_rule_that_names_no_candidate_is_told_so() -> None:
    batch = WORLDS["twins"].draw(np.random.default_rng(0), 1, 20, 0)
    arrays = week_arrays(WORLDS["twins"], batch, 0, 0)

    def absurd(**_: object) -> str:
        return "primary"

    with pytest.raises(ValueError, match="no candidate"):
        ask(absurd, arrays)


def test_a_rule_unaware_of_scores_is_spared_the_worlds_that_hide_some() -> None:
    def rule(cost: object, quality: object) -> set[str]:
        return set()

    assert not can_judge(rule, WORLDS["worst-unscored"])  # type: ignore[arg-type]
    assert can_judge(rule, WORLDS["twins"])  # type: ignore[arg-type]
    assert can_judge(Scan(), WORLDS["worst-unscored"])


def test_the_rule_of_thumb_recommends_the_terrible_cheap_model_every_year() -> None:
    outcome = simulate_rule(Naive, WORLDS["cheap-bad"], years=3, n=50, weeks=2)
    assert (outcome.alerted[:, 0] == 1).all()


def test_a_price_cut_reprices_what_is_stored() -> None:
    outcome = simulate(WORLDS["price-cut"], years=20, n=100, weeks=20)
    assert (outcome.alerted[:, 0] >= 13).all()
    assert np.median(outcome.alerted[:, 0]) <= 14


def test_adaptive_spending_pays_for_fewer_calls() -> None:
    full = spend(SIX_MIXED, years=10, n=60, weeks=8, is_adaptive=False)
    lean = spend(SIX_MIXED, years=10, n=60, weeks=8)
    assert full.calls == 1.0
    assert lean.calls < 0.8


def test_with_anchors_the_primary_answers_what_all_candidates_sit_out() -> None:
    hopeless = WORLDS["cheap-bad"]
    with_anchors = spend(hopeless, years=4, n=60, weeks=6)
    without = spend(hopeless, years=4, n=60, weeks=6, has_anchors=False)
    assert np.array_equal(with_anchors.used, without.used)
    assert with_anchors.calls == 0.5 + with_anchors.used.mean() / 60 / 2
    assert without.calls == without.used.mean() / 60


def falls_in(first: int) -> Callable[[int, Candidate], Candidate]:
    return lambda week, c: c if week < first else replace(c, quality=c.quality - 0.2)


@pytest.mark.parametrize(
    ("world", "n", "weeks"),
    [
        (SIX_MIXED, 60, 16),
        (replace(WORLDS["degradation"], change=falls_in(7)), 100, 14),
        (price_cut(6), 60, 14),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_adaptive_spending_is_simulated_as_the_decider_does_it(
    world: World, n: int, weeks: int
) -> None:
    fast = spend(world, years=2, n=n, weeks=weeks)
    rng, _ = next(batches(2, 1))
    deciders = [Decider(names_of(world), "primary") for _ in range(2)]
    alerted = np.zeros_like(fast.alerted)
    for week in range(weeks):
        batch = world.draw(rng, 2, n, week)
        for year, decider in enumerate(deciders):
            arrays = week_arrays(world, batch, year, week)
            if week:
                factor = world.price_factor(week) / world.price_factor(week - 1)
                decider.reprice(dict.fromkeys(names_of(world)[1:], factor))
            used = replay_adaptively(decider, arrays)
            assert used == fast.used[year, week].tolist()
            found = decider.states
            for column, name in enumerate(names_of(world)[1:]):
                is_first = found[name] is CandidateState.ALERT and not alerted[year, column]
                alerted[year, column] += (week + 1) * is_first
    assert np.array_equal(alerted, fast.alerted)
    assert fast.used.min() < n


def names_of(world: World) -> list[str]:
    return ["primary", *(f"candidate-{c}" for c in range(1, world.models))]


def replay_adaptively(decider: Decider, arrays: dict[str, Any]) -> list[int]:
    """Run a week block by block as the app does, and return the Cases of each candidate."""
    n, models = arrays["cost"].shape
    used = dict.fromkeys(arrays["names"][1:], n)
    cost = arrays["cost"].copy()
    for done, end in enumerate(range(20, n, 20), start=1):
        table = (cost[:end], arrays["quality"][:end], arrays["ok"][:end])
        for name in decider.drops(*table, blocks_done=done, full_week=n):
            used[name] = min(used[name], end)
            cost[used[name] :, arrays["names"].index(name)] = np.nan
    decider.week(cost, arrays["quality"], arrays["ok"], np.ones((n, models)))
    return [used[name] for name in arrays["names"][1:]]


def test_a_simulated_rate_has_its_exact_interval() -> None:
    exact = binomtest(7, 100).proportion_ci(method="exact")
    assert binomial_interval(7, 100) == pytest.approx((exact.low, exact.high))
    assert binomial_interval(0, 100)[0] == 0.0
    assert binomial_interval(100, 100)[1] == 1.0


def test_a_rule_is_loaded_by_its_name() -> None:
    assert load("tests.calibration.rules:Naive") is Naive


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert "cost[n, M]" in told
    assert "--decide" in told


def test_the_command_prints_a_table_and_judges_a_given_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "rules --worlds twins --n 20 --power-years 2 --decide tests.calibration.rules:Naive"
    assert main(words.split()) == 0
    table = capsys.readouterr().out
    assert "| twins |" in table
    assert "tests.calibration.rules:Naive" in table


def test_the_command_lists_its_worlds_and_refuses_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list"]) == 0
    assert "margin-of-four" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--worlds", "utopia"])
