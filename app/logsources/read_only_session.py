"""One session on the operator's log database that can only read, and never waits for ever."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.domain.errors import LogSourceAway, LogSourceError

Params = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]

_CONNECTING: Mapping[str, str] = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "switchwise",
}
#: A server that does not obey its own timeout is given this much longer.
_GRACE_S = 10.0
_DATA_ERRORS = "22"
_ADMISSION_ERRORS = ("28", "3D")
_REASONS = (
    ("password authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it asks for a password and the DSN has none"),
    ("pg_hba.conf", "its pg_hba.conf has no entry for us"),
    ('role "', "it does not know the user"),
    ('database "', "it has no such database"),
    ("translate host name", "its host name is not known"),
    ("name or service not known", "its host name is not known"),
    ("failed to resolve host", "its host name is not known"),
    ("certificate", "its certificate is not accepted"),
    ("ssl", "TLS is not agreed on"),
    ("timeout", "no answer in time"),
    ("refused", "nothing listens at its address"),
    ("no such file", "nothing listens at its socket"),
    ("closed the connection", "it closed the connection"),
)
_MALFORMED = (
    "the address of the log database cannot be understood: it must read "
    "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the password "
    "percent-encoded (@ as %40, / as %2F)"
)


class StatementTooSlow(LogSourceError):
    """A statement on the log database took longer than it may."""


class ReadOnlySession:
    """Runs single statements in read-only transactions; reconnects when the connection is gone.

    Every transaction is declared READ ONLY and sets its own timeout, so that a pooler that hands
    the server connection to others between transactions changes nothing.
    """

    def __init__(self, dsn: str, *, statement_timeout_s: float) -> None:
        self._dsn = dsn
        self._timeout_s = statement_timeout_s
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._lock = asyncio.Lock()

    async def rows(self, statement: sql.Composable, params: Params | None = None) -> Rows:
        """All rows of one statement.

        Raises:
            LogSourceError: If the database cannot be reached or refuses.
            StatementTooSlow: If it takes longer than the statement timeout.
        """
        rows, _ = await self._run(statement, params)
        return rows

    async def columns(self, statement: sql.Composable) -> Sequence[tuple[str, int]]:
        """Name and type oid of each column that the statement returns."""
        _, columns = await self._run(statement, None)
        return columns

    async def close(self) -> None:
        """Give back the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _run(
        self, statement: sql.Composable, params: Params | None
    ) -> tuple[Rows, Sequence[tuple[str, int]]]:
        query = statement.as_bytes(None)
        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout_s + _GRACE_S):
                    return await self._execute_again_if_gone(query, params)
            except TimeoutError as error:
                await self.close()
                raise self._too_slow() from error
            except psycopg.errors.QueryCanceled as error:
                raise self._too_slow() from error
            except psycopg.Error as error:
                kind = LogSourceAway if _may_pass(error) else LogSourceError
                raise kind(_words(error)) from error

    async def _execute_again_if_gone(
        self, query: bytes, params: Params | None
    ) -> tuple[Rows, Sequence[tuple[str, int]]]:
        was_open = self._connection is not None
        try:
            return await self._execute(query, params)
        except psycopg.OperationalError:
            is_gone = self._connection is not None and self._connection.closed
            if not (was_open and is_gone):
                raise
        await self.close()
        return await self._execute(query, params)

    async def _execute(
        self, query: bytes, params: Params | None
    ) -> tuple[Rows, Sequence[tuple[str, int]]]:
        if self._connection is None:
            self._connection = await self._connect()
        async with self._connection.transaction():
            await self._connection.execute(
                "SELECT set_config('statement_timeout', %s, true),"
                " set_config('TimeZone', 'UTC', true)",
                (f"{round(self._timeout_s * 1000)}ms",),
            )
            cursor = await self._connection.execute(query, params or {})
            columns = [(column.name, column.type_code) for column in cursor.description or ()]
            return await cursor.fetchall(), columns

    async def _connect(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        options = conninfo_to_dict(libpq_dsn(self._dsn))
        own = str(options.get("options") or "")
        timeout = f"-c statement_timeout={round(self._timeout_s * 1000)}"
        read_only = f"{own} -c default_transaction_read_only=on {timeout}".strip()
        known = {name: value for name, value in _CONNECTING.items() if name not in options}
        try:
            connection = await _open(options | known | {"options": read_only})
        except psycopg.OperationalError as error:
            if "startup parameter" not in str(error):  # poolers refuse `options`
                raise
            connection = await _open(options | known)
        await connection.set_read_only(True)
        connection.prepare_threshold = None
        server = connection.info.parameter_status("server_encoding")
        # Text of a SQL_ASCII server is in any encoding: take bytes rather than fail on one row.
        wanted = "SQL_ASCII" if server == "SQL_ASCII" else "UTF8"
        if connection.info.parameter_status("client_encoding") != wanted:
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('client_encoding', %s, false)", (wanted,)
                )
        return connection

    def _too_slow(self) -> StatementTooSlow:
        return StatementTooSlow(
            "a statement on the log database took longer than logs.statement_timeout "
            f"({self._timeout_s:g} s)"
        )


def libpq_dsn(dsn: str) -> str:
    """The DSN without a driver's name in its scheme."""
    scheme, mark, rest = dsn.partition("://")
    return scheme.partition("+")[0] + mark + rest if mark else dsn


def as_text(value: str | bytes) -> str:
    """Text as it came from a server of any encoding; undecodable bytes are shown escaped."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


async def _open(options: Mapping[str, Any]) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    return await psycopg.AsyncConnection.connect(make_conninfo(**options))


def _may_pass(error: psycopg.Error) -> bool:
    """Whether the server was not reached, is starting, stopping or full of connections.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(("08", "57P", "53"))


def _words(error: psycopg.Error) -> str:
    """What went wrong, without values of rows and without the DSN."""
    state = error.sqlstate
    if state is None:
        if isinstance(error, psycopg.OperationalError):
            return f"the log database cannot be reached: {_why(error)}"
        if isinstance(error, psycopg.ProgrammingError):
            return _MALFORMED
        return f"the log database cannot be read: {type(error).__name__}"
    if state.startswith(_ADMISSION_ERRORS):
        return f"the log database does not admit us: {_why(error)} (SQLSTATE {state})"
    message = error.diag.message_primary or type(error).__name__
    if state.startswith(_DATA_ERRORS):
        message = f"{type(error).__name__} (a value does not fit an expression of logs.*)"
    return f"the log database refuses the statement: {message} (SQLSTATE {state})"


def _why(error: psycopg.Error) -> str:
    """Why there is no connection: the driver's own words name host, port, user and database."""
    told = str(error).casefold()
    return next((why for sign, why in _REASONS if sign in told), type(error).__name__)
