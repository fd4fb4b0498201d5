"""`docs/schema.md`, generated from the declared tables and views.

Write it again with `python -m app.storage.schema_page > docs/schema.md`.
"""

import sys

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from app.storage.tables import BI_SCHEMA, METADATA, SCHEMA
from app.storage.views import READER_ROLE, VIEWS, View

_INTRODUCTION = f"""\
# Schema

Generated from `app/storage/tables.py` and `app/storage/views.py`; a test compares it.

SQL users read the views of schema `{BI_SCHEMA}`: they hold no prompt and no reply text, their
columns keep name and meaning, and role `{READER_ROLE}` may select from them. Times are
`timestamptz`, shares and ratios are fractions, money is `numeric` USD.

The tables of schema `{SCHEMA}` are the program's own and may change with any version, except
`benchmark_results`."""


def schema_page() -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION, f"## Views (`{BI_SCHEMA}`)"]
    parts += [_view_section(view) for view in VIEWS]
    parts.append(f"## Tables (`{SCHEMA}`)")
    parts += [_table_section(table) for table in METADATA.tables.values()]
    return "\n\n".join(parts) + "\n"


def _view_section(view: View) -> str:
    rows = [(column.name, column.kind, "", column.comment) for column in view.columns]
    return _section(view.name, view.comment, rows)


def _table_section(table: Table) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    rows = [
        (
            column.name,
            column.type.compile(dialect=dialect).lower(),
            "key" if column.primary_key else "null" if column.nullable else "",
            column.comment or "",
        )
        for column in table.columns
    ]
    return _section(table.name, table.comment or "", rows)


def _section(name: str, comment: str, rows: list[tuple[str, str, str, str]]) -> str:
    lines = [f"### {name}", "", f"{comment}.", "", "| Column | Type | | What it tells |"]
    lines.append("|---|---|---|---|")
    lines += [
        "| " + " | ".join((f"`{column}`", kind, note, text.replace("|", "\\|"))) + " |"
        for column, kind, note, text in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(schema_page())
