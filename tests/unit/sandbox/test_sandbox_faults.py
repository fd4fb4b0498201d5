import asyncio
import json
from collections import Counter
from dataclasses import replace
from email.utils import parsedate_to_datetime

import httpx
import pytest

from app.sandbox.brain import Brain
from app.sandbox.dialogue import Ask, Turn
from app.sandbox.faults import draw_fault
from app.sandbox.gateway import Gateway
from app.sandbox.world import Change, Fault, FaultKind, ModelSpec
from app.sandbox.worlds import PRIME, SWIFT, named_world, with_model

PROMPT = "Which of the seven bridges of the old town may a lorry cross?"
KINDS_WITH_STATUS = [
    (FaultKind.RATE_LIMITED, 429, "rate_limit_error"),
    (FaultKind.OVERLOADED, 529, "overloaded_error"),
    (FaultKind.SERVER_ERROR, 500, "api_error"),
    (FaultKind.UNAUTHORIZED, 401, "authentication_error"),
    (FaultKind.BILLING, 402, "billing_error"),
    (FaultKind.FORBIDDEN, 403, "permission_error"),
    (FaultKind.NOT_FOUND, 404, "not_found_error"),
    (FaultKind.TOO_LARGE, 413, "request_too_large"),
    (FaultKind.SPEND_LIMIT, 400, "invalid_request_error"),
    (FaultKind.CONTEXT_LENGTH, 400, "invalid_request_error"),
    (FaultKind.BAD_REQUEST, 400, "invalid_request_error"),
]
PATHS = ["/v1/messages", "/v1/chat/completions"]


def ask(prompt: str = PROMPT, model: str = PRIME, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "max_tokens": 800, "messages": messages, **more}


def with_faults(gateway: Gateway, *faults: Fault) -> None:
    gateway.world = replace(gateway.world, faults=faults, ping_interval_s=0.02)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("kind", "status", "error"), KINDS_WITH_STATUS)
def test_errors_have_their_status_and_shape(
    gateway: Gateway, http: httpx.Client, path: str, kind: FaultKind, status: int, error: str
) -> None:
    with_faults(gateway, Fault(kind=kind))
    response = http.post(path, json=ask())
    assert response.status_code == status
    assert response.json()["error"]["type"] == error
    assert response.headers["request-id"].startswith("req_")


@pytest.mark.parametrize("form", ["2", "7200", "-1", "abc", "0.5"])
def test_a_429_carries_the_retry_after_it_was_told(
    gateway: Gateway, http: httpx.Client, form: str
) -> None:
    with_faults(gateway, Fault(kind=FaultKind.RATE_LIMITED, retry_after=form))
    assert http.post("/v1/messages", json=ask()).headers["retry-after"] == form


def test_retry_after_may_be_a_date_or_missing(gateway: Gateway, http: httpx.Client) -> None:
    with_faults(gateway, Fault(kind=FaultKind.RATE_LIMITED, retry_after="date:30"))
    assert parsedate_to_datetime(http.post("/v1/messages", json=ask()).headers["retry-after"])
    with_faults(gateway, Fault(kind=FaultKind.RATE_LIMITED))
    assert "retry-after" not in http.post("/v1/messages", json=ask()).headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_stream", [True, False])
def test_a_connection_may_be_reset_before_any_answer(
    gateway: Gateway, http: httpx.Client, path: str, is_stream: bool
) -> None:
    with_faults(gateway, Fault(kind=FaultKind.CONNECTION_RESET))
    with pytest.raises(httpx.ReadError):
        http.post(path, json=ask(stream=is_stream))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_stream", [True, False])
def test_a_reply_may_be_cut(
    gateway: Gateway, http: httpx.Client, path: str, is_stream: bool
) -> None:
    with_faults(gateway, Fault(kind=FaultKind.CUT_STREAM))
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(path, json=ask(stream=is_stream))


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.PING_FOREVER])
def test_a_plain_call_may_hang(gateway: Gateway, http: httpx.Client, kind: FaultKind) -> None:
    with_faults(gateway, Fault(kind=kind))
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/messages", json=ask(), timeout=0.2)


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_may_ping_for_ever(gateway: Gateway, http: httpx.Client, path: str) -> None:
    with_faults(gateway, Fault(kind=FaultKind.PING_FOREVER))
    with http.stream("POST", path, json=ask(stream=True)) as response:
        lines = response.iter_lines()
        pings = [line for line, _ in zip(lines, range(12), strict=False) if "ping" in line]
    assert len(pings) >= 4


