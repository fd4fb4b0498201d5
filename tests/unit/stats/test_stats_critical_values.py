"""The shipped table is what its simulation yields, and agrees with the published figures."""

import numpy as np
import pytest

from app.stats.critical_values import TABLE, critical_value, simulate_maxima, table

PUBLISHED = {
    0.05: (3.43, 3.64, 3.75, 3.83, 3.95, 4.02, 4.13),
    0.10: (3.20, 3.43, 3.55, 3.64, 3.75, 3.83, 3.95),
    0.20: (2.94, 3.20, 3.33, 3.43, 3.55, 3.64, 3.75),
}


@pytest.mark.parametrize("alpha", sorted(PUBLISHED))
def test_the_table_agrees_with_the_published_one(alpha: float) -> None:
    ours = [critical_value(m, alpha) for m in (1, 2, 3, 4, 6, 8, 12)]
    assert ours == pytest.approx(PUBLISHED[alpha], abs=0.015)


def test_the_shipped_table_is_what_the_simulation_yields() -> None:
    assert table(simulate_maxima(), [level for level, _ in TABLE]) == TABLE


def test_another_seed_finds_nearly_the_same_values() -> None:
    again = table(simulate_maxima(100_000, seed=99), [0.2, 0.05, 0.0125])
    assert [c for _, c in again] == pytest.approx(
        [critical_value(1, 0.2), critical_value(1, 0.05), critical_value(4, 0.05)], abs=0.03
    )


def test_only_the_budget_per_candidate_matters() -> None:
    assert critical_value(2, 0.10) == critical_value(1, 0.05)
    assert critical_value(5, 0.05) == critical_value(10, 0.10)


def test_more_candidates_or_a_smaller_budget_ask_for_more() -> None:
    by_candidates = [critical_value(m, 0.05) for m in range(1, 2000, 7)]
    assert (np.diff(by_candidates) > 0).all()
    by_alpha = [critical_value(1, alpha) for alpha in np.geomspace(1e-7, 0.5, 300)]
    assert (np.diff(by_alpha) < 0).all()


def test_values_between_levels_lie_between_their_neighbours() -> None:
    assert critical_value(4, 0.05) < critical_value(5, 0.05) < critical_value(6, 0.05)


@pytest.mark.parametrize(("candidates", "alpha"), [(0, 0.05), (1, 0.0), (1, 0.6), (1, np.nan)])
def test_a_budget_out_of_range_is_refused(candidates: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"candidate|budget"):
        critical_value(candidates, alpha)
