"""Rows of the views, for spreadsheets and notebooks: streamed, however many there are."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import psycopg
from psycopg import sql

from app.domain.errors import ConfigError, StorageUnavailable
from app.storage.tables import BI_SCHEMA
from app.storage.views import VIEWS, View

Form = Literal["csv", "jsonl"]
_ROWS_AT_ONCE = 1000
_CONNECT_WITHIN_S = 10


def view_names() -> tuple[str, ...]:
    """What can be exported."""
    return tuple(view.name for view in VIEWS)


def exported(
    dsn: str,
    view_name: str,
    *,
    form: Form,
    plan_name: str | None = None,
    since: datetime | None = None,
) -> Iterator[str]:
    """The rows of a view as lines of text, oldest Runs first.

    Times are ISO 8601 in UTC. In JSON, money and other exact numbers are strings of a decimal.

    Args:
        dsn: The results database.
        view_name: One of `view_names()`.
        form: CSV with a header line, or one JSON object per line.
        plan_name: Only this plan's rows.
        since: Only rows of Runs that finished (alerts that opened) at this instant or later.

    Raises:
        ConfigError: If there is no such view.
        StorageUnavailable: If the database cannot be reached.
    """
    view = next((view for view in VIEWS if view.name == view_name), None)
    if view is None:
        raise ConfigError(f"no view {view_name!r}; there are: {', '.join(view_names())}")
    columns = [column.name for column in view.columns]
    if form == "csv":
        yield _csv_line(columns)
    for row in _rows(dsn, view, {"plan_name": plan_name, "since": since}):
        if form == "csv":
            yield _csv_line([_cell(value) for value in row])
        else:
            yield json.dumps(
                {name: _plain(value) for name, value in zip(columns, row, strict=True)},
                ensure_ascii=False,
            )


def _rows(dsn: str, view: View, named: dict[str, Any]) -> Iterator[Sequence[Any]]:
    try:
        connection = psycopg.connect(dsn, connect_timeout=_CONNECT_WITHIN_S)
        with closing(connection), connection.transaction():
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute("SET LOCAL TIME ZONE 'UTC'")
            with connection.cursor("switchwise_export") as cursor:
                cursor.itersize = _ROWS_AT_ONCE
                cursor.execute(_query(view), named)
                yield from cursor
    except psycopg.Error as error:
        reason = type(error).__name__
        raise StorageUnavailable(f"the results database cannot be read: {reason}") from error


def _query(view: View) -> sql.Composed:
    names = {column.name for column in view.columns}
    which = """
        run_id IN (SELECT run_id FROM {schema}.runs
          WHERE (%(plan_name)s::text IS NULL OR plan_name = %(plan_name)s)
            AND (%(since)s::timestamptz IS NULL OR coalesce(finished_at, slot_at) >= %(since)s))
    """
    if "opened_at" in names:
        which = """
            (%(plan_name)s::text IS NULL OR plan_name = %(plan_name)s)
            AND (%(since)s::timestamptz IS NULL OR opened_at >= %(since)s)
        """
    order = next(
        name
        for name in ("slot_at", "finished_at", "sent_at", "opened_at", "timestamp", "run_id")
        if name in names
    )
    return sql.SQL(f"SELECT * FROM {{schema}}.{{view}} WHERE {which} ORDER BY {{order}}").format(
        schema=sql.Identifier(BI_SCHEMA),
        view=sql.Identifier(view.name),
        order=sql.Identifier(order),
    )


def _csv_line(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return json.dumps(_plain(value), ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _plain(value)


def _plain(value: object) -> Any:
    """The value as JSON takes it."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return format(value, "f")
        case datetime() | date():
            return value.isoformat()
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return str(value)
