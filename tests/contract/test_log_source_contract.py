"""What every log source promises, on each adapter and on the fake."""

import csv
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from app.domain.cases import Window
from app.domain.models import Secret
from app.domain.plans import LogSettings
from app.logsources.api_logs import ApiLogs
from app.logsources.file import FileLogs
from app.logsources.litellm import LiteLLMLogs
from app.logsources.log_apis import open_api
from app.logsources.otel import OtelLogs
from app.logsources.phoenix import PhoenixLogs
from app.logsources.postgres import PostgresLogs
from app.ports import Ahead, LogRow, LogSource
from app.sampling.prompts import Replayable, replayable_of
from tests.fakes.log_apis import KEYS, LANGFUSE_KEYS, FakeApi, Kept
from tests.fakes.log_sources import MemoryLogs
from tests.fixtures.postgres import new_database

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=7))
LATER = Window(start=WINDOW.end + timedelta(days=30), end=WINDOW.end + timedelta(days=37))
IN_WINDOW = 300
ROUTES = {"chat": 180, "extract": 90, "rare": 30}


@dataclass(frozen=True)
class Logged:
    row_id: str
    at: datetime
    prompt: str
    route: str


def logged() -> list[Logged]:
    """The window's rows, one before it and one at its end."""
    step = timedelta(days=7) / IN_WINDOW
    routes = ["chat"] * 6 + ["extract"] * 3 + ["rare"]
    inside = [
        Logged(f"{n:04}", START + n * step, f"prompt {n}", routes[n % 10]) for n in range(IN_WINDOW)
    ]
    before = Logged("9998", START - timedelta(seconds=1), "early", "chat")
    at_the_end = Logged("9999", WINDOW.end, "late", "chat")
    return [before, *inside, at_the_end]


Open = Callable[[], LogSource]
Build = Callable[[Sequence[Logged], Path, str], Open]


def memory(rows: Sequence[Logged], _folder: Path, _dsn: str) -> Open:
    held = [
        LogRow(
            source_id=row.row_id,
            created_at=row.at,
            segments={"route": row.route},
            fields={"prompt": row.prompt},
        )
        for row in rows
    ]
    return lambda: MemoryLogs(rows=held)


def jsonl(rows: Sequence[Logged], folder: Path, _dsn: str) -> Open:
    path = folder / "logs.jsonl"
    path.write_text("\n".join(json.dumps(_record(row)) for row in rows), encoding="utf-8")
    return lambda: FileLogs(LogSettings(path=str(path), segments={"route": "route"}))


def csv_file(rows: Sequence[Logged], folder: Path, _dsn: str) -> Open:
    path = folder / "logs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(_record(rows[0])))
        writer.writeheader()
        writer.writerows(map(_record, rows))
    return lambda: FileLogs(LogSettings(path=str(path), segments={"route": "route"}))


def table(rows: Sequence[Logged], _folder: Path, dsn: str) -> Open:
    _fill(
        dsn,
        "CREATE TABLE ai_logs (id text PRIMARY KEY, created_at timestamptz, prompt text, route text)",
        "INSERT INTO ai_logs VALUES (%s, %s, %s, %s)",
        [(row.row_id, row.at, row.prompt, row.route) for row in rows],
    )
    settings = LogSettings(table="public.ai_logs", segments={"route": "route"})
    return lambda: PostgresLogs(settings, dsn=dsn)


def numbered_table(rows: Sequence[Logged], _folder: Path, dsn: str) -> Open:
    """Integer ids, times without a zone, segments inside JSON, prompts as messages."""
    _fill(
        dsn,
        'CREATE TABLE "Calls" (no bigint PRIMARY KEY, at timestamp, messages jsonb, meta jsonb)',
        'INSERT INTO "Calls" VALUES (%s, %s, %s, %s)',
        [
            (
                int(row.row_id),
                row.at.replace(tzinfo=None),
                json.dumps([{"role": "user", "content": row.prompt}]),
                json.dumps({"route": row.route}),
            )
            for row in rows
        ],
    )
    settings = LogSettings(
        table='"Calls"',
        columns={"id": "no", "created_at": "at"},
        segments={"route": "meta->>'route'"},
    )
    return lambda: PostgresLogs(settings, dsn=dsn)


def query(rows: Sequence[Logged], folder: Path, dsn: str) -> Open:
    table(rows, folder, dsn)
    text = "SELECT id, created_at, prompt AS text, route FROM ai_logs WHERE prompt LIKE '%%' -- all"
    settings = LogSettings(
        query=text,
        columns={"prompt": "text"},
        segments={"route": "route"},
    )
    return lambda: PostgresLogs(settings, dsn=dsn)


