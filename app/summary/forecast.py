"""Forecasts: what a Run would cost and what it could show, before anything is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

from app.domain.cases import Sample
from app.domain.plans import Plan, Policy
from app.domain.prices import Price
from app.domain.wording import count, percent, signed
from app.stats.critical_values import WINDOWS
from app.stats.evidence import Evidence
from app.stats.planning import (
    Spread,
    design_effect,
    detectable_difference,
    detectable_ratio,
    pairs_needed,
    spread_of_history,
)
from app.stats.scan import BLOCK_CASES, TestPolicy
from app.summary.run_costs import (
    MEASURED_RANGE,
    NOTHING,
    UNLOGGED_OUTPUT_TOKENS,
    CostRange,
    RunCosts,
)
from app.summary.summaries import replies_needed
from app.summary.track_record import TrackRecord

ASSUMED_ICC = 0.5
"""Correlation of Cases of one conversation until the plan's own history tells."""

EFFECTS = ((0.0, 0.7), (0.0, 0.5), (-0.02, 0.5), (0.05, 0.58))
"""(difference of quality, value ratio) of the candidates that weeks are forecast for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeksToDecision:
    """How long a candidate with this true effect takes to be found.

    Attributes:
        difference: True D.
        ratio: True R.
        pairs: Pairs that find it with an even chance, None when none can.
        likely_pairs: The same for a chance of four in five.
        median_weeks: Weeks that hold them, None when the longest window is too short.
        likely_weeks: The same for a chance of four in five.
    """

    difference: float
    ratio: float
    pairs: int | None
    likely_pairs: int | None
    median_weeks: int | None
    likely_weeks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a Run of this plan would call, cost and be able to show.

    Attributes:
        primary: Name of the primary.
        pairs: Prompts of a Run.
        margin: Quality that may be lost.
        calls: Replay calls of the full design, anchors included.
        anchors: Anchor Cases among them.
        judge_calls: Judge calls of the full design, at most.
        models: Cost of replaying by model name; None where the price is unknown.
        judging: Cost of judging, None without a judge or with an unknown price.
        embedding_calls: Calls for embeddings of the full design, at most.
        embedding: What they cost, None without any or with an unknown price.
        total: Sum of what is known.
        detectable_difference: Smallest true D that one Run shows to be within the margin.
        detectable_ratio: Largest true R that one Run shows to be a saving.
        weeks: Weeks to decision for a few effects.
        basis: Where the spread comes from, in words.
        notes: Assumptions and unknowns, in words.
    """

    primary: str
    pairs: int
    margin: float
    calls: int
    anchors: int
    judge_calls: int
    models: Mapping[str, CostRange | None]
    judging: CostRange | None
    embedding_calls: int
    embedding: CostRange | None
    total: CostRange
    detectable_difference: float
    detectable_ratio: float
    weeks: tuple[WeeksToDecision, ...]
    basis: str
    notes: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a Run can show and how long a decision takes, in plain words."""
        return (
            (
                f"By itself, one Run of {count(self.pairs, 'prompt')} shows a saving if a "
                f"candidate's cost per quality point is in truth at most "
                f"{percent(self.detectable_ratio)} of {self.primary}'s, and quality within the "
                f"margin of {signed(-self.margin)} if it is in truth "
                f"{signed(self.detectable_difference)} or better: each with a chance of four in "
                "five. Less takes more weeks, whose prompts are pooled."
            ),
            *(_words(found, self.primary) for found in self.weeks),
            f"This rests on {self.basis}.",
        )


def forecast(
    plan: Plan,
    sample: Sample,
    prices: Mapping[str, Price | None],
    record: TrackRecord | None = None,
) -> Forecast:
    """Return what a Run on this Sample would cost and could show.

    Args:
        plan: The plan.
        sample: The Sample it would replay.
        prices: Today's price of every contestant and judge by name, None where unknown.
        record: What earlier Runs measured: spread, tokens and how many prompts each model got.
    """
    record = record or TrackRecord()
    costs = RunCosts(plan=plan, sample=sample, prices=prices, record=record)
    models = {model.name: costs.replaying(model) for model in plan.contestants}
    judging, embedding = costs.judging(), costs.embedding()
    known = [part for part in (*models.values(), judging, embedding) if part is not None]
    name, weeks = record.best_measured
    spread = _floored(spread_of_history(weeks), plan.policy)
    return Forecast(
        primary=plan.primary.name,
        pairs=len(sample.cases),
        margin=plan.policy.quality_margin,
        calls=costs.calls,
        anchors=costs.anchors,
        judge_calls=costs.judge_calls,
        models=models,
        judging=judging,
        embedding_calls=costs.embedding_calls,
        embedding=embedding,
        total=sum(known, start=NOTHING),
        weeks=_weeks(plan, sample, spread),
        basis=_basis(spread, name, weeks, record),
        notes=(*_unknown(plan, models, judging), *_assumed(plan, sample, record)),
        **_detectable(plan, sample, spread),
    )


def _detectable(plan: Plan, sample: Sample, spread: Spread) -> dict[str, float]:
    pairs = float(max(len(sample.cases), 1))
    effect = _design_effect(sample, spread)
    policy, m = _policy(plan.policy), max(len(plan.candidates), 1)
    return {
        "detectable_difference": detectable_difference(
            pairs, policy=policy, candidates=m, spread=spread, design_effect=effect
        ),
        "detectable_ratio": detectable_ratio(
            pairs, policy=policy, candidates=m, spread=spread, design_effect=effect
        ),
    }


def _weeks(plan: Plan, sample: Sample, spread: Spread) -> tuple[WeeksToDecision, ...]:
    pairs = float(max(len(sample.cases), 1))
    policy, m = _policy(plan.policy), max(len(plan.candidates), 1)
    effect = _design_effect(sample, spread)
    found = []
    for difference, ratio in EFFECTS:
        median, likely = (
            _at_least(
                pairs_needed(
                    difference=difference,
                    ratio=ratio,
                    policy=policy,
                    candidates=m,
                    spread=spread,
                    power=power,
                    design_effect=effect,
                ).pairs,
                plan.policy,
            )
            for power in (0.5, 0.8)
        )
        found.append(
            WeeksToDecision(
                difference=difference,
                ratio=ratio,
                pairs=median,
                likely_pairs=likely,
                median_weeks=_within_window(median, pairs),
                likely_weeks=_within_window(likely, pairs),
            )
        )
    return tuple(found)


def _at_least(pairs: int | None, policy: Policy) -> int | None:
    """Whatever the effect, a verdict and a 95th percentile of latency take so many."""
    return None if pairs is None else max(pairs, policy.min_pairs, replies_needed(95))


def _within_window(pairs: int | None, per_week: float) -> int | None:
    """Whole weeks that hold the pairs, None when the longest window does not."""
    weeks = None if pairs is None else max(1, ceil(pairs / per_week))
    return weeks if weeks is not None and weeks <= max(WINDOWS) else None


def _words(found: WeeksToDecision, primary: str) -> str:
    """Say how long a candidate of this kind takes to be found."""
    quality = "as good" if found.difference == 0 else f"{signed(found.difference)} in quality"
    candidate = (
        f"A candidate that is {quality} at {percent(found.ratio)} of {primary}'s cost per quality "
        "point"
    )
    if found.median_weeks is None:
        return f"{candidate} is not found within {max(WINDOWS)} weeks of this size."
    if found.likely_weeks is None:
        later = f"takes more than {max(WINDOWS)} for a chance of four in five"
    else:
        later = f"within {found.likely_weeks} with a chance of four in five"
    return (
        f"{candidate} is found within {count(found.median_weeks, 'week')} with an even chance, "
        f"{later}."
    )


def _floored(spread: Spread, policy: Policy) -> Spread:
    """Return the spread that the quality test assumes at least: that of rare outright losses."""
    least = sqrt(policy.quality_margin * (1 - policy.quality_margin))
    return replace(spread, difference=max(spread.difference, least))


def _design_effect(sample: Sample, spread: Spread) -> float:
    """Return what conversations cost; the plan's own spread already holds it."""
    if spread.source == "history" or not sample.cases:
        return 1.0
    units = {case.conversation or f"case {case.case_id}" for case in sample.cases}
    return design_effect(len(sample.cases) / len(units), ASSUMED_ICC)


