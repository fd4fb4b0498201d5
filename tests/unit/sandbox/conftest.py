from collections.abc import Iterator

import httpx
import pytest

from app.sandbox.gateway import Gateway
from app.sandbox.runner import running_in_thread, sandbox_app
from app.sandbox.slack import Slack
from app.sandbox.worlds import named_world


@pytest.fixture(scope="session")
def sandbox() -> Iterator[tuple[Gateway, Slack, str]]:
    gateway, slack = Gateway(named_world("calm")), Slack()
    with running_in_thread(sandbox_app(gateway, slack)) as url:
        yield gateway, slack, url


@pytest.fixture
def gateway(sandbox: tuple[Gateway, Slack, str]) -> Gateway:
    found, _, _ = sandbox
    found.world = named_world("calm")
    found.clock.follow(None)
    found.clock.set(found.world.starts_at)
    found.calls.clear()
    return found


@pytest.fixture
def slack(sandbox: tuple[Gateway, Slack, str]) -> Slack:
    _, found, _ = sandbox
    found.set_rule()
    found.clear()
    return found


@pytest.fixture
def url(sandbox: tuple[Gateway, Slack, str]) -> str:
    return sandbox[2]


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=5.0, trust_env=False) as client:
        yield client
