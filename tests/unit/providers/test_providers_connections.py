"""Connections note when the first byte of a request goes out."""

import asyncio
from collections.abc import Callable

import httpcore2
import httpx2
import pytest

from app.clocks import SystemClock
from app.providers.connections import Connection, ForbiddenAddress, Transport


class HandClock(SystemClock):
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class RecordingTransport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_over = False
        self.pauses: list[str] = []
        self.peer: tuple[str, int] = ("203.0.113.7", 443)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.peer if name == "peername" else default

    def abort(self) -> None:
        self.is_over = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True

    def pause_reading(self) -> None:
        self.pauses.append("pause")

    def resume_reading(self) -> None:
        self.pauses.append("resume")


def connection() -> tuple[Connection, RecordingTransport, HandClock]:
    clock = HandClock()
    made = Connection(clock)
    transport = RecordingTransport()
    made.connection_made(transport)
    return made, transport, clock


async def test_a_request_goes_out_in_one_write_and_is_stamped_then() -> None:
    made, transport, clock = connection()
    clock.seconds = 3.0
    await made.write(b"head ")
    await made.write(b"body")
    assert transport.written == []
    clock.seconds = 4.0

    made.data_received(b"reply")

    assert await made.read(1_000) == b"reply"
    assert transport.written == [b"head body"]
    assert made.sent_at == 4.0


async def test_reading_on_does_not_move_the_stamp_but_the_next_request_does() -> None:
    made, _, clock = connection()
    await made.write(b"one")
    made.data_received(b"a")
    await made.read(1_000)
    clock.seconds = 9.0
    made.data_received(b"b")
    await made.read(1_000)
    assert made.sent_at == 0.0

    await made.write(b"two")
    made.data_received(b"c")
    await made.read(1_000)

    assert made.sent_at == 9.0


async def test_a_waiting_reader_is_woken_by_bytes_end_and_loss() -> None:
    wakings: list[tuple[Callable[[Connection], object], bytes]] = [
        (lambda made: made.data_received(b"x"), b"x"),
        (lambda made: made.eof_received(), b""),
        (lambda made: made.connection_lost(None), b""),
    ]
    for wake, expected in wakings:
        made, _, _ = connection()
        reading = asyncio.create_task(made.read(1_000))
        await asyncio.sleep(0)
        wake(made)
        assert await reading == expected


async def test_a_lost_connection_raises_after_its_last_bytes() -> None:
    made, _, _ = connection()
    made.data_received(b"last")
    made.connection_lost(ConnectionResetError("reset"))

    assert await made.read(1_000) == b"last"
    with pytest.raises(httpcore2.ReadError):
        await made.read(1_000)


async def test_a_request_on_a_closed_connection_is_refused() -> None:
    made, transport, _ = connection()
    transport.is_over = True
    await made.write(b"x")

    with pytest.raises(httpcore2.ReadError):
        await made.read(1_000)


async def test_a_flood_is_held_back_until_it_is_read() -> None:
    made, transport, _ = connection()
    made.data_received(b"x" * 2_000_000)
    assert transport.pauses == ["pause"]

    await made.read(1_000)

    assert transport.pauses == ["pause", "resume"]


def test_an_idle_connection_that_the_server_closed_is_seen_as_readable() -> None:
    made, _, _ = connection()
    assert made.get_extra_info("is_readable") is False

    made.eof_received()

    assert made.get_extra_info("is_readable") is True


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "168.63.129.16", "fd00:ec2::254", "::ffff:169.254.169.254", "fe80::1%eth0"],
)
async def test_a_name_that_leads_to_a_metadata_service_gets_no_byte(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, transport, _ = connection()
    transport.peer = (address, 443)

    async def connected(*_: object, **__: object) -> tuple[RecordingTransport, Connection]:
        return transport, made

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connected)
    request = httpx2.Request("POST", "http://innocent.example/v1/messages", content=b"prompt")
    carrier = Transport(SystemClock(), concurrency=1, is_tls=False)
    with pytest.raises(ForbiddenAddress):
        await asyncio.wait_for(carrier.handle_async_request(request), timeout=20)
    assert transport.written == []
    assert transport.is_over
