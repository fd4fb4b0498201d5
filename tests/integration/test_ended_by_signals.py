"""A signal ends a command and whatever it began: its sandbox, its database."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.processes import ROOT, command, environment


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the user of the database may enter, too."""
    with TemporaryDirectory(prefix="switchwise-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def began(home: Path) -> list[str]:
    """The names of the processes that name this folder in their command line or environment."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "name"]):
        names = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if any(str(home) in name for name in names) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(str(process.info["name"]))
    return found


def until(condition: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_sigterm_ends_the_demonstration_with_its_sandbox_and_its_database(home: Path) -> None:
    env = environment(SWITCHWISE_HOME=str(home), PYTHONPATH=str(ROOT))
    errors = home / "errors"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            command("demo"), cwd=home, env=env, stdout=subprocess.DEVNULL, stderr=stderr
        )
    try:
        until(lambda: any("postgres" in name for name in began(home)), within_s=60)
        until(lambda: len(psutil.Process(process.pid).children()) > 0, within_s=60)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert "Traceback" not in errors.read_text()
        until(lambda: not began(home), within_s=30)
    finally:
        process.kill()
