"""The APIs of three products that keep prompts: how each is paged, and where bodies are."""

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from app.domain.cases import Window
from app.domain.errors import LogSourceError
from app.domain.models import Secret
from app.logsources.exported_records import Record
from app.logsources.reading_client import ReadingClient, Sleep

_LANGFUSE_V2 = "/api/public/v2/observations"
_LANGFUSE_V1 = "/api/public/observations"
_KEY_FIELDS = "core,basic,time,metadata,model,usage,trace_context"
_BODY_FIELDS = f"{_KEY_FIELDS},io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some records without their bodies; `cursor` leads to the next ones, None at the end."""

    records: Sequence[Record]
    cursor: str | None


class LogApi(Protocol):
    """One product's API, read only."""

    async def page(self, window: Window | None, cursor: str | None) -> Page:
        """The records of a window from a cursor on; of any time without a window."""

    def kept(self, record: Record) -> Record:
        """What `whole` needs of a record, and no text of anybody's."""

    async def whole(self, record: Record) -> Record:
        """The record with its bodies, from what is kept of it."""

    async def close(self) -> None:
        """Give back connections."""


def open_api(
    product: str,
    options: Mapping[str, Secret],
    transport: httpx.AsyncBaseTransport | None = None,
    sleep: Sleep = asyncio.sleep,
) -> LogApi:
    """The API of a product.

    Args:
        product: langfuse, helicone or openai.
        options: `logs.options`: base_url and credentials.
        transport: What carries the requests; the network unless a test says otherwise.
        sleep: Waits between tries.

    Raises:
        LogSourceError: If credentials are missing.
    """
    url, needed, kind = _APIS[product]
    missing = [name for name in needed if not options.get(name)]
    if missing:
        raise LogSourceError(
            f"the preset {product} reads its API with logs.options.{' and '.join(missing)}, "
            "or an export file with logs.path"
        )
    base_url = options["base_url"].reveal() if options.get("base_url") else url
    values = [options[name].reveal() for name in needed]
    if product == "langfuse":
        token = base64.b64encode(":".join(values).encode()).decode()
        authorization = f"Basic {token}"
    else:
        authorization = f"Bearer {values[0]}"
    client = ReadingClient(
        product=product,
        base_url=base_url,
        headers={"authorization": authorization},
        keys=" and ".join(f"logs.options.{name}" for name in needed),
        transport=transport,
        sleep=sleep,
    )
    return kind(client)


class Langfuse:
    """Observations of type generation: the second version of the API, else the first."""

    def __init__(self, client: ReadingClient) -> None:
        self._client = client
        self._is_first_version = False

    async def page(self, window: Window | None, cursor: str | None) -> Page:
        """Up to 1,000 records (100 in the first version)."""
        params: dict[str, str | int] = {"type": "GENERATION"}
        if window is not None:
            params |= {"fromStartTime": _iso(window.start), "toStartTime": _iso(window.end)}
        if not self._is_first_version:
            asked = params | {"fields": _KEY_FIELDS, "limit": 1_000 if window else 1}
            found = await self._client.get(
                _LANGFUSE_V2, asked | ({"cursor": cursor} if cursor else {}), absent_ok=True
            )
            if found is not None:
                return Page(records=_records(found), cursor=_meta(found).get("cursor") or None)
            self._is_first_version = True
        number = int(cursor or 1)
        found = await self._client.get(
            _LANGFUSE_V1, params | {"page": number, "limit": 100 if window else 1}
        )
        has_more = number < int(_meta(found).get("totalPages") or 0)
        records = [_without(record, "input", "output") for record in _records(found)]
        return Page(records=records, cursor=str(number + 1) if has_more else None)

    def kept(self, record: Record) -> Record:
        """Its id and that of its trace."""
        return _only(record, "id", "traceId")

    async def whole(self, record: Record) -> Record:
        """The observation with input and output."""
        if self._is_first_version:
            path = f"{_LANGFUSE_V1}/{quote(str(record['id']), safe='')}"
            found = await self._client.get(path, absent_ok=True)
            return found if isinstance(found, Mapping) else record
        asked: dict[str, str | int] = {
            "traceId": str(record.get("traceId")),
            "type": "GENERATION",
            "fields": _BODY_FIELDS,
            "limit": 1_000,
        }
        cursor: str | None = ""
        while cursor is not None:
            found = await self._client.get(
                _LANGFUSE_V2, asked | ({"cursor": cursor} if cursor else {}), absent_ok=True
            )
            if found is None:  # the listing was begun by another process
                self._is_first_version = True
                return await self.whole(record)
            for one in _records(found):
                if one.get("id") == record["id"]:
                    return {**record, **one}
            cursor = _meta(found).get("cursor") or None
        return record

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()


