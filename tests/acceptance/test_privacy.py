"""Planted personal data, followed to every place a run writes or sends anything."""

import gzip
import html
import json
import random
import re
import socket
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.plans.sections import REDACTORS
from app.sampling.redaction import Redactor, passes_luhn
from app.sandbox.gateway import Gateway
from app.sandbox.logs import log_rows
from app.sandbox.runner import running_in_thread, sandbox_app
from app.sandbox.worlds import named_world
from tests.faults.processes import Forked
from tests.fixtures.postgres import free_port
from tests.processes import ROOT, environment

RECORDED = ROOT.parent / "shared" / "data"
ROWS = 60
SHOWN = (
    ("report", "--json"),
    ("report", "--md"),
    ("report", "--csv"),
    ("report", "--html", "report.html"),
    ("cases",),
    ("explain",),
    ("status",),
    ("history",),
)
KINDS = [*REDACTORS, r"re:ACC-\d{6}"]
PLAN = """
version: 1
name: private
gateway: {{base_url: "{url}", api_key: "${{LLM_API_KEY}}", concurrency: 4, timeout: 20s}}
primary: {{name: prime, model: sandbox-prime, price: {{input: 3, output: 15}}}}
candidates: [{{name: swift, model: sandbox-swift, price: {{input: 1.8, output: 9}}}}]
logs: {{table: public.private_logs, columns: {{messages: messages, system: system}}}}
sample: {{n: 40, adaptive: false, anchors: 5}}
judge:
  canaries: 2
  reference: logged
  models: [{{name: judge, model: sandbox-judge, price: {{input: 1, output: 5}}}}]
budget: {{per_run_usd: 5}}
slack: {{token: "${{SLACK_BOT_TOKEN}}", channel: C0TEST, base_url: "{url}/api/"}}
server: {{bind: "127.0.0.1:{port}"}}
privacy: {{store_bodies: {bodies}, redact: {kinds}, redact_before_replay: {before}{egress}}}
"""


@dataclass
class Wire:
    """Everything that arrives at the gateway and Slack, as it came."""

    app: ASGIApp
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts: list[bytes] = []

        async def heard() -> Message:
            message = await receive()
            parts.append(message.get("body", b""))
            return message

        await self.app(scope, heard, send)
        if scope["type"] == "http":
            headers = b" ".join(name + b":" + value for name, value in scope["headers"])
            text = (headers + b"".join(parts)).decode("utf-8", "replace")
            with self.lock:
                self.requests.append((scope["path"], text))


@dataclass(frozen=True)
class Secret:
    """One planted value, and what of it would betray it wherever it is written."""

    kind: str
    value: str

    def is_in(self, text: str) -> bool:
        """Whether it stands in the text, written plainly or as JSON."""
        return self.value in text or json.dumps(self.value)[1:-1] in text


def planted(rng: random.Random, count: int) -> list[Secret]:
    """Values of every kind, each of its own."""
    made: list[Secret] = []
    for number in range(count):
        digits = f"4{rng.randrange(10**14):014d}"
        check = next(last for last in "0123456789" if passes_luhn(digits + last))
        bban = f"{rng.randrange(10**18):018d}"
        control = 98 - int(bban + "131400") % 97
        made += [
            Secret("email", f"zoe.marsh{number}@mail-{rng.randrange(10**4)}.example.org"),
            Secret("phone", f"+44 20 79{rng.randrange(100):02d} {rng.randrange(10**4):04d}"),
            Secret("card", digits + check),
            Secret("iban", f"DE{control:02d}{bban}"),
            Secret("ip", f"203.0.113.{number + 20}"),
            Secret("custom", f"ACC-{rng.randrange(10**6):06d}"),
        ]
    return made


@dataclass(frozen=True)
class Scene:
    """A log full of personal data, and a gateway that keeps what it hears."""

    wire: Wire
    url: str
    dsn: str
    secrets: list[Secret]


