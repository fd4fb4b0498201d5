"""Numbers as people read them, always with their interval or count."""

from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

from app.domain.wording import (
    ABSENT,
    MINUS,
    change_range,
    complement,
    count,
    percent,
    signed,
)
from app.stats.estimates import Estimate

__all__ = (
    "ABSENT",
    "MINUS",
    "change_range",
    "complement",
    "count",
    "difference",
    "money",
    "money_range",
    "negated",
    "percent",
    "percent_range",
    "scaled",
    "seconds",
    "seconds_range",
    "signed",
)

_WHOLE_DOLLARS = 100


def difference(estimate: Estimate | None, digits: int = 2) -> str:
    """A difference with half its interval, e.g. `−0.01 ±0.02`."""
    if estimate is None:
        return ABSENT
    return f"{signed(estimate.point, digits)} ±{estimate.half_width:.{digits}f}"


def percent_range(estimate: Estimate | None) -> str:
    """An interval of shares, e.g. `31–44 %`."""
    if estimate is None:
        return ABSENT
    low, high = percent(estimate.low), percent(estimate.high)
    if low == high:
        return low
    if estimate.low < 0:
        return f"{low} to {high}"
    return f"{low.removesuffix(' %')}–{high}"


_COUNTLESS = Decimal("1e12")
"""From here on digits say nothing."""


def money(amount_usd: Decimal | float | None) -> str:
    """Dollars with as many digits as help, e.g. `$1,140`, `$5.60`, `$0.0042`."""
    if amount_usd is None:
        return ABSENT
    amount = Decimal(str(amount_usd))
    size = abs(amount)
    if size >= _COUNTLESS:
        text = f"{size:.1e}"
    elif size >= 1000:
        text = f"{_rounded(size, '1'):,}"
    elif size >= Decimal("0.1") or size == 0:
        text = f"{_rounded(size, '0.01')}"
    else:
        text = f"{size:.2g}" if size >= Decimal("0.0001") else f"{size:.1e}"
    return (MINUS if amount < 0 else "") + "$" + text


def money_range(estimate: Estimate | None, per: str = "") -> str:
    """An amount with its interval, e.g. `$1,140 a month ($920–1,310)`."""
    if estimate is None:
        return ABSENT
    figures = [estimate.point, estimate.low, estimate.high]
    if max(map(abs, figures)) >= _WHOLE_DOLLARS:
        figures = [float(round(figure)) for figure in figures]
        point, low, high = (money(figure).removesuffix(".00") for figure in figures)
    else:
        point, low, high = map(money, figures)
    joined = f"{low}–{high.removeprefix('$')}" if low.startswith("$") else f"{low} to {high}"
    return f"{point}{per} ({joined})"


def seconds(value_s: float | None) -> str:
    """A duration, e.g. `4.4 s` or `320 ms`."""
    if value_s is None:
        return ABSENT
    return f"{value_s * 1000:.0f} ms" if value_s < 1 else f"{value_s:.1f} s"


def seconds_range(estimate: Estimate | None) -> str:
    """A duration with its interval, e.g. `4.4 s (4.0–4.9 s)`."""
    if estimate is None:
        return ABSENT
    low, high = seconds(estimate.low), seconds(estimate.high)
    if low.rpartition(" ")[2] == high.rpartition(" ")[2]:
        low = low.rpartition(" ")[0]
    return f"{seconds(estimate.point)} ({low}–{high})"


def negated(estimate: Estimate | None) -> Estimate | None:
    """The estimate with its sign turned: a change from a saving."""
    if estimate is None:
        return None
    return replace(estimate, point=-estimate.point, low=-estimate.high, high=-estimate.low)


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate times a positive factor."""
    return replace(
        estimate,
        point=estimate.point * factor,
        low=estimate.low * factor,
        high=estimate.high * factor,
    )


def _rounded(amount: Decimal, unit: str) -> Decimal:
    return amount.quantize(Decimal(unit), rounding=ROUND_HALF_UP)
