from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from app.sampling.blocks import Member, assign_blocks


def members(count: int, *, strata: int = 1, per_conversation: int = 1) -> list[Member]:
    return [
        Member(
            key=f"case-{n}",
            stratum=f"stratum-{n % strata}",
            conversation=f"talk-{n // per_conversation}" if per_conversation > 1 else None,
        )
        for n in range(count)
    ]


def test_blocks_hold_twenty_cases() -> None:
    sizes = Counter(assign_blocks(members(100), seed=1).values())
    assert sizes == dict.fromkeys(range(5), 20)


def test_a_small_rest_joins_the_block_before() -> None:
    sizes = Counter(assign_blocks(members(47), seed=1).values())
    assert sizes == {0: 20, 1: 27}


def test_fewer_cases_than_a_block_are_one_block() -> None:
    assert set(assign_blocks(members(7), seed=1).values()) == {0}


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 150), per=st.integers(2, 7))
def test_conversations_stay_whole(seed: int, size: int, per: int) -> None:
    cases = members(size, per_conversation=per)
    blocks = assign_blocks(cases, seed=seed)
    places = defaultdict(set)
    for case in cases:
        places[case.conversation].add(blocks[case.key])
    assert all(len(found) == 1 for found in places.values())


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), order=st.randoms(use_true_random=False))
def test_the_order_of_cases_does_not_matter(seed: int, order: object) -> None:
    cases = members(60, strata=3)
    shuffled = list(cases)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assign_blocks(cases, seed=seed) == assign_blocks(shuffled, seed=seed)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_block_holds_each_stratum_in_proportion(seed: int) -> None:
    cases = [
        Member(key=f"c{n}", stratum="a" if n < 60 else "b" if n < 90 else "c", conversation=None)
        for n in range(100)
    ]
    blocks = assign_blocks(cases, seed=seed)
    for block in range(5):
        counts = Counter(case.stratum for case in cases if blocks[case.key] == block)
        assert abs(counts["a"] - 12) <= 2
        assert abs(counts["b"] - 6) <= 2
        assert abs(counts["c"] - 2) <= 2


def test_each_case_is_as_likely_in_any_block() -> None:
    cases = members(60, strata=2)
    firsts = Counter(
        key
        for seed in range(600)
        for key, block in assign_blocks(cases, seed=seed).items()
        if block == 0
    )
    expected = 200
    chi_square = sum((firsts[case.key] - expected) ** 2 / expected for case in cases)
    assert chi_square < 120  # 59 degrees of freedom at most; the 99.99 % point of chi-square is 107
