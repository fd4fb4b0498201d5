"""Runs the sandbox: inside a test, in a thread, or as a process of its own.

    async with running(sandbox_app(...)) as url: ...
    with running_in_thread(sandbox_app(...)) as url: ...
    with running_process("--world", "demo") as ready: ...

`python -m app.sandbox` prints one JSON line with its addresses when it answers, and ends with exit
code 0 on SIGTERM or SIGINT.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.sandbox.clock import parse_instant
from app.sandbox.gateway import Gateway, gateway_routes
from app.sandbox.slack import Slack, slack_routes
from app.sandbox.world import World, load_world
from app.sandbox.worlds import named_world, world_names

_KEEP_ALIVE_S = 3600
_START_S = 30.0
_STOP_S = 10.0


def sandbox_app(gateway: Gateway, slack: Slack | None = None) -> Starlette:
    """The gateway and the Slack-compatible server as one application on one port."""
    return Starlette(routes=[*gateway_routes(gateway), *slack_routes(slack or Slack())])


@contextlib.asynccontextmanager
async def running(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serves the application in this event loop; gives its base URL."""
    listener = _listener(host, port)
    server = _Server(_config(app))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.wait_started(task)
        yield _url(listener)
    finally:
        server.stop()
        await task
        listener.close()


@contextlib.contextmanager
def running_in_thread(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves the application in a thread with a loop of its own; gives its base URL."""
    listener = _listener(host, port)
    server = _Server(_config(app))
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), name="sandbox", daemon=True
    )
    thread.start()
    try:
        if not server.is_ready.wait(_START_S):
            raise TimeoutError("the sandbox did not start")
        yield _url(listener)
    finally:
        server.stop()
        thread.join(_STOP_S)
        listener.close()


@contextlib.contextmanager
def running_process(*arguments: str) -> Iterator[dict[str, str]]:
    """Runs `python -m app.sandbox` with these arguments; gives the addresses it prints.

    `pid` is among them as text. The process is ended with SIGTERM, or SIGKILL when that fails.
    """
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(  # noqa: S603 - our own module, called without a shell
        [sys.executable, "-m", "app.sandbox", *arguments],
        stdout=subprocess.PIPE,
        cwd=root,
        text=True,
    )
    try:
        yield _ready_line(process)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
        if process.stdout is not None:
            process.stdout.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sandbox until SIGTERM or SIGINT; returns the exit code."""
    options = _options(arguments)
    try:
        world = _world(options)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 2
    gateway = Gateway(world, call_log=options.call_log, clock_file=options.clock_file)
    if options.world not in world_names():
        gateway.watch(Path(options.world), lambda: _world(options))
    if options.now is not None:
        gateway.clock.set(options.now)
    slack = Slack(log=options.slack_log, tokens=tuple(options.slack_token))
    try:
        asyncio.run(_serve(sandbox_app(gateway, slack), options.host, options.port))
    finally:
        gateway.calls.close()
        slack.close()
    return 0


class _Server(uvicorn.Server):
    """A server that leaves signals alone and stops without waiting for callers that hang on."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = threading.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signal handlers as they are."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen and says so."""
        await super().startup(sockets=sockets)
        self.is_ready.set()

    async def wait_started(self, task: asyncio.Task[None]) -> None:
        """Returns when the server listens; raises what kept it from doing so."""
        while not self.started:
            if task.done():
                task.result()
            await asyncio.sleep(0)

    def stop(self) -> None:
        """Stops soon, open calls or not."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drops all connections and ends what still runs."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        for task in list(self.server_state.tasks):
            task.cancel()
        self.force_exit = True
        await super().shutdown(sockets=sockets)


class _Protocol(H11Protocol):
    """Hands the connection's transport to the application, which may have to cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=2048,
    )


def _listener(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


async def _serve(app: ASGIApp, host: str, port: int) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    async with running(app, host=host, port=port) as url:
        sys.stdout.write(json.dumps(_addresses(url)) + "\n")
        sys.stdout.flush()
        await stopping.wait()


def _addresses(url: str) -> dict[str, str]:
    return {
        "url": url,
        "slack_url": f"{url}/api/",
        "webhook_url": f"{url}/services/T000/B000/sandbox",
        "pid": str(os.getpid()),
    }


def _ready_line(process: subprocess.Popen[str]) -> dict[str, str]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise RuntimeError(f"the sandbox ended with exit code {process.wait(_STOP_S)}")
    return {str(key): str(value) for key, value in json.loads(line).items()}


def _world(options: Namespace) -> World:
    source = str(options.world)
    world = named_world(source) if source in world_names() else load_world(Path(source))
    if options.seed is not None:
        world = replace(world, seed=options.seed)
    if options.starts_at is not None:
        world = replace(world, starts_at=options.starts_at)
    if options.api_key:
        world = replace(world, api_keys=tuple(options.api_key))
    return world


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m app.sandbox", description="Fake gateway and Slack.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument(
        "--world",
        default="demo",
        help=f"a JSON file (read again when it changes) or one of {', '.join(world_names())}",
    )
    parser.add_argument("--seed", type=int, help="replaces the World's seed")
    parser.add_argument("--starts-at", type=_instant, help="when week 1 begins")
    parser.add_argument("--now", type=_instant, help="stops the simulated clock at this instant")
    parser.add_argument("--clock-file", type=Path, help="reads the simulated instant from a file")
    parser.add_argument("--api-key", action="append", default=[], help="refuses other keys")
    parser.add_argument("--call-log", type=Path, help="appends one JSON line per call")
    parser.add_argument("--slack-log", type=Path, help="appends one JSON line per Slack request")
    parser.add_argument("--slack-token", action="append", default=[], help="refuses other tokens")
    return parser.parse_args(arguments)


def _instant(text: str) -> datetime:
    return parse_instant(text)
