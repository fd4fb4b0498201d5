"""`sandbox` and `demo`: everything to try, without a key, a database or a bill."""

from typing import Annotated

import typer

from app.cli.options import JsonOption


def sandbox(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="Options of the sandbox: -- --help lists them."),
    ] = None,
) -> None:
    """Run the sandbox: a fake gateway, judge and Slack on one local port."""
    from app.sandbox.runner import main

    raise typer.Exit(main(arguments or []))


def demo(
    *,
    serve: Annotated[
        bool, typer.Option("--serve", help="Leave the service up on the demo's data.")
    ] = False,
    weeks: Annotated[int, typer.Option("--weeks", min=1, max=52, help="Weeks to simulate.")] = 12,
    as_json: JsonOption = False,
) -> None:
    """Simulate twelve weeks in the sandbox, end to end: no key, no database, $0."""
    from app.cli.demo_story import show_demo
    from app.cli.session import open_session

    session = open_session(None, with_plans=False)
    show_demo(session.settings, weeks=weeks, serve=serve, as_json=as_json)
