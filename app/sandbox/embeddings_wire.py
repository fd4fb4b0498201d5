"""The OpenAI embeddings API: texts in, one vector each out."""

import json
from collections.abc import Mapping

from app.sandbox.dialogue import Ask, Turn
from app.sandbox.openai_wire import OpenAIWire
from app.sandbox.wire import MalformedRequestError, Rendering, sequence


class EmbeddingsWire(OpenAIWire):
    """Speaks `POST /v1/embeddings`; its errors are those of chat completions."""

    name = "embeddings"

    def ask(self, body: Mapping[str, object]) -> Ask:
        """The request; MalformedRequestError when a field is missing or of a wrong type."""
        model = body.get("model")
        if not isinstance(model, str):
            raise MalformedRequestError("you must provide a model parameter")
        given = body.get("input")
        texts = [given] if isinstance(given, str) else sequence(given, "input")
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise MalformedRequestError("'input' must be a text or a list of texts, none empty")
        if body.get("encoding_format", "float") != "float":
            raise MalformedRequestError("'encoding_format' must be float")
        return Ask(
            model=model,
            turns=tuple(Turn(role="user", text=str(text)) for text in texts),
            wants_vectors=True,
        )

    def plain(self, rendering: Rendering) -> dict[str, object]:
        """The reply as a list of embeddings."""
        vectors = json.loads(rendering.answer.text)
        entries = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        if rendering.has_unknown_block:
            entries = [{"object": "hologram", "index": 0}]
        reply: dict[str, object] = {"object": "list", "data": entries, "model": rendering.model}
        if rendering.has_usage:
            tokens = rendering.answer.input_tokens + rendering.answer.cache_read_tokens
            reply["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return reply
