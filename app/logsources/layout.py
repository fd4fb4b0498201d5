"""Layout: which columns of a log table hold what."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings

FIELDS = (
    "prompt",
    "messages",
    "system",
    "params",
    "tools",
    "response",
    "reference",
    "expected",
    "conversation",
    "model",
    "status",
    "cache_hit",
    "input_tokens",
    "output_tokens",
    "tool_calls",
    "call_type",
)
_KEYS = ("id", "created_at")
_TIMES = re.compile(r"timestamp|date\b")
_PART = r'(?:"(?:[^"\x00]|"")+"|[^\W\d][\w$]*)'
_STEP = r"->>?\s*(?:'[^'\x00]*'|\d+)\s*"
_PATH = re.compile(
    rf"(?P<column>{_PART})\s*(?P<path>(?:{_STEP})*(?P<last>->>?)\s*(?:'[^'\x00]*'|\d+))"
)
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as the database describes it; `type_name` as `format_type` prints it.

    Attributes:
        path: For a value inside a JSON column, the rest of the path, such as `->>'team'`.
        is_readable: Whether the role may read it.
    """

    name: str
    type_name: str
    is_not_null: bool = False
    path: str = ""
    is_readable: bool = True

    @property
    def sql(self) -> sql.Composable:
        """The column as it is named in statements."""
        column = identifier("log", self.name)
        return sql.SQL("({}{})").format(column, operators_sql(self.path)) if self.path else column

    @property
    def array_type(self) -> str:
        """The type of an array of its values (`character` alone would mean one character)."""
        return "bpchar[]" if self.type_name == "character" else f"{self.type_name}[]"

    @property
    def is_json(self) -> bool:
        """Whether its text is JSON."""
        return self.type_name in {"json", "jsonb"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the rows are and what their columns mean.

    Attributes:
        name: For messages.
        relation: What stands behind FROM, under the alias `log`.
        fields: Our field name -> column.
        segments: Segment name -> expression.
    """

    name: str
    relation: sql.Composable
    id: Column
    created_at: Column
    fields: Mapping[str, Column]
    segments: Mapping[str, sql.Composable]
    segment_columns: tuple[str, ...] = ()
    where: sql.Composable | None = None


def layout_of(
    settings: LogSettings,
    columns: Sequence[Column],
    *,
    name: str,
    relation: sql.Composable,
    usual: Mapping[str, str],
) -> Layout:
    """Find the columns that the plan names, and those of the usual names where they exist.

    Args:
        settings: What the operator named.
        columns: What there is.
        name: For messages.
        relation: What stands behind FROM, under the alias `log`.
        usual: Our name -> the preset's name of the column; our own names otherwise.

    Raises:
        LogSourceError: If a column is missing; it names the nearest one there is.
    """
    known = (*_KEYS, *FIELDS)
    for ours in settings.columns:
        if ours not in known:
            raise LogSourceError(f"logs.columns.{ours} is unknown{_nearest(ours, known)}")
    found = {
        ours: _find(ours, settings, columns, name=name) or _usual(ours, settings, columns, usual)
        for ours in known
    }
    row_id, created_at = (_required(ours, found[ours], columns, name=name) for ours in _KEYS)
    if not _TIMES.match(created_at.type_name):
        raise LogSourceError(
            f"{name}: column {created_at.name!r} is of type {created_at.type_name}, not a time; "
            "use logs.query and convert it there, e.g. to_timestamp(epoch) AS created_at"
        )
    fields = {ours: column for ours in FIELDS if (column := found[ours]) is not None}
    _check_prompt(fields, columns, name=name)
    plain = [column for text in settings.segments.values() if (column := _match(text, columns))]
    return Layout(
        name=name,
        relation=relation,
        id=row_id,
        created_at=created_at,
        fields=fields,
        segments={
            segment: _expression(text, columns) for segment, text in settings.segments.items()
        },
        segment_columns=tuple(column.name for column in plain),
        where=operators_sql(settings.where) if settings.where and settings.where.strip() else None,
    )


def table_parts(name: str) -> tuple[str, ...]:
    """The identifiers of a table's name, as written: `public."LiteLLM_SpendLogs"`.

    Raises:
        LogSourceError: If it is no table name.
    """
    text = name.strip()
    if not _NAME.fullmatch(text):
        raise LogSourceError(f"logs.table {name!r} is no table name; use logs.query for a SELECT")
    parts = re.findall(_PART, text)
    return tuple(p[1:-1].replace('""', '"') if p.startswith('"') else p for p in parts)


def nearest_of(wanted: str, there: Iterable[str]) -> str:
    """A hint at the likeliest name, or at all of them when they are few."""
    return _nearest(wanted, tuple(there))


def quoted(*parts: str) -> str:
    """An identifier as SQL writes it, each part in quotes."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def identifier(*parts: str) -> sql.Composable:
    """An identifier as part of a statement."""
    return operators_sql(quoted(*parts))


def operators_sql(text: str) -> sql.SQL:
    """SQL of the operator's own; `%` is a placeholder's sign to the driver and is doubled."""
    return sql.SQL(text.replace("%", "%%"))


def query_relation(query: str) -> sql.Composable:
    """A SELECT of the operator's as a FROM item."""
    return sql.SQL("({}\n) AS log").format(operators_sql(query.strip().rstrip(";").rstrip()))


def _find(
    ours: str, settings: LogSettings, columns: Sequence[Column], *, name: str
) -> Column | None:
    theirs = settings.columns.get(ours)
    if theirs is not None:
        column = _match(theirs, columns) or _inside_json(theirs, columns)
        if column is None:
            names = [column.name for column in columns]
            raise LogSourceError(
                f"{name} has no column {theirs!r} (logs.columns.{ours}){_nearest(theirs, names)}"
            )
        if not column.is_readable:
            raise LogSourceError(f"the role may not read column {column.name!r} of {name}")
        return column
    return None


def _usual(
    ours: str, settings: LogSettings, columns: Sequence[Column], usual: Mapping[str, str]
) -> Column | None:
    """The column of the usual name; the operator's own choice of a prompt column rules both out."""
    rivals = {"prompt", "messages"}
    if ours in rivals and rivals & settings.columns.keys():
        return None
    return _match(usual.get(ours, ours), [column for column in columns if column.is_readable])


def _required(ours: str, column: Column | None, columns: Sequence[Column], *, name: str) -> Column:
    if column is None:
        hint = _nearest(ours, [column.name for column in columns])
        raise LogSourceError(f"{name} has no column {ours!r}{hint}; name it in logs.columns.{ours}")
    return column


def _check_prompt(fields: Mapping[str, Column], columns: Sequence[Column], *, name: str) -> None:
    if "prompt" in fields or "messages" in fields:
        return
    hint = _nearest("prompt", [column.name for column in columns])
    raise LogSourceError(
        f"{name} has neither a column 'prompt' nor 'messages'{hint}; "
        "name one in logs.columns.prompt or logs.columns.messages"
    )


def _match(theirs: str, columns: Sequence[Column]) -> Column | None:
    """The column of exactly this name, else the one that an unquoted name would mean."""
    wanted = theirs.strip()
    if wanted.startswith('"') and wanted.endswith('"') and len(wanted) > 2:
        wanted = wanted[1:-1].replace('""', '"')
    for name in (wanted, wanted.lower()):
        for column in columns:
            if column.name == name:
                return column
    return None


def _inside_json(theirs: str, columns: Sequence[Column]) -> Column | None:
    """The value that a JSON path such as `metadata->>'team'` leads to."""
    found = _PATH.fullmatch(theirs.strip())
    column = _match(found["column"], columns) if found else None
    if found is None or column is None or not column.is_json:
        return None
    is_text = found["last"] == "->>"
    return Column(
        name=column.name,
        type_name="text" if is_text else column.type_name,
        path=found["path"],
        is_readable=column.is_readable,
    )


def _expression(text: str, columns: Sequence[Column]) -> sql.Composable:
    column = _match(text, columns)
    return column.sql if column is not None else sql.SQL("({}\n)").format(operators_sql(text))


def _nearest(wanted: str, there: Sequence[str]) -> str:
    lowered = {name.lower(): name for name in there}
    close = difflib.get_close_matches(wanted.lower(), lowered, n=1, cutoff=0.5)
    if not close:
        close = [name for name in lowered if wanted.lower() in name or name in wanted.lower()][:1]
    if close:
        return f"; did you mean {lowered[close[0]]!r}?"
    shown = ", ".join(sorted(there)[:12])
    return f"; there are: {shown}" if shown else ""