@pytest.fixture
def scene(database_url: str) -> Iterator[Scene]:
    rng = random.Random(77)
    secrets = planted(rng, 2 * ROWS // 6)
    now = datetime.fromtimestamp(time.time(), UTC)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"CREATE TABLE private_logs (id bigint PRIMARY KEY, created_at timestamptz NOT NULL,"
            b" system text, messages jsonb NOT NULL, response text, model text)"
        )
        rows = log_rows(weeks=1, rows_per_week=4 * ROWS, ends_at=now, seed=3)
        kept = [row for row in rows if row.status == "success" and row.prompt.strip()][:ROWS]
        for number, row in enumerate(kept):
            mine = [secrets[(2 * number + step) % len(secrets)].value for step in range(6)]
            messages = [{"role": role, "content": text} for role, text in row.messages]
            messages[-1]["content"] += f"\nReach me at {mine[0]} or {mine[1]}; use {mine[2]}."
            connection.execute(
                b"INSERT INTO private_logs VALUES (%s, %s, %s, %s, %s, 'sandbox-prime')",
                (
                    number,
                    now - timedelta(hours=1 + number),
                    f"{row.system} The customer is known by {mine[3]} and {mine[4]}.",
                    json.dumps(messages),
                    f"I have written to {mine[5]}. {row.response}",
                ),
            )
    wire = Wire(sandbox_app(Gateway(named_world("calm"))))
    with running_in_thread(wire) as url:
        yield Scene(wire=wire, url=url, dsn=database_url, secrets=secrets)


def ran(
    scene: Scene,
    folder: Path,
    *,
    before: bool,
    bodies: str = "redacted",
    egress: str = "",
    logs_dsn: str | None = None,
) -> tuple[int | None, str]:
    """The exit code of a run and everything that was printed and logged, reports included."""
    (folder / "plan.yaml").write_text(
        PLAN.format(
            url=scene.url,
            kinds=json.dumps(KINDS),
            before=json.dumps(before),
            bodies=bodies,
            egress=egress,
            port=free_port(),
        )
    )
    env = environment(**env_of(scene, logs_dsn))
    code, told = _done(("run",), folder, env)
    if code == 0:
        for words in SHOWN:
            shown, text = _done(words, folder, env)
            assert shown == 0, text
            told += text
    return code, told


def _done(words: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> tuple[int | None, str]:
    """The exit code of a command and what it wrote."""
    name = "-".join(words).replace("/", "")
    process = Forked(words, folder, env, name)
    code = process.wait(400)
    if code is None:
        process.kill()
    return code, "".join((folder / f"{stream}-{name}").read_text() for stream in ("out", "err"))


def env_of(scene: Scene, logs_dsn: str | None = None) -> dict[str, str]:
    return {
        "DATABASE_URL": scene.dsn,
        "LOGS_DATABASE_URL": logs_dsn or scene.dsn,
        "LLM_API_KEY": "key-0",
        "SLACK_BOT_TOKEN": "xoxb-test",
        "SWITCHWISE_CONFIG": "plan.yaml",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
    }


def pages(scene: Scene, folder: Path) -> str:
    """Every page that `serve` shows and that can be reached from the first, and its log."""
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    root = f"http://{plan['server']['bind']}"
    service = Forked(("serve",), folder, environment(**env_of(scene)), "serve")
    try:
        with httpx.Client(base_url=root, trust_env=False, timeout=20) as client:
            give_up = time.monotonic() + 60
            while True:
                try:
                    client.get("/healthz")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < give_up, (folder / "err-serve").read_text()
                    time.sleep(0.1)
            texts = dict(_crawled(client))
    finally:
        service.kill()
    assert sum("/cases/" in path for path in texts) > 20
    log = "".join((folder / name).read_text() for name in ("out-serve", "err-serve"))
    return "\n".join(texts.values()) + log


def _crawled(client: httpx.Client) -> Iterator[tuple[str, str]]:
    seen, waiting = {"/"}, ["/"]
    while waiting and len(seen) < 600:
        path = waiting.pop()
        answer = client.get(path)
        assert answer.status_code == 200, path
        yield path, answer.text
        for found in re.findall(r'href="(/[^"#]*)', answer.text):
            link = html.unescape(found)
            if link not in seen:
                seen.add(link)
                waiting.append(link)


def stored(dsn: str) -> str:
    """Every row of every table and view of ours, as text."""
    texts: list[str] = []
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            b"SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
            b" WHERE schemaname LIKE 'switchwise%'"
        ).fetchall()
        assert len(tables) > 8
        for (table,) in tables:
            rows = connection.execute(f"SELECT t::text FROM {table} AS t".encode()).fetchall()
            texts += [row for (row,) in rows]
    return "\n".join(texts)


