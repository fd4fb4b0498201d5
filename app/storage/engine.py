"""The engine: connections that give up in time, and errors in our own words.

Nothing here waits for ever. A server that closes a connection is noticed at once; one that is
frozen is not, and asking it to cancel would wait for it again. So every wait for an answer has a
deadline at which the socket is hung up, and the answer becomes an error.

No start-up parameter and no prepared statement is used, and limits are set per transaction: a
pooler such as PgBouncer may stand between.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Executable, Row, TextClause, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.domain.errors import StorageUnavailable
from app.storage.outages import Outages

ANSWER_WITHIN_S = 15.0
STATEMENT_WITHIN_S = 12.0
LOCK_WITHIN_S = 8.0
_GREETING_WITHIN_S = 5.0
_CONNECTED_WITHIN_S = 15.0
_POOL_WITHIN_S = 8.0
_ROWS_IN_A_PART = 1000

_CONNECT_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "prepare_threshold": None,
}
_DRIVER = re.compile(r"^postgres(ql)?(\+\w+)?://")
_TIMER = "hang_up_timer"
_T = TypeVar("_T")

#: Trouble that passes without us: the server is away, full, read-only, busy, or was cut off.
PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    psycopg.errors.InsufficientPrivilege,
    OSError,
    TimeoutError,
)
_WORDS: dict[str, str] = {
    "53100": "the disk of the results database is full: free space and work goes on",
    "25006": "the results database accepts no writes: it is a standby or was made read-only",
    "42501": "the results database refuses a right: grant it to the role of DATABASE_URL",
    "57014": "the results database took too long",
    "55P03": "the results database took too long: a lock is held",
    "53300": "the results database has no connection left",
}


class Database:
    """The results database: one pool, and transactions that end in time.

    Args:
        dsn: `postgresql://…`, psycopg 3 behind it.
        pool_size: Connections kept; as many again may be opened for a moment.
        answer_within_s: Seconds to wait for the answer to one statement; the server ends it a
            little before.
    """

    def __init__(
        self, dsn: str, *, pool_size: int = 4, answer_within_s: float = ANSWER_WITHIN_S
    ) -> None:
        self.dsn = dsn
        self._answer_within_s = answer_within_s
        self._limits = _limits(answer_within_s)
        self._outages = Outages()
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=lambda: connected(dsn),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=_POOL_WITHIN_S,
            use_native_hstore=False,
            hide_parameters=True,  # they hold prompts and replies
        )
        engine = self._engine.sync_engine
        event.listen(engine, "before_cursor_execute", self._asks)
        event.listen(engine, "after_cursor_execute", self._answered)
        event.listen(engine, "commit", self._ends)
        event.listen(engine, "rollback", self._ends)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed at the end.

        Raises:
            StorageUnavailable: If the database cannot be reached or does not answer in time.
        """
        with self._told(), _in_our_words():
            connection = await self._connected()
            info = connection.info
            try:
                yield connection
                await connection.commit()
            finally:
                await asyncio.shield(_give_back(connection, info))

    async def in_parts(
        self,
        connection: AsyncConnection,
        statement: Executable,
        values: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Sequence[Row[Any]], None]:
        """The rows of a large result, so many at once that memory holds one part of them.

        Each part is fetched within the deadline of an answer. Close it before the transaction ends.

        Args:
            connection: The open transaction.
            statement: A query.
            values: Its parameters.
        """
        options = {"yield_per": _ROWS_IN_A_PART}
        rows = await connection.stream(statement, values, execution_options=options)
        line: Any = (await connection.get_raw_connection()).driver_connection
        try:
            while part := await self._in_time(line, rows.fetchmany(_ROWS_IN_A_PART)):
                yield part
        finally:
            await self._in_time(line, rows.close())

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Take note of trouble on its way to whoever waits it out."""
        try:
            yield
        except StorageUnavailable as error:
            self._outages.note(str(error))
            raise

    async def close(self) -> None:
        """Give back all connections."""
        await self._engine.dispose()

    async def _connected(self) -> AsyncConnection:
        """A connection that has just answered; one that went stale in the pool is replaced.

        The first failure empties the pool, so that the second connection is a new one.
        """
        async with asyncio.timeout(_CONNECTED_WITHIN_S):
            try:
                return await self._greeted()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return await self._greeted()

    async def _greeted(self) -> AsyncConnection:
        connection = await self._engine.connect()
        info = connection.info
        try:
            await connection.execute(self._limits)
        except BaseException:
            with suppress(DBAPIError):
                await asyncio.shield(_give_back(connection, info))
            raise
        return connection

    async def _in_time(self, line: psycopg.AsyncConnection[Any], answer: Awaitable[_T]) -> _T:
        with hanging_up(line, after_s=self._answer_within_s):
            return await answer

    # --- deadlines ------------------------------------------------------------------------------

    def _asks(self, connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        is_greeting = statement == self._limits.text
        _arm(connection, _GREETING_WITHIN_S if is_greeting else self._answer_within_s)

    def _answered(self, connection: Connection, *_rest: Any) -> None:
        _disarm(connection.info)

    def _ends(self, connection: Connection) -> None:
        if not connection.invalidated:
            _arm(connection, self._answer_within_s)


async def connected(dsn: str) -> psycopg.AsyncConnection[Any]:
    """A new connection; give up after seconds, whoever is at the other end."""
    return await psycopg.AsyncConnection.connect(
        _DRIVER.sub("postgresql://", dsn), **_CONNECT_OPTIONS
    )


def hanging_up(
    connection: psycopg.AsyncConnection[Any], *, after_s: float
) -> AbstractContextManager[None]:
    """Hang up if the block takes longer; whatever waits in it then fails at once."""

    @contextmanager
    def guarded() -> Iterator[None]:
        timer = asyncio.get_running_loop().call_later(after_s, hang_up, connection)
        try:
            yield
        finally:
            timer.cancel()

    return guarded()


def hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket down under the connection: the one end of a wait that needs no server."""
    with (
        suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


def unavailable(error: BaseException) -> StorageUnavailable:
    """The error as StorageUnavailable, in words for operators and without addresses."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    known = _WORDS.get(getattr(cause, "sqlstate", None) or "")
    words = known or f"the results database does not answer: {type(cause).__name__}"
    refusal = StorageUnavailable(words)
    refusal.__cause__ = error
    return refusal


def _limits(answer_within_s: float) -> TextClause:
    """Sets the limits of one transaction: the server gives a statement up before we do."""
    statement_ms = 1000 * answer_within_s * STATEMENT_WITHIN_S / ANSWER_WITHIN_S
    return text(
        f"SELECT set_config('statement_timeout', '{statement_ms:.0f}ms', true),"
        f" set_config('lock_timeout', '{1000 * LOCK_WITHIN_S:.0f}ms', true)"
    )


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Turn the driver's trouble into StorageUnavailable; bugs and refused rows stay what they are.

    Raises:
        StorageUnavailable: For trouble that passes.
    """
    try:
        yield
    except (PoolTimeout, *PASSING) as error:
        raise unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error.orig, PASSING):
            raise unavailable(error) from error
        raise


async def _give_back(connection: AsyncConnection, info: dict[Any, Any]) -> None:
    """Roll back what was not committed and return the connection to the pool."""
    try:
        await connection.close()
    finally:
        _disarm(info)


def _arm(connection: Connection, within_s: float) -> None:
    """Start the clock on what the server is asked."""
    driver_connection: Any = connection.connection.driver_connection
    _disarm(connection.info)
    connection.info[_TIMER] = asyncio.get_running_loop().call_later(
        within_s, hang_up, driver_connection
    )


def _disarm(info: dict[Any, Any]) -> None:
    timer = info.pop(_TIMER, None)
    if timer is not None:
        timer.cancel()
