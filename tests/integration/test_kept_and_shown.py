"""Two real weeks in a database: queries of the docs, dashboard, metrics, export, retention."""

import csv
import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.clocks import write_clock
from app.domain.errors import StorageUnavailable
from app.domain.plans import Retention
from app.storage.engine import Database
from app.storage.exports import exported, view_names
from app.storage.metrics_queries import Gauge, read_gauges
from app.storage.retention import prune
from app.web.metrics import metrics_routes
from tests.faults.processes import Forked
from tests.fixtures import postgres
from tests.fixtures.documented_sql import PANELS, QUERIES, as_reader, filled_in
from tests.fixtures.simulated_weeks import Simulation, simulate
from tests.processes import ROOT, environment, switchwise

LATER = datetime(2026, 1, 20, tzinfo=UTC)
RESULTS = ("runs", "model_results", "comparisons", "benchmark_results", "drift")


@pytest.fixture(scope="module")
def two_weeks(
    pg_server: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """DSN of a database with two weeks in it; `swift` is recommended in neither."""
    name = "two_weeks_" + template_database.removeprefix("template_")
    postgres.create_database(pg_server, name, template=template_database)
    dsn = postgres.with_database(pg_server, name)
    simulation = Simulation(
        world="calm", weeks=2, n=40, anchors=10, rows_per_week=120, digest="always"
    )
    try:
        simulate(dsn, tmp_path_factory.mktemp("two_weeks"), simulation)
        yield dsn
    finally:
        postgres.drop_database(pg_server, name)


@pytest.fixture
def own_weeks(two_weeks: str, pg_server: str) -> Iterator[str]:
    """A copy of that database to change."""
    name = two_weeks.rpartition("/")[2].partition("?")[0]
    with postgres.new_database(pg_server, template=name) as dsn:
        yield dsn


# --- SQL ----------------------------------------------------------------------------------------


def test_the_page_holds_enough_queries() -> None:
    assert len(QUERIES) >= 8


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_of_the_page_returns_rows_to_the_reader(
    two_weeks: str, title: str, query: str
) -> None:
    assert as_reader(two_weeks, query)


@pytest.mark.parametrize(("title", "query"), PANELS, ids=[title for title, _ in PANELS])
def test_every_panel_of_the_dashboard_runs_as_the_reader(
    two_weeks: str, title: str, query: str
) -> None:
    rows = as_reader(two_weeks, filled_in(query, plan="story"))
    assert rows or title == "Alerts"


def test_the_reader_sees_no_base_table_and_no_text(two_weeks: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_reader(two_weeks, "SELECT body FROM switchwise.cases")
    with psycopg.connect(two_weeks) as connection:
        row = connection.execute("SELECT prompt FROM public.ai_logs WHERE length(prompt) > 60")
        prompt = str((row.fetchone() or [""])[0])
    assert prompt
    for view in view_names():
        assert prompt[:50] not in repr(as_reader(two_weeks, f"SELECT * FROM switchwise_bi.{view}"))


def test_every_column_of_every_view_says_what_it_tells(two_weeks: str) -> None:
    silent = as_reader(
        two_weeks,
        """SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE c.relnamespace = 'switchwise_bi'::regnamespace AND a.attnum > 0
             AND col_description(c.oid, a.attnum) IS NULL""",
    )
    assert silent == []


# --- metrics ------------------------------------------------------------------------------------


async def gauges(dsn: str, now: datetime = LATER) -> dict[str, Gauge]:
    database = Database(dsn)
    try:
        return {gauge.name: gauge for gauge in await read_gauges(database, now=now)}
    finally:
        await database.close()


async def test_metrics_are_parsed_by_the_client_and_tell_what_is_stored(two_weeks: str) -> None:
    found = await gauges(two_weeks)

    async def read() -> list[Gauge]:
        return list(found.values())

    answer = TestClient(Starlette(routes=metrics_routes(read))).get("/metrics")
    told = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    (success,) = told["switchwise_last_success_timestamp_seconds"]
    assert success.labels == {"plan": "story"}
    assert datetime.fromtimestamp(success.value, UTC).date().isoformat() == "2026-01-18"
    assert {s.labels["status"]: s.value for s in told["switchwise_runs"]} == {"done": 2.0}
    assert {s.labels["model"] for s in told["switchwise_quality"]} == {"prime", "swift", "mini"}
    assert told["switchwise_database_up"][0].value == 1.0
    assert told["switchwise_outbox_age_seconds"][0].value == 0.0
    assert sum(s.value for s in told["switchwise_run_attempts"]) > 40


async def test_without_a_database_the_scrape_says_so() -> None:
    async def read() -> list[Gauge]:
        raise StorageUnavailable("away")

    answer = TestClient(Starlette(routes=metrics_routes(read))).get("/metrics")
    assert answer.status_code == 200
    assert "switchwise_database_up 0.0" in answer.text


async def test_the_example_rules_use_only_metrics_that_exist(two_weeks: str) -> None:
    rules = yaml.safe_load((ROOT / "config/prometheus/alerts.yml").read_text())
    used = set(re.findall(r"switchwise_\w+", json.dumps(rules["groups"])))
    assert used <= {*await gauges(two_weeks), "switchwise_database_up"}


# --- export -------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", view_names())
def test_every_view_is_exported_in_both_forms_with_the_same_rows(two_weeks: str, view: str) -> None:
    table = list(csv.reader(exported(two_weeks, view, form="csv")))
    objects = [json.loads(line) for line in exported(two_weeks, view, form="jsonl")]
    assert len(objects) == len(table) - 1
    assert all(list(one) == table[0] for one in objects)


def test_an_export_may_be_cut_to_a_plan_and_a_time(two_weeks: str) -> None:
    later = list(exported(two_weeks, "runs", form="jsonl", since=datetime(2026, 1, 15, tzinfo=UTC)))
    assert len(later) == 1
    assert list(exported(two_weeks, "runs", form="jsonl", plan_name="another")) == []


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_command_writes_what_the_view_holds(two_weeks: str, tmp_path: Path, form: str) -> None:
    env = {"DATABASE_URL": two_weeks}
    lines = list(exported(two_weeks, "comparisons", form="csv" if form == "csv" else "jsonl"))
    file = tmp_path / f"comparisons.{form}"

    shown = switchwise("export", "comparisons", "--format", form, cwd=tmp_path, env=env)
    first = switchwise("export", "comparisons", "-o", str(file), cwd=tmp_path, env=env)
    again = switchwise("export", "comparisons", "-o", str(file), cwd=tmp_path, env=env)

    assert shown.stdout.splitlines() == file.read_text(encoding="utf-8").splitlines() == lines
    assert first.returncode == 0
    assert f"{len(lines) - (form == 'csv')} rows" in first.stderr
    assert again.returncode == 2
    assert "name a new file" in again.stderr


# --- retention ----------------------------------------------------------------------------------


def everything(dsn: str) -> dict[str, list[str]]:
    return {view: list(exported(dsn, view, form="jsonl")) for view in RESULTS}


def number(dsn: str, query: str) -> int:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(query.encode()).fetchone()
    return int(found[0]) if found else 0


async def pruned(dsn: str, kept: Retention, *, weeks: float, is_trial: bool = False) -> Any:
    database = Database(dsn)
    try:
        now = LATER + timedelta(weeks=weeks)
        (one,) = await prune(database, {"story": kept}, now=now, is_trial=is_trial)
        return one
    finally:
        await database.close()


IN_USE = "SELECT anchor_of FROM switchwise.cases WHERE is_anchor"


async def test_texts_go_and_those_of_the_anchors_in_use_stay(own_weeks: str) -> None:
    before = everything(own_weeks)

    told = await pruned(own_weeks, Retention(bodies=timedelta(days=1)), weeks=1)

    anchors = number(own_weeks, "SELECT count(*) FROM switchwise.cases WHERE is_anchor")
    assert anchors > 0
    assert told.bodies > 0
    assert told.replies > 0
    assert told.attempts == 0
    bodies = "SELECT count(*) FROM switchwise.cases WHERE body IS NOT NULL"
    assert number(own_weeks, bodies) == 2 * anchors
    assert number(own_weeks, f"{bodies} AND case_id IN ({IN_USE})") == anchors
    replies = "SELECT count(*) FROM switchwise.attempts WHERE reply IS NOT NULL"
    assert number(own_weeks, f"{replies} AND model_name = 'prime'") >= anchors
    assert everything(own_weeks) == before


async def test_case_by_case_figures_go_and_results_stay_equal(own_weeks: str) -> None:
    before = everything(own_weeks)

    told = await pruned(own_weeks, Retention(case_scores=timedelta(days=1)), weeks=14)

    assert min(told.cases, told.attempts, told.scores) > 0
    left = (
        f"SELECT count(*) FROM switchwise.cases WHERE NOT is_anchor AND case_id NOT IN ({IN_USE})"
    )
    assert number(own_weeks, left) == 0
    assert everything(own_weeks) == before


async def test_what_a_price_change_may_still_need_is_kept_however_short_the_plan(
    own_weeks: str,
) -> None:
    told = await pruned(own_weeks, Retention(bodies=None, case_scores=timedelta(days=1)), weeks=10)
    assert told.is_nothing


async def test_a_trial_counts_the_same_and_removes_nothing(own_weeks: str) -> None:
    kept = Retention(bodies=timedelta(days=1))
    trial = await pruned(own_weeks, kept, weeks=1, is_trial=True)
    assert trial == await pruned(own_weeks, kept, weeks=1)
    assert (await pruned(own_weeks, kept, weeks=1)).is_nothing


async def test_for_ever_means_for_ever(own_weeks: str) -> None:
    kept = Retention(bodies=None, case_scores=None, results=None)
    assert (await pruned(own_weeks, kept, weeks=5000)).is_nothing


async def test_other_plans_are_left_alone(own_weeks: str) -> None:
    database = Database(own_weeks)
    kept = Retention(bodies=timedelta(days=1))
    try:
        now = LATER + timedelta(weeks=400)
        (one,) = await prune(database, {"another": kept}, now=now)
    finally:
        await database.close()
    assert one.is_nothing


# --- retention, by the command and by the service ------------------------------------------------

STORED_PLAN = """
version: 1
name: story
gateway: {base_url: http://127.0.0.1:9, api_key: "${KEY}"}
primary: {name: prime, model: sandbox-prime, price: {input: 3, output: 15}}
candidates: [{name: swift, model: sandbox-swift, price: {input: 1.8, output: 9}}]
logs: {table: public.ai_logs, columns: {messages: messages}}
evaluators: [{type: not_refused, gate: true}]
retention: {bodies: 1d}
"""
TEXTS = "SELECT count(*) FROM switchwise.cases WHERE body IS NOT NULL"


@dataclass(frozen=True)
class Kept:
    """A plan that keeps texts for a day, a week later."""

    folder: Path
    env: dict[str, str]


@pytest.fixture
def a_week_later(own_weeks: str, tmp_path: Path) -> Kept:
    (tmp_path / "plan.yaml").write_text(
        f'{STORED_PLAN}server: {{bind: "127.0.0.1:{postgres.free_port()}"}}\n', encoding="utf-8"
    )
    write_clock(tmp_path / "clock", LATER + timedelta(weeks=1))
    env = {
        "DATABASE_URL": own_weeks,
        "KEY": "key-of-the-test",
        "SWITCHWISE_CONFIG": "plan.yaml",
        "SWITCHWISE_CLOCK_FILE": str(tmp_path / "clock"),
        "LOG_FORMAT": "json",
    }
    return Kept(folder=tmp_path, env=env)


def test_the_command_counts_first_then_removes_and_leaves_results_equal(
    own_weeks: str, a_week_later: Kept
) -> None:
    before, texts = everything(own_weeks), number(own_weeks, TEXTS)

    def said(*words: str) -> Any:
        ended = switchwise(
            "db", "prune", "--json", *words, cwd=a_week_later.folder, env=a_week_later.env
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    trial = said("--dry-run")
    assert number(own_weeks, TEXTS) == texts
    done, again = said(), said()

    assert trial["plans"] == done["plans"]
    assert done["plans"][0]["bodies"] == texts - number(own_weeks, TEXTS) > 0
    assert again["plans"][0]["bodies"] == 0
    assert everything(own_weeks) == before


def test_the_service_removes_what_is_too_old_by_itself_and_says_what(
    own_weeks: str, a_week_later: Kept
) -> None:
    before, texts = everything(own_weeks), number(own_weeks, TEXTS)
    env = environment(**a_week_later.env)
    service = Forked(
        ("serve",), a_week_later.folder, env, "serve", program="tests.faults.hurried_service"
    )
    log = a_week_later.folder / "err-serve"
    try:
        deadline = time.monotonic() + 60
        while '"pruned"' not in (log.read_text(encoding="utf-8") if log.exists() else ""):
            assert service.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)
    finally:
        if service.poll() is None:
            service.signal(signal.SIGTERM)
        service.wait(30)

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    told = next(line for line in lines if line["event"] == "pruned")
    assert told["plan"] == "story"
    assert told["bodies"] == texts - number(own_weeks, TEXTS) > 0
    assert everything(own_weeks) == before
