import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls.retries import NextStep, RetryPolicy, Step, next_step
from app.domain.attempts import TRANSIENT, Failure, FailureClass

POLICY = RetryPolicy()


def step(
    kind: FailureClass, *, failed: int = 1, throttled: int = 0, after: float | None = None
) -> NextStep:
    failure = Failure(failure_class=kind, message="", retry_after_s=after)
    return next_step(
        failure, failed=failed, throttled=throttled, policy=POLICY, rng=random.Random(1)
    )


@pytest.mark.parametrize("kind", sorted(set(FailureClass) - TRANSIENT))
def test_what_a_retry_cannot_help_is_given_up_at_once(kind: FailureClass) -> None:
    assert step(kind).step is Step.GIVE_UP


def test_the_third_failure_is_the_last() -> None:
    assert step(FailureClass.OVERLOADED, failed=2).step is Step.RETRY
    assert step(FailureClass.OVERLOADED, failed=3).step is Step.GIVE_UP


def test_throttling_is_counted_apart_from_failures() -> None:
    assert step(FailureClass.RATE_LIMITED, failed=0, throttled=8, after=1).step is Step.RETRY
    assert step(FailureClass.RATE_LIMITED, failed=0, throttled=12, after=1).step is Step.GIVE_UP


def test_a_short_retry_after_is_honoured_in_full() -> None:
    found = step(FailureClass.RATE_LIMITED, failed=0, throttled=1, after=2.0)
    assert found.step is Step.RETRY
    assert 2.0 <= found.wait_s <= 2.5


def test_a_long_retry_after_defers_the_shard() -> None:
    found = step(FailureClass.RATE_LIMITED, failed=0, throttled=1, after=7200.0)
    assert found == NextStep(step=Step.DEFER, wait_s=7200.0)


@given(failed=st.integers(1, 2), after=st.one_of(st.none(), st.floats(0, 60)))
def test_a_wait_is_never_longer_than_a_worker_may_sleep(failed: int, after: float | None) -> None:
    found = step(FailureClass.SERVER, failed=failed, after=after)
    assert found.step is Step.RETRY
    assert 0 < found.wait_s <= POLICY.longest_wait_s + POLICY.cap_s


def test_waits_grow_from_try_to_try() -> None:
    def mean(failed: int) -> float:
        failure = Failure(failure_class=FailureClass.SERVER, message="")
        waits = [
            next_step(
                failure, failed=failed, throttled=0, policy=POLICY, rng=random.Random(seed)
            ).wait_s
            for seed in range(200)
        ]
        return sum(waits) / len(waits)

    assert mean(2) > 1.5 * mean(1)
