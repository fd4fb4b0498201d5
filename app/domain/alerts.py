"""Alerts: messages with a deduplication key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AlertKind(StrEnum):
    """The kinds of message."""

    SWITCH = "switch"
    REGRESSED = "regressed"
    RUN = "run"
    QUIET = "quiet"
    HAND = "hand"


class News(StrEnum):
    """Why something is, or is not, news."""

    NEW = "new"
    CHANGED = "changed"
    REMINDER = "reminder"
    EXPIRED = "expired"  # its acknowledgement ran out: told again
    RESOLVED = "resolved"
    ADOPTED = "adopted"
    DIGEST = "digest"
    NOTHING = "nothing"
    ACKNOWLEDGED = "acknowledged"  # not told: an operator knows
    HELD = "held"  # not told: something else must be settled first
    UNKNOWN = "unknown"  # not told: this Run cannot tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message to deliver: free of markup, prompt text and secrets.

    Attributes:
        key: Deduplication key, `PLAN/switch:NAME`, `PLAN/regressed:NAME` or `PLAN/run`.
        news: Why it is sent now.
        title: Header and first half of the fallback text.
        lead: One sentence with interval and n.
        fields: Up to four (label, value) pairs.
        lines: Caveats or one line per candidate.
        links: (label, path) pairs, resolved against the public URL.
        context: Small print.
        chart: Data of the chart for the thread, None for no chart.
    """

    key: str
    kind: AlertKind
    news: News
    run_id: str | None
    title: str
    lead: str
    fields: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    context: tuple[str, ...] = ()
    chart: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """The state of one alert key over time.

    Attributes:
        thread: What the notifier needs to answer in the alert's thread.
        facts: The figures of the last message, to tell whether they changed.
    """

    key: str
    kind: AlertKind
    opened_at: datetime
    last_sent_at: datetime
    title: str
    run_id: str | None = None
    thread: str | None = None
    acknowledged_until: datetime | None = None
    acknowledged_reason: str | None = None
    resolved_at: datetime | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one try to deliver an Alert.

    Attributes:
        is_permanent: Trying again cannot help until an operator mends something.
        reference: Thread or message id, to answer in later.
    """

    is_delivered: bool
    is_permanent: bool = False
    error: str | None = None
    retry_after_s: float | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxItem:
    """An Alert waiting to be delivered."""

    outbox_id: int
    plan_name: str
    alert: Alert
    tries: int
    created_at: datetime
    thread: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckDelivery:
    """A message that does not get through, for `status`.

    Attributes:
        is_permanent: It was given up: an operator must mend something.
        due_at: When it is tried next; meaningless when given up.
    """

    outbox_id: int
    key: str
    title: str
    tries: int
    error: str
    is_permanent: bool
    created_at: datetime
    due_at: datetime
