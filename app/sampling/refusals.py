"""Why a logged row cannot be replayed, raised deep inside a mapping and kept as a value outside."""

from app.domain.cases import SkipReason


class NotReplayable(Exception):
    """The row cannot be sent as it was."""

    def __init__(self, reason: SkipReason) -> None:
        self.reason = reason
        super().__init__(reason.value)


def unsupported() -> NotReplayable:
    """The row holds something that cannot be sent to every model without loss."""
    return NotReplayable(SkipReason.UNSUPPORTED)


def unreadable() -> NotReplayable:
    """The row's text or JSON is broken."""
    return NotReplayable(SkipReason.UNREADABLE)