def _policy(policy: Policy) -> TestPolicy:
    return TestPolicy(
        quality_margin=policy.quality_margin,
        min_saving=policy.min_saving,
        false_alerts_per_year=policy.false_alerts_per_year,
    )


def _basis(spread: Spread, name: str, weeks: Sequence[Evidence], record: TrackRecord) -> str:
    figures = f"sd of the quality difference {spread.difference:.2f}, of ln R {spread.value:.2f}"
    if spread.source == "history":
        pairs = round(sum(week.independent_pairs for week in weeks))
        return (
            f"the plan's own history: {count(pairs, 'independent pair')} of {name} in "
            f"{count(len(weeks), 'week')} ({figures})"
        )
    why = "fewer than 30 pairs of any candidate are stored" if weeks else record.missing
    return f"the stated default spread ({figures}), because {why}"


def _unknown(
    plan: Plan, models: Mapping[str, CostRange | None], judging: CostRange | None
) -> tuple[str, ...]:
    notes = [
        f"The price of {name} is unknown: nothing can be spent on it."
        for name, cost in models.items()
        if cost is None
    ]
    if plan.judge is not None and judging is None:
        notes.append("The cost of judging is unknown.")
    return tuple(notes)


def _assumed(plan: Plan, sample: Sample, record: TrackRecord) -> tuple[str, ...]:
    """Where token counts come from, and what adaptive spending may save."""
    notes = []
    by_log = [model.name for model in plan.contestants if model.name not in record.uses]
    if record.uses and record.run_at is not None:
        measured = [model.name for model in plan.contestants if model.name in record.uses]
        notes.append(
            f"Tokens of {', '.join(measured)} are those that the Run of {record.run_at:%d %B %Y} "
            f"measured, from {percent(MEASURED_RANGE[0])} to {percent(MEASURED_RANGE[1])} of them."
        )
    if by_log:
        source = (
            f"the log's mean of {sample.mean_logged_output_tokens:,.0f} output tokens"
            if sample.mean_logged_output_tokens is not None
            else "the length of logged replies (the log holds no output tokens), else "
            f"{UNLOGGED_OUTPUT_TOKENS:.0f} tokens"
        )
        notes.append(
            f"Tokens of {', '.join(by_log)} are estimated: input from the prompts' length, output "
            f"from {source}, between half and twice as many."
        )
    if plan.sample.adaptive:
        expected = " Expected is as many as in the last Run." if record.uses else ""
        notes.append(
            "The low figure assumes that every candidate is dropped after one block of "
            f"{BLOCK_CASES}, the high one that none is.{expected}"
        )
    return tuple(notes)
