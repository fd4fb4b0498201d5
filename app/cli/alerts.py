"""`ack` and `notify`: messages and what is done about them."""

from datetime import datetime
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, PlanOption


def notify_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Messages.", no_args_is_help=True)
    app.callback()(lambda: None)  # keeps `test` a subcommand although it is alone
    app.command("test")(notify_test)
    return app


def ack(
    key: Annotated[str, typer.Argument(help="Key of the alert, e.g. support-bot/switch:haiku.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who look later.")],
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%d"], help="When it may be told again."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Acknowledge an open alert: no reminders until it changes or the date has come."""
    from app.cli.acknowledging import acknowledge
    from app.cli.output import print_json, print_text
    from app.cli.session import open_session

    session = open_session(None, with_plans=False)
    found = acknowledge(session.settings, key, reason=reason, until=until)
    if as_json:
        print_json(found)
    else:
        term = f"until {found['acknowledged_until']}" if found["acknowledged_until"] else "for good"
        print_text(f"acknowledged {found['key']} {term}: {found['reason']}")


def notify_test(
    *,
    config: ConfigOption = None,
    plan: PlanOption = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the messages instead of sending them.")
    ] = False,
) -> None:
    """Post each kind of message with made-up figures, to see how they look and arrive."""
    from app.cli.output import print_text
    from app.cli.session import open_session
    from app.cli.trial_messages import send_trials

    session = open_session(config)
    failed = False
    for line, is_delivered in send_trials(session, session.plan(plan), only_print=only_print):
        print_text(line)
        failed = failed or not is_delivered
    if failed:
        raise typer.Exit(3)
