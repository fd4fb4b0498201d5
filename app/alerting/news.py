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
    """

    is_firing: bool | None
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminders:
    """How often an open alert is repeated; None for never."""

    every: timedelta | None = field(default_factory=lambda: timedelta(days=28))


def is_news(
    known: OpenAlert | None, finding: Finding, *, now: datetime, reminders: Reminders
) -> News:
    """Decide whether a finding is told, and why.

    Args:
        known: The open alert of this key, None when there is none.
        finding: What this Run says.
        now: The injected instant.
        reminders: How often to repeat an open alert.

    Returns:
        NEW for a first hit, CHANGED when its signature differs, RESOLVED when it is over,
        REMINDER when it is time, else NOTHING. An acknowledged alert stays silent until its
        expiry, unless it is resolved.
    """
    if finding.is_firing is None:
        return News.NOTHING
    if known is None:
        return News.NEW if finding.is_firing else News.NOTHING
    if not finding.is_firing:
        return News.RESOLVED
    if known.acknowledged_until is not None and now < known.acknowledged_until:
        return News.NOTHING
    if known.facts.get("signature", "") != finding.signature:
        return News.CHANGED
    if reminders.every is not None and now - known.last_sent_at >= reminders.every:
        return News.REMINDER
    return News.NOTHING
