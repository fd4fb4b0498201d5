"""What to do after an Attempt failed: a pure decision with a reason."""

import random
from dataclasses import dataclass
from enum import Enum

from app.domain.attempts import TRANSIENT, Failure, FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient one call is.

    Attributes:
        attempts: Most Attempts of one call, throttled ones apart.
        throttles: Most throttled Attempts of one call.
        base_s, cap_s: Exponential back-off with full jitter between these.
        longest_wait_s: A longer Retry-After defers the shard instead of holding a worker.
    """

    attempts: int = 3
    throttles: int = 12
    base_s: float = 0.5
    cap_s: float = 20.0
    longest_wait_s: float = 60.0


class Step(Enum):
    """What happens next to a failed call."""

    RETRY = "retry"
    GIVE_UP = "give up"
    DEFER = "defer"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """A step, and for retries and deferrals the wait before it in seconds."""

    step: Step
    wait_s: float = 0.0


def next_step(
    failure: Failure, *, failed: int, throttled: int, policy: RetryPolicy, rng: random.Random
) -> NextStep:
    """Decide what follows the last failure of a call.

    Args:
        failure: The last failure.
        failed: Attempts so far that failed otherwise than by throttling, this one included.
        throttled: Attempts so far that were throttled, this one included.
        policy: How patient to be.
        rng: Source of jitter.

    Returns:
        Retry after a wait, give up, or defer the shard.
    """
    if failure.failure_class not in TRANSIENT:
        return NextStep(step=Step.GIVE_UP)
    is_throttle = failure.failure_class is FailureClass.RATE_LIMITED
    if failed >= policy.attempts or throttled >= policy.throttles:
        return NextStep(step=Step.GIVE_UP)
    asked_s = failure.retry_after_s
    if asked_s is not None and asked_s > policy.longest_wait_s:
        return NextStep(step=Step.DEFER, wait_s=asked_s)
    tries = throttled if is_throttle else failed
    ceiling_s = min(policy.cap_s, policy.base_s * 2 ** (tries - 1))
    jitter_s = rng.uniform(ceiling_s / 4, ceiling_s)
    if asked_s is not None and asked_s >= 0:
        return NextStep(step=Step.RETRY, wait_s=asked_s + jitter_s / 4)
    return NextStep(step=Step.RETRY, wait_s=jitter_s)
