"""`init` and `schema`: what somebody needs who begins."""

from pathlib import Path
from typing import Annotated

import typer


def schema() -> None:
    """Print the JSON Schema of plan files, for editors."""
    from app.cli.output import print_json
    from app.plans import plan_json_schema

    print_json(plan_json_schema())


def init(
    path: Annotated[Path, typer.Argument(help="Where to write the plan.")] = Path(
        "config/switchwise.yaml"
    ),
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A file of prompts (JSONL or CSV) instead of a database."),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="The log table, where several look like one.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="Read the API of langfuse, helicone or openai instead of a database."
        ),
    ] = None,
) -> None:
    """Find the log in LOGS_DATABASE_URL and write a commented plan for it; never overwrites."""
    from app.cli.guidance import guide
    from app.cli.output import print_text
    from app.settings import load_settings

    for line in guide(path, load_settings(), file=file, table=table, preset=preset):
        print_text(line)
