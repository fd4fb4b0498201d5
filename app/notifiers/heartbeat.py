"""The heartbeat: a URL that hears from us after each success, and alarms when it does not."""

import httpx

TIMEOUT_S = 10.0


async def ping(url: str) -> bool:
    """Ping once; True when it answered with 2xx. Never raises for what the other side does."""
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            response = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return response.is_success
