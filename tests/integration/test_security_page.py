"""The GRANTs of docs/security.md, run as they stand there."""

import re
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.domain.plans import LogSettings
from app.logsources.postgres import PostgresLogs
from tests.processes import ROOT

ROLES = ("switchwise_logs", "switchwise_app", "analyst")


@pytest.fixture
def roles(database_url: str) -> Iterator[dict[str, str]]:
    """The page's roles under names of their own, in a migrated database with a log table."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    found = re.search(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    names = {role: f"{role}_{uuid.uuid4().hex[:8]}" for role in ROLES}
    script = found[1]
    for role, name in names.items():
        script = re.sub(rf"\b{role}\b", name, script)
    database = urlsplit(database_url).path.lstrip("/") or str(
        conninfo_to_dict(database_url)["dbname"]
    )
    script = script.replace("ON DATABASE results", f'ON DATABASE "{database}"')
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(
            b"CREATE TABLE public.ai_logs (id bigint PRIMARY KEY, created_at timestamptz,"
            b" prompt text)"
        )
        owner.execute(b"CREATE INDEX ON public.ai_logs (created_at) INCLUDE (id)")
        owner.execute(b"INSERT INTO public.ai_logs VALUES (1, now(), 'hello')")
        owner.execute(script.encode())
        yield {
            role: make_conninfo(database_url, user=name, password="x")
            for role, name in names.items()
        }
        for name in names.values():
            owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


async def test_the_log_role_is_all_that_check_asks_for(roles: dict[str, str]) -> None:
    logs = PostgresLogs(LogSettings(table="public.ai_logs"), dsn=roles["switchwise_logs"])
    assert await logs.check() == ()
    await logs.close()


def test_the_log_role_can_neither_write_nor_see_results(roles: dict[str, str]) -> None:
    with psycopg.connect(roles["switchwise_logs"], autocommit=True) as connection:
        connection.execute(b"SET default_transaction_read_only = off")
        for statement in ("DELETE FROM public.ai_logs", "SELECT * FROM switchwise.runs"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_an_analyst_reads_the_views_and_no_text(roles: dict[str, str]) -> None:
    with psycopg.connect(roles["analyst"], autocommit=True) as connection:
        connection.execute(b"SELECT * FROM switchwise_bi.leaderboard")
        for statement in ("SELECT * FROM switchwise.cases", "SELECT * FROM public.ai_logs"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())
