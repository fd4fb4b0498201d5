"""Logs in a real Postgres: every way a table can be odd, slow, closed or too open."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.domain.cases import Window
from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings, SampleSettings
from app.logsources.postgres import PostgresLogs
from app.logsources.read_only_session import libpq_dsn
from app.ports import LogRow
from app.sampling.draw import DrawRequest, draw_sample
from app.storage.postgres_server import PostgresServer
from tests.fixtures.postgres import drop_database, with_database

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=7))
CREATE = (
    "CREATE TABLE ai_logs (id bigint PRIMARY KEY, created_at timestamptz NOT NULL,"
    " prompt text, response text, model text, route text)"
)
FILL = (
    "INSERT INTO ai_logs SELECT n, timestamptz '2026-03-02 00:00+00' + n * interval '1 minute',"
    " 'prompt ' || n, 'reply', 'm', (ARRAY['chat', 'extract'])[1 + n % 2]"
    " FROM generate_series(1, 500) AS n"
)

Run = Callable[..., None]
Open = Callable[..., PostgresLogs]


@pytest.fixture
def run(empty_database_url: str) -> Iterator[Run]:
    """Run SQL as the owner of the log database."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:

        def execute(*statements: str) -> None:
            for statement in statements:
                connection.execute(statement.encode())

        yield execute


@pytest.fixture
async def logs(empty_database_url: str) -> AsyncIterator[Open]:
    """Open the log database as the plan would; closed at the end of the test."""
    async with contextlib.AsyncExitStack() as stack:

        def open_logs(*, dsn: str = empty_database_url, **settings: object) -> PostgresLogs:
            chosen = {"table": "ai_logs", **settings}
            if "query" in chosen:
                chosen["table"] = None
            source = PostgresLogs(LogSettings(**chosen), dsn=dsn)  # type: ignore[arg-type]
            stack.push_async_callback(source.close)
            return source

        yield open_logs


async def rows_of(source: PostgresLogs, count: int = 1_000) -> list[LogRow]:
    return list(await source.draw(WINDOW, seed=1, by=(), quota={"": count}, offset={}))


# --- what is wrong with the plan -------------------------------------------------------------


