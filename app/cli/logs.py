"""Structured logs on stderr, with secrets masked on their way out."""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from app.domain.errors import SwitchwiseError

MASK = "[secret]"
_SHORTEST = 6
_FRAMES = 6
_CAUSES = 4
_SHAPES = re.compile(
    r"""(?x)
      \b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}      # keys of model vendors
    | \bxox[a-z]-[A-Za-z0-9-]{8,}            # tokens of Slack
    | (?<=hooks\.slack\.com/services/)\S+    # webhooks of Slack
    | (?<=://)[^\s/@:]*:[^\s/@]+(?=@)        # user and password in an address
    | (?i:(?<=bearer\s))[A-Za-z0-9._~+/=-]{8,}
    """
)
_CHATTY = ("httpx", "httpx2", "httpcore", "anthropic", "openai", "slack_sdk", "urllib3", "alembic")
_WARNERS = ("apscheduler", "uvicorn.access", "uvicorn.error")

_INTERNAL = frozenset({"_record", "_from_structlog"})

Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]


def configure_logging(
    *,
    form: Literal["console", "json"],
    level: str,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send all logs, our own and those of libraries, to stderr in one form.

    Args:
        form: Lines for people, or one JSON object per line.
        level: The least severe level that is shown.
        secrets: Values that must not appear.
        stream: Where to write instead of stderr.
    """
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        leave_values_out,
        mask_secrets(secrets),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in (*_CHATTY, *_WARNERS):  # at lower levels they print addresses and bodies
        logging.getLogger(name).setLevel(logging.WARNING)


def where_it_broke(error: BaseException) -> list[str]:
    """What kind of error it was and where, its causes first; no message, which may quote data.

    The program's own errors are written for operators and keep theirs.
    """
    told = []
    while True:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        places = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        told.append(" < ".join([_kind(error), *reversed(places)]))
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or len(told) > _CAUSES:
            return told[::-1]
        error = cause


def leave_values_out(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor that tells of errors where they happened, not what the variables held."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = where_it_broke(error)
    if event.get("logger") == "asyncio":  # its further lines show what tasks and futures hold
        event["event"] = str(event.get("event", "")).partition("\n")[0]
    return event


def _kind(error: BaseException) -> str:
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, SwitchwiseError) else kind


def mask_secrets(secrets: Iterable[str]) -> Processor:
    """A processor that replaces known secrets, and whatever looks like one, in every value."""
    known = {secret for secret in secrets if len(secret) >= _SHORTEST}
    longest_first = sorted(known, key=len, reverse=True)

    def cleaned(text: str) -> str:
        for secret in longest_first:
            text = text.replace(secret, MASK)
        return _SHAPES.sub(MASK, text)

    def process(
        _logger: Any, _name: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if key not in _INTERNAL:
                event[key] = _mapped(value, cleaned)
        return event

    return process


def _mapped(value: object, cleaned: Callable[[str], str]) -> object:
    """The value with every text in it cleaned; whatever is no plain value becomes text."""
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {cleaned(str(key)): _mapped(item, cleaned) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_mapped(item, cleaned) for item in value]
    if isinstance(value, BaseException):
        return cleaned(f"{type(value).__name__}: {value}")
    return cleaned(str(value))
