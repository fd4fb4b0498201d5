"""Ranking: candidates that qualify, and the single best if one beats the next head to head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

from app.domain.results import Comparison, VerdictKind
from app.stats.evidence import Evidence
from app.stats.scan import TestPolicy, leads_head_to_head

HeadToHead = Callable[[str, str], Evidence | None]
"""Evidence of the first candidate against the second, on the same Cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Qualifying candidates in the order of the upper bound of R.

    Attributes:
        names: All that qualify, best bound first.
        best: The single best; None when none qualifies or the first two are tied.
        sentence: The ranking in words, None when nobody qualifies.
    """

    names: tuple[str, ...] = ()
    best: str | None = None
    sentence: str | None = None


def rank(
    comparisons: Sequence[Comparison], policy: TestPolicy, head_to_head: HeadToHead
) -> Ranking:
    """Rank the candidates whose verdict is `switch`; the order of the input is irrelevant."""
    hits = sorted(
        (c for c in comparisons if c.verdict.kind is VerdictKind.SWITCH),
        key=lambda c: (c.value_ratio.high if c.value_ratio else inf, c.candidate),
    )
    names = tuple(hit.candidate for hit in hits)
    if not names:
        return Ranking()
    if len(names) == 1:
        return Ranking(names=names, best=names[0], sentence=f"{names[0]} alone qualifies.")
    pairs = head_to_head(names[0], names[1])
    if pairs is not None and leads_head_to_head(pairs, policy):
        sentence = f"{names[0]} is the best of {len(names)}: it beats {names[1]} head to head."
        return Ranking(names=names, best=names[0], sentence=sentence)
    sentence = f"{names[0]} and {names[1]} are tied: neither is shown to beat the other."
    return Ranking(names=names, sentence=sentence)


def with_rank(comparison: Comparison, ranking: Ranking) -> Comparison:
    """Tell a qualifying candidate's rank among its tests and reasons."""
    tests = {**comparison.tests, "best": ranking.best, "qualifying": list(ranking.names)}
    if comparison.candidate not in ranking.names or len(ranking.names) == 1:
        return replace(comparison, tests=tests)
    told = replace(
        comparison.verdict, reasons=(*comparison.verdict.reasons, ranking.sentence or "")
    )
    return replace(comparison, tests=tests, verdict=told)
