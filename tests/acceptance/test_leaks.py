"""Planted secrets and texts, driven through every error path of real processes at debug level.

Every planted value holds one mark. It may stand in the tables that hold texts and nowhere else: in
no line that a process writes, no message, no webhook's body, no metric, no health page and no view.
"""

import asyncio
import hashlib
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.sandbox.gateway import Gateway
from app.sandbox.runner import running_in_thread, sandbox_app
from app.sandbox.slack import Slack, SlackMode, SlackRule
from app.sandbox.worlds import named_world
from app.storage.exports import exported, view_names
from tests.fakes.vendor_replies import AnthropicShape, stream
from tests.faults.processes import Forked
from tests.fixtures.postgres import free_port
from tests.processes import environment

MARK = "qzx7"
KEY = f"{MARK}gatewaykey0001"
CANDIDATE_KEY = f"{MARK}candidatekey0002"
DSN_PASSWORD = f"{MARK}resultspass0003"
LOGS_PASSWORD = f"{MARK}logspass0004"
SLACK_TOKEN = f"xoxb-{MARK}slack0005"
HOOK_PATH = f"{MARK}hookpath0006"
HOOK_SECRET = f"{MARK}hooksecret0007"
DASHBOARD = f"{MARK}dashboard0008"
HEARTBEAT = f"{MARK}heartbeat0009"
EMAIL = f"zoe.{MARK}@example.org"
PROMPT = f"{MARK}prompt0010"
LOGGED = f"{MARK}logged0011"
REPLY = f"{MARK}reply0012"
RATIONALE = f"{MARK}rationale0013"
SECRETS = {
    "LLM_API_KEY": KEY,
    "CANDIDATE_KEY": CANDIDATE_KEY,
    "SLACK_BOT_TOKEN": SLACK_TOKEN,
    "HOOK_SECRET": HOOK_SECRET,
    "DASHBOARD_TOKEN": DASHBOARD,
    "LOG_LEVEL": "DEBUG",
}
TROUBLES = (
    "bad-key",
    "bad-request",
    "broken",
    "html",
    "other-shape",
    "other-model",
    "error-event",
    "cut",
    "odd-stop",
    "silent",
    "chatty",
)
SHAPE = AnthropicShape()
CASES = 3


# --- the other side -----------------------------------------------------------------------------


