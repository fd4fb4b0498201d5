"""Embeddings of any OpenAI-compatible server, told as how alike texts are.

What is journaled of a call is the likeness, not the vectors: they are long, and texts can be told
from them.
"""

import json
import math
from collections.abc import Mapping, Sequence

from app.domain.attempts import Completion, Failure, FailureClass, StopReason
from app.domain.models import Endpoint, ModelSpec
from app.domain.prices import Usage
from app.ports import Clock, ModelRequest
from app.providers.model_names import REPORTED_MODEL, is_expected, mismatch_message
from app.providers.replies import (
    BadReply,
    Content,
    checked_usage,
    count,
    money,
    part,
    protocol_error,
)

#: Decided by the request, never by parameters.
_RESERVED = ("model", "input", "encoding_format", REPORTED_MODEL)


class EmbeddingsProvider:
    """Asks one endpoint for embeddings; its base URL includes `/v1`.

    The messages of the prompt are the texts. The reply's text is a JSON list: the cosine of the
    first text's vector with that of every other text, in order.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        from app.providers.openai_client import OpenAIEmbeddingsClient

        self._client = OpenAIEmbeddingsClient(endpoint, clock)

    async def send(self, request: ModelRequest) -> Completion | Failure:
        """Make exactly one HTTP call and validate what came back, within the deadline."""
        texts = [message.text for message in request.prompt.messages]
        if not all(texts):
            return Failure(
                failure_class=FailureClass.BAD_REQUEST,
                message="not sent: an empty text has no embedding",
            )
        params = {name: value for name, value in request.model.params.items() if value is not None}
        for name in _RESERVED:
            params.pop(name, None)
        body = {
            **params,
            "model": request.model.model,
            "input": texts,
            "encoding_format": "float",
        }
        reply = EmbeddingsReply(request.model, texts=len(texts))
        return await self._client.run(body, reply, deadline_s=request.deadline_s)

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()


class EmbeddingsReply:
    """Reads one list of embeddings: one finite vector per text, all of one length, or none."""

    def __init__(self, model: ModelSpec, *, texts: int) -> None:
        self._model = model
        self._texts = texts
        self._usage: Mapping[str, object] = {}
        self._likeness: list[float] = []
        self.has_content = False
        self.is_complete = False

    def event(self, name: bytes, data: bytes) -> None:  # noqa: ARG002 - the protocol names them
        """Refuse a stream: embeddings come as one document."""
        raise protocol_error("the gateway answered a request for embeddings with a stream")

    def document(self, document: object) -> None:
        """Take in the list of embeddings."""
        if not isinstance(document, dict) or not isinstance(document.get("data"), list):
            raise protocol_error(
                "the gateway answered with something that is not a list of embeddings"
            )
        self._usage = part(document, "usage")
        if not is_expected(self._model, document.get("model")):
            raise protocol_error(mismatch_message(self._model, document.get("model")))
        vectors = _vectors(document["data"], self._texts)
        self._likeness = [_cosine(vectors[0], other) for other in vectors[1:]]
        self.has_content = self.is_complete = True

    def content(self) -> Content:
        """How alike the texts are.

        Raises:
            BadReply: If no usage was told: the call's cost is unknown.
        """
        return Content(
            text=json.dumps(self._likeness),
            tool_calls=(),
            stop_reason=StopReason.END_TURN,
            usage=checked_usage(self._tokens(), has_output=False),
            reported_cost_usd=money(self._usage.get("cost")),
        )

    def usage_so_far(self) -> Usage | None:
        """What was counted up to now, None when nothing was."""
        try:
            usage = self._tokens()
        except BadReply:
            return None
        return usage if usage.input_tokens else None

    def _tokens(self) -> Usage:
        tokens = count(self._usage, "prompt_tokens") or count(self._usage, "total_tokens")
        return Usage(input_tokens=tokens, output_tokens=0)


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """The cosine of the angle between two vectors of length 1, from -1 to 1."""
    product = math.fsum(a * b for a, b in zip(first, second, strict=True))
    return min(max(product, -1.0), 1.0)


def _vectors(entries: Sequence[object], texts: int) -> list[list[float]]:
    """The vectors in the order of the texts, each of length 1.

    Raises:
        BadReply: If one is missing, comes twice, is of another length or has no direction.
    """
    found: dict[object, list[float]] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _malformed()
        found[entry.get("index", place)] = _vector(entry.get("embedding"))
    if len(entries) != texts or set(found) != set(range(texts)):
        raise protocol_error("the reply does not hold one embedding per text")
    vectors = [found[index] for index in range(texts)]
    if len({len(vector) for vector in vectors}) != 1:
        raise protocol_error("the reply holds embeddings of different lengths")
    return vectors


def _vector(value: object) -> list[float]:
    if not isinstance(value, list) or not value:
        raise _malformed()
    numbers = [one for one in value if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != len(value):
        raise _malformed()
    try:
        vector = [float(number) for number in numbers]
    except OverflowError:
        raise _malformed() from None
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0.0:
        raise protocol_error("the reply holds an embedding without a direction")
    return [number / length for number in vector]


def _malformed() -> BadReply:
    return protocol_error("the reply holds a malformed embedding")
