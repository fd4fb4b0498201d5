"""Usage, Price and Cost: what a call consumed and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal

MILLION = Decimal(1_000_000)
#: A reported cost that differs by more is worth a warning.
COST_TOLERANCE = Decimal("0.02")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one call; every field excludes the others unless it says otherwise.

    Attributes:
        input_tokens: Uncached input; excludes cache reads and cache writes.
        output_tokens: Generated tokens; includes thinking and reasoning tokens.
        cache_read_tokens: Input served from the provider's cache.
        cache_write_5m_tokens: Input written to the five-minute cache.
        cache_write_1h_tokens: Input written to the one-hour cache.
        thinking_tokens: The part of `output_tokens` spent on thinking (informative, priced once).
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    thinking_tokens: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} must not be negative")

    @property
    def prompt_tokens(self) -> int:
        """All input tokens, cached or not."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """USD per million tokens; an absent cache rate means the input rate applies."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (value < 0 or not value.is_finite()):
                raise ValueError(f"{field.name} must be a finite rate of at least 0")

    @property
    def highest_input(self) -> Decimal:
        """The dearest way a token of input can be charged."""
        rates = (self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)
        return max(rate for rate in rates if rate is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Rates that apply to the whole request once its input exceeds a size."""

    above_input_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dated rates of one model and where they come from."""

    rates: Rates
    tiers: tuple[Tier, ...] = ()
    per_request_usd: Decimal = Decimal(0)
    source: str = "plan"

    def cost(self, usage: Usage) -> Decimal:
        """The money one request with this usage costs, in USD, exactly."""
        rates = self.rates_for(usage.prompt_tokens)
        total = (
            usage.input_tokens * rates.input
            + usage.output_tokens * rates.output
            + usage.cache_read_tokens * _or(rates.cache_read, rates.input)
            + usage.cache_write_5m_tokens * _or(rates.cache_write_5m, rates.input)
            + usage.cache_write_1h_tokens * _or(rates.cache_write_1h, rates.input)
        )
        return total / MILLION + self.per_request_usd

    def upper_bound(self, *, input_bytes: int, max_tokens: int) -> Decimal:
        """The most a request can cost: one token per UTF-8 byte of input plus `max_tokens`."""
        highest = max(
            input_bytes * rates.highest_input + max_tokens * rates.output
            for rates in (self.rates, *(tier.rates for tier in self.tiers))
        )
        return highest / MILLION + self.per_request_usd

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates of a request with so many input tokens."""
        applicable = [tier for tier in self.tiers if prompt_tokens > tier.above_input_tokens]
        if not applicable:
            return self.rates
        return max(applicable, key=lambda tier: tier.above_input_tokens).rates

    def to_json(self) -> dict[str, object]:
        """The price as plain JSON, rates as decimal strings."""
        return {
            **_rates_json(self.rates),
            "per_request_usd": str(self.per_request_usd),
            "tiers": [
                {"above_input_tokens": tier.above_input_tokens, **_rates_json(tier.rates)}
                for tier in self.tiers
            ],
            "source": self.source,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "Price":
        """The price that `to_json` wrote."""
        tiers = data.get("tiers", [])
        if not isinstance(tiers, list):
            raise TypeError("tiers must be a list")
        return cls(
            rates=_rates(data),
            tiers=tuple(
                Tier(above_input_tokens=int(tier["above_input_tokens"]), rates=_rates(tier))
                for tier in tiers
            ),
            per_request_usd=Decimal(str(data.get("per_request_usd", 0))),
            source=str(data.get("source", "plan")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCheck:
    """What some calls of a model cost by our prices, and by the gateway's own account."""

    model_name: str
    calls: int
    computed_usd: Decimal
    reported_usd: Decimal

    @property
    def gap(self) -> Decimal:
        """By which part the gateway's figure is above ours; 1 where only it is above nothing."""
        if self.computed_usd == 0:
            return Decimal(0) if self.reported_usd == 0 else Decimal(1)
        return self.reported_usd / self.computed_usd - 1

    @property
    def is_off(self) -> bool:
        """Whether the two differ by more than 2 %."""
        return abs(self.gap) > COST_TOLERANCE

    def to_json(self) -> dict[str, object]:
        """The check as plain JSON, money as decimal strings."""
        return {
            "model_name": self.model_name,
            "calls": self.calls,
            "computed_usd": str(self.computed_usd),
            "reported_usd": str(self.reported_usd),
            "gap": float(self.gap),
        }


def _or(rate: Decimal | None, fallback: Decimal) -> Decimal:
    return fallback if rate is None else rate


def _rates_json(rates: Rates) -> dict[str, object]:
    return {
        field.name: str(value)
        for field in fields(rates)
        if (value := getattr(rates, field.name)) is not None
    }


def _rates(data: Mapping[str, object]) -> Rates:
    return Rates(
        **{
            field.name: Decimal(str(data[field.name]))
            for field in fields(Rates)
            if data.get(field.name) is not None
        }
    )
