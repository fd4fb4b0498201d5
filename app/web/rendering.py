"""Pages as responses: HTML or JSON of the same data, with an ETag."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from app import __version__
from app.web.figures import FILTERS
from app.web.shown_text import ShownText
from app.web.svg import mark_svg

_FOLDER = Path(str(files("app.web")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page.

    Attributes:
        data: What it tells, as JSON gives it.
        drawn: What only the HTML needs: charts, forms, links.
    """

    template: str
    title: str
    data: Mapping[str, object]
    drawn: Mapping[str, object] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    """A file that pages need, with the digest of what it holds."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """Changes with the content."""
        return hashlib.sha256(self.content).hexdigest()[:16]


STATIC_FILES: Mapping[str, StaticFile] = {
    name: StaticFile(content=(_FOLDER / "static" / name).read_bytes(), media_type=media_type)
    for name, media_type in (
        ("app.css", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("favicon.svg", "image/svg+xml"),
    )
}


class MissingPage(Exception):
    """There is no such plan, Run or Case."""


def templates() -> Environment:
    """The templates: everything is escaped, and a misspelt name is an error."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(
        asset=lambda name: f"/static/{name}?v={STATIC_FILES[name].digest}",
        mark=mark_svg,
        link=link,
        version=__version__,
    )
    return environment


def link(path: str, **parameters: object) -> str:
    """A path with those parameters that are set."""
    query = urlencode(
        {name: value for name, value in parameters.items() if value not in {None, ""}}
    )
    return f"{path}?{query}" if query else path


def respond(request: Request, page: Page, html: str | None) -> Response:
    """The response with an ETag; 304 when the browser has it already.

    Args:
        request: The request.
        page: The page.
        html: The page as HTML; None answers with JSON.
    """
    if html is None:
        body, media_type = json_body(page.data), "application/json"
    else:
        body, media_type = html.encode("utf-8", "replace"), "text/html; charset=utf-8"
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Cookie"}
    if page.status == 200 and tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, status_code=page.status, media_type=media_type, headers=headers)


def wants_json(request: Request) -> bool:
    """Whether the request prefers JSON to HTML."""
    weights = {"application/json": 0.0, "text/html": 0.0}
    for entry in request.headers.get("accept", "").split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        if kind in weights:
            weights[kind] = _weight(parameters)
    return weights["application/json"] > weights["text/html"]


def json_body(data: object) -> bytes:
    """The data as JSON: money as decimal text, instants in ISO 8601."""
    written = json.dumps(data, default=_plain, ensure_ascii=False, allow_nan=False)
    return written.encode("utf-8", "replace")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter.removeprefix("q="))
            except ValueError:
                return 0.0
    return 1.0


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return format(value, "f")
        case date():
            return value.isoformat()
        case ShownText():
            return {"text": value.plain, "note": value.note}
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
