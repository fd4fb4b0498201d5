"""Alerts about slots that were not run: silence is itself alarmed."""

from collections.abc import Sequence

from app.alerting.words import count
from app.domain.alerts import Alert, AlertKind, News
from app.domain.plans import Plan
from app.domain.runs import Run, Slot


def missed_alert(plan: Plan, slots: Sequence[Slot]) -> Alert:
    """One message for all slots that passed while nothing was running."""
    keys = ", ".join(slot.key.replace("T", " ") for slot in slots[:5])
    more = f" and {len(slots) - 5} more" if len(slots) > 5 else ""
    return Alert(
        key=f"{plan.name}/run",
        kind=AlertKind.RUN,
        news=News.NEW,
        run_id=None,
        title=f"Missed {count(len(slots), 'slot')} of {plan.name}",
        lead=f"Nothing was running at {keys}{more}: those weeks have no evidence.",
        lines=("Check that the service is up and that its heartbeat URL is watched.",),
    )


def skipped_alert(plan: Plan, slot: Slot, active: Run) -> Alert:
    """A slot that fell into a Run still at work."""
    return Alert(
        key=f"{plan.name}/run",
        kind=AlertKind.RUN,
        news=News.NEW,
        run_id=active.run_id,
        title=f"Skipped a slot of {plan.name}",
        lead=f"The Run of {active.slot.key.replace('T', ' ')} was still at work at "
        f"{slot.key.replace('T', ' ')}; the later slot is skipped.",
        lines=("Runs that overlap need a sparser schedule, fewer prompts or more concurrency.",),
    )
