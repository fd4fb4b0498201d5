"""Figures of a Run's document as people read them; an absent figure is a dash."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from app.alerting.words import money
from app.domain.wording import ABSENT, MINUS, number, percent, share, signed, whole

__all__ = (
    "counted",
    "difference",
    "dollar_range",
    "dollars",
    "duration_range",
    "interval",
    "milliseconds",
    "number",
    "point_range",
    "points",
    "ratio",
    "ratio_range",
    "share",
    "share_range",
    "shares",
    "whole",
)

Figure = Mapping[str, Any] | None
_CENT = Decimal("0.01")


def interval(figure: Figure, digits: int = 2) -> str:
    """A point with its interval, e.g. `0.85 (0.82–0.88)`."""
    if figure is None:
        return ABSENT
    point, low, high = (number(figure[end], digits) for end in ("value", "low", "high"))
    return f"{point} ({low}–{high})"


def difference(figure: Figure, digits: int = 2) -> str:
    """A difference with its interval, e.g. `−0.01 (−0.03 to +0.01)`."""
    if figure is None:
        return ABSENT
    point, low, high = (signed(figure[end], digits) for end in ("value", "low", "high"))
    return f"{point} ({low} to {high})"


def shares(figure: Figure) -> str:
    """A share with its interval, e.g. `38 % (31–44 %)`."""
    if figure is None:
        return ABSENT
    low, high = figure["low"], figure["high"]
    if low < 0:
        return f"{percent(figure['value'])} ({percent(low)} to {percent(high)})"
    return f"{percent(figure['value'])} ({low * 100:.0f}–{percent(high)})"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, e.g. `−1.2 pp`."""
    return ABSENT if value is None else f"{signed(value * 100, 1)} pp"


def share_range(value: float | None, figure: Figure) -> str:
    """A share with the interval that is held apart, e.g. `99.0 % (95–100 %)`."""
    if value is None or figure is None:
        return share(value)
    low, high = share(figure["low"]), share(figure["high"])
    return f"{share(value)} ({low.removesuffix(' %')}–{high})"


def point_range(value: float | None, figure: Figure) -> str:
    """A difference of shares with the interval that is held apart, in percentage points."""
    if value is None or figure is None:
        return points(value)
    low, high = (signed(figure[end] * 100, 1) for end in ("low", "high"))
    return f"{points(value)} ({low} to {high})"


def ratio_range(value: float | None, figure: Figure) -> str:
    """A ratio with the interval that is held apart, e.g. `× 0.95 (0.90–1.01)`."""
    if value is None or figure is None:
        return ratio(value)
    return f"{ratio(value)} ({figure['low']:.2f}–{figure['high']:.2f})"


def duration_range(figure: Figure) -> str:
    """A duration with its interval, e.g. `320 ms (290–360 ms)`."""
    if figure is None:
        return ABSENT
    low, high = milliseconds(figure["low"]), milliseconds(figure["high"])
    if low.rpartition(" ")[2] == high.rpartition(" ")[2]:
        low = low.rpartition(" ")[0]
    return f"{milliseconds(figure['value'])} ({low}–{high})"


def dollars(text: str | None) -> str:
    """Money, which documents hold as decimal text; small sums keep two figures."""
    if text is None:
        return ABSENT
    amount = Decimal(text)
    if not amount or abs(amount) >= _CENT / 10:
        return money(amount)
    exact = round(abs(amount), 1 - abs(amount).adjusted())
    return f"{MINUS if amount < 0 else ''}${exact:f}"


def dollar_range(figure: Figure) -> str:
    """Money with its interval, e.g. `$5.60 ($5.10–6.20)`."""
    if figure is None:
        return ABSENT
    low, high = dollars(figure["low"]), dollars(figure["high"])
    joined = f"{low}–{high.removeprefix('$')}" if low.startswith("$") else f"{low} to {high}"
    return f"{dollars(figure['value'])} ({joined})"


def milliseconds(value: float | None) -> str:
    """A duration, e.g. `320 ms` or `4.4 s`."""
    if value is None:
        return ABSENT
    return f"{value:.0f} ms" if value < 1_000 else f"{value / 1_000:.1f} s"


def ratio(value: float | None) -> str:
    """A ratio, e.g. `× 1.20`."""
    return ABSENT if value is None else f"× {value:.2f}"


def counted(counts: Mapping[str, int]) -> str:
    """Counts by name, most first, e.g. `3 timeout, 1 refusal`."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in ordered if n)
