"""What every Provider promises, over real HTTP and for the fake that stands in for them."""

import asyncio
import gzip
import json
import logging
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

from app.clocks import SystemClock
from app.domain.attempts import Completion, Failure, FailureClass, StopReason
from app.domain.cases import Message, Prompt
from app.domain.json_values import JsonObject
from app.domain.models import Endpoint, ModelSpec, Role, Secret
from app.domain.prices import Usage
from app.ports import Clock, ModelRequest, Provider
from app.providers.anthropic import AnthropicProvider
from app.providers.openai import OpenAIProvider
from tests.fakes.gateway_server import (
    SSE,
    Behaviour,
    GatewayServer,
    Wire,
    cut_after,
    plain,
    repeating,
    resetting,
    silent,
    streaming,
)
from tests.fakes.providers import FakeProvider, completion, failure
from tests.fakes.vendor_replies import MODEL, AnthropicShape, OpenAIShape, Shape, event, stream

KEY = "sk-canary-4242"
PROMPT = "the prompt nobody may repeat"
REPLY = "the reply nobody may repeat"
SHAPES: tuple[Shape, ...] = (AnthropicShape(), OpenAIShape())


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.api)
def shape(request: pytest.FixtureRequest) -> Shape:
    chosen: Shape = request.param
    return chosen


