"""Statements sent together: one round trip for as many as need no answer in between.

What is sent together holds its values in the text, which a server writes to its log when it fails:
ids, names and sums only. What models and people wrote travels apart from the statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

Cursor = psycopg.AsyncCursor[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement and its values."""

    text: str
    values: tuple[object, ...] = ()


def cursor_of(connection: psycopg.AsyncConnection[Any]) -> Cursor:
    """A cursor that puts values in the text itself, so that several statements may have some."""
    return psycopg.AsyncClientCursor(connection, row_factory=tuple_row)


async def execute_apart(cursor: Cursor, statement: Statement) -> None:
    """Execute a statement whose values must be in no log."""
    await cursor.connection.execute(statement.text.encode(), statement.values)


async def execute_all(cursor: Cursor, statements: Sequence[Statement]) -> None:
    """Execute statements in one round trip; the first that fails ends it."""
    if not statements:
        return
    await cursor.execute(
        "; ".join(statement.text for statement in statements).encode(),
        [value for statement in statements for value in statement.values],
    )


async def next_rows(cursor: Cursor) -> list[tuple[Any, ...]]:
    """The rows of the next statement that returns some, after those read before."""
    while cursor.nextset():
        if cursor.description is not None:
            return await cursor.fetchall()
    return []
