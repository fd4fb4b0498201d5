"""The application that `serve` answers with: pages for people, JSON at the same addresses."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.domain.errors import StorageUnavailable
from app.domain.models import Secret
from app.domain.plans import Plan
from app.domain.runs import Slot
from app.web.case import Choice, case
from app.web.cases import Filters, cases
from app.web.overview import overview
from app.web.ports import Pages, Row
from app.web.rendering import (
    STATIC_FILES,
    MissingPage,
    Page,
    json_body,
    respond,
    templates,
    wants_json,
)
from app.web.runs import explain_page, run_list, run_page
from app.web.security import (
    COOKIE,
    COOKIE_LASTS_S,
    HEADERS,
    Doorkeeper,
    Gate,
    KnownHosts,
    SafeHeaders,
    local_path,
)
from app.web.trends import DEFAULT_SPAN, SPANS, trends
from app.web.verdicts import STATUSES, WORDINGS

LOGIN = "/login"
LOGOUT = "/logout"
_LONGEST_LOGIN_BYTES = 8_192
_YEAR_S = 365 * 86_400


def create_app(  # noqa: PLR0913 - what a site is made of
    pages: Pages,
    *,
    plans: Sequence[Plan],
    token: Secret | None,
    now: Callable[[], datetime],
    next_slot: Callable[[Plan], Slot | None],
    open_routes: Sequence[Route] = (),
    guarded_routes: Sequence[Route] = (),
) -> Starlette:
    """The read-only web application.

    Args:
        pages: What it reads.
        plans: The configured plans: their next slots and what they allow to be shown.
        token: What visitors must know; None only for a loopback address.
        now: The injected clock's `now`.
        next_slot: When a plan runs next, None when by hand.
        open_routes: Routes that need no token, such as those of `health_routes`.
        guarded_routes: Routes that need it as the pages do, such as those of `metrics_routes`.
    """
    site = _Site(pages, plans, now, next_slot)
    door = _Door(site, Doorkeeper(token))
    public_url = next((plan.server.public_url for plan in plans if plan.server.public_url), "")
    open_paths = frozenset({LOGIN, *(route.path for route in open_routes)})
    return Starlette(
        routes=[
            *open_routes,
            *guarded_routes,
            Route("/static/{name}", _static),
            Route(LOGIN, door.login, methods=["GET", "POST"]),
            Route(LOGOUT, door.logout, methods=["POST"]),
            *site.routes(),
        ],
        middleware=[
            Middleware(SafeHeaders),
            Middleware(KnownHosts, is_open=door.keeper.is_open, public_url=public_url),
            Middleware(Gate, doorkeeper=door.keeper, open_paths=open_paths, refuse=door.refuse),
        ],
        exception_handlers={
            HTTPException: site.http_problem,
            MissingPage: site.missing,
            StorageUnavailable: site.unavailable,
            500: site.broken,
        },
    )


class _Site:
    """The pages and their routes."""

    def __init__(
        self,
        pages: Pages,
        plans: Sequence[Plan],
        now: Callable[[], datetime],
        next_slot: Callable[[Plan], Slot | None],
    ) -> None:
        self._pages = pages
        self._plans: Mapping[str, Plan] = {plan.name: plan for plan in plans}
        self._now = now
        self._next_slot = next_slot
        self._templates = templates()

    def routes(self) -> list[Route]:
        """Every page."""
        return [
            Route("/", self._answering(self._overview)),
            Route("/trends", self._answering(self._trends)),
            Route("/cases", self._answering(self._newest_cases)),
            Route("/runs", self._answering(self._runs)),
            Route("/runs/{run_id}", self._answering(self._run)),
            Route("/runs/{run_id}/cases", self._answering(self._cases)),
            Route("/runs/{run_id}/explain", self._answering(self._explain)),
            Route("/cases/{case_id}", self._answering(self._case)),
        ]

    def render(self, request: Request, page: Page, **frame: object) -> str:
        """The page as HTML."""
        context = {
            "title": page.title,
            "path": request.url.path,
            "plan": page.data.get("plan"),
            "plans": (),
            "wordings": WORDINGS,
            "statuses": STATUSES,
            "has_session": COOKIE in request.cookies,
            "page": page.data,
            **page.drawn,
            **frame,
        }
        return self._templates.get_template(page.template).render(context)

    def problem(self, request: Request, status: int, title: str, words: str) -> Response:
        """A page that says what is wrong, and nothing else."""
        page = Page(
            template="problem.html",
            title=title,
            data={"error": title, "detail": words},
            status=status,
        )
        html = None if wants_json(request) else self.render(request, page)
        body = json_body(page.data) if html is None else html.encode("utf-8", "replace")
        media_type = "application/json" if html is None else "text/html; charset=utf-8"
        return Response(body, status_code=status, media_type=media_type)

    async def missing(self, request: Request, _error: Exception) -> Response:
        """404."""
        return self.problem(request, 404, "Not found", "There is no such page, run or case.")

    async def http_problem(self, request: Request, error: Exception) -> Response:
        """404 and 405 of the router."""
        if isinstance(error, HTTPException) and error.status_code == 405:
            return self.problem(request, 405, "Not allowed", "These pages can only be read.")
        return await self.missing(request, error)

    async def unavailable(self, request: Request, _error: Exception) -> Response:
        """503 while the database is away."""
        return self.problem(
            request, 503, "The results database does not answer", "Try again in a moment."
        )

    async def broken(self, request: Request, _error: Exception) -> Response:
        """500, without a trace of why; made outside all middleware, so it brings the headers."""
        response = self.problem(
            request, 500, "This page could not be made", "The service's log says why."
        )
        response.headers.update(HEADERS)
        return response

    def _answering(
        self, make: Callable[[Request], Awaitable[Page]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a page."""

        async def endpoint(request: Request) -> Response:
            page = await make(request)
            if wants_json(request):
                return respond(request, page, None)
            names = await self._pages.plan_names()
            return respond(request, page, self.render(request, page, plans=names))

        return endpoint

    # --- pages ------------------------------------------------------------------------------

    async def _overview(self, request: Request) -> Page:
        name = await self._plan_name(request)
        if name is None:
            return Page(
                template="empty.html", title="Overview", data={"plan": None, "report": None}
            )
        plan = self._plans.get(name)
        slot = None if plan is None else self._next_slot(plan)
        return await overview(self._pages, name, now=self._now(), next_slot=slot)

    async def _trends(self, request: Request) -> Page:
        weeks = _number(request, "weeks", DEFAULT_SPAN)
        if weeks not in SPANS:
            raise MissingPage
        return await trends(self._pages, await self._needed_plan(request), weeks=weeks)

    async def _newest_cases(self, request: Request) -> Page:
        name = await self._needed_plan(request)
        run = await self._pages.newest_run(name, is_verdict=True)
        run = run or await self._pages.newest_run(name, is_verdict=False)
        if run is None:
            raise MissingPage
        return await self._cases_of(run, request)

    async def _cases(self, request: Request) -> Page:
        return await self._cases_of(await self._needed_run(request), request)

    async def _cases_of(self, run: Row, request: Request) -> Page:
        filters = Filters.of(request.query_params)
        return await cases(self._pages, run, filters, page=_number(request, "page", 1))

    async def _case(self, request: Request) -> Page:
        query = request.query_params
        return await case(
            self._pages,
            _uuid(request, "case_id"),
            Choice(model=query.get("model", ""), is_diff=query.get("diff") == "words"),
            privacy={name: plan.privacy for name, plan in self._plans.items()},
        )

    async def _runs(self, request: Request) -> Page:
        name = await self._needed_plan(request)
        return await run_list(self._pages, name, page=_number(request, "page", 1))

    async def _run(self, request: Request) -> Page:
        return await run_page(self._pages, await self._needed_run(request))

    async def _explain(self, request: Request) -> Page:
        return explain_page(await self._needed_run(request))

    # --- what the URL names -----------------------------------------------------------------

    async def _plan_name(self, request: Request) -> str | None:
        """The plan that the URL names, else the first; None while nothing is stored."""
        names = await self._pages.plan_names()
        wanted = request.query_params.get("plan")
        if wanted is None:
            return names[0] if names else None
        if wanted not in names:
            raise MissingPage
        return wanted

    async def _needed_plan(self, request: Request) -> str:
        name = await self._plan_name(request)
        if name is None:
            raise MissingPage
        return name

    async def _needed_run(self, request: Request) -> Row:
        run = await self._pages.run(_uuid(request, "run_id"))
        if run is None:
            raise MissingPage
        return run


