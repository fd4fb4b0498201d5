"""A Slack-compatible server that records what it is sent and fails on demand.

Routes: the Web API methods under `/api/`, uploads under `/_upload/`, incoming webhooks under
`/services/`, and for those who run the sandbox `/_sandbox/messages` (GET, DELETE) and
`/_sandbox/slack` (GET, POST `{"mode": …, "times": …, "method": …, "retry_after": …}`).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

_PAGE = "<html><body>Slack is down for maintenance</body></html>"
_TEXT_LIMIT = 40_000
_BOT = {"user_id": "U0SANDBOX", "bot_id": "B0SANDBOX", "team_id": "T0SANDBOX"}


class SlackMode(StrEnum):
    """How the server behaves; any other text is returned as Slack's error code."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"  # 429 with Retry-After
    SERVER_ERROR = "server_error"  # 500
    INVALID_AUTH = "invalid_auth"
    CHANNEL_NOT_FOUND = "channel_not_found"
    IS_ARCHIVED = "is_archived"
    FATAL_ERROR = "fatal_error"  # records the message, then says so
    HANG = "hang"  # no byte, ever
    HTML = "html"  # 200 with an HTML page
    POST_THEN_DROP = "post_then_drop"  # records the message, then drops the connection


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackRule:
    """One mode and to what it applies.

    Attributes:
        mode: A `SlackMode` or an error code of Slack.
        times: For how many requests; none means until changed.
        method: Only this Web API method, or "webhook".
        retry_after: The Retry-After header of a 429.
    """

    mode: str = SlackMode.OK
    times: int | None = None
    method: str | None = None
    retry_after: str = "1"


