"""The array interface: feed weeks of plain arrays, get states and verdicts, without a database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from app.decision.adaptive import BlockEvidence, drop_reasons
from app.decision.comparisons import Setting, comparison_of
from app.decision.looks import Look, Rules, look_at, rules_of
from app.decision.verdicts import verdict_of
from app.domain.plans import Policy
from app.domain.results import CandidateState, Comparison, Verdict
from app.stats.arrays import FloatArray, InvalidNumbersError, Labels, NotEnoughDataError, shares
from app.stats.critical_values import WINDOWS
from app.stats.evidence import Evidence, pair_evidence
from app.stats.rectifier import Rectifier


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayDecision:
    """What one week of arrays led to, per candidate.

    Attributes:
        looks: The look at each candidate by name.
    """

    primary: str
    rules: Rules
    looks: Mapping[str, Look]

    @property
    def states(self) -> Mapping[str, CandidateState]:
        """Where each candidate stands after this week."""
        return {name: look.state for name, look in self.looks.items()}

    @property
    def recommended(self) -> tuple[str, ...]:
        """Candidates in state alert, in the order of the columns."""
        return tuple(
            name for name, look in self.looks.items() if look.state is CandidateState.ALERT
        )

    @property
    def verdicts(self) -> Mapping[str, Verdict]:
        """What is said of each candidate."""
        return {name: verdict_of(look, self.rules) for name, look in self.looks.items()}

    @property
    def comparisons(self) -> Mapping[str, Comparison]:
        """Every figure and test of each candidate."""
        return {
            name: comparison_of(name, self.primary, look, self.rules, Setting())
            for name, look in self.looks.items()
        }


class Decider:
    """The decision rule over weeks, for models given as columns of arrays.

    Args:
        names: Name of each column.
        primary: The column that the others are compared with.
        policy: Margins and budget (default: those of a plan that names none).
        bias_allowance: Subtracted from the candidates' quality in both tests.
        rectifiers: Correction from human labels per candidate.

    >>> rng = np.random.default_rng(7)
    >>> decider = Decider(["big", "small"], primary="big")
    >>> for _ in range(4):
    ...     quality = rng.choice([0.75, 1.0], size=(100, 1)) * np.ones((1, 2))
    ...     cost = rng.gamma(4.0, 0.002, size=(100, 2)) * [1.0, 0.5]
    ...     week = decider.week(cost, quality, quality > 0, np.ones((100, 2)))
    >>> week.states["small"].value
    'alert'
    """

    def __init__(
        self,
        names: Sequence[str],
        primary: str,
        policy: Policy | None = None,
        *,
        bias_allowance: float = 0.0,
        rectifiers: Mapping[str, Rectifier] | None = None,
    ) -> None:
        if len(set(names)) != len(names) or primary not in names:
            raise InvalidNumbersError("names must be distinct and the primary among them")
        self._names = tuple(names)
        self._primary = primary
        self._candidates = tuple(name for name in names if name != primary)
        self._rules = rules_of(
            policy or Policy(),
            candidates=max(len(self._candidates), 1),
            bias_allowance=bias_allowance,
        )
        self._rectifiers = dict(rectifiers or {})
        self._held: dict[str, list[Evidence]] = {name: [] for name in self._candidates}
        self._states = dict.fromkeys(self._candidates, CandidateState.QUIET)

    @property
    def states(self) -> Mapping[str, CandidateState]:
        """Where each candidate stands."""
        return dict(self._states)

    def week(  # noqa: PLR0913 -- one keyword per column of the table
        self,
        cost: ArrayLike,
        quality: ArrayLike,
        ok: ArrayLike,
        latency: ArrayLike | None,
        cluster: Labels | None = None,
        *,
        weights: ArrayLike | None = None,
        strata: Labels | None = None,
        outage: ArrayLike | None = None,
    ) -> ArrayDecision:
        """Look once at every candidate on this week's Cases and move its state.

        Args:
            cost: USD, shape (n, M); NaN where a model was not run on a Case.
            quality: 0..1, shape (n, M); NaN where a successful reply carries no score.
            ok: Whether the response is successful, shape (n, M); a failure counts as quality 0.
            latency: Seconds of successful responses, shape (n, M); without it p95 is unknown and
                no switch is recommended.
            cluster: Conversation of each Case, length n (default: each its own).
            weights: Share of traffic of each Case, length n (default: equal).
            strata: Stratum of each Case, length n (default: one).
            outage: Whether the call ended in an exhausted transient failure, shape (n, M).

        Raises:
            InvalidNumbersError: If shapes differ or a number is impossible.
        """
        table = _Table.of(self._names, cost, quality, ok, latency, outage)
        looks = {}
        for name in self._candidates:
            this_week, reason = table.evidence(name, self._primary, cluster, weights, strata)
            look = look_at(
                self._held[name],
                this_week,
                self._states[name],
                self._rules,
                rectifier=self._rectifiers.get(name),
                unmeasured=reason,
            )
            self._remember(name, look)
            looks[name] = look
        return ArrayDecision(primary=self._primary, rules=self._rules, looks=looks)

    def drops(  # noqa: PLR0913 -- as `week`
        self,
        cost: ArrayLike,
        quality: ArrayLike,
        ok: ArrayLike,
        cluster: Labels | None = None,
        *,
        blocks_done: int,
        full_week: int | None = None,
        weights: ArrayLike | None = None,
        strata: Labels | None = None,
    ) -> dict[str, str]:
        """Say which candidates need no further block this week, each with the reason.

        Args:
            cost: As in `week`, of the Cases of the blocks done so far; so are the other arrays.
            quality: As in `week`.
            ok: As in `week`.
            cluster: As in `week`.
            blocks_done: Blocks of 20 Cases that the remaining candidates were run on.
            full_week: Cases of a week without drops (default: those of the largest week seen).
            weights: As in `week`.
            strata: As in `week`.
        """
        table = _Table.of(self._names, cost, quality, ok, None, None)
        known = {
            name: BlockEvidence(
                so_far=table.evidence(name, self._primary, cluster, weights, strata)[0],
                held=self._held[name],
                state=self._states[name],
                rectifier=self._rectifiers.get(name),
                full_week=full_week,
            )
            for name in self._candidates
        }
        return drop_reasons(known, self._rules, blocks_done=blocks_done)

    def new_epoch(self) -> None:
        """Forget all evidence and states: a model, judge, rubric or the policy has changed."""
        self._held = {name: [] for name in self._candidates}
        self._states = dict.fromkeys(self._candidates, CandidateState.QUIET)

    def reprice(self, factors: Mapping[str, float]) -> None:
        """Multiply all held costs of a model: its price changed, its usage did not.

        Args:
            factors: New price over old price by model name.
        """
        ours = factors.get(self._primary, 1.0)
        self._held = {
            name: [scaled_costs(week, factors.get(name, 1.0), ours) for week in held]
            for name, held in self._held.items()
        }

    def _remember(self, name: str, look: Look) -> None:
        self._states[name] = look.state
        weeks = list(look.weeks)[-1:] if look.drops_history else list(look.weeks)
        self._held[name] = weeks[-max(WINDOWS) :]


def scaled_costs(week: Evidence, candidate: float, primary: float) -> Evidence:
    """Return evidence as it would be if all costs of a side were so many times as high."""
    return week.repriced(candidate, primary)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """One week's arrays, one column per model."""

    names: tuple[str, ...]
    cost: FloatArray
    quality: FloatArray
    ok: FloatArray
    latency: FloatArray | None
    outage: FloatArray

    @classmethod
    def of(
        cls,
        names: tuple[str, ...],
        cost: ArrayLike,
        quality: ArrayLike,
        ok: ArrayLike,
        latency: ArrayLike | None,
        outage: ArrayLike | None,
    ) -> "_Table":
        costs = np.asarray(cost, dtype=np.float64)
        none = np.zeros(costs.shape)
        table = cls(
            names=names,
            cost=costs,
            quality=np.asarray(quality, dtype=np.float64),
            ok=np.asarray(ok, dtype=np.float64),
            latency=None if latency is None else np.asarray(latency, dtype=np.float64),
            outage=none if outage is None else np.asarray(outage, dtype=np.float64),
        )
        for name, array in (
            ("cost", table.cost),
            ("quality", table.quality),
            ("ok", table.ok),
            ("outage", table.outage),
            ("latency", table.cost if table.latency is None else table.latency),
        ):
            if array.ndim != 2 or array.shape != (len(costs), len(names)):
                raise InvalidNumbersError(
                    f"{name} has shape {array.shape} where ({len(costs)}, {len(names)}) is expected"
                )
        return table

    def evidence(
        self,
        candidate: str,
        primary: str,
        cluster: Labels | None,
        weights: ArrayLike | None,
        strata: Labels | None,
    ) -> tuple[Evidence | None, str | None]:
        """Return a candidate's evidence, or the reason why there is none."""
        c, p = self.names.index(candidate), self.names.index(primary)
        both = np.isfinite(self.cost[:, c]) & np.isfinite(self.cost[:, p])
        lost = self.outage[both][:, (c, p)] > 0
        rows = np.flatnonzero(both & (self.outage[:, p] <= 0))
        ok = self.ok[rows] > 0
        scored = np.isfinite(self.quality[rows])
        quality = np.where(scored, self.quality[rows], 0.0)
        latency = None if self.latency is None else self.latency[rows]
        try:
            evidence = pair_evidence(
                self.cost[rows, c],
                self.cost[rows, p],
                quality[:, c],
                quality[:, p],
                ok_c=ok[:, c],
                ok_p=ok[:, p],
                weights=None if weights is None else np.asarray(weights)[rows],
                clusters=_taken(cluster, rows),
                strata=_taken(strata, rows),
                scored_c=scored[:, c],
                scored_p=scored[:, p],
                latency_c=None if latency is None else latency[:, c],
                latency_p=None if latency is None else latency[:, p],
            )
        except NotEnoughDataError as error:
            return None, str(error)
        asked = shares(None if weights is None else np.asarray(weights)[both], length=len(lost))
        share_c, share_p = np.minimum(asked @ lost, 1.0).tolist()
        return replace(evidence, outage_c=share_c, outage_p=share_p), None


def _taken(labels: Labels | None, rows: np.ndarray) -> Labels | None:
    return None if labels is None else [labels[row] for row in rows]
