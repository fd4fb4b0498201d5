import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.models import Endpoint
from app.workers.shares import Place, Shares, share_of

LLM = Endpoint(base_url="http://localhost:1", concurrency=2)
JUDGE = Endpoint(base_url="http://localhost:2", concurrency=64)
QUEUES = {"plan": [LLM, JUDGE], "other plan": [LLM]}


def at(place: int, workers: int, *, queue: int | None = None) -> dict[str, Place]:
    """The same place everywhere, but for the queues."""
    one = Place(place=place, workers=workers)
    led = one if queue is None else Place(place=queue, workers=workers)
    return {LLM.key: one, JUDGE.key: one, "plan": led, "other plan": led}


@given(st.integers(0, 200), st.integers(1, 50))
def test_all_shares_together_are_the_endpoints_concurrency(total: int, workers: int) -> None:
    shares = [share_of(total, place=place, workers=workers) for place in range(workers)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("place", "workers"), [(-1, 2), (2, 2), (0, 0)])
def test_who_is_not_among_the_workers_has_no_share(place: int, workers: int) -> None:
    assert share_of(8, place=place, workers=workers) == 0


def test_before_its_places_are_known_a_worker_makes_no_call() -> None:
    assert Shares(QUEUES)(LLM) == 0
    assert not Shares(QUEUES).may_work("plan")


def test_a_worker_keeps_to_its_own_limit_and_to_its_share() -> None:
    shares = Shares(QUEUES, most=16)
    shares.settle(at(0, 1))
    assert shares(JUDGE) == 16
    shares.settle(at(0, 8))
    assert shares(JUDGE) == 8


def test_a_worker_without_a_slot_of_one_endpoint_leaves_the_queues_that_need_it() -> None:
    shares = Shares({**QUEUES, "judged only": [JUDGE]})
    shares.settle({**at(2, 3), "judged only": Place(place=2, workers=3)})
    assert shares(LLM) == 0
    assert not shares.may_work("plan")
    assert not shares.may_work("other plan")
    assert shares.may_work("judged only")


def test_the_first_worker_of_a_queue_has_a_slot_though_those_of_other_queues_have_them_all() -> (
    None
):
    shares = Shares(QUEUES)
    shares.settle(at(2, 3, queue=0))
    assert shares(LLM) == 1
    assert shares.may_work("plan")


def test_workers_are_counted_by_queue_and_by_endpoint() -> None:
    assert Shares(QUEUES).names == {"plan", "other plan", LLM.key, JUDGE.key}
