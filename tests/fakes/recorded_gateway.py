"""A gateway that answers with recorded replies of real models, and judges as was recorded."""

import gzip
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

JUDGE = "recorded-judge"
JUDGE_TOKENS = (1000, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One recorded reply: its score is 0..1."""

    prompt: str
    segment: str
    model: str
    output: str
    input_tokens: int
    output_tokens: int
    score: float
    reference: str | None


def read_recorded(path: Path, *, models: Sequence[str]) -> list[Recorded]:
    """The scored first-turn replies of these models to prompts that all of them answered."""
    rows: list[Recorded] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["model"] in models and row.get("turn", 1) == 1:
                is_read = row.get("parse", "json") == "json"
                if row["judge_score"] is None or not row["output"].strip() or not is_read:
                    continue
                rows.append(
                    Recorded(
                        prompt=row["prompt"],
                        segment=row["segment"],
                        model=row["model"],
                        output=row["output"],
                        input_tokens=row["prompt_tokens"] or 1,
                        output_tokens=row["output_tokens"] or 1,
                        score=float(row["judge_score"]),
                        reference=row.get("reference"),
                    )
                )
    answered: dict[str, set[str]] = {}
    for one in rows:
        answered.setdefault(one.prompt, set()).add(one.model)
    return [one for one in rows if len(answered[one.prompt]) == len(models)]


def recorded_gateway(rows: Sequence[Recorded]) -> Starlette:
    """The gateway over these rows; the judge gives the recorded score on the scale 1 to 5."""
    replies = {(one.model, _key(one.prompt)): one for one in rows}
    scores = {(_key(one.prompt), _key(one.output)): one.score for one in rows}

    async def messages(request: Request) -> Response:
        body = await request.json()
        if body["model"] == JUDGE:
            return JSONResponse(_judged(body, scores))
        found = replies.get((body["model"], _key(body["messages"][-1]["content"])))
        if found is None:
            return JSONResponse(
                {"type": "error", "error": {"type": "not_found_error", "message": "no reply"}},
                status_code=404,
            )
        return StreamingResponse(_events(found), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/messages", messages, methods=["POST"])])


def _key(text: object) -> str:
    """What is left of a text when white space does not count."""
    if isinstance(text, list):
        text = "".join(str(block.get("text", "")) for block in text)
    return re.sub(r"\s+", "", str(text))


def _judged(body: Mapping[str, Any], scores: Mapping[tuple[str, str], float]) -> object:
    content = body["messages"][-1]["content"]
    elements = _elements(content if isinstance(content, str) else content[0]["text"])
    prompt = next((_key(text) for name, text in elements if name.startswith("turn-1-user")), "")
    reply = next((_key(text) for name, text in elements if name.startswith("reply")), "")
    score = scores.get((prompt, reply))
    answer: dict[str, object] = {"reason": "as recorded"}
    if score is not None:
        answer["score"] = 1 + 4 * score
    return {
        "id": "msg_judge",
        "type": "message",
        "role": "assistant",
        "model": JUDGE,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "content": [{"type": "tool_use", "id": "t1", "name": "record_grade", "input": answer}],
        "usage": {"input_tokens": JUDGE_TOKENS[0], "output_tokens": JUDGE_TOKENS[1]},
    }


def _elements(text: str) -> list[tuple[str, str]]:
    """The marked elements of a judge request, marks taken off."""
    found = re.findall(r"<([a-z0-9-]+)>\n(.*?)\n</\1>", text, re.DOTALL)
    return [(name, "\n".join(_unmarked(line) for line in body.split("\n"))) for name, body in found]


def _unmarked(line: str) -> str:
    return line.partition(" ")[2]


async def _events(found: Recorded) -> AsyncIterator[str]:
    """The reply as server-sent events."""

    def event(kind: str, **fields: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    usage = {"input_tokens": found.input_tokens, "output_tokens": 1}
    yield event(
        "message_start",
        message={
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": found.model,
            "content": [],
            "stop_reason": None,
            "usage": usage,
        },
    )
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": found.output})
    yield event("content_block_stop", index=0)
    yield event(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={"output_tokens": found.output_tokens},
    )
    yield event("message_stop")
