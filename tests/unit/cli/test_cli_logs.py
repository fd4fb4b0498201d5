import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.cli.logs import MASK, configure_logging, where_it_broke
from app.domain.errors import StorageUnavailable

SECRETS = ["sk-ant-canary-0001", "postgresql://u:hunter22@db/app", "short"]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    out = io.StringIO()
    configure_logging(form="json", level="DEBUG", secrets=SECRETS, stream=out)
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_our_own_logs_are_json_lines_with_what_was_bound(stream: io.StringIO) -> None:
    structlog.get_logger("app.x").bind(plan="support-bot").info("run ended", status="done")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["plan"], line["status"]) == ("run ended", "support-bot", "done")
    assert (line["level"], line["logger"]) == ("info", "app.x")
    assert line["timestamp"].endswith("Z")


def test_logs_of_libraries_take_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("some.library").warning("careful: %s", "x")
    assert json.loads(stream.getvalue())["event"] == "careful: x"


@pytest.mark.parametrize(
    "leak",
    [
        "key sk-ant-canary-0001 refused",
        "cannot reach postgresql://u:hunter22@db/app",
        "other postgresql://app:p4ssw0rd@host/db",
        "Authorization: Bearer abcdefghijklmnop",
        "xoxb-1234567890-abcdef",
        "https://hooks.slack.com/services/T0/B0/secretpart",
        "sk-proj-abcdefghijklmnopqrstu",
    ],
)
@pytest.mark.parametrize("by", ["event", "field", "nested", "own exception", "library"])
def test_no_secret_reaches_the_log_by_any_way(stream: io.StringIO, leak: str, by: str) -> None:
    log = structlog.get_logger("app.x")
    match by:
        case "event":
            log.info(leak)
        case "field":
            log.info("x", why=leak)
        case "nested":
            log.info("x", why={"list": [leak, {leak: 1}]})
        case "own exception":
            log.error("x", exc_info=StorageUnavailable(leak))
        case _:
            logging.getLogger("lib").error("%s", leak)
    text = stream.getvalue()
    for secret in (
        "sk-ant-canary-0001",
        "hunter22",
        "p4ssw0rd",
        "abcdefghijklmnop",
        "1234567890",
        "secretpart",
    ):
        assert secret not in text
    assert MASK in text


def test_an_exception_is_told_by_kind_and_place_without_its_words(stream: io.StringIO) -> None:
    try:
        int("what a customer wrote")
    except ValueError:
        structlog.get_logger("app.x").exception("x")
        logging.getLogger("lib").exception("y")
    ours, theirs = map(json.loads, stream.getvalue().splitlines())
    assert "test_cli_logs.py" in ours["exception"][0]
    assert ours["exception"][0].startswith("ValueError < ")
    assert theirs["exception"] == ours["exception"]
    assert "customer" not in stream.getvalue()


def test_what_a_forgotten_task_held_is_left_out(stream: io.StringIO) -> None:
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <what it held>")
    assert json.loads(stream.getvalue())["event"] == "Task exception was never retrieved"


def test_a_cause_is_told_before_what_it_caused() -> None:
    error = StorageUnavailable("the disk is full")
    error.__cause__ = ValueError("what a customer wrote")
    assert where_it_broke(error) == ["ValueError", "StorageUnavailable: the disk is full"]


def test_short_values_are_not_masked_because_they_would_mangle_words(stream: io.StringIO) -> None:
    structlog.get_logger("app.x").info("a short run")
    assert json.loads(stream.getvalue())["event"] == "a short run"


@pytest.mark.parametrize("name", ["httpx", "anthropic", "openai", "slack_sdk", "uvicorn.access"])
def test_libraries_that_print_addresses_and_bodies_are_kept_quiet(
    stream: io.StringIO, name: str
) -> None:
    logging.getLogger(name).info("POST https://x/y body")
    logging.getLogger(name).debug("body")
    assert stream.getvalue() == ""


def test_levels_below_the_chosen_one_are_dropped() -> None:
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging(form="console", level="WARNING", stream=out)
        structlog.get_logger("app.x").info("quiet")
        structlog.get_logger("app.x").warning("loud")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    assert "loud" in out.getvalue()
    assert "quiet" not in out.getvalue()
