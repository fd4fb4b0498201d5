"""A rig for faults: the program, the sandbox and a real Postgres, each in a process of its own.

The sandbox keeps append-only logs of what reached it; `Ledgers` compares them with the database.
"""

import contextlib
import json
import random
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.rows import dict_row

from app.clocks import write_clock
from app.sandbox.logs import seed_logs
from app.sandbox.world import ModelSpec, World
from app.sandbox.worlds import LARGE, MINI, PRICES, PRIME, SWIFT, named_world
from tests.faults.processes import Forked, forked_sandbox
from tests.fixtures.postgres import free_port
from tests.processes import command, environment

CONCURRENCY = 8
NAMES = {PRIME: "prime", SWIFT: "swift", MINI: "mini", LARGE: "large"}
_POLL_S = 0.05
_ENDED = ("done", "partial", "failed")


@dataclass(slots=True)
class Rig:
    """One plan over one sandbox and one database."""

    folder: Path
    dsn: str
    url: str
    world: World
    plan: dict[str, Any]
    processes: list[Forked]
    clock_file: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)
    _connection: psycopg.Connection[dict[str, Any]] | None = None

    # --- processes --------------------------------------------------------------------------------

    def start(self, *arguments: str) -> Forked:
        """Start a command; its output goes to files in the folder."""
        plan = self.folder / f"plan-{len(self.processes)}.yaml"
        plan.write_text(yaml.safe_dump(self.plan), encoding="utf-8")
        process = Forked(
            (*arguments, "--config", str(plan)),
            self.folder,
            self._environment(),
            str(len(self.processes)),
        )
        self.processes.append(process)
        return process

    def run(self, *options: str) -> Forked:
        return self.start("run", "--json", *options)

    def resume(self) -> Forked:
        return self.run("--resume", self.run_id())

    def serve(self) -> Forked:
        """Start the service at an address of its own."""
        self.plan["server"] = {"bind": f"127.0.0.1:{free_port()}"}
        return self.start("serve")

    def worker(self, *options: str) -> Forked:
        return self.start("worker", *options)

    def serve_as_pid_1(self) -> subprocess.Popen[bytes]:
        """Start the service as the first process of a namespace of its own, as in a container."""
        self.plan["server"] = {"bind": f"127.0.0.1:{free_port()}"}
        return self.start_afresh("serve", wrapper=("unshare", "--pid", "--fork"))

    def start_afresh(self, *arguments: str, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a command that loads everything itself, to be measured."""
        name = f"afresh-{time.monotonic_ns()}"
        plan = self.folder / f"{name}.yaml"
        plan.write_text(yaml.safe_dump(self.plan), encoding="utf-8")
        with (
            (self.folder / f"{name}-out").open("wb") as out,
            (self.folder / f"{name}-err").open("wb") as errors,
        ):
            return subprocess.Popen(
                [*wrapper, *command(*arguments, "--config", str(plan))],
                cwd=self.folder,
                env=self._environment(),
                stdout=out,
                stderr=errors,
            )

    def errors_of(self, process: Forked) -> str:
        """What it wrote to stderr so far."""
        file = self.folder / f"err-{self.processes.index(process)}"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def finish(self, process: Forked, *, within_s: float = 60) -> int:
        """Wait for the end of a process; its errors are shown when it takes too long."""
        code = process.wait(within_s)
        assert code is not None, f"still runs after {within_s} s: {self.errors_of(process)}"
        return code

    def _environment(self) -> Mapping[str, str]:
        extra = {} if self.clock_file is None else {"SWITCHWISE_CLOCK_FILE": str(self.clock_file)}
        return environment(
            DATABASE_URL=self.dsn,
            SANDBOX_KEY="sandbox-key",
            SANDBOX_SLACK_TOKEN="xoxb-sandbox",
            SWITCHWISE_HOME=str(self.folder / "home"),
            LOG_FORMAT="json",
            PYTHONPATH=str(Path(__file__).resolve().parents[2]),
            **extra,
            **self.variables,
        )

    # --- the sandbox ------------------------------------------------------------------------------

    def calls(self) -> list[dict[str, Any]]:
        """Every call that reached the gateway and has ended, from its own append-only log."""
        return _lines(self.folder / "calls.jsonl")

    def messages(self) -> list[dict[str, Any]]:
        """Every message Slack accepted."""
        return [
            line
            for line in _lines(self.folder / "slack.jsonl")
            if "chat.postMessage" in str(line.get("method"))
        ]

    def received(self) -> int:
        """How many calls have reached the gateway, those in flight included."""
        return int(self._counts()["received"])

    def peak_in_flight(self) -> int:
        """Most calls that the gateway had at the same time."""
        return int(self._counts()["peak_in_flight"])

    def _counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/_sandbox/calls", timeout=10) as answer:
            counts: dict[str, Any] = json.load(answer)
            return counts

    def change_world(self, change: Callable[[World], World]) -> None:
        """Change the World while the gateway runs."""
        self.world = change(self.world)
        body = json.dumps(self.world.to_json()).encode()
        request = urllib.request.Request(
            f"{self.url}/_sandbox/world", data=body, headers={"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()

    def change_model(self, name: str, **changes: Any) -> None:
        """Change one model while the gateway runs."""
        self.change_world(lambda world: with_spec(world, name, **changes))

    # --- waiting ----------------------------------------------------------------------------------

    def until(self, is_so: Callable[[], bool], *, within_s: float = 60, what: str = "") -> float:
        """Wait until something is so; returns the seconds it took."""
        began = time.monotonic()
        while not is_so():
            if time.monotonic() - began > within_s:
                tail = self.errors_of(self.processes[-1])[-2000:] if self.processes else ""
                raise AssertionError(f"not within {within_s} s: {what}\n{tail}")
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def until_received(self, count: int, process: Forked) -> None:
        """Wait until so many calls have reached the gateway or the process has ended."""
        self.until(
            lambda: process.poll() is not None or self.received() >= count,
            what=f"{count} calls received",
        )

    def until_more(self, count: int, *, within_s: float) -> None:
        """Wait until so many more calls have reached the gateway, or the Run has ended."""
        seen = self.received()
        self.until(
            lambda: self.received() >= seen + count or self.status() in _ENDED,
            within_s=within_s,
            what=f"{count} more calls",
        )

    # --- the database -----------------------------------------------------------------------------

    def query(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """What a statement returns; asked again over a new connection when the old one was cut."""
        try:
            return self._connected().execute(statement, values).fetchall()
        except psycopg.OperationalError:
            self.disconnect()
            return self._connected().execute(statement, values).fetchall()

    def disconnect(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection[dict[str, Any]]:
        if self._connection is None:
            self._connection = psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True)
        return self._connection

    def value(self, statement: str, *values: object) -> Any:
        (row,) = self.query(statement, *values)
        (value,) = row.values()
        return value

    def run_id(self) -> str:
        return str(
            self.value("SELECT run_id FROM switchwise.runs ORDER BY created_at DESC LIMIT 1")
        )

    def status(self) -> str:
        """The status of the newest Run; "" when there is none."""
        found = self.query("SELECT status FROM switchwise.runs ORDER BY created_at DESC LIMIT 1")
        return str(found[0]["status"]) if found else ""

    def statuses(self) -> Counter[str]:
        return Counter(row["status"] for row in self.query("SELECT status FROM switchwise.runs"))

    def planned_calls(self) -> int:
        """How many different calls the journal knows."""
        return int(
            self.value(
                "SELECT count(*) FROM (SELECT DISTINCT case_id, call_key FROM switchwise.attempts) a"
            )
        )

    def repeated_calls(self) -> int:
        """Calls that reached the gateway beyond the one that each planned call needs."""
        return self.received() - self.planned_calls()

    def lost_results(self) -> int:
        """Planned calls of a complete Run without a stored final result."""
        return int(
            self.value(
                """
                SELECT count(*) FROM switchwise.cases c
                CROSS JOIN LATERAL (
                  SELECT unnest(models) AS name FROM switchwise.shards s
                  WHERE s.run_id = c.run_id AND c.case_id = ANY (s.case_ids)) m
                WHERE NOT EXISTS (
                  SELECT 1 FROM switchwise.attempts a WHERE a.case_id = c.case_id
                  AND a.model_name = m.name AND a.purpose = 'replay' AND a.state = 'settled'
                  AND a.is_final)
                """
            )
        )

    def paid_twice(self) -> int:
        """Calls with more than one settled final result."""
        return int(
            self.value(
                """
                SELECT count(*) FROM (
                  SELECT case_id, call_key FROM switchwise.attempts
                  WHERE state = 'settled' AND is_final GROUP BY 1, 2 HAVING count(*) > 1) twice
                """
            )
        )


def with_spec(world: World, name: str, **changes: Any) -> World:
    """The World with one model changed."""
    return replace(world, models={**world.models, name: replace(world.models[name], **changes)})


def slower(world: World, *, ttft_ms: float, sigma: float = 0.3) -> World:
    """The World with every model this slow."""
    models: dict[str, ModelSpec] = {
        name: replace(spec, ttft_ms=ttft_ms, per_token_ms=0.0, latency_sigma=sigma)
        for name, spec in world.models.items()
    }
    return replace(world, models=models)


def small_plan(url: str, *, n: int, models: int = 4, judge: bool = True) -> dict[str, Any]:
    """A plan over the sandbox's models as it is written in YAML."""
    names = list(NAMES)[:models]
    specs = [
        {
            "name": NAMES[model],
            "model": model,
            "price": {kind: float(usd) for kind, usd in PRICES[model].items()},
        }
        for model in names
    ]
    plan: dict[str, Any] = {
        "version": 1,
        "name": "fault",
        "gateway": {
            "base_url": url,
            "api_key": "${SANDBOX_KEY}",
            "concurrency": CONCURRENCY,
            "timeout": "20s",
        },
        "primary": specs[0],
        "candidates": specs[1:],
        "logs": {
            "table": "public.ai_logs",
            "columns": {"id": "id", "created_at": "created_at", "messages": "messages",
                        "system": "system", "response": "response", "model": "model"},
            "where": "status = 'success'",
        },
        "sample": {"n": n, "window": "7d", "anchors": 0, "adaptive": False},
        "evaluators": [{"type": "not_refused", "gate": True}],
        "slack": {"token": "${SANDBOX_SLACK_TOKEN}", "channel": "C0FAULT",
                  "base_url": f"{url}/api/", "digest": "always"},
    }  # fmt: skip
    if judge:
        plan["evaluators"].append({"type": "judge"})
        plan["judge"] = {
            "models": [
                {"name": "judge", "model": "sandbox-judge", "price": {"input": 1.0, "output": 5.0}}
            ],
            "canaries": 0,
        }
    return plan


@contextmanager
def rig(
    folder: Path,
    dsn: str,
    *,
    n: int = 30,
    models: int = 4,
    judge: bool = False,
    ttft_ms: float = 60.0,
    world: World | None = None,
    logs_end_at: datetime | None = None,
    weeks: int = 1,
    rows: int = 400,
) -> Iterator[Rig]:
    """Seed the log table, start the sandbox, and end every process afterwards."""
    logs_end_at = logs_end_at or datetime.fromtimestamp(time.time(), UTC)
    seed_logs(dsn, weeks=weeks, rows_per_week=rows, ends_at=logs_end_at, seed=11)
    world = world or slower(named_world("calm"), ttft_ms=ttft_ms)
    (folder / "world.json").write_text(json.dumps(world.to_json()), encoding="utf-8")
    with forked_sandbox(
        "--world", str(folder / "world.json"),
        "--call-log", str(folder / "calls.jsonl"),
        "--slack-log", str(folder / "slack.jsonl"),
        folder=folder,
    ) as sandbox:  # fmt: skip
        made = Rig(
            folder=folder,
            dsn=dsn,
            url=sandbox["url"],
            world=world,
            plan=small_plan(sandbox["url"], n=n, models=models, judge=judge),
            processes=[],
        )
        try:
            yield made
        finally:
            made.disconnect()
            for process in made.processes:
                end(process)


def end(process: Forked) -> None:
    """Kill the process, frozen or not."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGCONT)
        process.kill()


def weekly(made: Rig, at: datetime) -> None:
    """Give the rig a weekly schedule and a clock of its own that says `at`."""
    made.clock_file = made.folder / "clock"
    write_clock(made.clock_file, at)
    made.plan["schedule"] = {"cron": "0 6 * * sun", "timezone": "UTC", "catch_up": "24h"}


def note(fault: str, **figures: object) -> None:
    """Print a line of the table in docs/operations.md (pytest -rP shows it)."""
    words = ", ".join(f"{name} {value}" for name, value in figures.items())
    print(f"fault {fault}: {words}")


def moments(seed: int, *, count: int, first: int, last: int) -> list[int]:
    """Random moments of a Run in calls received, in order."""
    return sorted(random.Random(seed).sample(range(first, last), count))


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
