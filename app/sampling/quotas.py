"""How many rows each stratum gives, and how much traffic each stands for."""

from collections.abc import Mapping
from math import floor

LEAST_PER_STRATUM = 2
"""Below two, a stratum's own variance cannot be estimated."""


def allocate(
    wanted: int, rows: Mapping[str, int], *, least: int = LEAST_PER_STRATUM
) -> dict[str, int]:
    """Share out `wanted` rows in proportion to `rows`, by largest remainder.

    Every stratum that has rows gives at least `least` of them where `wanted` allows it, and never
    more than it has.

    >>> allocate(10, {"chat": 900, "extract": 95, "rare": 5})
    {'chat': 6, 'extract': 2, 'rare': 2}
    """
    there = {name: count for name, count in sorted(rows.items()) if count > 0}
    if wanted >= sum(there.values()):
        return there
    floors = _floors(wanted, there, least)
    quotas: dict[str, int] = {}
    while True:
        rest = {name: count for name, count in there.items() if name not in quotas}
        left = wanted - sum(quotas.values())
        share = left / sum(rest.values()) if rest else 0.0
        raised = {name: floors[name] for name in rest if rest[name] * share < floors[name]}
        if not raised:
            return {name: (quotas | _largest_remainder(left, rest))[name] for name in there}
        quotas |= raised


def can_stratify(wanted: int, rows: Mapping[str, int]) -> bool:
    """Whether every stratum can give enough rows for its own variance."""
    return sum(min(LEAST_PER_STRATUM, count) for count in rows.values()) <= wanted


def replayable_share(*, looked_at: int, replayable: int, is_exhausted: bool) -> float:
    """The share of a stratum's rows that can be replayed, from those looked at.

    A draw that stops at its last replayable row has seen one such row by design; Haldane's
    estimator for inverse sampling, (m − 1)/(n − 1), is unbiased there.
    """
    if looked_at == 0:
        return 0.0
    if is_exhausted or replayable < LEAST_PER_STRATUM:
        return replayable / looked_at
    return (replayable - 1) / (looked_at - 1)


def traffic_shares(replayable_rows: Mapping[str, float]) -> dict[str, float]:
    """Each stratum's share of the replayable traffic; the shares sum to 1."""
    total = sum(replayable_rows.values())
    return {name: rows / total for name, rows in replayable_rows.items() if rows > 0}


def _floors(wanted: int, rows: Mapping[str, int], least: int) -> dict[str, int]:
    for floor_rows in range(least, 0, -1):
        floors = {name: min(floor_rows, count) for name, count in rows.items()}
        if sum(floors.values()) <= wanted:
            return floors
    return dict.fromkeys(rows, 0)


def _largest_remainder(wanted: int, rows: Mapping[str, int]) -> dict[str, int]:
    total = sum(rows.values())
    if total == 0:
        return {}
    exact = {name: wanted * count / total for name, count in rows.items()}
    quotas = {name: floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder[: wanted - sum(quotas.values())]:
        quotas[name] += 1
    return quotas
