"""Is it news? A pure decision that returns its reason."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.domain.alerts import News, OpenAlert


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What this Run says about one alert key.

    Attributes:
        is_firing: True while the condition holds, False when it is over, None when this Run cannot
            tell (then an open alert stays as it is).
        signature: What must change for a firing alert to be told again.
        is_held: Whether it must not be told yet, because something else must be settled first.
    """

    is_firing: bool | None
    signature: str = ""
    is_held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminders:
    """How often an open alert is repeated; None for never."""

    every: timedelta | None = field(default_factory=lambda: timedelta(days=28))


def is_news(
    known: OpenAlert | None, finding: Finding, *, now: datetime, reminders: Reminders
) -> News:
    """Decide whether a finding is told, and why or why not.

    Args:
        known: The open alert of this key, None when there is none.
        finding: What this Run says.
        now: The injected instant.
        reminders: How often to repeat an open alert.

    Returns:
        - UNKNOWN when this Run cannot tell,
        - NOTHING while nothing was found and nothing is open,
        - RESOLVED when an open alert is over, acknowledged or not,
        - HELD while something else must be settled first,
        - NEW for a first hit, CHANGED when its signature differs (an acknowledgement covers what
          was known when it was given),
        - ACKNOWLEDGED until the acknowledgement expires, EXPIRED once when it has,
        - REMINDER when it is time for one, else NOTHING.
    """
    if finding.is_firing is None:
        return News.UNKNOWN
    if not finding.is_firing:
        return News.NOTHING if known is None else News.RESOLVED
    if finding.is_held:
        return News.HELD
    if known is None:
        return News.NEW
    if known.facts.get("signature", "") != finding.signature:
        return News.CHANGED
    return _still_news(known, now, reminders)


def is_acknowledged(known: OpenAlert, *, now: datetime) -> bool:
    """Whether an operator's acknowledgement of the alert still stands."""
    return known.acknowledged_until is not None and now < known.acknowledged_until


def _still_news(known: OpenAlert, now: datetime, reminders: Reminders) -> News:
    """Whether an open alert that has not changed is told again."""
    until = known.acknowledged_until
    if until is not None and now < until:
        return News.ACKNOWLEDGED
    if until is not None and known.last_sent_at < until:
        return News.EXPIRED
    if reminders.every is not None and now - known.last_sent_at >= reminders.every:
        return News.REMINDER
    return News.NOTHING
