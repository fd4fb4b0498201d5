"""What the pages read: SELECTs only, in read-only transactions, each bound to an index.

The text of prompts and replies is read here by `case` and `attempts` alone.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from app.domain.attempts import FailureClass
from app.domain.results import CaseResult
from app.domain.scores import Score, ScoreRecord, Unscored, quality_of, unscored_reason
from app.storage.engine import Database

Row = Mapping[str, Any]

MOST_REMEMBERED = 4
"""Final Runs whose results are kept: people filter and page through one Run at a time."""

_READ_ONLY = text("SET TRANSACTION READ ONLY")

_RUN_COLUMNS = """r.run_id::text AS run_id, r.plan_name, r.trigger, r.status,
    split_part(r.slot_key, ' ', 1) AS slot, r.slot_at, r.iso_week, r.created_at, r.started_at,
    r.finished_at, r.window_start, r.window_end, r.cases_requested, r.cases_sampled, r.drawn,
    r.frame, r.skipped, r.config_hash, r.app_version, r.error_code, r.error_message, r.restarts,
    r.seed"""

#: The complete Runs of slots that trends are made of.
_COUNTED = """(
    SELECT run_id, slot_key, slot_at, config_hash FROM switchwise.runs
    WHERE plan_name = :plan_name AND status = 'done' AND trigger <> 'hand'
    ORDER BY slot_at DESC LIMIT :limit
)"""

_PLAN_NAMES = text("""
    SELECT plan_name FROM switchwise.plans ORDER BY plan_name
""")

_NEWEST_RUN = text(f"""
    SELECT {_RUN_COLUMNS}, r.frozen, b.results AS document
    FROM switchwise.runs r
    JOIN switchwise.benchmark_results b ON b.run_id = r.run_id
    WHERE r.plan_name = :plan_name AND r.status IN ('done', 'partial', 'failed')
      AND (NOT :is_verdict OR (r.status = 'done' AND r.trigger <> 'hand'))
    ORDER BY r.slot_at DESC, r.finished_at DESC LIMIT 1
""")

_RUN = text(f"""
    SELECT {_RUN_COLUMNS}, r.frozen, b.results AS document
    FROM switchwise.runs r
    LEFT JOIN switchwise.benchmark_results b ON b.run_id = r.run_id
    WHERE r.run_id = CAST(:run_id AS uuid)
""")

_RUNS = text(f"""
    SELECT {_RUN_COLUMNS}, coalesce(v.verdicts, '{{}}') AS verdicts
    FROM (
        SELECT * FROM switchwise.runs WHERE plan_name = :plan_name
        ORDER BY slot_at DESC, created_at DESC LIMIT :limit OFFSET :offset
    ) r
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(candidate_name, verdict) AS verdicts
        FROM switchwise.comparisons c
        WHERE c.run_id = r.run_id AND c.segment_name = 'all' AND c.verdict IS NOT NULL
    ) v ON true
    ORDER BY r.slot_at DESC, r.created_at DESC
""")

_OPEN_ALERTS = text("""
    SELECT key, kind, title, opened_at, last_sent_at, run_id::text AS run_id, acknowledged_at,
      acknowledged_until, acknowledged_reason
    FROM switchwise.alerts
    WHERE plan_name = :plan_name AND resolved_at IS NULL
    ORDER BY opened_at, key
