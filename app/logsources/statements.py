"""The statements that count, order and read the rows of a window.

The order is `hash(id, seed), id`: uniform, reproducible, and computable from an index that holds
created_at and id alone. Only keys are ordered; bodies are read afterwards by id, because a join of
both makes the planner read every body of the window.
"""

from collections.abc import Sequence
from math import ceil, sqrt

from psycopg import sql

from app.logsources.layout import Column, Layout, operators_sql

_LOWEST, _SPAN = -(2**63), 2**64
HIGHEST = 2**63 - 1
#: Request bodies above this size no vendor takes; they stay where they are.
MOST_BODY_BYTES = 32 * 2**20
_SENT_FIELDS = ("prompt", "messages", "system", "tools")
#: Keys looked at ahead, of the whole window, for each row wanted.
KEPT_AHEAD = 40
#: Keys of one stratum kept ahead, for each row wanted: rows that cannot be replayed cost some.
MOST_AHEAD = 4
_LEAST_WINDOW = 20_000
_BLANK = ("", "{}", "[]", "null", '""')


def frame_statement(layout: Layout, by: Sequence[str]) -> sql.Composable:
    """Count the window's rows per stratum. Params: start, end."""
    if not by:
        return sql.SQL("SELECT '', count(*) FROM {} WHERE {}").format(
            layout.relation, _in_window(layout)
        )
    return sql.SQL("SELECT {}, count(*) FROM {} WHERE {} GROUP BY 1").format(
        _stratum(layout, by), layout.relation, _in_window(layout)
    )


def window_statement(layout: Layout) -> sql.Composable:
    """The window's rows, for the database to estimate. Params: start, end."""
    return sql.SQL("SELECT FROM {} WHERE {}").format(layout.relation, _in_window(layout))


def counted_keys_statement(layout: Layout, by: Sequence[str]) -> sql.Composable:
    """Count the rows of each stratum and take its first keys in one scan: stratum, rows, ids.

    Params: start, end, seed, bound (place to stop at), most (keys of one stratum). The ids are a
    beginning of the stratum's seeded order, as far as the bound let them through.
    """
    row_id = layout.id.sql
    counted = sql.SQL(
        "SELECT {stratum} AS stratum, count(*) AS rows,"
        " array_agg({id}) FILTER (WHERE {place} <= %(bound)s::bigint) AS ids"
        " FROM {relation} WHERE {window} {grouped}"
    ).format(
        stratum=_stratum(layout, by) if by else sql.SQL("''::text"),
        id=row_id,
        place=_place(layout.id, row_id),
        relation=layout.relation,
        window=_in_window(layout),
        grouped=sql.SQL("GROUP BY 1" if by else ""),
    )
    key = sql.SQL("key.id")
    return sql.SQL(
        "SELECT stratum, rows, ARRAY(SELECT key.id::text FROM unnest(ids) AS key (id)"
        " ORDER BY {}, key.id LIMIT %(most)s) FROM ({}) AS counted"
    ).format(_place(layout.id, key), counted)


def keys_statement(layout: Layout, by: Sequence[str]) -> sql.Composable:
    """The first keys of each stratum in the seeded order: id, stratum.

    Params: start, end, seed, strata, bounds (positions to stop at, one per stratum). A bound
    spares the database the sorting of rows that are far down the order.
    """
    keys = sql.SQL("SELECT {} AS id, {} AS stratum, {} AS place FROM {} WHERE {}").format(
        layout.id.sql,
        _stratum(layout, by) if by else sql.SQL("''::text"),
        _place(layout.id, layout.id.sql),
        layout.relation,
        _in_window(layout),
    )
    return sql.SQL(
        "SELECT keys.id::text, keys.stratum FROM ({}) AS keys"
        " JOIN unnest(%(strata)s::text[], %(bounds)s::bigint[]) AS asked (stratum, bound)"
        " ON asked.stratum = keys.stratum AND keys.place <= asked.bound"
        " ORDER BY keys.stratum, keys.place, keys.id"
    ).format(keys)


def uniform_keys_statement(layout: Layout) -> sql.Composable:
    """The first keys of the whole window. Params: start, end, seed, bound, most."""
    keys = sql.SQL("SELECT {} AS id, {} AS place FROM {} WHERE {}").format(
        layout.id.sql, _place(layout.id, layout.id.sql), layout.relation, _in_window(layout)
    )
    return sql.SQL(
        "SELECT keys.id::text, '' FROM ({}) AS keys WHERE keys.place <= %(bound)s::bigint"
        " ORDER BY keys.place, keys.id LIMIT %(most)s"
    ).format(keys)


