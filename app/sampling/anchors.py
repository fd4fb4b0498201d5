"""Anchors: Cases kept from earlier weeks and repeated, to tell model drift from traffic drift."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from app.domain.cases import Case
from app.sampling.identity import case_id_of
from app.sampling.seeds import seeded_fraction

ROTATED_SHARE = 0.25


def choose_anchors(
    current: Sequence[Case], pool: Sequence[Case], *, wanted: int, seed: int, rotate: bool = False
) -> tuple[Case, ...]:
    """The Cases to repeat: those in use, some rotated out, filled up at random from the pool.

    Args:
        current: The anchors of the last complete Run; the longest-serving have the lowest ordinal.
        pool: Cases of earlier Runs whose bodies are kept.
        wanted: How many anchors the Plan asks for.
        seed: The Run's seed.
        rotate: Whether a new month began: then the longest-serving quarter leaves.

    Returns:
        Longest-serving first. New ones are drawn with probability proportional to their weight,
        so that anchors stand for the traffic as the sample does.
    """
    kept = sorted(current, key=lambda case: case.ordinal)
    left = kept[: math.ceil(len(kept) * ROTATED_SHARE)] if rotate else []
    kept = kept[len(left) :][:wanted]
    used = {_origin(case) for case in (*kept, *left)}
    prompts = {case.prompt.fingerprint for case in (*kept, *left)}
    fresh: list[Case] = []
    for case in sorted(pool, key=lambda case: _draw_key(case, seed)):
        if len(kept) + len(fresh) >= wanted:
            break
        if case.is_anchor or case.weight <= 0 or _origin(case) in used:
            continue
        if case.prompt.fingerprint not in prompts:
            fresh.append(case)
            used.add(_origin(case))
            prompts.add(case.prompt.fingerprint)
    return (*kept, *fresh)


def is_new_month(previous: datetime, now: datetime, zone: ZoneInfo) -> bool:
    """Whether the local month of `now` differs from that of the Run before."""
    before, after = previous.astimezone(zone), now.astimezone(zone)
    return (before.year, before.month) != (after.year, after.month)


def repeated(anchors: Sequence[Case], *, run_id: str, first_ordinal: int) -> tuple[Case, ...]:
    """The anchors as Cases of this Run: weight 0, pointing at their first appearance."""
    return tuple(
        replace(
            anchor,
            case_id=case_id_of(run_id, ordinal),
            ordinal=ordinal,
            weight=0.0,
            copies=1,
            block=0,
            anchor_of=_origin(anchor),
        )
        for ordinal, anchor in enumerate(anchors, start=first_ordinal)
    )


def _origin(case: Case) -> str:
    return case.anchor_of or case.case_id


def _draw_key(case: Case, seed: int) -> float:
    """Weighted draw without replacement: the smallest −ln(u)/w first (Efraimidis and Spirakis)."""
    if case.weight <= 0:
        return math.inf
    return -math.log1p(-seeded_fraction(seed, "anchor", case.case_id)) / case.weight
