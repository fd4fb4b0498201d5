"""A model API that answers from a script."""

import inspect
from collections.abc import Awaitable, Callable, Sequence

from app.domain.attempts import Completion, Failure, FailureClass, StopReason
from app.domain.prices import Usage
from app.ports import ModelRequest

Answer = Completion | Failure
Script = Callable[[ModelRequest], Answer | Awaitable[Answer]] | Sequence[Answer]


class FakeProvider:
    """Answers what the script says: a function of the request, or answers in turn.

    The last of a sequence is given for ever. Every request is kept in `requests`.
    """

    def __init__(self, script: Script | None = None) -> None:
        self._script: Script = [completion()] if script is None else script
        self.requests: list[ModelRequest] = []
        self.is_closed = False

    async def send(self, request: ModelRequest) -> Completion | Failure:
        """Give the next answer of the script."""
        self.requests.append(request)
        if callable(self._script):
            answer = self._script(request)
            return await answer if inspect.isawaitable(answer) else answer
        return self._script[min(len(self.requests), len(self._script)) - 1]

    async def close(self) -> None:
        """Be closed."""
        self.is_closed = True


def completion(
    text: str = "Hello there",
    *,
    stop_reason: StopReason = StopReason.END_TURN,
    input_tokens: int = 11,
    output_tokens: int = 7,
    ttft_s: float | None = 0.1,
    latency_s: float = 0.5,
) -> Completion:
    """A proper answer."""
    return Completion(
        text=text,
        stop_reason=stop_reason,
        usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens),
        latency_s=latency_s,
        ttft_s=ttft_s,
        request_id="req_1",
    )


def failure(
    failure_class: FailureClass = FailureClass.SERVER,
    *,
    http_status: int | None = 500,
    retry_after_s: float | None = None,
    is_cost_unknown: bool = False,
) -> Failure:
    """No answer."""
    return Failure(
        failure_class=failure_class,
        message=f"scripted {failure_class}",
        http_status=http_status,
        retry_after_s=retry_after_s,
        is_cost_unknown=is_cost_unknown,
        latency_s=0.1,
    )
