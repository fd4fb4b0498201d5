"""Settling: how many more prompts would decide an open verdict, and what they would cost."""

from dataclasses import dataclass
from math import ceil, inf, log

from app.decision.looks import Look, Rules
from app.decision.sentences import count
from app.domain.results import VerdictKind
from app.stats.critical_values import WINDOWS
from app.stats.evidence import COST_C, COST_P, Evidence
from app.stats.intervals import normal_quantile
from app.stats.planning import spread_of_history
from app.stats.rectifier import Rectifier
from app.stats.scan import ScanResult, block_z
from app.stats.switch_tests import SUCCESS_Z, success_z

_ROUNDING = 1e-9
_HALVINGS = 30

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
    """

    towards: str
    prompts: int | None
    weeks: int | None
    cost_usd: float | None

    @property
    def sentence(self) -> str:
        """What would settle it, in words."""
        if self.prompts is None or self.weeks is None or self.cost_usd is None:
            return (
                f"At these figures {max(WINDOWS)} weeks of this size do not settle it: "
                "raise sample.n or wait for a clearer difference."
            )
        prompts = count(self.prompts, "more prompt")
        price = f"{count(self.weeks, 'week')} of this size, about ${self.cost_usd:,.2f}"
        if self.towards == "measured":
            return f"{prompts[:1].upper()}{prompts[1:]} ({price}) would allow a verdict."
        return (
            f"About {prompts} ({price}) would settle it, if the figures stay as they are: "
            f"towards {self.towards}."
        )

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON, money as a decimal string."""
        return {
            "towards": self.towards,
            "prompts": self.prompts,
            "weeks": self.weeks,
            "cost_usd": None if self.cost_usd is None else f"{self.cost_usd:.6f}",
            "sentence": self.sentence,
        }


def settling(
    look: Look,
    rules: Rules,
    kind: VerdictKind,
    *,
    judging_usd_per_pair: float = 0.0,
    rectifier: Rectifier | None = None,
) -> Settling | None:
    """Return what would settle an open verdict, None when it is settled or cannot be measured.

    Args:
        look: The look that left it open.
        rules: Margins and budget.
        kind: The verdict.
        judging_usd_per_pair: What judging both replies to one Case costs.
        rectifier: Correction from human labels, if any.
    """
    result = look.result
    if look.unmeasured is not None or result is None or result.longest is None:
        return None
    window, per_week = result.longest, look.weeks[-1].independent_pairs
    most = max(WINDOWS) * per_week
    if kind is VerdictKind.UNMEASURED:
        towards, needed = "measured", float(rules.policy.min_pairs)
    elif kind in _OPEN:
        towards, needed = _needed(window, result, rules, most, rectifier)
    else:
        return None
    if needed > most:
        return Settling(towards=towards, prompts=None, weeks=None, cost_usd=None)
    least = per_week if kind in _OPEN else 1.0
    prompts = ceil(max(needed - window.independent_pairs, least) - _ROUNDING)
    cost = window.mean[COST_C] + window.mean[COST_P] + judging_usd_per_pair
    return Settling(
        towards=towards,
        prompts=prompts,
        weeks=max(1, ceil(prompts / per_week - _ROUNDING)),
        cost_usd=prompts * cost,
    )


def _needed(
    window: Evidence, result: ScanResult, rules: Rules, most: float, rectifier: Rectifier | None
) -> tuple[str, float]:
    """Return what the longest window's figures point to, and the pairs that would show it.

    Infinite when no window of up to `most` pairs can.
    """
    last = result.windows[-1]
    difference, ratio = last.difference, last.value_ratio
    if ratio is not None and ratio < rules.policy.bar and difference > -rules.policy.quality_margin:
        return "switch", _pairs_to_switch(window, rules, result.critical_value, most, rectifier)
    spread = spread_of_history([window])
    ways = [(inf, "switch")]
    if ratio is not None and ratio > rules.policy.bar:
        gap = log(ratio / rules.policy.bar)
        ways.append(((normal_quantile(0.95) * spread.value / gap) ** 2, "keep"))
    if difference < -rules.policy.quality_margin:
        gap = -rules.policy.quality_margin - difference
        ways.append(((normal_quantile(0.95) * spread.difference / gap) ** 2, "worse"))
    pairs, towards = min(ways)
    return towards, pairs


def _pairs_to_switch(
    window: Evidence, rules: Rules, critical: float, most: float, rectifier: Rectifier | None
) -> float:
    """Return the pairs at which this window, grown as it is, would pass every test of a switch."""
    held = window.independent_pairs
    low, high = 1.0, max(most / held, 1.0)
    if not _would_pass(window.grown(high), rules, critical, rectifier):
        return inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _would_pass(window.grown(middle), rules, critical, rectifier):
            high = middle
        else:
            low = middle
    return held * high


def _would_pass(
    window: Evidence, rules: Rules, critical: float, rectifier: Rectifier | None
) -> bool:
    n, n10, n01 = window.success_counts
    succeeded = min(n - n10, n - n01)
    return (
        block_z(window, rules.policy, rectifier=rectifier) >= critical
        and float(success_z(n, n10, n01, margin=rules.policy.success_margin)) >= SUCCESS_Z
        and succeeded >= P95_RESPONSES
    )
