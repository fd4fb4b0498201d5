"""Scores: what an Evaluator says about a Completion."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """One Evaluator's word on one reply, as it is kept.

    Attributes:
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
