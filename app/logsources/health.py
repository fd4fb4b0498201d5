"""What an operator should know of a log table before anything depends on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from app.domain.errors import LogSourceError
from app.logsources.layout import Layout, quoted
from app.logsources.read_only_session import ReadOnlySession, as_text
from app.logsources.statements import newest_statement

_WRITES = sql.SQL(
    "SELECT privilege FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'])"
    " WITH ORDINALITY AS asked (privilege, place)"
    " WHERE has_table_privilege(%(oid)s::oid, privilege)"
    " OR (privilege IN ('INSERT', 'UPDATE') AND has_any_column_privilege(%(oid)s::oid, privilege))"
    " ORDER BY place"
)
_ROLE = sql.SQL("SELECT current_user::text, rolsuper FROM pg_roles WHERE rolname = current_user")
_QUOTED = sql.SQL(
    "SELECT quote_ident(name) FROM unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, place)"
    " ORDER BY place"
)
_INDEXED = sql.SQL(
    "SELECT EXISTS (SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid"
    " AND attnum = indkey[0] WHERE indrelid = %(oid)s::oid AND attname = %(column)s"
    " AND indisvalid AND indpred IS NULL)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table or view that the log is read from.

    Attributes:
        name: Quoted and with its schema, as statements name it.
        kind: `relkind` of pg_class.
    """

    oid: int
    name: str
    kind: str

    @property
    def can_be_indexed(self) -> bool:
        """Whether it is a table, a partitioned one or a materialised view."""
        return self.kind in {"r", "p", "m"}


async def check_rows(
    session: ReadOnlySession, layout: Layout, *, is_indexed: bool, empty_advice: str
) -> list[str]:
    """Warnings about rows without prompts.

    Raises:
        LogSourceError: If there is no row, or no prompt in any of the newest rows.
    """
    statement = newest_statement(layout, is_indexed=is_indexed)
    rows = await session.rows(statement)
    count, blank = rows[0]
    columns = " and ".join(
        repr(layout.fields[name].name) for name in ("prompt", "messages") if name in layout.fields
    )
    if not count:
        matching = " that match logs.where" if layout.where is not None else ""
        raise LogSourceError(f"{layout.name} holds no rows{matching}")
    if blank == count:
        raise LogSourceError(
            f"{layout.name}: {columns} is empty in all of {count} rows looked at: {empty_advice}"
        )
    if blank * 2 > count:
        return [f"{layout.name}: {columns} is empty in {blank} of {count} rows looked at"]
    return []


async def check_grants(session: ReadOnlySession, relations: Sequence[Relation]) -> list[str]:
    """Loud warnings about a role that can write where it should only read."""
    name, is_superuser = (await session.rows(_ROLE))[0]
    role = as_text(name)
    warnings = []
    for relation in relations:
        rows = await session.rows(_WRITES, {"oid": relation.oid})
        writes = ", ".join(as_text(privilege) for (privilege,) in rows)
        if not writes:
            continue
        mend = (
            "a superuser's rights cannot be revoked: CREATE ROLE switchwise_logs LOGIN; "
            f"GRANT SELECT ON {relation.name} TO switchwise_logs; and use it in logs.dsn"
            if is_superuser
            else f"REVOKE {writes} ON {relation.name} FROM {quoted(role)};"
        )
        warnings.append(
            f"WARNING: role {role!r} may {writes} on {relation.name}. Switchwise reads in "
            f"read-only transactions, but only grants protect the log: {mend}"
        )
    return warnings


async def is_indexed(session: ReadOnlySession, relation: Relation, layout: Layout) -> bool:
    """Whether an index starts with created_at."""
    params = {"oid": relation.oid, "column": layout.created_at.name}
    rows = await session.rows(_INDEXED, params)
    return bool(rows[0][0])


async def index_advice(session: ReadOnlySession, relation: Relation, layout: Layout) -> str:
    """The index that lets a draw read keys only."""
    row_id = () if layout.id.path else (layout.id.name,)
    included = dict.fromkeys((*row_id, *layout.segment_columns))
    included.pop(layout.created_at.name, None)
    rows = await session.rows(_QUOTED, {"names": [layout.created_at.name, *included]})
    at, *names = (as_text(name) for (name,) in rows)
    concurrently = "" if relation.kind == "p" else "CONCURRENTLY "
    include = f" INCLUDE ({', '.join(names)})" if names else ""
    return f"CREATE INDEX {concurrently}ON {relation.name} ({at}){include};"