def leaks(secrets: list[Secret], text: str) -> list[str]:
    return [secret.kind for secret in secrets if secret.is_in(text)]


def test_redacted_before_replay_nobody_and_nothing_sees_a_planted_value(
    scene: Scene, tmp_path: Path
) -> None:
    code, told = ran(scene, tmp_path, before=True)
    assert code == 0, told
    paths = {path for path, _ in scene.wire.requests}
    assert "/v1/messages" in paths
    assert any(path.startswith("/api/") for path in paths)
    sent = "\n".join(text for _, text in scene.wire.requests)
    assert "[email]" in sent
    assert leaks(scene.secrets, sent) == []
    assert leaks(scene.secrets, stored(scene.dsn)) == []
    assert leaks(scene.secrets, told) == []
    assert leaks(scene.secrets, (tmp_path / "report.html").read_text()) == []
    shown = pages(scene, tmp_path)
    assert "[email]" in shown
    assert leaks(scene.secrets, shown) == []


def test_redacted_for_storage_alone_vendors_see_prompts_and_nothing_else_does(
    scene: Scene, tmp_path: Path
) -> None:
    code, told = ran(scene, tmp_path, before=False)
    assert code == 0, told
    vendors = "\n".join(text for path, text in scene.wire.requests if path == "/v1/messages")
    slack = "\n".join(text for path, text in scene.wire.requests if path.startswith("/api/"))
    assert leaks(scene.secrets, vendors)
    assert slack
    assert leaks(scene.secrets, slack) == []
    kept = stored(scene.dsn)
    assert "[email]" in kept
    assert leaks(scene.secrets, kept) == []
    assert leaks(scene.secrets, told) == []
    assert leaks(scene.secrets, (tmp_path / "report.html").read_text()) == []
    shown = pages(scene, tmp_path)
    assert "[email]" in shown
    assert leaks(scene.secrets, shown) == []


def test_a_page_that_shows_a_planted_value_is_noticed(scene: Scene, tmp_path: Path) -> None:
    """What is looked at is what people see: without redaction the values are on the pages."""
    code, told = ran(scene, tmp_path, before=False, bodies="full")
    assert code == 0, told
    assert set(leaks(scene.secrets, pages(scene, tmp_path))) >= {"email", "phone", "card"}
    assert leaks(scene.secrets, (tmp_path / "report.html").read_text()) == []


