"""What models cost: the plan's own rates, then dated overrides, then the shipped list.

The list is the data of the genai-prices package, offline. A name it does not know, or a tariff
that our rates cannot express, has no price; nothing may be spent on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

import yaml

from app.domain.errors import ConfigError
from app.domain.models import ModelSpec, Role
from app.domain.prices import Price, Rates, Tier

_RATES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
_BATCH = "@batch"
_ENTRY = (*_RATES, "per_request_usd", "tiers", "since")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedPrice:
    """A Price that holds from a UTC date on; None: from ever."""

    price: Price
    since: date | None = None


Overrides = Mapping[str, Sequence[DatedPrice]]


class ListPrices:
    """The price book of a plan: `model.price`, then overrides, then the shipped list.

    Args:
        overrides: Dated prices by the name a model is priced as.
    """

    def __init__(self, overrides: Overrides | None = None) -> None:
        self._overrides = overrides or {}
        self._list: _ShippedList | None = None

    def price(self, model: ModelSpec, at: datetime) -> Price | None:
        """The price of the model at that time, None when unknown: never a default."""
        if model.price is not None:
            return model.price
        name = model.price_as or model.model
        return _in_force(self._overrides.get(name, ()), at) or self._shipped.price(
            name,
            at,
            base_url=None if model.price_as else model.endpoint.base_url,
            has_output=model.role is not Role.EMBEDDER,
        )

    def nearest_known(self, name: str) -> tuple[str, ...]:
        """Up to three names that the list knows and that look like this one, for messages."""
        known = sorted({*self._overrides, *self._shipped.names()})
        return tuple(get_close_matches(name.lower(), known, n=3, cutoff=0.6))

    @property
    def list_name(self) -> str:
        """Name and version of the shipped list."""
        return self._shipped.name

    def newest_change(self, now: datetime) -> datetime:
        """The newest change of a price, up to now, that the shipped list knows: how old it is."""
        return self._shipped.newest_change(now)

    @property
    def _shipped(self) -> "_ShippedList":
        if self._list is None:
            self._list = _ShippedList()
        return self._list


def parse_overrides(text: str, *, file: str = "prices.yaml") -> Overrides:
    """The overrides that the text of a prices file tells.

    A model's entry is one price, or a list of prices each with the date (`since`) from which it
    holds. Rates are USD per million tokens.

    Raises:
        ConfigError: Naming the file and the key that is wrong.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {str(error).splitlines()[0]}") from error
    if document is None:
        return {}
    prices = document.get("prices") if isinstance(document, dict) else None
    if not isinstance(prices, dict) or set(document) - {"version", "prices"}:
        raise ConfigError(f"{file}: must hold `version` and `prices`, by model id")
    return {
        str(name): _entries(entry, f"{file}: prices.{name}", source=file)
        for name, entry in prices.items()
    }


def _entries(entry: object, place: str, *, source: str) -> tuple[DatedPrice, ...]:
    given = entry if isinstance(entry, list) else [entry]
    items = [item for item in given if isinstance(item, dict)]
    if not items or len(items) < len(given):
        raise ConfigError(f"{place}: must be a price or a list of dated prices")
    dated = sorted(
        (_dated(item, place, source=source) for item in items),
        key=lambda item: item.since or date.min,
    )
    if len({item.since for item in dated}) != len(dated):
        raise ConfigError(f"{place}: two prices hold from the same date")
    return tuple(dated)


def _dated(item: Mapping[str, object], place: str, *, source: str) -> DatedPrice:
    unknown = [str(key) for key in item if key not in _ENTRY]
    if unknown:
        raise ConfigError(f"{place}: unknown key {unknown[0]!r}; known are {', '.join(_ENTRY)}")
    since = item.get("since")
    if since is not None and (not isinstance(since, date) or isinstance(since, datetime)):
        raise ConfigError(f"{place}.since: must be a date such as 2026-10-01")
    data = {key: value for key, value in item.items() if key != "since"}
    label = f"{source} since {since}" if since else source
    try:
        return DatedPrice(price=Price.from_json({**data, "source": label}), since=since)
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise ConfigError(
            f"{place}: needs `input` and `output` in USD per million tokens, and every rate a "
            f"number of at least 0 ({type(error).__name__})"
        ) from error


def _in_force(entries: Sequence[DatedPrice], at: datetime) -> Price | None:
    day = at.astimezone(UTC).date()
    held = [entry for entry in entries if entry.since is None or entry.since <= day]
    return max(held, key=lambda entry: entry.since or date.min).price if held else None


