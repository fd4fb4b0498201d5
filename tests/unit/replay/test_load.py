import itertools
import random
from statistics import mean, pstdev

import pytest

from app.replay.load import ClosedLoad, PoissonLoad
from tests.fakes.clocks import HandClock


def load(clock: HandClock, rate_per_s: float = 4.0) -> PoissonLoad:
    return PoissonLoad(rate_per_s, clock=clock, rng=random.Random(3))


async def test_closed_load_lets_calls_start_at_once() -> None:
    assert await ClosedLoad().arrival("p") is None


async def test_gaps_between_arrivals_are_exponential_with_the_mean_of_the_rate() -> None:
    clock = HandClock()
    made = load(clock)
    due = [await made.arrival("p") for _ in range(4000)]
    gaps = [after - before for before, after in itertools.pairwise(due) if after and before]
    assert mean(gaps) == pytest.approx(0.25, rel=0.05)
    assert pstdev(gaps) == pytest.approx(0.25, rel=0.05)


async def test_a_call_starts_when_it_is_due() -> None:
    clock = HandClock()
    assert await load(clock).arrival("p") == pytest.approx(clock.monotonic())


async def test_a_late_caller_does_not_move_later_arrivals() -> None:
    """No coordinated omission: the schedule goes on while earlier calls hang."""
    punctual, late = HandClock(), HandClock()
    on_time, held_up = load(punctual), load(late)
    expected = [await on_time.arrival("p") for _ in range(10)]
    told = []
    for _ in range(10):
        told.append(await held_up.arrival("p"))
        late.advance(5.0)
    assert told == pytest.approx(expected)


async def test_every_model_has_arrivals_of_its_own() -> None:
    clock = HandClock()
    made = load(clock)
    first = [await made.arrival("p") for _ in range(50)]
    second = await made.arrival("a")
    assert first[-1] is not None
    assert second is not None
    assert second >= first[-1]


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive rate"):
        load(HandClock(), rate_per_s=0.0)
