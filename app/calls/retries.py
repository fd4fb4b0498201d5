"""What to do after an Attempt failed: a pure decision with a reason."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import pairwise

from app.domain.attempts import TRANSIENT, Failure, FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient one call is.

    Attributes:
        attempts: Most Attempts of one call, throttled ones apart.
        throttles: Most throttled Attempts of one call.
        base_s, cap_s: Exponential back-off with full jitter between these.
        longest_wait_s: A longer Retry-After defers the shard instead of holding a worker.
        longest_deferral_s: No shard is deferred for longer at once, whatever is asked.
        most_deferred_s: Once a model had its shards deferred for so long in all, its calls end.
    """

    attempts: int = 3
    throttles: int = 12
    base_s: float = 0.5
    cap_s: float = 20.0
    longest_wait_s: float = 60.0
    longest_deferral_s: float = 2 * 3600.0
    most_deferred_s: float = 6 * 3600.0


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


@dataclass(slots=True, kw_only=True)
class Deferrals:
    """How long one model has had its shards deferred, those that overlap counted once."""

    total_s: float = 0.0
    until_s: float = -math.inf

    def add(self, wait_s: float, *, now_s: float) -> None:
        """Count a deferral that begins now."""
        until_s = now_s + wait_s
        self.total_s += max(0.0, until_s - max(now_s, self.until_s))
        self.until_s = max(self.until_s, until_s)

    def passed_s(self, now_s: float) -> float:
        """Seconds deferred so far."""
        return self.total_s - max(0.0, self.until_s - now_s)


def deferred_before_s(tried_at: Sequence[datetime], now: datetime, policy: RetryPolicy) -> float:
    """Seconds for which a call was put off by earlier owners, told by when it was tried.

    Long gaps count no more than one deferral: a Run may have lain idle.
    """
    moments = [*tried_at, now]
    gaps_s = [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]
    return sum(min(gap, policy.longest_deferral_s) for gap in gaps_s if gap > policy.longest_wait_s)


def next_step(
    failure: Failure,
    *,
    failed: int,
    throttled: int,
    policy: RetryPolicy,
    rng: random.Random,
    deferred_s: float = 0.0,
) -> NextStep:
    """Decide what follows the last failure of a call.

    Args:
        failure: The last failure.
        failed: Attempts so far that failed otherwise than by throttling, this one included.
        throttled: Attempts so far that were throttled, this one included.
        policy: How patient to be.
        rng: Source of jitter.
        deferred_s: Seconds for which the model was deferred before.

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
        left_s = policy.most_deferred_s - deferred_s
        if left_s <= 0:
            return NextStep(step=Step.GIVE_UP)
        return NextStep(step=Step.DEFER, wait_s=min(asked_s, policy.longest_deferral_s, left_s))
    tries = throttled if is_throttle else failed
    ceiling_s = min(policy.cap_s, policy.base_s * 2 ** (tries - 1))
    jitter_s = rng.uniform(ceiling_s / 4, ceiling_s)
    if asked_s is not None and asked_s >= 0:
        return NextStep(step=Step.RETRY, wait_s=asked_s + jitter_s / 4)
    return NextStep(step=Step.RETRY, wait_s=jitter_s)
