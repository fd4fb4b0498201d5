"""Forecasts: what a Run would cost and what it could show, before anything is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import sqrt

from app.domain.cases import Case, Sample
from app.domain.models import ModelSpec
from app.domain.plans import Plan, Policy
from app.domain.prices import Price, Usage
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

BYTES_PER_TOKEN = 4.0
INPUT_RANGE = (0.75, 1.35)
"""How far tokens of input may lie from one per four bytes."""

OUTPUT_RANGE = (0.5, 2.0)
"""How far another model's replies may lie from the logged ones in length."""

UNLOGGED_OUTPUT_TOKENS = 300.0
DEFAULT_MAX_TOKENS = 4_096
RUBRIC_TOKENS = 700
JUDGEMENT_TOKENS = 150
ASSUMED_ICC = 0.5
"""Correlation of Cases of one conversation until the plan's own history tells."""

EFFECTS = ((0.0, 0.7), (0.0, 0.5), (-0.02, 0.5), (0.05, 0.58))
"""(difference of quality, value ratio) of the candidates that weeks are forecast for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRange:
    """What something is expected to cost, between a low and a high figure, in USD."""

    low_usd: Decimal
    expected_usd: Decimal
    high_usd: Decimal

    def __add__(self, other: "CostRange") -> "CostRange":
        return CostRange(
            low_usd=self.low_usd + other.low_usd,
            expected_usd=self.expected_usd + other.expected_usd,
            high_usd=self.high_usd + other.high_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeksToDecision:
    """How long a candidate with this true effect takes to be found.

    Attributes:
        difference: True D.
        ratio: True R.
        pairs: Pairs that find it with an even chance, None when none can.
        median_weeks: Weeks that hold them, None when the longest window is too short.
        likely_weeks: The same for a chance of four in five.
    """

    difference: float
    ratio: float
    pairs: int | None
    median_weeks: int | None
    likely_weeks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a Run of this plan would call, cost and be able to show.

    Attributes:
        calls: Replay calls of the full design, anchors included.
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

    calls: int
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
                f"One Run can show a saving if the cost per quality point is at most "
                f"{self.detectable_ratio:.2f} of the primary's, and quality within the margin if "
                f"the candidate's is {_signed(self.detectable_difference)} or better."
            ),
            *(_words(found) for found in self.weeks),
            f"This rests on {self.basis}.",
        )


def forecast(
    plan: Plan,
    sample: Sample,
    prices: Mapping[str, Price | None],
    history: Sequence[Evidence] = (),
) -> Forecast:
    """Return what a Run on this Sample would cost and could show.

    Args:
        plan: The plan.
        sample: The Sample it would replay.
        prices: Today's price of every contestant and judge by name, None where unknown.
        history: Stored weeks of the plan, for the spread of its own pairs.
    """
    models = {model.name: _replay(model, plan, sample, prices) for model in plan.contestants}
    judging = _judging(plan, sample, prices)
    embedding = _embedding(plan, sample, prices)
    known = [part for part in (*models.values(), judging, embedding) if part is not None]
    spread = _floored(spread_of_history(history), plan.policy)
    return Forecast(
        calls=_calls(plan, sample),
        judge_calls=_judge_calls(plan, sample),
        models=models,
        judging=judging,
        embedding_calls=_embedding_calls(plan, sample),
        embedding=embedding,
        total=sum(known, start=_NOTHING),
        weeks=_weeks(plan, sample, spread),
        basis=_basis(spread, history),
        notes=_notes(plan, sample, models, judging),
        **_detectable(plan, sample, spread),
    )


_NOTHING = CostRange(low_usd=Decimal(0), expected_usd=Decimal(0), high_usd=Decimal(0))


def _calls(plan: Plan, sample: Sample) -> int:
    return len(sample.cases) * len(plan.contestants) + len(sample.anchors)


def _judge_calls(plan: Plan, sample: Sample) -> int:
    if plan.judge is None:
        return 0
    return (_replies(plan, sample) * plan.judge.repeats + plan.judge.canaries) * len(plan.judges)


def _replies(plan: Plan, sample: Sample) -> int:
    """Return how many replies are evaluated: stored ones to anchors are judged again."""
    return _calls(plan, sample) + len(sample.anchors)


def _replay(
    model: ModelSpec, plan: Plan, sample: Sample, prices: Mapping[str, Price | None]
) -> CostRange | None:
    """Return what replaying costs one model; a candidate may be dropped after one block."""
    price = prices.get(model.name)
    if price is None:
        return None
    is_primary = model.name == plan.primary.name
    cases = [*sample.cases, *(sample.anchors if is_primary else ())]
    fewest = cases
    if plan.sample.adaptive and not is_primary:
        fewest = cases[:BLOCK_CASES]
    low, high = INPUT_RANGE[0], INPUT_RANGE[1]
    return CostRange(
        low_usd=_cost(price, model, sample, fewest, (low, OUTPUT_RANGE[0])),
        expected_usd=_cost(price, model, sample, cases, (1.0, 1.0)),
        high_usd=_cost(price, model, sample, cases, (high, OUTPUT_RANGE[1])),
    )


def _cost(
    price: Price,
    model: ModelSpec,
    sample: Sample,
    cases: Sequence[Case],
    scale: tuple[float, float],
) -> Decimal:
    return sum(
        (
            price.cost(
                Usage(
                    input_tokens=round(_input_tokens(case) * scale[0]),
                    output_tokens=round(_output_tokens(case, model, sample, scale[1])),
                )
            )
            for case in cases
        ),
        start=Decimal(0),
    )


def _input_tokens(case: Case) -> float:
    return case.prompt.size_bytes / BYTES_PER_TOKEN


def _output_tokens(case: Case, model: ModelSpec, sample: Sample, scale: float) -> float:
    """Return the length of a reply: as logged, within the limit that the call will carry."""
    logged = sample.mean_logged_output_tokens
    if logged is None and case.logged_response is not None:
        logged = len(case.logged_response.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN
    limit = model.params.get("max_tokens", case.prompt.params.get("max_tokens"))
    most = float(limit) if isinstance(limit, int | float) else float(DEFAULT_MAX_TOKENS)
    return min((UNLOGGED_OUTPUT_TOKENS if logged is None else logged) * scale, most)


def _judging(plan: Plan, sample: Sample, prices: Mapping[str, Price | None]) -> CostRange | None:
    if plan.judge is None:
        return None
    cases = [*sample.cases, *sample.anchors]
    if not cases or any(prices.get(judge.name) is None for judge in plan.judges):
        return None
    mean_input = sum(_input_tokens(case) for case in cases) / len(cases)
    calls = _judge_calls(plan, sample) / len(plan.judges)
    fewest = calls
    if plan.sample.adaptive:
        fewest = calls * min(1.0, _fewest_calls(plan, sample) / max(_calls(plan, sample), 1))
    total = _NOTHING
    for judge in plan.judges:
        price = prices[judge.name]
        if price is not None:
            reply = _output_tokens(cases[0], judge, sample, 1.0)
            seen = RUBRIC_TOKENS + mean_input + reply
            total += CostRange(
                low_usd=_judge_cost(price, fewest, seen * INPUT_RANGE[0], OUTPUT_RANGE[0]),
                expected_usd=_judge_cost(price, calls, seen, 1.0),
                high_usd=_judge_cost(price, calls, seen * INPUT_RANGE[1], OUTPUT_RANGE[1]),
            )
    return total


def _embedding_calls(plan: Plan, sample: Sample) -> int:
    """Return the calls if every reply is new to each reference it is measured against."""
    uses = [one for one in plan.evaluators if one.measures_embeddings]
    references = {str(one.options.get("reference", "column")) for one in uses}
    return _replies(plan, sample) * len(references) if plan.embedder else 0


def _embedding(plan: Plan, sample: Sample, prices: Mapping[str, Price | None]) -> CostRange | None:
    """Return what embeddings cost, each reference taken to be as long as a reply."""
    cases = [*sample.cases, *sample.anchors]
    calls = _embedding_calls(plan, sample)
    price = prices.get(plan.embedder.name) if plan.embedder else None
    if price is None or not cases or not calls:
        return None
    reply = _output_tokens(cases[0], plan.primary, sample, 1.0)

    def cost(scale: float) -> Decimal:
        usage = Usage(input_tokens=round(2 * reply * scale), output_tokens=0)
        return price.cost(usage) * Decimal(calls)

    return CostRange(
        low_usd=cost(OUTPUT_RANGE[0]), expected_usd=cost(1.0), high_usd=cost(OUTPUT_RANGE[1])
    )


def _fewest_calls(plan: Plan, sample: Sample) -> int:
    one_block = min(BLOCK_CASES, len(sample.cases))
    return len(sample.cases) + len(sample.anchors) + one_block * len(plan.candidates)


def _judge_cost(price: Price, calls: float, input_tokens: float, scale: float) -> Decimal:
    usage = Usage(input_tokens=round(input_tokens), output_tokens=round(JUDGEMENT_TOKENS * scale))
    return price.cost(usage) * Decimal(round(calls))


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
            pairs_needed(
                difference=difference,
                ratio=ratio,
                policy=policy,
                candidates=m,
                spread=spread,
                power=power,
                design_effect=effect,
            )
            for power in (0.5, 0.8)
        )
        found.append(
            WeeksToDecision(
                difference=difference,
                ratio=ratio,
                pairs=median.pairs,
                median_weeks=_within_window(median.weeks(pairs)),
                likely_weeks=_within_window(likely.weeks(pairs)),
            )
        )
    return tuple(found)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212")


def _within_window(weeks: int | None) -> int | None:
    return weeks if weeks is not None and weeks <= max(WINDOWS) else None


def _words(found: WeeksToDecision) -> str:
    """Say how long a candidate of this kind takes to be found."""
    quality = "equal quality" if found.difference == 0 else f"quality {found.difference:+.2f}"
    candidate = f"A candidate of {quality} at {found.ratio:.2f} of the cost per quality point"
    if found.median_weeks is None:
        return f"{candidate} is not found within {max(WINDOWS)} weeks of this size."
    likely = "more than 12" if found.likely_weeks is None else str(found.likely_weeks)
    return (
        f"{candidate} is found within {found.median_weeks} week(s) with an even chance, within "
        f"{likely} with a chance of four in five."
    ).replace("-", "\u2212")


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


def _basis(spread: Spread, history: Sequence[Evidence]) -> str:
    figures = f"sd of the quality difference {spread.difference:.2f}, of ln R {spread.value:.2f}"
    if spread.source == "history":
        return f"the plan's own {len(history)} stored weeks ({figures})"
    return f"the default spread ({figures}), for want of 30 pairs of history"


def _notes(
    plan: Plan,
    sample: Sample,
    models: Mapping[str, CostRange | None],
    judging: CostRange | None,
) -> tuple[str, ...]:
    notes = [
        f"The price of {name} is unknown: nothing can be spent on it."
        for name, cost in models.items()
        if cost is None
    ]
    if plan.judge is not None and judging is None:
        notes.append("The cost of judging is unknown.")
    if sample.mean_logged_output_tokens is None:
        notes.append(
            "The log holds no output tokens: lengths are taken from logged replies, else "
            f"{UNLOGGED_OUTPUT_TOKENS:.0f} tokens are assumed."
        )
    if plan.sample.adaptive:
        notes.append("The low figure assumes that every candidate is dropped after one block.")
    return tuple(notes)
