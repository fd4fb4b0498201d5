"""Servers that never fall silent and never come to an end hold up nobody."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from app.domain.alerts import Alert, AlertKind, Delivery, News
from app.domain.models import Secret
from app.domain.plans import SlackSettings, WebhookSettings
from app.notifiers.heartbeat import ping
from app.notifiers.slack import SlackNotifier, SlackWebhookNotifier
from app.notifiers.webhook import WebhookNotifier

NOW = datetime(2026, 3, 29, 6, 30, tzinfo=UTC)
IN_HEADERS = b"HTTP/1.1 200 OK\r\nX-Drip: "
IN_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
TILL_CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Busy\r\nContent-Length: 1000000000000\r\n\r\n"
SHORT_S = 0.3
PATIENCE_S = 5.0
"""Far longer than a call may take: a test that waits so long has failed."""

ALERT = Alert(
    key="support-bot/run",
    kind=AlertKind.RUN,
    news=News.NEW,
    run_id=None,
    title="Run incomplete",
    lead="",
)


@asynccontextmanager
async def dripping(opening: bytes, *, drop: bytes = b"a") -> AsyncIterator[str]:
    """A server that says so much and then a drop every few milliseconds, as long as it is heard."""

    drips: set[asyncio.Task[None]] = set()
    served: set[asyncio.Task[None]] = set()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(opening)
            while True:
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.005)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work = asyncio.create_task(drip(reader, writer))
        drips.add(work)
        await asyncio.wait({work})
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.close()
        for work in drips:
            work.cancel()
        await asyncio.wait(served)


async def posted(url: str, *, timeout_s: float = SHORT_S) -> Delivery:
    notifier = WebhookNotifier(WebhookSettings(url=Secret(url)), lambda: NOW, timeout_s=timeout_s)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await notifier.deliver(ALERT, thread=None)
    finally:
        await notifier.close()


async def test_a_heartbeat_that_is_not_answered_in_time_ends_however_busily_the_server_sends() -> (
    None
):
    async with dripping(IN_HEADERS) as url, asyncio.timeout(PATIENCE_S):
        assert await ping(url, timeout_s=SHORT_S) is False


@pytest.mark.parametrize(("opening", "is_heard"), [(IN_BODY, True), (REFUSED, False)])
async def test_the_status_of_a_heartbeat_counts_though_its_body_never_ends(
    opening: bytes, is_heard: bool
) -> None:
    async with dripping(opening) as url, asyncio.timeout(PATIENCE_S):
        assert await ping(url, timeout_s=SHORT_S) is is_heard


async def test_a_webhook_that_drips_its_headers_is_not_delivered_and_says_so() -> None:
    async with dripping(IN_HEADERS) as url:
        delivery = await posted(url)
    assert (delivery.is_delivered, delivery.error) == (False, "the webhook did not answer in time")


@pytest.mark.parametrize(("opening", "is_delivered"), [(IN_BODY, True), (REFUSED, False)])
async def test_the_status_of_a_webhook_counts_though_its_body_never_ends(
    opening: bytes, is_delivered: bool
) -> None:
    async with dripping(opening) as url:
        delivery = await posted(url)
    assert delivery.is_delivered is is_delivered


async def test_of_a_long_answer_only_the_first_few_kilobytes_are_taken() -> None:
    async with dripping(IN_BODY, drop=b"a" * 65536) as url:
        delivery = await posted(url, timeout_s=2 * PATIENCE_S)
    assert delivery.is_delivered


def waited_for() -> set[threading.Thread]:
    """The threads that the process cannot end without."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


@pytest.mark.parametrize("opening", [IN_HEADERS, TILL_CLOSED])
@pytest.mark.parametrize("is_webhook", [False, True])
async def test_a_slack_that_drips_is_given_up_and_keeps_no_process_from_ending(
    opening: bytes, is_webhook: bool
) -> None:
    before = waited_for()
    async with dripping(opening) as url:
        settings = SlackSettings(
            token=Secret("xoxb-1"), channel="C0123ABCDEF", base_url=url, webhook_url=Secret(url)
        )
        kind = SlackWebhookNotifier if is_webhook else SlackNotifier
        notifier = kind(settings, timeout_s=SHORT_S)
        async with asyncio.timeout(PATIENCE_S):
            delivery = await notifier.deliver(ALERT, thread=None)
            warnings = await notifier.check()
        left = waited_for() - before
    assert not delivery.is_delivered
    assert warnings == (() if is_webhook else ("Slack did not answer in time",))
    assert left == set()
