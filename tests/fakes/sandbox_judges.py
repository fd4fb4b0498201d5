"""Judges with the minds of the sandbox's models, called without any network."""

import json
from collections import Counter

from app.calls.caller import CallRequest
from app.domain.attempts import Completion, StopReason
from app.domain.prices import Usage
from app.sandbox.brain import Brain
from app.sandbox.dialogue import Ask, Tool, Turn
from app.sandbox.world import JudgeSpec, ModelSpec, World


class SandboxMind:
    """Answers judge calls as the sandbox's gateway would."""

    def __init__(self, brain: Brain, *, week: int = 1) -> None:
        self._brain = brain
        self._week = week
        self._times: Counter[str] = Counter()

    @classmethod
    def of(cls, judge: JudgeSpec, *, seed: int = 1) -> "SandboxMind":
        """The mind of the fakes' one judge."""
        models = {"judge-id": ModelSpec(judge=judge)}
        return cls(Brain(world=World(models=models, seed=seed)))

    def __call__(self, request: CallRequest) -> Completion:
        ask = _ask(request)
        answer = self._brain.answer(
            ask, week=self._week, repeats=lambda judged: self._times[judged]
        )
        self._times[answer.judged or ""] += 1
        call = {"type": "tool_use", "id": "t", "name": answer.tool}
        calls = () if answer.tool is None else ({**call, "input": json.loads(answer.tool_input)},)
        return Completion(
            text=answer.text,
            stop_reason=StopReason(answer.stop_reason),
            usage=Usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens),
            latency_s=0.0,
            tool_calls=calls,
        )


def _ask(request: CallRequest) -> Ask:
    tool = request.answer_tool
    schema = tool["input_schema"] if tool is not None else None
    tools = () if tool is None else (Tool(name=str(tool["name"]), schema=schema),)  # type: ignore[arg-type]
    return Ask(
        model=request.model.model,
        system=request.prompt.system or "",
        turns=tuple(Turn(role=one.role, text=one.text) for one in request.prompt.messages),
        tools=tools,
        tool_choice="auto" if tool is None else str(tool["name"]),
        schema=request.answer_schema,
        max_tokens=request.max_tokens,
    )
