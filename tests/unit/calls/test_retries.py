import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls.retries import (
    Deferrals,
    NextStep,
    RetryPolicy,
    Step,
    deferred_before_s,
    next_step,
)
from app.domain.attempts import TRANSIENT, Failure, FailureClass

POLICY = RetryPolicy()


def step(
    kind: FailureClass,
    *,
    failed: int = 1,
    throttled: int = 0,
    after: float | None = None,
    deferred: float = 0.0,
) -> NextStep:
    failure = Failure(failure_class=kind, message="", retry_after_s=after)
    return next_step(
        failure,
        failed=failed,
        throttled=throttled,
        policy=POLICY,
        rng=random.Random(1),
        deferred_s=deferred,
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


def test_no_deferral_is_longer_than_two_hours() -> None:
    found = step(FailureClass.RATE_LIMITED, failed=0, throttled=1, after=1e14)
    assert found == NextStep(step=Step.DEFER, wait_s=7200.0)


def test_a_model_that_was_deferred_for_six_hours_is_given_up() -> None:
    kind, after = FailureClass.RATE_LIMITED, 7200.0
    late = step(kind, failed=0, throttled=1, after=after, deferred=5.5 * 3600)
    assert late == NextStep(step=Step.DEFER, wait_s=1800.0)
    assert step(kind, failed=0, throttled=1, after=after, deferred=6 * 3600).step is Step.GIVE_UP


def test_deferrals_that_overlap_are_counted_once() -> None:
    deferrals = Deferrals()
    for second in range(100):
        deferrals.add(7200.0, now_s=float(second))
    assert deferrals.passed_s(99.0) == pytest.approx(99.0)
    assert deferrals.passed_s(9000.0) == pytest.approx(7299.0)


def test_what_earlier_owners_waited_is_read_from_when_they_tried() -> None:
    began = datetime(2026, 3, 1, tzinfo=UTC)
    hours = [timedelta(), timedelta(seconds=30), timedelta(hours=2), timedelta(days=3)]
    tried_at = [began + hour for hour in hours]
    waited_s = deferred_before_s(tried_at, tried_at[-1] + timedelta(hours=1), POLICY)
    assert waited_s == pytest.approx((7200 - 30) + 7200 + 3600)


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
