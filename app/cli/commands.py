"""All commands. Only typer is imported here, so that `--help` answers at once."""

import typer

from app.cli import (
    alerts,
    checking,
    database,
    exporting,
    labels,
    planning,
    pricing,
    reading,
    running,
    serving,
    showing,
    starting,
    working,
)

_HELP = (
    "Finds out every week, on your own production traffic, whether a cheaper model can do your "
    "primary model's job."
)
_EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 a dependency cannot be reached, "
    "4 partial run, 100 what --fail-on names has happened."
)


def build_app() -> typer.Typer:
    """The program with every command."""
    app = typer.Typer(
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # they print local variables, secrets among them
        rich_markup_mode=None,
    )
    for command in (
        starting.init,
        checking.check,
        planning.plan,
        pricing.prices,
        running.run,
        serving.serve,
        working.worker,
        serving.status,
        reading.report,
        reading.history,
        reading.explain,
        reading.cases,
        exporting.export,
        alerts.ack,
        starting.schema,
        showing.sandbox,
        showing.demo,
    ):
        app.command(no_args_is_help=False)(command)
    app.add_typer(alerts.notify_app(), name="notify")
    app.add_typer(labels.labels_app(), name="labels")
    app.add_typer(database.db_app(), name="db")
    return app
