"""A log table full of production traffic, as an application would have written it.

`seed_logs` fills `public.ai_logs`; `log_rows` makes the same rows without a database. Prompts come
from the phrasebook with their slots filled at random, so that nearly all differ. A few rows are
what real tables hold too: exact duplicates (3 %), empty prompts (0.5 %), failed calls without a
response (1.5 %), prompts cut in the middle by the logger (0.6 %) and responses cut at max_tokens
(0.7 %). One prompt in ten is tangled, which costs every model quality; from a traffic shift on it
is six in ten, which lowers a mean quality of 0.85 by 0.15.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg

from app.sandbox.brain import HARD_SHARE, mean_quality
from app.sandbox.draws import level, stream
from app.sandbox.phrasebook import GREETINGS, KINDS, SIGN_OFFS, SYSTEMS, TANGLES, Kind
from app.sandbox.replies import CHARS_PER_TOKEN, steps, write
from app.sandbox.tasks import Task, fill, make_slots
from app.sandbox.world import ModelSpec
from app.sandbox.worlds import PRIME

SHIFTED_HARD_SHARE = 0.60

_MIX = {"support": 0.35, "extract": 0.20, "classify": 0.20, "summarise": 0.12, "code": 0.13}
_TEAMS = {
    "support": ("care", "care", "returns"),
    "extract": ("finance", "travel"),
    "classify": ("care", "it-desk"),
    "summarise": ("operations", "legal"),
    "code": ("platform", "data"),
}
_DAY_WEIGHTS = (20, 20, 20, 19, 15, 3, 3)
_HOUR_WEIGHTS = (1, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 12, 10, 12, 13, 13, 11, 9, 6, 4, 3, 2, 2, 1)
_SPEC = ModelSpec()

_TABLE = """
CREATE TABLE IF NOT EXISTS public.ai_logs (
    id         bigint PRIMARY KEY,
    created_at timestamptz NOT NULL,
    route      text NOT NULL,
    model      text NOT NULL,
    status     text NOT NULL,
    system     text,
    prompt     text,
    messages   jsonb,
    response   text,
    metadata   jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS ai_logs_created_at ON public.ai_logs (created_at) INCLUDE (id, route);
"""
_COLUMNS = "id, created_at, route, model, status, system, prompt, messages, response, metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One logged call.

    Attributes:
        created_at: When it was made.
        route: The product feature that made it.
        system: The system prompt.
        prompt: The last user turn.
        messages: The whole conversation.
        response: What the model replied; none when the call failed.
        status: "success" or "error".
        metadata: team, conversation_id, input_tokens, output_tokens, stop_reason, and `expected`
            where there is one right answer.
    """

    created_at: datetime
    route: str
    system: str
    prompt: str
    messages: tuple[tuple[str, str], ...]
    response: str | None
    status: str = "success"
    metadata: dict[str, object]


def seed_logs(
    dsn: str,
    *,
    weeks: int,
    rows_per_week: int,
    ends_at: datetime,
    seed: int,
    traffic_shift_from: datetime | None = None,
) -> int:
    """Adds the rows of so many weeks before `ends_at` to `public.ai_logs`; returns their number.

    The table and its index are made when absent. Rows made at or after `traffic_shift_from` are
    tangled six times as often.
    """
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL client_min_messages = warning")
        cursor.execute(_TABLE)
        cursor.execute("SELECT coalesce(max(id), 0) FROM public.ai_logs")
        found = cursor.fetchone()
        first = int(found[0]) + 1 if found else 1
        rows = log_rows(
            weeks=weeks,
            rows_per_week=rows_per_week,
            ends_at=ends_at,
            seed=seed,
            traffic_shift_from=traffic_shift_from,
        )
        count = 0
        with cursor.copy(f"COPY public.ai_logs ({_COLUMNS}) FROM STDIN") as copy:
            for count, row in enumerate(rows, start=1):
                copy.write_row(_fields(first + count - 1, row))
        cursor.execute("ANALYZE public.ai_logs")
    return count


def log_rows(
    *,
    weeks: int,
    rows_per_week: int,
    ends_at: datetime,
    seed: int,
    traffic_shift_from: datetime | None = None,
) -> Iterator[LogRow]:
    """The rows of so many weeks before `ends_at`, oldest first; the same for the same seed."""
    for week in range(weeks):
        start = ends_at - timedelta(days=7 * (weeks - week))
        rng = stream(seed, "logs", start.isoformat())
        yield from sorted(
            _week(rng, start, rows_per_week, traffic_shift_from), key=lambda row: row.created_at
        )


def drop_logs(dsn: str) -> None:
    """Removes the table `public.ai_logs`, if it is there."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET LOCAL client_min_messages = warning")
        connection.execute("DROP TABLE IF EXISTS public.ai_logs")


def _week(
    rng: random.Random, start: datetime, count: int, shift_from: datetime | None
) -> list[LogRow]:
    rows: list[LogRow] = []
    while len(rows) < count:
        created_at = _moment(rng, start)
        is_shifted = shift_from is not None and created_at >= shift_from
        singles = [row for row in rows[-40:] if len(row.messages) == 1]
        if singles and rng.random() < 0.03:
            rows.append(replace(rng.choice(singles), created_at=created_at))
        else:
            rows += _conversation(rng, created_at, is_shifted=is_shifted)
    end = start + timedelta(days=7, microseconds=-1)
    return [_marred(rng, replace(row, created_at=min(row.created_at, end))) for row in rows[:count]]


def _conversation(rng: random.Random, created_at: datetime, *, is_shifted: bool) -> list[LogRow]:
    """One request and, at times, its later turns, each a row of its own."""
    kind = _kind(rng)
    phrasing = rng.choice(kind.phrasings)
    texts = (phrasing, *kind.facts, *kind.follow_ups)
    slots = make_slots(rng, (*texts, "{person} {city}"), year=created_at.year)
    is_hard = rng.random() < (SHIFTED_HARD_SHARE if is_shifted else HARD_SHARE)
    turns = [_request(rng, kind, fill(phrasing, slots), slots, is_hard=is_hard)]
    if kind.follow_ups and rng.random() < 0.45:
        later = [fill(text, slots) for text in kind.follow_ups[: rng.randint(1, 2)]]
        turns += [_tangled(rng, kind, text) if is_hard else text for text in later]
    task = Task(kind=kind, slots=slots, hard=is_hard)
    team = rng.choice(_TEAMS[kind.route])
    conversation_id = f"c{rng.getrandbits(48):012x}"
    rows: list[LogRow] = []
    history: list[tuple[str, str]] = []
    for turn in turns:
        history.append(("user", turn))
        reply = _reply(rng, task)
        metadata = _metadata(task, history, reply, team=team, conversation_id=conversation_id)
        rows.append(
            LogRow(
                created_at=created_at,
                route=kind.route,
                system=SYSTEMS[kind.route],
                prompt=turn,
                messages=tuple(history),
                response=reply,
                metadata=metadata,
            )
        )
        history.append(("assistant", reply))
        created_at += timedelta(seconds=rng.randrange(120, 2400))
    return rows


def _request(
    rng: random.Random, kind: Kind, text: str, slots: dict[str, str], *, is_hard: bool
) -> str:
    if is_hard:
        text = _tangled(rng, kind, text)
    if kind.route == "support":
        sign_off = fill(rng.choice(SIGN_OFFS), slots)
        return f"{rng.choice(GREETINGS)}{text}{sign_off}"
    return text


def _tangled(rng: random.Random, kind: Kind, text: str) -> str:
    return f"{text} {rng.choice(TANGLES[kind.route])}"


def _reply(rng: random.Random, task: Task) -> str:
    grade = level(rng.random(), mean_quality(_SPEC, task), _SPEC.sd, steps(task))
    return write(task, grade, rng=rng, family=_SPEC.family, tokens=rng.randrange(80, 220))


def _metadata(
    task: Task,
    history: Sequence[tuple[str, str]],
    reply: str,
    *,
    team: str,
    conversation_id: str,
) -> dict[str, object]:
    sent = sum(len(text) for _, text in history) + len(SYSTEMS[task.route])
    metadata: dict[str, object] = {
        "team": team,
        "conversation_id": conversation_id,
        "input_tokens": sent // CHARS_PER_TOKEN + 8 * len(history),
        "output_tokens": max(1, len(reply) // CHARS_PER_TOKEN),
        "stop_reason": "end_turn",
    }
    expected = task.expected_text()
    return metadata if expected is None else {**metadata, "expected": expected}


def _marred(rng: random.Random, row: LogRow) -> LogRow:
    """The row as it is, or as one of the few that went wrong."""
    place = rng.random()
    if place < 0.015:
        metadata = {**row.metadata, "output_tokens": 0, "stop_reason": None}
        return replace(row, status="error", response=None, metadata=metadata)
    if place < 0.020:
        return replace(row, prompt="", messages=((row.messages[-1][0], ""),))
    if place < 0.026:
        half = len(row.prompt) // 3
        cut = f"{row.prompt[:half]}... (litellm_truncated {half} chars) ...{row.prompt[-half:]}"
        return replace(row, prompt=cut, messages=(*row.messages[:-1], ("user", cut)))
    if place < 0.033 and row.response is not None:
        metadata = {**row.metadata, "stop_reason": "max_tokens"}
        return replace(row, response=row.response[: len(row.response) // 2], metadata=metadata)
    return row


def _kind(rng: random.Random) -> Kind:
    route = rng.choices(list(_MIX), list(_MIX.values()))[0]
    return rng.choice(_BY_ROUTE[route])


def _moment(rng: random.Random, start: datetime) -> datetime:
    """A moment of the week after `start`, mostly in office hours."""
    days = [(start + timedelta(days=day)).weekday() for day in range(7)]
    day = rng.choices(range(7), [_DAY_WEIGHTS[weekday] for weekday in days])[0]
    hour = rng.choices(range(24), _HOUR_WEIGHTS)[0]
    offset_h = (hour - start.hour) % 24
    return start + timedelta(
        days=day, hours=offset_h, seconds=rng.randrange(3600), microseconds=rng.randrange(10**6)
    )


def _fields(row_id: int, row: LogRow) -> tuple[object, ...]:
    messages = [{"role": role, "content": text} for role, text in row.messages]
    return (
        row_id,
        row.created_at,
        row.route,
        PRIME,
        row.status,
        row.system,
        row.prompt,
        json.dumps(messages),
        row.response,
        json.dumps(row.metadata),
    )


_BY_ROUTE = {route: tuple(kind for kind in KINDS if kind.route == route) for route in _MIX}
