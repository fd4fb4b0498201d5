"""What an HTTP error status means and what the operator should mend.

Nothing that a server wrote is repeated but its error type and the name of a request field: an
error body may quote the prompt or a key.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from app.domain.attempts import Failure, FailureClass
from app.providers.replies import decode, part

_TOO_LARGE = re.compile(
    r"context[ _-]?(length|window|limit)|(prompt|input|request|message)s? (is|are) too (long|large)"
    r"|too many (input )?tokens|maximum context|reduce the length|request_too_large"
    r"|exceeds? the (model'?s )?maximum|string_above_max_length",
    re.IGNORECASE,
)
_BILLING = re.compile(
    r"credit balance|spend(ing)? limit|usage limits?\b|billing|insufficient[ _](quota|funds|credit)"
    r"|payment required|exceeded your current quota|hard limit|budget (has been )?exceeded"
    r"|budget_exceeded|out of credits",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model[ _]not[ _]found|not a valid model|(unknown|invalid) model|model .{0,80}does not exist"
    r"|no such model|does not support model",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"invalid[ _]api[ _]key|incorrect api key|authentication_error", re.IGNORECASE
)
_OVERLOADED = re.compile(r"overload|at capacity|over capacity", re.IGNORECASE)
_FILTERED = re.compile(r"content_filter|content_policy_violation|ResponsibleAI", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[a-z]+(_[a-z]+){0,5}")
_FIELD = re.compile(
    r"\b(messages|system|max_tokens|max_completion_tokens|temperature|top_p|top_k|tools"
    r"|tool_choice|stop_sequences|stop|thinking|model|metadata|output_config|response_format"
    r"|reasoning_effort|stream_options|service_tier|anthropic-version|anthropic-beta)\b"
)

#: Nobody means a longer wait: it is read as if nothing had been said.
_LONGEST_ASKED_S = 24 * 3600.0
_UNIX_TIME_FROM = 1e9
_UNIX_MILLISECONDS_FROM = 1e12

_ADVICE: Mapping[FailureClass, str] = {
    FailureClass.AUTH: "the key is refused: check `api_key`, its permissions and `auth`",
    FailureClass.BILLING: "billing: the account is out of credit or over a spend limit",
    FailureClass.NOT_FOUND: "not found: check the model's id and `base_url`",
    FailureClass.TOO_LARGE: "the prompt is longer than the model or the gateway takes",
    FailureClass.BAD_REQUEST: "the request is refused as malformed: check the model's `params`",
    FailureClass.TIMEOUT: "the gateway gave up waiting",
    FailureClass.RATE_LIMITED: "rate limited",
    FailureClass.OVERLOADED: "overloaded",
    FailureClass.SERVER: "the server failed",
    FailureClass.REFUSAL: "the prompt is refused by the vendor's content filter",
}

_BY_TYPE: Mapping[str, FailureClass] = {
    "authentication_error": FailureClass.AUTH,
    "permission_error": FailureClass.AUTH,
    "billing_error": FailureClass.BILLING,
    "insufficient_quota": FailureClass.BILLING,
    "not_found_error": FailureClass.NOT_FOUND,
    "model_not_found": FailureClass.NOT_FOUND,
    "request_too_large": FailureClass.TOO_LARGE,
    "context_length_exceeded": FailureClass.TOO_LARGE,
}
_BY_STATUS: Mapping[int, FailureClass] = {
    401: FailureClass.AUTH,
    402: FailureClass.BILLING,
    403: FailureClass.AUTH,
    404: FailureClass.NOT_FOUND,
    405: FailureClass.NOT_FOUND,
    408: FailureClass.TIMEOUT,
    413: FailureClass.TOO_LARGE,
    429: FailureClass.RATE_LIMITED,
    529: FailureClass.OVERLOADED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What an error body says, for classification only: `text` is never shown."""

    type: str = ""
    code: str = ""
    text: str = ""
    request_id: str | None = None

    @property
    def wording(self) -> str:
        """Everything that may tell the class."""
        return f"{self.type} {self.code} {self.text}"

    @property
    def label(self) -> str:
        """The error's type or code, if it looks like one."""
        return next((w for w in (self.code, self.type) if _IDENTIFIER.fullmatch(w)), "")


