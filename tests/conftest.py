"""Fixtures every test may use: a real Postgres, and databases of its own on it."""

import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

from app.domain.errors import StorageUnavailable
from app.storage.binaries import find_binaries, server_account
from app.storage.postgres_server import PostgresServer, start_server
from tests.fixtures import postgres

_BACKEND = pytest.StashKey[postgres.Backend]()

# What a check finds must not hang on the day; --hypothesis-profile=searching looks for new examples.
settings.register_profile("searching", deadline=None)
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        default="auto",
        metavar=postgres.CHOICES,
        help="the Postgres that serves the tests (auto: Docker, else embedded, else local)",
    )
    parser.addoption(
        "--log-rows",
        type=int,
        default=200_000,
        metavar="N",
        help="rows of the log table that tests/benchmarks draws from",
    )
    parser.addoption(
        "--log-database",
        default=None,
        metavar="URL",
        help="a database that keeps that table from one session to the next",
    )
    parser.addoption(
        "--litellm",
        default=None,
        metavar="PATH",
        help="an installed LiteLLM proxy; else one is installed in an environment of its own",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"postgres: {_backend(config).label}"


@pytest.fixture(scope="session")
def pg_server(pytestconfig: pytest.Config, shared_folder: Path) -> Iterator[str]:
    """DSN of a superuser on the server of this test session."""
    with _backend(pytestconfig).serve(shared_folder) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def shared_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(pytestconfig, "workerinput") else base


@pytest.fixture(scope="session")
def template_database(pg_server: str) -> Iterator[str]:
    """Name of a database with every migration applied, to copy from."""
    from app.storage.migrations import upgrade  # noqa: PLC0415 - unit tests need no Alembic

    name = f"template_{uuid.uuid4().hex}"
    postgres.create_database(pg_server, name)
    try:
        upgrade(postgres.with_database(pg_server, name))
        yield name
    finally:
        postgres.drop_database(pg_server, name)


@pytest.fixture
def database_url(pg_server: str, template_database: str) -> Iterator[str]:
    """DSN of a migrated database that only this test uses."""
    with postgres.new_database(pg_server, template=template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(pg_server: str) -> Iterator[str]:
    """DSN of an empty database that only this test uses."""
    with postgres.new_database(pg_server) as url:
        yield url


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Callable[[], PostgresServer]]:
    """Starts servers of the test's own over loopback TCP, which it may stop, freeze or kill."""
    try:
        find_binaries(server_account(tmp_path / "none"))
    except StorageUnavailable as error:
        pytest.skip(f"a server of its own needs Postgres programs: {error}")
    servers: list[PostgresServer] = []

    def start() -> PostgresServer:
        server = start_server(
            tmp_path / f"own-pg-{len(servers)}", tcp_port=postgres.free_port(), is_durable=False
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        if server.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGCONT)
            server.stop("immediate")


def _backend(config: pytest.Config) -> postgres.Backend:
    if _BACKEND not in config.stash:
        choose = partial(
            postgres.choose_backend,
            docker_problem=postgres.docker_problem,
            programs_of=postgres.programs_of,
        )
        try:
            config.stash[_BACKEND] = choose(config.getoption("--pg"))
        except postgres.NoBackend as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[_BACKEND]
