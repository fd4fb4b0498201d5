"""One request over a vendor's SDK and the validated end of it: a Completion or a Failure."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Protocol

import httpcore2
import httpx2

from app.domain.attempts import Completion, Failure, FailureClass
from app.ports import Clock
from app.providers.connections import (
    BodyTooLarge,
    ConnectionRefused,
    ForbiddenAddress,
    TlsRefused,
    UnknownName,
    Untrusted,
    sent_at,
)
from app.providers.refusals import failure_of_status, request_id_of
from app.providers.replies import BadReply, Body, Dialect, checked_calls, money

#: How long a server may keep the connection busy after the reply has said that it ends.
_LINGER_S = 0.5
_NOT_SENT = (
    httpcore2.ConnectError,
    httpcore2.ConnectTimeout,
    httpcore2.PoolTimeout,
)
_TRANSPORT_ERRORS = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    httpx2.TransportError,
    OSError,
)


class RawReply(Protocol):
    """An SDK's response whose body is still unread."""

    @property
    def http_response(self) -> httpx2.Response:
        """The response itself."""


Call = Callable[[], AbstractAsyncContextManager[RawReply]]


class Exchange:
    """Runs requests of one SDK: deadline, timing, translation of every vendor error.

    Args:
        clock: Tells the times.
        status_error: The SDK's exception for a status that is not 2xx.
        connection_error: The SDK's exception for a request that got no response.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        status_error: type[Exception],
        connection_error: type[Exception],
    ) -> None:
        self._clock = clock
        self._status_error = status_error
        self._connection_error = connection_error

    async def run(self, call: Call, dialect: Dialect, *, deadline_s: float) -> Completion | Failure:
        """Make the one HTTP call and read its reply, within the deadline."""
        trace = _Trace(self._clock, dialect)
        try:
            async with asyncio.timeout(deadline_s) as deadline, call() as reply:
                await _read(reply.http_response, trace, deadline)
            return trace.completion()
        except BadReply as error:
            return trace.failure(
                error.failure_class, error.message, is_cost_unknown=error.is_cost_unknown
            )
        except TimeoutError:
            return trace.broken_off(
                FailureClass.TIMEOUT, f"no complete reply within {deadline_s:g} s"
            )
        except BodyTooLarge:
            return trace.failure(FailureClass.PROTOCOL, "the reply is larger than 32 MiB")
        except UnicodeEncodeError:
            return trace.failure(
                FailureClass.BAD_REQUEST,
                "the prompt or a header holds characters that cannot be encoded",
                is_cost_unknown=False,
            )
        except httpx2.DecodingError:
            return trace.failure(FailureClass.PROTOCOL, "the reply's compression cannot be undone")
        except _TRANSPORT_ERRORS as error:
            return trace.cut(error)
        except self._status_error as error:
            return trace.refused(error)
        except self._connection_error as error:
            return trace.cut(error.__cause__ or error)


async def _read(response: httpx2.Response, trace: "_Trace", deadline: asyncio.Timeout) -> None:
    trace.begin(response)
    is_plain = "content-encoding" not in response.headers
    async for chunk in response.aiter_raw() if is_plain else response.aiter_bytes():
        if trace.take(chunk):
            deadline.reschedule(asyncio.get_running_loop().time() + _LINGER_S)
    trace.end()


class _Trace:
    """What is known of one exchange so far."""

    __slots__ = (
        "_body",
        "_clock",
        "_dialect",
        "_ended",
        "_first",
        "_headers",
        "_started",
        "_status",
    )

    def __init__(self, clock: Clock, dialect: Dialect) -> None:
        self._clock = clock
        self._dialect = dialect
        self._body = Body(dialect)
        self._started = clock.monotonic()
        self._first: float | None = None
        self._ended: float | None = None
        self._headers: httpx2.Headers | None = None
        self._status: int | None = None

    def begin(self, response: httpx2.Response) -> None:
        """The status line and headers have arrived."""
        self._started = sent_at(response, self._started)
        self._headers = response.headers
        self._status = response.status_code

    def take(self, chunk: bytes) -> bool:
        """Take in some bytes of the body; True once, when they complete the reply."""
        if self._ended is not None:
            return False
        dialect = self._dialect
        self._body.feed(chunk)
        if self._first is None and dialect.has_content:
            self._first = self._clock.monotonic()
        if dialect.is_complete:
            self._ended = self._clock.monotonic()
            return True
        return False

    def end(self) -> None:
        """The body is over."""
        if self._ended is None:
            self._ended = self._clock.monotonic()
            self._body.end()

    def completion(self) -> Completion:
        """The Completion that the reply is.

        Raises:
            BadReply: If it is not one.
        """
        content = self._dialect.content()
        ended = self._clock.monotonic() if self._ended is None else self._ended
        return Completion(
            text=content.text,
            stop_reason=content.stop_reason,
            usage=content.usage,
            latency_s=max(0.0, ended - self._started),
            ttft_s=self._ttft_s(),
            tool_calls=checked_calls(content.tool_calls),
            request_id=self._request_id or content.message_id,
            reported_cost_usd=self._reported_cost_usd(content.reported_cost_usd),
        )

    def failure(
        self, failure_class: FailureClass, message: str, *, is_cost_unknown: bool = True
    ) -> Failure:
        """The Failure that this exchange is."""
        return Failure(
            failure_class=failure_class,
            message=message,
            http_status=self._status,
            request_id=self._request_id,
            is_cost_unknown=is_cost_unknown,
            usage=self._dialect.usage_so_far(),
            latency_s=max(0.0, self._clock.monotonic() - self._started),
        )

    def refused(self, error: Exception) -> Failure:
        """The Failure that an error status is."""
        response: httpx2.Response = error.response  # type: ignore[attr-defined]
        self._status = response.status_code
        self._headers = response.headers
        told = failure_of_status(
            response.status_code, response.headers, response.content, now=self._clock.now()
        )
        return Failure(
            failure_class=told.failure_class,
            message=told.message,
            http_status=told.http_status,
            retry_after_s=told.retry_after_s,
            request_id=told.request_id,
            latency_s=max(0.0, self._clock.monotonic() - sent_at(response, self._started)),
        )

    def broken_off(self, failure_class: FailureClass, message: str) -> Completion | Failure:
        """The end of a reply that stopped coming: complete if it had said so before."""
        if self._dialect.is_complete:
            try:
                return self.completion()
            except BadReply as error:
                return self.failure(
                    error.failure_class, error.message, is_cost_unknown=error.is_cost_unknown
                )
        return self.failure(failure_class, message)

    def cut(self, error: BaseException) -> Completion | Failure:
        """The end of a request or reply that the network cut."""
        if self._status is not None:
            return self.broken_off(FailureClass.INCOMPLETE, "the connection was cut mid-reply")
        if isinstance(error, httpcore2.UnsupportedProtocol):
            message = "the base URL must begin with http:// or https://"
            return self.failure(FailureClass.BAD_REQUEST, message, is_cost_unknown=False)
        if isinstance(error, httpcore2.LocalProtocolError):
            message = "the key or a header holds characters that HTTP forbids, such as a line break"
            return self.failure(FailureClass.BAD_REQUEST, message, is_cost_unknown=False)
        if isinstance(error, _NOT_SENT):
            message = _unreachable(error)
            return self.failure(FailureClass.CONNECTION, message, is_cost_unknown=False)
        return self.failure(FailureClass.CONNECTION, "the connection was cut before any reply")

    def _ttft_s(self) -> float | None:
        if self._first is None or not self._body.is_stream:
            return None
        return max(0.0, self._first - self._started)

    @property
    def _request_id(self) -> str | None:
        return None if self._headers is None else request_id_of(self._headers)

    def _reported_cost_usd(self, in_usage: Decimal | None) -> Decimal | None:
        if in_usage is not None or self._headers is None:
            return in_usage
        return money(self._headers.get("x-litellm-response-cost"))


def _unreachable(error: BaseException) -> str:
    match error:
        case UnknownName():
            reason = "no address is known for this name: check the base URL's spelling and DNS"
        case ConnectionRefused():
            reason = "nothing listens there: check host and port of the base URL"
        case ForbiddenAddress():
            reason = "its name leads to a cloud's metadata service, where no prompt may go"
        case Untrusted():
            reason = "the server's certificate is not trusted on this machine (see SSL_CERT_FILE)"
        case TlsRefused():
            reason = "the server does not speak TLS as asked: check http or https"
        case httpcore2.TimeoutException():
            reason = "no connection in time: check the base URL, DNS and firewall"
        case _:
            reason = "check the base URL, DNS and firewall"
    return f"cannot connect: {reason}"
