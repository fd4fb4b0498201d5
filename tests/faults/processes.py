"""Real processes of the program that start at once: forks of a process that imported it all.

Each has its own pid, may be killed, stopped and signalled, and shares nothing with the test.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.preloaded"])


class Forked:
    """A command of the program in a process of its own."""

    def __init__(
        self, arguments: tuple[str, ...], folder: Path, env: Mapping[str, str], output: str
    ) -> None:
        self._process: ForkServerProcess = _CONTEXT.Process(
            target=_main, args=(arguments, str(folder), dict(env), output)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, within_s: float) -> int | None:
        """The exit code, None when it has not ended by then."""
        self._process.join(within_s)
        return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """`kill -9`; returns when it is gone."""
        self._process.kill()
        self._process.join(10)


def _main(arguments: tuple[str, ...], folder: str, env: Mapping[str, str], output: str) -> None:
    """What the fork does: become the command, with its own environment, folder and output."""
    os.environ.clear()  # noqa: TID251 - becoming another process
    os.environ.update(env)  # noqa: TID251
    os.chdir(folder)
    for stream, name in ((1, f"out-{output}"), (2, f"err-{output}")):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, stream)
        os.close(file)
    sys.argv = ["switchwise", *arguments]
    from app.__main__ import main  # noqa: PLC0415 - in the fork

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
