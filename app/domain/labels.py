"""Labels: what people think of replies that a judge has scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.scores import ScoreRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One person's score of one reply.

    Attributes:
        score: 0..1, on the judge's scale.
        judge_version: Version of the judge whose score of this reply it is compared with.
    """

    run_id: str
    case_id: str
    model_name: str
    score: float
    labelled_by: str
    labelled_at: datetime
    judge_version: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError("a label lies between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedReply:
    """A reply that can be labelled: its text and everything the Evaluators said of it."""

    completion: Completion
    records: tuple[ScoreRecord, ...]

    @property
    def judge_version(self) -> str | None:
        """Version of the judge that scored it, None where none did."""
        return judge_version_of(self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCase:
    """A Case of a finished Run with the successful, judged replies to it, by model name."""

    run_id: str
    case: Case
    replies: Mapping[str, JudgedReply]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledReply:
    """A reply that people have labelled, beside what the Evaluators said of it.

    Attributes:
        model: Id that was sent to the endpoint.
        conversation: The independent unit it belongs to.
        human: Mean of the people's scores.
        raters: How many people scored it.
        judge_version: Version of the judge that scored it.
        records: Every score record of the reply.
    """

    run_id: str
    case_id: str
    model_name: str
    model: str
    conversation: str | None
    human: float
    raters: int
    judge_version: str
    records: tuple[ScoreRecord, ...]


def judge_version_of(records: Sequence[ScoreRecord]) -> str | None:
    """The version of the judge among these records of one reply; None when it was not judged.

    A reply judged by several rubrics has the versions of all of them, joined.
    """
    versions = {record.evaluator_version for record in records if counts_as_judged(record)}
    return "+".join(sorted(versions)) or None


def counts_as_judged(record: ScoreRecord) -> bool:
    """Whether the record is a judge's score that enters the quality of the reply."""
    return record.judge_model is not None and record.weight > 0 and record.score is not None