@dataclass
class Hostile:
    """A gateway whose models fail by name and say all they were told; others are the sandbox's."""

    calm: ASGIApp
    hooked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(("/_", "/api", "/services")):
            await self.calm(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        if not scope["path"].endswith("/messages"):
            self.hooked.append(body.decode())
            echo = f"cannot take {body.decode()} at {scope['path']}"
            await HTMLResponse(echo, status_code=500)(scope, receive, send)
            return
        told = json.loads(body)
        trouble = str(told["model"]).removeprefix("evil-")
        if trouble == told["model"]:

            async def again() -> dict[str, object]:
                return {"type": "http.request", "body": body, "more_body": False}

            await self.calm(scope, again, send)
            return
        headers = " ".join(value.decode() for _, value in scope["headers"])
        echo = f"{REPLY} {headers} {body.decode()}"
        await (await answer(trouble, str(told["model"]), echo))(scope, receive, send)


async def answer(trouble: str, model: str, echo: str) -> Response:  # noqa: PLR0911 - one per trouble
    """What a model of that kind says: always everything it knows."""
    match trouble:
        case "bad-key":
            return JSONResponse(SHAPE.error("authentication_error", echo), status_code=401)
        case "bad-request":
            return JSONResponse(SHAPE.error("invalid_request_error", echo), status_code=400)
        case "broken":
            return JSONResponse(SHAPE.error("api_error", echo), status_code=500)
        case "html":
            return HTMLResponse(f"<html><body>{echo}</body></html>")
        case "other-shape":
            return JSONResponse({"choices": [{"message": {"content": echo}}]})
        case "other-model":
            return told(stream(SHAPE, echo, model="another-model"))
        case "error-event":
            return told([*SHAPE.opening(model=model), SHAPE.error_event("overloaded_error", echo)])
        case "cut":
            return told([*SHAPE.opening(model=model), *SHAPE.texts(echo)])
        case "odd-stop":
            return told(stream(SHAPE, echo, model=model, stop=echo))
        case "silent":
            await asyncio.sleep(60)
            return JSONResponse({})
        case "grader":
            return told(stream(SHAPE, json.dumps({"reason": RATIONALE, "score": 4}), model=model))
        case _:
            return told(stream(SHAPE, echo, model=model))


def told(events: list[bytes]) -> Response:
    return StreamingResponse(iter(events), media_type="text/event-stream")


# --- our side -----------------------------------------------------------------------------------


@dataclass
class Scene:
    """Logs full of marks, everything that fails, and all that was written about it."""

    folder: Path
    url: str
    slack: Slack
    hostile: Hostile
    dsn: str
    logs_dsn: str
    written: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def plan(self, **changes: object) -> dict[str, object]:
        """A plan as it is written in YAML."""
        price = {"input": 3, "output": 15}
        return {
            "version": 1,
            "name": "leaky",
            "gateway": {
                "base_url": self.url,
                "api_key": "${LLM_API_KEY}",
                "concurrency": 8,
                "timeout": "1s",
            },
            "primary": {"name": "prime", "model": "sandbox-prime", "price": price},
            "candidates": [{"name": "swift", "model": "sandbox-swift", "price": price}],
            "logs": {
                "dsn": "${LOGS_DATABASE_URL}",
                "table": "public.leaky_logs",
                "columns": {"prompt": "prompt", "system": "system", "response": "response"},
            },
            "sample": {"n": CASES, "adaptive": False, "anchors": 0},
            "judge": {"canaries": 0, "models": [grader("grader"), grader("chatty")]},
            "budget": {"per_run_usd": 50},
            "slack": {
                "token": "${SLACK_BOT_TOKEN}",
                "channel": "C0LEAKS",
                "base_url": f"{self.url}/api/",
            },
            **changes,
        }

    def does(
        self, name: str, *words: str, plan: Mapping[str, object] | str | None = None, **env: str
    ) -> None:
        """Run a command and keep all that it writes; logs take both forms in turn."""
        number = str(len(self.written))
        form = "json" if len(self.written) % 2 else "console"
        options = () if plan is None else ("--config", self._written(name, plan))
        process = Forked(
            (*words, *options),
            self.folder,
            environment(**{**self.environment(), "LOG_FORMAT": form, **env}),
            number,
        )
        code = process.wait(120)
        assert code is not None, f"{name} does not end"
        self.codes[name] = code
        self.written[name] = "".join(
            (self.folder / f"{stream}-{number}").read_text(encoding="utf-8")
            for stream in ("out", "err")
        )

    def environment(self) -> dict[str, str]:
        return {**SECRETS, "DATABASE_URL": self.dsn, "LOGS_DATABASE_URL": self.logs_dsn}

    def starts(self, plan: Mapping[str, object]) -> Forked:
        """Start the service; its log is read with `log`."""
        arguments = ("serve", "--config", self._written("serve", plan))
        env = environment(**self.environment(), LOG_FORMAT="json")
        return Forked(arguments, self.folder, env, "serve")

    def log(self) -> str:
        """What the service has written so far."""
        files = [self.folder / f"{stream}-serve" for stream in ("out", "err")]
        return "".join(file.read_text(encoding="utf-8") for file in files if file.exists())

    def _written(self, name: str, plan: Mapping[str, object] | str) -> str:
        file = self.folder / f"{name.replace(' ', '-')}.yaml"
        text = plan if isinstance(plan, str) else yaml.safe_dump(plan, sort_keys=False)
        file.write_text(text, encoding="utf-8")
        return str(file)


def grader(trouble: str) -> dict[str, object]:
    price = {"input": 1, "output": 5}
    return {"name": f"judge-{trouble}", "model": f"evil-{trouble}", "price": price}


def candidate(trouble: str) -> dict[str, object]:
    price = {"input": 1, "output": 5}
    return {
        "name": trouble,
        "model": f"evil-{trouble}",
        "price": price,
        "api_key": "${CANDIDATE_KEY}",
    }


def with_password(dsn: str, user: str, password: str, **place: str) -> str:
    """The address of the same database for another user."""
    known = {**conninfo_to_dict(dsn), **place}
    host, port = quote(str(known["host"]), safe=""), known.get("port", 5432)
    return f"postgresql://{user}:{password}@/{known['dbname']}?host={host}&port={port}"


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Iterator[Scene]:
    user = "leaks_" + hashlib.sha256(database_url.encode()).hexdigest()[:12]
    now = datetime.fromtimestamp(time.time(), UTC)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(
                sql.Identifier(user), sql.Literal(DSN_PASSWORD)
            )
        )
        connection.execute(
            b"CREATE TABLE leaky_logs (id bigint PRIMARY KEY, created_at timestamptz NOT NULL,"
            b" system text, prompt text, response text)"
        )
        for number in range(3 * CASES):
            connection.execute(
                b"INSERT INTO leaky_logs VALUES (%s, %s, %s, %s, %s)",
                (
                    number,
                    now - timedelta(hours=1 + number),
                    f"{EMAIL} asks for help.",
                    f"{PROMPT} number {number}: write to {EMAIL} and say thanks",
                    f"{LOGGED} thanks",
                ),
            )
    slack = Slack(tokens=(SLACK_TOKEN,))
    hostile = Hostile(sandbox_app(Gateway(named_world("calm")), slack))
    try:
        with running_in_thread(hostile) as url:
            yield Scene(
                folder=tmp_path,
                url=url,
                slack=slack,
                hostile=hostile,
                dsn=with_password(database_url, user, DSN_PASSWORD),
                logs_dsn=with_password(database_url, user, DSN_PASSWORD),
            )
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))


