"""A record under our column names as a row of the log."""

from collections.abc import Mapping
from datetime import UTC, datetime

from app.domain.cases import SkipReason
from app.domain.plans import LogSettings
from app.logsources.layout import FIELDS
from app.logsources.span_attributes import attribute
from app.ports import LogRow

KNOWN = (*FIELDS, "id", "created_at")


def log_row(
    record: Mapping[str, object], *, place: int, settings: LogSettings, stratum: str = ""
) -> LogRow:
    """The row; its segments are named by `logs.segments`, dots leading into objects.

    Args:
        record: Values by name.
        place: The number of the record, which is its id where it has none.
        settings: Which of its names are ours and which are segments.
        stratum: Where it was drawn from.
    """
    named = {ours: attribute(record, settings.columns.get(ours, ours)) for ours in KNOWN}
    columns = dict(settings.segments) or {"segment": "segment"}
    at, is_broken = instant_of(named.pop("created_at"))
    row_id = named.pop("id")
    return LogRow(
        source_id=f"row-{place}" if row_id is None else str(row_id),
        created_at=at,
        segments={
            name: str(value)
            for name, column in columns.items()
            if (value := attribute(record, column)) is not None
        },
        fields={name: value for name, value in named.items() if value is not None},
        stratum=stratum,
        skip=SkipReason.UNREADABLE.value if is_broken else _known(record.get("skip")),
    )


def instant_of(value: object) -> tuple[datetime | None, bool]:
    """The time a row was logged, and whether what stands there is no time."""
    if value is None:
        return None, False
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC), False
        at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None, True
    return (at if at.tzinfo else at.replace(tzinfo=UTC)), False


def _known(skip: object) -> str | None:
    """Our own reason; a column that happens to be called `skip` is none."""
    return skip if isinstance(skip, str) and skip in set(SkipReason) else None
