import pytest

from app.calls.breaker import Breaker, BreakerPolicy
from app.domain.attempts import FailureClass

POLICY = BreakerPolicy(threshold=3, cooldown_s=5, longest_s=60, patience_s=60)


def broken(at: float = 0.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(3):
        breaker.observe(FailureClass.OVERLOADED, at)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(POLICY)
    for _ in range(10):
        breaker.observe(FailureClass.SERVER, 0.0)
        breaker.observe(FailureClass.SERVER, 0.0)
        breaker.observe(None, 0.0)
    assert not breaker.is_open
    assert broken().is_open


def test_open_it_lets_one_call_probe_per_cooldown() -> None:
    breaker = broken()
    assert breaker.wait_s(1.0) == pytest.approx(4.0)
    assert breaker.wait_s(5.0) == 0.0
    waiting = breaker.wait_s(5.1)
    assert waiting is not None
    assert waiting > 0


def test_a_successful_probe_closes_it() -> None:
    breaker = broken()
    assert breaker.wait_s(5.0) == 0.0
    breaker.observe(None, 5.5)
    assert not breaker.is_open
    assert breaker.wait_s(5.6) == 0.0


def test_callers_give_up_once_patience_is_spent() -> None:
    breaker = broken()
    assert breaker.wait_s(5.0) == 0.0
    breaker.observe(FailureClass.OVERLOADED, 5.5)
    assert breaker.wait_s(64.0) == 0.0
    assert breaker.wait_s(64.1) is None


def test_throttling_neither_opens_nor_closes_it() -> None:
    breaker = Breaker(POLICY)
    for _ in range(50):
        breaker.observe(FailureClass.RATE_LIMITED, 0.0)
    assert not breaker.is_open
    opened = broken()
    opened.observe(FailureClass.RATE_LIMITED, 1.0)
    assert opened.is_open


@pytest.mark.parametrize(
    "failure", [FailureClass.AUTH, FailureClass.BILLING, FailureClass.NOT_FOUND]
)
def test_a_refusal_only_an_operator_can_mend_is_remembered(failure: FailureClass) -> None:
    breaker = Breaker(POLICY)
    breaker.observe(failure, 0.0)
    assert breaker.refused is failure


def test_a_bad_prompt_says_nothing_about_the_models_health() -> None:
    breaker = Breaker(POLICY)
    for _ in range(10):
        breaker.observe(FailureClass.BAD_REQUEST, 0.0)
    assert not breaker.is_open
    assert breaker.refused is None
