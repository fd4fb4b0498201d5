"""Durations, time zones and cron expressions as plans write them."""

import difflib
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

DURATION_PATTERN = r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*$"
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SOME_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def parse_duration(text: object) -> timedelta:
    """The duration that `7d`, `24h`, `30m`, `120s` or `1.5h` stands for.

    Raises:
        ValueError: If it is not a number with a unit.
    """
    if isinstance(text, timedelta):
        return text
    found = re.fullmatch(DURATION_PATTERN, text) if isinstance(text, str) else None
    if not isinstance(text, str) or found is None:
        raise ValueError("must be a number with a unit (ms, s, m, h, d, w), e.g. 120s, 24h or 7d")
    unit = found[2]
    number = float(text.strip().removesuffix(unit))
    try:
        return timedelta(seconds=number * _UNITS_S[unit])
    except OverflowError as error:
        raise ValueError("is too long") from error


def format_duration(duration: timedelta | None) -> str:
    """The shortest way a plan would write it; None is `forever`."""
    if duration is None:
        return "forever"
    seconds = duration.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS_S[unit] == 0:
            return f"{int(seconds // _UNITS_S[unit])}{unit}"
    return f"{seconds:g}s"


def parse_zone(name: str) -> ZoneInfo:
    """The time zone of this name.

    Raises:
        ValueError: If there is none; the nearest name is suggested.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}{_nearest_zone(name)}") from error


def check_cron(expression: str) -> str:
    """The expression with single spaces, once it is known to ask for something.

    Raises:
        ValueError: If it is no five-field cron expression, numbers its weekdays or never fires.
    """
    fields = expression.lower().split()
    if len(fields) != 5:
        raise ValueError("must have five fields: minute hour day month weekday, e.g. `0 6 * * sun`")
    if re.search(r"\d", fields[4]):
        raise ValueError(
            "write weekdays as names (mon, tue, … sun): numbers mean different days in different "
            "programs, 1 is Monday in cron and Tuesday in others"
        )
    _check_days(fields[4])
    joined = " ".join(fields)
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - only scheduled plans need it

    try:
        trigger = CronTrigger.from_crontab(joined, timezone=UTC)
    except (ValueError, KeyError) as error:
        raise ValueError(f"is no cron expression: {error}") from error
    if trigger.get_next_fire_time(None, _SOME_MONDAY) is None:
        raise ValueError("never comes: there is no such date")
    return joined


def _check_days(text: str) -> None:
    for word in re.findall(r"[a-z]+", text):
        if word not in _DAYS and word != "last":
            near = difflib.get_close_matches(word, _DAYS, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"there is no weekday {word!r}{hint}")


def _nearest_zone(name: str) -> str:
    known = available_timezones()
    by_lower = {zone.lower(): zone for zone in known}
    wanted = name.lower().replace(" ", "_")
    near = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=0.6)
    if not near:
        cities = {zone.rpartition("/")[2]: zone for zone in by_lower}
        near = [cities[city] for city in difflib.get_close_matches(wanted, cities, n=1)]
    return f"; did you mean {by_lower[near[0]]}?" if near else "; use a name such as Europe/London"
