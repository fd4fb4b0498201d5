"""Models: the primary, the candidates, the judges and the embedder, and their endpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from app.domain.json_values import JsonObject, fingerprint
from app.domain.prices import Price


class Secret:
    """A value that shows itself only when asked by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__


class Role(StrEnum):
    """What a model is in a Plan."""

    PRIMARY = "primary"
    CANDIDATE = "candidate"
    JUDGE = "judge"
    EMBEDDER = "embedder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where and how a model is reached; models with equal endpoints share one pool of slots.

    Attributes:
        api: Which request shape is spoken: a vendor's, or that of OpenAI's embeddings.
        auth: How the key is sent: `Authorization: Bearer` or `x-api-key`.
        api_version: Value of the `anthropic-version` header; None leaves the SDK's own.
        concurrency: Most calls in flight.
        rate_per_min: Most calls that leave within a minute, of all processes together; None for no
            such limit.
        timeout_s: Total deadline of one Attempt in seconds.
    """

    base_url: str
    api_key: Secret = field(default_factory=lambda: Secret(""))
    api: Literal["anthropic", "openai", "embeddings"] = "anthropic"
    auth: Literal["bearer", "x-api-key"] = "bearer"
    api_version: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    concurrency: int = 8
    rate_per_min: float | None = None
    timeout_s: float = 120.0

    @property
    def key(self) -> str:
        """A stable name without secrets: endpoints with equal keys share a pool."""
        return fingerprint(
            [self.base_url, self.api, self.auth, hash_of(self.api_key), list(self.headers)]
        )


def hash_of(secret: Secret) -> str:
    """A digest that tells secrets apart without showing them."""
    return fingerprint(secret.reveal())


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One configured model.

    Attributes:
        name: Stable label used everywhere.
        model: Id sent to the endpoint.
        params: Overrides of the logged parameters.
        price_as: Name under which the price list knows the model.
        price: Own rates; they win over any list.
    """

    name: str
    model: str
    role: Role
    endpoint: Endpoint
    params: Mapping[str, object] = field(default_factory=dict)
    price_as: str | None = None
    price: Price | None = None

    @property
    def identity(self) -> JsonObject:
        """What must stay the same for Evidence about the model to be pooled."""
        return {
            "model": self.model,
            "base_url": self.endpoint.base_url,
            "params": dict(self.params),
        }

    @property
    def voice(self) -> JsonObject:
        """What decides what the model says, wherever it is served: its identity but the address."""
        return {"model": self.model, "params": dict(self.params)}