@pytest.mark.parametrize(
    ("kind", "content"),
    [(FaultKind.HTML, b"<html>"), (FaultKind.EMPTY_BODY, b""), (FaultKind.ERROR_BODY, b"{")],
)
@pytest.mark.parametrize("is_stream", [True, False])
def test_a_200_may_be_no_reply_at_all(
    gateway: Gateway, http: httpx.Client, kind: FaultKind, content: bytes, is_stream: bool
) -> None:
    with_faults(gateway, Fault(kind=kind))
    response = http.post("/v1/messages", json=ask(stream=is_stream))
    assert response.status_code == 200
    assert response.content[: len(content)] == content
    assert b"end_turn" not in response.content


def test_a_stream_may_end_in_wrong_ways(gateway: Gateway, http: httpx.Client) -> None:
    texts = {}
    for kind in (FaultKind.CLEAN_END, FaultKind.MALFORMED_EVENT, FaultKind.ERROR_EVENT):
        with_faults(gateway, Fault(kind=kind))
        texts[kind] = http.post("/v1/messages", json=ask(stream=True)).text
        assert "content_block_delta" in texts[kind]
        assert "message_stop" not in texts[kind]
    assert "event: error" in texts[FaultKind.ERROR_EVENT]
    broken = texts[FaultKind.MALFORMED_EVENT].rstrip().splitlines()[-1].removeprefix("data: ")
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(broken)


def test_a_reply_may_lack_usage_or_name_another_model(gateway: Gateway, http: httpx.Client) -> None:
    with_faults(gateway, Fault(kind=FaultKind.NO_USAGE))
    assert "usage" not in http.post("/v1/messages", json=ask()).json()
    assert "usage" not in http.post("/v1/messages", json=ask(stream=True)).text
    with_faults(gateway, Fault(kind=FaultKind.OTHER_MODEL))
    assert http.post("/v1/messages", json=ask()).json()["model"] == "some-other-model"


def test_a_reply_may_come_in_the_other_vendors_shape(gateway: Gateway, http: httpx.Client) -> None:
    with_faults(gateway, Fault(kind=FaultKind.OTHER_VENDOR))
    assert "choices" in http.post("/v1/messages", json=ask()).json()
    assert "content" in http.post("/v1/chat/completions", json=ask()).json()
    assert "chat.completion.chunk" in http.post("/v1/messages", json=ask(stream=True)).text


def test_a_stream_may_be_answered_with_plain_json(gateway: Gateway, http: httpx.Client) -> None:
    with_faults(gateway, Fault(kind=FaultKind.PLAIN_JSON))
    response = http.post("/v1/messages", json=ask(stream=True))
    assert response.headers["content-type"] == "application/json"
    assert response.json()["stop_reason"] == "end_turn"


def test_a_reply_may_hold_an_unknown_block(gateway: Gateway, http: httpx.Client) -> None:
    with_faults(gateway, Fault(kind=FaultKind.UNKNOWN_BLOCK))
    types = [block["type"] for block in http.post("/v1/messages", json=ask()).json()["content"]]
    assert types == ["hologram", "text"]
    assert "hologram" in http.post("/v1/messages", json=ask(stream=True)).text


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FaultKind.REFUSAL, "refusal"),
        (FaultKind.TRUNCATION, "max_tokens"),
        (FaultKind.EMPTY_CONTENT, "end_turn"),
    ],
)
@pytest.mark.parametrize("is_stream", [True, False])
def test_a_model_may_refuse_be_cut_short_or_say_nothing(
    gateway: Gateway, http: httpx.Client, kind: FaultKind, reason: str, is_stream: bool
) -> None:
    with_faults(gateway, Fault(kind=kind))
    text = http.post("/v1/messages", json=ask(stream=is_stream)).text
    assert f'"stop_reason": "{reason}"' in text
    assert ("text_delta" in text or '"text": ' in text) == (kind is not FaultKind.EMPTY_CONTENT)


def test_a_redirect_is_answered_as_one(gateway: Gateway, http: httpx.Client) -> None:
    with_faults(gateway, Fault(kind=FaultKind.REDIRECT))
    assert http.post("/v1/messages", json=ask()).status_code == 307
    with_faults(gateway, Fault(kind=FaultKind.BAD_GATEWAY))
    assert http.post("/v1/messages", json=ask()).status_code == 502


def test_faults_hit_the_share_of_calls_they_are_set_to(gateway: Gateway) -> None:
    faults = named_world("flaky").faults
    drawn = Counter(
        fault.kind if (fault := draw_fault(faults, asked(number), seed=3, nth=1)) else None
        for number in range(8000)
    )
    assert drawn[FaultKind.RATE_LIMITED] / 8000 == pytest.approx(0.025, abs=0.006)
    assert drawn[FaultKind.OVERLOADED] / 8000 == pytest.approx(0.025, abs=0.006)


