"""Fakes for evaluation: a caller whose judges answer as told, and short makers of nouns."""

import asyncio
import json
from collections.abc import Callable, Mapping
from decimal import Decimal

from app.calls.caller import CallRequest
from app.domain.attempts import (
    Completion,
    Failure,
    FailureClass,
    Reply,
    ShardRef,
    StopReason,
)
from app.domain.cases import Case, Message, Prompt
from app.domain.json_values import JsonObject
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.plans import EvaluatorSettings, JudgeSettings, LogSettings, Plan, SampleSettings
from app.domain.prices import Price, Rates, Usage

SHARD = ShardRef(run_id="run-1", shard_no=0, fence=1)
PRICE = Price(rates=Rates(input=Decimal(1), output=Decimal(2)))

Answer = Completion | Failure
Answering = Callable[[CallRequest], Answer]


class FakeCalls:
    """Answers paid calls by a function and pays each call key once, as the caller does."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.paid: list[CallRequest] = []
        self.asked: list[CallRequest] = []
        self._settled: dict[tuple[str, str], Reply] = {}

    async def call(self, request: CallRequest) -> Reply:
        self.asked.append(request)
        await asyncio.sleep(0)
        key = (request.case_id, request.call_key)
        if key not in self._settled:
            self.paid.append(request)
            self._settled[key] = Reply(
                case_id=request.case_id,
                model_name=request.model.name,
                call_key=request.call_key,
                result=self._answer(request),
                attempts=1,
                spend_usd=Decimal("0.01"),
            )
        return self._settled[key]


def completion(
    text: str = "An answer.",
    *,
    stop: StopReason = StopReason.END_TURN,
    tool_calls: tuple[JsonObject, ...] = (),
    latency_s: float = 1.0,
    ttft_s: float | None = 0.2,
) -> Completion:
    return Completion(
        text=text,
        stop_reason=stop,
        usage=Usage(input_tokens=10, output_tokens=5),
        latency_s=latency_s,
        ttft_s=ttft_s,
        tool_calls=tool_calls,
    )


def graded(score: object, reason: str = "It is what it is.") -> Completion:
    """A judge's answer by the grading tool."""
    return _called("record_grade", {"reason": reason, "score": score})


def preferred(better: object, reason: str = "It says more.") -> Completion:
    """A judge's answer by the preference tool."""
    return _called("record_preference", {"reason": reason, "better": better})


def in_json(answer: Mapping[str, object]) -> Completion:
    """A judge's answer as JSON text."""
    return completion(json.dumps(answer))


def refused(failure_class: FailureClass = FailureClass.BAD_REQUEST) -> Failure:
    return Failure(failure_class=failure_class, message="the endpoint said no")


def _called(tool: str, given: Mapping[str, object]) -> Completion:
    call = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": dict(given)}
    return completion("", stop=StopReason.TOOL_USE, tool_calls=(call,))


def case(
    text: str = "How do I reset my password?",
    *,
    case_id: str = "case-1",
    reference: str | None = None,
    logged: str | None = None,
    segments: Mapping[str, str] | None = None,
    system: str | None = None,
    turns: tuple[Message, ...] = (),
    tool_calls: tuple[JsonObject, ...] = (),
) -> Case:
    return Case(
        case_id=case_id,
        source_id="row-1",
        ordinal=0,
        prompt=Prompt(messages=(*turns, Message(role="user", content=text)), system=system),
        weight=1.0,
        reference=reference,
        logged_response=logged,
        segments=segments or {},
        tool_calls=tool_calls,
    )


def reply(model: str, result: Answer, *, case_id: str = "case-1") -> Reply:
    return Reply(
        case_id=case_id,
        model_name=model,
        call_key=f"replay:{model}",
        result=result,
        attempts=1,
        spend_usd=Decimal("0.01"),
    )


def model(
    name: str,
    *,
    model_id: str | None = None,
    role: Role = Role.CANDIDATE,
    base_url: str = "http://127.0.0.1:1",
    params: Mapping[str, object] | None = None,
) -> ModelSpec:
    return ModelSpec(
        name=name,
        model=model_id or f"{name}-id",
        role=role,
        endpoint=Endpoint(base_url=base_url),
        params=params or {},
    )


def judge_settings(*names: str, **options: object) -> JudgeSettings:
    models = tuple(model(name, role=Role.JUDGE) for name in names or ("judge",))
    return JudgeSettings(models=models, **options)  # type: ignore[arg-type]


def plan(
    *evaluators: EvaluatorSettings,
    judge: JudgeSettings | None = None,
    primary: ModelSpec | None = None,
    candidates: tuple[ModelSpec, ...] | None = None,
) -> Plan:
    return Plan(
        name="support-bot",
        primary=primary or model("prod", role=Role.PRIMARY),
        candidates=candidates if candidates is not None else (model("small"), model("tiny")),
        logs=LogSettings(),
        sample=SampleSettings(),
        evaluators=evaluators,
        judge=judge,
    )
