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
) -> None:
    """Write a commented plan with its rubric; never overwrites."""
    from app.cli.output import print_text
    from app.cli.templates import write_plan

    for written in write_plan(path):
        print_text(f"wrote {written}")
    print_text(f"next: edit it, then  switchwise check --config {path}")
