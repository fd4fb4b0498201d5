"""How the service is doing: last and next Run of every plan, and what is stuck."""

import http.client
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.text import Text

from app.cli.figures import dollars
from app.cli.service import server_of
from app.cli.session import Session, open_session
from app.cli.stored import with_storage
from app.cli.tables import Table, terminal_table
from app.daemon.service import OVERDUE_GRACE
from app.daemon.slots import latest_due_slot, next_slots
from app.domain.errors import ConfigError
from app.domain.plans import Plan, Schedule
from app.domain.runs import Run, RunStatus
from app.ports import Clock
from app.wiring import Storage, clock_for

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to ask ourselves, not to bind
_ENDED = (RunStatus.DONE, RunStatus.PARTIAL, RunStatus.FAILED)


def read_status(config: Path | None) -> list[dict[str, Any]]:
    """Facts about every plan that is configured or stored."""
    session = _session(config)
    clock = clock_for(session.settings)
    plans = {plan.name: plan for plan in session.plans}

    async def work(storage: Storage) -> list[dict[str, Any]]:
        stored = await storage.runs.plan_names()
        names = list(plans) if config is not None else sorted({*plans, *stored})
        return [await _facts(name, plans.get(name), storage, clock) for name in names]

    return with_storage(session.settings, work)


def ask_health(config: Path | None) -> tuple[bool, str]:
    """Ask the service of this configuration whether it is well; its answer as it gave it."""
    server = server_of(open_session(config).plans)
    host = _EVERYWHERE.get(server.host, server.host)
    connection = http.client.HTTPConnection(host, server.port, timeout=10)
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        return response.status == 200, response.read(10_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"no service answers on {host}:{server.port}: {error}"
    finally:
        connection.close()


def print_status(plans: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print one line per plan, then what needs attention."""
    if not plans:
        console.print(Text("No plan has run yet."))
        return
    rows = [
        (
            plan["plan"],
            _run_words(plan["last_run"]),
            _slot_words(plan["last_success"]),
            str(plan["next_slot"] or "by hand").replace("T", " "),
            dollars(plan["month_usd"]),
            "OVERDUE" if plan["is_overdue"] else "running" if plan["running"] else "ok",
        )
        for plan in plans
    ]
    columns = ("Plan", "Last run", "Last complete", "Next", "This month", "State")
    console.print(
        terminal_table(
            Table(title="Plans", columns=columns, rows=rows, right=frozenset({"This month"}))
        )
    )
    for plan in plans:
        for line in _attention(plan):
            console.print(Text(f"{plan['plan']}: {line}"))


def _session(config: Path | None) -> Session:
    """With the plans where they can be read; without them the stored ones are shown."""
    if config is not None:
        return open_session(config)
    try:
        return open_session(None)
    except ConfigError:
        return open_session(None, with_plans=False)


async def _facts(name: str, plan: Plan | None, storage: Storage, clock: Clock) -> dict[str, Any]:
    now = clock.now()
    runs = await storage.runs.runs(name, limit=200)
    counted = [run for run in runs if run.trigger.counts]
    schedule = plan.schedule if plan is not None else _frozen_schedule(counted)
    success = next((run for run in counted if run.status is RunStatus.DONE), None)
    running = next((run for run in runs if run.status is RunStatus.RUNNING), None)
    upcoming = next_slots(schedule, now, 1) if schedule else ()
    month = now.astimezone(schedule.timezone if schedule else UTC)
    month = month.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    alerts = await storage.alerts.open_alerts(name)
    return {
        "plan": name,
        "last_run": _run_facts(next((run for run in runs if run.status in _ENDED), None)),
        "last_success": _run_facts(success),
        "running": _run_facts(running),
        "next_slot": upcoming[0].key if upcoming else None,
        "is_overdue": is_overdue(schedule, counted, success, now),
        "missed": [run.slot.key for run in counted if run.status is RunStatus.MISSED][:5],
        "month_usd": format(await storage.runs.spend_since(name, month), "f"),
        "open_alerts": [
            {
                "key": alert.key,
                "title": alert.title,
                "opened_at": alert.opened_at.isoformat(),
                "acknowledged_reason": alert.acknowledged_reason,
            }
            for alert in alerts
        ],
        "stuck_messages": [
            {
                "title": stuck.title,
                "tries": stuck.tries,
                "error": stuck.error,
                "is_permanent": stuck.is_permanent,
            }
            for stuck in await storage.alerts.failing(name)
        ],
    }


def _frozen_schedule(runs: Sequence[Run]) -> Schedule | None:
    """The schedule that the newest Run was made with, where the plan file is not at hand."""
    for run in runs:
        config: Any = run.frozen.get("config")
        told: Any = config.get("schedule") if isinstance(config, Mapping) else None
        if isinstance(told, Mapping):
            zone = ZoneInfo(str(told["timezone"]))
            return Schedule(cron=str(told["cron"]), timezone=zone)
    return None


def is_overdue(
    schedule: Schedule | None, counted: Sequence[Run], success: Run | None, now: datetime
) -> bool:
    """Whether a slot that came after the plan's first Run is not complete although it should be."""
    due = latest_due_slot(schedule, now - OVERDUE_GRACE) if schedule else None
    if due is None or not counted or due.at < min(run.slot.at for run in counted):
        return False
    return success is None or success.slot.key < due.key


def _run_facts(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "run_id": run.run_id,
        "slot": run.slot.key,
        "status": run.status.value,
        "triggered_by": run.trigger.value,
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "error": run.error_message,
    }


def _attention(plan: Mapping[str, Any]) -> list[str]:
    lines = []
    last = plan["last_run"]
    if last and last["error"]:
        lines.append(f"run {last['run_id'][:8]} {last['status']}: {last['error']}")
    if plan["running"]:
        running = plan["running"]
        lines.append(
            f"run {running['run_id'][:8]} is at work since {running['started_at']}, "
            f"or was interrupted: switchwise run --resume {running['run_id'][:8]}"
        )
    if plan["missed"]:
        lines.append(f"missed: {', '.join(plan['missed'])}")
    for alert in plan["open_alerts"]:
        reason = alert["acknowledged_reason"]
        lines.append(f"open: {alert['title']} ({alert['key']})" + (f"; {reason}" if reason else ""))
    for stuck in plan["stuck_messages"]:
        state = "given up" if stuck["is_permanent"] else f"tried {stuck['tries']} times"
        lines.append(f"message {stuck['title']!r} {state}: {stuck['error']}")
    return lines


def _run_words(run: Mapping[str, Any] | None) -> str:
    return "never" if run is None else f"{_slot_words(run)} {run['status']}"


def _slot_words(run: Mapping[str, Any] | None) -> str:
    return "never" if run is None else str(run["slot"]).replace("T", " ")
