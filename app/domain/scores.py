"""Scores: what an Evaluator says about a Completion."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.attempts import OUTAGE, FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A finite number 0..1 with a reason."""

    value: float
    reason: str = ""
    detail: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or not 0.0 <= self.value <= 1.0:
            raise ValueError("a score must be a finite number from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """An explicit absence of a score, with a reason."""

    reason: str
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_absence(self) -> bool:
        """Whether the judge was not there, whatever the reply was: it says nothing of the reply."""
        return self.reason in _ABSENCES


def not_asked(failure: FailureClass) -> Unscored:
    """What is kept of a judge that could not be asked."""
    kind = str(failure)
    return Unscored(reason=f"{_NOT_ASKED}: {kind}", detail={"failure": kind})


_NOT_ASKED = "the judge could not be asked"
DROPPED_OUT = Unscored(reason="the judge's endpoint refuses it", detail={"failure": "refused"})
"""A judge of a panel whose endpoint refuses its key or knows no such model."""

_ABSENCES = frozenset({DROPPED_OUT.reason, *(not_asked(failure).reason for failure in OUTAGE)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """One Evaluator's word on one reply, as it is kept.

    Attributes:
        evaluator: Label of the Evaluator; in a panel of judges `LABEL:JUDGE`, one record per judge.
        is_passed: For gates: whether the reply passed; None for graded evaluators.
        weight: Weight in the quality of the reply; 0 for gates.
        judge_model: Name of the judge, None for deterministic evaluators.
    """

    case_id: str
    model_name: str
    evaluator: str
    evaluator_version: str
    result: Score | Unscored
    is_gate: bool = False
    weight: float = 1.0
    judge_model: str | None = None

    @property
    def score(self) -> float | None:
        """The number, or None when unscored."""
        return self.result.value if isinstance(self.result, Score) else None

    @property
    def is_passed(self) -> bool | None:
        """For gates, whether the reply passed; None when graded or unscored."""
        if not self.is_gate or isinstance(self.result, Unscored):
            return None
        return self.result.value >= 1.0


def quality_of(
    records: Sequence[ScoreRecord], failure_class: FailureClass | None
) -> tuple[float | None, FailureClass | None]:
    """The quality of one model's reply to one Case, and why it is unsuccessful, if it is.

    The rule, first match: an unsuccessful reply is worth 0; a failed gate makes it unsuccessful
    (`GATE`) and worth 0; a gate that could not be judged leaves the quality unknown (None); else
    it is the weighted mean of the graded Evaluators, None when any of them is Unscored or none
    has weight. Scores of one Evaluator by several judges count as their mean. A judge that was not
    there does not count; one that was and gave no grade leaves the quality unknown, for which
    replies it cannot grade is no accident.

    Args:
        records: All scores of this reply; those of other Cases or models must not be among them.
        failure_class: Why the call itself is unsuccessful (`Reply.failure_class`), or None.
    """
    if failure_class is not None:
        return 0.0, failure_class
    gates = [record.is_passed for record in records if record.is_gate]
    if False in gates:
        return 0.0, FailureClass.GATE
    parts = _graded(records)
    values = [_mean_score(part) for part in parts]
    if None in gates or None in values or not parts:
        return None, None
    if len(values) == 1:
        return values[0], None
    weights = [part[0].weight for part in parts]
    total = math.fsum(w * v for w, v in zip(weights, values, strict=True) if v is not None)
    return min(max(total / math.fsum(weights), 0.0), 1.0), None


def unscored_reason(records: Sequence[ScoreRecord]) -> str | None:
    """Why `quality_of` a successful reply is None; None when it has a number."""
    gates = [[record] for record in records if record.is_gate]
    parts = _graded(records)
    for part in (*gates, *parts):
        gap = _gap(part)
        if gap is not None:
            named = next(record for record in part if record.result is gap)
            return f"{named.evaluator}: {gap.reason}"
    return None if parts or not _passed_all(records) else "no graded evaluator applies to this Case"


def _passed_all(records: Sequence[ScoreRecord]) -> bool:
    return all(record.is_passed is not False for record in records)


def _graded(records: Sequence[ScoreRecord]) -> list[list[ScoreRecord]]:
    """The records that enter the mean, those of one Evaluator's judges together."""
    parts: dict[tuple[str, str], list[ScoreRecord]] = {}
    for record in records:
        if not record.is_gate and record.weight > 0:
            label = record.evaluator.removesuffix(f":{record.judge_model}")
            parts.setdefault((label, record.evaluator_version), []).append(record)
    return list(parts.values())


def _mean_score(part: Sequence[ScoreRecord]) -> float | None:
    if _gap(part) is not None:
        return None
    scores = [record.score for record in part if record.score is not None]
    return math.fsum(scores) / len(scores)


def _gap(part: Sequence[ScoreRecord]) -> Unscored | None:
    """Why the records of one Evaluator come to no number, None when they do."""
    unscored = [record.result for record in part if isinstance(record.result, Unscored)]
    telling = [one for one in unscored if not one.is_absence]
    if telling:
        return telling[0]
    return unscored[0] if len(unscored) == len(part) else None