""")

_SPEND_SINCE = text("""
    SELECT coalesce(sum((b.results #>> '{spend,total_usd}')::numeric), 0) AS spend_usd
    FROM switchwise.runs r JOIN switchwise.benchmark_results b ON b.run_id = r.run_id
    WHERE r.plan_name = :plan_name AND r.slot_at >= :since
""")

_HISTORY = text(f"""
    SELECT r.run_id::text AS run_id, split_part(r.slot_key, ' ', 1) AS slot, r.slot_at,
      r.config_hash, m.model_name, m.role, m.cases, m.quality, m.quality_low, m.quality_high,
      m.success_rate, m.cost_per_success_usd, m.cost_per_success_low_usd,
      m.cost_per_success_high_usd, m.cost_per_quality_usd, m.cost_per_quality_low_usd,
      m.cost_per_quality_high_usd, m.ttft_p50_seconds, m.latency_p50_seconds, m.latency_p95_seconds,
      m.estimates -> 'ttft_p50_seconds' AS ttft_p50,
      m.estimates -> 'latency_p50_seconds' AS latency_p50,
      m.estimates -> 'latency_p95_seconds' AS latency_p95
    FROM {_COUNTED} r
    JOIN switchwise.model_results m ON m.run_id = r.run_id AND m.segment_name = 'all'
    ORDER BY r.slot_at, m.role DESC, m.model_name
""")

_EPOCHS = text(f"""
    SELECT r.run_id::text AS run_id, r.slot_at, c.candidate_name, c.primary_name, c.epoch,
      c.epoch_reason, c.verdict, c.state
    FROM {_COUNTED} r
    JOIN switchwise.comparisons c ON c.run_id = r.run_id AND c.segment_name = 'all'
    ORDER BY r.slot_at, c.candidate_name
""")

_IDENTITIES = text("""
    SELECT DISTINCT ON (epoch) epoch, identity FROM switchwise.evidence
    WHERE plan_name = :plan_name ORDER BY epoch, iso_week DESC
""")

_CONFIGURATIONS = text("""
    SELECT run_id::text AS run_id, frozen FROM switchwise.runs
    WHERE run_id = ANY(CAST(:run_ids AS uuid[]))
""")

_RUN_CASES = text("""
    SELECT case_id, source_id, weight, copies, stratum, conversation, segments, is_anchor,
      is_later_turn, anchor_of::text AS anchor_of
    FROM switchwise.cases WHERE run_id = CAST(:run_id AS uuid)
""")

#: One row per Case and model, as `PostgresResults.results` reads them, without any JSON.
_REPLIES = text("""
    SELECT k.case_id, m.model_name, count(a.attempt_id) AS attempts,
      coalesce(sum(a.cost_usd), 0) AS spend_usd,
      coalesce(bool_and(a.cost_usd IS NOT NULL), true) AS is_cost_known,
      coalesce(bool_or(a.is_final), false) AS is_ended,
      max(a.failure_class) FILTER (WHERE a.is_final) AS failure_class,
      bool_or(s.is_done) AS is_shard_done
    FROM switchwise.shards AS s
    CROSS JOIN LATERAL unnest(s.case_ids) AS k(case_id)
    CROSS JOIN LATERAL unnest(s.models) AS m(model_name)
    LEFT JOIN switchwise.attempts AS a ON a.run_id = s.run_id AND a.case_id = k.case_id
      AND a.model_name = m.model_name AND a.purpose = 'replay'
    WHERE s.run_id = CAST(:run_id AS uuid)
    GROUP BY k.case_id, m.model_name
""")

_RUN_SCORES = text("""
    SELECT case_id, model_name, evaluator, evaluator_version, score, unscored_reason, is_gate,
      weight, judge_model
    FROM switchwise.scores
    WHERE run_id = CAST(:run_id AS uuid)
""")

_EVALUATOR_SCORES = text("""
    SELECT case_id::text AS case_id, model_name, avg(score) AS score
    FROM switchwise.scores
    WHERE run_id = CAST(:run_id AS uuid)
      AND (evaluator = :evaluator OR evaluator = :evaluator || ':' || judge_model)
    GROUP BY case_id, model_name
""")

_CALLS = text("""
    SELECT model_name, purpose, state, failure_class, http_status, count(*) AS calls,
      coalesce(sum(cost_usd), 0) AS cost_usd,
      count(*) FILTER (WHERE cost_usd IS NULL) AS unknown_cost,
      count(*) FILTER (WHERE attempt_no > 1) AS retries
    FROM switchwise.attempts WHERE run_id = CAST(:run_id AS uuid)
    GROUP BY model_name, purpose, state, failure_class, http_status
    ORDER BY purpose DESC, model_name, failure_class NULLS FIRST, state
""")

_PULSE = text("""
    WITH sent AS (
        SELECT purpose, failure_class, extract(epoch FROM sent_at)::double precision AS at
        FROM switchwise.attempts WHERE run_id = CAST(:run_id AS uuid)
    ), span AS (
        SELECT min(at) AS low, greatest(max(at), min(at) + 1) AS high FROM sent
    )
    SELECT least(width_bucket(at, low, high, :buckets), :buckets) AS bucket, purpose,
      failure_class IS NOT NULL AS is_failure, count(*) AS calls, low, high
    FROM sent, span GROUP BY 1, 2, 3, 5, 6 ORDER BY 1, 2, 3
""")

_CASE = text("""
    SELECT c.case_id::text AS case_id, c.run_id::text AS run_id, c.source_id, c.ordinal, c.weight,
      c.copies, c.stratum, c.conversation, c.segments, c.is_anchor, c.anchor_of::text AS anchor_of,
      c.is_later_turn, c.logged_at, c.body, r.plan_name, r.status,
      split_part(r.slot_key, ' ', 1) AS slot, r.frozen -> 'config' AS config
    FROM switchwise.cases c JOIN switchwise.runs r ON r.run_id = c.run_id
    WHERE c.case_id = CAST(:case_id AS uuid)
""")

_ATTEMPTS = text("""
    SELECT attempt_id::text AS attempt_id, model_name, model, purpose, call_key, attempt_no, state,
      reserved_usd, cost_usd, sent_at, settled_at, is_final, stop_reason, failure_class,
      http_status, error, request_id, input_tokens, output_tokens, cache_read_tokens,
      ttft_seconds, latency_seconds, felt_latency_seconds,
      CASE WHEN purpose = 'replay' THEN reply END AS reply,
      reply IS NOT NULL AS has_reply
    FROM switchwise.attempts
    WHERE run_id = CAST(:run_id AS uuid) AND case_id = CAST(:case_id AS uuid)
    ORDER BY purpose DESC, model_name, sent_at, attempt_no
""")

_SCORES = text("""
    SELECT model_name, evaluator, score, unscored_reason, reason, evaluator_version, judge_model,
      is_gate, is_passed, weight
    FROM switchwise.scores
    WHERE run_id = CAST(:run_id AS uuid) AND case_id = CAST(:case_id AS uuid)
    ORDER BY model_name, is_gate DESC, evaluator, judge_model
""")


class PostgresPages:
    """The reads of the pages.

    Args:
        database: The results database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[str, Sequence[CaseResult]] = {}

    async def plan_names(self) -> Sequence[str]:
        """Every plan that ever had a Run, in order of name."""
        return [row["plan_name"] for row in await self._rows(_PLAN_NAMES)]

    async def newest_run(self, plan_name: str, *, is_verdict: bool) -> Row | None:
        """The plan's newest Run that ended, with its document."""
        return await self._row(_NEWEST_RUN, plan_name=plan_name, is_verdict=is_verdict)

    async def run(self, run_id: str) -> Row | None:
        """One Run with its frozen set-up and its document."""
        return await self._row(_RUN, run_id=run_id)

    async def runs(self, plan_name: str, *, limit: int, offset: int = 0) -> Sequence[Row]:
        """The plan's Runs, newest first, with their verdicts."""
        return await self._rows(_RUNS, plan_name=plan_name, limit=limit, offset=offset)

    async def open_alerts(self, plan_name: str) -> Sequence[Row]:
        """Alerts that are open, oldest first."""
        return await self._rows(_OPEN_ALERTS, plan_name=plan_name)

    async def spend_since(self, plan_name: str, since: datetime) -> Decimal:
        """What the plan's ended Runs of slots since then spent."""
        row = await self._row(_SPEND_SINCE, plan_name=plan_name, since=since)
        return Decimal(row["spend_usd"]) if row else Decimal(0)

    async def history(self, plan_name: str, *, limit: int) -> Sequence[Row]:
        """Every model's figures in the newest complete Runs of slots, oldest first."""
        return await self._rows(_HISTORY, plan_name=plan_name, limit=limit)

    async def epochs(self, plan_name: str, *, limit: int) -> Sequence[Row]:
        """Epoch and verdict of every candidate in the same Runs, oldest first."""
        return await self._rows(_EPOCHS, plan_name=plan_name, limit=limit)

    async def identities(self, plan_name: str) -> Mapping[str, Row]:
        """What each epoch of the plan covers, by its digest."""
        rows = await self._rows(_IDENTITIES, plan_name=plan_name)
        return {row["epoch"]: row["identity"] for row in rows}

    async def configurations(self, run_ids: Sequence[str]) -> Mapping[str, Row]:
        """The frozen set-up of these Runs."""
        if not run_ids:
            return {}
        rows = await self._rows(_CONFIGURATIONS, run_ids=list(run_ids))
        return {row["run_id"]: row["frozen"] for row in rows}

    async def case_results(self, run_id: str, *, is_final: bool) -> Sequence[CaseResult]:
        """What every model did on every Case of the Run, which may be remembered once final."""
        if run_id in self._remembered:
            return self._remembered[run_id]
        results = await self._case_results(run_id)
        if is_final and results:
            self._remembered[run_id] = results
            while len(self._remembered) > MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return results

    async def _case_results(self, run_id: str) -> Sequence[CaseResult]:
        cases = {row["case_id"]: row for row in await self._rows(_RUN_CASES, run_id=run_id)}
        records: dict[tuple[Any, str], list[ScoreRecord]] = {}
        for row in await self._rows(_RUN_SCORES, run_id=run_id):
            records.setdefault((row["case_id"], row["model_name"]), []).append(_record(row))
        return [
            _result(reply, cases[reply["case_id"]], records.get(_key(reply), ()))
            for reply in await self._rows(_REPLIES, run_id=run_id)
            if reply["is_ended"] or reply["is_shard_done"]
        ]

    async def evaluator_scores(self, run_id: str, evaluator: str) -> Sequence[Row]:
        """One Evaluator's score of every reply of the Run, judges averaged."""
        return await self._rows(_EVALUATOR_SCORES, run_id=run_id, evaluator=evaluator)

    async def calls(self, run_id: str) -> Sequence[Row]:
        """The Run's Attempts counted by model, purpose, state and failure class."""
        return await self._rows(_CALLS, run_id=run_id)

    async def pulse(self, run_id: str, *, buckets: int) -> Sequence[Row]:
        """The Run's Attempts counted over its duration, by bucket and purpose."""
        return await self._rows(_PULSE, run_id=run_id, buckets=buckets)

    async def case(self, case_id: str) -> Row | None:
        """One Case with its body and the facts of its Run."""
        return await self._row(_CASE, case_id=case_id)

    async def attempts(self, run_id: str, case_id: str) -> Sequence[Row]:
        """Every Attempt for a Case with its reply, in order."""
        return await self._rows(_ATTEMPTS, run_id=run_id, case_id=case_id)

    async def scores(self, run_id: str, case_id: str) -> Sequence[Row]:
        """Every score of a Case with its reason."""
        return await self._rows(_SCORES, run_id=run_id, case_id=case_id)

    async def _rows(self, query: Any, **parameters: object) -> list[Row]:
        async with self._database.transaction() as connection:
            await connection.execute(_READ_ONLY)
            return [row._asdict() for row in await connection.execute(query, parameters)]

    async def _row(self, query: Any, **parameters: object) -> Row | None:
        rows = await self._rows(query, **parameters)
        return rows[0] if rows else None


def _key(row: Row) -> tuple[Any, str]:
    return row["case_id"], row["model_name"]


def _record(row: Row) -> ScoreRecord:
    score = row["score"]
    return ScoreRecord(
        case_id="",
        model_name=row["model_name"],
        evaluator=row["evaluator"],
        evaluator_version=row["evaluator_version"],
        result=Unscored(reason=row["unscored_reason"]) if score is None else Score(value=score),
        is_gate=row["is_gate"],
        weight=row["weight"],
        judge_model=row["judge_model"],
    )


def _result(reply: Row, case: Row, records: Sequence[ScoreRecord]) -> CaseResult:
    """What one model did on one Case, by the rule of the domain."""
    failure = reply["failure_class"] if reply["is_ended"] else FailureClass.BREAKER_OPEN.value
    quality, failure_class = quality_of(records, FailureClass(failure) if failure else None)
    is_unscored = failure_class is None and quality is None
    return CaseResult(
        case_id=str(case["case_id"]),
        source_id=case["source_id"],
        model_name=reply["model_name"],
        weight=case["weight"],
        copies=case["copies"],
        stratum=case["stratum"],
        conversation=case["conversation"],
        segments=case["segments"],
        is_anchor=case["is_anchor"],
        is_later_turn=case["is_later_turn"],
        failure_class=failure_class,
        quality=quality,
        spend_usd=reply["spend_usd"],
        is_cost_known=reply["is_cost_known"],
        attempts=reply["attempts"],
        retries=max(0, reply["attempts"] - 1),
        anchor_of=case["anchor_of"],
        unscored_reason=unscored_reason(records) if is_unscored else None,
    )