class Helicone:
    """Requests; their bodies are behind signed addresses."""

    def __init__(self, client: ReadingClient) -> None:
        self._client = client

    async def page(self, window: Window | None, cursor: str | None) -> Page:
        """Up to 500 records, oldest first."""
        offset, limit = int(cursor or 0), 500 if window else 1
        found = await self._client.post(
            "/v1/request/query-clickhouse",
            {
                "filter": "all" if window is None else _helicone_filter(window),
                "offset": offset,
                "limit": limit,
                "sort": {"created_at": "asc"},
            },
        )
        records = _records(found)
        more = str(offset + len(records)) if len(records) == limit else None
        return Page(records=records, cursor=more)

    def kept(self, record: Record) -> Record:
        """Its id: a signed address is a key to the bodies, and ends soon."""
        return _only(record, "request_id")

    async def whole(self, record: Record) -> Record:
        """The request with what was asked and answered; without them where they are gone."""
        path = f"/v1/request/{quote(str(record['request_id']), safe='')}"
        found = await self._client.get(path, absent_ok=True)
        data = found.get("data") if isinstance(found, Mapping) else None
        told = {**record, **(data if isinstance(data, Mapping) else {})}
        url = told.get("signed_body_url")
        if not isinstance(url, str) or not url:
            return told
        bodies = await self._client.fetch(url)
        if not isinstance(bodies, Mapping):
            return told
        return {
            **told,
            "request_body": bodies.get("request"),
            "response_body": bodies.get("response"),
        }

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()


class OpenAIStored:
    """Chat completions that were made with `store: true`."""

    def __init__(self, client: ReadingClient) -> None:
        self._client = client

    async def page(self, window: Window | None, cursor: str | None) -> Page:
        """Up to 100 completions, newest first; the listing ends before the window does."""
        asked: dict[str, str | int] = {"order": "desc", "limit": 100 if window else 1}
        found = await self._client.get(
            "/chat/completions", asked | ({"after": cursor} if cursor else {})
        )
        records = _records(found)
        oldest = records[-1].get("created") if records else None
        is_past = (
            window is not None
            and isinstance(oldest, int | float)
            and datetime.fromtimestamp(oldest, UTC) < window.start
        )
        has_more = bool(records) and found.get("has_more") is True and not is_past
        return Page(records=records, cursor=str(records[-1]["id"]) if has_more else None)

    def kept(self, record: Record) -> Record:
        """Its id."""
        return _only(record, "id")

    async def whole(self, record: Record) -> Record:
        """The completion with the messages that were sent."""
        path = f"/chat/completions/{quote(str(record['id']), safe='')}"
        completion = await self._client.get(path, absent_ok=True)
        if not isinstance(completion, Mapping):
            return record
        messages: list[Record] = []
        asked: dict[str, str | int] = {"limit": 100, "order": "asc"}
        while True:
            found = await self._client.get(f"{path}/messages", asked)
            page = _records(found)
            messages += [_without(message, "id") for message in page]
            if not page or found.get("has_more") is not True:
                return {**record, **completion, "messages": messages}
            asked["after"] = str(page[-1]["id"])

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()


_APIS: Mapping[str, tuple[str, tuple[str, ...], Callable[[ReadingClient], LogApi]]] = {
    "langfuse": ("https://cloud.langfuse.com", ("public_key", "secret_key"), Langfuse),
    "helicone": ("https://api.helicone.ai", ("api_key",), Helicone),
    "openai": ("https://api.openai.com/v1", ("api_key",), OpenAIStored),
}


def _helicone_filter(window: Window) -> dict[str, object]:
    def bound(operator: str, at: datetime) -> dict[str, object]:
        return {"request_response_rmt": {"request_created_at": {operator: _iso(at)}}}

    return {
        "left": bound("gte", window.start),
        "operator": "and",
        "right": bound("lt", window.end),
    }


def _records(found: Any) -> list[dict[str, Any]]:
    data = found.get("data") if isinstance(found, Mapping) else None
    if not isinstance(data, list):
        raise LogSourceError("the API answers without `data`: check logs.options.base_url")
    return [record for record in data if isinstance(record, dict)]


def _meta(found: Any) -> Mapping[str, Any]:
    meta = found.get("meta") if isinstance(found, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def _only(record: Record, *names: str) -> Record:
    return {name: record[name] for name in names if name in record}


def _without(record: Record, *names: str) -> Record:
    return {name: value for name, value in record.items() if name not in names}


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
