"""`export`: rows of the views as CSV or JSON lines."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import PlanOption


def export(
    view: Annotated[
        str, typer.Argument(help="View to export, e.g. runs, comparisons, case_scores.")
    ] = "model_results",
    *,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="csv|jsonl",
            help="Form of the rows (default: as the file's name ends, else csv).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New file to write; else stdout.", show_default=False),
    ] = None,
    plan: PlanOption = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=["%Y-%m-%d"], help="Only runs that finished since then."),
    ] = None,
) -> None:
    """Write the rows of a view, one line each: all plans, oldest first, no prompt or reply text."""
    from datetime import UTC

    from app.cli.output import print_text, tell
    from app.cli.session import open_session
    from app.domain.errors import ConfigError
    from app.storage.exports import exported
    from app.wiring import results_database

    chosen = form or (output.suffix.removeprefix(".") if output is not None else "csv")
    if chosen not in {"csv", "jsonl"}:
        raise ConfigError(f"--format {chosen!r}: csv or jsonl")
    session = open_session(None, with_plans=False)
    with results_database(session.settings) as dsn:
        lines = exported(
            dsn,
            view,
            form="csv" if chosen == "csv" else "jsonl",
            plan_name=plan,
            since=since.replace(tzinfo=UTC) if since is not None else None,
        )
        if output is None:
            for line in lines:
                print_text(line)
            return
        try:
            with output.open("x", encoding="utf-8") as file:
                count = sum(1 for line in lines if file.write(line + "\n"))
        except FileExistsError:
            raise ConfigError(f"{output} exists: name a new file") from None
        except OSError as error:
            raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    rows = count - (chosen == "csv")
    tell(f"{rows:,} rows of {view} in {output}")
