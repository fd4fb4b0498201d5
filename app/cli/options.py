"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Plan file or directory of plan files (default: SWITCHWISE_CONFIG, else "
        "config/switchwise.yaml).",
        show_default=False,
    ),
]
PlanOption = Annotated[
    str | None,
    typer.Option("--plan", help="Which plan, where there are several.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="Id of a run or its beginning (default: the latest)."),
]
