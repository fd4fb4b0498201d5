from dataclasses import replace

from app.cli.inspection import _unequal_limits
from app.domain.plans import Plan
from tests.fakes.small_plans import plan


def with_limits(concurrency: int, rate_per_min: float | None) -> Plan:
    """A plan whose candidate tells other limits of the endpoint it shares with the primary."""
    made = plan("haiku")
    candidate = made.candidates[0]
    endpoint = replace(made.primary.endpoint, concurrency=concurrency, rate_per_min=rate_per_min)
    return replace(made, candidates=(replace(candidate, endpoint=endpoint),))


def test_unequal_limits_of_one_endpoint_are_told_with_both_names() -> None:
    told = [finding.message for finding in _unequal_limits(with_limits(1, 60.0))]
    assert told == [
        "p (8) and haiku (1) share an endpoint: the lower counts for both",
        "p (none) and haiku (60) share an endpoint: give both the same",
    ]


def test_equal_limits_are_no_matter() -> None:
    assert list(_unequal_limits(with_limits(8, None))) == []
