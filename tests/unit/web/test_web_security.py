"""Who is let in, what a refusal says, and what browsers are told."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.domain.errors import ConfigError, StorageUnavailable
from app.domain.models import Secret
from app.domain.plans import Server
from app.storage.metrics_queries import Gauge
from app.web.application import create_app
from app.web.metrics import metrics_routes
from app.web.security import COOKIE, Doorkeeper, local_path, require_safe_bind

TOKEN = "correct horse battery staple"


class EmptyPages:
    """A results database in which nothing has run."""

    async def plan_names(self) -> Sequence[str]:
        return ()

    async def run(self, run_id: str) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nothing asks for {name} while no plan is stored")


class AwayPages(EmptyPages):
    """A results database that does not answer."""

    async def plan_names(self) -> Sequence[str]:
        raise StorageUnavailable("the results database at db.internal does not answer")


class BrokenPages(EmptyPages):
    """A bug."""

    async def plan_names(self) -> Sequence[str]:
        raise KeyError("secret detail")


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _no_gauges() -> Sequence[Gauge]:
    return ()


@asynccontextmanager
async def visitor(
    token: str | None = None,
    *,
    pages: Any = None,
    base_url: str = "http://127.0.0.1:8080",
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        pages or EmptyPages(),
        plans=(),
        token=Secret(token) if token else None,
        now=lambda: datetime(2026, 11, 22, tzinfo=UTC),
        next_slot=lambda _plan: None,
        open_routes=[Route("/healthz", _healthz)],
        guarded_routes=metrics_routes(_no_gauges),
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield client


def test_a_public_bind_without_a_token_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"server\.bind: 0\.0\.0\.0 .* set server\.token"):
        require_safe_bind(Server(host="0.0.0.0"))


@pytest.mark.parametrize(
    "server",
    [Server(), Server(host="::1"), Server(host="0.0.0.0", token=Secret("t"))],
)
def test_a_loopback_bind_or_a_token_is_enough(server: Server) -> None:
    require_safe_bind(server)


def test_an_empty_token_is_no_token() -> None:
    with pytest.raises(ConfigError):
        require_safe_bind(Server(host="0.0.0.0", token=Secret("")))
    assert Doorkeeper(Secret("")).is_open


@pytest.mark.parametrize("path", ["/", "/runs", "/cases/unknown", "/no/such/page"])
async def test_without_the_token_every_address_gives_the_same_401(path: str) -> None:
    async with visitor(TOKEN) as client:
        response = await client.get(path)
        wrong = await client.get(path, headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, wrong.status_code) == (401, 401)
    assert response.text.replace(path, "") == wrong.text.replace(path, "")
    assert TOKEN not in response.text


async def test_metrics_need_the_token_where_the_pages_do() -> None:
    async with visitor(TOKEN) as client:
        refused = await client.get("/metrics")
        scraped = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert refused.status_code == 401
    assert "switchwise_" not in refused.text
    assert "switchwise_database_up 1.0" in scraped.text
    async with visitor() as client:
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize("word", [TOKEN, "w", TOKEN[:-1], TOKEN + "x", "\udcff"])
def test_tokens_and_cookies_are_compared_in_constant_time_and_by_nothing_else(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    doorkeeper, sizes = Doorkeeper(Secret(TOKEN)), []

    def noted(one: bytes, other: bytes) -> bool:
        sizes.append((len(one), len(other)))
        return True

    monkeypatch.setattr("app.web.security.hmac.compare_digest", noted)

    assert doorkeeper.is_token(word)  # had anything else been asked, a wrong word would not pass
    assert sizes == [(32, 32)]  # digests: not even the length of the token shows
    cookie = {"type": "http", "headers": [(b"cookie", f"{COOKIE}=wrong".encode())]}
    assert doorkeeper.admits(Request(cookie))
    assert len(sizes) == 2


async def test_a_refusal_in_json_says_nothing_but_that() -> None:
    async with visitor(TOKEN) as client:
        response = await client.get("/runs", headers={"Accept": "application/json"})
    assert response.status_code == 401
    assert response.json() == {"error": "unauthorised"}
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_the_bearer_token_opens_the_pages() -> None:
    async with visitor(TOKEN) as client:
        response = await client.get("/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    assert "Nothing has run yet" in response.text


async def test_a_login_hands_out_a_strict_cookie_that_does_not_hold_the_token() -> None:
    async with visitor(TOKEN) as client:
        response = await client.post("/login", data={"token": TOKEN, "next": "/runs?page=2"})
        assert (response.status_code, response.headers["location"]) == (303, "/runs?page=2")
        cookie = response.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert TOKEN not in cookie
        assert (await client.get("/")).status_code == 200
        assert "max-age=0" in (await client.post("/logout")).headers["set-cookie"].lower()


async def test_over_https_the_cookie_stays_on_https() -> None:
    async with visitor(TOKEN, base_url="https://eval.example.com") as client:
        response = await client.post("/login", data={"token": TOKEN})
    assert "secure" in response.headers["set-cookie"].lower()


@pytest.mark.parametrize("body", ["token=wrong", "", "token=", "x=" + "a" * 100_000])
async def test_a_wrong_login_is_refused_and_sets_no_cookie(body: str) -> None:
    async with visitor(TOKEN) as client:
        response = await client.post("/login", content=body)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers
    assert "That is not the token." in response.text


@pytest.mark.parametrize("cookie", ["", TOKEN, "0" * 64])
async def test_a_forged_cookie_opens_nothing(cookie: str) -> None:
    async with visitor(TOKEN) as client:
        response = await client.get("/", headers={"Cookie": f"switchwise_session={cookie}"})
    assert response.status_code == 401


def test_a_session_ends_when_the_token_changes() -> None:
    assert Doorkeeper(Secret("one")).session != Doorkeeper(Secret("two")).session


@pytest.mark.parametrize(
    "word",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "", "/a\nb"],
)
def test_a_login_never_leads_to_another_site(word: str) -> None:
    assert local_path(word) == "/"


async def test_a_link_from_another_site_is_asked_again_once_so_that_the_cookie_comes_along() -> (
    None
):
    async with visitor(TOKEN) as client:
        foreign = await client.get("/runs?page=2", headers={"Sec-Fetch-Site": "cross-site"})
        own = await client.get("/runs?page=2", headers={"Sec-Fetch-Site": "same-origin"})
    assert '<meta http-equiv="refresh" content="0; url=/runs?page=2">' in foreign.text
    assert "http-equiv" not in own.text


async def test_health_needs_no_token_and_no_known_host() -> None:
    async with visitor(TOKEN, base_url="http://10.0.0.7:8080") as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}


@pytest.mark.parametrize("host", ["rebound.example", "127.0.0.1.example", ""])
async def test_without_a_token_only_names_of_this_machine_are_answered(host: str) -> None:
    async with visitor() as client:
        assert (await client.get("/", headers={"Host": host})).status_code == 421
        assert (await client.get("/", headers={"Host": "localhost:9"})).status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/app.css", "/nope", "/login", "/healthz"])
async def test_every_answer_carries_the_security_headers(path: str) -> None:
    async with visitor() as client:
        headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_no_page_takes_anything_but_reads(method: str) -> None:
    async with visitor() as client:
        for path in ("/", "/trends", "/cases", "/runs", "/runs/x", "/cases/x"):
            assert (await client.request(method, path)).status_code == 405


async def test_pages_carry_no_inline_script_or_style() -> None:
    async with visitor(TOKEN) as client:
        pages = [(await client.get("/")).text, (await client.get("/login")).text]
    for html in pages:
        assert "<style" not in html
        assert " style=" not in html
        assert "<script>" not in html
        assert "://" not in html.replace("http://www.w3.org/2000/svg", "")


async def test_an_absent_database_is_a_503_without_its_address() -> None:
    async with visitor(pages=AwayPages()) as client:
        response = await client.get("/")
    assert response.status_code == 503
    assert "db.internal" not in response.text


async def test_a_bug_is_a_500_without_its_trace() -> None:
    async with visitor(pages=BrokenPages()) as client:
        response = await client.get("/")
    assert response.status_code == 500
    assert "secret detail" not in response.text
    assert response.headers["x-frame-options"] == "DENY"


async def test_static_files_are_kept_for_ever_only_under_their_digest() -> None:
    async with visitor() as client:
        html = (await client.get("/")).text
        pinned = html.partition('href="/static/app.css?v=')[2].partition('"')[0]
        kept = await client.get(f"/static/app.css?v={pinned}")
        loose = await client.get("/static/app.css")
        again = await client.get("/static/app.css", headers={"If-None-Match": kept.headers["etag"]})
        missing = await client.get("/static/..%2fapplication.py")
    assert "immutable" in kept.headers["cache-control"]
    assert loose.headers["cache-control"] == "no-cache"
    assert again.status_code == 304
    assert missing.status_code == 404


async def test_json_is_given_to_who_prefers_it() -> None:
    async with visitor() as client:
        asked = await client.get("/", headers={"Accept": "application/json"})
        browser = await client.get("/", headers={"Accept": "text/html,application/json;q=0.9"})
    assert asked.json() == {"plan": None, "report": None}
    assert "Accept" in asked.headers["vary"]
    assert browser.headers["content-type"].startswith("text/html")
