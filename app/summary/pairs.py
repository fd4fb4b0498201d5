"""Pairs: primary and candidate results on one Case, reduced to Evidence."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from app.domain.attempts import NEEDS_OPERATOR, OURS, OUTAGE, FailureClass
from app.domain.results import ALL, CaseResult, PairedEvidence, Segment
from app.stats.arrays import NotEnoughDataError
from app.stats.evidence import MAX_OUTAGE_SHARE, MAX_UNSCORED_SHARE, Evidence, pair_evidence

MAX_UNKNOWN_COST_SHARE = 0.10
"""Pairs of unknown cost beyond this share leave a cost that nobody counted: unmeasured."""

TURN = "turn"
"""Segment name under which first and later turns of conversations are told apart."""

_UNKNOWN_COST = "unknown cost"
_REPLAY_REFUSED = f"primary: {FailureClass.BAD_REQUEST}"

#: On the primary: a cause outside both models, or a Case that production did not serve like this.
_PRIMARY_SAYS_NOTHING = OUTAGE | OURS | {FailureClass.TOO_LARGE, FailureClass.BAD_REQUEST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Primary and candidate results on one Case."""

    primary: CaseResult
    candidate: CaseResult

    @property
    def is_cost_known(self) -> bool:
        """Whether the money of both sides is known."""
        return self.primary.is_cost_known and self.candidate.is_cost_known


def compare(
    results: Iterable[CaseResult], *, primary: str, candidate: str, by_segment: bool = True
) -> PairedEvidence:
    """Reduce the pairs of a candidate and the primary to Evidence, whole and per segment.

    Anchors stay out. A pair is dropped, and counted, when the primary failed for a cause outside
    both models (an outage, our own budget), when the Case is too large for the primary or its
    endpoint refused a prompt that production served, when our budget kept the candidate from being
    asked, or when what the primary cost is unknown. Any other failure of the candidate is its own:
    quality 0 at full cost. What nobody counted of a candidate's calls is the most that any of its
    responses cost, beside what was counted.

    Args:
        results: What every model did on every Case of the Run or week.
        primary: Name of the primary, or of any model to compare with.
        candidate: Name of the model that would take its place.
        by_segment: False leaves the segments out, for whoever asks for the whole alone.
    """
    pairs = paired(results, primary=primary, candidate=candidate)
    kept, dropped = _keep(pairs)
    uncounted = sum(not pair.is_cost_known for pair in kept) + dropped.get(_UNKNOWN_COST, 0)
    kept = _charged(kept)
    evidence = _evidence(kept, pairs)
    trouble = _trouble(pairs, dropped, uncounted)
    is_unscored = evidence is not None and evidence.unscored > MAX_UNSCORED_SHARE
    return PairedEvidence(
        candidate=candidate,
        primary=primary,
        evidence=evidence,
        reason=trouble or _short(evidence, len(kept)),
        needs_mending=trouble is not None or is_unscored,
        segments=_segment_evidence(kept) if by_segment else {},
        dropped=dropped,
    )


def paired(results: Iterable[CaseResult], *, primary: str, candidate: str) -> tuple[Pair, ...]:
    """Match both models' results on Cases that both were run on, anchors left out."""
    rows = [row for row in results if not row.is_anchor]
    mine = {row.case_id: row for row in rows if row.model_name == primary}
    return tuple(
        Pair(primary=mine[row.case_id], candidate=row)
        for row in rows
        if row.model_name == candidate and row.case_id in mine
    )


def merge_runs(runs: Sequence[Sequence[CaseResult]]) -> tuple[CaseResult, ...]:
    """Join the results of several Runs of one week, each weighing as many rows as it drew.

    Conversations and logged rows that appear in several Runs stay one independent unit.
    """
    drawn = [_rows_drawn(run) for run in runs]
    total = sum(drawn)
    if len(runs) == 1 or total == 0:
        return tuple(row for run in runs for row in run)
    return tuple(
        replace(row, weight=row.weight * rows / total)
        for run, rows in zip(runs, drawn, strict=True)
        for row in run
    )


def segments_of(rows: Iterable[CaseResult]) -> tuple[Segment, ...]:
    """Every segment value among the rows, and first and later turns where both occur."""
    found: set[tuple[str, str]] = set()
    turns: set[str] = set()
    for row in rows:
        found.update(row.segments.items())
        turns.add(turn_of(row))
    if len(turns) > 1:
        found.update((TURN, turn) for turn in turns)
    return tuple(Segment(name=name, value=value) for name, value in sorted(found))


def in_segment(row: CaseResult, segment: Segment) -> bool:
    """Whether the row belongs to the segment."""
    if segment == ALL:
        return True
    if segment.name == TURN and TURN not in row.segments:
        return turn_of(row) == segment.value
    return row.segments.get(segment.name) == segment.value


def turn_of(row: CaseResult) -> str:
    """`first` or `later`: whether the prompt already holds an assistant's words."""
    return "later" if row.is_later_turn else "first"


def conversation_of(row: CaseResult) -> tuple[str, str]:
    """The independent unit a result belongs to: its conversation, else its logged row.

    Two Runs of a week that drew the same row asked the same prompt twice: one unit, not two.
    """
    if row.conversation is None:
        return ("row", row.source_id or row.case_id)
    return ("conversation", row.conversation)


def _rows_drawn(run: Sequence[CaseResult]) -> int:
    return sum({row.case_id: row.copies for row in run if not row.is_anchor}.values())


