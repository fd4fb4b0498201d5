"""Logs or a curated suite in a file: JSON lines, a JSON list or CSV, optionally gzipped."""

import asyncio
import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from app.domain.cases import SkipReason, Window
from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings
from app.logsources.csv_text import delimiter_of
from app.logsources.exported_records import Reading, Record
from app.logsources.exported_rows import KNOWN, log_row
from app.logsources.layout import nearest_of
from app.logsources.orders import place_of, stratum_of
from app.ports import Ahead, Frame, LogRow

_FIRST_CHARACTERS = 2**16
_MOST_FIELD_CHARACTERS = 2**30


def as_it_is(record: Record) -> Record | None:
    """The reading of a file whose names are ours or named in the plan."""
    return record


class FileLogs:
    """A file of prompts; all of it is the window when its rows carry no time.

    Args:
        settings: Where it is.
        reading: Puts the records of a product's export under our names.
    """

    def __init__(self, settings: LogSettings, *, reading: Reading = as_it_is) -> None:
        self._settings = settings
        self._reading = reading
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

    async def frame(
        self,
        window: Window,
        *,
        by: Sequence[str],
        ahead: Ahead | None = None,  # noqa: ARG002 - the port's signature
    ) -> Frame:
        """Count the rows of the window, by stratum when segments are named."""
        counts = Counter(stratum_of(row.segments, by) for row in await self._within(window))
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
        for row in sorted(
            await self._within(window), key=lambda row: place_of(row.source_id, seed)
        ):
            stratum = stratum_of(row.segments, by)
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
            rows, self._names = await asyncio.to_thread(_read, self._settings, self._reading)
            self._rows = rows
        return self._rows


def _read(settings: LogSettings, reading: Reading) -> tuple[tuple[LogRow, ...], frozenset[str]]:
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
    found = _csv_records(data, path) if is_csv else _json_records(data)
    records = list(_readings(found, reading))
    if not records:
        raise LogSourceError(f"{path} holds no rows")
    names = frozenset(name for record in records if record is not None for name in record)
    _check_names(settings, names, path)
    rows = (_row(record, place, settings) for place, record in enumerate(records, start=1))
    return tuple(rows), names


def _readings(records: Iterator[Record | None], reading: Reading) -> Iterator[Record | None]:
    """The records as they are read; those that are no prompts at all are left out."""
    for record in records:
        read = None if record is None else reading(record)
        if record is None or read is not None:
            yield read


def _row(record: Record | None, place: int, settings: LogSettings) -> LogRow:
    if record is not None:
        return log_row(record, place=place, settings=settings)
    return LogRow(
        source_id=f"row-{place}",
        created_at=None,
        segments={},
        fields={},
        skip=SkipReason.UNREADABLE.value,
    )


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
    delimiter = delimiter_of(text.read(_FIRST_CHARACTERS))
    text.seek(0)
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
        if ours not in KNOWN:
            raise LogSourceError(f"logs.columns.{ours} is unknown{nearest_of(ours, KNOWN)}")
        if theirs not in names and theirs.partition(".")[0] not in names:
            raise LogSourceError(f"{path} has no column {theirs!r}{nearest_of(theirs, names)}")
    for segment, column in settings.segments.items():
        if column not in names and column.partition(".")[0] not in names:
            raise LogSourceError(
                f"{path} has no column {column!r} (logs.segments.{segment})"
                f"{nearest_of(column, names)}"
            )
