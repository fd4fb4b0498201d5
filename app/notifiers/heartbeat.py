"""The heartbeat: a URL that hears from us after each success, and alarms when it does not."""

import httpx

from app.notifiers.answers import answer_of

TIMEOUT_S = 10.0


async def ping(url: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Ping once; True when it answered with 2xx in time. Never raises for what others do."""
    try:
        async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
            request = client.build_request("GET", url)
            answer = await answer_of(client, request, timeout_s=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
        return False
    return answer.is_success
