"""Schema migrations: apply them, tell where the database stands, refuse what is not known."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.domain.errors import SchemaMismatch, StorageUnavailable
from app.storage.tables import BI_SCHEMA, QUEUE_SCHEMA, SCHEMA
from app.storage.views import READER_ROLE, create_statements, grant_statements

if TYPE_CHECKING:
    from alembic.config import Config

_SCRIPTS = Path(__file__).resolve().parents[2] / "alembic"
_VERSIONS = _SCRIPTS / "versions"
_VERSION_TABLE = "alembic_version"
_OLDEST_SERVER = 140000
#: Any constant serves, as long as every version of the program uses the same one.
_ADVISORY_LOCK = 0x5317C841
_TURN_WITHIN_S = 60.0
_LOCK_WAIT = "3s"
_POLL_S = 0.1


class SchemaState(StrEnum):
    """How the database's schema relates to this program's."""

    ABSENT = "absent"
    BEHIND = "behind"
    CURRENT = "current"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """Where the database stands.

    Attributes:
        revision: The database's revision, None when it holds no schema of ours.
        head: The revision this program needs.
        pending: Revisions that `upgrade` would apply, oldest first.
    """

    state: SchemaState
    revision: str | None
    head: str
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """What an upgrade did.

    Attributes:
        applied: Revisions that were applied, oldest first.
        grants_to_run: Statements an administrator must run, because this role may not.
    """

    applied: tuple[str, ...]
    revision: str
    grants_to_run: tuple[str, ...] = ()


def upgrade(dsn: str) -> Upgraded:
    """Bring the database to this program's schema, all or nothing; harmless when it is there.

    Raises:
        SchemaMismatch: The schema is of a newer program.
        StorageUnavailable: The database cannot be reached, or a lock was not had in time.
    """
    with _connected(dsn) as connection, connection.begin():
        _require_supported_server(connection)
        _take_turn(connection)
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
        before = _status(connection)
        if before.state is SchemaState.UNKNOWN:
            raise SchemaMismatch(_explain(before))
        if before.state is not SchemaState.CURRENT:
            from alembic import command  # noqa: PLC0415 - loaded where it works

            _make_schema(connection, SCHEMA)
            command.upgrade(_config(connection), "head")
            _make_schema(connection, BI_SCHEMA)
            for statement in create_statements():
                connection.exec_driver_sql(statement.replace("%", "%%"))  # the driver's escape
        _make_queue(connection)
        return Upgraded(
            applied=before.pending, revision=before.head, grants_to_run=_grant(connection)
        )


def downgrade(dsn: str, revision: str = "base") -> None:
    """Take the database back to an older schema; for tests and developers."""
    from alembic import command  # noqa: PLC0415 - loaded where it works

    with _connected(dsn) as connection, connection.begin():
        _take_turn(connection)
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
        command.downgrade(_config(connection), revision)


def status(dsn: str) -> SchemaStatus:
    """Where the database stands.

    Raises:
        StorageUnavailable: The database cannot be reached.
    """
    with _connected(dsn) as connection:
        return _status(connection)


def require_current(dsn: str) -> None:
    """Refuse to work on a schema that is not exactly this program's.

    Raises:
        SchemaMismatch: It is absent, older or newer; the message says what to do.
        StorageUnavailable: The database cannot be reached.
    """
    found = status(dsn)
    if found.state is not SchemaState.CURRENT:
        raise SchemaMismatch(_explain(found))


def _make_queue(connection: Connection) -> None:
    """Make the queue's own tables where they are missing; Alembic knows nothing of them."""
    found = connection.execute(text(f"SELECT to_regclass('{QUEUE_SCHEMA}.procrastinate_jobs')"))
    if found.scalar_one() is not None:
        return
    _make_schema(connection, QUEUE_SCHEMA)
    statements = files("procrastinate.sql").joinpath("schema.sql").read_text(encoding="utf-8")
    connection.execute(text(f"SET LOCAL search_path TO {QUEUE_SCHEMA}"))
    connection.exec_driver_sql(statements.replace("%", "%%"))
    connection.execute(text("SET LOCAL search_path TO public"))


def engine_for(dsn: str) -> Engine:
    """An engine without a pool, for a few statements.

    A role named like our schema would have it as its default schema, which Alembic takes for no
    schema at all; so the search path is fixed.
    """
    engine = create_engine(
        dsn.replace("postgres://", "postgresql://", 1),  # both are in use; one is understood
        poolclass=NullPool,
        connect_args={"connect_timeout": 10},
    )
    event.listen(engine, "connect", _fix_search_path, insert=True)
    return engine


def comparison_options() -> dict[str, Any]:
    """How Alembic looks at the database: our schema alone, the queue's and others left out."""
    return {
        "version_table": _VERSION_TABLE,
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": _is_ours,
        "compare_type": True,
        "compare_server_default": True,
    }


