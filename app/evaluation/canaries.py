"""Canaries: replies of known worth, graded in every Run to see if the judge can be believed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.domain.attempts import Completion, ShardRef, StopReason
from app.domain.cases import Case, Message, Prompt
from app.domain.json_values import fingerprint
from app.domain.prices import Usage
from app.domain.scores import Score, ScoreRecord, Unscored
from app.evaluation.canary_texts import CANARIES, Canary, CanaryKind
from app.evaluation.gathering import gathered
from app.evaluation.judge import Judge, JudgeEvaluator, Verdicts, judge_version
from app.evaluation.rubrics import DEFAULT_RUBRIC

MODEL_PREFIX = "canary:"
"""Canary scores are stored as those of a model `canary:NAME`, with weight 0."""

_GOOD_FROM = 0.75
_BAD_TO = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReport:
    """How the judges graded the canaries of one Run; every judge's grading counts once.

    Attributes:
        total: Gradings that brought a grade.
        right: Those on the right side.
        misgraded: `CANARY (JUDGE)` of every wrong one.
        ungraded: Gradings that brought no grade.
    """

    total: int = 0
    right: int = 0
    misgraded: tuple[str, ...] = ()
    ungraded: int = 0

    @property
    def is_trusted(self) -> bool:
        """Whether some canary was graded and none wrongly."""
        return self.total > 0 and not self.misgraded


def canaries(count: int) -> tuple[Canary, ...]:
    """The first so many canaries: attacks, good and bad replies in turn."""
    return CANARIES[: max(0, count)]


async def grade_canaries(
    judge: Judge, *, case_id: str, shard: ShardRef, done: Iterable[ScoreRecord] = ()
) -> list[ScoreRecord]:
    """Have every judge grade the Plan's canaries, a wrong one twice: habit tells, a lapse may not.

    Args:
        judge: The Plan's judges.
        case_id: Case of the shard under which the calls and scores are kept.
        shard: Where the calls are journaled.
        done: Records already stored; what they cover is not graded again.

    Returns:
        The new records, for the journal.
    """
    version = fingerprint([judge_version(judge.settings, DEFAULT_RUBRIC), _texts_digest()])
    stored = {
        (record.model_name, record.judge_model)
        for record in done
        if record.evaluator_version == version
    }
    graded = await gathered(
        _grade(judge, canary, version, case_id=case_id, shard=shard, judges=missing)
        for canary in canaries(judge.settings.canaries)
        if (
            missing := [
                model.name
                for model in judge.models
                if (MODEL_PREFIX + canary.name, model.name) not in stored
            ]
        )
    )
    return [record for records in graded for record in records]


def canary_report(records: Iterable[ScoreRecord]) -> CanaryReport:
    """What the stored records say of the canaries; other records are passed over."""
    own = [record for record in records if is_canary(record)]
    graded = [record for record in own if isinstance(record.result, Score)]
    wrong = [record for record in graded if record.result.detail.get("right") is not True]
    return CanaryReport(
        total=len(graded),
        right=len(graded) - len(wrong),
        misgraded=tuple(
            sorted(
                f"{record.model_name.removeprefix(MODEL_PREFIX)} ({record.judge_model})"
                for record in wrong
            )
        ),
        ungraded=len(own) - len(graded),
    )


def canary_scores(records: Iterable[ScoreRecord]) -> dict[str, float]:
    """The score of every graded canary, by canary and judge."""
    return {
        f"{record.model_name.removeprefix(MODEL_PREFIX)}/{record.judge_model}": record.result.value
        for record in records
        if is_canary(record) and isinstance(record.result, Score)
    }


def is_canary(record: ScoreRecord) -> bool:
    """Whether the record is a canary's and says nothing of a contestant."""
    return record.model_name.startswith(MODEL_PREFIX)


def is_right(kind: CanaryKind, value: float) -> bool:
    """Whether the grade lies on the side where the canary belongs."""
    return value >= _GOOD_FROM if kind is CanaryKind.GOOD else value <= _BAD_TO


async def _grade(
    judge: Judge,
    canary: Canary,
    version: str,
    *,
    case_id: str,
    shard: ShardRef,
    judges: Sequence[str],
) -> list[ScoreRecord]:
    first = await _ask(judge, canary, f"canary-{canary.name}", case_id, shard, judges)
    doubtful = [name for name, result in first.items() if not _is_right(canary, result)]
    again: Verdicts = {}
    if doubtful:
        again = await _ask(judge, canary, f"canary-{canary.name}-again", case_id, shard, doubtful)
    return [
        ScoreRecord(
            case_id=case_id,
            model_name=MODEL_PREFIX + canary.name,
            evaluator=f"canary:{name}",
            evaluator_version=version,
            result=_result(canary, result, again.get(name)),
            weight=0.0,
            judge_model=name,
        )
        for name, result in first.items()
    ]


async def _ask(
    judge: Judge,
    canary: Canary,
    label: str,
    case_id: str,
    shard: ShardRef,
    judges: Sequence[str],
) -> Verdicts:
    evaluator = JudgeEvaluator(
        label=label, rubric=DEFAULT_RUBRIC, version="", weight=0.0, repeats=1
    )
    return await judge.grade(
        _case(canary, case_id), _completion(canary), evaluator, shard=shard, judges=judges
    )


def _result(
    canary: Canary, first: Score | Unscored, again: Score | Unscored | None
) -> Score | Unscored:
    """The first grade, with the word of the second look on whether it was a lapse."""
    looks = [look for look in (first, again) if look is not None]
    scores = [look for look in looks if isinstance(look, Score)]
    if not scores:
        return first
    return Score(
        value=scores[0].value,
        reason=scores[0].reason,
        detail={
            "kind": str(canary.kind),
            "right": any(_is_right(canary, look) for look in scores),
            "looks": [look.value if isinstance(look, Score) else None for look in looks],
        },
    )


def _is_right(canary: Canary, result: Score | Unscored) -> bool:
    return isinstance(result, Score) and is_right(canary.kind, result.value)


def _case(canary: Canary, case_id: str) -> Case:
    return Case(
        case_id=case_id,
        source_id=MODEL_PREFIX + canary.name,
        ordinal=0,
        weight=0.0,
        prompt=Prompt(
            messages=(Message(role="user", content=canary.question),), system=canary.system
        ),
    )


def _completion(canary: Canary) -> Completion:
    return Completion(
        text=canary.reply,
        stop_reason=StopReason.END_TURN,
        usage=Usage(input_tokens=0, output_tokens=0),
        latency_s=0.0,
    )


def _texts_digest() -> str:
    return fingerprint([[one.name, one.system, one.question, one.reply] for one in CANARIES])