def bodies_statement(layout: Layout) -> sql.Composable:
    """The rows of these ids: id, created_at, is_huge, segments, fields. Params: start, end, ids.

    Everything is read as text, so that no value of a strange type can stop the rest.
    """
    names = list(layout.fields)
    inner = [
        sql.SQL("{}::text AS id").format(layout.id.sql),
        sql.SQL("{} AS at").format(layout.created_at.sql),
        *(
            sql.SQL("{}::text AS {}").format(expression, sql.Identifier(f"s{place}"))
            for place, expression in enumerate(layout.segments.values())
        ),
        *(
            sql.SQL("{} AS {}").format(_body(layout.fields[name]), sql.Identifier(f"f{place}"))
            for place, name in enumerate(names)
        ),
    ]
    huge = [
        sql.SQL("octet_length({}) > {}").format(sql.Identifier(f"f{place}"), MOST_BODY_BYTES)
        for place, name in enumerate(names)
        if name in _SENT_FIELDS
    ]
    outer = [
        sql.SQL("id, at"),
        sql.SQL("COALESCE({}, false)").format(sql.SQL(" OR ").join(huge)),
        *(sql.Identifier(f"s{place}") for place in range(len(layout.segments))),
        *(
            sql.SQL("CASE WHEN octet_length({0}) <= {1} THEN {0} END").format(
                sql.Identifier(f"f{place}"), MOST_BODY_BYTES
            )
            for place in range(len(names))
        ),
    ]
    return sql.SQL(
        "SELECT {} FROM (SELECT {} FROM {} WHERE {} = ANY(%(ids)s::text[]::{}) AND {}) AS bodies"
    ).format(
        sql.SQL(", ").join(outer),
        sql.SQL(", ").join(inner),
        layout.relation,
        layout.id.sql,
        operators_sql(layout.id.array_type),
        _window(layout),
    )


def newest_statement(layout: Layout, *, is_indexed: bool) -> sql.Composable:
    """How many of the newest rows there are, and how many hold no prompt."""
    prompts = [layout.fields[name] for name in ("prompt", "messages") if name in layout.fields]
    blank = sql.SQL(" AND ").join(
        sql.SQL("COALESCE(btrim(left({}::text, 100), E' \\n\\r\\t'), '') IN ({})").format(
            column.sql, sql.SQL(", ").join(map(sql.Literal, _BLANK))
        )
        for column in prompts
    )
    order = sql.SQL("ORDER BY {} DESC").format(layout.created_at.sql) if is_indexed else sql.SQL("")
    return sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE is_blank) FROM"
        " (SELECT {} AS is_blank FROM {} WHERE {} {} LIMIT 200) AS newest"
    ).format(blank, layout.relation, _filter(layout), order)


def bound_ahead(wanted: int, estimated_rows: int) -> int:
    """A place below which many more keys than wanted lie, so that small strata have theirs too.

    A window is taken for no smaller than some thousand rows: where it is, asking again is cheap,
    and an estimate that is far too small lets no flood through.
    """
    share = KEPT_AHEAD * wanted / max(estimated_rows, _LEAST_WINDOW)
    return min(_LOWEST + ceil(_SPAN * min(share, 1.0)), HIGHEST)


def bound_of(wanted: int, rows: int) -> int:
    """A place in the order below which, almost surely, `wanted` of `rows` keys lie.

    Keys are uniform over the places, so the number below is binomial: six standard deviations and
    twenty rows more than wanted. When it is too few all the same, ask again with `HIGHEST`.
    """
    enough = wanted + 6 * sqrt(wanted) + 20
    if enough >= rows:
        return HIGHEST
    return min(_LOWEST + ceil(_SPAN * enough / rows), HIGHEST)


def seed_of(seed: int) -> int:
    """The seed as the database's hash functions take it: a signed 64-bit number."""
    return (seed + 2**63) % _SPAN - 2**63


def _window(layout: Layout) -> sql.Composable:
    return sql.SQL("{0} >= %(start)s AND {0} < %(end)s").format(layout.created_at.sql)


def _in_window(layout: Layout) -> sql.Composable:
    parts = [_window(layout)]
    if not layout.id.is_not_null:
        parts.append(sql.SQL("{} IS NOT NULL").format(layout.id.sql))
    if layout.where is not None:
        parts.append(sql.SQL("({}\n)").format(layout.where))
    return sql.SQL(" AND ").join(parts)


def _stratum(layout: Layout, by: Sequence[str]) -> sql.Composable:
    return sql.SQL(" || ' / ' || ").join(
        sql.SQL("COALESCE({}::text, '')").format(layout.segments[name]) for name in by
    )


def _place(column: Column, value: sql.Composable) -> sql.Composable:
    """A 64-bit hash of an id of the column under the seed, by the fastest function for its type."""
    match column.type_name:
        case "bigint" | "integer" | "smallint":
            return sql.SQL("hashint8extended({}::bigint, %(seed)s)").format(value)
        case "uuid":
            return sql.SQL("uuid_hash_extended({}, %(seed)s)").format(value)
        case _:
            return sql.SQL("hashtextextended({}::text, %(seed)s)").format(value)


def _body(column: Column) -> sql.Composable:
    return column.sql if column.type_name == "bytea" else sql.SQL("{}::text").format(column.sql)


def _filter(layout: Layout) -> sql.Composable:
    return sql.SQL("TRUE") if layout.where is None else sql.SQL("({}\n)").format(layout.where)
