"""`serve` and `status`: the service, and how it is doing."""

from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption

ServiceConcurrencyOption = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        min=0,
        help="Most calls in flight here per endpoint (default: our share of its concurrency); "
        "0 leaves shards to workers.",
        show_default=False,
    ),
]


def serve(*, config: ConfigOption = None, concurrency: ServiceConcurrencyOption = None) -> None:
    """Run every plan on its schedule, deliver messages and answer health checks."""
    from app.cli.service import serve_plans
    from app.cli.session import migrated_database, open_session

    session = open_session(config)
    with migrated_database(session.settings) as dsn:
        serve_plans(session.settings, session.plans, dsn, most_calls=concurrency)


def status(
    *,
    config: ConfigOption = None,
    health: Annotated[
        bool, typer.Option("--health", help="Only ask the service beside us whether it is well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell the last and next run of every plan, and what is stuck; exit 1 when overdue."""
    from app.cli.output import console, print_json, print_text
    from app.cli.statuses import ask_health, print_status, read_status

    if health:
        is_well, answer = ask_health(config)
        print_text(answer)
        raise typer.Exit(0 if is_well else 1)
    found = read_status(config)
    if as_json:
        print_json({"plans": found})
    else:
        print_status(found, console())
    if any(plan["is_overdue"] for plan in found):
        raise typer.Exit(1)