class _Door:
    """Login and logout: the one place that takes a POST, and it changes nothing that is stored."""

    def __init__(self, site: _Site, keeper: Doorkeeper) -> None:
        self._site = site
        self.keeper = keeper

    def refuse(self, request: Request) -> Response:
        """401 with a form for people: the same whether or not the page exists."""
        if wants_json(request) or request.method not in {"GET", "HEAD"}:
            return Response(
                json_body({"error": "unauthorised"}),
                status_code=401,
                media_type="application/json",
                headers={"WWW-Authenticate": "Bearer"},
            )
        # A strict cookie stays at home when a link of another site (Slack) is followed: ask again
        # from here, once.
        is_foreign = request.headers.get("sec-fetch-site") == "cross-site"
        return self._form(request, _here(request), is_retried=is_foreign)

    async def login(self, request: Request) -> Response:
        """Show the form, or take the token and hand out the cookie."""
        if request.method != "POST":
            return self._form(request, "/", status=200)
        form = await _form_of(request)
        onward = local_path(form.get("next", "/"))
        if not self.keeper.is_token(form.get("token", "")):
            return self._form(request, onward, is_wrong=True)
        response = RedirectResponse(onward, status_code=303)
        response.set_cookie(
            COOKIE,
            self.keeper.session,
            max_age=COOKIE_LASTS_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def logout(self, _request: Request) -> Response:
        """Take the cookie back."""
        response = RedirectResponse(LOGIN, status_code=303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    def _form(
        self,
        request: Request,
        onward: str,
        *,
        status: int = 401,
        is_wrong: bool = False,
        is_retried: bool = False,
    ) -> Response:
        page = Page(
            template="login.html",
            title="Log in",
            data={},
            drawn={
                "onward": onward,
                "is_wrong": is_wrong,
                "retry": local_path(onward) if is_retried else None,
            },
        )
        html = self._site.render(request, page)
        return Response(html, status_code=status, media_type="text/html; charset=utf-8")


async def _static(request: Request) -> Response:
    """A file of ours; for ever when its digest is in the address."""
    name = request.path_params["name"]
    if name not in STATIC_FILES:
        raise MissingPage
    found = STATIC_FILES[name]
    tag = f'"{found.digest}"'
    is_pinned = request.query_params.get("v") == found.digest
    keep = f"public, max-age={_YEAR_S}, immutable" if is_pinned else "no-cache"
    headers = {"ETag": tag, "Cache-Control": keep}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


async def _form_of(request: Request) -> Mapping[str, str]:
    """The fields of a small form; nothing of a large one."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_LOGIN_BYTES:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


def _here(request: Request) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def _number(request: Request, name: str, default: int) -> int:
    word = request.query_params.get(name)
    if word is None:
        return default
    if not (word.isascii() and word.isdigit() and len(word) < 8):
        raise MissingPage
    return int(word)


def _uuid(request: Request, name: str) -> str:
    try:
        return str(uuid.UUID(request.path_params[name]))
    except ValueError as error:
        raise MissingPage from error
