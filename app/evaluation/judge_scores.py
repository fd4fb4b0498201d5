"""Judge replies turned into Scores: one grade or preference per reply, averaged over repeats."""

import math
from collections.abc import Mapping, Sequence

from app.domain.attempts import Completion, Failure, FailureClass, Reply
from app.domain.scores import Score, Unscored, not_asked
from app.evaluation.answer_forms import structured_answer
from app.evaluation.judge_prompts import AnswerForm
from app.evaluation.judge_replies import (
    FIVE,
    Choice,
    Grade,
    Preference,
    choice_of,
    grade_of,
    parse_choice,
    parse_grade,
)

CODE_VERSION = 1
"""Raise it whenever the same judge replies would give other scores than before."""

_WORTH: Mapping[tuple[Preference, Preference], float] = {
    ("second", "first"): 1.0,
    ("first", "second"): 0.0,
}
"""What the candidate gained, shown second and then first; whatever else is said is a tie."""


def read_grade(form: AnswerForm, reply: Reply) -> Grade | Unscored:
    """The grade in a judge's reply: structured if it is, else by strict parsing of its text."""
    completion = _usable(reply)
    if isinstance(completion, Unscored):
        return completion
    answer = structured_answer(form, completion)
    structured = grade_of(answer) if answer is not None else None
    if isinstance(structured, Grade):
        return structured
    strict = parse_grade(completion.text)
    return structured or strict if isinstance(strict, Unscored) else strict


def read_choice(form: AnswerForm, reply: Reply) -> Choice | Unscored:
    """The preference in a judge's reply: structured if it is, else by strict parsing."""
    completion = _usable(reply)
    if isinstance(completion, Unscored):
        return completion
    answer = structured_answer(form, completion)
    structured = choice_of(answer) if answer is not None else None
    if isinstance(structured, Choice):
        return structured
    strict = parse_choice(completion.text)
    return structured or strict if isinstance(strict, Unscored) else strict


def mean_grade(grades: Sequence[Grade | Unscored], *, words: int) -> Score | Unscored:
    """The mean of the repeated grades on 0..1; Unscored only when every repeat is."""
    found = [grade for grade in grades if isinstance(grade, Grade)]
    if not found:
        return _first_unscored(grades)
    stated = [grade.value if isinstance(grade, Grade) else None for grade in grades]
    return Score(
        value=_bounded(math.fsum(FIVE.share(grade.value) for grade in found) / len(found)),
        reason=found[0].reason,
        detail={"grades": stated, "words": words},
    )


def mean_choice(orders: Sequence[tuple[Choice | Unscored, Choice | Unscored]]) -> Score | Unscored:
    """The candidate's mean gain over the repeats, each asked in both orders.

    Args:
        orders: Per repeat, what was said with the candidate second, and with it first.
    """
    pairs = [
        (one, other)
        for one, other in orders
        if isinstance(one, Choice) and isinstance(other, Choice)
    ]
    if not pairs:
        return _first_unscored([said for order in orders for said in order])
    worth = [_WORTH.get((one.better, other.better), 0.5) for one, other in pairs]
    said = [[one.better, other.better] for one, other in pairs]
    return Score(
        value=math.fsum(worth) / len(worth), reason=pairs[0][0].reason, detail={"orders": said}
    )


def is_consistent(order: Sequence[object]) -> bool:
    """Whether a preference survived the swap of the two replies."""
    return tuple(order) in {("first", "second"), ("second", "first"), ("tie", "tie")}


def word_count(completion: Completion) -> int:
    """Words of a reply, for the figure of verbosity bias."""
    return len(completion.text.split())


def _usable(reply: Reply) -> Completion | Unscored:
    """The completion, if the judge ended properly."""
    result = reply.result
    failure = result.failure_class
    if isinstance(result, Failure):
        return not_asked(result.failure_class)
    match failure:
        case None | FailureClass.EMPTY:
            return result
        case FailureClass.REFUSAL:
            return Unscored(reason="the judge refused", detail={"failure": str(failure)})
        case _:
            return Unscored(
                reason="the judge's reply was cut off", detail={"failure": str(failure)}
            )


def _first_unscored(said: Sequence[object]) -> Unscored:
    return next(
        (one for one in said if isinstance(one, Unscored)), Unscored(reason="no judge was asked")
    )


def _bounded(share: float) -> float:
    return min(max(share, 0.0), 1.0)