def litellm(rows: Sequence[Logged], _folder: Path, dsn: str) -> Open:
    _fill(
        dsn,
        'CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, call_type text,'
        ' "startTime" timestamp(3), proxy_server_request jsonb, response jsonb, messages jsonb,'
        " model_group text, status text, cache_hit text, prompt_tokens int, completion_tokens int,"
        " session_id text, request_tags jsonb)",
        'INSERT INTO "LiteLLM_SpendLogs" VALUES'
        " (%s, 'acompletion', %s, %s, '{}', '{}', 'm', 'success', 'False', 1, 1, %s, %s)",
        [
            (
                row.row_id,
                row.at.replace(tzinfo=None),
                json.dumps({"messages": [{"role": "user", "content": row.prompt}]}),
                f"session {row.row_id}",
                json.dumps([row.route]),
            )
            for row in rows
        ],
    )
    settings = LogSettings(preset="litellm", segments={"route": "request_tags->>0"})
    return lambda: LiteLLMLogs(settings, dsn=dsn)


def phoenix(rows: Sequence[Logged], _folder: Path, dsn: str) -> Open:
    _fill(
        dsn,
        "CREATE TABLE spans (id int PRIMARY KEY, start_time timestamptz, span_kind text,"
        " attributes jsonb, status_code text)",
        "INSERT INTO spans VALUES (%s, %s, %s, %s, 'OK')",
        [
            (number, row.at, kind, json.dumps(attributes))
            for row in rows
            for number, kind, attributes in (
                (int(row.row_id), "LLM", _openinference(row)),
                (-1 - int(row.row_id), "CHAIN", {}),
            )
        ],
    )
    settings = LogSettings(segments={"route": "attributes->'metadata'->>'route'"})
    return lambda: PhoenixLogs(settings, dsn=dsn)


def otel(rows: Sequence[Logged], _folder: Path, dsn: str) -> Open:
    _fill(
        dsn,
        "CREATE TABLE llm_spans (span_id text PRIMARY KEY, start_time timestamptz,"
        " attributes jsonb)",
        "INSERT INTO llm_spans VALUES (%s, %s, %s)",
        [(row.row_id, row.at, json.dumps(_gen_ai(row))) for row in rows],
    )
    settings = LogSettings(table="llm_spans", segments={"route": "attributes->>'route'"})
    return lambda: OtelLogs(settings, dsn=dsn)


def _api(product: str, route: str, *, has_v2: bool = True) -> Build:
    def build(rows: Sequence[Logged], _folder: Path, _dsn: str) -> Open:
        kept = [
            Kept(row_id=row.row_id, at=row.at, prompt=row.prompt, route=row.route) for row in rows
        ]
        keys = LANGFUSE_KEYS if product == "langfuse" else KEYS
        options = {name: Secret(value) for name, value in keys.items()}
        settings = LogSettings(preset=product, segments={"route": route}, options=options)
        return lambda: ApiLogs(
            settings, open_api(product, options, FakeApi(product, kept, has_v2=has_v2))
        )

    build.__name__ = f"{product}_api" if has_v2 else f"{product}_api_v1"
    return build


NEED_NO_DATABASE: tuple[Build, ...] = (
    memory,
    jsonl,
    csv_file,
    _api("langfuse", "metadata.route"),
    _api("langfuse", "metadata.route", has_v2=False),
    _api("helicone", "properties.route"),
    _api("openai", "metadata.route"),
)
ADAPTERS: tuple[Build, ...] = (
    *NEED_NO_DATABASE,
    table,
    numbered_table,
    query,
    litellm,
    phoenix,
    otel,
)


@pytest.fixture(scope="module", params=ADAPTERS, ids=lambda build: build.__name__)
def open_source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    build: Build = request.param
    with ExitStack() as stack:
        dsn = ""
        if build not in NEED_NO_DATABASE:
            dsn = stack.enter_context(new_database(request.getfixturevalue("pg_server")))
        yield build(logged(), tmp_path_factory.mktemp("logs"), dsn)


@pytest.fixture
async def source(open_source: Open) -> AsyncIterator[LogSource]:
    opened = open_source()
    yield opened
    await opened.close()


async def draw(
    source: LogSource, count: int, *, seed: int = 1, offset: int = 0, window: Window = WINDOW
) -> list[str]:
    rows = await source.draw(
        window, seed=seed, by=(), quota={"": count}, offset={"": offset} if offset else {}
    )
    return [row.source_id for row in rows]


async def test_it_counts_the_rows_of_the_half_open_window(source: LogSource) -> None:
    frame = await source.frame(WINDOW, by=())
    assert dict(frame.rows) == {"": IN_WINDOW}


async def test_it_counts_the_rows_of_each_stratum(source: LogSource) -> None:
    assert dict((await source.frame(WINDOW, by=("route",))).rows) == ROUTES


async def test_an_empty_window_has_no_rows(source: LogSource) -> None:
    assert (await source.frame(LATER, by=())).total == 0
    assert await draw(source, 5, window=LATER) == []


async def test_it_draws_as_many_rows_as_asked_for(source: LogSource) -> None:
    assert len(set(await draw(source, 25))) == 25


async def test_it_draws_only_rows_of_the_window(source: LogSource) -> None:
    assert sorted(map(int, await draw(source, 1_000))) == list(range(IN_WINDOW))


async def test_the_same_seed_gives_the_same_rows_in_the_same_order(
    source: LogSource, open_source: Open
) -> None:
    again = open_source()
    assert await draw(source, 40) == await draw(again, 40)
    await again.close()


