"""Where things are printed: data on stdout, progress and messages on stderr."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

_PIPE_WIDTH = 160


def console() -> "Console":
    """Stdout, for data; wide where it is no terminal, so that nothing is cut."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, highlight=False, emoji=False, markup=False)


def print_json(value: object) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """Print text on stdout as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def tell(message: str) -> None:
    """Say something on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


@contextmanager
def progress(label: str) -> Iterator["Callable[[int, int], None]"]:
    """A bar on stderr, told how much of how much is done; nothing where it is no terminal.

    While it is there, only warnings and worse are logged: other lines would tear it apart.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        with _warnings_only():
            yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _warnings_only() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    root.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        root.setLevel(before)
