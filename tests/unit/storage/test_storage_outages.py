"""Which trouble with Postgres passes by itself, and how it is told."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from app.storage.engine import PASSING, unavailable


@pytest.mark.parametrize(
    "error",
    [
        errors.DiskFull,
        errors.ReadOnlySqlTransaction,
        errors.AdminShutdown,
        errors.CrashShutdown,
        errors.CannotConnectNow,
        errors.TooManyConnections,
        errors.QueryCanceled,
        errors.LockNotAvailable,
        errors.DeadlockDetected,
        errors.InsufficientPrivilege,
        errors.IoError,
        psycopg.OperationalError,
        ConnectionResetError,
        TimeoutError,
    ],
)
def test_what_passes_is_waited_for(error: type[Exception]) -> None:
    assert issubclass(error, PASSING)


@pytest.mark.parametrize(
    "error",
    [
        errors.UniqueViolation,
        errors.CheckViolation,
        errors.NotNullViolation,
        errors.NumericValueOutOfRange,
        errors.InvalidTextRepresentation,
        errors.UndefinedTable,
        errors.UndefinedColumn,
        ValueError,
    ],
)
def test_what_never_passes_is_not_waited_for(error: type[Exception]) -> None:
    assert not issubclass(error, PASSING)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.DiskFull(), "free space"),
        (errors.ReadOnlySqlTransaction(), "no writes"),
        (errors.InsufficientPrivilege(), "grant"),
        (errors.LockNotAvailable(), "a lock is held"),
        (errors.QueryCanceled(), "too long"),
        (psycopg.errors.ConnectionTimeout(), "does not answer: ConnectionTimeout"),
    ],
)
def test_an_outage_is_told_in_words_to_act_on(error: Exception, words: str) -> None:
    assert words in str(unavailable(error))
    assert words in str(unavailable(DBAPIError("SELECT 'canary'", None, error)))


def test_an_outage_is_told_without_statements_addresses_and_values() -> None:
    error = psycopg.OperationalError("connection to canary.example failed: password canary")
    assert "canary" not in str(unavailable(DBAPIError("SELECT 'canary'", ["canary"], error)))
