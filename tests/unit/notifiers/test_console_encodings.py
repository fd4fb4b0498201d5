"""The console prints what its stream can take, and escapes the rest."""

from io import BytesIO, TextIOWrapper

import pytest

from app.domain.alerts import Alert, AlertKind, News
from app.notifiers.console import ConsoleNotifier


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "keep ä \u2192 −0.01 ±0.02".encode()),
        ("latin-1", b"keep \xe4 \\u2192 \\u22120.01 \xb10.02"),
        ("ascii", b"keep \\xe4 \\u2192 \\u22120.01 \\xb10.02"),
    ],
)
async def test_what_a_stream_cannot_take_is_escaped_and_the_message_printed(
    encoding: str, printed: bytes
) -> None:
    written = BytesIO()
    stream = TextIOWrapper(written, encoding=encoding)
    alert = Alert(
        key="support-bot/run",
        kind=AlertKind.RUN,
        news=News.NEW,
        run_id=None,
        title="keep ä \u2192 −0.01 ±0.02",
        lead="",
    )
    delivery = await ConsoleNotifier(stream).deliver(alert, thread=None)
    assert delivery.is_delivered
    assert written.getvalue().splitlines()[0] == printed
