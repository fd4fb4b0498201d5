"""Who may look, and what a browser may do with what it is given."""

import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.domain.errors import ConfigError
from app.domain.models import Secret
from app.domain.plans import Server
from app.plans.addresses import is_loopback

COOKIE = "switchwise_session"
COOKIE_LASTS_S = 30 * 86_400

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def require_safe_bind(server: Server) -> None:
    """Refuse to show prompts to a network without a token.

    Raises:
        ConfigError: If the address is open to others and no token is set.
    """
    if not is_loopback(server.host) and not server.token:
        raise ConfigError(
            f"server.bind: {server.host} is open to others: set server.token "
            '(token: "${DASHBOARD_TOKEN}") or bind to 127.0.0.1'
        )


class Doorkeeper:
    """Knows the token, and who has shown it. Every comparison takes the same time."""

    def __init__(self, token: Secret | None) -> None:
        self._token = token.reveal().encode() if token else b""

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return not self._token

    @property
    def session(self) -> str:
        """What the cookie holds: proof of the token, from which it cannot be had back."""
        return hmac.new(self._token, b"switchwise session 1", hashlib.sha256).hexdigest()

    def is_token(self, word: str) -> bool:
        """Whether this is the token."""
        return bool(self._token) and hmac.compare_digest(
            hashlib.sha256(word.encode("utf-8", "replace")).digest(),
            hashlib.sha256(self._token).digest(),
        )

    def admits(self, request: Request) -> bool:
        """Whether the request carries the token as bearer, or the cookie that proves it."""
        if self.is_open:
            return True
        scheme, _, word = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(word.strip()):
            return True
        shown = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(shown.encode("utf-8", "replace"), self.session.encode())


class SafeHeaders:
    """Puts the security headers on every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the headers added."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_safely)


class KnownHosts:
    """Without a token, answers only to names of this machine: no rebound DNS name gets in."""

    def __init__(self, app: ASGIApp, *, is_open: bool, public_url: str) -> None:
        self._app = app
        self._is_open = is_open
        self._public_host = urlsplit(public_url).hostname or ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 421 when the request is meant for another host."""
        if scope["type"] == "http" and self._is_open and not self._knows(Headers(scope=scope)):
            refusal = PlainTextResponse("This host is not served here.\n", status_code=421)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        return is_loopback(host) or (bool(host) and host == self._public_host)


class Gate:
    """Lets in who has the token; everything else gets 401, whether or not the page exists."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        doorkeeper: Doorkeeper,
        open_paths: frozenset[str],
        refuse: Callable[[Request], Response],
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._open_paths = open_paths
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if self._doorkeeper.admits(request):
            await self._app(scope, receive, send)
            return
        await self._refuse(request)(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith("/static/")


def local_path(word: str) -> str:
    """The path to go on to after a login: one of this site, else the first page."""
    is_local = word.startswith("/") and not word.startswith(("//", "/\\")) and word.isprintable()
    return word if is_local and "\\" not in word else "/"
