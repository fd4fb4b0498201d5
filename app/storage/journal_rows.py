"""The statements of one batch of the journal, and its rows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.domain.attempts import (
    AttemptOpening,
    AttemptOutcome,
    AttemptState,
    Completion,
    ShardRef,
)
from app.domain.scores import ScoreRecord, Unscored
from app.storage.clean_text import clean_text, json_text
from app.storage.documents import plain
from app.storage.ledger import Caps, caps_of_json
from app.storage.statements import Statement

_ERROR_CHARACTERS = 500
_ID_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAttempt:
    """What the journal holds of an Attempt."""

    state: AttemptState
    plan_name: str
    run_id: str
    reserved_usd: Decimal
    sent_at: datetime


def fences_of(shards: Iterable[tuple[str, int]]) -> Statement:
    """Locks the Fences of shards: nobody claims them before the batch is committed."""
    wanted = sorted(set(shards))
    return Statement(
        text="""
        SELECT s.run_id::text, s.shard_no, s.fence, r.caps
        FROM switchwise.shards AS s
        JOIN switchwise.runs AS r USING (run_id)
        JOIN unnest(%s::uuid[], %s::int[]) AS asked(run_id, shard_no) USING (run_id, shard_no)
        ORDER BY s.run_id, s.shard_no
        FOR SHARE OF s
        """,
        values=([run_id for run_id, _ in wanted], [shard_no for _, shard_no in wanted]),
    )


def read_fences(
    rows: Sequence[tuple[Any, ...]],
) -> tuple[Mapping[tuple[str, int], int], Mapping[str, Caps]]:
    """The Fence of every shard that was locked, and the caps stored with their Runs."""
    fences = {(row[0], row[1]): row[2] for row in rows}
    return fences, {row[0]: caps_of_json(row[3]) for row in rows if row[3] is not None}


def attempts_of(attempt_ids: Sequence[str]) -> Statement:
    """Reads what the journal holds of Attempts."""
    return Statement(
        text="SELECT attempt_id::text, state, plan_name, run_id::text, reserved_usd, sent_at"
        " FROM switchwise.attempts WHERE attempt_id = ANY(%s::uuid[])",
        values=(list(attempt_ids),),
    )


def read_attempts(rows: Iterable[tuple[Any, ...]]) -> Mapping[str, KnownAttempt]:
    """What the journal holds of the Attempts that were read."""
    return {
        row[0]: KnownAttempt(
            state=AttemptState(row[1]),
            plan_name=row[2],
            run_id=row[3],
            reserved_usd=row[4],
            sent_at=row[5],
        )
        for row in rows
    }


def inserted_attempts(items: Sequence[AttemptOpening]) -> Statement:
    """Inserts the rows in state `sent`."""
    return Statement(
        text="""
        INSERT INTO switchwise.attempts (
          attempt_id, run_id, shard_no, fence, plan_name, case_id, model_name, model, purpose,
          call_key, attempt_no, state, reserved_usd, price, sent_at, is_final)
        SELECT attempt_id, run_id, shard_no, fence, plan_name, case_id, model_name, model, purpose,
          call_key, attempt_no, 'sent', reserved_usd, price::jsonb, sent_at, false
        FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::int[], %s::text[], %s::uuid[],
          %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::numeric[], %s::text[],
          %s::timestamptz[]) AS new(
          attempt_id, run_id, shard_no, fence, plan_name, case_id, model_name, model, purpose,
          call_key, attempt_no, reserved_usd, price, sent_at)
        """,
        values=(
            [item.attempt_id for item in items],
            [item.shard.run_id for item in items],
            [item.shard.shard_no for item in items],
            [item.shard.fence for item in items],
            [item.plan_name for item in items],
            [item.case_id for item in items],
            [item.model_name for item in items],
            [item.model for item in items],
            [item.purpose.value for item in items],
            [item.call_key for item in items],
            [item.attempt_no for item in items],
            [item.reserved_usd for item in items],
            [json_text(item.price) for item in items],
            [item.sent_at for item in items],
        ),
    )


def settled_attempts(outcomes: Sequence[AttemptOutcome]) -> Statement:
    """Stores how Attempts in state `sent` ended; settled ones stay as they are."""
    rows = [_settle_row(outcome) for outcome in outcomes]
    return Statement(text=_SETTLE, values=tuple(list(column) for column in zip(*rows, strict=True)))


def inserted_scores(scores: Sequence[tuple[ShardRef, ScoreRecord]], at: datetime) -> Statement:
    """Inserts the rows whose keys are new."""
    rows = [_score_row(shard, record) for shard, record in scores]
    return Statement(
        text=_SCORE, values=(at, *(list(column) for column in zip(*rows, strict=True)))
    )


_SETTLE = """
    UPDATE switchwise.attempts AS a SET
      state = 'settled', cost_usd = new.cost_usd, settled_at = new.settled_at,
      is_final = new.is_final, stop_reason = new.stop_reason, failure_class = new.failure_class,
      http_status = new.http_status, error = new.error, request_id = new.request_id,
      input_tokens = new.input_tokens, output_tokens = new.output_tokens,
      cache_read_tokens = new.cache_read_tokens,
      cache_write_5m_tokens = new.cache_write_5m_tokens,
      cache_write_1h_tokens = new.cache_write_1h_tokens, thinking_tokens = new.thinking_tokens,
      ttft_seconds = new.ttft_seconds, latency_seconds = new.latency_seconds,
      felt_latency_seconds = new.felt_latency_seconds,
      reported_cost_usd = new.reported_cost_usd, reply_hash = new.reply_hash,
      reply = new.reply::jsonb
    FROM unnest(%s::uuid[], %s::numeric[], %s::timestamptz[], %s::bool[], %s::text[], %s::text[],
      %s::int[], %s::text[], %s::text[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[],
      %s::int[], %s::float8[], %s::float8[], %s::float8[], %s::numeric[], %s::text[], %s::text[])
      AS new(attempt_id, cost_usd, settled_at, is_final, stop_reason, failure_class, http_status,
      error, request_id, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
      cache_write_1h_tokens, thinking_tokens, ttft_seconds, latency_seconds, felt_latency_seconds,
      reported_cost_usd, reply_hash, reply)
    WHERE a.attempt_id = new.attempt_id AND a.state = 'sent'
"""
_SCORE = """
    INSERT INTO switchwise.scores (
      run_id, case_id, model_name, evaluator, score, unscored_reason, reason, detail,
      evaluator_version, judge_model, is_gate, is_passed, weight, scored_at)
    SELECT run_id, case_id, model_name, evaluator, score, unscored_reason, reason,
      detail::jsonb, evaluator_version, judge_model, is_gate, is_passed, weight, %s
    FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::float8[], %s::text[],
      %s::text[], %s::text[], %s::text[], %s::text[], %s::bool[], %s::bool[], %s::float8[])
      AS new(run_id, case_id, model_name, evaluator, score, unscored_reason, reason, detail,
      evaluator_version, judge_model, is_gate, is_passed, weight)
    ON CONFLICT DO NOTHING
