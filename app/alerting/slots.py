"""Alerts about slots that were not run: silence is itself alarmed."""

from collections.abc import Sequence

from app.alerting.words import count
from app.domain.alerts import Alert, AlertKind, News
from app.domain.plans import Plan
from app.domain.runs import Run, Slot, Trigger


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


def skipped_alert(plan: Plan, slot: Slot, active: Run, *, is_held: bool = True) -> Alert:
    """A slot that fell into another Run.

    Args:
        plan: The plan.
        slot: What was skipped.
        active: The Run that was in the way.
        is_held: Whether somebody was at work on it; else it was interrupted and not gone on with.
    """
    kind = "Run by hand" if active.trigger is Trigger.HAND else "Run"
    return Alert(
        key=f"{plan.name}/run",
        kind=AlertKind.RUN,
        news=News.NEW,
        run_id=active.run_id,
        title=f"Skipped a slot of {plan.name}",
        lead=f"The {kind} of {active.slot.key.replace('T', ' ')} was "
        f"{'still at work' if is_held else 'interrupted and not finished'} at "
        f"{slot.key.replace('T', ' ')}; the later slot is skipped.",
        lines=(_advice(active, is_held=is_held),),
    )


def _advice(active: Run, *, is_held: bool) -> str:
    if not is_held:
        return f"Finish it with: switchwise run --resume {active.run_id}"
    if active.trigger is Trigger.HAND:
        return "Begin Runs by hand at other times: they hold up the slots that they fall on."
    return "Runs that overlap need a sparser schedule, fewer prompts or more concurrency."
