"""Which fault meets a call, and what an error of its kind looks like."""

import time
from dataclasses import dataclass, replace
from email.utils import formatdate

from app.sandbox.dialogue import Answer, Ask
from app.sandbox.draws import uniform
from app.sandbox.world import Fault, FaultKind

_LIMIT = (
    "You have reached your specified API usage limits. You will regain access on the first day of "
    "next month at 00:00 UTC."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An answer that is an HTTP error."""

    status: int
    kind: str
    message: str
    retry_after: str | None = None


_REFUSALS: dict[FaultKind, Refused] = {
    FaultKind.RATE_LIMITED: Refused(
        status=429,
        kind="rate_limit_error",
        message="This request would exceed your rate limit. Please try again later.",
    ),
    FaultKind.OVERLOADED: Refused(status=529, kind="overloaded_error", message="Overloaded"),
    FaultKind.SERVER_ERROR: Refused(status=500, kind="api_error", message="Internal server error"),
    FaultKind.UNAUTHORIZED: Refused(
        status=401, kind="authentication_error", message="invalid x-api-key"
    ),
    FaultKind.BILLING: Refused(
        status=402, kind="billing_error", message="Your credit balance is too low."
    ),
    FaultKind.FORBIDDEN: Refused(
        status=403, kind="permission_error", message="Your key may not use this model."
    ),
    FaultKind.NOT_FOUND: Refused(status=404, kind="not_found_error", message="model not found"),
    FaultKind.TOO_LARGE: Refused(
        status=413, kind="request_too_large", message="Request exceeds the maximum size"
    ),
    FaultKind.SPEND_LIMIT: Refused(status=400, kind="invalid_request_error", message=_LIMIT),
    FaultKind.CONTEXT_LENGTH: Refused(
        status=400,
        kind="invalid_request_error",
        message="prompt is too long: 214133 tokens > 200000 maximum",
    ),
    FaultKind.BAD_REQUEST: Refused(
        status=400, kind="invalid_request_error", message="Invalid request"
    ),
}


def draw_fault(faults: tuple[Fault, ...], ask: Ask, *, seed: int, nth: int) -> Fault | None:
    """The fault that meets the nth call of this key, if any.

    Rates of several rules add up; a sticky rule draws once per key, another one per call.
    """
    fresh = stuck = -1.0
    for fault in faults:
        if fault.first is not None and nth > fault.first:
            continue
        if fault.contains is not None and fault.contains not in ask.prompt:
            continue
        if fault.sticky:
            stuck = uniform(seed, "stuck", ask.key) if stuck < 0 else stuck
            if stuck < fault.rate:
                return fault
            stuck -= fault.rate
        else:
            fresh = uniform(seed, "fault", ask.key, nth) if fresh < 0 else fresh
            if fresh < fault.rate:
                return fault
            fresh -= fault.rate
    return None


def refusal(fault: Fault) -> Refused | None:
    """The HTTP error of a fault; None when the fault is of another nature."""
    known = _REFUSALS.get(fault.kind)
    if known is None:
        return None
    return replace(
        known, message=fault.message or known.message, retry_after=_retry_after(fault.retry_after)
    )


def changed_answer(answer: Answer, fault: Fault) -> Answer:
    """The answer of a model that refuses, is cut short or says nothing."""
    half = max(len(answer.text) // 2, 1)
    match fault.kind:
        case FaultKind.REFUSAL:
            return replace(
                answer, text="I can't help with that.", tool=None, tool_input="",
                stop_reason="refusal", output_tokens=6,
            )  # fmt: skip
        case FaultKind.TRUNCATION:
            return replace(
                answer,
                text=answer.text[:half],
                tool_input=answer.tool_input[: len(answer.tool_input) // 2],
                stop_reason="max_tokens",
            )
        case FaultKind.EMPTY_CONTENT:
            return replace(
                answer, text="", tool=None, tool_input="", stop_reason="end_turn", output_tokens=1
            )
        case _:
            return answer


def _retry_after(form: str | None) -> str | None:
    """The header as written; "date:SECONDS" becomes an HTTP date that far ahead."""
    if form is None or not form.startswith("date:"):
        return form
    return formatdate(time.time() + float(form.removeprefix("date:")), usegmt=True)