def test_a_host_that_may_receive_nothing_receives_nothing_and_the_log_is_not_even_opened(
    scene: Scene, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as log_database:
        log_database.setblocking(False)
        port = log_database.getsockname()[1]
        code, told = ran(
            scene,
            tmp_path,
            before=False,
            egress=", egress_allow: [api.anthropic.com]",
            logs_dsn=f"postgresql://127.0.0.1:{port}/logs",
        )
        with pytest.raises(BlockingIOError):
            log_database.accept()
    assert code == 2
    assert "privacy.egress_allow" in told
    assert scene.wire.requests == []


def test_text_without_personal_data_is_rarely_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded prompts and replies of public benchmarks: code, sums, tables, letters."""
    redactor = Redactor(list(REDACTORS))
    told: list[str] = []
    for name in ("replay_mtbench_A", "replay_zeroeval_A"):
        path = RECORDED / f"{name}.jsonl.gz"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts = {text for line in lines for text in _texts(json.loads(line)) if len(text) > 20}
        changed = [text for text in texts if redactor.text(text) != text]
        rate = len(changed) / len(texts)
        told.append(f"{name}: {len(changed)} of {len(texts):,} texts changed, {rate:.2%}")
        assert rate < 0.01, changed[:3]
    with capsys.disabled():
        print("\n  redaction of text without personal data: " + "; ".join(told))


#: What looks like personal data and is none: none of it was looked at when the patterns were made.
LOOK_ALIKES: dict[str, Callable[[random.Random], str]] = {
    "UUIDs": lambda rng: (
        f"trace {uuid.UUID(int=rng.getrandbits(128))} of span {rng.getrandbits(64):016x}"
    ),
    "order ids": lambda rng: (
        f"Bestellung B{rng.randrange(10**8):08d}, ref. {rng.randrange(10**6)}/{rng.randrange(100)}"
    ),
    "versions": lambda rng: (
        f"upgraded from {rng.randrange(9)}.{rng.randrange(40)} to {rng.randrange(20)}.{rng.randrange(30)}.{rng.randrange(99)}b{rng.randrange(9)}"
    ),
    "sums": lambda rng: (
        f"{rng.randrange(10**4)} x {rng.randrange(10**4)} = {rng.randrange(10**8):,} (+{rng.randrange(100)} %)"
    ),
    "times": lambda rng: (
        f"{rng.randrange(1, 13)}/{rng.randrange(1, 29)}/{rng.randrange(1990, 2031)} {rng.randrange(1, 13)}:{rng.randrange(60):02d}:{rng.randrange(60):02d} PM, +{rng.randrange(12):02d}:00"
    ),
    "readings": lambda rng: (
        f"sensor {rng.randrange(99)}: {rng.uniform(-50, 50):.4f} C, {rng.uniform(900, 1100):.2f} hPa, n={rng.randrange(10**7)}"
    ),
    "digests": lambda rng: f"sha256:{rng.getrandbits(256):064x} md5 {rng.getrandbits(128):032x}",
    "JSON": lambda rng: json.dumps(
        {
            "id": rng.randrange(10**9),
            "qty": rng.randrange(99),
            "total_cents": rng.randrange(10**7),
            "ok": True,
        }
    ),
    "parts": lambda rng: (
        f"part no {rng.randrange(10**3):03d}-{rng.randrange(10**4):04d}-{rng.choice('ABC')}, lot {rng.randrange(10**5)}"
    ),
    "ports": lambda rng: (
        f"listening on :{rng.randrange(1024, 65536)}, pid {rng.randrange(1, 99999)}, fd {rng.randrange(99)}"
    ),
}


def test_numbers_versions_ids_and_code_that_were_not_tuned_on_are_rarely_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    redactor, rng = Redactor(list(REDACTORS)), random.Random(8_112_026)
    told: list[str] = []
    made = {kind: [make(rng) for _ in range(400)] for kind, make in LOOK_ALIKES.items()}
    for kind, texts in made.items():
        changed = [text for text in texts if redactor.text(text) != text]
        told.append(f"{kind} {len(changed) / len(texts):.1%}")
        assert len(changed) / len(texts) < 0.03, changed[:3]
    lines = sorted(_code())
    unlike = Redactor(["phone", "card", "iban"])  # code does hold addresses, of authors and hosts
    changed = [line for line in lines if unlike.text(line) != line]
    addressed = [line for line in lines if redactor.text(line) != line]
    told.append(
        f"code, {len(lines):,} lines: {len(changed) / len(lines):.3%} as phone, card or IBAN, "
        f"{len(addressed) / len(lines):.2%} with addresses and versions"
    )
    with capsys.disabled():
        print("\n  redaction of look-alikes: " + "; ".join(told))
    assert len(changed) / len(lines) < 0.001, changed[:5]
    assert len(addressed) / len(lines) < 0.005, addressed[:5]


def _code() -> set[str]:
    """Lines of code of the database toolkit that is installed anyway."""
    folder = Path(sysconfig.get_paths()["purelib"]) / "sqlalchemy" / "sql"
    return {
        line
        for file in folder.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if len(line) > 10
    }


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
