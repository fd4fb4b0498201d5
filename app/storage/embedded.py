"""The embedded Postgres: one server under SWITCHWISE_HOME, shared by all who need it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from app.domain.errors import StorageUnavailable
from app.storage.binaries import BinarySource
from app.storage.postgres_server import PostgresServer

_TURN_WITHIN_S = 120.0
_POLL_S = 0.05


class EmbeddedPostgres:
    """A share in the Postgres server of a home folder.

    The first user starts the server, others attach, the last one stops it. A user is an open,
    shared lock on `users.lock`; the kernel drops it however the process ends, so a killed user
    is never counted.

    Args:
        home: SWITCHWISE_HOME; the server lives in its folder `postgres`.
        is_durable: False survives a killed process but no power cut; for tests only.
        source: Where to look for the Postgres programs.
    """

    def __init__(
        self, home: Path, *, is_durable: bool = True, source: BinarySource = "any"
    ) -> None:
        self._folder = home.absolute() / "postgres"
        self._server = PostgresServer(self._folder / "data", is_durable=is_durable, source=source)
        self._share: int | None = None

    def start(self) -> str:
        """Start the server or attach to it, and return its DSN; again, if it died meanwhile.

        Raises:
            StorageUnavailable: It cannot be started, with the reason and what to do.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._turn():
                is_first = self._share is None
                if is_first:
                    self._share = self._open("users.lock")
                    fcntl.flock(self._share, fcntl.LOCK_SH)
                try:
                    dsn = self._server.start()
                except BaseException as error:
                    if is_first:
                        self._give_up(error)
                    raise
        except OSError as error:
            raise StorageUnavailable(
                f"the embedded Postgres cannot use {self._folder}: {error.strerror or error}; "
                "set SWITCHWISE_HOME to a folder of your own, or DATABASE_URL"
            ) from error
        return dsn

    def release(self) -> None:
        """Give the share back and stop the server when nobody else has one."""
        if self._share is None:
            return
        with self._turn():
            self._drop_share()
            if self._is_unused():
                self._server.stop()

    @property
    def server(self) -> PostgresServer:
        """The shared server."""
        return self._server

    def __enter__(self) -> Self:
        self.start()
        return self

    @property
    def dsn(self) -> str:
        """The URL of database `switchwise` while the share is held."""
        return self._server.dsn

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _give_up(self, error: BaseException) -> None:
        """Give the share back; whoever was told to end leaves no server that is just coming up."""
        self._drop_share()
        if isinstance(error, KeyboardInterrupt | SystemExit) and self._is_unused():
            self._server.stop_begun()

    def _drop_share(self) -> None:
        if self._share is not None:
            os.close(self._share)
            self._share = None

    def _is_unused(self) -> bool:
        descriptor = self._open("users.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One process at a time starts or stops the server."""
        descriptor = self._open("launcher.lock")
        deadline = time.monotonic() + _TURN_WITHIN_S
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StorageUnavailable(
                            f"another process has been starting or stopping the Postgres in "
                            f"{self._folder} for {_TURN_WITHIN_S:.0f} s"
                        ) from None
                    time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._folder / name, flags, 0o600)
