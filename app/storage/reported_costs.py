"""What calls cost by our prices, beside what the gateway says they cost."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from app.domain.prices import CostCheck
from app.storage.engine import Database
from app.storage.tables import ATTEMPTS


async def reported_costs(
    dsn: str, plan_name: str, *, since: datetime, run_id: str | None = None
) -> Sequence[CostCheck]:
    """Per model, the sum of both over the calls for which both are known.

    Raises:
        StorageUnavailable: If the results database cannot be reached.
    """
    query = (
        select(
            ATTEMPTS.c.model_name,
            func.count(),
            func.sum(ATTEMPTS.c.cost_usd),
            func.sum(ATTEMPTS.c.reported_cost_usd),
        )
        .where(
            ATTEMPTS.c.plan_name == plan_name,
            ATTEMPTS.c.sent_at >= since,
            ATTEMPTS.c.cost_usd.is_not(None),
            ATTEMPTS.c.reported_cost_usd.is_not(None),
        )
        .group_by(ATTEMPTS.c.model_name)
        .order_by(ATTEMPTS.c.model_name)
    )
    if run_id is not None:
        query = query.where(ATTEMPTS.c.run_id == run_id)
    database = Database(dsn, pool_size=1)
    try:
        async with database.transaction() as connection:
            rows = (await connection.execute(query)).all()
    finally:
        await database.close()
    return [
        CostCheck(model_name=name, calls=calls, computed_usd=computed, reported_usd=reported)
        for name, calls, computed, reported in rows
    ]
