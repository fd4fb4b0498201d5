"""Run costs: the calls of a Run and what they cost, before anything is sent.

Tokens are those that the plan's last Run measured, else those of the log; prices are today's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from app.domain.cases import Case, Sample
from app.domain.models import ModelSpec
from app.domain.plans import Plan
from app.domain.prices import Price, Usage
from app.stats.scan import BLOCK_CASES
from app.summary.track_record import TrackRecord

BYTES_PER_TOKEN = 4.0
INPUT_RANGE = (0.75, 1.35)
"""How far tokens of input may lie from one per four bytes."""

OUTPUT_RANGE = (0.5, 2.0)
"""How far another model's replies may lie from the logged ones in length."""

MEASURED_RANGE = (0.8, 1.25)
"""How far the tokens of a week may lie from those that the last Run measured."""

UNLOGGED_OUTPUT_TOKENS = 300.0
DEFAULT_MAX_TOKENS = 4_096
RUBRIC_TOKENS = 700
JUDGEMENT_TOKENS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRange:
    """How many calls something takes, at least, as expected and at most."""

    low: float
    expected: float
    high: float

    @classmethod
    def exactly(cls, calls: float) -> "CallRange":
        """So many, whatever happens."""
        return cls(low=calls, expected=calls, high=calls)

    def __add__(self, other: "CallRange") -> "CallRange":
        return CallRange(
            low=self.low + other.low,
            expected=self.expected + other.expected,
            high=self.high + other.high,
        )

    def times(self, factor: float) -> "CallRange":
        """So many times the calls."""
        return CallRange(
            low=self.low * factor, expected=self.expected * factor, high=self.high * factor
        )


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

    def of(self, calls: CallRange) -> "CostRange":
        """What so many calls cost, each as this says."""
        return CostRange(
            low_usd=self.low_usd * _exact(calls.low),
            expected_usd=self.expected_usd * _exact(calls.expected),
            high_usd=self.high_usd * _exact(calls.high),
        )


