from statistics import mean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.draws import fingerprint, level, normal, share, stream, uniform


def test_a_draw_depends_on_its_parts_alone() -> None:
    first = [uniform("a", 1), normal("a", 1), stream("a", 1).random()]
    uniform("something else")
    assert [uniform("a", 1), normal("a", 1), stream("a", 1).random()] == first
    assert uniform("a", 1) != uniform("a", 2)
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


@pytest.mark.parametrize("steps", [1, 4, 5, 20])
@pytest.mark.parametrize("wanted", [0.03, 0.22, 0.65, 0.85, 0.97])
def test_levels_have_exactly_the_mean_that_was_asked_for(wanted: float, steps: int) -> None:
    drawn = [level((i + 0.5) / 4000, wanted, 0.2, steps) / steps for i in range(4000)]
    assert mean(drawn) == pytest.approx(wanted, abs=0.002)


def test_levels_have_the_spread_that_was_asked_for() -> None:
    drawn = [level((i + 0.5) / 4000, 0.85, 0.2, 20) / 20 for i in range(4000)]
    assert pstdev(drawn) == pytest.approx(0.2, abs=0.003)


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([0.1, 0.5, 0.85]),
    st.sampled_from([1, 4, 20]),
)
def test_a_higher_place_never_gives_a_lower_level(
    place: float, other: float, wanted: float, steps: int
) -> None:
    low, high = sorted((place, other))
    assert level(low, wanted, 0.2, steps) <= level(high, wanted, 0.2, steps)
    assert 0 <= level(high, wanted, 0.2, steps) <= steps


def test_a_perfect_mean_is_perfect_everywhere_and_a_zero_mean_nowhere() -> None:
    assert {level(place / 10, 1.0, 0.2, 20) for place in range(1, 10)} == {20}
    assert {level(place / 10, 0.0, 0.2, 20) for place in range(1, 10)} == {0}


def test_normal_numbers_are_normal() -> None:
    drawn = [normal("n", i) for i in range(4000)]
    assert mean(drawn) == pytest.approx(0, abs=0.05)
    assert pstdev(drawn) == pytest.approx(1, abs=0.05)
    assert share(0.0) == pytest.approx(0.5)
