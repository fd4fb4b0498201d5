"""The APIs of Langfuse, Helicone and OpenAI's stored completions, as transports over some rows."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from starlette.types import Receive, Scope, Send

LANGFUSE_KEYS = {"public_key": "pk-1", "secret_key": "sk-1"}
KEYS = {"api_key": "key-1"}
_AUTH = {"Basic cGstMTpzay0x", "Bearer key-1"}
_PAGE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One row that the product keeps."""

    row_id: str
    at: datetime
    prompt: str
    route: str


@dataclass(slots=True)
class FakeApi(httpx.AsyncBaseTransport):
    """Answers as the product would.

    Attributes:
        has_v2: Whether Langfuse's second version is there.
        bodies_url: Where Helicone keeps bodies.
        failures: What is answered instead, by the number of the request.
    """

    product: str
    rows: Sequence[Kept]
    has_v2: bool = True
    bodies_url: str = "https://bodies.example.com"
    failures: dict[int, httpx.Response] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.requests.append(request)
        number = len(self.requests) - 1
        if number in self.failures:
            return self.failures[number]
        path = request.url.path
        if path.startswith("/bodies/"):
            assert "authorization" not in request.headers
            return self._body(path.rpartition("/")[2])
        if request.headers.get("authorization") not in _AUTH:
            return httpx.Response(401, json={"error": "no"})
        match self.product:
            case "langfuse":
                return self._langfuse(path, request)
            case "helicone":
                if request.method == "GET":
                    return self._helicone_one(path.rpartition("/")[2])
                return self._helicone(json.loads(request.content))
            case _:
                return self._openai(path, request)

    # --- Langfuse -----------------------------------------------------------------------------

    def _langfuse(self, path: str, request: httpx.Request) -> httpx.Response:
        asked = {
            name: values[0] for name, values in parse_qs(urlsplit(str(request.url)).query).items()
        }
        if path.endswith("/v2/observations"):
            if not self.has_v2:
                return httpx.Response(404, json={})
            return self._langfuse_v2(asked)
        if not path.endswith("/observations"):
            row = self._row(path.rpartition("/")[2])
            return httpx.Response(200, json=_observation(row, has_io=True))
        page, limit = int(asked["page"]), min(int(asked["limit"]), _PAGE)
        rows = self._between(asked.get("fromStartTime"), asked.get("toStartTime"))
        shown = rows[(page - 1) * limit : page * limit]
        meta = {"page": page, "totalPages": -(-len(rows) // limit)}
        data = [_observation(row, has_io=True) for row in shown]
        return httpx.Response(200, json={"data": data, "meta": meta})

    def _langfuse_v2(self, asked: dict[str, str]) -> httpx.Response:
        rows = self._between(asked.get("fromStartTime"), asked.get("toStartTime"))
        if "traceId" in asked:
            rows = [row for row in rows if f"t{row.row_id}" == asked["traceId"]]
        start = int(asked.get("cursor", "0"))
        limit = min(int(asked["limit"]), _PAGE)
        has_io = "io" in asked["fields"].split(",")
        data = [_observation(row, has_io=has_io) for row in rows[start : start + limit]]
        more = start + limit < len(rows)
        meta = {"cursor": str(start + limit)} if more else {}
        return httpx.Response(200, json={"data": data, "meta": meta})

    # --- Helicone -----------------------------------------------------------------------------

    def _helicone(self, asked: dict[str, Any]) -> httpx.Response:
        start = end = None
        if asked["filter"] != "all":
            left, right = asked["filter"]["left"], asked["filter"]["right"]
            start = left["request_response_rmt"]["request_created_at"]["gte"]
            end = right["request_response_rmt"]["request_created_at"]["lt"]
        rows = self._between(start, end)
        shown = rows[asked["offset"] : asked["offset"] + asked["limit"]]
        data = [self._helicone_request(row) for row in shown]
        return httpx.Response(200, json={"data": data, "error": None})

    def _helicone_one(self, row_id: str) -> httpx.Response:
        data = self._helicone_request(self._row(row_id))
        return httpx.Response(200, json={"data": data, "error": None})

    def _helicone_request(self, row: Kept) -> dict[str, object]:
        return {
            "request_id": row.row_id,
            "request_created_at": row.at.isoformat(),
            "response_status": 200,
            "request_model": "gpt-4.1",
            "request_properties": {"route": row.route},
            "cache_reference_id": "00000000-0000-0000-0000-000000000000",
            "signed_body_url": f"{self.bodies_url}/bodies/{row.row_id}",
        }

    def _body(self, row_id: str) -> httpx.Response:
        request = {"model": "gpt-4.1", "messages": _messages(self._row(row_id))}
        return httpx.Response(200, json={"request": request, "response": _completion("fine")})

    # --- OpenAI -------------------------------------------------------------------------------

    def _openai(self, path: str, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        if path.endswith("/messages"):
            row = self._row(path.split("/")[-2])
            data = [{"id": f"m-{n}", **message} for n, message in enumerate(_messages(row))]
            return httpx.Response(200, json={"data": data, "has_more": False})
        if not path.endswith("/completions"):
            return httpx.Response(200, json=_stored(self._row(path.rpartition("/")[2])))
        rows = sorted(self.rows, key=lambda row: row.at, reverse=params["order"] == "desc")
        ids = [row.row_id for row in rows]
        start = ids.index(params["after"]) + 1 if "after" in params else 0
        limit = min(int(params["limit"]), _PAGE)
        data = [_stored(row) for row in rows[start : start + limit]]
        return httpx.Response(200, json={"data": data, "has_more": start + limit < len(rows)})

    def _between(self, start: str | None, end: str | None) -> list[Kept]:
        first = datetime.fromisoformat(start) if start else datetime.min.replace(tzinfo=UTC)
        last = datetime.fromisoformat(end) if end else datetime.max.replace(tzinfo=UTC)
        return [row for row in self.rows if first <= row.at < last]

    def _row(self, row_id: str) -> Kept:
        return next(row for row in self.rows if row.row_id == row_id)


def _observation(row: Kept, *, has_io: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "id": row.row_id,
        "traceId": f"t{row.row_id}",
        "type": "GENERATION",
        "startTime": row.at.isoformat(),
        "level": "DEFAULT",
        "model": "gpt-4.1",
        "metadata": {"route": row.route},
        "usageDetails": {"input": 12, "output": 3, "total": 15},
        "modelParameters": {"temperature": "0.5", "max_tokens": 99},
    }
    if has_io:
        found |= {"input": json.dumps(_messages(row)), "output": '{"content": "fine"}'}
    return found


def _stored(row: Kept) -> dict[str, object]:
    return {
        "id": row.row_id,
        "created": row.at.timestamp(),
        "model": "gpt-4.1",
        "metadata": {"route": row.route},
        "temperature": 0.5,
        **_completion("fine"),
    }


def _messages(row: Kept) -> list[dict[str, object]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": row.prompt}]


def _completion(text: str) -> dict[str, object]:
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}


@dataclass(slots=True)
class ServedApi:
    """The product behind a real address; a listing of its may be left without an answer.

    Attributes:
        silent_at: The number, from 1, of the page that is never answered; 0: every one is.
        is_silent: Set when that page was asked for.
        pages: The beginnings of the pages that were asked for.
    """

    api: FakeApi
    silent_at: int = 0
    is_silent: threading.Event = field(default_factory=threading.Event)
    pages: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request over HTTP."""
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = scope["query_string"].decode()
        request = httpx.Request(
            scope["method"],
            f"http://{_header(scope, b'host')}{scope['path']}?{query}".rstrip("?"),
            headers=[(key, value) for key, value in scope["headers"] if key != b"host"],
            content=body,
        )
        is_there = self.api.has_v2 or "/v2/" not in scope["path"]
        if is_there and (begins_at := _page_of(request)) is not None:
            self.pages.append(begins_at)
            if len(self.pages) == self.silent_at:
                self.is_silent.set()
                await receive()  # until who asked is gone
                return
        answer = await self.api.handle_async_request(request)
        headers = [(b"content-type", b"application/json")]
        await send(
            {"type": "http.response.start", "status": answer.status_code, "headers": headers}
        )
        await send({"type": "http.response.body", "body": answer.content})


def _page_of(request: httpx.Request) -> str | None:
    """Where the page of a listing begins; None for what is no page of a window."""
    path, params = request.url.path, request.url.params
    if path.endswith("/query-clickhouse"):
        asked = json.loads(request.content)
        return None if asked["filter"] == "all" else str(asked["offset"])
    if path.endswith("/completions") and "limit" in params:
        return str(params.get("after", ""))
    if path.endswith("/observations") and "fromStartTime" in params:
        return str(params.get("cursor") or params.get("page", ""))
    return None


def _header(scope: Scope, name: bytes) -> str:
    return next(bytes(value).decode() for key, value in scope["headers"] if key == name)
