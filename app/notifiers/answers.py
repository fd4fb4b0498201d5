"""Requests that end: a timeout of the HTTP client holds for each read, not for all of them."""

import asyncio

import httpx

_MOST_BYTES = 4096


async def answer_of(
    client: httpx.AsyncClient, request: httpx.Request, *, timeout_s: float
) -> httpx.Response:
    """Send, and return the answer within that time; its status and headers are all that counts.

    A few KB of the body are taken, so that the server may end what it says. Once its status is
    known the answer stands, whatever becomes of the body.

    Raises:
        TimeoutError: If no status came in time, however busily the server sent.
        httpx.HTTPError: If the server is not there or makes no sense.
    """
    answer: httpx.Response | None = None
    try:
        async with asyncio.timeout(timeout_s):
            answer = await client.send(request, stream=True)
            async for _ in answer.aiter_raw():
                if answer.num_bytes_downloaded > _MOST_BYTES:
                    break
    except (httpx.HTTPError, TimeoutError):
        if answer is None:
            raise
    finally:
        if answer is not None:
            await answer.aclose()
    return answer
