"""Logs or a curated suite in a file: JSON lines, a JSON list or CSV, optionally gzipped."""

import asyncio
import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from app.domain.cases import SkipReason, Window
from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings
from app.logsources.layout import FIELDS, nearest_of
from app.ports import Frame, LogRow

_MOST_FIELD_CHARACTERS = 2**30
_KNOWN = (*FIELDS, "id", "created_at")


class FileLogs:
    """A file of prompts; all of it is the window when its rows carry no time."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._rows: tuple[LogRow, ...] | None = None
        self._names: frozenset[str] = frozenset()

    async def check(self) -> tuple[str, ...]:
        """Warnings about rows that cannot be read.

        Raises:
            LogSourceError: If the file is missing, empty or without prompts.
        """
        rows = await self._all()
        unread = sum(row.skip is not None for row in rows)
        if unread == len(rows):
            raise LogSourceError(f"{self._settings.path}: none of {len(rows)} rows can be read")
        if not any("prompt" in row.fields or "messages" in row.fields for row in rows):
            raise LogSourceError(
                f"{self._settings.path} has neither 'prompt' nor 'messages'"
                f"{nearest_of('prompt', self._names)}; name one in logs.columns"
            )
        warning = f"{self._settings.path}: {unread} of {len(rows)} rows cannot be read"
        return (warning,) if unread else ()

    async def frame(self, window: Window, *, by: Sequence[str]) -> Frame:
        """Count the rows of the window, by stratum when segments are named."""
        counts = Counter(_stratum(row, by) for row in await self._within(window))
        return Frame(rows=dict(counts) or {"": 0})

    async def draw(
        self,
        window: Window,
        *,
        seed: int,
        by: Sequence[str],
        quota: Mapping[str, int],
        offset: Mapping[str, int],
    ) -> Sequence[LogRow]:
        """Take the next `quota[stratum]` rows of each stratum in the seeded order."""
        strata: dict[str, list[LogRow]] = {stratum: [] for stratum in quota}
        for row in sorted(await self._within(window), key=lambda row: _place(row, seed)):
            stratum = _stratum(row, by)
            if stratum in strata:
                strata[stratum].append(replace(row, stratum=stratum))
        return [
            row
            for stratum, rows in strata.items()
            for row in rows[offset.get(stratum, 0) :][: quota[stratum]]
        ]

    async def explain(self, window: Window) -> str | None:  # noqa: ARG002 - the port's signature
        """Files are read whole; there is nothing to estimate."""
        return None

    async def close(self) -> None:
        """Forget the rows."""
        self._rows = None

    async def _within(self, window: Window) -> list[LogRow]:
        return [
            row
            for row in await self._all()
            if row.created_at is None or window.start <= row.created_at < window.end
        ]

    async def _all(self) -> tuple[LogRow, ...]:
        if self._rows is None:
            rows, self._names = await asyncio.to_thread(_read, self._settings)
            self._rows = rows
        return self._rows


def _read(settings: LogSettings) -> tuple[tuple[LogRow, ...], frozenset[str]]:
    """The rows of the file and the names of its columns."""
    if not settings.path:
        raise LogSourceError("logs.path must name the file of prompts")
    path = Path(settings.path)
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise LogSourceError(f"{path} cannot be read: {error}") from error
    is_csv = path.name.removesuffix(".gz").endswith((".csv", ".tsv"))
    records = list(_csv_records(data, path) if is_csv else _json_records(data))
    if not records:
        raise LogSourceError(f"{path} holds no rows")
    names = frozenset(name for record in records if record is not None for name in record)
    _check_names(settings, names, path)
    rows = (_log_row(record, place, settings) for place, record in enumerate(records, start=1))
    return tuple(rows), names


def _json_records(data: bytes) -> Iterator[Mapping[str, object] | None]:
    """Objects of a JSON list or of JSON lines; None for what is neither."""
    text = data.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip()[:1] == b"[":
        whole = _json(text)
        if isinstance(whole, list):
            yield from (item if isinstance(item, dict) else None for item in whole)
            return
    for line in text.split(b"\n"):
        if line.strip():
            record = _json(line)
            yield record if isinstance(record, dict) else None


def _json(text: bytes) -> object:
    try:
        parsed: object = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return parsed


def _csv_records(data: bytes, path: Path) -> Iterator[Mapping[str, object]]:
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    # Undecodable bytes become lone surrogates, which make that row unreadable and no other.
    text = io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")
    delimiter = "\t" if ".tsv" in path.name else ","
    try:
        for record in csv.DictReader(text, delimiter=delimiter):
            yield {
                name: value
                for name, value in record.items()
                if name is not None and isinstance(value, str) and value != ""
            }
    except csv.Error as error:
        raise LogSourceError(f"{path} is no valid CSV: {error}") from error


def _check_names(settings: LogSettings, names: frozenset[str], path: Path) -> None:
    for ours, theirs in settings.columns.items():
        if ours not in _KNOWN:
            raise LogSourceError(f"logs.columns.{ours} is unknown{nearest_of(ours, _KNOWN)}")
        if theirs not in names:
            raise LogSourceError(f"{path} has no column {theirs!r}{nearest_of(theirs, names)}")
    for segment, column in settings.segments.items():
        if column not in names:
            raise LogSourceError(
                f"{path} has no column {column!r} (logs.segments.{segment})"
                f"{nearest_of(column, names)}"
            )


def _log_row(record: Mapping[str, object] | None, place: int, settings: LogSettings) -> LogRow:
    unread = SkipReason.UNREADABLE.value
    if record is None:
        return LogRow(
            source_id=f"row-{place}", created_at=None, segments={}, fields={}, skip=unread
        )
    named = {ours: record.get(settings.columns.get(ours, ours)) for ours in _KNOWN}
    columns = dict(settings.segments) or {"segment": "segment"}
    segments = {
        name: str(value)
        for name, column in columns.items()
        if (value := record.get(column)) is not None
    }
    at, is_broken = _instant(named.pop("created_at"))
    row_id = named.pop("id")
    return LogRow(
        source_id=f"row-{place}" if row_id is None else str(row_id),
        created_at=at,
        segments=segments,
        fields={name: value for name, value in named.items() if value is not None},
        skip=unread if is_broken else None,
    )


def _instant(value: object) -> tuple[datetime | None, bool]:
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


def _stratum(row: LogRow, by: Sequence[str]) -> str:
    return " / ".join(row.segments.get(name, "") for name in by)


def _place(row: LogRow, seed: int) -> bytes:
    text = f"{seed}\x1f{row.source_id}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
