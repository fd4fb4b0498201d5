"""Which tables of a database look like logs of prompts, and which of their columns hold what."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from app.domain.errors import LogSourceError
from app.logsources.layout import FIELDS, operators_sql, quoted
from app.logsources.read_only_session import ReadOnlySession, as_text
from app.ports import FoundLog

_FIRST_BYTES = 2**20
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
_TEXTS = ("text", "character varying", "character", "json", "jsonb")
_JSONS = ("json", "jsonb")
_TIMES = ("timestamp with time zone", "timestamp without time zone")

#: Our column -> names it goes by, likeliest first, and the types it may have.
SYNONYMS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "messages": (
        ("messages", "request_messages", "chat_messages", "input_messages", "request_body",
         "request", "payload", "body"),
        _TEXTS,
    ),
    "prompt": (
        ("prompt", "user_prompt", "prompt_text", "input", "input_text", "question", "user_message",
         "user_input", "query", "query_text"),
        _TEXTS,
    ),
    "created_at": (
        ("created_at", "createdat", "timestamp", "ts", "logged_at", "requested_at", "request_time",
         "started_at", "start_time", "starttime", "inserted_at", "time", "created", "at"),
        _TIMES,
    ),
    "id": (("id", "request_id", "log_id", "call_id", "uuid", "message_id", "trace_id"), ()),
    "system": (("system", "system_prompt", "system_message", "instructions"), _TEXTS),
    "params": (("params", "parameters", "model_parameters", "settings"), _TEXTS),
    "tools": (("tools", "tool_definitions"), _TEXTS),
    "response": (
        ("response", "completion", "output", "reply", "answer", "response_text", "output_text",
         "response_body", "assistant_message", "result"),
        _TEXTS,
    ),
    "reference": (("reference", "expected", "ground_truth", "expected_output"), _TEXTS),
    "conversation": (("conversation", "conversation_id", "session_id", "thread_id", "chat_id"), ()),
    "model": (("model", "model_name", "model_id", "llm_model", "engine"), _TEXTS),
    "status": (("status", "status_code", "http_status"), ()),
    "cache_hit": (("cache_hit", "is_cached", "cached"), ()),
    "input_tokens": (("input_tokens", "prompt_tokens", "tokens_in"), ()),
    "output_tokens": (("output_tokens", "completion_tokens", "tokens_out"), ()),
}  # fmt: skip
_SEGMENTS = ("route", "feature", "use_case", "usecase", "task", "intent", "team", "endpoint")
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
    names = [name for name in SYNONYMS if name in FIELDS or name in {"id", "created_at"}]
    columns = named_columns(dict.fromkeys(record, ""), wanted=names)
    if not {"prompt", "messages"} & columns.keys():
        raise LogSourceError(
            f"{path} has neither prompts nor messages; its columns are: {', '.join(record)}"
        )
    model = record.get(columns.get("model", ""))
    return FoundLog(
        preset="file",
        table=str(path),
        rows=0,
        columns={ours: theirs for ours, theirs in columns.items() if ours != theirs},
        models=(model,) if isinstance(model, str) and model else (),
    )


def named_columns(
    types: Mapping[str, str], *, wanted: Sequence[str] = tuple(SYNONYMS)
) -> dict[str, str]:
    """Our column names and the columns that probably hold them, by name and type ("": any)."""
    lowered = {name.lower(): name for name in types}
    chosen: dict[str, str] = {}
    for ours in wanted:
        names, allowed = SYNONYMS[ours]
        for name in names:
            theirs = lowered.get(name)
            if theirs is None or theirs in chosen.values():
                continue
            if not allowed or _base(types[theirs]) in (*allowed, ""):
                chosen[ours] = theirs
                break
    if "messages" in chosen and "prompt" in chosen:
        del chosen["prompt"]  # the whole conversation says more than its last turn
    return chosen


def _first_record(path: Path) -> Mapping[str, object]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(_FIRST_BYTES).decode("utf-8-sig", "replace")
    except (OSError, EOFError) as error:
        raise LogSourceError(f"{path} cannot be read: {error}") from error
    if path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
        rows = csv.DictReader(head.splitlines(), delimiter="\t" if ".tsv" in path.name else ",")
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
        return [(200, await _found(session, table, "phoenix", {}, None, "start_time"))]
    if otel := await _otel_columns(session, table):
        return [(150, await _found(session, table, "otel", otel, None, None))]
    columns = named_columns(table.types)
    if "id" not in columns and table.key is not None:
        columns["id"] = table.key
    if "created_at" not in columns:
        times = [name for name, kind in table.types.items() if _base(kind) in _TIMES]
        if len(times) == 1:
            columns["created_at"] = times[0]
    if not {"id", "created_at"} <= columns.keys() or not {"prompt", "messages"} & columns.keys():
        return []
    likely = sum(word in table.name.lower().split("_") for word in _LIKELY_WORDS)
    evidence = 10 * likely + 5 * len(columns)
    if not {"response", "model"} & columns.keys() and not likely:
        return []
    found = await _found(
        session, table, "generic", columns, columns.get("model"), columns["created_at"]
    )
    return [(evidence, found)]


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
    if len(columns) < len(names) or _base(table.types[columns["messages"]]) not in _JSONS:
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
    lowered = {name.lower(): name for name, kind in table.types.items() if _base(kind) in _TEXTS}
    taken = set(columns.values())
    return FoundLog(
        preset=preset,
        table=table.plan_name,
        rows=table.rows,
        columns={ours: _identifier(theirs) for ours, theirs in columns.items()},
        segments={
            name: _identifier(lowered[name])
            for name in _SEGMENTS
            if preset == "generic" and name in lowered and lowered[name] not in taken
        },
        models=await _models(session, table, model, created_at),
    )


async def _models(
    session: ReadOnlySession, table: _Table, model: str | None, created_at: str | None
) -> tuple[str, ...]:
    """The models of some recent rows; of any rows where time has no index. Empty when slow."""
    if model is None or model not in table.types:
        return ()
    order: sql.Composable = sql.SQL("")
    if created_at in table.indexed:
        order = sql.SQL("ORDER BY {} DESC").format(sql.Identifier(str(created_at)))
    statement = sql.SQL(
        "SELECT name FROM (SELECT {}::text AS name FROM {} {} LIMIT {}) AS recent"
        " WHERE name <> '' GROUP BY name ORDER BY count(*) DESC, name LIMIT 5"
    ).format(sql.Identifier(model), _relation(table), order, sql.Literal(_LOOKED_AT))
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


def _base(type_name: str) -> str:
    """The type without its length."""
    return type_name.partition("(")[0].strip()
