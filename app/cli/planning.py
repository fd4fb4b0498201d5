"""`plan`: what a run would do and cost, before it does."""

from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, PlanOption


def plan(
    *,
    config: ConfigOption = None,
    name: PlanOption = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Rows to sample.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would sample, call and cost, and what it could show; sends nothing."""
    from app.cli.forecasts import forecast_run, print_forecast
    from app.cli.hand_runs import HandOrder, adjusted
    from app.cli.output import console, print_json
    from app.cli.session import open_session

    session = open_session(config)
    chosen = adjusted(session.plan(name), HandOrder(n=n))
    found = forecast_run(session, chosen)
    if as_json:
        print_json(found)
    else:
        print_forecast(found, console())