class _ShippedList:
    """The data of the genai-prices package, as our Prices; never fetched from anywhere."""

    def __init__(self) -> None:
        from importlib.metadata import version

        from genai_prices.data_snapshot import get_snapshot

        self.name = f"genai-prices {version('genai-prices')}"
        self._snapshot = get_snapshot()
        self._converted: dict[tuple[int, bool], tuple[Any, Price | None]] = {}

    def price(
        self, name: str, at: datetime, *, base_url: str | None, has_output: bool = True
    ) -> Price | None:
        """The price of a name at a time; an address that names a vendor decides whose price.

        A name that ends in `@batch` means the vendor's price of batch processing. What generates
        nothing (`has_output` false) needs no price of output.
        """
        is_batch = name.endswith(_BATCH)
        found = self._find(name.removesuffix(_BATCH), base_url)
        if found is None:
            return None
        provider, model = found
        source = f"{self.name} ({provider.id}/{model.id})"
        if is_batch:
            return _batch_price(model, at, f"{source}, batch")
        tariff = model.get_prices(at)
        key = (id(tariff), has_output)
        if key not in self._converted:
            rates = vars(tariff) if has_output else {**vars(tariff), "output_mtok": Decimal(0)}
            self._converted[key] = (tariff, _price(rates, source))
        return self._converted[key][1]

    def newest_change(self, now: datetime) -> datetime:
        """The newest date, up to now, from which any of its prices holds."""
        today = now.astimezone(UTC).date()
        dates = (
            date_
            for provider in self._snapshot.providers
            for model in provider.models
            for date_ in _start_dates(model)
            if date_ <= today
        )
        return datetime.combine(max(dates, default=date(2024, 1, 1)), time(), UTC)

    def names(self) -> Iterator[str]:
        """All names, bare and with their vendor."""
        for provider in self._snapshot.providers:
            for model in provider.models:
                yield model.id
                yield f"{provider.id}/{model.id}"

    def _find(self, name: str, base_url: str | None) -> tuple[Any, Any] | None:
        snapshot = self._snapshot
        vendor, _, rest = name.partition("/")
        if base_url is not None:
            try:
                snapshot.find_provider(None, None, base_url)
            except LookupError:
                pass
            else:
                return self._look_up(name, None, base_url)
        return (
            self._look_up(name, None, None)
            or (self._look_up(rest, vendor, None) if rest else None)
            or None
        )

    def _look_up(
        self, name: str, provider_id: str | None, base_url: str | None
    ) -> tuple[Any, Any] | None:
        try:
            return self._snapshot.find_provider_model(name, None, provider_id, base_url)
        except LookupError:
            return None


def _batch_price(model: Any, at: datetime, source: str) -> Price | None:
    """The price of batch processing, None where the list knows none for the time."""
    standard = model.get_prices(at)
    tariff = model.get_prices(at, {"processing": "batch"})
    return None if vars(tariff) == vars(standard) else _price(vars(tariff), source)


def _start_dates(model: Any) -> Iterator[date]:
    prices = model.prices if isinstance(model.prices, list) else []
    for priced in (*prices, *(model.price_variants or ())):
        start = getattr(priced.constraint, "start_date", None)
        if isinstance(start, date):
            yield start


def _price(tariff: Mapping[str, Any], source: str) -> Price | None:
    """The tariff as a Price, None where our rates cannot express it."""
    if tariff.get("output_reasoning_mtok") is not None or tariff.get("input_mtok") is None:
        return None
    starts = {tier.start for value in tariff.values() for tier in getattr(value, "tiers", ())}
    base = _rates(tariff, above=None)
    if base is None:
        return None
    tiers = [(start, _rates(tariff, above=start)) for start in sorted(starts)]
    fee = _rate(tariff, "requests_kcount", above=None)
    return Price(
        rates=base,
        tiers=tuple(
            Tier(above_input_tokens=start, rates=rates)
            for start, rates in tiers
            if rates is not None
        ),
        per_request_usd=Decimal(0) if fee is None else fee / 1000,
        source=source,
    )


def _rates(tariff: Mapping[str, Any], *, above: int | None) -> Rates | None:
    price_in = _rate(tariff, "input_mtok", above=above)
    price_out = _rate(tariff, "output_mtok", above=above)
    if price_in is None or price_out is None:
        return None
    write_5m = _rate(tariff, "cache_write_mtok", above=above)
    write_1h = _rate(tariff, "cache_write_1h_mtok", above=above)
    return Rates(
        input=price_in,
        output=price_out,
        cache_read=_rate(tariff, "cache_read_mtok", above=above),
        cache_write_5m=write_5m,
        cache_write_1h=write_5m if write_1h is None else write_1h,
    )


def _rate(tariff: Mapping[str, Any], key: str, *, above: int | None) -> Decimal | None:
    """The rate of requests just above a tier's start; None for the base."""
    value = tariff.get(key)
    if value is None or isinstance(value, Decimal):
        return value
    held = [tier for tier in value.tiers if above is not None and tier.start <= above]
    rate: Decimal = held[-1].price if held else value.base
    return rate
