"""The engine: connections that give up in time, and errors in our own words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.domain.errors import StorageUnavailable

DEADLINE_S = 30.0
CONNECT_OPTIONS: dict[str, int | str] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "options": "-c statement_timeout=25000 -c lock_timeout=15000",
}


class Database:
    """The results database: one pool, transactions with a client-side deadline.

    Args:
        dsn: `postgresql://…`, psycopg 3 behind it.
    """

    def __init__(self, dsn: str, *, pool_size: int = 4) -> None:
        self.dsn = dsn
        self._engine: AsyncEngine = create_async_engine(
            dsn.replace("postgres://", "postgresql://", 1),
            pool_size=pool_size,
            max_overflow=4,
            pool_pre_ping=True,
            connect_args=CONNECT_OPTIONS,
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed at the end.

        Raises:
            StorageUnavailable: If the database cannot be reached or does not answer in time.
        """
        try:
            async with asyncio.timeout(DEADLINE_S), self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, TimeoutError, OSError) as error:
            raise StorageUnavailable(
                f"the results database does not answer: {type(error).__name__}"
            ) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise StorageUnavailable("the results database cut the connection") from error
            raise

    async def close(self) -> None:
        """Give back all connections."""
        await self._engine.dispose()
