"""Logs in any Postgres table or SELECT."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Any, TypeVar

from psycopg import sql

from app.domain.cases import SkipReason, Window
from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings
from app.logsources.health import Relation, check_grants, check_rows, index_advice, is_indexed
from app.logsources.layout import (
    Column,
    Layout,
    layout_of,
    nearest_of,
    operators_sql,
    query_relation,
    quoted,
    table_parts,
)
from app.logsources.query_plans import estimated_rows, plan_sentence, relations_of
from app.logsources.read_only_session import ReadOnlySession, Rows, StatementTooSlow, as_text
from app.logsources.statements import (
    HIGHEST,
    MOST_AHEAD,
    bodies_statement,
    bound_ahead,
    bound_of,
    counted_keys_statement,
    frame_statement,
    keys_statement,
    seed_of,
    uniform_keys_statement,
    window_statement,
)
from app.ports import Ahead, Frame, LogRow

T = TypeVar("T")

_BODIES_AT_ONCE = 100
_TABLES = sql.SQL(
    "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname !~ '^(pg_|information_schema)'"
)
_RELATION = sql.SQL(
    "SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname), relkind::text"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE c.oid = to_regclass(%(name)s)"
)
_TYPES = sql.SQL(
    "SELECT oid::bigint, format_type(oid, NULL) FROM pg_type WHERE oid::bigint = ANY(%(oids)s)"
)
_COLUMNS = sql.SQL(
    "SELECT attname::text, format_type(COALESCE(NULLIF(typbasetype, 0), atttypid), NULL),"
    " attnotnull, has_column_privilege(attrelid, attnum, 'SELECT')"
    " FROM pg_attribute JOIN pg_type t ON t.oid = atttypid"
    " WHERE attrelid = %(oid)s::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is known beforehand of a product's log table.

    Attributes:
        table: Its usual name.
        columns: Our column name -> its usual name of the column.
        where: A condition that always holds for rows of interest.
        reading: What to make of each row.
        empty_advice: What to do when no row holds a prompt.
    """

    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    reading: Callable[[LogRow], LogRow] = lambda row: row
    empty_advice: str = "the gateway stores no prompts, or logs.columns names the wrong column"


GENERIC = Preset()


