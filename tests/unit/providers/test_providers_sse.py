"""Server-sent events do not depend on how their bytes arrive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.sse import SseDecoder

LINES = st.text(alphabet=st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12)
EVENTS = st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=5)


def decoded(*chunks: bytes) -> list[tuple[bytes, bytes]]:
    decoder = SseDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.flush()


@given(
    events=EVENTS,
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_every_event_comes_out_whole_wherever_the_stream_is_cut(
    events: list[list[str]], ending: str, cuts: list[int]
) -> None:
    lines = [[*(f"data: {line}" for line in event), "", ""] for event in events]
    stream = "".join(ending.join(event) for event in lines).encode()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in pairwise(places)]

    assert decoded(*chunks) == [(b"", "\n".join(event).encode()) for event in events]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b": ping\n\n", []),
        (b"event: ping\n\n", []),
        (b"data:x\n\n", [(b"", b"x")]),
        (b"data:  x\n\n", [(b"", b" x")]),
        (b"data\n\n", []),
        (b"event: error\ndata: x\n\n", [(b"error", b"x")]),
        (b"id: 1\nretry: 5\ndata: x\n\n", [(b"", b"x")]),
        (b"\n\n\ndata: x\n\n\n\n", [(b"", b"x")]),
        (b"data: x", [(b"", b"x")]),
        (b"data: x\n", [(b"", b"x")]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(
    stream: bytes, expected: list[tuple[bytes, bytes]]
) -> None:
    assert decoded(stream) == expected