async def test_a_missing_table_is_named_with_the_nearest_one(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    with pytest.raises(LogSourceError, match=r"no table 'ai_log'; did you mean 'ai_logs'\?"):
        await logs(table="ai_log").check()


async def test_a_missing_column_is_named_with_the_nearest_one(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    with pytest.raises(LogSourceError, match=r"'promt'.*did you mean 'prompt'\?"):
        await logs(columns={"prompt": "promt"}).check()


async def test_a_table_without_a_prompt_column_says_what_to_name(run: Run, logs: Open) -> None:
    run("CREATE TABLE ai_logs (id int PRIMARY KEY, created_at timestamptz, prompt_text text)")
    with pytest.raises(LogSourceError, match=r"did you mean 'prompt_text'\?.*logs.columns.prompt"):
        await logs().check()


async def test_an_unknown_column_of_ours_is_named_with_the_nearest_one(
    run: Run, logs: Open
) -> None:
    run(CREATE, FILL)
    with pytest.raises(LogSourceError, match=r"logs.columns.respons .*did you mean 'response'"):
        await logs(columns={"respons": "response"}).check()


async def test_an_empty_table_is_refused(run: Run, logs: Open) -> None:
    run(CREATE)
    with pytest.raises(LogSourceError, match="ai_logs holds no rows"):
        await logs().check()


async def test_a_condition_that_no_row_meets_is_refused(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    with pytest.raises(LogSourceError, match=r"no rows that match logs\.where"):
        await logs(where="route = 'x%'").check()


async def test_a_time_that_is_a_number_is_refused_with_advice(run: Run, logs: Open) -> None:
    run("CREATE TABLE ai_logs (id int PRIMARY KEY, created_at bigint, prompt text)")
    with pytest.raises(LogSourceError, match="to_timestamp"):
        await logs().check()


async def test_a_stratum_by_an_unknown_segment_is_refused(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    with pytest.raises(LogSourceError, match=r"'rout'.*did you mean 'route'"):
        await logs(segments={"route": "route"}).frame(WINDOW, by=("rout",))


async def test_a_broken_condition_is_refused_in_the_databases_words(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    with pytest.raises(LogSourceError, match=r"column .*nowhere.* does not exist"):
        await logs(where="nowhere = 1").frame(WINDOW, by=())


@pytest.mark.parametrize("name", ["ai_logs; DROP TABLE ai_logs", "a.b.c.d", "", "(SELECT 1)"])
async def test_a_table_name_that_is_none_is_refused(run: Run, logs: Open, name: str) -> None:
    run(CREATE, FILL)
    with pytest.raises(LogSourceError, match=r"no table name|logs\.table or logs\.query"):
        await logs(table=name).check()


async def test_a_server_that_is_not_there_is_named_without_its_password(logs: Open) -> None:
    dsn = "postgresql://bertha:hunter2@127.0.0.1:1/logs"
    with pytest.raises(LogSourceError, match="cannot be reached: nothing listens") as caught:
        await logs(dsn=dsn).check()
    for secret in ("hunter2", "bertha", "127.0.0.1", "port"):
        assert secret not in str(caught.value)


async def test_a_database_that_is_not_there_is_not_named_in_messages(
    logs: Open, database_url: str
) -> None:
    dsn = urlsplit(database_url)._replace(path="/customers-of-ann").geturl()
    with pytest.raises(LogSourceError, match="no such database") as caught:
        await logs(dsn=dsn).check()
    assert "customers-of-ann" not in str(caught.value)


async def test_a_broken_dsn_is_not_shown(logs: Open) -> None:
    with pytest.raises(LogSourceError) as caught:
        await logs(dsn="hunter2 is no dsn").check()
    assert "hunter2" not in str(caught.value)


# --- prompts that are not there --------------------------------------------------------------


async def test_a_log_whose_prompts_are_all_empty_is_refused(run: Run, logs: Open) -> None:
    run(CREATE, FILL, "UPDATE ai_logs SET prompt = CASE WHEN id % 2 = 0 THEN ' ' END")
    with pytest.raises(LogSourceError, match=r"'prompt' is empty in all of 200 rows"):
        await logs().check()


async def test_a_log_whose_prompts_are_mostly_empty_is_warned_of(run: Run, logs: Open) -> None:
    run(CREATE, FILL, "CREATE INDEX ON ai_logs (created_at)")
    run("UPDATE ai_logs SET prompt = '' WHERE id % 5 > 0")
    warnings = await logs().check()
    assert any("'prompt' is empty in 160 of 200 rows" in warning for warning in warnings)


async def test_empty_json_messages_are_empty_prompts(run: Run, logs: Open) -> None:
    run(
        "CREATE TABLE ai_logs (id int PRIMARY KEY, created_at timestamptz, messages jsonb)",
        "INSERT INTO ai_logs VALUES (1, '2026-03-03', '{}'), (2, '2026-03-03', NULL)",
    )
    with pytest.raises(LogSourceError, match=r"'messages' is empty in all of 2 rows"):
        await logs().check()


# --- roles -----------------------------------------------------------------------------------


async def test_a_reading_role_and_a_fitting_index_need_no_warning(
    run: Run, logs: Open, empty_database_url: str
) -> None:
    run(CREATE, FILL, "CREATE INDEX ON ai_logs (created_at)")
    with _role(empty_database_url, "GRANT SELECT ON ai_logs TO {}") as reader:
        assert await logs(dsn=reader).check() == ()


async def test_a_role_that_can_write_is_warned_of_with_the_revoke(
    run: Run, logs: Open, empty_database_url: str
) -> None:
    run(CREATE, FILL, "CREATE INDEX ON ai_logs (created_at)")
    with _role(empty_database_url, "GRANT SELECT, INSERT, DELETE ON ai_logs TO {}") as writer:
        (warning,) = await logs(dsn=writer).check()
    assert "REVOKE INSERT, DELETE ON public.ai_logs FROM" in warning


async def test_a_role_that_can_write_one_column_is_warned_of(
    run: Run, logs: Open, empty_database_url: str
) -> None:
    run(CREATE, FILL, "CREATE INDEX ON ai_logs (created_at)")
    grant = "GRANT SELECT, UPDATE (response) ON ai_logs TO {}"
    with _role(empty_database_url, grant) as writer:
        (warning,) = await logs(dsn=writer).check()
    assert "REVOKE UPDATE ON public.ai_logs FROM" in warning


async def test_a_superuser_is_told_to_make_a_role(run: Run, logs: Open) -> None:
    run(CREATE, FILL, "CREATE INDEX ON ai_logs (created_at)")
    (warning,) = await logs().check()
    assert "GRANT SELECT ON public.ai_logs TO switchwise_logs" in warning


async def test_the_tables_behind_a_query_are_checked_too(
    run: Run, logs: Open, empty_database_url: str
) -> None:
    run(CREATE, FILL)
    with _role(empty_database_url, "GRANT SELECT, TRUNCATE ON ai_logs TO {}") as writer:
        source = logs(dsn=writer, query="SELECT id, created_at, prompt FROM ai_logs")
        (warning,) = await source.check()
    assert "REVOKE TRUNCATE ON public.ai_logs FROM" in warning


async def test_rights_on_the_columns_needed_are_enough(
    run: Run, logs: Open, empty_database_url: str
) -> None:
    run(CREATE, FILL)
    grant = "GRANT SELECT (id, created_at, prompt) ON ai_logs TO {}"
    with _role(empty_database_url, grant) as reader:
        rows = await rows_of(logs(dsn=reader), 3)
    assert [set(row.fields) for row in rows] == [{"prompt"}] * 3


async def test_a_table_that_may_not_be_read_is_named(
    run: Run, logs: Open, empty_database_url: str
) -> None:
    run(CREATE, FILL)
    with (
        _role(empty_database_url, "GRANT USAGE ON SCHEMA public TO {}") as stranger,
        pytest.raises(LogSourceError, match=r"may not read.*GRANT SELECT ON public\.ai_logs"),
    ):
        await logs(dsn=stranger).check()


WRITES = [
    "query=WITH gone AS (DELETE FROM ai_logs RETURNING *) SELECT id, created_at, prompt FROM gone",
    "query=SELECT id, created_at, prompt, setval('seq', 9) FROM ai_logs",
    "where=setval('seq', 9) > 0",
    "where=true); DELETE FROM ai_logs; --",
]


@pytest.mark.parametrize("setting", WRITES)
async def test_no_setting_can_make_it_write(run: Run, logs: Open, setting: str) -> None:
    run(CREATE, FILL, "CREATE SEQUENCE seq")
    name, _, text = setting.partition("=")
    with pytest.raises(LogSourceError):
        await rows_of(logs(**{name: text}))
    run("DO $$ BEGIN ASSERT (SELECT count(*) = 500 FROM ai_logs), 'rows were deleted'; END $$")


async def test_the_session_is_read_only_even_outside_transactions(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    source = logs(segments={"mode": "current_setting('default_transaction_read_only')"})
    assert {row.segments["mode"] for row in await rows_of(source, 3)} == {"on"}


# --- indexes and time ------------------------------------------------------------------------


async def test_a_missing_index_is_printed_as_the_statement_that_makes_it(
    run: Run, logs: Open
) -> None:
    run(CREATE, FILL)
    warnings = await logs(segments={"route": "route", "team": "upper(model)"}).check()
    wanted = "CREATE INDEX CONCURRENTLY ON public.ai_logs (created_at) INCLUDE (id, route);"
    assert any(wanted in warning for warning in warnings)


async def test_the_index_that_is_printed_helps(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    source = logs(segments={"route": "route"})
    (advice,) = [warning for warning in await source.check() if "CREATE INDEX" in warning]
    run(advice[advice.index("CREATE INDEX") :], "VACUUM ANALYZE ai_logs")
    assert not any("CREATE INDEX" in warning for warning in await source.check())


async def test_odd_names_are_quoted_in_the_printed_index(run: Run, logs: Open) -> None:
    run(
        'CREATE TABLE "My Logs" ("user" int PRIMARY KEY, "createdAt" timestamp, "100%" text)',
        """INSERT INTO "My Logs" VALUES (1, '2026-03-03', 'Hi')""",
    )
    columns = {"id": "user", "created_at": "createdAt", "prompt": "100%"}
    source = logs(table='"My Logs"', columns=columns)
    (advice,) = [warning for warning in await source.check() if "CREATE INDEX" in warning]
    run(advice[advice.index("CREATE INDEX") :])
    assert [row.fields["prompt"] for row in await rows_of(source)] == ["Hi"]


async def test_the_plan_of_a_draw_names_the_index_and_the_rows(run: Run, logs: Open) -> None:
    run(CREATE, FILL, "CREATE INDEX by_time ON ai_logs (created_at) INCLUDE (id)")
    run("INSERT INTO ai_logs SELECT n, '2020-01-01', 'old' FROM generate_series(501, 20000) n")
    run("VACUUM ANALYZE ai_logs")
    explained = await logs().explain(WINDOW)
    assert explained is not None
    assert "index only scan of ai_logs with by_time, about" in explained


async def test_bodies_are_read_by_key_and_not_for_the_whole_window(run: Run, logs: Open) -> None:
    run(CREATE, "ALTER TABLE ai_logs ALTER prompt SET STORAGE EXTERNAL")
    run(
        "INSERT INTO ai_logs SELECT n, timestamptz '2026-03-02 00:00+00' + n * interval '1 s',"
        " repeat('x', 9000) FROM generate_series(1, 5000) AS n",
        "CREATE INDEX ON ai_logs (created_at) INCLUDE (id)",
        "VACUUM ANALYZE ai_logs",
        "SELECT pg_stat_reset()",
    )
    source = logs()
    assert len(await rows_of(source, 20)) == 20
    await source.close()
    run(
        "SELECT pg_stat_clear_snapshot()",
        "DO $$ DECLARE read bigint; BEGIN"
        " FOR i IN 1..50 LOOP"
        "  PERFORM pg_stat_clear_snapshot();"
        "  SELECT toast_blks_hit + toast_blks_read INTO read"
        "  FROM pg_statio_user_tables WHERE relname = 'ai_logs';"
        "  EXIT WHEN read > 0; PERFORM pg_sleep(0.1);"
        " END LOOP;"
        " ASSERT read BETWEEN 1 AND 400, 'toast blocks read: ' || read; END $$",
    )


async def test_a_slow_statement_stops_with_the_index_that_would_help(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    source = logs(where="pg_sleep(0.01) IS NOT NULL", statement_timeout_s=0.2)
    with pytest.raises(LogSourceError, match=r"statement_timeout \(0\.2 s\); CREATE INDEX"):
        await source.frame(WINDOW, by=())


async def test_a_draw_goes_on_after_its_connection_was_cut(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    source = logs()
    first = await rows_of(source, 10)
    run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'switchwise' AND datname = current_database()"
    )
    assert await rows_of(source, 10) == first


async def test_concurrent_draws_wait_for_each_other(run: Run, logs: Open) -> None:
    run(CREATE, FILL)
    source = logs()
    drawn = await asyncio.gather(*(rows_of(source, 10) for _ in range(5)))
    assert all(rows == drawn[0] for rows in drawn)


async def test_a_pooler_that_refuses_start_up_options_is_worked_with(
    run: Run, logs: Open, empty_database_url: str
) -> None:
    run(CREATE, FILL)
    async with _pooler(empty_database_url) as dsn:
        source = logs(dsn=dsn, where="current_setting('transaction_read_only') = 'on'")
        assert len(await rows_of(source, 5)) == 5
        await source.close()


@pytest.mark.slow
async def test_a_frozen_server_is_given_up(
    own_postgres: Callable[[], PostgresServer], logs: Open
) -> None:
    server = own_postgres()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(CREATE.encode())
        connection.execute(FILL.encode())
    source = logs(dsn=server.dsn, statement_timeout_s=0.5)
    await rows_of(source, 1)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'switchwise'"
        ).fetchone()
    assert found is not None
    os.kill(found[0], signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(LogSourceError, match="statement_timeout"):
            await rows_of(source, 1)
    finally:
        os.kill(found[0], signal.SIGCONT)
    assert time.monotonic() - started < 30


# --- shapes of tables ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["bigint", "smallint", "uuid", "text", "varchar(80)", "char(40)", "numeric", "bytea"]
)
async def test_ids_of_any_type_are_drawn_and_found(run: Run, logs: Open, kind: str) -> None:
    made = {
        "uuid": "md5(n::text)::uuid",
        "bytea": "decode(md5(n::text), 'hex')",
        "smallint": "n",
        "bigint": "n * 10000000000",
        "numeric": "n / 7.0",
    }.get(kind, "'id-' || n")
    run(
        f"CREATE TABLE ai_logs (id {kind} PRIMARY KEY, created_at timestamptz, prompt text)",
        f"INSERT INTO ai_logs SELECT {made}, '2026-03-03', 'p' || n FROM generate_series(1, 90) n",
    )
    rows = await rows_of(logs(), 40)
    assert len({str(row.fields["prompt"]) for row in rows}) == 40


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "timestamp(3)", "date"])
async def test_times_without_a_zone_are_utc(run: Run, logs: Open, kind: str) -> None:
    run(
        f"CREATE TABLE ai_logs (id int PRIMARY KEY, created_at {kind}, prompt text)",
        "SET timezone = 'UTC'",
        "INSERT INTO ai_logs VALUES (1, '2026-03-01 23:59:59', 'early'), (2, '2026-03-02', 'in'),"
        " (3, '2026-03-09', 'late')",
    )
    rows = await rows_of(logs())
    assert [(row.fields["prompt"], row.created_at) for row in rows] == [("in", START)]


async def test_a_partitioned_table_is_read(run: Run, logs: Open) -> None:
    run(
        "CREATE TABLE ai_logs (id int, created_at timestamptz, prompt text,"
        " PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at)",
        "CREATE TABLE p1 PARTITION OF ai_logs FOR VALUES FROM ('2026-03-01') TO ('2026-03-04')",
        "CREATE TABLE p2 PARTITION OF ai_logs FOR VALUES FROM ('2026-03-04') TO ('2026-04-01')",
        "INSERT INTO ai_logs SELECT n, timestamptz '2026-03-02' + n * interval '1 hour', 'p' || n"
        " FROM generate_series(1, 100) n",
    )
    source = logs()
    assert len(await rows_of(source)) == 100
    (advice,) = [warning for warning in await source.check() if "CREATE INDEX" in warning]
    assert "CREATE INDEX ON public.ai_logs" in advice


async def test_a_view_is_read(run: Run, logs: Open) -> None:
    run(CREATE, FILL, "CREATE VIEW good AS SELECT * FROM ai_logs WHERE route = 'chat'")
    source = logs(table="good")
    assert len(await rows_of(source)) == 250
    assert not any("CREATE INDEX" in warning for warning in await source.check())


async def test_mixed_case_names_need_no_quotes(run: Run, logs: Open) -> None:
    run(
        'CREATE TABLE "AiLogs" (id int PRIMARY KEY, "createdAt" timestamptz, prompt text)',
        """INSERT INTO "AiLogs" VALUES (1, '2026-03-03', 'Hi')""",
    )
    source = logs(table="AiLogs", columns={"created_at": "createdAt"})
    assert len(await rows_of(source)) == 1


async def test_values_inside_a_json_column_are_columns_too(run: Run, logs: Open) -> None:
    run(
        "CREATE TABLE ai_logs (created_at timestamptz, body jsonb)",
        """INSERT INTO ai_logs SELECT '2026-03-03', jsonb_build_object('id', 'x' || n,
        'request', jsonb_build_object('messages', '[{"role": "user", "content": "Hi"}]'::jsonb))
        FROM generate_series(1, 5) AS n""",
    )
    columns = {"id": "body->>'id'", "messages": "body->'request'"}
    source = logs(columns=columns)
    assert sorted(row.source_id for row in await rows_of(source)) == ["x1", "x2", "x3", "x4", "x5"]
    assert any("ai_logs (created_at);" in warning for warning in await source.check())


async def test_several_segments_make_strata_together(run: Run, logs: Open) -> None:
    run(CREATE, FILL, "UPDATE ai_logs SET route = NULL WHERE id <= 10")
    source = logs(segments={"route": "route", "half": "CASE WHEN id > 250 THEN 'b' ELSE 'a' END"})
    frame = await source.frame(WINDOW, by=("route", "half"))
    assert dict(frame.rows) == {
        " / a": 10,
        "chat / a": 120,
        "chat / b": 125,
        "extract / a": 120,
        "extract / b": 125,
    }


async def test_a_row_without_a_segment_has_none(run: Run, logs: Open) -> None:
    run(CREATE, "INSERT INTO ai_logs VALUES (1, '2026-03-03', 'Hi')")
    (row,) = await rows_of(logs(segments={"route": "route"}))
    assert row.segments == {}


async def test_rows_without_an_id_are_left_out_of_frame_and_draw(run: Run, logs: Open) -> None:
    run(
        "CREATE TABLE ai_logs (id int, created_at timestamptz, prompt text)",
        "INSERT INTO ai_logs VALUES (NULL, '2026-03-03', 'a'), (1, '2026-03-03', 'b')",
    )
    source = logs()
    assert (await source.frame(WINDOW, by=())).total == 1
    assert [row.source_id for row in await rows_of(source)] == ["1"]


async def test_all_columns_of_a_rich_table_arrive(run: Run, logs: Open) -> None:
    run(
        "CREATE TABLE ai_logs (id int PRIMARY KEY, created_at timestamptz, messages jsonb,"
        " system text, params json, tools jsonb, reference text, conversation uuid,"
        " output_tokens int)",
        """INSERT INTO ai_logs VALUES (1, '2026-03-03', '[{"role": "user", "content": "Hi"}]',
        'Be brief.', '{"max_tokens": 9}', '[{"name": "f", "parameters": {}}]', 'Hello',
        '00000000-0000-0000-0000-000000000001', 12)""",
    )
    request = DrawRequest(run_id="r", window=WINDOW, seed=1, settings=SampleSettings())
    sample = await draw_sample(logs(), request)
    (case,) = sample.cases
    assert case.prompt.to_json() == {
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.",
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
        "params": {"max_tokens": 9},
    }
    assert (case.reference, case.conversation) == ("Hello", "00000000-0000-0000-0000-000000000001")
    assert sample.mean_logged_output_tokens == 12


# --- odd data --------------------------------------------------------------------------------


async def test_odd_data_never_stops_a_draw(run: Run, logs: Open) -> None:
    run(
        "CREATE TABLE ai_logs (id int PRIMARY KEY, created_at timestamptz, prompt text,"
        " messages json)",
        """INSERT INTO ai_logs VALUES
        (1, '2026-03-03', NULL, NULL),
        (2, '2026-03-03', '', '[]'),
        (3, '2026-03-03', repeat('x', 1000000), NULL),
        (4, '2026-03-03', 'family 👩‍👩‍👧 emoji', NULL),
        (5, '2026-03-03', NULL, '[{"role": "user", "content": "nul \\u0000"}]'),
        (6, '2026-03-03', NULL, '[{"role": "user", "content": "half \\ud83d"}]'),
        (7, '2026-03-03', NULL, '"just text"'),
        (8, '2026-03-03', E'\\x01\\x02\\x03\\x04', NULL),
        (9, '2026-03-03', NULL, '[1, 2]'),
        (10, '2026-03-03', repeat('y', 40000000), NULL)""",
    )
    request = DrawRequest(run_id="r", window=WINDOW, seed=1, settings=SampleSettings())
    sample = await draw_sample(logs(), request)
    assert sample.skipped == {
        "binary": 2,
        "empty": 2,
        "too_long": 2,
        "unreadable": 1,
        "unsupported_content": 1,
    }
    prompts = {case.prompt.last_user_text for case in sample.cases}
    assert prompts == {"family 👩‍👩‍👧 emoji", "just text"}


async def test_text_in_a_database_of_no_encoding_is_read_where_it_is_utf8(
    pg_server: str,
) -> None:
    name = "sql_ascii_logs"
    with psycopg.connect(pg_server, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C'"
            " LC_CTYPE 'C'".encode()
        )
    dsn = with_database(pg_server, name)
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(CREATE.encode())
            connection.execute(
                b"INSERT INTO ai_logs (id, created_at, prompt, route) VALUES"
                b" (1, '2026-03-03', E'caf\\303\\251', E'\\303\\251'),"
                b" (2, '2026-03-03', E'caf\\351', 'b'), (3, '2026-03-03', 'tea', 'b')"
            )
        settings = LogSettings(
            table="ai_logs", segments={"route": "route"}, where="route <> 'ü' AND prompt LIKE '%a%'"
        )
        source = PostgresLogs(settings, dsn=dsn)
        how = SampleSettings(n=3, strategy="stratified", by=("route",))
        request = DrawRequest(run_id="r", window=WINDOW, seed=1, settings=how)
        assert any("WARNING" in warning for warning in await source.check())
        sample = await draw_sample(source, request)
        await source.close()
    finally:
        drop_database(pg_server, name)
    assert {(case.stratum, case.prompt.last_user_text) for case in sample.cases} == {
        ("é", "café"),
        ("b", "tea"),
    }
    assert sample.skipped == {"unreadable": 1}


def test_a_drivers_name_in_the_scheme_is_left_out() -> None:
    assert libpq_dsn("postgresql+psycopg://a:b@h/d") == "postgresql://a:b@h/d"
    assert libpq_dsn("host=h dbname=d") == "host=h dbname=d"


@contextlib.asynccontextmanager
async def _pooler(dsn: str) -> AsyncIterator[str]:
    """A TCP door to the server that turns away whoever sends start-up options."""
    info = conninfo_to_dict(dsn)
    host, port = str(info.get("host", "localhost")), int(info.get("port") or 5432)
    connections: list[asyncio.Task[None]] = []

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
        target.close()

    async def serve(client: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        size = await client.readexactly(4)
        startup = await client.readexactly(int.from_bytes(size) - 4)
        if b"\x00options\x00" in startup:
            text = b"unsupported startup parameter: options"
            error = b"SFATAL\x00VFATAL\x00C08P01\x00M" + text + b"\x00\x00"
            reply.write(b"E" + (len(error) + 4).to_bytes(4) + error)
            reply.close()
            return
        door = (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        answers, server = await door
        server.write(size + startup)
        connections.append(asyncio.create_task(pump(answers, reply)))
        await pump(client, server)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        taken = listener.sockets[0].getsockname()[1]
        changes = {
            "host": "127.0.0.1",
            "port": taken,
            "sslmode": "disable",
            "gssencmode": "disable",
        }
        yield make_conninfo(dsn, **changes)
    finally:
        listener.close()
        await asyncio.gather(*connections)
        await listener.wait_closed()


@contextlib.contextmanager
def _role(owner_dsn: str, grant: str) -> Iterator[str]:
    """A login role with this grant on the test's database; gone afterwards."""
    name = f"role_{urlsplit(owner_dsn).path.strip('/')[-12:]}"
    role = sql.Identifier(name)
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(role))
        connection.execute(sql.SQL(grant).format(role))
        try:
            parts = urlsplit(owner_dsn)
            host = parts.netloc.rpartition("@")[2]
            yield parts._replace(netloc=f"{name}:p@{host}").geturl()
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(
                sql.SQL(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {}"
                ).format(sql.Literal(name))
            )
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
