"""Caps hold, whatever is killed and however dear replies are."""

from decimal import Decimal
from pathlib import Path

import pytest

from app.sandbox.world import Fault, FaultKind
from app.sandbox.worlds import LARGE, PRICES, PRIME
from tests.faults.rig import Rig, moments, rig

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
        for moment in moments(seed, count=kills, first=5, last=40):
            made.until_received(moment, process)
            process.kill()
            assert used(made) <= CAP_USD
            process = made.resume()
        assert made.finish(process) == 4, made.errors_of(process)
        assert made.statuses() == {"partial": 1}
        assert used(made) <= CAP_USD
        assert paid(made) <= CAP_USD
        assert len(made.messages()) == 1


def used(made: Rig) -> Decimal:
    """What the ledger has charged to the cap; never less than the journal says."""
    ledger = made.value("SELECT coalesce(max(reserved_usd + spent_usd), 0) FROM switchwise.ledger")
    journal = made.value(
        "SELECT coalesce(sum(coalesce(cost_usd, reserved_usd)), 0) FROM switchwise.attempts"
    )
    assert ledger == journal
    return Decimal(ledger)


def paid(made: Rig) -> Decimal:
    """What the gateway would bill for every call that reached it."""
    return sum(
        (
            (call["input_tokens"] * price["input"] + call["output_tokens"] * price["output"])
            / 1_000_000
            for call in made.calls()
            if call["is_paid"] and (price := PRICES[call["model"]])
        ),
        Decimal(0),
    )
