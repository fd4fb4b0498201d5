import gzip
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.cases import Sample, Window
from app.domain.errors import LogSourceError
from app.domain.plans import LogSettings, SampleSettings
from app.logsources.file import FileLogs
from app.sampling.draw import DrawRequest, draw_sample

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=7))

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def lines(*records: Mapping[str, object]) -> str:
    return "\n".join(json.dumps(record) for record in records)


async def sample(path: str, **settings: object) -> Sample:
    logs = FileLogs(LogSettings(path=path, **settings))  # type: ignore[arg-type]
    request = DrawRequest(run_id="r", window=WINDOW, seed=1, settings=SampleSettings())
    return await draw_sample(logs, request)


async def test_a_suite_without_times_is_drawn_whole(write: Write) -> None:
    path = write("suite.jsonl", lines(*({"prompt": f"p{n}", "expected": "x"} for n in range(60))))
    drawn = await sample(path)
    assert (drawn.frame, len(drawn.cases)) == (60, 60)
    assert {case.reference for case in drawn.cases} == {"x"}


async def test_a_csv_suite_has_system_and_segment(write: Write) -> None:
    content = 'prompt,expected,system,segment\n"Hi, you\nthere",yes,Be brief.,greeting\n'
    (case,) = (await sample(write("suite.csv", content))).cases
    assert case.prompt.last_user_text == "Hi, you\nthere"
    assert (case.prompt.system, case.reference) == ("Be brief.", "yes")
    assert dict(case.segments) == {"segment": "greeting"}


async def test_configured_segments_are_read_from_their_columns(write: Write) -> None:
    path = write("s.jsonl", lines({"prompt": "Hi", "team": "legal", "segment": "x"}))
    (case,) = (await sample(path, segments={"owner": "team"})).cases
    assert dict(case.segments) == {"owner": "legal"}


async def test_columns_can_have_other_names(write: Write) -> None:
    path = write("s.csv", "question,answer\nHi,Hello\n")
    (case,) = (await sample(path, columns={"prompt": "question", "reference": "answer"})).cases
    assert (case.prompt.last_user_text, case.reference) == ("Hi", "Hello")


async def test_messages_and_tool_calls_are_read(write: Write) -> None:
    record = {
        "messages": [{"role": "user", "content": "Weather?"}],
        "tool_calls": [{"name": "weather", "arguments": {"city": "Rome"}}],
    }
    (case,) = (await sample(write("s.jsonl", lines(record)))).cases
    expected = {"type": "tool_use", "name": "weather", "input": {"city": "Rome"}}
    assert case.tool_calls == (expected,)


async def test_a_json_list_is_read_as_lines_are(write: Write) -> None:
    path = write("s.json", json.dumps([{"prompt": "a"}, {"prompt": "b"}]))
    assert {case.prompt.last_user_text for case in (await sample(path)).cases} == {"a", "b"}


async def test_a_gzipped_file_is_read(write: Write) -> None:
    path = write("s.jsonl.gz", gzip.compress(lines({"prompt": "a"}).encode()))
    assert len((await sample(path)).cases) == 1


async def test_a_byte_order_mark_is_not_part_of_the_first_column(write: Write) -> None:
    for name, content in {"s.csv": "prompt\nHi\n", "s.jsonl": lines({"prompt": "Hi"})}.items():
        (case,) = (await sample(write(name, "\ufeff" + content))).cases
        assert case.prompt.last_user_text == "Hi"


async def test_rows_with_times_are_drawn_from_the_window_alone(write: Write) -> None:
    path = write(
        "s.jsonl",
        lines(
            {"prompt": "early", "created_at": "2026-03-01T23:59:59Z"},
            {"prompt": "in", "created_at": "2026-03-02T00:00:00+00:00"},
            {"prompt": "local", "created_at": "2026-03-02 10:00"},
            {"prompt": "epoch", "created_at": START.timestamp() + 60},
            {"prompt": "late", "created_at": "2026-03-09T00:00:00Z"},
        ),
    )
    prompts = {case.prompt.last_user_text for case in (await sample(path)).cases}
    assert prompts == {"in", "local", "epoch"}


async def test_broken_rows_are_counted_and_the_rest_is_drawn(write: Write) -> None:
    broken = b'{"prompt": "ok"}\n{"prompt": \n[1]\n{"prompt": "\xff"}\n' + b"[" * 100_000 + b"\n"
    broken += b'{"prompt": "ok too", "created_at": "soon"}\n{"prompt": "a\\u0000"}\n{"id": 7}'
    drawn = await sample(write("s.jsonl", broken))
    assert [case.prompt.last_user_text for case in drawn.cases] == ["ok"]
    assert drawn.skipped == {"binary": 1, "empty": 1, "unreadable": 5}


async def test_a_csv_of_another_encoding_loses_only_those_rows(write: Write) -> None:
    drawn = await sample(write("s.csv", b"prompt,id\ncaf\xe9,1\ntea,2\n"))
    assert [case.prompt.last_user_text for case in drawn.cases] == ["tea"]
    assert drawn.skipped == {"unreadable": 1}


async def test_long_csv_fields_are_read(write: Write) -> None:
    drawn = await sample(write("s.csv", f"prompt\n{'x' * 300_000}\nok\n"))
    assert drawn.skipped == {"too_long": 1}


REFUSED: Mapping[str, tuple[str, dict[str, object], str]] = {
    "empty": ("", {}, "holds no rows"),
    "no prompt": (lines({"promt": "x"}), {}, "did you mean 'promt'"),
    "unknown column": (lines({"prompt": "x"}), {"columns": {"prompt": "promt"}}, "'prompt'"),
    "unknown name": (lines({"prompt": "x"}), {"columns": {"promt": "prompt"}}, "'prompt'"),
    "unknown segment": (lines({"prompt": "x", "team": "a"}), {"segments": {"t": "teem"}}, "'team'"),
    "nothing readable": ("{\n{", {}, "none of 2 rows can be read"),
}


@pytest.mark.parametrize(("content", "settings", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_wrong_with_a_file_is_said(
    write: Write, content: str, settings: dict[str, object], words: str
) -> None:
    path = write("s.jsonl", content)
    with pytest.raises(LogSourceError, match=words):
        await FileLogs(LogSettings(path=path, **settings)).check()  # type: ignore[arg-type]


async def test_a_missing_file_is_named() -> None:
    with pytest.raises(LogSourceError, match=r"/nowhere/suite\.jsonl cannot be read"):
        await FileLogs(LogSettings(path="/nowhere/suite.jsonl")).check()


async def test_a_plan_without_a_path_is_told_to_name_one() -> None:
    with pytest.raises(LogSourceError, match=r"logs\.path"):
        await FileLogs(LogSettings()).check()


async def test_a_few_unreadable_rows_are_a_warning(write: Write) -> None:
    path = write("s.jsonl", '{"prompt": "x"}\n{')
    assert await FileLogs(LogSettings(path=path)).check() == (
        f"{path}: 1 of 2 rows cannot be read",
    )
