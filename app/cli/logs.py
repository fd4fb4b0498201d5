"""Structured logs on stderr, with secrets masked on their way out."""

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

MASK = "[secret]"
_SHORTEST = 6
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
        structlog.processors.format_exc_info,
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
