"""The console notifier: alerts as plain text, for plans without Slack."""

from typing import TextIO

from app.domain.alerts import Alert, Delivery


class ConsoleNotifier:
    """Writes alerts to a text stream."""

    name = "console"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        """Print the alert."""
        del thread
        try:
            self._stream.write(_writable(plain_text(alert) + "\n", self._stream.encoding))
            self._stream.flush()
        except OSError as error:
            return Delivery(is_delivered=False, error=f"cannot write: {error.strerror}")
        return Delivery(is_delivered=True)  # nothing that a later message could answer in

    async def check(self) -> tuple[str, ...]:
        """Nothing can be wrong with a console."""
        return ()

    async def close(self) -> None:
        """Leave the stream open: it is not ours."""


def plain_text(alert: Alert) -> str:
    """The alert as lines of text."""
    parts = [alert.title, alert.lead]
    parts += [f"  {label}: {value}" for label, value in alert.fields]
    parts += [f"  - {line}" for line in alert.lines]
    if alert.context:
        parts.append("  " + " | ".join(alert.context))
    return "\n".join(parts)


def _writable(text: str, encoding: str | None) -> str:
    """The text, with escapes for what a stream of that encoding cannot take."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
