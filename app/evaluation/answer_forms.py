"""How a judge is asked to answer: by a forced tool, by a JSON schema, or in strict text."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from app.domain.attempts import Completion, Failure, FailureClass, Reply
from app.domain.json_values import JsonObject
from app.domain.models import ModelSpec
from app.evaluation.json_text import json_objects
from app.evaluation.judge_prompts import AnswerForm

_ORDER: tuple[AnswerForm, ...] = ("tool", "json_schema", "text")

Ask = Callable[[AnswerForm], Awaitable[Reply]]


class AnswerForms:
    """Finds out once per judge which form its endpoint supports, and remembers it.

    Args:
        wanted: The form the Plan asks for; `auto` tries them in order on the first call of each
            judge, while its other calls wait.
    """

    def __init__(self, wanted: Literal["auto"] | AnswerForm) -> None:
        self._wanted = wanted
        self._known: dict[tuple[str, str], AnswerForm] = {}
        self._probing: dict[tuple[str, str], asyncio.Lock] = {}

    async def ask(self, model: ModelSpec, ask: Ask) -> tuple[AnswerForm, Reply]:
        """Make the call in the form that the judge's endpoint supports."""
        if self._wanted != "auto":
            return self._wanted, await ask(self._wanted)
        key = (model.endpoint.key, model.model)
        if (known := self._known.get(key)) is not None:
            return known, await ask(known)
        async with self._probing.setdefault(key, asyncio.Lock()):
            if key not in self._known:
                return await self._probe(key, ask)
        return self._known[key], await ask(self._known[key])

    async def _probe(self, key: tuple[str, str], ask: Ask) -> tuple[AnswerForm, Reply]:
        for form in _ORDER:
            reply = await ask(form)
            supports = is_supported(form, reply)
            if supports:
                self._known[key] = form
            if supports is not False or form == _ORDER[-1]:
                break
        return form, reply


def is_supported(form: AnswerForm, reply: Reply) -> bool | None:
    """Whether the reply shows that the endpoint supports the form; None when it shows neither."""
    result = reply.result
    if isinstance(result, Failure):
        return False if result.failure_class is FailureClass.BAD_REQUEST else None
    if result.failure_class in {FailureClass.REFUSAL, FailureClass.TRUNCATED}:
        return None
    return form == "text" or structured_answer(form, result) is not None


def structured_answer(form: AnswerForm, completion: Completion) -> JsonObject | None:
    """The object a judge answered with, None when it did not answer in that form."""
    if form == "tool":
        return _tool_input(completion)
    if form == "json_schema":
        objects = list(json_objects(completion.text))
        return objects[0] if len(objects) == 1 else None
    return None


def _tool_input(completion: Completion) -> JsonObject | None:
    if len(completion.tool_calls) != 1:
        return None
    answer = completion.tool_calls[0].get("input")
    return answer if isinstance(answer, dict) else None
