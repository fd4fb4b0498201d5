"""Health: /healthz says whether to restart us, /readyz whether to send traffic."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Check = Callable[[], Awaitable[tuple[bool, Mapping[str, object]]]]


def health_routes(*, alive: Check, ready: Check) -> list[Route]:
    """The two routes.

    Args:
        alive: Whether the service does its work, with the facts: loop lag, database, lease age.
        ready: Whether the database answers and its schema is ours.
    """

    async def healthz(_request: Request) -> Response:
        return await _answer(alive)

    async def readyz(_request: Request) -> Response:
        return await _answer(ready)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _answer(check: Check) -> Response:
    is_well, facts = await check()
    return JSONResponse(
        {"status": "ok" if is_well else "unhealthy", **facts},
        status_code=200 if is_well else 503,
        headers={"Cache-Control": "no-store"},
    )
