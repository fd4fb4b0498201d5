"""Likeness to a reference by embeddings: `similarity` with `measure: embeddings`.

The one evaluator beside the judge that takes paid calls; they go through the same caller.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import ConfigDict

from app.calls.caller import CallRequest, Calls
from app.domain.attempts import Completion, Failure, Purpose, Reply, ShardRef
from app.domain.cases import Case, Message, Prompt
from app.domain.json_values import fingerprint
from app.domain.models import ModelSpec
from app.domain.prices import Price
from app.domain.scores import Score, ScoreRecord, Unscored
from app.evaluation.evaluator import is_within
from app.evaluation.references import NO_REFERENCE, ReferenceSource, reference_of
from app.evaluation.similarity import graded_likeness

CODE_VERSION = 1
"""Raise it whenever the same vectors would give other scores than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOptions:
    """What a Plan may say of a `similarity` by embeddings.

    Attributes:
        reference: Whence the reference comes: its own column, or the logged reply.
        at_least: Turns the measure into 1 or 0, as a gate needs it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    measure: Literal["embeddings"]
    reference: ReferenceSource = "column"
    at_least: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingEvaluator:
    """A use of embeddings as a Plan has it.

    Attributes:
        label: How its scores are named.
        version: Covers the embedding model, its parameters, the options and the code.
    """

    label: str
    version: str
    options: EmbeddingOptions
    is_gate: bool = False
    weight: float = 1.0
    when: Mapping[str, str] = field(default_factory=dict)

    def applies_to(self, case: Case) -> bool:
        """Whether the Case lies in the segments it is limited to."""
        return is_within(case, self.when)

    def record(self, case: Case, model_name: str, result: Score | Unscored) -> ScoreRecord:
        """The result as it is kept."""
        return ScoreRecord(
            case_id=case.case_id,
            model_name=model_name,
            evaluator=self.label,
            evaluator_version=self.version,
            result=result,
            is_gate=self.is_gate,
            weight=0.0 if self.is_gate else self.weight,
        )


def embedding_version(model: ModelSpec, options: EmbeddingOptions) -> str:
    """Changes with anything that may change the score, wherever the model is served."""
    how = [options.reference, options.at_least]
    return fingerprint(["embeddings", CODE_VERSION, dict(model.voice), how])


class Embeddings:
    """Measures how alike a reply and a reference are, one paid call per pair of texts.

    Args:
        calls: Makes the paid calls; a call settled before is not paid again.
        plan_name: The Plan that pays.
        model: The model that embeds.
        price: What it costs.
    """

    def __init__(self, calls: Calls, *, plan_name: str, model: ModelSpec, price: Price) -> None:
        self._calls = calls
        self._plan_name = plan_name
        self._model = model
        self._price = price
        self._answers: dict[tuple[str, str], Reply] = {}

    async def score(
        self, case: Case, reply: Completion, evaluator: EmbeddingEvaluator, *, shard: ShardRef
    ) -> Score | Unscored:
        """The cosine of reply and reference, below 0 counted as 0, or why there is none.

        Raises:
            GatewayRefused: If the endpoint refuses its credentials or knows no such model; and
                whatever else the caller raises.
        """
        options = evaluator.options
        wanted = reference_of(case, options.reference)
        if wanted is None or not wanted.strip():
            return NO_REFERENCE
        if not reply.text.strip():
            return graded_likeness(0.0, options.at_least, "no text to compare: likeness")
        request = self._request(case, reply.text, wanted, shard)
        key = (case.case_id, request.call_key)
        if key not in self._answers:
            self._answers[key] = await self._calls.call(request)
        likeness = _likeness(self._answers[key])
        if isinstance(likeness, Unscored):
            return likeness
        return graded_likeness(likeness, options.at_least, "cosine of embeddings")

    def forget(self, case_id: str) -> None:
        """Drop what is known of a Case that is done."""
        for key in [key for key in self._answers if key[0] == case_id]:
            del self._answers[key]

    def _request(self, case: Case, text: str, wanted: str, shard: ShardRef) -> CallRequest:
        return CallRequest(
            shard=shard,
            plan_name=self._plan_name,
            case_id=case.case_id,
            model=self._model,
            purpose=Purpose.JUDGE,
            call_key=f"embeddings:{self._model.name}:{fingerprint([wanted, text])}",
            prompt=Prompt(messages=tuple(_messages(wanted, text))),
            max_tokens=0,
            price=self._price,
            stream=False,
        )


def _messages(*texts: str) -> Iterator[Message]:
    for text in texts:
        yield Message(role="user", content=text)


def _likeness(answer: Reply) -> float | Unscored:
    """The one number of the reply; anything else is Unscored with its reason."""
    result = answer.result
    if isinstance(result, Failure):
        kind = str(result.failure_class)
        return Unscored(reason=f"no embedding: {kind}", detail={"failure": kind})
    try:
        (likeness,) = json.loads(result.text)
        return float(likeness)
    except (TypeError, ValueError):
        return Unscored(reason="no embedding: the reply holds no likeness", detail={})
