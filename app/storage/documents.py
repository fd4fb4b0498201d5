"""Values as clean JSON that `jsonb` takes, and Alerts read back from it."""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Number, Real
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.alerts import Alert, AlertKind, News
from app.storage.clean_text import clean_text


def plain(value: object) -> Any:
    """The value as clean JSON: exact decimals as text, instants in ISO 8601, timedeltas in seconds.

    A number that is not finite has no JSON form: it reads as null, like one that is not known.

    Raises:
        TypeError: If the value has no plain form; secrets have none.
    """
    if value is None or isinstance(value, bool | str | Enum | Number | date | timedelta | ZoneInfo):
        return _scalar(value)
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


def _scalar(value: object) -> str | int | float | bool | None:
    match value:
        case None | bool():
            return value
        case Enum():
            return _scalar(value.value)
        case str():
            return clean_text(value)
        case Integral():
            return int(value)
        case Decimal() if value.is_finite():
            return str(value)
        case Real() if math.isfinite(value):
            return float(value)
        case timedelta():
            return value.total_seconds()
        case date():
            return value.isoformat()
        case ZoneInfo():
            return str(value)
        case _:
            return None


def _key(key: object) -> str:
    plain_key = _scalar(key)
    if plain_key is None or isinstance(plain_key, bool):
        raise TypeError(f"{type(key).__name__} cannot be a key")
    return str(plain_key)


def _pairs(values: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, second in values)
