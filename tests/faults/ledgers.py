"""What the ledger, the journal and the gateway say of the money."""

from decimal import Decimal

from app.sandbox.worlds import PRICES
from tests.faults.rig import Rig


def used(made: Rig) -> Decimal:
    """What the ledger has charged to the cap, which must be what the journal says."""
    row = made.query(
        "SELECT (SELECT coalesce(max(reserved_usd + spent_usd), 0) FROM switchwise.ledger) AS ledger,"
        " (SELECT coalesce(sum(coalesce(cost_usd, reserved_usd)), 0) FROM switchwise.attempts)"
        " AS journal"
    )[0]
    assert row["ledger"] == row["journal"]
    return Decimal(row["ledger"])


def paid(made: Rig) -> Decimal:
    """What the gateway would bill for every call that reached it."""
    total = Decimal(0)
    for call in made.calls():
        if call["is_paid"]:
            price = PRICES[call["model"]]
            tokens_usd = (
                call["input_tokens"] * price["input"] + call["output_tokens"] * price["output"]
            )
            total += tokens_usd / 1_000_000
    return total
