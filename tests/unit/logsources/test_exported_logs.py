"""Langfuse, Helicone and OpenAI: odd records, broken listings, refusals and export files."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from app.domain.cases import Sample, Window
from app.domain.errors import LogSourceError
from app.domain.models import Secret
from app.domain.plans import LogSettings, SampleSettings
from app.logsources.api_logs import ApiLogs
from app.logsources.exported_records import READINGS
from app.logsources.file import FileLogs
from app.logsources.log_apis import LogApi, open_api
from app.sampling.draw import DrawRequest, draw_sample
from tests.fakes.listings import MemoryListings
from tests.fakes.log_apis import KEYS, LANGFUSE_KEYS, FakeApi, Kept

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=7))
ROWS = [
    Kept(row_id=f"{n:04}", at=START + timedelta(minutes=n), prompt=f"prompt {n}", route="chat")
    for n in range(100)
]
PRODUCTS = ("langfuse", "helicone", "openai")


def logs_of(api: FakeApi, waits: list[float] | None = None) -> ApiLogs:
    return ApiLogs(LogSettings(preset=api.product), opened(api, waits))


def opened(api: FakeApi, waits: list[float] | None = None) -> LogApi:
    async def wait(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    keys = LANGFUSE_KEYS if api.product == "langfuse" else KEYS
    options = {name: Secret(value) for name, value in keys.items()}
    return open_api(api.product, options, api, wait)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_only_the_bodies_of_drawn_rows_are_fetched(product: str) -> None:
    api = FakeApi(product, ROWS)
    logs = logs_of(api)
    await logs.frame(WINDOW, by=())
    listed = len(api.requests)
    rows = await logs.draw(WINDOW, seed=1, by=(), quota={"": 5}, offset={})
    await logs.close()
    assert len(rows) == 5
    assert len(api.requests) == listed + 5 * (1 if product == "langfuse" else 2)


@pytest.mark.parametrize("product", ["langfuse", "openai"])
async def test_a_listing_that_broke_off_goes_on_where_it_ended(product: str) -> None:
    api = FakeApi(product, ROWS, failures={1: httpx.Response(400)})
    logs = logs_of(api)
    with pytest.raises(LogSourceError, match="400"):
        await logs.frame(WINDOW, by=())
    frame = await logs.frame(WINDOW, by=())
    await logs.close()
    assert frame.total == len(ROWS)
    assert len(api.requests) == 4  # three pages, the second twice


@pytest.mark.parametrize("product", PRODUCTS)
async def test_kept_pages_hold_no_text_and_spare_another_process_the_listing(product: str) -> None:
    api, store = FakeApi(product, ROWS), MemoryListings()
    settings = LogSettings(preset=product)
    first = ApiLogs(settings, opened(api), store)
    assert (await first.frame(WINDOW, by=())).total == len(ROWS)
    await first.close()
    listed = len(api.requests)
    kept = str(store.kept)
    assert "fine" not in kept
    assert "prompt" not in kept
    second = ApiLogs(settings, opened(api), store)
    assert (await second.frame(WINDOW, by=())).total == len(ROWS)
    assert len(api.requests) == listed
    (row,) = await second.draw(WINDOW, seed=1, by=(), quota={"": 1}, offset={})
    await second.close()
    assert "prompt" in str(row.fields)


async def test_a_busy_api_is_asked_again_after_the_wait_it_names() -> None:
    waits: list[float] = []
    busy = {0: httpx.Response(429, headers={"retry-after": "7"}), 1: httpx.Response(503)}
    logs = logs_of(FakeApi("helicone", ROWS, failures=busy), waits)
    assert (await logs.frame(WINDOW, by=())).total == len(ROWS)
    await logs.close()
    assert waits[0] == 7
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(401), "logs.options.public_key and logs.options.secret_key"),
        (httpx.Response(302, headers={"location": "https://evil.example/x"}), "redirects to evil"),
        (httpx.Response(200, text="<html>"), "no JSON"),
        (httpx.Response(200, json=[]), "without `data`"),
        (httpx.Response(422), "422"),
    ],
)
async def test_what_is_wrong_with_the_api_is_told_with_what_to_mend(
    answer: httpx.Response, words: str
) -> None:
    api = FakeApi("langfuse", ROWS, failures={0: answer})
    logs = logs_of(api)
    with pytest.raises(LogSourceError, match=words):
        await logs.check()
    await logs.close()
    assert len(api.requests) == 1


async def test_an_empty_project_is_told() -> None:
    logs = logs_of(FakeApi("openai", ()))
    with pytest.raises(LogSourceError, match="holds no records"):
        await logs.check()
    await logs.close()


@pytest.mark.parametrize("product", PRODUCTS)
def test_missing_keys_are_named(product: str) -> None:
    with pytest.raises(LogSourceError, match=r"logs\.options\..*or an export file"):
        open_api(product, {})


async def test_bodies_at_a_plain_address_elsewhere_are_not_fetched() -> None:
    api = FakeApi("helicone", ROWS, bodies_url="http://169.254.169.254")
    client = opened(api)
    with pytest.raises(LogSourceError, match="not https"):
        await client.whole({"request_id": ROWS[0].row_id})
    await client.close()
    assert [request.url.host for request in api.requests] == ["api.helicone.ai"]


# --- records ------------------------------------------------------------------------------------


def langfuse(**changes: object) -> dict[str, object]:
    record = {
        "id": "o1",
        "type": "GENERATION",
        "startTime": "2026-03-03T10:00:00.000Z",
        "input": [{"role": "user", "content": "Hello"}],
        "output": {"role": "assistant", "content": "Hi"},
    }
    return {**record, **changes}


def helicone(**changes: object) -> dict[str, object]:
    record = {
        "request_id": "h1",
        "request_created_at": "2026-03-03T10:00:00Z",
        "response_status": 200,
        "request_body": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9},
        "response_body": {"choices": [{"message": {"role": "assistant", "content": "Hi"}}]},
    }
    return {**record, **changes}


def openai(**changes: object) -> dict[str, object]:
    record = {
        "id": "c1",
        "created": 1772532000,
        "messages": [{"role": "user", "content": "Hello"}],
        "choices": [{"message": {"role": "assistant", "content": "Hi"}}],
    }
    return {**record, **changes}


async def sampled(folder: Path, product: str, *records: object) -> Sample:
    path = folder / "export.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    settings = LogSettings(preset=product, path=str(path))
    logs = FileLogs(settings, reading=READINGS[product])
    request = DrawRequest(
        run_id="r", window=WINDOW, seed=1, settings=SampleSettings(n=50, adaptive=False)
    )
    return await draw_sample(logs, request)


GOOD = {"langfuse": langfuse, "helicone": helicone, "openai": openai}


@pytest.mark.parametrize("product", PRODUCTS)
async def test_an_export_file_is_read_like_the_api(tmp_path: Path, product: str) -> None:
    sample = await sampled(tmp_path, product, GOOD[product]())
    (case,) = sample.cases
    assert case.prompt.last_user_text == "Hello"
    assert case.logged_response == "Hi"
    assert case.logged_at == datetime(2026, 3, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("product", "record", "reason"),
    [
        ("langfuse", langfuse(level="ERROR"), "failed_call"),
        ("langfuse", langfuse(input=None), "empty"),
        ("langfuse", langfuse(input="<truncated due to size exceeding limit>"), "cut_by_logger"),
        ("langfuse", langfuse(input={"strange": 1, "thing": 2}), "unsupported_content"),
        ("helicone", helicone(response_status=500), "failed_call"),
        ("helicone", helicone(cache_reference_id="7b1c0000-0000-0000-0000-1"), "cache_hit"),
        ("helicone", helicone(request_body={}), "empty"),
        ("openai", openai(messages=[]), "empty"),
        ("openai", openai(n=3), "unsupported_content"),
    ],
)
async def test_a_record_that_cannot_be_replayed_is_counted(
    tmp_path: Path, product: str, record: object, reason: str
) -> None:
    sample = await sampled(tmp_path, product, GOOD[product](), record)
    assert dict(sample.skipped) == {reason: 1}


async def test_spans_that_are_no_generations_are_no_rows(tmp_path: Path) -> None:
    sample = await sampled(tmp_path, "langfuse", langfuse(), langfuse(id="o2", type="SPAN"))
    assert (sample.frame, dict(sample.skipped)) == (1, {})


@pytest.mark.parametrize(
    "given",
    [
        "Hello",
        '[{"role": "user", "content": "Hello"}]',
        {"messages": [{"role": "user", "content": "Hello"}], "tools": []},
        {"role": "user", "content": "Hello"},
        {"prompt": "Hello"},
    ],
)
async def test_inputs_of_every_langfuse_integration_are_understood(
    tmp_path: Path, given: object
) -> None:
    sample = await sampled(tmp_path, "langfuse", langfuse(input=given))
    assert sample.cases[0].prompt.last_user_text == "Hello"


async def test_parameters_logged_as_text_are_numbers_again(tmp_path: Path) -> None:
    record = langfuse(modelParameters={"temperature": "0.5", "max_tokens": "99", "top_p": "null"})
    sample = await sampled(tmp_path, "langfuse", record)
    assert sample.cases[0].prompt.params == {"temperature": 0.5, "max_tokens": 99}


@pytest.mark.parametrize(
    "record",
    [
        {"custom_id": "b1", "body": {"messages": [{"role": "user", "content": "Hello"}]}},
        {
            "item": {"input": [{"role": "user", "content": "Hello"}]},
            "sample": {"output_text": "Hi"},
        },
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi"},
            ]
        },
    ],
)
async def test_lines_of_openai_exports_and_batches_are_understood(
    tmp_path: Path, record: object
) -> None:
    sample = await sampled(tmp_path, "openai", record)
    assert sample.cases[0].prompt.last_user_text == "Hello"