@pytest.mark.parametrize("by", [(), ("route",)])
@pytest.mark.parametrize(
    "ahead", [Ahead(seed=1, rows=1), Ahead(seed=1, rows=30), Ahead(seed=2, rows=30)]
)
async def test_looking_ahead_changes_neither_the_count_nor_the_draw(
    open_source: Open, by: tuple[str, ...], ahead: Ahead
) -> None:
    plain, looking = open_source(), open_source()
    quota = dict.fromkeys(ROUTES if by else [""], 9)
    offset = dict.fromkeys(quota, 3)
    drawn = []
    for source, looks in ((plain, None), (looking, ahead)):
        frame = await source.frame(WINDOW, by=by, ahead=looks)
        rows = await source.draw(WINDOW, seed=1, by=by, quota=quota, offset=offset)
        drawn.append((dict(frame.rows), [(row.stratum, row.source_id) for row in rows]))
        await source.close()
    assert drawn[0] == drawn[1]
    assert len(drawn[0][1]) == sum(quota.values())


async def test_another_seed_gives_another_order(source: LogSource) -> None:
    assert await draw(source, 40, seed=1) != await draw(source, 40, seed=2)


async def test_a_seed_may_be_any_64_bit_number(source: LogSource) -> None:
    for seed in (0, 2**63 - 1, 2**63, 2**64 - 1):
        assert len(await draw(source, 3, seed=seed)) == 3


async def test_a_second_draw_goes_on_where_the_first_ended(source: LogSource) -> None:
    whole = await draw(source, 60)
    assert [*await draw(source, 25), *await draw(source, 35, offset=25)] == whole


async def test_a_draw_beyond_the_end_brings_what_is_left(source: LogSource) -> None:
    assert len(await draw(source, 50, offset=IN_WINDOW - 8)) == 8
    assert await draw(source, 50, offset=IN_WINDOW) == []


async def test_each_stratum_gives_its_quota(source: LogSource) -> None:
    quota = {"chat": 12, "extract": 7, "rare": 3}
    rows = await source.draw(WINDOW, seed=5, by=("route",), quota=quota, offset={})
    assert Counter(row.stratum for row in rows) == quota
    assert all(row.segments["route"] == row.stratum for row in rows)


async def test_strata_go_on_where_they_ended(source: LogSource) -> None:
    async def ids(quota: dict[str, int], offset: dict[str, int]) -> list[str]:
        rows = await source.draw(WINDOW, seed=5, by=("route",), quota=quota, offset=offset)
        return [row.source_id for row in rows]

    whole = await ids({"rare": 30}, {})
    assert len(whole) == 30
    assert [*await ids({"rare": 4}, {}), *await ids({"rare": 40}, {"rare": 4})] == whole


async def test_a_stratum_that_is_not_there_gives_nothing(source: LogSource) -> None:
    rows = await source.draw(WINDOW, seed=5, by=("route",), quota={"gone": 5}, offset={})
    assert list(rows) == []


async def test_rows_come_with_their_prompt_and_time(source: LogSource) -> None:
    rows = await source.draw(WINDOW, seed=1, by=(), quota={"": 10}, offset={})
    known = {int(row.row_id): row for row in logged()}
    for row in rows:
        expected = known[int(row.source_id)]
        found = replayable_of(row)
        assert isinstance(found, Replayable)
        assert found.prompt.last_user_text == expected.prompt
        assert row.created_at is not None
        assert abs(row.created_at - expected.at) < timedelta(milliseconds=1)
        assert row.segments == {"route": expected.route}


async def test_every_row_is_equally_likely(source: LogSource) -> None:
    drawn = [row_id for seed in range(40) for row_id in await draw(source, 30, seed=seed)]
    deciles = Counter(int(row_id) * 10 // IN_WINDOW for row_id in drawn)
    expected = 40 * 30 / 10
    chi_square = sum((deciles[decile] - expected) ** 2 / expected for decile in range(10))
    assert chi_square < 33.7  # 9 degrees of freedom, 99.99 %


async def test_it_can_be_checked_and_explained(source: LogSource) -> None:
    assert all(isinstance(warning, str) for warning in await source.check())
    explained = await source.explain(WINDOW)
    assert explained is None or "cost" in explained


def _openinference(row: Logged) -> dict[str, object]:
    message = {"message": {"role": "user", "content": row.prompt}}
    return {"llm": {"input_messages": [message]}, "metadata": {"route": row.route}}


def _gen_ai(row: Logged) -> dict[str, object]:
    message = {"role": "user", "parts": [{"type": "text", "content": row.prompt}]}
    return {"gen_ai.input.messages": json.dumps([message]), "route": row.route}


def _record(row: Logged) -> dict[str, str]:
    return {
        "id": row.row_id,
        "created_at": row.at.isoformat(),
        "prompt": row.prompt,
        "route": row.route,
    }


def _fill(dsn: str, create: str, insert: str, rows: Sequence[tuple[object, ...]]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(create.encode())
        connection.cursor().executemany(insert.encode(), rows)
