"""Runs: executions of a Plan for one schedule slot or by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from app.domain.attempts import FailureClass, Purpose
from app.domain.cases import Case, Window
from app.domain.prices import CostCheck

#: Error code of a partial Run by hand whose process ended before it did; it has no results yet.
ABANDONED = "abandoned"


class RunStatus(StrEnum):
    """Where a Run stands.

    due: the slot's row exists, nothing started. running: in work, or interrupted and resumable.
    done: complete. partial: ended by a cap or an operator; kept out of evidence and trends.
    failed: stopped by an error. skipped: its slot fell into another Run. missed: its slot passed
    while nothing was running and was not caught up.
    """

    DUE = "due"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    SKIPPED = "skipped"
    MISSED = "missed"

    @property
    def is_final(self) -> bool:
        """Whether the Run will never do anything again."""
        return self not in (RunStatus.DUE, RunStatus.RUNNING)


class Trigger(StrEnum):
    """What asked for a Run. Runs by hand pool no evidence and open no alert."""

    SCHEDULE = "schedule"
    HAND = "hand"
    AS_OF = "as_of"

    @property
    def counts(self) -> bool:
        """Whether the Run is the Run of its slot: pooled as evidence and alerted."""
        return self is not Trigger.HAND


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The local date and time at which the schedule asked for a Run; unique per Plan by `key`.

    Attributes:
        key: Local date and time without offset, e.g. `2026-03-29T06:00`; the same wall time is
            one slot even when the clock shows it twice.
        at: The instant.
        closes_week: Whether it is the last slot of its ISO week: evidence is looked at then, once.
    """

    key: str
    at: datetime
    closes_week: bool = True

    @property
    def iso_week(self) -> str:
        """The ISO week of the local date, e.g. `2026-W13`."""
        year, week, _ = datetime.fromisoformat(self.key).isocalendar()
        return f"{year}-W{week:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a Plan."""

    run_id: str
    plan_name: str
    trigger: Trigger
    status: RunStatus
    slot: Slot
    seed: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    window: Window | None = None
    cases_requested: int = 0
    cases_sampled: int = 0
    frame: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    config_hash: str = ""
    app_version: str = ""
    error_code: str | None = None
    error_message: str | None = None
    restarts: int = 0
    frozen: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A few Cases of one block with all their models, worked by one owner at a time.

    Attributes:
        models: Names of the contestants called for these Cases.
    """

    run_id: str
    shard_no: int
    block: int
    models: tuple[str, ...]
    case_ids: tuple[str, ...]
    fence: int = 0
    is_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedShard:
    """A shard in the hands of one owner, with what earlier owners left."""

    shard: Shard
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLine:
    """What a Run spent on one model and purpose, and where its Attempts ended.

    Attributes:
        check: Our figure beside the gateway's, over the calls for which both are known.
    """

    model_name: str
    purpose: Purpose
    attempts: int
    spend_usd: Decimal
    unknown_cost: int = 0
    check: CostCheck | None = None
    failures: Mapping[FailureClass, int] = field(default_factory=dict)
