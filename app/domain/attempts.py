"""Attempts: HTTP calls for one Case and model, and what they end in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from app.domain.json_values import JsonObject, fingerprint
from app.domain.prices import Usage


class StopReason(StrEnum):
    """Why a model stopped."""

    END_TURN = "end_turn"
    STOP_SEQUENCE = "stop_sequence"
    TOOL_USE = "tool_use"
    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"


class FailureClass(StrEnum):
    """Every way in which a response can be unsuccessful."""

    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    GATE = "gate_failed"
    PROTOCOL = "protocol_error"
    INCOMPLETE = "incomplete"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    TOO_LARGE = "too_large"
    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    BILLING = "billing"
    NOT_FOUND = "not_found"
    BREAKER_OPEN = "breaker_open"
    BUDGET = "budget"
    AMBIGUOUS = "ambiguous"
    QUARANTINED = "quarantined"


#: Transient: worth another Attempt; when exhausted, an outage and not a matter of quality.
TRANSIENT = frozenset(
    {
        FailureClass.RATE_LIMITED,
        FailureClass.OVERLOADED,
        FailureClass.SERVER,
        FailureClass.TIMEOUT,
        FailureClass.CONNECTION,
        FailureClass.INCOMPLETE,
        FailureClass.AMBIGUOUS,
    }
)
#: Only the operator can mend these; a retry cannot.
NEEDS_OPERATOR = frozenset({FailureClass.AUTH, FailureClass.BILLING, FailureClass.NOT_FOUND})
#: Exhausted or unavailable for reasons outside the model's answer: an outage, never quality.
OUTAGE = TRANSIENT | NEEDS_OPERATOR | {FailureClass.BREAKER_OPEN}
#: Caused outside both models: on the primary the pair is dropped.
OURS = frozenset({FailureClass.BUDGET, FailureClass.QUARANTINED})


class AttemptState(StrEnum):
    """Where an Attempt stands in the journal."""

    PLANNED = "planned"
    SENT = "sent"
    SETTLED = "settled"
    AMBIGUOUS = "ambiguous"


class Purpose(StrEnum):
    """What a call is paid for: a reply, or its evaluation (judges and embeddings)."""

    REPLAY = "replay"
    JUDGE = "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered, validated.

    Attributes:
        ttft_s: Seconds from the first byte sent to the first content; None when not streamed.
        latency_s: Seconds from the first byte sent to the last byte received.
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    latency_s: float
    ttft_s: float | None = None
    tool_calls: tuple[JsonObject, ...] = ()
    request_id: str | None = None
    reported_cost_usd: Decimal | None = None

    @property
    def fingerprint(self) -> str:
        """Equal for replies that say the same."""
        return fingerprint([self.text, list(self.tool_calls)])

    @property
    def failure_class(self) -> FailureClass | None:
        """The class of an unsuccessful completion, None when it completed properly."""
        if self.stop_reason is StopReason.REFUSAL:
            return FailureClass.REFUSAL
        if self.stop_reason is StopReason.MAX_TOKENS:
            return FailureClass.TRUNCATED
        if not self.text.strip() and not self.tool_calls:
            return FailureClass.EMPTY
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call brought no Completion.

    Attributes:
        message: For operators; holds no prompt text, reply text or secret.
        retry_after_s: The wait the server asked for, in seconds.
        is_cost_unknown: True when tokens may have been billed that nobody counted (a cut stream).
        usage: What was counted before the failure, if anything.
        latency_s: Seconds until the failure was known.
    """

    failure_class: FailureClass
    message: str
    http_status: int | None = None
    retry_after_s: float | None = None
    request_id: str | None = None
    is_cost_unknown: bool = False
    usage: Usage | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRef:
    """Which shard a write belongs to and under which Fence."""

    run_id: str
    shard_no: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOpening:
    """An Attempt about to be sent: the row that must exist before the call does.

    Attributes:
        attempt_id: UUID made by the caller.
        call_key: What the call is for within its Case; calls with equal keys are never paid twice.
        reserved_usd: Upper bound of its cost, charged to the caps until it settles.
    """

    attempt_id: str
    shard: ShardRef
    plan_name: str
    case_id: str
    model_name: str
    model: str
    purpose: Purpose
    call_key: str
    attempt_no: int
    sent_at: datetime
    reserved_usd: Decimal
    price: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """How an Attempt ended.

    Attributes:
        cost_usd: Money spent; None when unknown (a cut stream): the reservation stays charged.
        is_final: True when no further Attempt will be made for this call.
        felt_latency_s: On the final Attempt, seconds from the call's first Attempt to its end,
            our own queueing left out: what a caller would have felt.
    """

    attempt_id: str
    shard: ShardRef
    result: Completion | Failure
    cost_usd: Decimal | None
    settled_at: datetime
    is_final: bool
    felt_latency_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The end of one call: its last result and what all its Attempts cost.

    Attributes:
        spend_usd: Sum of the known costs of its Attempts.
        is_cost_known: False when any Attempt's cost is unknown.
    """

    case_id: str
    model_name: str
    call_key: str
    result: Completion | Failure
    attempts: int
    spend_usd: Decimal
    is_cost_known: bool = True
    felt_latency_s: float | None = None

    @property
    def completion(self) -> Completion | None:
        """The Completion, or None after a Failure."""
        return self.result if isinstance(self.result, Completion) else None

    @property
    def failure_class(self) -> FailureClass | None:
        """Why the call is unsuccessful before any gate, or None."""
        return self.result.failure_class


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledCalls:
    """What earlier owners of a shard already paid for, by (case_id, call_key).

    Attributes:
        replies: Calls that ended.
        tried_at: When each Attempt of a call that did not end was settled, else sent.
    """

    replies: Mapping[tuple[str, str], Reply] = field(default_factory=dict)
    tried_at: Mapping[tuple[str, str], tuple[datetime, ...]] = field(default_factory=dict)
