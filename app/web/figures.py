"""Figures as people read them: filters of the templates. An absent figure is a dash."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.alerting.words import money
from app.domain.charts import dollars, milliseconds
from app.domain.wording import ABSENT, MINUS, number, percent, share, signed, whole

Figure = Mapping[str, Any] | None
_WHOLE_DOLLARS = 1_000
_PER = 1_000


def interval(figure: Figure, digits: int = 2) -> str:
    """The interval of a figure, e.g. `0.82–0.88`."""
    if figure is None:
        return ""
    return f"{number(figure['low'], digits)}–{number(figure['high'], digits)}"


def point(figure: Figure, digits: int = 2) -> str:
    """The point of a figure."""
    return ABSENT if figure is None else number(figure["value"], digits)


def change(figure: Figure, digits: int = 2) -> str:
    """The point of a difference with its sign."""
    return ABSENT if figure is None else signed(figure["value"], digits)


def change_interval(figure: Figure, digits: int = 2) -> str:
    """The interval of a difference, e.g. `−0.03 to +0.01`."""
    if figure is None:
        return ""
    return f"{signed(figure['low'], digits)} to {signed(figure['high'], digits)}"


def delta(value: float | None, digits: int = 2) -> str:
    """A difference with its sign."""
    return ABSENT if value is None else signed(value, digits)


def share_point(figure: Figure) -> str:
    """The point of a share."""
    return ABSENT if figure is None else percent(figure["value"])


def share_interval(figure: Figure) -> str:
    """The interval of a share, e.g. `31–44 %`."""
    if figure is None:
        return ""
    if figure["low"] < 0:
        return f"{percent(figure['low'])} to {percent(figure['high'])}"
    digits = 0 if round(figure["low"] * 100) != round(figure["high"] * 100) else 1
    return f"{figure['low'] * 100:.{digits}f}–{percent(figure['high'], digits)}"


def usd(value: Decimal | str | float | None) -> str:
    """Dollars, from a number or from the decimal text of a document."""
    if value is None:
        return ABSENT
    amount = Decimal(str(value))
    return money(amount) if amount == 0 or abs(amount) >= Decimal("0.1") else dollars(float(amount))


def per_thousand(value: Decimal | str | float | None) -> str:
    """Dollars for a thousand of what one costs."""
    return ABSENT if value is None else dollars(float(value) * _PER)


def per_thousand_interval(figure: Figure) -> str:
    """The interval of a money figure, for a thousand."""
    if figure is None or figure["low"] is None or figure["high"] is None:
        return ""
    low, high = (dollars(float(figure[end]) * _PER) for end in ("low", "high"))
    return f"{low}–{high.removeprefix('$')}"


def usd_interval(figure: Figure) -> str:
    """The interval of a money figure, e.g. `$920–1,310`."""
    if figure is None:
        return ""
    ends = [Decimal(str(figure[end])) for end in ("low", "high")]
    low, high = map(usd, ends)
    if max(map(abs, ends)) >= _WHOLE_DOLLARS:
        low, high = (usd(end.quantize(Decimal(1))).removesuffix(".00") for end in ends)
    return f"{low} to {high}" if low.startswith(MINUS) else f"{low}–{high.removeprefix('$')}"


def duration(value_ms: float | None) -> str:
    """A duration given in milliseconds."""
    return ABSENT if value_ms is None else milliseconds(value_ms)


def duration_interval(figure: Figure) -> str:
    """The interval of a duration given in milliseconds."""
    if figure is None:
        return ""
    low, high = milliseconds(figure["low"]), milliseconds(figure["high"])
    if low.rpartition(" ")[2] == high.rpartition(" ")[2]:
        low = low.rpartition(" ")[0]
    return f"{low}–{high}"


def duration_s(value_s: float | None) -> str:
    """A duration given in seconds."""
    return ABSENT if value_s is None else milliseconds(value_s * 1000)


def times(value: float | None) -> str:
    """A ratio, e.g. `0.58×`."""
    return ABSENT if value is None else f"{value:.2f}×"


def words(code: str | None) -> str:
    """A code as words, e.g. `gate failed`."""
    return (code or "").replace("_", " ")


def moment(at: datetime | str | None) -> str:
    """An instant to the minute, in UTC."""
    if at is None:
        return ABSENT
    instant = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{instant.astimezone(UTC):%d %b %Y, %H:%M} UTC".lstrip("0")


def second(at: datetime | None) -> str:
    """An instant to the second, in UTC."""
    return ABSENT if at is None else f"{at.astimezone(UTC):%d %b %Y, %H:%M:%S} UTC".lstrip("0")


def day(at: datetime | str | None) -> str:
    """The day of an instant."""
    if at is None:
        return ABSENT
    instant = datetime.fromisoformat(at) if isinstance(at, str) else at
    return f"{instant:%d %b %Y}".lstrip("0")


def slot(key: str | None) -> str:
    """A slot's local date and time."""
    return ABSENT if key is None else day(key) + ", " + key[11:16]


FILTERS = {
    function.__name__: function
    for function in (
        *(number, whole, interval, point, change, change_interval, delta, share, share_point),
        *(share_interval, usd, per_thousand, per_thousand_interval, usd_interval, duration),
        *(duration_interval,),
        *(duration_s, times, words, moment, second, day, slot),
    )
}
