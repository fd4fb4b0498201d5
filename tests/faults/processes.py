"""Real processes of the program that start at once: forks of a process that imported it all.

Each has its own pid, may be killed, stopped and signalled, and shares nothing with the test.
"""

import importlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_POLL_S = 0.02
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.preloaded"])


class Forked:
    """A command of the program in a process of its own."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        folder: Path,
        env: Mapping[str, str],
        output: str,
        *,
        program: str = "app.__main__",
    ) -> None:
        self._process: ForkServerProcess = _CONTEXT.Process(
            target=_main, args=(arguments, str(folder), dict(env), output, program)
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


@contextmanager
def forked_sandbox(*arguments: str, folder: Path) -> Iterator[dict[str, str]]:
    """The sandbox in a process of its own; gives the addresses it prints."""
    sandbox = Forked(arguments, folder, os.environ, "sandbox", program="app.sandbox.runner")  # noqa: TID251 - as it is here
    said = folder / "out-sandbox"
    try:
        while not (said.exists() and said.read_text(encoding="utf-8").endswith("\n")):
            assert sandbox.wait(_POLL_S) is None, "the sandbox did not start"
        yield json.loads(said.read_text(encoding="utf-8"))
    finally:
        if sandbox.poll() is None:
            sandbox.signal(signal.SIGTERM)
        if sandbox.wait(5) is None:
            sandbox.kill()


def _main(
    arguments: tuple[str, ...], folder: str, env: Mapping[str, str], output: str, program: str
) -> None:
    """What the fork does: become the command, with its own environment, folder and output."""
    os.environ.clear()  # noqa: TID251 - becoming another process
    os.environ.update(env)  # noqa: TID251
    os.chdir(folder)
    for stream, name in ((1, f"out-{output}"), (2, f"err-{output}")):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, stream)
        os.close(file)
    sys.argv = ["switchwise", *arguments]
    try:
        importlib.import_module(program).main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
