"""One judgement by one judge: the paid call that asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.calls.caller import CallRequest, Calls
from app.domain.attempts import Purpose, Reply, ShardRef
from app.domain.cases import Prompt
from app.domain.json_values import JsonObject
from app.domain.models import ModelSpec
from app.domain.plans import JudgeSettings
from app.domain.prices import Price
from app.evaluation.answer_forms import AnswerForms
from app.evaluation.judge_prompts import (
    CHOICE_SCHEMA,
    CHOICE_TOOL,
    GRADE_SCHEMA,
    GRADE_TOOL,
    AnswerForm,
    Exhibit,
    judge_prompt,
)

DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is asked of every judge.

    Attributes:
        subject: What tells this judgement from the others of its Case.
    """

    exhibit: Exhibit
    rubric: str
    subject: str
    shard: ShardRef


class JudgeCalls:
    """Asks one judge for one judgement, in the form its endpoint supports.

    Args:
        calls: Makes the paid calls.
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
        self._calls = calls
        self._plan_name = plan_name
        self._prices = prices
        self._seed = seed
        self._forms = AnswerForms(settings.structured)

    async def answer(self, judgement: Judgement, model: ModelSpec) -> tuple[AnswerForm, Reply]:
        """The judge's reply and the form it was asked for."""

        async def ask(form: AnswerForm) -> Reply:
            return await self._calls.call(self._request(judgement, model, form))

        return await self._forms.ask(model, ask)

    def _request(self, judgement: Judgement, model: ModelSpec, form: AnswerForm) -> CallRequest:
        exhibit = judgement.exhibit
        key = f"judge:{model.name}:{judgement.subject}:{form}"
        prompt = judge_prompt(
            exhibit,
            rubric=judgement.rubric,
            form=form,
            parts=(self._seed, judgement.shard.run_id, exhibit.case.case_id, key),
        )
        params = dict(model.params)
        max_tokens = params.pop("max_tokens", DEFAULT_MAX_TOKENS)
        tool, schema = _shapes(form, is_pair=len(exhibit.replies) > 1)
        return CallRequest(
            shard=judgement.shard,
            plan_name=self._plan_name,
            case_id=exhibit.case.case_id,
            model=model,
            purpose=Purpose.JUDGE,
            call_key=key,
            prompt=Prompt(messages=prompt.messages, system=prompt.system, params=params),
            max_tokens=max_tokens if isinstance(max_tokens, int) else DEFAULT_MAX_TOKENS,
            price=self._prices[model.name],
            answer_tool=tool,
            answer_schema=schema,
            stream=False,
        )


def _shapes(form: AnswerForm, *, is_pair: bool) -> tuple[JsonObject | None, JsonObject | None]:
    """The tool to force and the schema to demand."""
    match form:
        case "tool":
            return (CHOICE_TOOL if is_pair else GRADE_TOOL), None
        case "json_schema":
            return None, (CHOICE_SCHEMA if is_pair else GRADE_SCHEMA)
        case "text":
            return None, None
