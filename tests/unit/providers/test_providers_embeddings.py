"""Embeddings over real HTTP: one vector per text or a Failure, and only the likeness is kept."""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clocks import SystemClock
from app.domain.attempts import Completion, Failure, FailureClass
from app.domain.cases import Message, Prompt
from app.domain.models import Endpoint, ModelSpec, Role, Secret
from app.domain.prices import Usage
from app.ports import ModelRequest
from app.providers.embeddings import EmbeddingsProvider, EmbeddingsReply
from app.providers.replies import BadReply
from tests.fakes.gateway_server import Behaviour, GatewayServer, plain, resetting, silent

KEY = "sk-canary-4242"
TEXTS = ("the reference nobody may repeat", "the reply nobody may repeat")
USAGE = {"prompt_tokens": 12, "total_tokens": 12}


def model(url: str = "http://127.0.0.1:1", **params: object) -> ModelSpec:
    endpoint = Endpoint(base_url=url + "/v1", api_key=Secret(KEY), api="embeddings")
    return ModelSpec(
        name="embeddings", model="embed-3", role=Role.EMBEDDER, endpoint=endpoint, params=params
    )


def listed(*vectors: object, **changes: Any) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data, "model": "embed-3", "usage": USAGE, **changes}


async def sent(
    behaviour: Behaviour, *, texts: tuple[str, ...] = TEXTS, deadline_s: float = 5.0, **params: Any
) -> tuple[Completion | Failure, GatewayServer]:
    async with GatewayServer(behaviour) as gateway:
        spec = model(gateway.url, **params)
        provider = EmbeddingsProvider(spec.endpoint, SystemClock())
        messages = tuple(Message(role="user", content=text) for text in texts)
        result = await provider.send(
            ModelRequest(
                model=spec, prompt=Prompt(messages=messages), max_tokens=0, deadline_s=deadline_s
            )
        )
        await provider.close()
        return result, gateway


async def failed(behaviour: Behaviour, **changes: Any) -> Failure:
    result, _ = await sent(behaviour, **changes)
    assert isinstance(result, Failure), result
    for secret in (KEY, *TEXTS):
        assert secret not in repr(result)
    return result


async def test_the_request_is_that_of_the_openai_api() -> None:
    _, gateway = await sent(plain(listed([1.0, 0.0], [1.0, 0.0])), dimensions=256)

    (received,) = gateway.received
    assert (received.method, received.path) == ("POST", "/v1/embeddings")
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.json == {
        "model": "embed-3",
        "input": list(TEXTS),
        "encoding_format": "float",
        "dimensions": 256,
    }


async def test_the_completion_holds_the_cosine_and_the_bill_but_no_vector() -> None:
    result, _ = await sent(plain(listed([3.0, 4.0], [4.0, 3.0])))

    assert isinstance(result, Completion)
    assert json.loads(result.text) == [pytest.approx(0.96)]
    assert result.usage == Usage(input_tokens=12, output_tokens=0)
    assert result.failure_class is None
    assert result.latency_s > 0


async def test_vectors_in_another_order_are_put_in_order() -> None:
    reply = listed([1.0, 0.0], [0.0, 1.0], [1.0, 0.0])
    reply["data"].reverse()

    result, _ = await sent(plain(reply), texts=("a", "b", "c"))

    assert isinstance(result, Completion)
    assert json.loads(result.text) == [0.0, 1.0]


async def test_one_text_alone_is_alike_to_nothing() -> None:
    result, _ = await sent(plain(listed([1.0])), texts=("Say OK.",))

    assert isinstance(result, Completion)
    assert json.loads(result.text) == []


@pytest.mark.parametrize(
    "body",
    [
        listed([1.0, 0.0]),
        listed([1.0, 0.0], [1.0, 0.0], [1.0, 0.0]),
        listed([1.0, 0.0], [1.0]),
        listed([0.0, 0.0], [1.0, 0.0]),
        listed([1.7e308, 1.7e308], [1.0, 0.0]),
        listed([10**400], [1]),
        listed([], []),
        listed(["1"], [1.0]),
        listed([True], [1.0]),
        listed("AAAA", "AAAA"),
        listed(None, [1.0]),
        listed([1.0], [1.0], data=[{"index": 0, "embedding": [1.0]}] * 2),
        listed([1.0], [1.0], data=["x", "y"]),
        listed([1.0], [1.0], data=None),
        listed([1.0], [1.0], model="chat-9"),
        listed([1.0], [1.0], usage={}),
        listed([1.0], [1.0], usage={"prompt_tokens": -1}),
        {"id": "x", "choices": [], "model": "embed-3"},
        [],
        b"",
        b"<html>",
        b"data: {}\n\n",
        b'{"object": "list", "data": [{"index": 0, "embedding": [NaN]}]}',
    ],
    ids=str,
)
async def test_what_is_no_list_of_one_vector_per_text_is_a_protocol_error(body: Any) -> None:
    failure = await failed(plain(body))

    assert failure.failure_class is FailureClass.PROTOCOL
    assert failure.is_cost_unknown


async def test_a_reply_cut_in_the_middle_is_incomplete() -> None:
    body = json.dumps(listed([1.0], [1.0])).encode()[:-9]

    assert (await failed(plain(body))).failure_class is FailureClass.INCOMPLETE


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, FailureClass.AUTH),
        (404, FailureClass.NOT_FOUND),
        (429, FailureClass.RATE_LIMITED),
        (400, FailureClass.BAD_REQUEST),
        (500, FailureClass.SERVER),
    ],
)
async def test_an_error_status_is_classed_as_for_any_model(
    status: int, expected: FailureClass
) -> None:
    body = {"error": {"message": TEXTS[0], "type": "x", "code": None}}

    failure = await failed(plain(body, status=status, headers={"retry-after": "3"}))

    assert failure.failure_class is expected
    assert failure.http_status == status
    assert not failure.is_cost_unknown


async def test_silence_ends_at_the_deadline() -> None:
    failure = await asyncio.wait_for(failed(silent, deadline_s=0.1), timeout=5)

    assert failure.failure_class is FailureClass.TIMEOUT


async def test_a_reset_connection_is_a_failure() -> None:
    assert (await failed(resetting)).failure_class is FailureClass.CONNECTION


async def test_an_empty_text_is_refused_without_a_call() -> None:
    result, gateway = await sent(plain(listed([1.0], [1.0])), texts=("a", ""))

    assert isinstance(result, Failure)
    assert result.failure_class is FailureClass.BAD_REQUEST
    assert gateway.received == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
_ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"embedding": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3)},
        optional={"index": st.integers(-1, 2)},
    )
    | _JSON,
    max_size=3,
)


@given(
    st.fixed_dictionaries(
        {"data": _ENTRIES | _JSON, "model": st.just("embed-3") | _JSON, "usage": st.just(USAGE)}
    )
)
def test_whatever_arrives_the_likeness_lies_between_minus_one_and_one(
    document: Mapping[str, Any],
) -> None:
    reply = EmbeddingsReply(model(), texts=2)
    try:
        reply.document(document)
        (likeness,) = json.loads(reply.content().text)
    except BadReply:
        return
    assert math.isfinite(likeness)
    assert -1.0 <= likeness <= 1.0
