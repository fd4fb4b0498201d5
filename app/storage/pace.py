"""Pace: when the next call of an endpoint may leave, kept in one row for all processes.

Calls of an endpoint are spaced evenly: whoever asks is told to wait until the instant after the
last one that was given away. The database's clock alone is read, so that the clocks of workers
need not agree.
"""

from sqlalchemy import text

from app.domain.models import Endpoint
from app.storage.engine import Database

_MOST_ROUNDS_AHEAD = 4
_TURN = text("""
    INSERT INTO switchwise.endpoint_pace AS r (endpoint, next_at)
    VALUES (:endpoint, clock_timestamp() + make_interval(secs => :spacing_s))
    ON CONFLICT (endpoint) DO UPDATE SET next_at =
      least(
        greatest(r.next_at, clock_timestamp()),
        clock_timestamp() + make_interval(secs => :spacing_s * :most_ahead)
      ) + make_interval(secs => :spacing_s)
    RETURNING extract(epoch FROM next_at - clock_timestamp())::float8 - :spacing_s
""")


class PostgresPace:
    """Turns of endpoints that have a rate, given one at a time across processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def turn(self, endpoint: Endpoint) -> float:
        """Take the endpoint's next turn and return the seconds until it comes.

        A turn that nobody uses is lost. A clock of the database that was set back delays calls by a
        few rounds of all slots, no longer.

        Raises:
            StorageUnavailable: If the database does not answer; the call must not be sent.
        """
        if endpoint.rate_per_min is None:
            return 0.0
        async with self._database.transaction() as connection:
            found = await connection.execute(
                _TURN,
                {
                    "endpoint": endpoint.key,
                    "spacing_s": 60.0 / endpoint.rate_per_min,
                    "most_ahead": _MOST_ROUNDS_AHEAD * endpoint.concurrency,
                },
            )
            wait_s = float(found.scalar_one())
        return max(0.0, wait_s)