class Slack:
    """State of one Slack-compatible server.

    Attributes:
        rule: How it behaves now.
    """

    def __init__(self, *, log: Path | None = None, tokens: tuple[str, ...] = ()) -> None:
        self.rule = SlackRule()
        self._tokens = tokens
        self._file = (
            None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        )
        self.clear()

    def clear(self) -> None:
        """Forgets all messages and files."""
        self._messages: list[dict[str, object]] = []
        self._files: dict[str, dict[str, object]] = {}
        self._requests = 0
        self._count = 0

    @property
    def messages(self) -> list[dict[str, object]]:
        """What was posted, in order; an update changes the entry and keeps its `history`."""
        return list(self._messages)

    @property
    def files(self) -> dict[str, dict[str, object]]:
        """Uploaded files by id: name, size, and where they were shared."""
        return dict(self._files)

    @property
    def requests(self) -> int:
        """How many requests came, failed ones included."""
        return self._requests

    def set_rule(self, rule: SlackRule | None = None) -> None:
        """Behaves by that rule from now on; without one, as it should."""
        self.rule = rule or SlackRule()

    def mode_for(self, method: str) -> SlackRule:
        """The rule that meets this request; uses up one of its times."""
        rule = self.rule
        if rule.mode == SlackMode.OK or (rule.method is not None and rule.method != method):
            return SlackRule()
        if rule.times is not None:
            left = rule.times - 1
            self.rule = (
                SlackRule(
                    mode=rule.mode, times=left, method=rule.method, retry_after=rule.retry_after
                )
                if left > 0
                else SlackRule()
            )
        return rule

    def is_authorised(self, token: str) -> bool:
        """Whether a token opens the door: a known one, or any bot token when none is known."""
        return token in self._tokens if self._tokens else token.startswith("xox")

    def record(self, method: str, outcome: str, arguments: Mapping[str, object]) -> None:
        """Appends one request to the log file."""
        self._requests += 1
        if self._file is not None:
            line = {"method": method, "outcome": outcome, "arguments": dict(arguments)}
            os.write(self._file, json.dumps(line).encode() + b"\n")

    def call(self, method: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """The answer of a Web API method."""
        match method:
            case "auth.test":
                return {"ok": True, "team": "Sandbox", "user": "switchwise", **_BOT}
            case "chat.postMessage":
                return self._post(arguments)
            case "chat.update":
                return self._update(arguments)
            case "conversations.info":
                return self._channel(arguments)
            case "files.getUploadURLExternal":
                return self._upload_url(arguments)
            case "files.completeUploadExternal":
                return self._complete(arguments)
            case _:
                return _error("unknown_method")

    def webhook(self, message: Mapping[str, object]) -> str:
        """What an incoming webhook answers."""
        problem = _problem(message)
        if problem is not None:
            return problem
        self._keep({"channel": "webhook", **message})
        return "ok"

    def store(self, file_id: str, content: bytes) -> bool:
        """Keeps an uploaded file's size; False for an unknown id."""
        file = self._files.get(file_id)
        if file is None:
            return False
        file["received_bytes"] = len(content)
        file["head"] = content[:8].hex()
        return True

    def close(self) -> None:
        """Closes the log file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _post(self, arguments: Mapping[str, object]) -> dict[str, object]:
        channel = str(arguments.get("channel") or "")
        if not channel:
            return _error("channel_not_found")
        problem = _problem(arguments)
        if problem is not None:
            return _error(problem)
        thread = arguments.get("thread_ts")
        if thread and not any(message["ts"] == thread for message in self._messages):
            return _error("thread_not_found")
        entry = self._keep({**arguments, "channel": channel})
        message = {"type": "message", "text": entry.get("text", ""), "ts": entry["ts"], **_BOT}
        return {"ok": True, "channel": channel, "ts": entry["ts"], "message": message}

    def _update(self, arguments: Mapping[str, object]) -> dict[str, object]:
        found = next((m for m in self._messages if m["ts"] == arguments.get("ts")), None)
        if found is None or found["channel"] != arguments.get("channel"):
            return _error("message_not_found")
        problem = _problem(arguments)
        if problem is not None:
            return _error(problem)
        history = found.setdefault("history", [])
        if isinstance(history, list):
            history.append({key: found.get(key) for key in ("text", "blocks", "attachments")})
        found.update({key: value for key, value in arguments.items() if key != "token"})
        return {"ok": True, "channel": found["channel"], "ts": found["ts"], "text": found["text"]}

    def _channel(self, arguments: Mapping[str, object]) -> dict[str, object]:
        channel = str(arguments.get("channel") or "")
        if not channel:
            return _error("channel_not_found")
        detail = {"id": channel, "name": "platform", "is_member": True, "is_archived": False}
        return {"ok": True, "channel": detail}

    def _upload_url(self, arguments: Mapping[str, object]) -> dict[str, object]:
        if not arguments.get("filename") or not str(arguments.get("length", "")).isdigit():
            return _error("invalid_arguments")
        self._count += 1
        file_id = f"F{self._count:08d}"
        self._files[file_id] = {
            "name": arguments["filename"],
            "length": int(str(arguments["length"])),
            "alt_txt": arguments.get("alt_txt") or arguments.get("alt_text"),
        }
        return {"ok": True, "file_id": file_id, "upload_url": f"/_upload/{file_id}"}

    def _complete(self, arguments: Mapping[str, object]) -> dict[str, object]:
        listed = arguments.get("files")
        entries = json.loads(listed) if isinstance(listed, str) else listed
        if not isinstance(entries, list) or not entries:
            return _error("invalid_arguments")
        answer = []
        for entry in entries:
            file = self._files.get(str(entry.get("id")))
            if file is None or "received_bytes" not in file:
                return _error("file_not_found")
            file["title"] = entry.get("title")
            file["channel"] = arguments.get("channel_id")
            file["thread_ts"] = arguments.get("thread_ts")
            file["initial_comment"] = arguments.get("initial_comment")
            answer.append({"id": entry["id"], "title": file["title"], "name": file["name"]})
        return {"ok": True, "files": answer}

    def _keep(self, message: Mapping[str, object]) -> dict[str, object]:
        self._count += 1
        entry = {key: value for key, value in message.items() if key != "token"}
        entry["ts"] = f"{1_700_000_000 + self._count}.{self._count:06d}"
        self._messages.append(entry)
        return entry


def slack_app(slack: Slack) -> Starlette:
    """The ASGI application of a Slack-compatible server."""
    return Starlette(routes=slack_routes(slack))


def slack_routes(slack: Slack) -> list[Route]:
    """The routes of a Slack-compatible server."""
    desk = _Desk(slack)
    return [
        Route("/api/{method}", desk.method, methods=["GET", "POST"]),
        Route("/_upload/{file_id}", desk.upload, methods=["POST"]),
        Route("/services/{path:path}", desk.webhook, methods=["POST"]),
        Route("/_sandbox/messages", desk.messages, methods=["GET", "DELETE"]),
        Route("/_sandbox/slack", desk.rule, methods=["GET", "POST"]),
    ]


class _Desk:
    """Takes requests for a Slack."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack

    async def method(self, request: Request) -> Response:
        """One Web API method."""
        slack, name = self._slack, request.path_params["method"]
        arguments = await _arguments(request)
        header = request.headers.get("authorization", "")
        token = header.partition(" ")[2] or str(arguments.get("token", ""))
        rule = slack.mode_for(name)
        failed = await self._failed(request, rule, name, arguments)
        if failed is not None:
            return failed
        if not slack.is_authorised(token):
            slack.record(name, "not_authed", arguments)
            return JSONResponse(_error("invalid_auth" if token else "not_authed"))
        answer = slack.call(name, arguments)
        if "upload_url" in answer:
            answer["upload_url"] = str(request.base_url).rstrip("/") + str(answer["upload_url"])
        slack.record(name, str(answer.get("error", "ok")), arguments)
        if rule.mode == SlackMode.POST_THEN_DROP:
            return await _dropped(request)
        if rule.mode == SlackMode.FATAL_ERROR:
            return JSONResponse(_error("fatal_error"))
        return JSONResponse(answer)

    async def webhook(self, request: Request) -> Response:
        """One message by incoming webhook."""
        slack = self._slack
        arguments = await _arguments(request)
        rule = slack.mode_for("webhook")
        failed = await self._failed(request, rule, "webhook", arguments)
        if failed is not None:
            return failed
        answer = slack.webhook(arguments)
        slack.record("webhook", answer, arguments)
        if rule.mode == SlackMode.POST_THEN_DROP:
            return await _dropped(request)
        return PlainTextResponse(answer, status_code=200 if answer == "ok" else 400)

    async def upload(self, request: Request) -> Response:
        """The bytes of a file."""
        known = self._slack.store(request.path_params["file_id"], await request.body())
        self._slack.record("upload", "ok" if known else "file_not_found", {})
        return PlainTextResponse("OK", status_code=200 if known else 404)

    async def messages(self, request: Request) -> Response:
        """Shows (GET) or forgets (DELETE) all messages and files."""
        slack = self._slack
        if request.method == "DELETE":
            slack.clear()
        return JSONResponse(
            {"messages": slack.messages, "files": slack.files, "requests": slack.requests}
        )

    async def rule(self, request: Request) -> Response:
        """Shows (GET) or sets (POST) how the server behaves."""
        slack = self._slack
        if request.method == "POST":
            data = await request.json()
            try:
                slack.rule = SlackRule(**data)
            except TypeError as error:
                return JSONResponse({"error": str(error)}, status_code=400)
        rule = slack.rule
        return JSONResponse({"mode": rule.mode, "times": rule.times, "method": rule.method})

    async def _failed(
        self, request: Request, rule: SlackRule, name: str, arguments: Mapping[str, object]
    ) -> Response | None:
        """The failure the rule asks for; None when the request is to be carried out."""
        if rule.mode in {SlackMode.OK, SlackMode.POST_THEN_DROP, SlackMode.FATAL_ERROR}:
            return None
        self._slack.record(name, rule.mode, arguments)
        match rule.mode:
            case SlackMode.RATE_LIMITED:
                return JSONResponse(
                    _error("ratelimited"), 429, headers={"retry-after": rule.retry_after}
                )
            case SlackMode.SERVER_ERROR:
                return PlainTextResponse("Internal Server Error", status_code=500)
            case SlackMode.HTML:
                return HTMLResponse(_PAGE)
            case SlackMode.HANG:
                return await _gone(request)
            case code if name == "webhook":
                status = _WEBHOOK_STATUS.get(code, 400)
                return PlainTextResponse(_WEBHOOK_WORDS.get(code, code), status_code=status)
            case code:
                return JSONResponse(_error(code))


_WEBHOOK_STATUS = {"invalid_auth": 403, "channel_not_found": 404, "is_archived": 410}
_WEBHOOK_WORDS = {"invalid_auth": "invalid_token", "is_archived": "channel_is_archived"}


async def _dropped(request: Request) -> Response:
    """Closes the connection instead of answering."""
    transport = request.scope.get("state", {}).get("transport")
    if transport is None:
        raise ConnectionAbortedError("this server cannot drop a connection")
    transport.abort()
    return await _gone(request)


async def _gone(request: Request) -> Response:
    """Waits until the caller has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response(status_code=499)


async def _arguments(request: Request) -> dict[str, object]:
    """Query, form and JSON arguments together."""
    arguments: dict[str, object] = dict(request.query_params)
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            loaded = json.loads(body)
        except ValueError:
            return arguments
        return arguments | (loaded if isinstance(loaded, dict) else {})
    form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    if "payload" in form:
        form |= json.loads(form["payload"])
    for name in ("blocks", "attachments"):
        if name in form:
            arguments[name] = json.loads(form.pop(name))
    return arguments | form


def _problem(message: Mapping[str, object]) -> str | None:
    """Slack's error code for a message outside its limits; None for a good one."""
    text, blocks = message.get("text"), message.get("blocks")
    if not text and not blocks and not message.get("attachments"):
        return "no_text"
    if len(str(text or "")) > _TEXT_LIMIT:
        return "msg_too_long"
    if blocks is None:
        return None
    if not isinstance(blocks, list) or len(blocks) > 50:
        return "invalid_blocks"
    return "invalid_blocks" if any(not _is_valid_block(block) for block in blocks) else None


def _is_valid_block(block: object) -> bool:
    if not isinstance(block, Mapping):
        return False
    match block.get("type"):
        case "header":
            return 0 < len(_text_of(block.get("text"))) <= 150
        case "section":
            fields = block.get("fields") or []
            own = _text_of(block.get("text"))
            return (
                bool(own or fields)
                and len(own) <= 3000
                and len(fields) <= 10
                and all(0 < len(_text_of(field)) <= 2000 for field in fields)
            )
        case "context":
            return 0 < len(block.get("elements") or []) <= 10
        case "divider" | "image" | "rich_text" | "actions" | "markdown" | "table":
            return True
        case _:
            return False


def _text_of(element: object) -> str:
    return str(element.get("text", "")) if isinstance(element, Mapping) else ""


def _error(code: str) -> dict[str, object]:
    return {"ok": False, "error": code}
