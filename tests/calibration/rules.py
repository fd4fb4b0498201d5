"""Any decision rule on weekly arrays: the interface a third party plugs into, and three rules.

A rule is made anew for each simulated year and called once per week, in order:

    rule(cost=..., quality=..., ok=..., latency=..., cluster=..., names=..., primary=...)

with arrays cost[n, M] (USD), quality[n, M] (0..1), ok[n, M], latency[n, M] (seconds) and
cluster[n] (conversation numbers). It returns the names it recommends this week instead of the
primary: none, one or several. A rule that also takes `scored[n, M]` is told which replies carry a
score; one that does not is spared the worlds in which some do not.
"""

import importlib
import inspect
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.stats.evidence import Evidence, pair_evidence
from app.stats.intervals import quality_difference
from app.stats.scan import State, TestPolicy, next_state, scan
from tests.calibration.worlds import Batch, Floats, World
from tests.calibration.years import Outcome, batches

Bools = NDArray[np.bool_]


class Rule(Protocol):
    """A decision function with whatever memory it needs."""

    def __call__(
        self,
        *,
        cost: Floats,
        quality: Floats,
        ok: Bools,
        latency: Floats,
        cluster: NDArray[np.intp],
        names: tuple[str, ...],
        primary: str,
    ) -> Collection[str]: ...


def load(path: str) -> Callable[[], Rule]:
    """Return the factory named "module:attribute"; it is called once per simulated year."""
    module, _, attribute = path.partition(":")
    factory: Callable[[], Rule] = getattr(importlib.import_module(module), attribute)
    return factory


def simulate_rule(
    make: Callable[[], Rule], world: World, *, years: int, n: int, weeks: int = 52, seed: int = 1
) -> Outcome:
    """Return the first week in which a rule recommends each candidate, 0 for never.

    The years are the very ones that `tests.calibration.years.simulate` draws for this seed. Costs
    are charged at the week's own prices; a rule that keeps earlier weeks cannot re-price them.
    """
    alerted = []
    for rng, size in batches(years, seed):
        rules = [make() for _ in range(size)]
        first = np.zeros((size, world.models - 1), dtype=np.intp)
        for week in range(weeks):
            batch = world.draw(rng, size, n, week)
            for year, rule in enumerate(rules):
                arrays = week_arrays(world, batch, year, week)
                for name in ask(rule, arrays):
                    column = arrays["names"].index(name) - 1
                    first[year, column] = first[year, column] or week + 1
        alerted.append(first)
    joined = np.concatenate(alerted)
    return Outcome(alerted=joined, resolved=np.zeros_like(joined))


def can_judge(rule: Rule, world: World) -> bool:
    """Return whether a rule can be asked about a world: unscored replies must be understood."""
    return not world.hide_worst or _takes_scores(rule)


def _takes_scores(rule: Rule) -> bool:
    parameters = inspect.signature(rule).parameters
    return "scored" in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def ask(rule: Rule, arrays: dict[str, Any]) -> Collection[str]:
    """Call a rule with the arrays it takes, and check what it answers."""
    taken = dict(arrays)
    scored = taken.pop("scored")
    if _takes_scores(rule):
        taken["scored"] = scored
    answer = rule(**taken)
    chosen = {answer} if isinstance(answer, str) else set(answer or ())
    unknown = chosen - set(arrays["names"][1:])
    if unknown:
        raise ValueError(f"the rule recommends what is no candidate: {sorted(unknown)}")
    return chosen


def week_arrays(world: World, batch: Batch, year: int, week: int) -> dict[str, Any]:
    """Return one year's week as the arrays a rule is called with."""
    n, models = batch.cost.shape[1:]
    cost = batch.cost[year].copy()
    cost[:, 1:] *= world.price_factor(week)
    everything = np.ones((n, models), dtype=bool)
    return {
        "cost": cost,
        "quality": batch.quality[year],
        "ok": everything if batch.ok is None else batch.ok[year],
        "latency": np.ones((n, models)),
        "cluster": np.arange(n) // batch.turns,
        "names": ("primary", *(f"candidate-{c}" for c in range(1, models))),
        "primary": "primary",
        "scored": everything if batch.scored is None else batch.scored[year],
    }


class Scan:
    """SCAN itself, one year at a time through `app.stats`: what the fast simulation must equal."""

    def __init__(self, policy: TestPolicy | None = None) -> None:
        self.policy = policy or TestPolicy()
        self.weeks: dict[str, list[Evidence]] = {}
        self.states: dict[str, State] = {}

    def __call__(self, **week: Any) -> Collection[str]:
        names, primary = week["names"], week["primary"]
        candidates = [name for name in names if name != primary]
        for name in candidates:
            history = self.weeks.setdefault(name, [])
            history.append(evidence_of(week, name))
            result = scan(history, self.policy, candidates=len(candidates))
            step = next_state(self.states.get(name, State.QUIET), result)
            self.states[name] = step.state
            if step.drops_history:
                del history[:-1]
        return {name for name in candidates if self.states[name] is State.ALERT}


class Naive:
    """The rule of thumb: whoever has the lowest cost per quality point this week."""

    def __call__(self, **week: Any) -> Collection[str]:
        earned = np.maximum(week["quality"].sum(axis=0), 1e-12)
        best = int((week["cost"].sum(axis=0) / earned).argmin())
        return set() if week["names"][best] == week["primary"] else {week["names"][best]}


class WeeklyTests:
    """Good tests, asked anew each week: both at 5 % one-sided, Holm over the candidates."""

    def __call__(self, **week: Any) -> Collection[str]:
        policy = TestPolicy()
        p_values = {}
        for name in week["names"][1:]:
            evidence = evidence_of(week, name)
            d = quality_difference(evidence.plain)
            spread = max(d.half_width / 1.96, 1e-12)
            p_quality = special.ndtr(-(d.point + policy.quality_margin) / spread)
            p_values[name] = float(max(p_quality, _value_p(evidence, policy)))
        chosen, tests = set(), len(p_values)
        for name, p in sorted(p_values.items(), key=lambda item: item[1]):
            if p > 0.05 / tests:
                break
            chosen.add(name)
            tests -= 1
        return chosen


def evidence_of(week: dict[str, Any], name: str) -> Evidence:
    """Return the Evidence of one candidate from a week's arrays."""
    c, p = week["names"].index(name), week["names"].index(week["primary"])
    scored = week.get("scored")
    return pair_evidence(
        week["cost"][:, c],
        week["cost"][:, p],
        week["quality"][:, c],
        week["quality"][:, p],
        ok_c=week["ok"][:, c],
        ok_p=week["ok"][:, p],
        clusters=week["cluster"],
        latency_c=week["latency"][:, c],
        latency_p=week["latency"][:, p],
        scored_c=None if scored is None else scored[:, c],
        scored_p=None if scored is None else scored[:, p],
    )


def _value_p(evidence: Evidence, policy: TestPolicy) -> float:
    mean, cov = np.array(evidence.mean), np.array(evidence.cov)
    if min(evidence.mean) <= 0:
        return 1.0
    gradient = np.array([1.0, -1.0, -1.0, 1.0]) / mean
    gap = np.log(policy.bar) - np.array([1.0, -1.0, -1.0, 1.0]) @ np.log(mean)
    return float(special.ndtr(-gap / np.sqrt(max(gradient @ cov @ gradient, 1e-300))))
