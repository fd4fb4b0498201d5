"""Acknowledges an open alert."""

from datetime import UTC, datetime
from typing import Any

from app.cli.session import nearest_of
from app.cli.stored import with_storage
from app.domain.errors import ConfigError
from app.settings import Settings
from app.wiring import Storage, clock_for


def acknowledge(
    settings: Settings, key: str, *, reason: str, until: datetime | None
) -> dict[str, Any]:
    """Acknowledge the alert and tell its state.

    Raises:
        ConfigError: If no such alert is open, or the date has passed.
    """
    now = clock_for(settings).now()
    end = until.replace(tzinfo=UTC) if until is not None else None
    if end is not None and end <= now:
        raise ConfigError(f"--until {end:%Y-%m-%d} has passed")
    if not reason.strip():
        raise ConfigError("--reason must say why")

    async def work(storage: Storage) -> dict[str, Any]:
        found = await storage.alerts.acknowledge(key, reason=reason.strip(), until=end, now=now)
        if found is None:
            known = [
                alert.key
                for name in await storage.runs.plan_names()
                for alert in await storage.alerts.open_alerts(name)
            ]
            raise ConfigError(f"no alert {key!r} is open{nearest_of(key, known)}")
        return {
            "key": found.key,
            "title": found.title,
            "reason": found.acknowledged_reason,
            "acknowledged_until": end.date().isoformat() if end else None,
        }

    return with_storage(settings, work)
