"""The judge: asks one or several models for a grade or a preference.

Believes no more than they said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.calls.caller import Calls
from app.domain.attempts import Completion, Reply, ShardRef
from app.domain.cases import Case
from app.domain.errors import GatewayRefused
from app.domain.json_values import fingerprint
from app.domain.models import ModelSpec
from app.domain.plans import JudgeSettings
from app.domain.prices import Price
from app.domain.scores import DROPPED_OUT, Score, Unscored
from app.evaluation.evaluator import is_within
from app.evaluation.gathering import gathered
from app.evaluation.judge_calls import JudgeCalls, Judgement
from app.evaluation.judge_prompts import TEMPLATE_DIGEST, AnswerForm, Exhibit
from app.evaluation.judge_scores import (
    CODE_VERSION,
    mean_choice,
    mean_grade,
    read_choice,
    read_grade,
    word_count,
)
from app.evaluation.references import reference_of

Verdicts = Mapping[str, Score | Unscored]
"""What each judge said, by its name."""

_Answers = Sequence[tuple[AnswerForm, Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeEvaluator:
    """A judge as a Plan uses it.

    Attributes:
        label: How its scores are named.
        rubric: What it grades by.
        version: Covers rubric, templates, judge models, parameters and code.
        repeats: Judgements per reply; None for as many as the Plan says.
    """

    label: str
    rubric: str
    version: str
    weight: float = 1.0
    when: Mapping[str, str] = field(default_factory=dict)
    repeats: int | None = None

    def applies_to(self, case: Case) -> bool:
        """Whether the Case lies in the segments it is limited to."""
        return is_within(case, self.when)


def judge_version(settings: JudgeSettings, rubric: str) -> str:
    """Changes with anything that may change what the judge says, wherever it is served."""
    models = [dict(model.voice) for model in settings.models]
    how = [settings.mode, settings.reference, settings.repeats, settings.structured]
    return fingerprint([CODE_VERSION, TEMPLATE_DIGEST, rubric, models, how])


class Judge:
    """Asks the Plan's judge models, all of them alike and each `repeats` times.

    Args:
        calls: Makes the paid calls; a call settled before is not paid again.
        plan_name: The Plan that pays.
        settings: Who judges and how.
        prices: Prices of the judge models by name.
        seed: The Run's seed; keeps the random tokens from being foreseen.
    """

    def __init__(
        self,
        calls: Calls,
        *,
        plan_name: str,
        settings: JudgeSettings,
        prices: Mapping[str, Price],
        seed: int,
    ) -> None:
        self._settings = settings
        self._calls = JudgeCalls(
            calls, plan_name=plan_name, settings=settings, prices=prices, seed=seed
        )

    @property
    def settings(self) -> JudgeSettings:
        """Who judges and how."""
        return self._settings

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The judge models."""
        return self._settings.models

    async def grade(
        self,
        case: Case,
        reply: Completion,
        evaluator: JudgeEvaluator,
        *,
        shard: ShardRef,
        judges: Sequence[str] | None = None,
    ) -> Verdicts:
        """Every judge's mean grade of the reply, from 0 (worst) to 1, or why there is none.

        Args:
            case: What was asked.
            reply: What is graded; whose it is stays hidden from the judge.
            evaluator: The rubric to grade by.
            shard: Where the calls are journaled.
            judges: Names of the judges to ask; all by default.

        Raises:
            GatewayRefused: If every judge's endpoint refuses it.
        """
        judgements = [
            Judgement(
                exhibit=self._exhibit(case, reply),
                rubric=evaluator.rubric,
                subject=f"{evaluator.label}:{reply.fingerprint}:{repeat}",
                shard=shard,
            )
            for repeat in range(evaluator.repeats or self._settings.repeats)
        ]

        def read(answers: _Answers) -> Score | Unscored:
            return mean_grade([read_grade(*said) for said in answers], words=word_count(reply))

        return await self._ask_all(judgements, read, judges)

    async def compare(
        self,
        case: Case,
        replies: tuple[Completion, Completion],
        evaluator: JudgeEvaluator,
        *,
        shard: ShardRef,
        judges: Sequence[str] | None = None,
    ) -> Verdicts:
        """What every judge thinks of the second reply beside the first: 1 better, ½ tie, 0 worse.

        Both orders are asked for; where they disagree it is a tie. Equal replies tie unasked.

        Args:
            case: What was asked.
            replies: The primary's reply and the candidate's.
            evaluator: The rubric to compare by.
            shard: Where the calls are journaled.
            judges: Names of the judges to ask; all by default.

        Raises:
            GatewayRefused: If every judge's endpoint refuses it.
        """
        if replies[0].fingerprint == replies[1].fingerprint:
            tie = Score(value=0.5, reason="the replies are equal", detail={"orders": []})
            return {model.name: tie for model in self._asked(judges)}
        judgements = [
            Judgement(
                exhibit=self._exhibit(case, *order),
                rubric=evaluator.rubric,
                subject=":".join(
                    (evaluator.label, order[0].fingerprint, order[1].fingerprint, str(repeat))
                ),
                shard=shard,
            )
            for repeat in range(evaluator.repeats or self._settings.repeats)
            for order in (replies, replies[::-1])
        ]

        def read(answers: _Answers) -> Score | Unscored:
            choices = [read_choice(*said) for said in answers]
            return mean_choice(list(zip(choices[::2], choices[1::2], strict=True)))

        return await self._ask_all(judgements, read, judges)

    def _exhibit(self, case: Case, *replies: Completion) -> Exhibit:
        source = self._settings.reference
        reference = None if source == "none" else reference_of(case, source)
        return Exhibit(case=case, replies=replies, reference=reference)

    def _asked(self, judges: Sequence[str] | None) -> list[ModelSpec]:
        return [model for model in self.models if judges is None or model.name in judges]

    async def _ask_all(
        self,
        judgements: Sequence[Judgement],
        read: Callable[[_Answers], Score | Unscored],
        judges: Sequence[str] | None,
    ) -> Verdicts:
        """Ask all judges at once; one that its endpoint refuses drops out, the others go on."""
        models = self._asked(judges)
        refusals: list[GatewayRefused] = []

        async def ask(model: ModelSpec) -> Score | Unscored:
            try:
                return read(await gathered(self._calls.answer(one, model) for one in judgements))
            except GatewayRefused as refusal:
                refusals.append(refusal)
                return DROPPED_OUT

        said = await gathered(ask(model) for model in models)
        if refusals and len(refusals) == len(self.models):
            raise refusals[0]
        return {model.name: one for model, one in zip(models, said, strict=True)}
