"""Migrations against a real Postgres: up, down, twice at once, behind a lock, from the future."""

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.domain.errors import SchemaMismatch, StorageUnavailable
from app.storage import migrations
from app.storage.migrations import SchemaState
from app.storage.tables import METADATA, SCHEMA
from app.storage.views import VIEWS, views_digest
from tests.fixtures.postgres import with_database

_REPOSITORY = Path(__file__).resolve().parents[2]


def _rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def _schemas(dsn: str) -> set[object]:
    found = _rows(dsn, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'switchwise%'")
    return {row[0] for row in found}


def test_the_scripts_follow_each_other_and_are_named_after_their_revisions() -> None:
    scripts = ScriptDirectory(str(_REPOSITORY / "alembic"))
    assert len(scripts.get_heads()) == 1
    told = [script.revision for script in scripts.walk_revisions()][::-1]
    assert migrations.revisions() == tuple(told)


def test_changed_views_come_with_a_new_migration() -> None:
    head = ScriptDirectory(str(_REPOSITORY / "alembic")).get_revision("head")
    assert head is not None
    assert head.module.views_digest == views_digest(), (
        "the views changed: add a migration (it may be empty) that names their new digest"
    )


def test_migrated_tables_equal_the_declared_ones(database_url: str) -> None:
    engine = migrations.engine_for(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=migrations.comparison_options())
        assert compare_metadata(context, METADATA) == []


def test_tables_of_others_are_not_seen_as_superfluous(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        (queue,) = connection.execute(
            "SELECT to_regclass('switchwise_queue.procrastinate_jobs')"
        ).fetchone() or (None,)
        assert queue is not None
        connection.execute("CREATE TABLE public.ai_logs (id int)")
    engine = migrations.engine_for(database_url)
    with engine.connect() as connection_2:
        context = MigrationContext.configure(connection_2, opts=migrations.comparison_options())
        assert compare_metadata(context, METADATA) == []


def test_views_have_the_declared_columns_types_and_comments(database_url: str) -> None:
    found = _rows(
        database_url,
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), "
        "col_description(c.oid, a.attnum), obj_description(c.oid) "
        "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
        "WHERE c.relnamespace = 'switchwise_bi'::regnamespace ORDER BY c.relname, a.attnum",
    )
    declared = [
        (view.name, column.name, column.kind, column.comment, view.comment)
        for view in sorted(VIEWS, key=lambda view: view.name)
        for column in view.columns
    ]
    assert found == declared


def test_every_view_answers_on_an_empty_schema(database_url: str) -> None:
    for view in VIEWS:
        assert _rows(database_url, f"SELECT * FROM switchwise_bi.{view.name}") == []


def test_going_down_and_up_again_leaves_the_same_schema(database_url: str) -> None:
    migrations.downgrade(database_url)
    assert "switchwise_bi" not in _schemas(database_url)
    assert migrations.status(database_url).state is SchemaState.ABSENT
    migrations.upgrade(database_url)
    test_migrated_tables_equal_the_declared_ones(database_url)
    test_views_have_the_declared_columns_types_and_comments(database_url)


def test_an_upgrade_says_what_it_applied_and_a_second_one_applies_nothing(
    empty_database_url: str,
) -> None:
    before = migrations.status(empty_database_url)
    assert before.state is SchemaState.ABSENT
    first = migrations.upgrade(empty_database_url)
    assert first.applied == before.pending
    second = migrations.upgrade(empty_database_url)
    assert second.applied == ()
    assert migrations.status(empty_database_url).state is SchemaState.CURRENT
    migrations.require_current(empty_database_url)


def test_an_empty_database_is_refused_with_the_command_to_run(empty_database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="switchwise db upgrade"):
        migrations.require_current(empty_database_url)


def test_a_schema_of_a_newer_program_is_refused_and_left_alone(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE switchwise.alembic_version SET version_num = '9999'")
    for act in (migrations.require_current, migrations.upgrade):
        with pytest.raises(SchemaMismatch, match=r"9999.*newer"):
            act(database_url)
    assert migrations.status(database_url).state is SchemaState.UNKNOWN
    assert _rows(database_url, "SELECT version_num FROM switchwise.alembic_version") == [("9999",)]


def test_two_upgrades_at_once_both_succeed(empty_database_url: str) -> None:
    script = "import sys; from app.storage.migrations import upgrade; upgrade(sys.argv[1])"
    processes = [
        subprocess.Popen([sys.executable, "-c", script, empty_database_url], cwd=_REPOSITORY)
        for _ in range(2)
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert migrations.status(empty_database_url).state is SchemaState.CURRENT


def test_behind_an_idle_transaction_an_upgrade_ends_soon_and_leaves_nothing(
    empty_database_url: str,
) -> None:
    with psycopg.connect(empty_database_url) as idle:
        idle.execute("CREATE SCHEMA switchwise_bi")
        started = time.monotonic()
        with pytest.raises(StorageUnavailable, match="idle in transaction"):
            migrations.upgrade(empty_database_url)
        assert time.monotonic() - started < 5
        idle.rollback()
    assert _schemas(empty_database_url) == set()


def test_behind_a_locked_version_table_an_upgrade_ends_soon(database_url: str) -> None:
    with psycopg.connect(database_url) as idle:
        idle.execute("LOCK TABLE switchwise.alembic_version IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(StorageUnavailable, match="idle in transaction"):
            migrations.upgrade(database_url)
        assert time.monotonic() - started < 5


def test_a_server_that_is_not_there_is_one_clear_error(empty_database_url: str) -> None:
    gone = with_database(empty_database_url, "no_such_database")
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        migrations.status(gone)


def test_the_reader_role_reads_the_views_and_nothing_else(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("SET ROLE switchwise_reader")
        assert connection.execute("SELECT * FROM switchwise_bi.leaderboard").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SELECT * FROM {SCHEMA}.cases")


def test_a_role_that_may_not_create_roles_is_told_what_to_grant(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "READER_ROLE", "a_reader_that_is_not_there")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN CREATE ROLE plain_owner; "
            "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
        database = connection.info.dbname
        connection.execute(f'GRANT CREATE ON DATABASE "{database}" TO plain_owner'.encode())
    separator = "&" if "?" in empty_database_url else "?"
    as_owner = f"{empty_database_url}{separator}options=-c%20role%3Dplain_owner"
    done = migrations.upgrade(as_owner)
    assert done.grants_to_run[0] == "CREATE ROLE a_reader_that_is_not_there NOLOGIN"
    assert len(done.grants_to_run) == 3
    assert migrations.status(empty_database_url).state is SchemaState.CURRENT


def test_going_down_never_drops_the_reader_role(database_url: str) -> None:
    migrations.downgrade(database_url)
    found = _rows(database_url, "SELECT 1 FROM pg_roles WHERE rolname = 'switchwise_reader'")
    assert found == [(1,)]
