"""What the messages of one Run are composed from, and what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from app.domain.alerts import Alert, OpenAlert
from app.domain.plans import Plan
from app.domain.prices import CostCheck
from app.domain.results import Comparison, DriftReport, JudgeReport, Summary
from app.domain.runs import Run, RunStatus, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything the messages of one Run are composed from.

    Attributes:
        skipped: Logged rows that were met and not replayed, by reason.
        bills: Our figures beside the gateway's own.
        attempts: How many Attempts are stored; None counts those of the summaries.
        incomplete: Why there is no verdict, None when the Run is complete.
        finishing_usd: About what the rest of a partial Run would cost.
    """

    plan: Plan
    run: Run
    status: RunStatus
    summaries: Sequence[Summary] = ()
    comparisons: Sequence[Comparison] = ()
    drift: DriftReport | None = None
    judge: JudgeReport = field(default_factory=JudgeReport)
    skipped: Mapping[str, int] = field(default_factory=dict)
    models_usd: Decimal = Decimal(0)
    judge_usd: Decimal = Decimal(0)
    month_usd: Decimal = Decimal(0)
    bills: Sequence[CostCheck] = ()
    next_slot: Slot | None = None
    attempts: int | None = None
    incomplete: str | None = None
    finishing_usd: Decimal | None = None

    @property
    def total_usd(self) -> Decimal:
        """What the Run spent on models and judges."""
        return self.models_usd + self.judge_usd

    @property
    def regression_key(self) -> str:
        """The key of the primary's regression alert."""
        return regression_key(self.plan)

    def switch_key(self, candidate: str) -> str:
        """The key of a candidate's switch alert."""
        return switch_key(self.plan.name, candidate)

    def comparison_of(self, key: str) -> Comparison | None:
        """The Comparison that a switch alert is about, None when its candidate took no part."""
        return next((c for c in self.comparisons if self.switch_key(c.candidate) == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Alerts for the outbox and the alert states they leave behind."""

    alerts: tuple[Alert, ...] = ()
    states: tuple[OpenAlert, ...] = ()


def regression_key(plan: Plan) -> str:
    """The key of the primary's regression alert."""
    return f"{plan.name}/regressed:{plan.primary.name}"


def switch_key(plan_name: str, candidate: str) -> str:
    """The key of a candidate's switch alert."""
    return f"{plan_name}/switch:{candidate}"
