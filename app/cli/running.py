"""`run`: one Run now, in this process."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, PlanOption


class FailOn(StrEnum):
    """What makes `run` exit with code 100."""

    SWITCH = "switch"
    REGRESSION = "regression"


def run(
    *,
    config: ConfigOption = None,
    plan: PlanOption = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Rows to sample.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Call only these candidates (and the primary)."),
    ] = None,
    max_usd: Annotated[
        str | None,
        typer.Option("--max-usd", metavar="USD", help="Cap of the whole run, resumed or not."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Finish an interrupted run.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of", help="Be the run of that week's latest due slot, counted as evidence."
        ),
    ] = None,
    no_notify: Annotated[bool, typer.Option("--no-notify", help="Send no message.")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option("--fail-on", help="Exit 100 on switch and/or regression (comma-separated)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make one run now: sample, replay, judge, decide, store and post its result.

    A run by hand opens no alert and counts as no evidence; `--as-of` makes the run of a slot.
    """
    from app.cli.hand_runs import HandOrder, run_by_hand
    from app.cli.output import console, print_json, tell
    from app.cli.reports import bill_warnings_of, print_report
    from app.cli.session import open_session

    wanted = _fail_on(fail_on)
    session = open_session(config)
    order = HandOrder(
        n=n,
        only=tuple(name for part in only or () for name in part.split(",")),
        max_usd=_usd(max_usd),
        resume=resume,
        as_of=as_of,
        is_told=not no_notify,
    )
    chosen = session.plan(plan)
    result = run_by_hand(session, chosen, order)
    for warning in bill_warnings_of(result.document):
        tell(f"warning: {warning}")
    if as_json:
        print_json(result.document)
    else:
        print_report(result.document, console())
    if result.exit_code:
        raise typer.Exit(result.exit_code)
    if wanted & _happened(result.document):
        raise typer.Exit(100)


def _fail_on(text: str | None) -> frozenset[FailOn]:
    from app.domain.errors import ConfigError

    try:
        return frozenset(FailOn(word.strip()) for word in (text or "").split(",") if word.strip())
    except ValueError as error:
        raise ConfigError(f"--fail-on takes switch and regression, not {text!r}") from error


def _usd(text: str | None) -> Decimal | None:
    from app.domain.errors import ConfigError

    if text is None:
        return None
    try:
        amount = Decimal(text)
    except ArithmeticError as error:
        raise ConfigError(f"--max-usd takes an amount such as 2.50, not {text!r}") from error
    if not amount.is_finite() or amount <= 0:
        raise ConfigError("--max-usd must be more than 0")
    return amount


def _happened(document: object) -> frozenset[FailOn]:
    from collections.abc import Mapping

    happened: set[FailOn] = set()
    if not isinstance(document, Mapping):
        return frozenset()
    if any(one["verdict"] == "switch" for one in document["comparisons"]):
        happened.add(FailOn.SWITCH)
    if (document.get("drift") or {}).get("regressed"):
        happened.add(FailOn.REGRESSION)
    return frozenset(happened)
