"""Values as clean JSON that `jsonb` takes, and Alerts read back from it."""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.alerts import Alert, AlertKind, News
from app.storage.clean_text import clean_text


def plain(value: object) -> Any:
    """The value as clean JSON: exact decimals as text, instants in ISO 8601, timedeltas in seconds.

    Raises:
        ValueError: If a number is not finite: it would be stored as something it is not.
        TypeError: If the value has no plain form; secrets have none.
    """
    if value is None or isinstance(value, bool):
        return value
    simple = _scalar(value)
    if simple is not None:
        return simple
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def alert_from_json(value: Mapping[str, Any]) -> Alert:
    """The Alert that `plain` made this of."""
    return Alert(
        key=value["key"],
        kind=AlertKind(value["kind"]),
        news=News(value["news"]),
        run_id=value["run_id"],
        title=value["title"],
        lead=value["lead"],
        fields=_pairs(value["fields"]),
        lines=tuple(value["lines"]),
        links=_pairs(value["links"]),
        context=tuple(value["context"]),
        chart=value["chart"],
    )


def _scalar(value: object) -> str | int | float | None:
    """The plain form of a single value, None when it is none."""
    if isinstance(value, Enum):
        return _scalar(value.value)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Decimal):
        _refuse_endless(float(value))
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        _refuse_endless(float(value))
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, ZoneInfo) else None


def _refuse_endless(number: float) -> None:
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")


def _key(key: object) -> str:
    plain_key = _scalar(key)
    if plain_key is None or isinstance(key, bool):
        raise TypeError(f"{type(key).__name__} cannot be a key")
    return str(plain_key)


def _pairs(values: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, second in values)
