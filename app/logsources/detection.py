"""Which tables of a database look like logs of prompts, and which of their columns hold what."""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from psycopg import sql

from app.domain.cases import Window
from app.domain.errors import LogSourceError
from app.domain.models import Secret
from app.logsources.column_names import (
    JSONS,
    TEXTS,
    TIMES,
    base_type,
    epoch_column,
    named_columns,
)
from app.logsources.csv_text import delimiter_of
from app.logsources.exported_records import READINGS
from app.logsources.layout import operators_sql, quoted
from app.logsources.log_apis import open_api
from app.logsources.read_only_session import ReadOnlySession, as_text
from app.logsources.span_attributes import object_of
from app.ports import FoundLog

_FIRST_BYTES = 2**20
_LOOKS_BACK = timedelta(days=30)
_TIMEOUT_S = 10.0
_LOOKED_AT = 2_000
_COLUMNS = sql.SQL(
    "SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::bigint, a.attname,"
    " format_type(a.atttypid, NULL), n.nspname = ANY(current_schemas(false)),"
    " EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum"
    " AND i.indisvalid AND i.indpred IS NULL),"
    " EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary"
    " AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition"
    " AND n.nspname !~ '^(pg_|information_schema$|switchwise)'"
    " AND has_schema_privilege(n.oid, 'USAGE')"
    " AND has_column_privilege(c.oid, a.attnum, 'SELECT')"
    " ORDER BY 1, 2, a.attnum"
)
_SEGMENTS = (
    "route",
    "feature",
    "use_case",
    "usecase",
    "task",
    "intent",
    "team",
    "endpoint",
    "category",
    "segment",
)
_METADATA = ("metadata", "meta", "tags", "properties", "labels")
#: Where Phoenix keeps what OpenInference records: nested under the parts of its dotted names.
_PHOENIX_MODEL = "attributes->'llm'->>'model_name'"
_PHOENIX_METADATA = "attributes->'metadata'"
_LOGGED_AT = "switchwise_logged_at"
_LIKELY_WORDS = ("log", "llm", "ai", "chat", "prompt", "completion", "generation", "request")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    schema: str
    name: str
    rows: int
    is_on_path: bool
    types: Mapping[str, str]
    indexed: frozenset[str]
    key: str | None

    @property
    def plan_name(self) -> str:
        parts = (self.name,) if self.is_on_path else (self.schema, self.name)
        return ".".join(_identifier(part) for part in parts)


async def find_logs(dsn: str) -> tuple[FoundLog, ...]:
    """Tables that look like logs of prompts, the likeliest first; nothing of them is changed.

    Raises:
        LogSourceError: If the database cannot be reached.
    """
    session = ReadOnlySession(dsn, statement_timeout_s=_TIMEOUT_S)
    try:
        found = [
            (score, one)
            for table in await _tables(session)
            for score, one in await _recognised(session, table)
        ]
    finally:
        await session.close()
    found.sort(key=lambda pair: (-pair[0], -pair[1].rows, pair[1].table))
    return tuple(one for _, one in found)


def find_in_file(path: Path) -> FoundLog:
    """What a file of prompts holds, by its first row.

    Raises:
        LogSourceError: If it cannot be read, or has neither prompts nor messages.
    """
    record = _first_record(path)
    columns = named_columns(dict.fromkeys(record, ""))
    if not {"prompt", "messages"} & columns.keys():
        raise LogSourceError(
            f"{path} has neither prompts nor messages; its columns are: {', '.join(record)}: name "
            "the one with the prompts `prompt`, and the one with expected answers `expected`"
        )
    model = record.get(columns.get("model", ""))
    return FoundLog(
        preset="file",
        table=str(path),
        rows=0,
        columns={ours: theirs for ours, theirs in columns.items() if ours != theirs},
        segments={
            name.lower(): name
            for name in record
            if name.lower() in _SEGMENTS and name not in columns.values()
        },
        models=(model,) if isinstance(model, str) and model else (),
    )


