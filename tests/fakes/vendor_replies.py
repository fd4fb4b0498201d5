"""What gateways answer, in the shapes of two vendors, whole or in parts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

MODEL = "model-large"


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


class Shape(Protocol):
    """One vendor's way of saying things."""

    @property
    def api(self) -> Literal["anthropic", "openai"]: ...
    @property
    def path(self) -> str: ...
    @property
    def ping(self) -> bytes: ...
    def opening(self, *, model: str = MODEL) -> list[bytes]: ...
    def texts(self, *pieces: str) -> list[bytes]: ...
    def tool_call(self, name: str, *pieces: str) -> list[bytes]: ...
    def closing(
        self, *, stop: str = "end", usage: Mapping[str, Any] | None = None
    ) -> list[bytes]: ...
    def end(self) -> bytes: ...
    def message(
        self,
        text: str = "Hello there",
        *,
        model: str = MODEL,
        stop: str = "end",
        usage: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]: ...
    def usage(self) -> dict[str, Any]: ...
    def error(self, kind: str, message: str = "something") -> dict[str, Any]: ...
    def error_event(self, kind: str, message: str = "something") -> bytes: ...


def stream(shape: Shape, *pieces: str, stop: str = "end", model: str = MODEL) -> list[bytes]:
    """A whole stream of text."""
    return [
        *shape.opening(model=model),
        *shape.texts(*(pieces or ("Hello", " there"))),
        *shape.closing(stop=stop),
        shape.end(),
    ]


@dataclass(frozen=True, slots=True)
class AnthropicShape:
    """The Messages API."""

    api: Literal["anthropic", "openai"] = "anthropic"
    path: str = ""
    ping: bytes = b'event: ping\ndata: {"type": "ping"}\n\n'

    def opening(self, *, model: str = MODEL) -> list[bytes]:
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 11, "output_tokens": 1},
        }
        return [event({"type": "message_start", "message": message}, "message_start")]

    def texts(self, *pieces: str) -> list[bytes]:
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        return self.block({"type": "text", "text": ""}, deltas)

    def tool_call(self, name: str, *pieces: str) -> list[bytes]:
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return self.block(
            {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}, deltas, 1
        )

    def block(
        self, block: Mapping[str, Any], deltas: Sequence[Mapping[str, Any]], index: int = 0
    ) -> list[bytes]:
        start = {"type": "content_block_start", "index": index, "content_block": block}
        return [
            event(start, "content_block_start"),
            *(
                event(
                    {"type": "content_block_delta", "index": index, "delta": delta},
                    "content_block_delta",
                )
                for delta in deltas
            ),
            event({"type": "content_block_stop", "index": index}, "content_block_stop"),
        ]

    def closing(self, *, stop: str = "end", usage: Mapping[str, Any] | None = None) -> list[bytes]:
        reason = {"end": "end_turn", "length": "max_tokens", "tool": "tool_use"}.get(stop, stop)
        counted = {"output_tokens": 7} if usage is None else usage
        delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": counted}
        return [event(delta, "message_delta")]

    def end(self) -> bytes:
        return event({"type": "message_stop"}, "message_stop")

    def message(
        self,
        text: str = "Hello there",
        *,
        model: str = MODEL,
        stop: str = "end",
        usage: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        reason = {"end": "end_turn", "length": "max_tokens", "tool": "tool_use"}.get(stop, stop)
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": reason,
            "usage": self.usage() if usage is None else dict(usage),
        }

    def usage(self) -> dict[str, Any]:
        return {"input_tokens": 11, "output_tokens": 7}

    def error(self, kind: str, message: str = "something") -> dict[str, Any]:
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_9"}

    def error_event(self, kind: str, message: str = "something") -> bytes:
        return event(self.error(kind, message), "error")


@dataclass(frozen=True, slots=True)
class OpenAIShape:
    """Chat completions."""

    api: Literal["anthropic", "openai"] = "openai"
    path: str = "/v1"
    ping: bytes = b": ping\n\n"

    def opening(self, *, model: str = MODEL) -> list[bytes]:
        return [self.chunk({"role": "assistant", "content": ""}, model=model)]

    def texts(self, *pieces: str) -> list[bytes]:
        return [self.chunk({"content": piece}) for piece in pieces]

    def tool_call(self, name: str, *pieces: str) -> list[bytes]:
        first = {"index": 0, "id": "call_1", "type": "function"}
        return [
            self.chunk({"tool_calls": [{**first, "function": {"name": name, "arguments": ""}}]}),
            *(
                self.chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
                for piece in pieces
            ),
        ]

    def chunk(
        self, delta: Mapping[str, Any], *, model: str = MODEL, finish: str | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event({**self._envelope("chat.completion.chunk", model), "choices": [choice]})

    def closing(self, *, stop: str = "end", usage: Mapping[str, Any] | None = None) -> list[bytes]:
        last = self.chunk({}, finish=_FINISH.get(stop, stop))
        counted = self.usage() if usage is None else dict(usage)
        if not counted:
            return [last]
        envelope = self._envelope("chat.completion.chunk", MODEL)
        return [last, event({**envelope, "choices": [], "usage": counted})]

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def message(
        self,
        text: str = "Hello there",
        *,
        model: str = MODEL,
        stop: str = "end",
        usage: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": _FINISH.get(stop, stop)}
        return {
            **self._envelope("chat.completion", model),
            "choices": [choice],
            "usage": self.usage() if usage is None else dict(usage),
        }

    def usage(self) -> dict[str, Any]:
        return {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

    def error(self, kind: str, message: str = "something") -> dict[str, Any]:
        return {"error": {"message": message, "type": kind, "code": kind, "param": None}}

    def error_event(self, kind: str, message: str = "something") -> bytes:
        return event(self.error(kind, message))

    def _envelope(self, kind: str, model: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}


_FINISH = {"end": "stop", "length": "length", "tool": "tool_calls", "refusal": "content_filter"}
