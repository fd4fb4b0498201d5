"""Tells of a results database that stays away: one line when it is certain, then now and again."""

from collections.abc import Callable
from time import monotonic

import structlog

_CERTAIN_AFTER_S = 5.0
_AGAIN_AFTER_S = 300.0
_FORGOTTEN_AFTER_S = 60.0

_log = structlog.get_logger(__name__)


class Outages:
    """The trouble of one database, by its words.

    Whoever waits for the database retries in silence, and a check that only reads may succeed
    while nothing can be written. So every kind of trouble is followed by itself: told when it has
    come again after some seconds, and every few minutes while it goes on.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def note(self, reason: str) -> None:
        """Take notice of trouble."""
        now = self._clock()
        if now - self._seen.get(reason, now) > _FORGOTTEN_AFTER_S:
            self._since.pop(reason, None)
            self._told.pop(reason, None)
        self._seen[reason] = now
        since = self._since.setdefault(reason, now)
        told = self._told.get(reason)
        if now - since < _CERTAIN_AFTER_S or (told is not None and now - told < _AGAIN_AFTER_S):
            return
        self._told[reason] = now
        _log.warning("results database stays away", reason=reason, seconds=round(now - since))