async def find_in_api(product: str, options: Mapping[str, Secret], now: datetime) -> FoundLog:
    """What the API of a product keeps of the last weeks, by its first page.

    Raises:
        LogSourceError: If it cannot be read, or holds nothing.
    """
    api = open_api(product, options)
    try:
        page = await api.page(Window(start=now - _LOOKS_BACK, end=now), None)
    finally:
        await api.close()
    records = [read for one in page.records if (read := READINGS[product](one)) is not None]
    if not records:
        raise LogSourceError(
            f"{product} holds no prompts of the last {_LOOKS_BACK.days} days: do these keys belong "
            "to the project that is in production?"
        )
    models = Counter(str(record["model"]) for record in records if record.get("model"))
    place = "properties" if product == "helicone" else "metadata"
    keys = {key for record in records for key in object_of(record.get(place))}
    return FoundLog(
        preset=product,
        table="",
        rows=0,
        segments={name: f"{place}.{name}" for name in _SEGMENTS if name in keys},
        models=tuple(name for name, _ in models.most_common(5)),
    )


def _first_record(path: Path) -> Mapping[str, object]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(_FIRST_BYTES).decode("utf-8-sig", "replace")
    except (OSError, EOFError) as error:
        raise LogSourceError(f"{path} cannot be read: {error}") from error
    if path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
        rows = csv.DictReader(io.StringIO(head, newline=""), delimiter=delimiter_of(head))
        return next(iter(rows), {})
    try:
        parsed, _ = json.JSONDecoder().raw_decode(head.lstrip().removeprefix("[").lstrip())
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise LogSourceError(f"{path} is neither CSV, JSON lines nor a JSON list of objects")
    return parsed


async def _tables(session: ReadOnlySession) -> list[_Table]:
    columns: dict[tuple[str, str], list[tuple[object, ...]]] = {}
    for row in await session.rows(_COLUMNS):
        columns.setdefault((as_text(row[0]), as_text(row[1])), []).append(row)
    return [
        _Table(
            schema=schema,
            name=name,
            rows=int(str(rows[0][2])),
            is_on_path=bool(rows[0][5]),
            types={str(row[3]): str(row[4]) for row in rows},
            indexed=frozenset(str(row[3]) for row in rows if row[6]),
            key=next((str(row[3]) for row in rows if row[7]), None),
        )
        for (schema, name), rows in columns.items()
    ]


async def _recognised(session: ReadOnlySession, table: _Table) -> list[tuple[int, FoundLog]]:
    """The table with how sure we are of it; empty when it is no log."""
    names = set(table.types)
    if {"proxy_server_request", "startTime", "request_id"} <= names:
        return [(300, await _found(session, table, "litellm", {}, "model_group", "startTime"))]
    if {"span_kind", "attributes", "start_time", "llm_token_count_prompt"} <= names:
        return [(200, await _found(session, table, "phoenix", {}, _PHOENIX_MODEL, "start_time"))]
    if otel := await _otel_columns(session, table):
        return [(150, await _found(session, table, "otel", otel, None, None))]
    columns = named_columns(table.types)
    if "id" not in columns and table.key is not None:
        columns["id"] = table.key
    query = None
    if "created_at" not in columns:
        times = [name for name, kind in table.types.items() if base_type(kind) in TIMES]
        if len(times) == 1:
            columns["created_at"] = times[0]
        elif not times and (epoch := epoch_column(table.types)):
            query = await _with_time(session, table, epoch)
            columns["created_at"] = _LOGGED_AT
    if not {"id", "created_at"} <= columns.keys() or not {"prompt", "messages"} & columns.keys():
        return []
    likely = sum(word in table.name.lower().split("_") for word in _LIKELY_WORDS)
    evidence = 10 * likely + 5 * len(columns)
    if not {"response", "model"} & columns.keys() and not likely:
        return []
    model = columns.get("model")
    found = await _found(
        session,
        table,
        "generic",
        columns,
        None if model is None else quoted(model),
        columns["created_at"],
    )
    return [(evidence, replace(found, query=query))]


async def _with_time(session: ReadOnlySession, table: _Table, epoch: str) -> str:
    """A SELECT of the table in which a number of seconds, or of milliseconds, is a time."""
    statement = sql.SQL("SELECT {} > 1e11 FROM {} WHERE {} IS NOT NULL LIMIT 1").format(
        sql.Identifier(epoch), _relation(table), sql.Identifier(epoch)
    )
    try:
        is_ms = bool([row for (row,) in await session.rows(statement) if row])
    except LogSourceError:
        is_ms = False
    number = _identifier(epoch) + (" / 1000.0" if is_ms else "")
    return f"SELECT *, to_timestamp({number}) AS {_LOGGED_AT} FROM {table.plan_name}"