def failure_of_status(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> Failure:
    """The Failure that a non-2xx answer is."""
    error = error_body(body)
    request_id = request_id_of(headers) or error.request_id
    if 300 <= status < 400:
        return Failure(
            failure_class=FailureClass.PROTOCOL,
            message=_redirect(status, headers.get("location", "")),
            http_status=status,
            request_id=request_id,
        )
    failure_class = class_of_status(status, error)
    return Failure(
        failure_class=failure_class,
        message=f"{status}: {advice(failure_class, error)}",
        http_status=status,
        retry_after_s=retry_after_s(headers, now=now),
        request_id=request_id,
    )


def class_of_status(status: int, error: ErrorBody) -> FailureClass:
    """The class of an error status; its wording counts where a status means several things."""
    wording = error.wording
    if status in (403, 429) and _BILLING.search(f"{error.type} {error.code}"):
        return FailureClass.BILLING
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == 503 and _OVERLOADED.search(wording):
        return FailureClass.OVERLOADED
    if status >= 500 or status in (409, 425):
        return FailureClass.SERVER
    return class_of_refused_request(error)


def class_of_refused_request(error: ErrorBody) -> FailureClass:
    """The class of a request that the server says is invalid."""
    wording = error.wording
    for pattern, failure_class in (
        (_FILTERED, FailureClass.REFUSAL),
        (_BILLING, FailureClass.BILLING),
        (_TOO_LARGE, FailureClass.TOO_LARGE),
        (_BAD_KEY, FailureClass.AUTH),
        (_NO_MODEL, FailureClass.NOT_FOUND),
    ):
        if pattern.search(wording):
            return failure_class
    return FailureClass.BAD_REQUEST


def class_of_stream_error(error: ErrorBody) -> FailureClass | None:
    """The class of an error event that came before any content, None when it tells nothing."""
    for word in (error.type, error.code):
        if word in _BY_TYPE:
            return _BY_TYPE[word]
    if error.type == "invalid_request_error":
        return class_of_refused_request(error)
    return None


def advice(failure_class: FailureClass, error: ErrorBody) -> str:
    """What the operator should know and mend."""
    text = _ADVICE[failure_class]
    if failure_class is FailureClass.BAD_REQUEST:
        field = _FIELD.search(error.text)
        text = f"{text} (the gateway names `{field.group(1)}`)" if field else text
    return f"{text} [{error.label}]" if error.label else text


def error_body(body: bytes) -> ErrorBody:
    """What an error body of either vendor, or of a gateway, says."""
    try:
        document = decode(body)
    except ValueError:
        return ErrorBody(text=body[:4096].decode("utf-8", "replace"))
    return error_of(document)


def error_of(document: object) -> ErrorBody:
    """What an error document or event says."""
    if not isinstance(document, dict):
        return ErrorBody()
    error = part(document, "error")
    text = error.get("message") or document.get("message") or document.get("detail")
    if not error and isinstance(document.get("error"), str):
        text = document["error"]
    request_id = document.get("request_id")
    return ErrorBody(
        type=_word(error.get("type")),
        code=_word(error.get("code")),
        text=str(text or "")[:4096],
        request_id=request_id[:200] if isinstance(request_id, str) else None,
    )


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """The wait that the server asks for, None when it says nothing usable."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _plausible(milliseconds / 1000, now)
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    return _plausible(_until(value, now) if seconds is None else seconds, now)


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id under which the server knows the request."""
    value = headers.get("request-id") or headers.get("x-request-id")
    return value[:200] if value else None


def _word(value: object) -> str:
    return value[:100] if isinstance(value, str) else ""


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _plausible(asked_s: float | None, now: datetime) -> float | None:
    """The wait if a server can mean it; a number that is a Unix time names the moment."""
    if asked_s is None:
        return None
    if asked_s >= _UNIX_TIME_FROM:
        asked_s = asked_s / 1000 if asked_s >= _UNIX_MILLISECONDS_FROM else asked_s
        asked_s -= now.timestamp()
    return asked_s if 0 <= asked_s <= _LONGEST_ASKED_S else None


def _until(value: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, (moment - now).total_seconds())


def _redirect(status: int, location: str) -> str:
    try:
        target = urlsplit(location)
    except ValueError:
        target = urlsplit("")
    where = f" to {target.scheme}://{target.hostname}" if target.hostname else ""
    return (
        f"{status}: the base URL redirects{where}; redirects are not followed, because they would "
        "send the prompt elsewhere: set `base_url` to the final address"
    )