class PostgresLogs:
    """A log table, view or SELECT, read in the order of a seeded hash of its ids."""

    def __init__(self, settings: LogSettings, *, dsn: str, preset: Preset = GENERIC) -> None:
        """Connect lazily.

        Args:
            settings: What to read.
            dsn: Where; a SELECT-only role is enough.
            preset: What is known of the table.
        """
        conditions = [text for text in (preset.where, settings.where) if text and text.strip()]
        self._settings = replace(
            settings,
            table=settings.table or preset.table,
            where=" AND ".join(f"({text}\n)" for text in conditions) or None,
        )
        self._preset = preset
        self._session = ReadOnlySession(dsn, statement_timeout_s=settings.statement_timeout_s)
        self._layout: Layout | None = None
        self._relation: Relation | None = None
        self._frames: dict[tuple[Window, tuple[str, ...]], Frame] = {}
        self._ahead: dict[tuple[Window, tuple[str, ...], int], dict[str, list[str]]] = {}

    async def check(self) -> tuple[str, ...]:
        """Warnings about roles, prompts and indexes.

        Raises:
            LogSourceError: If the source cannot be read as the plan says.
        """
        layout = await self._described()
        warnings: list[str] = []
        relation, has_index = self._relation, False
        if relation is not None and relation.can_be_indexed:
            has_index = await is_indexed(self._session, relation, layout)
            if not has_index:
                advice = await index_advice(self._session, relation, layout)
                warnings.append(
                    f"{layout.name} has no index on {layout.created_at.name!r}: every draw reads "
                    f"the whole table. This would help: {advice}"
                )
        warnings += await check_grants(self._session, await self._relations_read(layout))
        warnings += await self._timed(self._check_rows(layout, is_indexed=has_index))
        return tuple(warnings)

    async def frame(
        self, window: Window, *, by: Sequence[str], ahead: Ahead | None = None
    ) -> Frame:
        """Count the rows of the window, by stratum when segments are named.

        With `ahead`, the first keys of the seeded order are taken in the same scan.
        """
        layout = await self._described()
        _check_segments(by, layout)
        if ahead is None:
            counts = _counts(await self._rows(frame_statement(layout, by), _span(window)))
        else:
            counts = await self._count_ahead(layout, window, by, ahead)
        frame = Frame(rows=counts)
        self._frames[window, tuple(by)] = frame
        return frame

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
        layout = await self._described()
        frame = self._counted(window, by) or await self.frame(window, by=by)
        wanted = {
            stratum: offset.get(stratum, 0) + count
            for stratum, count in quota.items()
            if count > 0 and frame.rows.get(stratum, 0) > offset.get(stratum, 0)
        }
        known = self._ahead.get((window, tuple(by), seed), {})
        keys = {
            stratum: known[stratum][:most]
            for stratum, most in wanted.items()
            if len(known.get(stratum, ())) >= min(most, frame.rows[stratum])
        }
        rest = {stratum: most for stratum, most in wanted.items() if stratum not in keys}
        keys |= await self._keys(layout, window, seed=seed, by=by, wanted=rest, frame=frame)
        chosen = [
            (stratum, row_id)
            for stratum in wanted
            for row_id in keys[stratum][offset.get(stratum, 0) :]
        ]
        return await self._bodies(layout, window, chosen)

    async def explain(self, window: Window) -> str | None:
        """How the database would find the window's rows, and its estimate of the cost."""
        layout = await self._described()
        statement = sql.SQL("EXPLAIN (FORMAT JSON) {}").format(frame_statement(layout, ()))
        return plan_sentence(_json((await self._rows(statement, _span(window)))[0][0]))

    async def close(self) -> None:
        """Give back the connection."""
        await self._session.close()

    async def _check_rows(self, layout: Layout, *, is_indexed: bool) -> list[str]:
        advice = self._preset.empty_advice
        return await check_rows(self._session, layout, is_indexed=is_indexed, empty_advice=advice)

    def _counted(self, window: Window, by: Sequence[str]) -> Frame | None:
        """What was counted before; any strata of a window add up to all of it."""
        frame = self._frames.get((window, tuple(by)))
        if frame is not None or by:
            return frame
        totals = (known.total for (span, _), known in self._frames.items() if span == window)
        total = next(totals, None)
        return None if total is None else Frame(rows={"": total})

    async def _count_ahead(
        self, layout: Layout, window: Window, by: Sequence[str], ahead: Ahead
    ) -> dict[str, int]:
        """The rows of each stratum; the first keys of each are kept for the draw."""
        bound = bound_ahead(ahead.rows, await self._estimated_rows(layout, window))
        params = _span(window) | {
            "seed": seed_of(ahead.seed),
            "bound": bound,
            "most": MOST_AHEAD * ahead.rows,
        }
        found = await self._rows(counted_keys_statement(layout, by), params)
        self._ahead[window, tuple(by), ahead.seed] = {
            as_text(stratum): [as_text(row_id) for row_id in ids] for stratum, _, ids in found
        }
        return _counts([(stratum, rows) for stratum, rows, _ in found])

    async def _estimated_rows(self, layout: Layout, window: Window) -> int:
        statement = sql.SQL("EXPLAIN (FORMAT JSON) {}").format(window_statement(layout))
        return estimated_rows(_json((await self._rows(statement, _span(window)))[0][0]))

    async def _keys(
        self,
        layout: Layout,
        window: Window,
        *,
        seed: int,
        by: Sequence[str],
        wanted: Mapping[str, int],
        frame: Frame,
    ) -> dict[str, list[str]]:
        """The first `wanted` ids of each stratum; fewer only where there are fewer."""
        bounds = {stratum: bound_of(most, frame.rows[stratum]) for stratum, most in wanted.items()}
        found: dict[str, list[str]] = {}
        while bounds:
            params = _span(window) | {"seed": seed_of(seed)}
            if by:
                params |= {"strata": list(bounds), "bounds": list(bounds.values())}
                statement = keys_statement(layout, by)
            else:
                params |= {"bound": bounds[""], "most": wanted[""]}
                statement = uniform_keys_statement(layout)
            got: dict[str, list[str]] = {stratum: [] for stratum in bounds}
            for row_id, stratum in await self._rows(statement, params):
                got[as_text(stratum)].append(as_text(row_id))
            found |= {stratum: ids[: wanted[stratum]] for stratum, ids in got.items()}
            bounds = {
                stratum: HIGHEST
                for stratum, bound in bounds.items()
                if bound != HIGHEST and len(got[stratum]) < wanted[stratum]
            }
        return found

    async def _bodies(
        self, layout: Layout, window: Window, chosen: Sequence[tuple[str, str]]
    ) -> list[LogRow]:
        statement = bodies_statement(layout)
        found: dict[str, LogRow] = {}
        for start in range(0, len(chosen), _BODIES_AT_ONCE):
            ids = [row_id for _, row_id in chosen[start : start + _BODIES_AT_ONCE]]
            for row in await self._rows(statement, _span(window) | {"ids": ids}):
                read = _log_row(layout, row)
                found.setdefault(read.source_id, read)
        missing = LogRow(
            source_id="", created_at=None, segments={}, fields={}, skip=SkipReason.UNREADABLE.value
        )
        rows = (
            replace(found.get(row_id, missing), source_id=row_id, stratum=stratum)
            for stratum, row_id in chosen
        )
        return [self._preset.reading(row) for row in rows]

    async def _described(self) -> Layout:
        if self._layout is None:
            self._layout = await self._describe()
        return self._layout

    async def _describe(self) -> Layout:
        if self._settings.query:
            relation = query_relation(self._settings.query)
            columns = await self._query_columns(relation)
            return self._layout_of(columns, "logs.query", relation)
        if not self._settings.table:
            raise LogSourceError("logs.table or logs.query must say where the prompts are")
        parts = table_parts(self._settings.table)
        found = await self._find_relation(parts)
        rows = await self._rows(_COLUMNS, {"oid": found.oid})
        columns = [
            Column(
                name=as_text(name),
                type_name=as_text(kind),
                is_not_null=is_not_null,
                is_readable=is_readable,
            )
            for name, kind, is_not_null, is_readable in rows
        ]
        if not any(column.is_readable for column in columns):
            raise LogSourceError(
                f"the role may not read {self._settings.table}: GRANT SELECT ON {found.name} TO it"
            )
        self._relation = found
        aliased = sql.SQL("{} AS log").format(operators_sql(found.name))
        return self._layout_of(columns, self._settings.table, aliased)

    def _layout_of(self, columns: Sequence[Column], name: str, relation: sql.Composable) -> Layout:
        usual = self._preset.columns
        return layout_of(self._settings, columns, name=name, relation=relation, usual=usual)

    async def _query_columns(self, relation: sql.Composable) -> list[Column]:
        described = await self._session.columns(
            sql.SQL("SELECT * FROM {} LIMIT 0").format(relation)
        )
        oids = {"oids": [oid for _, oid in described]}
        types = {oid: as_text(name) for oid, name in await self._rows(_TYPES, oids)}
        return [Column(name=name, type_name=types[oid]) for name, oid in described]

    async def _find_relation(self, parts: Sequence[str]) -> Relation:
        """The table of exactly this name, else the one that an unquoted name would mean."""
        for names in (parts, [part.lower() for part in parts]):
            named = {"name": quoted(*names)}
            for oid, name, kind in await self._rows(_RELATION, named):
                return Relation(oid=oid, name=as_text(name), kind=as_text(kind))
        tables = [(as_text(schema), as_text(name)) for schema, name in await self._rows(_TABLES)]
        shown = [f"{schema}.{name}" if len(parts) > 1 else name for schema, name in tables]
        wanted = ".".join(parts)
        raise LogSourceError(f"there is no table {wanted!r}{nearest_of(wanted, shown)}")

    async def _relations_read(self, layout: Layout) -> list[Relation]:
        if self._relation is not None:
            return [self._relation]
        statement = sql.SQL("EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM {}")
        explained = _json((await self._rows(statement.format(layout.relation)))[0][0])
        found: list[Relation] = []
        for names in relations_of(explained):
            named = {"name": quoted(*names)}
            for oid, name, kind in await self._rows(_RELATION, named):
                found.append(Relation(oid=oid, name=as_text(name), kind=as_text(kind)))
        return found

    async def _rows(
        self, statement: sql.Composable, params: Mapping[str, Any] | None = None
    ) -> Rows:
        return await self._timed(self._session.rows(statement, params))

    async def _timed(self, work: Awaitable[T]) -> T:
        """Wait for the database; add advice when it was too slow."""
        try:
            return await work
        except StatementTooSlow as error:
            raise LogSourceError(f"{error}; {await self._advice()}") from error

    async def _advice(self) -> str:
        otherwise = "shorten sample.window, narrow logs.where or raise logs.statement_timeout"
        relation, layout = self._relation, self._layout
        if relation is None or layout is None or not relation.can_be_indexed:
            return f"give its table an index that starts with the time column, or {otherwise}"
        if await is_indexed(self._session, relation, layout):
            return otherwise
        advice = await index_advice(self._session, relation, layout)
        return f"{advice} would help; or {otherwise}"


