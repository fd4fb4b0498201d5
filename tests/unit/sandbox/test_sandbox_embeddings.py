"""The sandbox embeds texts: the same vector every time, near where words are shared."""

import math
import time
from typing import Any

import httpx
import pytest

from app.sandbox.gateway import Gateway
from app.sandbox.vectors import DIMENSIONS, vector_of
from app.sandbox.world import Fault, FaultKind, ModelSpec
from app.sandbox.worlds import JUDGE, with_model


def asked(http: httpx.Client, **changes: Any) -> httpx.Response:
    body = {"model": JUDGE, "input": ["A parcel came late.", "The parcel came late."], **changes}
    return http.post("/v1/embeddings", json=body)


def cosine(first: list[float], second: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(first, second, strict=True))


def test_every_text_gets_a_vector_of_length_one(http: httpx.Client, gateway: Gateway) -> None:
    reply = asked(http).json()

    assert reply["object"] == "list"
    assert reply["model"] == JUDGE
    assert [entry["index"] for entry in reply["data"]] == [0, 1]
    for entry in reply["data"]:
        assert len(entry["embedding"]) == DIMENSIONS
        assert math.hypot(*entry["embedding"]) == pytest.approx(1.0, abs=1e-4)
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 0


def test_the_same_request_gets_the_same_answer(http: httpx.Client, gateway: Gateway) -> None:
    assert asked(http).json() == asked(http).json()


def test_texts_with_the_same_words_lie_nearer_than_others() -> None:
    one, like, other = (
        vector_of(text)
        for text in ("My parcel came late.", "The parcel came too late.", "Sum these figures: 1 2")
    )

    assert cosine(one, like) > 0.5 > cosine(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"input": []},
        {"input": [""]},
        {"input": [1]},
        {"input": None},
        {"model": None},
        {"encoding_format": "base64"},
    ],
    ids=str,
)
def test_a_malformed_request_is_a_400(
    http: httpx.Client, gateway: Gateway, changes: dict[str, Any]
) -> None:
    assert asked(http, **changes).status_code == 400


def test_an_unknown_model_is_a_404(http: httpx.Client, gateway: Gateway) -> None:
    assert asked(http, model="nobody").status_code == 404


def logged(gateway: Gateway, count: int) -> list[Any]:
    """The logged calls; the last is written just after its answer has gone out."""
    deadline = time.monotonic() + 5
    while len(gateway.calls.rows()) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return list(gateway.calls.rows())


def test_faults_happen_here_too_and_the_call_is_logged(
    http: httpx.Client, gateway: Gateway
) -> None:
    fault = Fault(kind=FaultKind.RATE_LIMITED, first=1, retry_after="0")
    gateway.world = with_model(gateway.world, JUDGE, ModelSpec(faults=(fault,)))

    assert [asked(http).status_code for _ in range(2)] == [429, 200]
    rows = logged(gateway, 2)
    assert [(row["api"], row["status"], row["is_paid"]) for row in rows] == [
        ("embeddings", 429, False),
        ("embeddings", 200, True),
    ]
