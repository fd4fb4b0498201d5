"""`check`: is everything in place for a run?"""

from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption


def check(
    *,
    config: ConfigOption = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also make one short call per model (costs money).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check plans, prices, databases, log query and messages; calls no model unless asked."""
    from app.cli.inspection import inspect, print_findings, worst_exit_code
    from app.cli.output import console, print_json
    from app.cli.session import open_session

    session = open_session(config)
    findings = inspect(session, online=online)
    if as_json:
        print_json({"checks": [finding.to_json() for finding in findings]})
    else:
        print_findings(findings, console())
    code = worst_exit_code(findings)
    if code:
        raise typer.Exit(code)