def _span(window: Window) -> dict[str, Any]:
    return {"start": window.start, "end": window.end}


def _check_segments(by: Sequence[str], layout: Layout) -> None:
    for name in by:
        if name not in layout.segments:
            hint = nearest_of(name, layout.segments)
            raise LogSourceError(f"sample.by names {name!r}, which is not in logs.segments{hint}")


def _counts(rows: Rows) -> dict[str, int]:
    counts: dict[str, int] = {}
    for stratum, count in rows:
        name = as_text(stratum)
        counts[name] = counts.get(name, 0) + count
    return counts or {"": 0}


def _log_row(layout: Layout, row: tuple[Any, ...]) -> LogRow:
    row_id, at, is_huge, *values = row
    segments = dict(zip(layout.segments, values, strict=False))
    fields = dict(zip(layout.fields, values[len(layout.segments) :], strict=True))
    return LogRow(
        source_id=as_text(row_id),
        created_at=_instant(at),
        segments={name: as_text(value) for name, value in segments.items() if value is not None},
        fields={
            name: _value(layout.fields[name], value)
            for name, value in fields.items()
            if value is not None
        },
        skip=SkipReason.TOO_LONG.value if is_huge else None,
    )


def _value(column: Column, value: str | bytes) -> object:
    """JSON columns as JSON; text whose bytes are not UTF-8 stays bytes for the reader to refuse."""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return _json_or_text(value) if column.is_json else value


def _json_or_text(value: str) -> object:
    try:
        return _json(value)
    except (ValueError, RecursionError):
        return value


def _json(value: str | bytes | object) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value


def _instant(value: datetime | date) -> datetime:
    """Times without a zone are UTC: the session's zone, in which the window was compared."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value if value.tzinfo else value.replace(tzinfo=UTC)
