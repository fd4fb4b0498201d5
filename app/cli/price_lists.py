"""What the models of a plan cost, where that comes from, how old it is, and whether bills agree."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

from app.alerting.phrases import bill_warnings
from app.alerting.words import ABSENT, money, percent
from app.cli.session import Session
from app.cli.tables import Table, terminal_table
from app.domain.errors import SwitchwiseError
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.plans import Plan
from app.domain.prices import CostCheck, Price, Rates
from app.storage.migrations import SchemaState, status
from app.wiring import clock_for, price_book, price_list_for, reported_costs, results_database

_LOOKS_BACK = timedelta(days=30)
_OLD = timedelta(days=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLine:
    """One model and its price, if one is known."""

    plan: str
    name: str
    model: str
    priced_as: str
    price: Price | None
    nearest: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The line as plain JSON, rates in USD per million tokens."""
        return {
            "plan": self.plan,
            "name": self.name,
            "model": self.model,
            "priced_as": self.priced_as,
            "price": None if self.price is None else self.price.to_json(),
            "nearest_known": list(self.nearest),
        }


def plan_prices(session: Session, plan: Plan) -> list[PriceLine]:
    """The price of every model of a plan, now.

    Raises:
        ConfigError: If `prices.yaml` is wrong.
    """
    book = price_book(plan)
    now = clock_for(session.settings).now()
    return [
        _line(plan.name, model, book.price(model, now), price_list_for(plan).nearest_known)
        for model in plan.models
    ]


def named_prices(names: Sequence[str], at: datetime) -> list[PriceLine]:
    """The prices of any names in the shipped list."""
    book = price_list_for(None)
    specs = [
        ModelSpec(
            name=name,
            model=name,
            role=Role.CANDIDATE,
            endpoint=Endpoint(base_url=""),
            price_as=name,
        )
        for name in names
    ]
    return [_line("", spec, book.price(spec, at), book.nearest_known) for spec in specs]


def cost_checks(session: Session, plan: Plan, *, run_id: str | None = None) -> list[CostCheck]:
    """Computed beside reported costs of the last 30 days, or of one Run; empty without a database.

    What is not there yet is not made.
    """
    settings = session.settings
    if settings.database_url is None and not (settings.home / "postgres").exists():
        return []
    since = clock_for(settings).now() - _LOOKS_BACK
    try:
        with results_database(settings) as dsn:
            if status(dsn).state is not SchemaState.CURRENT:
                return []
            return list(asyncio.run(reported_costs(dsn, plan.name, since=since, run_id=run_id)))
    except SwitchwiseError:
        return []


def list_age_words(newest: datetime, now: datetime, name: str) -> str:
    """How far the shipped list knows the world, and what to do when that is long ago."""
    days = (now - newest).days
    words = f"{name}: knows price changes up to {newest:%Y-%m-%d} ({days} days ago)"
    if now - newest > _OLD:
        words += "; newer ones go into prices.yaml, or upgrade genai-prices"
    return words


def print_prices(lines: Sequence[PriceLine], console: Console) -> None:
    """Print one row per model."""
    columns = ("model", "input", "output", "cache read", "write 5m", "write 1h", "per call", "from")
    rows = [row for line in lines for row in _rows(line)]
    table = Table(
        title="USD per million tokens",
        columns=columns,
        rows=rows,
        right=frozenset(columns[1:-1]),
    )
    console.print(terminal_table(table))
    for line in lines:
        if line.price is None:
            hint = f"; nearest: {', '.join(line.nearest)}" if line.nearest else ""
            console.print(
                Text(
                    f"{line.name}: no price is known for {line.priced_as!r}, so no run can start: "
                    f"set price_as, or give price: {{input: …, output: …}}{hint}"
                )
            )


def print_checks(checks: Sequence[CostCheck], console: Console) -> None:
    """Print computed beside reported costs."""
    for check in checks:
        console.print(
            Text(
                f"{check.model_name}: {money(check.computed_usd)} by these prices, "
                f"{money(check.reported_usd)} by the gateway ({_signed(check.gap)}, "
                f"{check.calls} calls of the last 30 days)"
            )
        )
    for warning in bill_warnings(checks):
        console.print(Text(f"warning: {warning}", style="yellow"))


def _line(plan: str, model: ModelSpec, price: Price | None, nearest: Any) -> PriceLine:
    name = model.price_as or model.model
    return PriceLine(
        plan=plan,
        name=model.name,
        model=model.model,
        priced_as=name,
        price=price,
        nearest=() if price is not None else nearest(name),
    )


def _rows(line: PriceLine) -> Iterable[tuple[str, ...]]:
    label = line.name if line.name == line.model else f"{line.name} ({line.model})"
    if line.price is None:
        yield (label, *([ABSENT] * 6), "unknown")
        return
    price = line.price
    fee = ABSENT if not price.per_request_usd else _rate(price.per_request_usd)
    yield (label, *_rates(price.rates), fee, price.source)
    for tier in price.tiers:
        yield (f"  above {tier.above_input_tokens:,} tokens", *_rates(tier.rates), "", "")


def _rates(rates: Rates) -> tuple[str, ...]:
    values = (
        rates.input,
        rates.output,
        rates.cache_read,
        rates.cache_write_5m,
        rates.cache_write_1h,
    )
    return tuple(ABSENT if value is None else _rate(value) for value in values)


def _rate(value: Decimal) -> str:
    text = f"{value.normalize():f}"
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits.ljust(2, '0')}"


def _signed(gap: Decimal) -> str:
    return f"{'+' if gap >= 0 else ''}{percent(float(gap), 1)}"
