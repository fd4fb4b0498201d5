"""Sample-size arithmetic: what n prompts a week can show, and how many weeks it takes.

N = deff * max{ [(c + z) sigma_d / (delta + D)]^2, [(c + z) sigma_psi / ln((1 - s) / R)]^2 }.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, log, sqrt
from typing import Literal

import numpy as np
from scipy import special

from app.stats.critical_values import critical_value
from app.stats.evidence import QUALITY_C, QUALITY_P, Evidence, pool
from app.stats.scan import TestPolicy

DEFAULT_SD_DIFFERENCE = 0.236
DEFAULT_SD_VALUE = 1.03
MIN_HISTORY_PAIRS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How much single pairs vary: what decides how many are needed.

    Attributes:
        difference: sigma_d, standard deviation of the quality difference of one pair.
        value: sigma_psi, standard deviation of one pair's influence on ln R.
        source: Where the figures come from: the plan's own history or the stated defaults.
    """

    difference: float = DEFAULT_SD_DIFFERENCE
    value: float = DEFAULT_SD_VALUE
    source: Literal["history", "defaults"] = "defaults"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsNeeded:
    """Pairs that show a switch is justified, None where no number of pairs can.

    Attributes:
        quality: Pairs that show the quality is good enough.
        value: Pairs that show the saving.
    """

    quality: float | None
    value: float | None

    @property
    def pairs(self) -> int | None:
        """Return the pairs that show both."""
        if self.quality is None or self.value is None:
            return None
        return ceil(max(self.quality, self.value) - 1e-9)

    def weeks(self, pairs_per_week: float) -> int | None:
        """Return whole weeks of `pairs_per_week` that hold them, None where none do."""
        return None if self.pairs is None else max(1, ceil(self.pairs / pairs_per_week - 1e-9))


def pairs_needed(  # noqa: PLR0913 -- the formula has this many letters
    *,
    difference: float,
    ratio: float,
    policy: TestPolicy,
    candidates: int = 1,
    spread: Spread | None = None,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> PairsNeeded:
    """Return the pairs after which a true effect is found with the stated chance.

    Args:
        difference: Supposed true D.
        ratio: Supposed true R, above 0.
        policy: Margins and yearly budget.
        candidates: Candidates that share the budget.
        spread: How much pairs vary; the defaults when the plan has no history.
        power: Chance to find it by then: .5 for the median time, .8 for four in five.
        design_effect: `design_effect(...)` of conversations.

    >>> need = pairs_needed(difference=0.0, ratio=0.7, policy=TestPolicy(), power=0.5)
    >>> need.pairs, need.weeks(100)
    (263, 3)
    """
    if ratio <= 0:
        raise ValueError(f"a value ratio is positive, not {ratio}")
    spread = spread or Spread()
    reach = _reach(policy, candidates, power)
    return PairsNeeded(
        quality=_squared(reach * spread.difference, policy.quality_margin + difference)
        * design_effect
        if policy.quality_margin + difference > 0
        else None,
        value=_squared(reach * spread.value, log(policy.bar / ratio)) * design_effect
        if ratio < policy.bar
        else None,
    )


def detectable_ratio(
    pairs: float,
    *,
    policy: TestPolicy,
    candidates: int = 1,
    spread: Spread | None = None,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> float:
    """Return the largest R that so many pairs can still show to be a saving.

    >>> round(detectable_ratio(100, policy=TestPolicy()), 2)
    0.58
    """
    spread = spread or Spread()
    reach = _reach(policy, candidates, power)
    return policy.bar * exp(-reach * spread.value * sqrt(design_effect / pairs))


def detectable_difference(
    pairs: float,
    *,
    policy: TestPolicy,
    candidates: int = 1,
    spread: Spread | None = None,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> float:
    """Return the smallest true D that so many pairs can show to be within the margin.

    One week of 100 cannot certify equal quality within .05; it needs a candidate that is better:

    >>> round(detectable_difference(100, policy=TestPolicy()), 2)
    0.05
    """
    spread = spread or Spread()
    reach = _reach(policy, candidates, power)
    return reach * spread.difference * sqrt(design_effect / pairs) - policy.quality_margin


def design_effect(turns: float, icc: float) -> float:
    """Return how many times more pairs conversations of `turns` Cases need.

    >>> design_effect(4, 0.5)
    2.5
    """
    if turns < 1 or not 0 <= icc <= 1:
        raise ValueError(f"no design effect for {turns} turns and a correlation of {icc}")
    return 1.0 + (turns - 1.0) * icc


def spread_of_history(weeks: Sequence[Evidence]) -> Spread:
    """Return the plan's own spread per effective pair, or the defaults below 30 pairs.

    Clustering is already inside it: use no further design effect with it.
    """
    measured = [week for week in weeks if week.unmeasured_because is None]
    if not measured:
        return Spread()
    pooled = pool(measured)
    if pooled.independent_pairs < MIN_HISTORY_PAIRS or min(pooled.mean) <= 0:
        return Spread()
    cov, mean = np.array(pooled.cov), np.array(pooled.mean)
    difference = np.zeros(4)
    difference[QUALITY_C], difference[QUALITY_P] = 1.0, -1.0
    value = np.array([1.0, -1.0, -1.0, 1.0]) / mean
    sd_difference = sqrt(max(pooled.n_eff * float(difference @ cov @ difference), 0.0))
    sd_value = sqrt(max(pooled.n_eff * float(value @ cov @ value), 0.0))
    if min(sd_difference, sd_value) <= 0:
        return Spread()
    return Spread(difference=sd_difference, value=sd_value, source="history")


def _reach(policy: TestPolicy, candidates: int, power: float) -> float:
    if not 0 < power < 1:
        raise ValueError(f"power lies between 0 and 1, not {power}")
    c = critical_value(candidates, policy.false_alerts_per_year)
    return c + float(special.ndtri(power))


def _squared(reach: float, effect: float) -> float:
    return (reach / effect) ** 2 if effect > 0 else inf
