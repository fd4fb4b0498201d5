"""Worlds ready for use: the demo's, and one for each thing worth testing.

All of them have `sandbox-prime` (the primary), `sandbox-swift` (as good and 40 % cheaper: the truly
better value), `sandbox-mini` (terrible and almost free), `sandbox-large` (slightly better, dearer)
and `sandbox-judge`. Prices are the plan's business: `PRICES` holds the recommended ones.

- `demo`: a few milliseconds of latency, nothing goes wrong.
- `calm`: as `demo` without any latency; the base of the worlds below.
- `slow`: log-normal latency, median 0.8 s, sigma 0.5.
- `flaky`: 2.5 % of the calls are a 429 with Retry-After 1, 2.5 % a 529.
- `storm`: 30 % of the calls are a 529, a 500 or a reset connection.
- `outage`: `sandbox-swift` answers nothing but 529.
- `degraded`: the primary's quality is 0.20 lower from week 6.
- `harsh_judge`: the judge grades 0.20 lower from week 6.
- `story`: the primary is 0.20 lower in weeks 8 and 9, `sandbox-swift` is down in week 12.
- `gullible_judge`, `first_judge`, `wordy_judge`, `partial_judge`: a judge that obeys injected
  instructions, always prefers the first of two, favours long replies, favours the style of
  `sandbox-swift`.
- `babbling_judge`: one grading in ten is garbage, two numbers, out of range, NaN or empty.
- `exact_judge`: no noise at all, for tests that compare grade and true quality.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

from app.sandbox.world import Change, Fault, FaultKind, JudgeSpec, ModelSpec, World

PRIME = "sandbox-prime"
SWIFT = "sandbox-swift"
MINI = "sandbox-mini"
LARGE = "sandbox-large"
JUDGE = "sandbox-judge"

# Recommended prices in USD per million tokens, for `price:` in a plan.
PRICES: Mapping[str, Mapping[str, Decimal]] = MappingProxyType(
    {
        PRIME: {"input": Decimal("3.00"), "output": Decimal("15.00")},
        SWIFT: {"input": Decimal("1.80"), "output": Decimal("9.00")},
        MINI: {"input": Decimal("0.05"), "output": Decimal("0.20")},
        LARGE: {"input": Decimal("5.00"), "output": Decimal("25.00")},
        JUDGE: {"input": Decimal("1.00"), "output": Decimal("5.00")},
    }
)

STARTS_AT = datetime(2026, 1, 5, tzinfo=UTC)

_MODELS: Mapping[str, ModelSpec] = {
    PRIME: ModelSpec(quality=0.85, tokens=150, ttft_ms=9, per_token_ms=0.04, latency_sigma=0.3),
    SWIFT: ModelSpec(
        quality=0.85,
        tokens=150,
        ttft_ms=5,
        per_token_ms=0.02,
        latency_sigma=0.3,
        family="birch",
    ),
    MINI: ModelSpec(
        quality=0.22,
        tokens=90,
        ttft_ms=3,
        per_token_ms=0.01,
        latency_sigma=0.3,
        family="cedar",
    ),
    LARGE: ModelSpec(
        quality=0.88,
        tokens=170,
        ttft_ms=14,
        per_token_ms=0.06,
        latency_sigma=0.4,
        family="dune",
    ),
    JUDGE: ModelSpec(quality=0.9, ttft_ms=4, per_token_ms=0.02, latency_sigma=0.3, family="ember"),
}


def named_world(name: str, *, seed: int = 1, starts_at: datetime = STARTS_AT) -> World:
    """The World of that name; KeyError names the ones there are."""
    if name not in _WORLDS:
        raise KeyError(f"no world named {name!r}; there are: {', '.join(world_names())}")
    return replace(_WORLDS[name](), name=name, seed=seed, starts_at=starts_at)


def world_names() -> tuple[str, ...]:
    """The names of all Worlds here."""
    return tuple(sorted(_WORLDS))


def with_model(world: World, name: str, spec: ModelSpec) -> World:
    """The World with one model added or replaced."""
    return replace(world, models={**world.models, name: spec})


def with_judge(world: World, judge: JudgeSpec) -> World:
    """The World with another temper of `sandbox-judge`."""
    return with_model(world, JUDGE, replace(world.models[JUDGE], judge=judge))


def _demo() -> World:
    return World(models=_MODELS)


def _calm() -> World:
    return World(
        models={
            name: replace(spec, ttft_ms=0.0, per_token_ms=0.0, latency_sigma=0.0)
            for name, spec in _MODELS.items()
        }
    )


def _slow() -> World:
    return World(
        models={
            name: replace(spec, ttft_ms=800.0, per_token_ms=0.0, latency_sigma=0.5)
            for name, spec in _MODELS.items()
        }
    )


def _flaky() -> World:
    return replace(
        _calm(),
        faults=(
            Fault(kind=FaultKind.RATE_LIMITED, rate=0.025, retry_after="1"),
            Fault(kind=FaultKind.OVERLOADED, rate=0.025),
        ),
    )


def _storm() -> World:
    return replace(
        _calm(),
        faults=(
            Fault(kind=FaultKind.OVERLOADED, rate=0.1),
            Fault(kind=FaultKind.SERVER_ERROR, rate=0.1),
            Fault(kind=FaultKind.CONNECTION_RESET, rate=0.1),
        ),
    )


def _outage() -> World:
    return replace(_calm(), changes=(Change(model=SWIFT, from_week=-10_000, faults=_DOWN),))


def _degraded() -> World:
    return replace(_calm(), changes=(Change(model=PRIME, from_week=6, quality=-0.20),))


def _harsh_judge() -> World:
    return replace(_calm(), changes=(Change(model=JUDGE, from_week=6, judge_shift=-0.20),))


def _story() -> World:
    return replace(
        _calm(),
        changes=(
            Change(model=PRIME, from_week=8, until_week=10, quality=-0.20),
            Change(model=SWIFT, from_week=12, until_week=13, faults=_DOWN),
        ),
    )


def _gullible_judge() -> World:
    return with_judge(_calm(), JudgeSpec(gullible=True))


def _first_judge() -> World:
    return with_judge(_calm(), JudgeSpec(position_bias=2.0))


def _wordy_judge() -> World:
    return with_judge(_calm(), JudgeSpec(verbosity_bias=0.35))


def _partial_judge() -> World:
    return with_judge(_calm(), JudgeSpec(prefers_family="birch", preference=0.15))


def _babbling_judge() -> World:
    return with_judge(
        _calm(),
        JudgeSpec(
            misbehaviour={
                "garbage": 0.02,
                "two_numbers": 0.02,
                "out_of_range": 0.02,
                "nan": 0.02,
                "empty": 0.02,
            }
        ),
    )


def _exact_judge() -> World:
    return with_judge(_calm(), JudgeSpec(noise_sd=0.0))


_DOWN = (Fault(kind=FaultKind.OVERLOADED),)
_WORLDS: Mapping[str, Callable[[], World]] = {
    "demo": _demo,
    "calm": _calm,
    "slow": _slow,
    "flaky": _flaky,
    "storm": _storm,
    "outage": _outage,
    "degraded": _degraded,
    "harsh_judge": _harsh_judge,
    "story": _story,
    "gullible_judge": _gullible_judge,
    "first_judge": _first_judge,
    "wordy_judge": _wordy_judge,
    "partial_judge": _partial_judge,
    "babbling_judge": _babbling_judge,
    "exact_judge": _exact_judge,
}
