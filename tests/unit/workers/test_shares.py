import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.models import Endpoint
from app.workers.shares import Shares, share_of


@given(st.integers(0, 200), st.integers(1, 50))
def test_all_shares_together_are_the_endpoints_concurrency(total: int, workers: int) -> None:
    shares = [share_of(total, place=place, workers=workers) for place in range(workers)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("place", "workers"), [(-1, 2), (2, 2), (0, 0)])
def test_who_is_not_among_the_workers_has_no_share(place: int, workers: int) -> None:
    assert share_of(8, place=place, workers=workers) == 0


def test_before_its_place_is_known_a_worker_makes_no_call() -> None:
    assert Shares()(Endpoint(base_url="http://localhost:1", concurrency=8)) == 0


def test_a_worker_keeps_to_its_own_limit_and_to_its_share() -> None:
    endpoint = Endpoint(base_url="http://localhost:1", concurrency=64)
    shares = Shares(16)
    shares.settle(place=0, workers=1)
    assert shares(endpoint) == 16
    shares.settle(place=0, workers=8)
    assert shares(endpoint) == 8