NOTHING = CostRange(low_usd=Decimal(0), expected_usd=Decimal(0), high_usd=Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCosts:
    """The calls of a Run of this plan on this Sample, and their cost.

    Attributes:
        prices: Today's price of every contestant and judge by name, None where unknown.
        record: What the last Run measured.
    """

    plan: Plan
    sample: Sample
    prices: Mapping[str, Price | None]
    record: TrackRecord

    @property
    def anchors(self) -> int:
        """Anchors that will be repeated: those of the Sample, else as many as last time."""
        return len(self.sample.anchors) or self.record.anchors

    @property
    def calls(self) -> int:
        """Replay calls of the full design."""
        return len(self.sample.cases) * len(self.plan.contestants) + self.anchors

    @property
    def judge_calls(self) -> int:
        """Judge calls of the full design, at most."""
        return round(self._judgements().high) * len(self.plan.judges)

    @property
    def embedding_calls(self) -> int:
        """The calls if every reply is new to each reference it is measured against."""
        uses = [one for one in self.plan.evaluators if one.measures_embeddings]
        references = {str(one.options.get("reference", "column")) for one in uses}
        return (self.calls + self.anchors) * len(references) if self.plan.embedder else 0

    def cases_of(self, model: ModelSpec) -> CallRange:
        """Cases that a model replays, anchors included; the last Run tells what to expect.

        A candidate may be dropped after one block.
        """
        most = float(len(self.sample.cases))
        if model.name == self.plan.primary.name:
            return CallRange.exactly(most + self.anchors)
        if not self.plan.sample.adaptive:
            return CallRange.exactly(most)
        use = self.record.uses.get(model.name)
        expected = most if use is None else min(float(use.cases), most)
        return CallRange(low=min(float(BLOCK_CASES), expected), expected=expected, high=most)

    def replaying(self, model: ModelSpec) -> CostRange | None:
        """What replaying costs one model, None where its price is unknown."""
        price = self.prices.get(model.name)
        if price is None:
            return None
        use = self.record.uses.get(model.name)
        if use is None:
            each = self._by_log(model, price)
        else:
            each = _priced(price, use.input_tokens, use.output_tokens, MEASURED_RANGE)
        return each.of(self.cases_of(model))

    def judging(self) -> CostRange | None:
        """What judging costs, None without a judge or with an unknown price."""
        prices = [self.prices.get(judge.name) for judge in self.plan.judges]
        known = [price for price in prices if price is not None]
        if not known or len(known) < len(prices):
            return None
        if self.record.judged_usd is not None:
            low, high = MEASURED_RANGE
            each = CostRange(
                low_usd=self.record.judged_usd * _exact(low),
                expected_usd=self.record.judged_usd,
                high_usd=self.record.judged_usd * _exact(high),
            )
            return each.of(self._replies())
        seen = RUBRIC_TOKENS + self._mean_input() + self._output(self.plan.judges[0])
        costs = (
            _priced(price, seen, JUDGEMENT_TOKENS, INPUT_RANGE, OUTPUT_RANGE) for price in known
        )
        return sum(costs, start=NOTHING).of(self._judgements())

    def embedding(self) -> CostRange | None:
        """What embeddings cost, each reference taken to be as long as a reply."""
        price = self.prices.get(self.plan.embedder.name) if self.plan.embedder else None
        if price is None or not self.embedding_calls:
            return None
        each = _priced(price, 2 * self._output(self.plan.primary), 0, OUTPUT_RANGE)
        return each.of(CallRange.exactly(self.embedding_calls))

    def _replies(self) -> CallRange:
        """Replies that are evaluated: stored ones to anchors are judged again."""
        replies = CallRange.exactly(self.anchors)
        for model in self.plan.contestants:
            replies += self.cases_of(model)
        return replies

    def _judgements(self) -> CallRange:
        judge = self.plan.judge
        if judge is None:
            return CallRange.exactly(0)
        return self._replies().times(judge.repeats) + CallRange.exactly(judge.canaries)

    def _by_log(self, model: ModelSpec, price: Price) -> CostRange:
        """What one call costs by the log's lengths."""
        cases = [*self.sample.cases, *self.sample.anchors]
        costs = [
            _priced(price, _input(case), self._output(model, case), INPUT_RANGE, OUTPUT_RANGE)
            for case in cases
        ]
        share = CallRange.exactly(1 / len(costs)) if costs else CallRange.exactly(0)
        return sum(costs, start=NOTHING).of(share)

    def _mean_input(self) -> float:
        cases = [*self.sample.cases, *self.sample.anchors]
        return sum(map(_input, cases)) / max(len(cases), 1)

    def _output(self, model: ModelSpec, case: Case | None = None) -> float:
        """The length of a reply: as logged, within the limit that the call will carry."""
        case = case or next(iter(self.sample.cases), None)
        logged = self.sample.mean_logged_output_tokens
        if logged is None and case is not None and case.logged_response is not None:
            encoded = case.logged_response.encode("utf-8", "surrogatepass")
            logged = len(encoded) / BYTES_PER_TOKEN
        params = {} if case is None else case.prompt.params
        limit = model.params.get("max_tokens", params.get("max_tokens"))
        most = float(limit) if isinstance(limit, int | float) else float(DEFAULT_MAX_TOKENS)
        return min(UNLOGGED_OUTPUT_TOKENS if logged is None else logged, most)


def _input(case: Case) -> float:
    return case.prompt.size_bytes / BYTES_PER_TOKEN


def _priced(
    price: Price,
    input_tokens: float,
    output_tokens: float,
    spread: tuple[float, float],
    output_spread: tuple[float, float] | None = None,
) -> CostRange:
    """What one call of about so many tokens costs."""
    wide = output_spread or spread

    def cost(factor: float, output_factor: float) -> Decimal:
        return price.cost(
            Usage(
                input_tokens=round(input_tokens * factor),
                output_tokens=round(output_tokens * output_factor),
            )
        )

    return CostRange(
        low_usd=cost(spread[0], wide[0]),
        expected_usd=cost(1.0, 1.0),
        high_usd=cost(spread[1], wide[1]),
    )


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))
