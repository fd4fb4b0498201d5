"""Each cause of drift is told from the others, on the sandbox's own prompts, replies and grades."""

import pytest

from app.stats.drift import Cause
from tests.calibration.sandbox_drift import first_causes

CAUSES = (Cause.PRIMARY, Cause.TRAFFIC, Cause.JUDGE, Cause.PRICE)


@pytest.mark.parametrize("cause", CAUSES)
async def test_a_cause_is_named_within_two_runs_and_no_other(cause: Cause) -> None:
    assert await first_causes(cause, 1) == (cause,)


async def test_nothing_is_named_while_nothing_changes() -> None:
    assert await first_causes(None, 1) == ()


@pytest.mark.slow
@pytest.mark.parametrize("cause", CAUSES)
async def test_a_cause_is_named_in_at_least_nine_of_ten_worlds(cause: Cause) -> None:
    named = [await first_causes(cause, seed) for seed in range(1, 21)]

    print(f"{cause}: {sum(found == (cause,) for found in named)} of {len(named)}; {named}")
    assert sum(found == (cause,) for found in named) >= 18