def leaks(texts: Mapping[str, str]) -> list[str]:
    """Where the mark stands, with what is around it."""
    found = []
    for name, text in texts.items():
        at = text.find(MARK)
        while at >= 0:
            found.append(f"{name}: …{text[max(0, at - 160) : at + 60]!r}…")
            at = text.find(MARK, at + 200)
    return found


def views(dsn: str) -> dict[str, str]:
    return {f"view {name}": "\n".join(exported(dsn, name, form="jsonl")) for name in view_names()}


def posted(scene: Scene) -> dict[str, str]:
    return {
        "slack": json.dumps(scene.slack.messages, ensure_ascii=False),
        "webhook": "\n".join(scene.hostile.hooked),
    }


def kept(dsn: str, table: str) -> int:
    """Rows of a table that hold the mark."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            f"SELECT count(*) FROM switchwise.{table} AS t WHERE t::text LIKE '%{MARK}%'".encode()
        ).fetchone()
    return int(row[0]) if row else 0


# --- tests --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_models_and_judges_say_in_anger_stays_in_the_tables_for_texts(scene: Scene) -> None:
    many = scene.plan(candidates=[candidate(trouble) for trouble in TROUBLES])

    scene.does("hostile", "run", "--max-usd", "50", plan=many)
    scene.does("primary-refused", "run", plan=scene.plan(
        primary={"name": "prime", "model": "evil-bad-key", "price": {"input": 3, "output": 15}}
    ))  # fmt: skip
    scene.does("online", "check", "--online", plan=many)
    for words in (["report"], ["report", "--json"], ["explain"], ["history"], ["status"]):
        scene.does(" ".join(words), *words)

    assert kept(scene.dsn, "cases") > 0, "prompts must have been met"
    assert kept(scene.dsn, "attempts") > 0, "and replies"
    assert kept(scene.dsn, "scores") > 0, "and the judge's words"
    assert kept(scene.dsn, "runs") == 0
    assert scene.slack.messages
    assert leaks({**scene.written, **posted(scene), **views(scene.dsn)}) == []


def test_databases_that_fail_do_not_make_us_quote_addresses_or_rows(scene: Scene) -> None:
    plan = scene.plan()
    away = with_password(scene.dsn, "ops", DSN_PASSWORD, host="127.0.0.1", port=str(free_port()))
    lost = with_password(scene.dsn, "ops", LOGS_PASSWORD, host="127.0.0.1", port=str(free_port()))
    for words in (["run"], ["check"], ["status"], ["serve"], ["plan"], ["db", "prune"]):
        scene.does(f"results away {words[-1]}", *words, plan=plan, DATABASE_URL=away)
    for words in (["report"], ["export"], ["db", "upgrade"], ["db", "status"]):
        scene.does(f"results away {words[-1]}", *words, DATABASE_URL=away)
    for words in (["run"], ["check"], ["plan"]):
        scene.does(f"logs away {words[-1]}", *words, plan=plan, LOGS_DATABASE_URL=lost)
        columns = {"prompt": "(prompt || system)::int::text", "response": "response"}
        quoting = scene.plan(
            logs={"dsn": "${LOGS_DATABASE_URL}", "table": "leaky_logs", "columns": columns}
        )
        scene.does(f"query quotes {words[-1]}", *words, plan=quoting)

    assert 0 not in scene.codes.values(), scene.codes
    assert leaks({**scene.written, **posted(scene), **views(scene.dsn)}) == []


def test_an_error_that_nobody_foresaw_is_told_without_what_was_at_hand(scene: Scene) -> None:
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute(
            b"ALTER TABLE switchwise.cases ADD CONSTRAINT odd CHECK (body::text NOT LIKE '%thanks%')"
        )
    scene.does("unforeseen", "run", plan=scene.plan())

    assert scene.codes["unforeseen"] == 1
    assert "CheckViolation" in scene.written["unforeseen"], "it must say what to look for"
    assert leaks({**scene.written, **posted(scene), **views(scene.dsn)}) == []


def test_messages_that_cannot_be_delivered_do_not_betray_how(scene: Scene) -> None:
    hook = {"url": f"{scene.url}/hook/{HOOK_PATH}", "secret": "${HOOK_SECRET}"}
    plan = scene.plan(webhook=hook)
    del plan["slack"]
    scene.does("webhook broken", "notify", "test", plan=plan)
    scene.does("webhook away", "notify", "test", plan={
        **plan, "webhook": {**hook, "url": f"http://127.0.0.1:{free_port()}/{HOOK_PATH}"}
    })  # fmt: skip
    for mode in (SlackMode.INVALID_AUTH, SlackMode.HTML, SlackMode.SERVER_ERROR):
        scene.slack.set_rule(SlackRule(mode=mode))
        scene.does(f"slack {mode}", "notify", "test", plan=scene.plan())
        scene.does(f"slack {mode} of a run", "run", plan=scene.plan())
    scene.slack.set_rule()
    hook_only = {"webhook_url": f"{scene.url}/services/T0/B0/{HOOK_PATH}"}
    scene.does("incoming webhook", "notify", "test", plan=scene.plan(slack=hook_only))
    scene.does("status", "status")

    assert scene.hostile.hooked, "the webhook must have been called"
    assert leaks({**scene.written, **posted(scene), **views(scene.dsn)}) == []


BROKEN_PLANS = {
    "literal key": "gateway: {api_key: %s}",
    "literal key of a model": "primary: {name: a, model: m, api_key: %s}",
    "literal token": "slack: {token: xoxb-%s, channel: C0}",
    "number for a key": "gateway: {api_key: [%s]}",
    "address with a password": "logs: {dsn: 'postgresql://u:%s@[::1', table: t}",
    "address of a gateway with a password": "gateway: {base_url: 'http://u:%s@nowhere.example/'}",
    "address that is none": "gateway: {base_url: 'nothing://u:%s@x'}",
    "heartbeat": "heartbeat_url: 'ftp://beat.example/%s'",
    "webhook": "webhook: {url: 'ftp://hook.example/%s', secret: %s}",
    "unknown key": "gatewy: {api_key: %s}",
    "nested unknown key": "server: {tokn: %s}",
    "token of the pages": "server: {token: %s}",
    "bad yaml": "server: {token: %s\n  }: [",
    "twice": "heartbeat_url: http://x/%s\nheartbeat_url: http://y/%s",
    "tag": "heartbeat_url: !!python/object:os.system %s",
    "header": "primary: {name: a, model: m, headers: {authorization: %s}}",
    "where with a secret": "logs: {table: t, where: ['%s']}",
}


def test_plans_that_are_refused_are_not_quoted(scene: Scene) -> None:
    for name, line in BROKEN_PLANS.items():
        wrong = line.replace("%s", f"{MARK}planted0014")
        rest = "version: 1\nname: wrong\n"
        if "primary:" not in wrong:
            rest += "primary: {name: a, model: m}\n"
        rest += "candidates: [{name: b, model: n}]\n"
        if "logs:" not in wrong:
            rest += "logs: {table: t}\n"
        scene.does(name, "check", plan=rest + wrong + "\n")

    assert 0 not in scene.codes.values(), scene.codes
    assert leaks(scene.written) == []


def test_a_service_in_trouble_tells_its_log_and_its_pages_nothing_planted(scene: Scene) -> None:
    port = free_port()
    now = datetime.fromtimestamp(time.time(), UTC) - timedelta(minutes=2)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[now.weekday()]
    plan = scene.plan(
        candidates=[candidate("broken"), candidate("chatty")],
        schedule={"cron": f"{now.minute} {now.hour} * * {day}", "timezone": "UTC"},
        heartbeat_url=f"{scene.url}/beat/{HEARTBEAT}",
        server={"bind": f"127.0.0.1:{port}", "token": "${DASHBOARD_TOKEN}"},
    )
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        connection.execute(
            b"ALTER TABLE switchwise.cases ADD CONSTRAINT odd CHECK (body::text NOT LIKE '%thanks%')"
        )
    service = scene.starts(plan)
    pages: dict[str, str] = {}
    try:
        wait_for(lambda: "IntegrityError" in scene.log(), scene.log)
        for path in ("/healthz", "/readyz", "/metrics", "/", "/runs", "/nowhere"):
            pages[path] = fetched(f"http://127.0.0.1:{port}{path}")
    finally:
        if service.poll() is None:
            service.signal(signal.SIGTERM)
        ended = service.wait(30)

    assert ended == 0, scene.log()
    assert '"seconds_since_tick"' in pages["/healthz"]
    assert kept(scene.dsn, "runs") == 0
    written = {"serve": scene.log(), **pages}
    assert leaks({**written, **posted(scene), **views(scene.dsn)}) == []


def fetched(url: str) -> str:
    """An answer as a visitor without a token sees it, headers included."""
    assert urlsplit(url).hostname == "127.0.0.1"
    try:
        with closing(urllib.request.urlopen(url, timeout=10)) as response:
            return f"{response.headers} {response.read().decode()}"
    except urllib.error.HTTPError as error:
        with closing(error):
            return f"{error.headers} {error.read().decode()}"


def wait_for(is_so: Callable[[], bool], log: Callable[[], str], *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain: {log()[-3000:]}"
        time.sleep(0.1)
