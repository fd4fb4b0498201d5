"""Caps hold, whatever is killed and however dear replies are."""

from decimal import Decimal
from pathlib import Path

import pytest

from app.sandbox.world import Fault, FaultKind
from app.sandbox.worlds import LARGE, PRIME
from tests.faults.ledgers import paid, used
from tests.faults.rig import moments, rig

CAP_USD = Decimal("1.00")


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 6))]
)
def test_no_kill_lets_a_run_spend_more_than_its_cap(
    seed: int, tmp_path: Path, database_url: str
) -> None:
    kills = 2
    with rig(tmp_path, database_url, n=100, models=4, ttft_ms=80.0) as made:
        made.plan["budget"] = {"per_run_usd": float(CAP_USD)}
        for model in (PRIME, LARGE):
            made.change_model(
                model, tokens=4000, faults=(Fault(kind=FaultKind.TRUNCATION, rate=0.3),)
            )
        process = made.run()
        for moment in moments(seed, count=kills, first=5, last=25):
            made.until_received(moment, process)
            process.kill()
            assert used(made) <= CAP_USD
            process = made.resume()
        assert made.finish(process) == 4, made.errors_of(process)
        assert made.statuses() == {"partial": 1}
        assert used(made) <= CAP_USD
        assert paid(made) <= CAP_USD
        assert len(made.messages()) == 1
