"""`prices`: what models cost, from where, how old, and whether the gateway's bill agrees."""

from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, PlanOption


def prices(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Names to look up, without any plan."),
    ] = None,
    *,
    config: ConfigOption = None,
    plan: PlanOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what every model costs, from where, how old, and whether the gateway's bill agrees."""
    from app.cli.output import console, print_json, print_text
    from app.cli.price_lists import (
        cost_checks,
        list_age_words,
        named_prices,
        plan_prices,
        print_checks,
        print_prices,
    )
    from app.cli.session import open_session
    from app.domain.errors import UnknownPrice
    from app.wiring import clock_for, price_list_for

    session = open_session(config, with_plans=not names)
    now = clock_for(session.settings).now()
    chosen = None if names else session.plan(plan)
    lines = named_prices(names or (), now) if chosen is None else plan_prices(session, chosen)
    checks = [] if chosen is None else cost_checks(session, chosen)
    book = price_list_for(chosen)
    if as_json:
        print_json(
            {
                "list": {"name": book.list_name, "newest_change": f"{book.newest_change(now):%F}"},
                "prices": [line.to_json() for line in lines],
                "reported": [check.to_json() for check in checks],
            }
        )
    else:
        print_prices(lines, console())
        print_checks(checks, console())
        print_text(list_age_words(book.newest_change(now), now, book.list_name))
    unknown = [line.priced_as for line in lines if line.price is None]
    if unknown:
        raise UnknownPrice(f"no price is known for {', '.join(unknown)}")