def test_a_retry_draws_afresh_unless_the_fault_is_sticky() -> None:
    fresh = (Fault(kind=FaultKind.OVERLOADED, rate=0.5),)
    sticky = (Fault(kind=FaultKind.OVERLOADED, rate=0.5, sticky=True),)

    def outcomes(faults: tuple[Fault, ...]) -> set[bool]:
        return {draw_fault(faults, asked(1), seed=1, nth=nth) is None for nth in range(1, 30)}

    assert outcomes(fresh) == {True, False}
    assert len(outcomes(sticky)) == 1


def test_a_fault_may_hit_only_first_attempts_or_certain_prompts() -> None:
    first = (Fault(kind=FaultKind.OVERLOADED, first=2),)
    assert [draw_fault(first, asked(1), seed=1, nth=nth) is None for nth in (1, 2, 3)] == [
        False,
        False,
        True,
    ]
    poison = (Fault(kind=FaultKind.SERVER_ERROR, contains="number 7"),)
    assert draw_fault(poison, asked(7), seed=1, nth=9) is not None
    assert draw_fault(poison, asked(8), seed=1, nth=9) is None


def test_a_schedule_brings_an_outage_and_ends_it(gateway: Gateway) -> None:
    world = named_world("story")
    assert not world.spec(SWIFT, 11).faults
    assert world.spec(SWIFT, 12).faults[0].kind is FaultKind.OVERLOADED
    assert not world.spec(SWIFT, 13).faults
    assert world.spec(PRIME, 8).quality == pytest.approx(0.65)
    assert world.spec(PRIME, 10).quality == pytest.approx(0.85)


def test_a_change_of_all_models_moves_lengths_and_latencies() -> None:
    spec = ModelSpec(tokens=100, ttft_ms=50, per_token_ms=1)
    world = with_model(named_world("calm"), PRIME, spec)
    change = Change(from_week=2, tokens_factor=2.0, latency_factor=3.0)
    changed = replace(world, changes=(change,)).spec(PRIME, 2)
    assert (changed.tokens, changed.ttft_ms, changed.per_token_ms) == (200, 150, 3)


async def test_too_many_calls_at_once_are_a_429(gateway: Gateway, url: str) -> None:
    spec = replace(gateway.world.models[PRIME], max_in_flight=2, ttft_ms=100)
    gateway.world = with_model(gateway.world, PRIME, spec)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        responses = await asyncio.gather(
            *(http.post("/v1/messages", json=ask(f"{PROMPT} {i}")) for i in range(8))
        )
    statuses = Counter(response.status_code for response in responses)
    assert statuses[200] >= 2
    assert statuses[429] >= 1
    assert sum(statuses.values()) == 8


def test_latency_is_log_normal_about_its_median() -> None:
    world = named_world("slow")
    brain = Brain(world=world)
    times = sorted(brain.answer(asked(i), week=1).latency_s for i in range(600))
    assert times[300] == pytest.approx(0.8, rel=0.08)
    assert times[-1] > 2.0
    assert times[0] < 0.3


def test_first_token_and_last_token_are_timed_apart(gateway: Gateway, http: httpx.Client) -> None:
    spec = replace(gateway.world.models[PRIME], ttft_ms=40, per_token_ms=0.5)
    gateway.world = with_model(gateway.world, PRIME, spec)
    http.post("/v1/messages", json=ask(stream=True))
    row = http.get("/_sandbox/calls?rows=1").json()["rows"][-1]
    assert row["ttft_s"] == pytest.approx(0.04)
    assert row["duration_s"] >= row["latency_s"] > 0.07


def test_what_went_wrong_is_in_the_log(gateway: Gateway, http: httpx.Client) -> None:
    with_faults(gateway, Fault(kind=FaultKind.OVERLOADED, first=1))
    assert http.post("/v1/messages", json=ask()).status_code == 529
    assert http.post("/v1/messages", json=ask()).status_code == 200
    rows = http.get("/_sandbox/calls?rows=1").json()["rows"]
    assert [(row["outcome"], row["status"], row["is_paid"]) for row in rows] == [
        ("overloaded", 529, False),
        ("ok", 200, True),
    ]


def asked(number: int) -> Ask:
    return Ask(model=PRIME, turns=(Turn(role="user", text=f"{PROMPT} number {number}"),))
