"""Settling: how many more prompts would decide an open verdict, and what they would cost."""

from dataclasses import dataclass
from math import ceil, log

from app.decision.looks import Look, Rules
from app.decision.sentences import count
from app.domain.results import VerdictKind
from app.stats.critical_values import WINDOWS
from app.stats.evidence import COST_C, COST_P
from app.stats.intervals import normal_quantile
from app.stats.planning import Spread, pairs_needed, spread_of_history
from app.stats.scan import ScanResult

MEDIAN = 0.5
"""Chance of having decided by then: an even one, the median time."""

P95_RESPONSES = 100
"""Successful responses that support a 95th percentile."""

_OPEN = (VerdictKind.UNDECIDED, VerdictKind.WATCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """What would decide an open verdict if the figures stay as they are.

    Attributes:
        towards: What more prompts would show: `switch`, `keep`, `worse` or `measured`.
        prompts: More prompts needed, None when the longest window cannot hold enough.
        weeks: Weeks of this size that hold them.
        cost_usd: What replaying them on both models and judging them costs.
        basis: Whether the spread comes from the plan's history or from the stated defaults.
    """

    towards: str
    prompts: int | None
    weeks: int | None
    cost_usd: float | None
    basis: str

    @property
    def sentence(self) -> str:
        """What would settle it, in words."""
        if self.prompts is None or self.weeks is None or self.cost_usd is None:
            return (
                f"At these figures {max(WINDOWS)} weeks of this size do not settle it: "
                "raise sample.n or wait for a clearer difference."
            )
        return (
            f"About {count(self.prompts, 'more prompt')} "
            f"({count(self.weeks, 'week')} of this size, about ${self.cost_usd:,.2f}) would "
            f"settle it, if the figures stay as they are."
        )

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON, money as a decimal string."""
        return {
            "towards": self.towards,
            "prompts": self.prompts,
            "weeks": self.weeks,
            "cost_usd": None if self.cost_usd is None else f"{self.cost_usd:.6f}",
            "basis": self.basis,
            "sentence": self.sentence,
        }


def settling(
    look: Look, rules: Rules, kind: VerdictKind, *, judging_usd_per_pair: float = 0.0
) -> Settling | None:
    """Return what would settle an open verdict, None when it is settled or cannot be measured.

    Args:
        look: The look that left it open.
        rules: Margins and budget.
        kind: The verdict.
        judging_usd_per_pair: What judging both replies to one Case costs.
    """
    result = look.result
    if look.unmeasured is not None or result is None or result.longest is None:
        return None
    held = result.longest.independent_pairs
    spread = spread_of_history(look.weeks)
    if kind is VerdictKind.UNMEASURED:
        towards, needed = "measured", float(rules.policy.min_pairs)
    elif kind in _OPEN:
        towards, needed = _needed(result, rules, spread)
    else:
        return None
    per_week = look.weeks[-1].independent_pairs
    cost = result.longest.mean[COST_C] + result.longest.mean[COST_P] + judging_usd_per_pair
    more = max(needed - held, per_week if kind in _OPEN else 1.0)
    if needed > per_week * max(WINDOWS):
        return Settling(
            towards=towards, prompts=None, weeks=None, cost_usd=None, basis=spread.source
        )
    return Settling(
        towards=towards,
        prompts=ceil(more),
        weeks=max(1, ceil(more / per_week)),
        cost_usd=ceil(more) * cost,
        basis=spread.source,
    )


def _needed(result: ScanResult, rules: Rules, spread: Spread) -> tuple[str, float]:
    """Return what the longest window's figures point to, and the pairs that would show it."""
    window = result.windows[-1]
    ways: list[tuple[float, str]] = []
    if window.value_ratio is not None and window.value_ratio > 0:
        needed = pairs_needed(
            difference=window.difference,
            ratio=window.value_ratio,
            policy=rules.policy,
            candidates=rules.candidates,
            spread=spread,
            power=MEDIAN,
        )
        if needed.pairs is not None:
            return "switch", float(max(needed.pairs, _timed_pairs(result)))
        above = log(window.value_ratio / rules.policy.bar)
        if above > 0:
            ways.append(((normal_quantile(0.95) * spread.value / above) ** 2, "keep"))
    below = -rules.policy.quality_margin - window.difference
    if below > 0:
        ways.append(((normal_quantile(0.95) * spread.difference / below) ** 2, "worse"))
    needed_pairs, towards = min(ways, default=(float("inf"), "switch"))
    return towards, needed_pairs


def _timed_pairs(result: ScanResult) -> int:
    """Return the pairs that p95 latencies still need, 0 once the window supports them."""
    is_supported = result.latency is not None and result.latency.is_supported
    return 0 if is_supported else P95_RESPONSES