async def _otel_columns(session: ReadOnlySession, table: _Table) -> dict[str, str]:
    """The columns of a table of spans, when its newest attributes speak of GenAI."""
    names = {
        ours: next((name for name in theirs if name in table.types), None)
        for ours, theirs in {
            "messages": ("attributes", "span_attributes", "SpanAttributes"),
            "id": ("span_id", "spanid", "SpanId", "id"),
            "created_at": ("start_time", "starttime", "timestamp", "Timestamp"),
        }.items()
    }
    columns = {ours: name for ours, name in names.items() if name is not None}
    if len(columns) < len(names) or base_type(table.types[columns["messages"]]) not in JSONS:
        return {}
    statement = sql.SQL(
        "SELECT count(*) FROM (SELECT {}::text AS attributes FROM {} LIMIT 200) AS spans"
        " WHERE attributes LIKE '%%gen_ai.%%'"
    ).format(sql.Identifier(columns["messages"]), _relation(table))
    try:
        speaks = (await session.rows(statement))[0][0]
    except LogSourceError:
        return {}
    return columns if speaks else {}


async def _found(
    session: ReadOnlySession,
    table: _Table,
    preset: str,
    columns: Mapping[str, str],
    model: str | None,
    created_at: str | None,
) -> FoundLog:
    return FoundLog(
        preset=preset,
        table=table.plan_name,
        rows=table.rows,
        columns={ours: _identifier(theirs) for ours, theirs in columns.items()},
        segments=await _segments(session, table, preset, frozenset(columns.values())),
        models=await _models(session, table, model, created_at),
    )


async def _segments(
    session: ReadOnlySession, table: _Table, preset: str, taken: frozenset[str]
) -> Mapping[str, str]:
    """Columns, and values in a JSON column of metadata, that part the traffic."""
    if preset == "phoenix":
        return await _json_segments(session, table, _PHOENIX_METADATA)
    if preset != "generic":
        return {}
    lowered = {name.lower(): name for name, kind in table.types.items() if base_type(kind) in TEXTS}
    found = {
        name: _identifier(lowered[name])
        for name in _SEGMENTS
        if name in lowered and lowered[name] not in taken
    }
    for name in _METADATA:
        kind = table.types.get(lowered.get(name, ""), "")
        if base_type(kind) in JSONS and lowered[name] not in taken:
            inside = await _json_segments(session, table, _identifier(lowered[name]))
            found = {**inside, **found}
    return found


async def _json_segments(session: ReadOnlySession, table: _Table, path: str) -> Mapping[str, str]:
    """Which of the usual segments stand in the objects at this path of some rows."""
    statement = sql.SQL(
        "SELECT DISTINCT key FROM (SELECT ({})::jsonb AS data FROM {} LIMIT 200) AS seen,"
        " jsonb_object_keys(CASE jsonb_typeof(data) WHEN 'object' THEN data END) AS key"
    ).format(operators_sql(path), _relation(table))
    try:
        keys = {as_text(key) for (key,) in await session.rows(statement)}
    except LogSourceError:
        return {}
    return {name: f"{path}->>'{name}'" for name in _SEGMENTS if name in keys}


async def _models(
    session: ReadOnlySession, table: _Table, model: str | None, created_at: str | None
) -> tuple[str, ...]:
    """The models of some recent rows; of any rows where time has no index. Empty when slow."""
    if model is None:
        return ()
    order: sql.Composable = sql.SQL("")
    if created_at in table.indexed:
        order = sql.SQL("ORDER BY {} DESC").format(sql.Identifier(str(created_at)))
    statement = sql.SQL(
        "SELECT name FROM (SELECT ({})::text AS name FROM {} {} LIMIT {}) AS recent"
        " WHERE name <> '' GROUP BY name ORDER BY count(*) DESC, name LIMIT 5"
    ).format(operators_sql(model), _relation(table), order, sql.Literal(_LOOKED_AT))
    try:
        return tuple(as_text(name) for (name,) in await session.rows(statement))
    except LogSourceError:
        return ()


def _relation(table: _Table) -> sql.Composable:
    return operators_sql(quoted(table.schema, table.name))


def _identifier(name: str) -> str:
    """The name as SQL takes it: in quotes where it needs them."""
    is_plain = name == name.lower() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    return name if is_plain else quoted(name)