def revisions() -> tuple[str, ...]:
    """The revisions of this program, oldest first, as the names of the scripts tell them.

    Every command asks for them; Alembic, which takes a quarter of a second and 12 MB to load, is
    loaded only where it has something to do.
    """
    return tuple(sorted(path.stem.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py")))


def _fix_search_path(connection: Any, _record: object) -> None:
    connection.execute("SET search_path TO public")
    connection.commit()


def _is_ours(name: str | None, kind: str, _parents: Mapping[str, str | None]) -> bool:
    if kind == "schema":
        return name == SCHEMA
    return not (kind == "table" and name == _VERSION_TABLE)


@contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    engine = engine_for(dsn)
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        raise StorageUnavailable(_reason(error)) from error
    except DBAPIError as error:
        raise StorageUnavailable(f"the migration was refused: {_first_line(error)}") from error
    finally:
        engine.dispose()


def _reason(error: OperationalError) -> str:
    if getattr(error.orig, "sqlstate", None) == "55P03":
        return (
            f"a lock was not had within {_LOCK_WAIT}; nothing was changed. Another session holds "
            "it: look for `idle in transaction` in pg_stat_activity, end it and try again"
        )
    return f"the results database cannot be reached: {_first_line(error)}"


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip() or "it gave no reason").splitlines()[0]


def _require_supported_server(connection: Connection) -> None:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if version < _OLDEST_SERVER:
        raise StorageUnavailable(
            f"PostgreSQL {version // 10000} is too old: "
            f"{_OLDEST_SERVER // 10000} or newer is needed"
        )


def _take_turn(connection: Connection) -> None:
    """Wait for other migrations; two at once both succeed, one after the other."""
    deadline = time.monotonic() + _TURN_WITHIN_S
    ask = text("SELECT pg_try_advisory_xact_lock(:key)")
    while not connection.execute(ask, {"key": _ADVISORY_LOCK}).scalar_one():
        if time.monotonic() > deadline:
            raise StorageUnavailable(
                f"another migration has been at work for {_TURN_WITHIN_S:.0f} s"
            )
        time.sleep(_POLL_S)


def _config(connection: Connection) -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - loaded where it works

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _status(connection: Connection) -> SchemaStatus:
    known = revisions()
    head = known[-1]
    found = _found(connection)
    if not found:
        return SchemaStatus(state=SchemaState.ABSENT, revision=None, head=head, pending=known)
    revision = found[0]
    if len(found) > 1 or revision not in known:
        return SchemaStatus(state=SchemaState.UNKNOWN, revision=", ".join(found), head=head)
    pending = known[known.index(revision) + 1 :]
    state = SchemaState.BEHIND if pending else SchemaState.CURRENT
    return SchemaStatus(state=state, revision=revision, head=head, pending=pending)


def _found(connection: Connection) -> Sequence[str]:
    """The revisions that the database names."""
    table = f"{SCHEMA}.{_VERSION_TABLE}"
    if connection.execute(text(f"SELECT to_regclass('{table}')")).scalar() is None:
        return ()
    return list(connection.execute(text(f"SELECT version_num FROM {table}")).scalars())


def _explain(found: SchemaStatus) -> str:
    match found.state:
        case SchemaState.ABSENT:
            return "the results database holds no schema yet: run `switchwise db upgrade`"
        case SchemaState.BEHIND:
            return (
                f"the results database is at revision {found.revision}, this program needs "
                f"{found.head}: run `switchwise db upgrade`"
            )
        case SchemaState.UNKNOWN:
            return (
                f"the results database is at revision {found.revision}, which this program "
                f"(revision {found.head}) does not know: a newer version wrote it, so run that"
            )
        case SchemaState.CURRENT:
            return f"the results database is at revision {found.revision}"


def _make_schema(connection: Connection, name: str) -> None:
    """Make a schema unless it is there (IF NOT EXISTS would need the right even then)."""
    there = connection.execute(
        text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": name}
    ).scalar()
    if there is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")


def _grant(connection: Connection) -> tuple[str, ...]:
    """Let the reader role read the views; what this role may not do is returned, not done."""
    create = f"CREATE ROLE {READER_ROLE} NOLOGIN"
    if not _has_reader(connection) and not _try(connection, create) and not _has_reader(connection):
        return (create, *grant_statements())
    if _may_read(connection):
        return ()
    return tuple(sql for sql in grant_statements() if not _try(connection, sql))


def _has_reader(connection: Connection) -> bool:
    found = connection.execute(
        text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": READER_ROLE}
    )
    return found.scalar() is not None


def _may_read(connection: Connection) -> bool:
    found = connection.execute(
        text(
            "SELECT has_schema_privilege(:role, :schema, 'USAGE') AND "
            "bool_and(has_table_privilege(:role, c.oid, 'SELECT')) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema"
        ),
        {"role": READER_ROLE, "schema": BI_SCHEMA},
    )
    return bool(found.scalar())


def _try(connection: Connection, statement: str) -> bool:
    """Whether the statement succeeded; a refusal leaves the transaction usable."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":
            raise
        return False
    return True
