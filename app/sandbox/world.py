"""The World: what the sandbox's models are like, week by week, and what goes wrong with them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter

_STRICT = ConfigDict(extra="forbid")

Family = Literal["aster", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath"]
Rejection = Literal["tools", "output_config", "response_format", "temperature"]
Misbehaviour = Literal["garbage", "two_numbers", "out_of_range", "nan", "empty"]


class FaultKind(StrEnum):
    """What can go wrong with one call, as a caller meets it."""

    RATE_LIMITED = "rate_limited"  # 429, with the Retry-After of the rule, if any
    OVERLOADED = "overloaded"  # 529
    SERVER_ERROR = "server_error"  # 500
    BAD_GATEWAY = "bad_gateway"  # 502 with an HTML page
    UNAUTHORIZED = "unauthorized"  # 401
    BILLING = "billing"  # 402
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not_found"  # 404
    TOO_LARGE = "too_large"  # 413
    SPEND_LIMIT = "spend_limit"  # 400, own spend limit reached
    CONTEXT_LENGTH = "context_length"  # 400, prompt too long
    BAD_REQUEST = "bad_request"  # 400
    REDIRECT = "redirect"  # 307 to /elsewhere
    CONNECTION_RESET = "connection_reset"  # RST before any response
    HANG = "hang"  # no byte, ever
    PING_FOREVER = "ping_forever"  # a stream of pings without end (plain requests hang)
    HTML = "html"  # 200 with an HTML page
    EMPTY_BODY = "empty_body"  # 200 without a body
    ERROR_BODY = "error_body"  # 200 with an error object
    NO_USAGE = "no_usage"  # a good reply without usage
    OTHER_MODEL = "other_model"  # a good reply that names another model
    OTHER_VENDOR = "other_vendor"  # the other vendor's shape
    PLAIN_JSON = "plain_json"  # a plain JSON reply to a streaming request
    UNKNOWN_BLOCK = "unknown_block"  # a content block of an unknown type
    CUT_STREAM = "cut_stream"  # the connection closes in the middle of the reply
    MALFORMED_EVENT = "malformed_event"  # an event whose data is broken JSON
    CLEAN_END = "clean_end"  # a stream that ends without message_stop
    ERROR_EVENT = "error_event"  # an error event in the middle of the stream
    REFUSAL = "refusal"  # stop reason refusal
    TRUNCATION = "truncation"  # stop reason max_tokens
    EMPTY_CONTENT = "empty_content"  # end_turn without any text


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A rule by which calls fail.

    Attributes:
        kind: What happens.
        rate: Share of the calls it happens to.
        retry_after: The Retry-After header of 429 and 529, in any form; none when absent.
        sticky: The same prompts fail at every attempt, instead of a fresh draw per attempt.
        contains: Only prompts that contain this text.
        first: Only the first this many attempts of each call (then it succeeds).
        message: The error's message instead of the usual one.
    """

    __pydantic_config__ = _STRICT

    kind: FaultKind
    rate: float = 1.0
    retry_after: str | None = None
    sticky: bool = False
    contains: str | None = None
    first: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec:
    """How a model grades.

    Attributes:
        noise_sd: Standard deviation of the noise, in grades of the 1..5 scale; its mean is zero.
        lapse_rate: Share of gradings that are drawn blindly.
        shift: Added to every quality in 0..1 before grading; negative is harsher.
        gullible: Obeys instructions found in replies and prompts.
        position_bias: Added to the quality of the first of two replies; 1 always prefers the first.
        verbosity_bias: Added per 100 words beyond 100.
        prefers_family: Replies of this family gain `preference`.
        preference: Gain of the preferred family, in quality 0..1.
        misbehaviour: Shares of answers that no parser should accept, by kind.
        known: Grades of texts the judge is told about: the longest key found in the reply decides.
        tie_width: Two qualities closer than this are a tie.
    """

    __pydantic_config__ = _STRICT

    noise_sd: float = 0.4
    lapse_rate: float = 0.0
    shift: float = 0.0
    gullible: bool = False
    position_bias: float = 0.0
    verbosity_bias: float = 0.0
    prefers_family: Family | None = None
    preference: float = 0.0
    misbehaviour: Mapping[Misbehaviour, float] = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)
    tie_width: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model of the sandbox.

    Attributes:
        quality: Mean true quality 0..1 over prompts.
        sd: Standard deviation of the true quality over prompts.
        quality_by_route: Means that differ, by route of the prompt.
        hard_penalty: How much lower the mean is on tangled prompts than on plain ones.
        tokens: Median length of a prose reply in tokens.
        tokens_sigma: Log-normal spread of that length.
        thinking_tokens: Median hidden tokens billed as output.
        ttft_ms: Median time to the first token.
        per_token_ms: Median time per further token.
        latency_sigma: Log-normal spread of both times, one factor per call.
        faults: What goes wrong; the rates add up.
        family: The house style of its replies, which a partial judge recognises.
        judge: How it grades when asked to; every model grades, by default as an honest judge.
        context_tokens: Longer prompts are refused with a 400.
        max_in_flight: More calls at once are refused with a 429.
        rejects: Request features this endpoint refuses with a 400.
        cache_read_share: Share of the input reported as read from the cache.
    """

    __pydantic_config__ = _STRICT

    quality: float = 0.85
    sd: float = 0.2
    quality_by_route: Mapping[str, float] = field(default_factory=dict)
    hard_penalty: float = 0.3
    tokens: int = 120
    tokens_sigma: float = 0.35
    thinking_tokens: int = 0
    ttft_ms: float = 0.0
    per_token_ms: float = 0.0
    latency_sigma: float = 0.0
    faults: tuple[Fault, ...] = ()
    family: Family = "aster"
    judge: JudgeSpec = field(default_factory=JudgeSpec)
    context_tokens: int = 200_000
    max_in_flight: int | None = None
    rejects: tuple[Rejection, ...] = ()
    cache_read_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is different with a model from one simulated week to another.

    Attributes:
        model: Its name, or "*" for every model.
        from_week: First week of the change; week 1 begins at the World's `starts_at`.
        until_week: First week after it; none means for good.
        quality: Added to every mean quality.
        tokens_factor: Multiplies the reply length and the hidden tokens.
        latency_factor: Multiplies both times.
        judge_shift: Added to the judge's `shift`; negative is harsher.
        faults: Come before the model's own.
    """

    __pydantic_config__ = _STRICT

    model: str = "*"
    from_week: int
    until_week: int | None = None
    quality: float = 0.0
    tokens_factor: float = 1.0
    latency_factor: float = 1.0
    judge_shift: float = 0.0
    faults: tuple[Fault, ...] = ()

    def holds(self, model: str, week: int) -> bool:
        """Whether the change touches this model in this week."""
        in_time = self.from_week <= week and (self.until_week is None or week < self.until_week)
        return in_time and self.model in {"*", model}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything the gateway needs to answer; a plain value that travels as JSON.

    Attributes:
        models: The models by name; any other name is a 404.
        name: For people.
        seed: Fixes every draw.
        starts_at: When week 1 begins.
        changes: The schedule.
        faults: Rules for every model; they come before the models' own.
        api_keys: Accepted keys; empty accepts any, also none.
        chunks: Pieces in which a stream sends its text.
        ping_interval_s: Pause between the pings of `ping_forever`.
        max_request_bytes: Larger requests are a 413.
        prompt_correlation: How much of the quality's variance belongs to the prompt.
        model_stability: How much of it belongs to model and prompt whatever the week.
        clock_file: A file with the simulated instant (ISO 8601), read at every call.
    """

    __pydantic_config__ = _STRICT

    models: Mapping[str, ModelSpec]
    name: str = "unnamed"
    seed: int = 1
    starts_at: datetime = datetime(2026, 1, 5, tzinfo=UTC)
    changes: tuple[Change, ...] = ()
    faults: tuple[Fault, ...] = ()
    api_keys: tuple[str, ...] = ()
    chunks: int = 1
    ping_interval_s: float = 1.0
    max_request_bytes: int = 32_000_000
    prompt_correlation: float = 0.55
    model_stability: float = 0.30
    clock_file: str | None = None

    def week(self, at: datetime) -> int:
        """The simulated week of an instant; the first is 1."""
        return (at - self.starts_at) // timedelta(days=7) + 1

    def spec(self, model: str, week: int) -> ModelSpec:
        """The model as it is in that week; KeyError for a name the World does not know."""
        spec = self.models[model]
        for change in self.changes:
            if change.holds(model, week):
                spec = _changed(spec, change)
        return replace(spec, faults=self.faults + spec.faults) if self.faults else spec

    def to_json(self) -> dict[str, object]:
        """The World as plain JSON, which `world_from_json` reads."""
        dumped = _WORLD.dump_python(self, mode="json")
        return {str(key): value for key, value in dumped.items()}


def world_from_json(data: object) -> World:
    """The World that the JSON describes; ValueError names what is wrong with it."""
    return _WORLD.validate_python(data)


def load_world(path: Path) -> World:
    """The World kept in a JSON file."""
    return world_from_json(json.loads(path.read_text(encoding="utf-8")))


def _changed(spec: ModelSpec, change: Change) -> ModelSpec:
    return replace(
        spec,
        quality=_unit(spec.quality + change.quality),
        quality_by_route={
            route: _unit(mean + change.quality) for route, mean in spec.quality_by_route.items()
        },
        tokens=max(1, round(spec.tokens * change.tokens_factor)),
        thinking_tokens=round(spec.thinking_tokens * change.tokens_factor),
        ttft_ms=spec.ttft_ms * change.latency_factor,
        per_token_ms=spec.per_token_ms * change.latency_factor,
        judge=replace(spec.judge, shift=spec.judge.shift + change.judge_shift),
        faults=change.faults + spec.faults,
    )


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


_WORLD: TypeAdapter[World] = TypeAdapter(World)
