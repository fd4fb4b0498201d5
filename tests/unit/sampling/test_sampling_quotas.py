from math import isclose

from hypothesis import given, settings
from hypothesis import strategies as st

from app.sampling.quotas import allocate, can_stratify, replayable_share, traffic_shares

STRATA = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.integers(0, 5_000), min_size=1
)


@settings(deadline=None)
@given(rows=STRATA, wanted=st.integers(0, 300))
def test_a_quota_never_exceeds_what_the_stratum_holds(rows: dict[str, int], wanted: int) -> None:
    assert all(quota <= rows[name] for name, quota in allocate(wanted, rows).items())


@settings(deadline=None)
@given(rows=STRATA, wanted=st.integers(0, 300))
def test_all_rows_wanted_are_shared_out_where_there_are_enough(
    rows: dict[str, int], wanted: int
) -> None:
    assert sum(allocate(wanted, rows).values()) == min(wanted, sum(rows.values()))


@settings(deadline=None)
@given(rows=STRATA, wanted=st.integers(0, 300))
def test_every_stratum_gives_two_rows_where_possible(rows: dict[str, int], wanted: int) -> None:
    quotas = allocate(wanted, rows)
    if can_stratify(wanted, rows):
        assert all(quotas.get(name, 0) >= min(2, count) for name, count in rows.items())


@settings(deadline=None)
@given(rows=STRATA, wanted=st.integers(0, 300))
def test_the_order_of_strata_does_not_matter(rows: dict[str, int], wanted: int) -> None:
    assert allocate(wanted, rows) == allocate(wanted, dict(reversed(rows.items())))


def test_large_strata_give_in_proportion() -> None:
    assert allocate(100, {"a": 7_000, "b": 2_000, "c": 1_000}) == {"a": 70, "b": 20, "c": 10}


def test_what_a_rare_stratum_takes_is_borne_by_the_others_in_proportion() -> None:
    assert allocate(100, {"a": 66_000, "b": 32_000, "rare": 10}) == {"a": 66, "b": 32, "rare": 2}


def test_more_strata_than_half_the_rows_wanted_cannot_be_stratified() -> None:
    assert not can_stratify(9, dict.fromkeys("abcde", 10))


def test_the_replayable_share_of_an_exhausted_stratum_is_what_was_seen() -> None:
    assert replayable_share(looked_at=40, replayable=10, is_exhausted=True) == 0.25


def test_the_replayable_share_is_unbiased_when_the_draw_stops_at_its_target() -> None:
    """Inverse sampling: stop at the m-th replayable row of a coin with p = 1/2."""
    m, p = 3, 0.5
    mean = mass = 0.0
    chance = p**m  # of stopping at n = m
    for n in range(m, 400):
        mass += chance
        mean += chance * replayable_share(looked_at=n, replayable=m, is_exhausted=False)
        chance *= (1 - p) * n / (n - m + 1)
    assert isclose(mass, 1.0)
    assert isclose(mean, p)


def test_strata_without_replayable_rows_have_no_share() -> None:
    assert traffic_shares({"a": 30.0, "b": 10.0, "c": 0.0}) == {"a": 0.75, "b": 0.25}