class HandClock(SystemClock):
    """A clock moved by hand, which tells when it is asked for a duration."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.is_read = asyncio.Event()

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def monotonic(self) -> float:
        self.is_read.set()
        return self.seconds


@asynccontextmanager
async def connected(
    shape: Shape, url: str, clock: Clock | None = None, **changes: Any
) -> AsyncIterator[tuple[Provider, Endpoint]]:
    endpoint = replace(
        Endpoint(base_url=url + shape.path, api_key=Secret(KEY), api=shape.api), **changes
    )
    adapter = OpenAIProvider if shape.api == "openai" else AnthropicProvider
    provider: Provider = adapter(endpoint, clock or SystemClock())
    try:
        yield provider, endpoint
    finally:
        await provider.close()


def asking(
    endpoint: Endpoint,
    *,
    text: str = PROMPT,
    params: JsonObject | None = None,
    own: JsonObject | None = None,
    price_as: str | None = None,
    **changes: Any,
) -> ModelRequest:
    model = ModelSpec(
        name="candidate",
        model=MODEL,
        role=Role.CANDIDATE,
        endpoint=endpoint,
        params=own or {},
        price_as=price_as,
    )
    prompt = Prompt(
        messages=(Message(role="user", content=text),), system="Be brief.", params=params or {}
    )
    request = ModelRequest(model=model, prompt=prompt, max_tokens=64, deadline_s=5.0)
    return replace(request, **changes)


async def sent(
    shape: Shape, *behaviours: Behaviour, clock: Clock | None = None, **changes: Any
) -> tuple[Completion | Failure, GatewayServer]:
    """The result of one call of a gateway that behaves so."""
    async with (
        GatewayServer(*behaviours) as gateway,
        connected(shape, gateway.url, clock) as (
            provider,
            endpoint,
        ),
    ):
        return await provider.send(asking(endpoint, **changes)), gateway


async def completed(shape: Shape, behaviour: Behaviour, **changes: Any) -> Completion:
    result, _ = await sent(shape, behaviour, **changes)
    assert isinstance(result, Completion), result
    return result


async def failed(shape: Shape, behaviour: Behaviour, **changes: Any) -> Failure:
    result, gateway = await sent(shape, behaviour, **changes)
    assert isinstance(result, Failure), result
    assert len(gateway.received) <= 1
    for secret in (KEY, PROMPT, REPLY):
        assert secret not in repr(result)
    return result


# --- proper answers -------------------------------------------------------------------------


async def test_a_stream_becomes_a_completion(shape: Shape) -> None:
    result = await completed(shape, streaming(stream(shape, "Hello", " there")))

    assert result.text == "Hello there"
    assert result.stop_reason is StopReason.END_TURN
    assert result.usage == Usage(input_tokens=11, output_tokens=7)
    assert result.request_id == "req_1"
    assert result.ttft_s is not None
    assert 0 < result.ttft_s <= result.latency_s


async def test_events_may_arrive_byte_by_byte(shape: Shape) -> None:
    whole = b"".join(stream(shape, "Grüße ", "😀"))

    result = await completed(shape, streaming(whole[i : i + 1] for i in range(len(whole))))

    assert result.text == "Grüße 😀"


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
async def test_any_line_ending_of_the_standard_is_understood(shape: Shape, ending: bytes) -> None:
    whole = b"".join(stream(shape)).replace(b"\n", ending)

    result = await completed(shape, streaming(whole[i : i + 7] for i in range(0, len(whole), 7)))

    assert result.text == "Hello there"


async def test_pings_between_events_change_nothing(shape: Shape) -> None:
    events = [shape.ping + part for part in stream(shape)]

    assert (await completed(shape, streaming(events))).text == "Hello there"


async def test_plain_json_in_answer_to_a_streaming_request_is_taken(shape: Shape) -> None:
    result = await completed(shape, plain(shape.message()))

    assert result.text == "Hello there"
    assert result.usage == Usage(input_tokens=11, output_tokens=7)
    assert result.ttft_s is None


async def test_a_plain_request_asks_for_no_stream(shape: Shape) -> None:
    result, gateway = await sent(shape, plain(shape.message()), stream=False)

    assert isinstance(result, Completion)
    assert not gateway.received[0].json.get("stream")


async def test_a_compressed_reply_is_read(shape: Shape) -> None:
    body = gzip.compress(b"".join(stream(shape)))

    result = await completed(shape, streaming([body], {**SSE, "content-encoding": "gzip"}))

    assert result.text == "Hello there"


async def test_a_surrogate_pair_torn_by_two_deltas_is_joined(shape: Shape) -> None:
    assert (await completed(shape, streaming(stream(shape, "\ud83d", "\ude00")))).text == "😀"


async def test_a_lone_surrogate_is_replaced(shape: Shape) -> None:
    assert (await completed(shape, streaming(stream(shape, "a\ud83d")))).text == "a\ufffd"


@pytest.mark.parametrize(
    ("stop", "reason", "failure_class"),
    [
        ("end", StopReason.END_TURN, None),
        ("length", StopReason.MAX_TOKENS, FailureClass.TRUNCATED),
        ("refusal", StopReason.REFUSAL, FailureClass.REFUSAL),
    ],
)
async def test_every_way_to_stop_is_told_apart(
    shape: Shape, stop: str, reason: StopReason, failure_class: FailureClass | None
) -> None:
    for behaviour in (streaming(stream(shape, stop=stop)), plain(shape.message(stop=stop))):
        result = await completed(shape, behaviour)
        assert result.stop_reason is reason
        assert result.failure_class is failure_class


async def test_an_empty_reply_is_a_completion_of_its_own_class(shape: Shape) -> None:
    events = [*shape.opening(), *shape.closing(), shape.end()]

    result = await completed(shape, streaming(events))

    assert result.failure_class is FailureClass.EMPTY


async def test_tool_calls_come_in_one_shape(shape: Shape) -> None:
    events = [
        *shape.opening(),
        *shape.texts("Let me look."),
        *shape.tool_call("weather", '{"city": "', 'Zürich"}'),
        *shape.closing(stop="tool"),
        shape.end(),
    ]

    result = await completed(shape, streaming(events))

    assert result.tool_calls == (
        {"type": "tool_use", "name": "weather", "input": {"city": "Zürich"}},
    )
    assert result.stop_reason is StopReason.TOOL_USE
    assert result.text == "Let me look."


async def test_a_tool_call_nested_without_measure_is_no_reply_though_it_is_paid(
    shape: Shape,
) -> None:
    deep = '{"a":' * 500 + "1" + "}" * 500
    events = [
        *shape.opening(),
        *shape.tool_call("look", deep),
        *shape.closing(stop="tool"),
        shape.end(),
    ]

    result = await failed(shape, streaming(events))

    assert result.failure_class is FailureClass.PROTOCOL
    assert result.usage == Usage(input_tokens=11, output_tokens=7)
    assert not result.is_cost_unknown


async def test_a_tool_call_without_arguments_has_empty_input(shape: Shape) -> None:
    events = [
        *shape.opening(),
        *shape.tool_call("now"),
        *shape.closing(stop="tool"),
        shape.end(),
    ]

    result = await completed(shape, streaming(events))

    assert result.tool_calls == ({"type": "tool_use", "name": "now", "input": {}},)


async def test_a_tool_call_cut_at_the_token_limit_is_a_truncated_reply(shape: Shape) -> None:
    events = [
        *shape.opening(),
        *shape.tool_call("weather", '{"city": "Zü'),
        *shape.closing(stop="length"),
        shape.end(),
    ]

    result = await completed(shape, streaming(events))

    assert result.failure_class is FailureClass.TRUNCATED
    assert result.tool_calls == ()


async def test_time_to_first_content_and_latency_leave_out_what_came_before(shape: Shape) -> None:
    clock = HandClock()

    async def behave(wire: Wire) -> None:
        clock.seconds += 1.0
        await wire.head(200, SSE)
        await wire.chunk(b"".join(shape.opening()))
        clock.seconds += 2.0
        clock.is_read.clear()
        await wire.chunk(b"".join(shape.texts("Hello")))
        await clock.is_read.wait()
        clock.seconds += 4.0
        await wire.chunk(b"".join([*shape.closing(), shape.end()]))
        await wire.end()

    result = await completed(shape, behave, clock=clock)

    assert result.ttft_s == pytest.approx(3.0)
    assert result.latency_s == pytest.approx(7.0)


async def test_a_connection_serves_one_call_after_another(shape: Shape) -> None:
    async with (
        GatewayServer(streaming(stream(shape))) as gateway,
        connected(shape, gateway.url) as (provider, endpoint),
    ):
        for _ in range(3):
            assert isinstance(await provider.send(asking(endpoint)), Completion)

    assert gateway.connections == 1


async def test_as_many_calls_are_in_flight_as_the_endpoint_allows(shape: Shape) -> None:
    arrived = 0
    everybody = asyncio.Event()

    async def behave(wire: Wire) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 16:
            everybody.set()
        await everybody.wait()
        await plain(shape.message())(wire)

    async with (
        GatewayServer(behave) as gateway,
        connected(shape, gateway.url, concurrency=16) as (provider, endpoint),
    ):
        results = await asyncio.gather(*(provider.send(asking(endpoint)) for _ in range(16)))

    assert all(isinstance(result, Completion) for result in results)


# --- what is sent ---------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["bearer", "x-api-key"])
async def test_the_key_travels_as_the_endpoint_says(
    shape: Shape, auth: Literal["bearer", "x-api-key"]
) -> None:
    async with (
        GatewayServer(plain(shape.message())) as gateway,
        connected(shape, gateway.url, auth=auth) as (provider, endpoint),
    ):
        await provider.send(asking(endpoint))
    headers = gateway.received[0].headers

    expected = ("authorization", f"Bearer {KEY}") if auth == "bearer" else ("x-api-key", KEY)
    assert {n: headers[n] for n in ("authorization", "x-api-key") if n in headers} == dict(
        [expected]
    )


async def test_an_endpoint_without_a_key_is_sent_none(shape: Shape) -> None:
    async with (
        GatewayServer(plain(shape.message())) as gateway,
        connected(shape, gateway.url, api_key=Secret("")) as (provider, endpoint),
    ):
        assert isinstance(await provider.send(asking(endpoint)), Completion)

    assert not {"authorization", "x-api-key"} & set(gateway.received[0].headers)


async def test_nothing_is_read_from_the_environment(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ANTHROPIC_API_KEY": "sk-other",
        "ANTHROPIC_AUTH_TOKEN": "sk-other",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Other: sk-other",
        "ANTHROPIC_PROFILE": "other",
        "OPENAI_API_KEY": "sk-other",
        "OPENAI_ADMIN_KEY": "sk-other",
        "OPENAI_BASE_URL": "http://127.0.0.1:1",
        "OPENAI_CUSTOM_HEADERS": "X-Other: sk-other",
        "OPENAI_ORG_ID": "sk-other",
        "OPENAI_PROJECT_ID": "sk-other",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)

    _, gateway = await sent(shape, plain(shape.message()))

    headers = gateway.received[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "sk-other" not in str(headers)


async def test_only_the_plans_headers_are_sent(shape: Shape) -> None:
    async with (
        GatewayServer(plain(shape.message())) as gateway,
        connected(shape, gateway.url, headers=(("x-team", "blue"),)) as (provider, endpoint),
    ):
        await provider.send(asking(endpoint))

    headers = gateway.received[0].headers
    assert headers["x-team"] == "blue"
    assert [name for name in headers if "stainless" in name] == []


async def test_the_models_own_parameters_override_the_logged_ones(shape: Shape) -> None:
    _, gateway = await sent(
        shape,
        plain(shape.message()),
        params={"temperature": 0.7, "top_p": 0.9, "max_tokens": 9_999},
        own={"temperature": 0.1, "top_p": None, "seed": 5, "reported_model": "*"},
    )

    body = gateway.received[0].json
    assert body["temperature"] == 0.1
    assert "top_p" not in body
    assert body["seed"] == 5
    assert body["max_tokens"] == 64
    assert "reported_model" not in body
    assert body["model"] == MODEL


async def test_text_of_any_script_arrives_as_it_was(shape: Shape) -> None:
    text = 'Zürich — 東京 😀 \u200b \\ " \x00'

    _, gateway = await sent(shape, plain(shape.message()), text=text)

    assert gateway.received[0].json["messages"][-1]["content"] == text


async def test_text_that_is_not_unicode_is_not_sent_or_sent_escaped(shape: Shape) -> None:
    result, gateway = await sent(shape, plain(shape.message()), text="a\ud800b")

    if isinstance(result, Failure):
        assert result.failure_class is FailureClass.BAD_REQUEST
        assert not result.is_cost_unknown
        assert gateway.received == []
    else:
        assert b"\\ud800" in gateway.received[0].body


async def test_a_failed_call_is_never_repeated(shape: Shape) -> None:
    for status in (408, 409, 429, 500, 529):
        result, gateway = await sent(shape, plain(shape.error("x"), status=status))
        assert isinstance(result, Failure)
        assert len(gateway.received) == 1


# --- replies that break off -----------------------------------------------------------------


def _early_end(shape: Shape) -> Behaviour:
    return streaming([*shape.opening(), *shape.texts(REPLY)])


def _cut(shape: Shape) -> Behaviour:
    return cut_after([*shape.opening(), *shape.texts(REPLY)])


def _cut_inside_an_event(shape: Shape) -> Behaviour:
    return cut_after([*shape.opening(), shape.texts(REPLY)[0][:-9]])


def _malformed(shape: Shape) -> Behaviour:
    return streaming([*shape.opening(), b'data: {"type": "content_block_de\n\n', *shape.closing()])


def _no_object(shape: Shape) -> Behaviour:
    return streaming([*shape.opening(), event([1, 2]), *shape.closing(), shape.end()])


def _error_event(shape: Shape) -> Behaviour:
    return streaming(
        [*shape.opening(), *shape.texts(REPLY), shape.error_event("api_error", PROMPT)]
    )


def _early_error_event(shape: Shape) -> Behaviour:
    return streaming([shape.error_event("overloaded_error", PROMPT)])


def _no_reason(shape: Shape) -> Behaviour:
    return streaming([*shape.opening(), *shape.texts(REPLY), shape.end()])


def _cut_json(shape: Shape) -> Behaviour:
    return plain(json.dumps(shape.message(REPLY)).encode()[:-20])


@pytest.mark.parametrize(
    "behaviour",
    [
        _early_end,
        _cut,
        _cut_inside_an_event,
        _malformed,
        _no_object,
        _error_event,
        _early_error_event,
        _no_reason,
        _cut_json,
    ],
)
async def test_a_stream_that_breaks_off_is_incomplete_at_unknown_cost(
    shape: Shape, behaviour: Callable[[Shape], Behaviour]
) -> None:
    result = await failed(shape, behaviour(shape))

    assert result.failure_class is FailureClass.INCOMPLETE
    assert result.is_cost_unknown
    assert result.http_status == 200
    assert result.request_id == "req_1"
    assert result.latency_s is not None


async def test_a_cut_after_the_end_takes_nothing_from_a_reply(shape: Shape) -> None:
    assert (await completed(shape, cut_after(stream(shape)))).text == "Hello there"


async def test_a_server_that_lingers_after_the_end_is_not_waited_for(shape: Shape) -> None:
    started = asyncio.get_running_loop().time()

    result = await completed(shape, repeating(stream(shape), shape.ping), deadline_s=30.0)

    assert result.text == "Hello there"
    assert result.latency_s < 2.0
    assert asyncio.get_running_loop().time() - started < 2.0


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda shape: silent,
        lambda shape: repeating(shape.opening(), shape.ping),
        lambda shape: repeating([*shape.opening(), *shape.texts(REPLY)], b"\n"),
        lambda shape: repeating([], b" "),
    ],
    ids=["silence", "pings", "blank lines", "spaces"],
)
async def test_the_total_deadline_holds_whatever_trickles_in(
    shape: Shape, behaviour: Callable[[Shape], Behaviour]
) -> None:
    started = asyncio.get_running_loop().time()

    result = await failed(shape, behaviour(shape), deadline_s=0.3)

    assert asyncio.get_running_loop().time() - started < 2.3
    assert result.failure_class is FailureClass.TIMEOUT
    assert result.is_cost_unknown


async def test_an_error_body_that_never_ends_meets_the_deadline_too(shape: Shape) -> None:
    async def behave(wire: Wire) -> None:
        await wire.head(500)
        while True:
            await wire.chunk(b" ")
            await asyncio.sleep(0.01)

    result = await failed(shape, behave, deadline_s=0.3)

    assert result.failure_class is FailureClass.TIMEOUT


async def test_a_reset_before_any_reply_may_have_cost_something(shape: Shape) -> None:
    result = await failed(shape, resetting)

    assert result.failure_class is FailureClass.CONNECTION
    assert result.is_cost_unknown
    assert result.http_status is None


async def test_a_refused_connection_costs_nothing(shape: Shape) -> None:
    async with GatewayServer(silent) as gateway:
        url = gateway.url
    async with connected(shape, url) as (provider, endpoint):
        result = await provider.send(asking(endpoint))

    assert isinstance(result, Failure)
    assert result.failure_class is FailureClass.CONNECTION
    assert not result.is_cost_unknown
    assert "base URL" in result.message


async def test_a_stopped_call_ends_at_once_and_leaves_the_provider_usable(shape: Shape) -> None:
    arrived = asyncio.Event()

    async def behave(wire: Wire) -> None:
        arrived.set()
        await silent(wire)

    async with (
        GatewayServer(behave, plain(shape.message())) as gateway,
        connected(shape, gateway.url) as (provider, endpoint),
    ):
        call = asyncio.create_task(provider.send(asking(endpoint)))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert isinstance(await provider.send(asking(endpoint)), Completion)


# --- replies that are not what they should be -----------------------------------------------


def _html(shape: Shape) -> Behaviour:
    return plain(b"<!doctype html><p>Log in</p>", headers={"content-type": "text/html"})


def _empty(shape: Shape) -> Behaviour:
    return plain(b"")


def _empty_stream(shape: Shape) -> Behaviour:
    return streaming([])


def _only_pings(shape: Shape) -> Behaviour:
    return streaming([shape.ping, shape.ping])


def _garbage(shape: Shape) -> Behaviour:
    return plain(b"\xff\xfe not json")


def _broken_json(shape: Shape) -> Behaviour:
    return plain(b'{"type": "message", "choices": [,]}')


def _json_list(shape: Shape) -> Behaviour:
    return plain([shape.message(REPLY)])


def _other(shape: Shape) -> Shape:
    return next(other for other in SHAPES if other.api != shape.api)


def _other_vendor(shape: Shape) -> Behaviour:
    return plain(_other(shape).message(REPLY))


def _other_vendors_stream(shape: Shape) -> Behaviour:
    return streaming(stream(_other(shape), REPLY))


def _error_body(shape: Shape) -> Behaviour:
    return plain(shape.error("overloaded_error", PROMPT))


def _bare_error(shape: Shape) -> Behaviour:
    return plain({"error": PROMPT})


def _no_usage(shape: Shape) -> Behaviour:
    return plain({k: v for k, v in shape.message(REPLY).items() if k != "usage"})


def _no_usage_in_stream(shape: Shape) -> Behaviour:
    return streaming([*shape.opening(), *shape.texts(REPLY), *shape.closing(usage={}), shape.end()])


def _usage_of(**changes: object) -> Callable[[Shape], Behaviour]:
    def behave(shape: Shape) -> Behaviour:
        names = [*shape.usage()]
        usage = {**shape.usage(), **{names[int(k[1:])]: v for k, v in changes.items()}}
        return plain(shape.message(REPLY, usage=usage))

    return behave


def _other_model(shape: Shape) -> Behaviour:
    return plain(shape.message(REPLY, model="quite-another"))


def _other_model_in_stream(shape: Shape) -> Behaviour:
    return streaming(stream(shape, REPLY, model=f"{MODEL}-mini"))


def _no_model(shape: Shape) -> Behaviour:
    return plain({k: v for k, v in shape.message(REPLY).items() if k != "model"})


def _unknown_stop(shape: Shape) -> Behaviour:
    return streaming(stream(shape, REPLY, stop="gave_up"))


@pytest.mark.parametrize(
    "behaviour",
    [
        _html,
        _empty,
        _empty_stream,
        _only_pings,
        _garbage,
        _broken_json,
        _json_list,
        _other_vendor,
        _other_vendors_stream,
        _error_body,
        _bare_error,
        _no_usage,
        _no_usage_in_stream,
        pytest.param(_usage_of(_0=0), id="no input tokens"),
        pytest.param(_usage_of(_1=0), id="no output tokens"),
        pytest.param(_usage_of(_1=None), id="null output tokens"),
        pytest.param(_usage_of(_0=-5), id="negative tokens"),
        pytest.param(_usage_of(_0="11"), id="tokens as text"),
        pytest.param(_usage_of(_1=7.5), id="half a token"),
        pytest.param(_usage_of(_1=True), id="true tokens"),
        pytest.param(_usage_of(_1=2**31), id="more tokens than a column holds"),
        _other_model,
        _other_model_in_stream,
        _no_model,
        _unknown_stop,
    ],
)
async def test_a_reply_that_is_not_what_was_promised_is_a_protocol_error_at_unknown_cost(
    shape: Shape, behaviour: Callable[[Shape], Behaviour]
) -> None:
    result = await failed(shape, behaviour(shape))

    assert result.failure_class is FailureClass.PROTOCOL
    assert result.is_cost_unknown
    assert result.message


async def test_the_other_vendors_shape_is_named(shape: Shape) -> None:
    for behaviour in (_other_vendor(shape), _other_vendors_stream(shape)):
        result = await failed(shape, behaviour)
        assert f"`api: {_other(shape).api}`" in result.message


async def test_a_reply_without_end_is_given_up(shape: Shape) -> None:
    megabyte = b" " * 1024 * 1024

    async def behave(wire: Wire) -> None:
        await wire.head(200)
        while True:
            await wire.chunk(megabyte)

    result = await failed(shape, behave)

    assert result.failure_class is FailureClass.PROTOCOL
    assert "32 MiB" in result.message


@pytest.mark.parametrize(
    ("reported", "changes"),
    [
        (f"{MODEL}-2026-08-06", {}),
        (f"vendor/{MODEL}", {}),
        (MODEL.upper(), {}),
        ("quite-another", {"own": {"reported_model": "quite-another"}}),
        ("quite-another", {"own": {"reported_model": ["one", "quite-another"]}}),
        ("quite-another", {"own": {"reported_model": "*"}}),
        ("quite-another-20260806", {"price_as": "quite-another"}),
    ],
)
async def test_an_alias_of_the_model_is_accepted(
    shape: Shape, reported: str, changes: dict[str, Any]
) -> None:
    for behaviour in (
        streaming(stream(shape, model=reported)),
        plain(shape.message(model=reported)),
    ):
        assert (await completed(shape, behaviour, **changes)).text == "Hello there"


async def test_another_model_is_named_with_what_to_mend(shape: Shape) -> None:
    result = await failed(shape, _other_model(shape))

    assert "'quite-another'" in result.message
    assert "reported_model" in result.message


async def test_a_models_name_cannot_smuggle_text_into_a_message(shape: Shape) -> None:
    result = await failed(shape, plain(shape.message(model="x\n<!channel> " + "y" * 500)))

    assert "<!channel>" not in result.message
    assert "\n" not in result.message
    assert len(result.message) < 400


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "temperature: out of range", FailureClass.BAD_REQUEST),
        (400, "invalid_request_error", "prompt is too long: 9 > 8", FailureClass.TOO_LARGE),
        (400, "context_length_exceeded", "maximum context length is", FailureClass.TOO_LARGE),
        (400, "invalid_request_error", "Your credit balance is too low", FailureClass.BILLING),
        (400, "invalid_request_error", "reached your specified API usage limits", "billing"),
        (400, "invalid_request_error", "gpt-9 is not a valid model ID", FailureClass.NOT_FOUND),
        (400, "content_filter", "triggered content management", FailureClass.REFUSAL),
        (401, "authentication_error", "invalid x-api-key", FailureClass.AUTH),
        (402, "billing_error", "pay", FailureClass.BILLING),
        (403, "permission_error", "no", FailureClass.AUTH),
        (403, "insufficient_quota", "no", FailureClass.BILLING),
        (404, "not_found_error", "model: x", FailureClass.NOT_FOUND),
        (405, "x", "no", FailureClass.NOT_FOUND),
        (408, "x", "slow", FailureClass.TIMEOUT),
        (409, "x", "conflict", FailureClass.SERVER),
        (413, "request_too_large", "32 MB", FailureClass.TOO_LARGE),
        (422, "x", "unprocessable", FailureClass.BAD_REQUEST),
        (429, "rate_limit_error", "slow down", FailureClass.RATE_LIMITED),
        (429, "insufficient_quota", "You exceeded your current quota", FailureClass.BILLING),
        (500, "api_error", "oops", FailureClass.SERVER),
        (502, "x", "bad gateway", FailureClass.SERVER),
        (503, "x", "maintenance", FailureClass.SERVER),
        (503, "x", "The engine is currently overloaded", FailureClass.OVERLOADED),
        (504, "x", "gateway timeout", FailureClass.SERVER),
        (529, "overloaded_error", "Overloaded", FailureClass.OVERLOADED),
    ],
)
async def test_every_error_status_has_its_class(
    shape: Shape, status: int, kind: str, message: str, expected: FailureClass
) -> None:
    body = shape.error(kind, f"{message} {KEY} {PROMPT}")

    result = await failed(shape, plain(body, status=status))

    assert result.failure_class == expected
    assert result.http_status == status
    assert result.request_id == "req_1"
    assert not result.is_cost_unknown
    assert result.usage is None


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[]", b'"x"', b'{"detail": "no"}'])
async def test_error_bodies_of_any_shape_are_taken(shape: Shape, body: bytes) -> None:
    result = await failed(shape, plain(body, status=500))

    assert result.failure_class is FailureClass.SERVER


async def test_a_refused_request_names_the_field_to_mend(shape: Shape) -> None:
    body = shape.error("invalid_request_error", "max_tokens: 64000 > 8192, which is the maximum")

    result = await failed(shape, plain(body, status=400))

    assert "`max_tokens`" in result.message


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "7200"}, 7200.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "abc"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 99 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        ({"retry-after": "99999999999999"}, None),
        ({"retry-after": "1e308"}, None),
        ({"retry-after": "90000"}, None),
        ({"retry-after": "1795435230"}, 30.0),
        ({"retry-after": "1795435230000"}, 30.0),
        ({"retry-after": "1400000000"}, None),
        ({"retry-after-ms": "99999999999"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ],
)
async def test_every_form_of_retry_after_is_read(
    shape: Shape, headers: dict[str, str], expected_s: float | None
) -> None:
    body = shape.error("rate_limit_error")

    result = await failed(shape, plain(body, status=429, headers=headers), clock=HandClock())

    assert result.failure_class is FailureClass.RATE_LIMITED
    assert result.retry_after_s == expected_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(shape: Shape, status: int) -> None:
    async with GatewayServer(plain(shape.message())) as other:
        location = f"{other.url}/v1/elsewhere?token={KEY}"
        result = await failed(shape, plain(b"", status=status, headers={"location": location}))

    assert other.received == []
    assert result.failure_class is FailureClass.PROTOCOL
    assert not result.is_cost_unknown
    assert "redirects to http://127.0.0.1" in result.message


async def test_an_error_event_before_any_content_tells_what_the_operator_must_mend(
    shape: Shape,
) -> None:
    for kind, expected in {
        "authentication_error": FailureClass.AUTH,
        "billing_error": FailureClass.BILLING,
        "not_found_error": FailureClass.NOT_FOUND,
    }.items():
        result = await failed(shape, streaming([shape.error_event(kind, KEY)]))
        assert result.failure_class is expected


async def test_a_base_url_without_a_scheme_is_the_operators_to_mend(shape: Shape) -> None:
    async with connected(shape, "localhost:1") as (provider, endpoint):
        result = await provider.send(asking(endpoint))

    assert isinstance(result, Failure)
    assert result.failure_class is FailureClass.BAD_REQUEST
    assert not result.is_cost_unknown


async def test_a_key_with_a_line_break_is_the_operators_to_mend(shape: Shape) -> None:
    async with (
        GatewayServer(plain(shape.message())) as gateway,
        connected(shape, gateway.url, api_key=Secret(f"{KEY}\n")) as (provider, endpoint),
    ):
        result = await provider.send(asking(endpoint))

    assert isinstance(result, Failure)
    assert result.failure_class is FailureClass.BAD_REQUEST
    assert KEY not in repr(result)
    assert gateway.received == []


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own for localhost, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("making a certificate needs the openssl program")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", "key.pem", "-out", "certificate.pem",
        ],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


async def _over_tls(shape: Shape, certificate: Path) -> Completion | Failure:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    async with GatewayServer(streaming(stream(shape)), tls=context) as gateway:
        url = f"https://localhost:{gateway.port}"
        async with connected(shape, url) as (provider, endpoint):
            return await provider.send(asking(endpoint))


async def test_a_trusted_server_is_called_over_tls(
    shape: Shape, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "certificate.pem"))

    result = await _over_tls(shape, certificate)

    assert isinstance(result, Completion)
    assert result.ttft_s is not None


async def test_a_server_that_nobody_vouches_for_is_sent_nothing(
    shape: Shape, certificate: Path
) -> None:
    result = await _over_tls(shape, certificate)

    assert isinstance(result, Failure)
    assert result.failure_class is FailureClass.CONNECTION
    assert not result.is_cost_unknown
    assert "certificate" in result.message


async def test_https_to_a_plain_server_says_what_to_mend(shape: Shape) -> None:
    async def complain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(complain, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connected(shape, url) as (provider, endpoint):
            result = await provider.send(asking(endpoint))

    assert isinstance(result, Failure)
    assert result.failure_class is FailureClass.CONNECTION
    assert "http or https" in result.message


# --- leaks ----------------------------------------------------------------------------------


async def test_no_log_line_holds_a_prompt_a_reply_or_a_key(
    shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for behaviour in (
        streaming(stream(shape, REPLY)),
        plain(shape.error("x", f"{KEY} {PROMPT}"), status=400),
        _cut(shape),
    ):
        await sent(shape, behaviour)

    assert not any(secret in caplog.text for secret in (KEY, PROMPT, REPLY))


async def test_a_cost_that_the_gateway_reports_is_kept(shape: Shape) -> None:
    in_usage = plain(shape.message(usage={**shape.usage(), "cost": 0.00125}))
    in_header = plain(shape.message(), headers={"x-litellm-response-cost": "0.00125"})

    for behaviour in (in_usage, in_header):
        assert (await completed(shape, behaviour)).reported_cost_usd == Decimal("0.00125")


# --- and the fake ---------------------------------------------------------------------------


async def _answers(provider: Provider, request: ModelRequest) -> list[Completion | Failure]:
    return [await provider.send(request) for _ in range(2)]


@pytest.mark.parametrize("kind", ["anthropic", "openai", "fake"])
async def test_one_send_is_one_answer_and_failures_are_values(kind: str) -> None:
    shape = next((shape for shape in SHAPES if shape.api == kind), SHAPES[0])
    behaviours = (plain(shape.error("x"), status=500), streaming(stream(shape)))
    async with (
        GatewayServer(*behaviours) as gateway,
        connected(shape, gateway.url) as (real, endpoint),
    ):
        provider = FakeProvider([failure(), completion()]) if kind == "fake" else real
        first, second = await _answers(provider, asking(endpoint))
        await provider.close()

    assert isinstance(first, Failure)
    assert first.failure_class is FailureClass.SERVER
    assert first.http_status == 500
    assert not first.is_cost_unknown
    assert isinstance(second, Completion)
    assert second.text == "Hello there"
    assert second.usage == Usage(input_tokens=11, output_tokens=7)
    assert second.request_id == "req_1"


async def test_the_fake_keeps_its_requests_and_may_answer_by_them() -> None:
    provider = FakeProvider(lambda request: completion(request.prompt.last_user_text))
    request = asking(Endpoint(base_url="http://x.test"))

    result = await provider.send(request)

    assert isinstance(result, Completion)
    assert result.text == PROMPT
    assert provider.requests == [request]
