"""Lines to a Postgres server that break at the worst moment."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_COMMIT = b"COMMIT"


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A server process that is there and does nothing."""
    try:
        is_postgres = "postgres" in Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        is_postgres = False
    if not is_postgres:
        pytest.skip("the processes of this Postgres server cannot be frozen from here")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Proxy:
    """Stands between a client and a server over TCP.

    Attributes:
        dsn: Where clients connect.
        swallow_commits: How many commits are passed on and their answers never delivered.
    """

    def __init__(self, dsn: str, port: int) -> None:
        parts = urlsplit(dsn)
        self.dsn = parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
        self.swallow_commits = 0


@asynccontextmanager
async def proxy_to(dsn: str) -> AsyncIterator[Proxy]:
    """A Proxy before the server of this DSN, which must listen on TCP."""
    target = urlsplit(dsn)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(target.hostname, target.port)
        answers = asyncio.ensure_future(_pass_on(upstream[0], writer))
        try:
            while data := await reader.read(65_536):
                if _COMMIT in data and proxy.swallow_commits > 0:
                    proxy.swallow_commits -= 1
                    answers.cancel()
                    upstream[1].write(data)
                    await upstream[0].read(1)  # the server has answered: it is committed
                    break
                upstream[1].write(data)
        finally:
            answers.cancel()
            for line in (upstream[1], writer):
                line.close()
                with suppress(OSError):
                    await line.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = Proxy(dsn, server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        await server.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()