"""


def _settle_row(outcome: AttemptOutcome) -> tuple[object, ...]:
    result = outcome.result
    usage, failure = result.usage, result.failure_class
    counts = (
        (None,) * 6
        if usage is None
        else (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.thinking_tokens,
        )
    )
    completion = result if isinstance(result, Completion) else None
    status, error = (
        (200, None)
        if isinstance(result, Completion)
        else (result.http_status, clean_text(result.message)[:_ERROR_CHARACTERS])
    )
    return (
        outcome.attempt_id,
        outcome.cost_usd,
        outcome.settled_at,
        outcome.is_final,
        completion.stop_reason.value if completion else None,
        failure.value if failure is not None else None,
        status,
        error,
        clean_text(result.request_id)[:_ID_CHARACTERS] if result.request_id else None,
        *counts,
        completion.ttft_s if completion else None,
        result.latency_s,
        outcome.felt_latency_s,
        completion.reported_cost_usd if completion else None,
        completion.fingerprint if completion else None,
        json_text({"text": completion.text, "tool_calls": list(completion.tool_calls)})
        if completion
        else None,
    )


def _score_row(shard: ShardRef, record: ScoreRecord) -> tuple[object, ...]:
    result = record.result
    is_unscored = isinstance(result, Unscored)
    return (
        shard.run_id,
        record.case_id,
        record.model_name,
        record.evaluator,
        record.score,
        (clean_text(result.reason) or "unscored") if is_unscored else None,
        None if is_unscored else clean_text(result.reason),
        json.dumps(plain(result.detail), ensure_ascii=False),
        record.evaluator_version,
        record.judge_model,
        record.is_gate,
        record.is_passed,
        0.0 if record.is_gate else record.weight,
    )