def _keep(pairs: Sequence[Pair]) -> tuple[list[Pair], dict[str, int]]:
    kept, dropped = [], Counter[str]()
    for pair in pairs:
        reason = _drop_reason(pair)
        if reason is None:
            kept.append(pair)
        else:
            dropped[reason] += 1
    return kept, dict(dropped)


def _drop_reason(pair: Pair) -> str | None:
    failure = pair.primary.failure_class
    if failure in _PRIMARY_SAYS_NOTHING:
        return f"primary: {failure}"
    if pair.candidate.failure_class is FailureClass.BUDGET:
        return "candidate not asked: budget"
    return None if pair.primary.is_cost_known else _UNKNOWN_COST


def _charged(kept: Sequence[Pair]) -> list[Pair]:
    """Charge what nobody counted, in a failure or before a success, with the most of a response.

    Left out it would flatter a candidate whose calls are cut: by what was paid for them, by the
    long prompts that are cut most, and by the quality of its failures.
    """
    known = [pair.candidate.spend_usd for pair in kept if pair.candidate.is_cost_known]
    most = max(known, default=Decimal(0))
    return [
        pair
        if pair.candidate.is_cost_known
        else replace(
            pair,
            candidate=replace(pair.candidate, spend_usd=pair.candidate.spend_usd + most),
        )
        for pair in kept
    ]


def _segment_evidence(kept: Sequence[Pair]) -> dict[str, Evidence]:
    return {
        segment.key: evidence
        for segment in segments_of(pair.primary for pair in kept)
        if (evidence := _evidence([p for p in kept if in_segment(p.primary, segment)])) is not None
    }


def _evidence(kept: Sequence[Pair], asked: Sequence[Pair] | None = None) -> Evidence | None:
    """Reduce kept pairs to Evidence; outage shares are those of all pairs that were asked for."""
    try:
        evidence = _reduce(kept)
    except NotEnoughDataError:
        return None
    everyone = kept if asked is None else asked
    return replace(
        evidence,
        outage_c=_outage(everyone, lambda pair: pair.candidate),
        outage_p=_outage(everyone, lambda pair: pair.primary),
    )


def _reduce(pairs: Sequence[Pair]) -> Evidence:
    mine, theirs = [p.primary for p in pairs], [p.candidate for p in pairs]
    return pair_evidence(
        [float(row.spend_usd) for row in theirs],
        [float(row.spend_usd) for row in mine],
        [row.quality or 0.0 for row in theirs],
        [row.quality or 0.0 for row in mine],
        ok_c=[row.is_success for row in theirs],
        ok_p=[row.is_success for row in mine],
        weights=[row.weight for row in mine],
        clusters=[conversation_of(row) for row in mine],
        strata=[row.stratum for row in mine],
        scored_c=[row.quality is not None for row in theirs],
        scored_p=[row.quality is not None for row in mine],
        latency_c=_latencies(theirs),
        latency_p=_latencies(mine),
    )


def _latencies(rows: Sequence[CaseResult]) -> list[float] | None:
    """Seconds of each response; None when a successful one was not timed (stored replies)."""
    if any(row.is_success and row.latency_s is None for row in rows):
        return None
    return [row.latency_s or 0.0 for row in rows]


def _outage(pairs: Sequence[Pair], side: Callable[[Pair], CaseResult]) -> float:
    total = sum(pair.primary.weight for pair in pairs)
    lost = sum(pair.primary.weight for pair in pairs if side(pair).failure_class in OUTAGE)
    return min(lost / total, 1.0) if total > 0 else 0.0


def _trouble(pairs: Sequence[Pair], dropped: Mapping[str, int], uncounted: int) -> str | None:
    """Say what keeps the pairs from being measured that more Cases would not cure."""
    if not pairs:
        return "no Case was run on both models"
    for who, rows in (
        ("candidate", [pair.candidate for pair in pairs]),
        ("primary", [pair.primary for pair in pairs]),
    ):
        reason = _outage_reason(who, rows)
        if reason is not None:
            return reason
    if uncounted > MAX_UNKNOWN_COST_SHARE * len(pairs):
        return f"the cost of {uncounted} of {len(pairs)} pairs is unknown (calls cut off midway)"
    refused = dropped.get(_REPLAY_REFUSED, 0)
    if refused > MAX_OUTAGE_SHARE * len(pairs):
        return (
            f"the primary's endpoint refused {refused} of {len(pairs)} prompts as bad requests, "
            "though production served them: its parameters or its logged shape need mending"
        )
    return None


def _short(evidence: Evidence | None, kept: int) -> str | None:
    """Say what the pairs themselves lack."""
    if evidence is None:
        return f"{kept} usable pairs carry no evidence"
    return evidence.unmeasured_because


def _outage_reason(who: str, rows: Sequence[CaseResult]) -> str | None:
    """Say what kept a model from answering, when it did so too often to speak of quality."""
    lost = Counter(row.failure_class for row in rows if row.failure_class in OUTAGE)
    total = sum(row.weight for row in rows)
    share = sum(row.weight for row in rows if row.failure_class in OUTAGE) / total if total else 0.0
    if share <= MAX_OUTAGE_SHARE:
        return None
    causes = ", ".join(f"{failure} {count}" for failure, count in lost.most_common())
    said = f"the {who} did not answer {sum(lost.values())} of {len(rows)} calls ({causes})"
    if any(failure in NEEDS_OPERATOR for failure in lost):
        return f"{said}: its key, account or model id needs mending"
    return f"{said}: an outage is not quality"
