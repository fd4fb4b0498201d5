"""A table of texts and its two forms: for a terminal and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

_LEAST_WIDTH = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Texts in rows.

    Attributes:
        right: Columns aligned to the right, by heading.
        emphasised: Rows to stand out, by number.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: frozenset[str] = frozenset()
    emphasised: frozenset[int] = frozenset()


def terminal_table(table: Table) -> RichTable:
    """The table for a terminal."""
    made = RichTable(
        title=Text(table.title),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        made.add_column(
            Text(column),
            justify="right" if column in table.right else "left",
            overflow="fold",
            min_width=_longest_word(column, *(row[index] for row in table.rows)),
        )
    for index, row in enumerate(table.rows):
        style = "bold" if index in table.emphasised else ""
        made.add_row(*(Text(cell, style=style) for cell in row))
    return made


def markdown_table(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, under a heading."""
    rules = ["---:" if column in table.right else "---" for column in table.columns]
    lines = [
        f"### {table.title}",
        "",
        _line(table.columns),
        _line(rules),
        *(_line(row) for row in table.rows),
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    for mark in ("\\", "|", "*", "_", "`", "<", "[", "]"):
        text = text.replace(mark, f"\\{mark}" if mark != "<" else "&lt;")
    return " ".join(text.split())


def _longest_word(*texts: str) -> int:
    """Narrower than this, a column would cut words; long ones are cut to keep the table whole."""
    longest = max((len(word) for text in texts for word in text.split()), default=0)
    return min(longest, _LEAST_WIDTH)


def _line(cells: Sequence[str]) -> str:
    return (
        "| "
        + " | ".join(cell if set(cell) <= set("-:") else escaped(cell) for cell in cells)
        + " |"
    )
