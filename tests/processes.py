"""Real processes for tests: the installed command in a clean environment."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_OURS = ("SWITCHWISE_", "DATABASE_URL", "LOGS_DATABASE_URL", "LLM_", "SLACK_", "LOG_")


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without our own variables, plus some."""
    inherited = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - a test starts a process
        if not name.startswith(_OURS)
    }
    return {**inherited, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1", **extra}


def switchwise(
    *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**(env or {}), PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def command(*arguments: str) -> Sequence[str]:
    """The command line of the program under test."""
    return [sys.executable, "-m", "app", *arguments]
