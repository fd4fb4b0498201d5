"""Blocks: seeded random sets of whole conversations, proportional over strata.

A candidate can be dropped after any block (STATISTICS: spending less), so every block has to be a
small sample of the whole: random, and with each stratum's share of Cases.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from app.sampling.seeds import seeded_fraction, seeded_key

BLOCK_CASES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What decides the block of one Case."""

    key: str
    stratum: str
    conversation: str | None


def assign_blocks(
    members: Sequence[Member], *, seed: int, size: int = BLOCK_CASES
) -> dict[str, int]:
    """Give every member the number of its block, from 0.

    Conversations stay whole, so that a block may hold a few Cases more than `size`; a rest smaller
    than half a block joins the block before it.
    """
    blocks: dict[str, int] = {}
    counts: list[int] = []
    for group in _spread(_conversations(members), seed):
        if not counts or counts[-1] >= size:
            counts.append(0)
        counts[-1] += len(group)
        blocks |= {member.key: len(counts) - 1 for member in group}
    if len(counts) > 1 and counts[-1] * 2 < size:
        last = len(counts) - 1
        blocks = {key: min(block, last - 1) for key, block in blocks.items()}
    return blocks


def _conversations(members: Sequence[Member]) -> Mapping[Hashable, list[Member]]:
    groups: dict[Hashable, list[Member]] = defaultdict(list)
    for member in sorted(members, key=lambda member: member.key):
        groups[member.conversation if member.conversation is not None else (member.key,)].append(
            member
        )
    return groups


def _spread(groups: Mapping[Hashable, list[Member]], seed: int) -> list[list[Member]]:
    """Shuffle the groups of each stratum, then lay the strata evenly through the order."""
    strata: dict[str, list[list[Member]]] = defaultdict(list)
    for group in groups.values():
        strata[group[0].stratum].append(group)
    placed: list[tuple[float, int, list[Member]]] = []
    for stratum, its_groups in strata.items():
        its_groups.sort(key=lambda group: seeded_key(seed, "block", group[0].key))
        start = seeded_fraction(seed, "block-offset", stratum)
        for position, group in enumerate(its_groups):
            place = (position + start) / len(its_groups)
            placed.append((place, seeded_key(seed, "block-tie", group[0].key), group))
    return [group for _, _, group in sorted(placed, key=lambda item: item[:2])]
