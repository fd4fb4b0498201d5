"""What a Run found: recomputed from its rows, and committed at its end in one transaction."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from decimal import Decimal
from sys import intern
from typing import Any

from sqlalchemy import Row, RowMapping, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.attempts import FailureClass, Purpose, Reply
from app.domain.json_values import JsonObject
from app.domain.prices import Price, Usage
from app.domain.results import (
    ALL,
    CandidateState,
    CaseResult,
    Comparison,
    SegmentComparison,
    Summary,
)
from app.domain.runs import RunStatus, Shard
from app.domain.scores import Score, ScoreRecord, Unscored, quality_of, unscored_reason
from app.ports import Baseline, RunResults, StoredEvidence, StoredState
from app.stats.estimates import Estimate
from app.stats.evidence import Evidence
from app.storage.alert_store import write_alerts
from app.storage.case_rows import result_of
from app.storage.clean_text import clean_text
from app.storage.documents import plain
from app.storage.run_store import PostgresRuns, fence_off, scrub_texts
from app.storage.tables import (
    ATTEMPTS,
    BENCHMARK_RESULTS,
    CANDIDATE_STATES,
    COMPARISONS,
    EVIDENCE,
    MODEL_RESULTS,
    PLANS,
    RUNS,
    SCORES,
)

#: One row per Case and model: what its Attempts cost, and how the last of them ended. A model that
#: a finished shard was to call and that has no final Attempt was held back by its breaker.
_CALLS = text("""
    SELECT c.case_id::text AS case_id, c.source_id, m.model_name, c.weight, c.copies, c.stratum,
      c.conversation, c.segments, c.is_anchor, c.is_later_turn, c.anchor_of::text AS anchor_of,
      count(a.attempt_id) AS attempts,
      coalesce(sum(a.cost_usd), 0) AS spend_usd,
      coalesce(bool_and(a.cost_usd IS NOT NULL), true) AS is_cost_known,
      coalesce(bool_or(a.is_final), false) AS is_ended,
      max(a.failure_class) FILTER (WHERE a.is_final) AS failure_class,
      max(a.stop_reason) FILTER (WHERE a.is_final) AS stop_reason,
      coalesce(max(a.input_tokens + a.cache_read_tokens + a.cache_write_5m_tokens
        + a.cache_write_1h_tokens) FILTER (WHERE a.is_final), 0) AS input_tokens,
      coalesce(max(a.output_tokens) FILTER (WHERE a.is_final), 0) AS output_tokens,
      max(a.ttft_seconds) FILTER (WHERE a.is_final) AS ttft_s,
      max(a.latency_seconds) FILTER (WHERE a.is_final) AS latency_s,
      max(a.felt_latency_seconds) FILTER (WHERE a.is_final) AS felt_latency_s,
      bool_or(s.is_done) AS is_shard_done
    FROM switchwise.shards AS s
    CROSS JOIN LATERAL unnest(s.case_ids) AS k(case_id)
    CROSS JOIN LATERAL unnest(s.models) AS m(model_name)
    JOIN switchwise.cases AS c ON c.case_id = k.case_id
    LEFT JOIN switchwise.attempts AS a ON a.run_id = s.run_id AND a.case_id = c.case_id
      AND a.model_name = m.model_name AND a.purpose = 'replay'
    WHERE s.run_id = :run_id
    GROUP BY c.case_id, m.model_name
    ORDER BY c.ordinal, m.model_name
""")


class PostgresResults(PostgresRuns):
    """The whole RunStore: Runs and what they found."""

    async def results(self, run_id: str) -> Sequence[CaseResult]:
        """What every model did on every Case, recomputed from `attempts` and `scores`."""
        scores: dict[tuple[str, str], list[ScoreRecord]] = {}
        for record in await self.scores(run_id):
            scores.setdefault((record.case_id, record.model_name), []).append(record)
        async with (
            self._database.transaction() as connection,
            aclosing(self._database.in_parts(connection, _CALLS, {"run_id": run_id})) as parts,
        ):
            return [
                _case_result(call, scores.pop((call.case_id, call.model_name), []))
                async for calls in parts
                for call in calls
                if call.is_ended or call.is_shard_done
            ]

    async def repriced_results(
        self, run_id: str, prices: Mapping[str, Price]
    ) -> Sequence[CaseResult]:
        """As `results`, with the stored usage of every Attempt charged at these prices."""
        results = await self.results(run_id)
        async with self._database.transaction() as connection:
            attempts = (await connection.execute(_USAGE, {"run_id": run_id})).all()
        spend: dict[tuple[str, str], Decimal] = {}
        for attempt in attempts:
            key = (attempt.case_id, attempt.model_name)
            spend[key] = spend.get(key, Decimal(0)) + _charged(attempt, prices)
        return [
            replace(row, spend_usd=spend.get((row.case_id, row.model_name), row.spend_usd))
            for row in results
        ]

    async def scored(self, shard: Shard) -> Sequence[ScoreRecord]:
        """Scores already stored for the shard's Cases; canaries for the shard without Cases."""
        query = select(SCORES).where(SCORES.c.run_id == shard.run_id)
        if shard.case_ids:
            query = query.where(SCORES.c.case_id.in_(shard.case_ids))
        else:
            query = query.where(SCORES.c.model_name.startswith("canary"))
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [score_record(row) for row in rows.mappings()]

    async def scores(self, run_id: str) -> Sequence[ScoreRecord]:
        """Every score of the Run, canaries included."""
        query = select(SCORES).where(SCORES.c.run_id == run_id)
        async with (
            self._database.transaction() as connection,
            aclosing(self._database.in_parts(connection, query)) as parts,
        ):
            return [
                score_record(row._mapping)  # noqa: SLF001 - public: so named to clash with no column
                async for rows in parts
                for row in rows
            ]

    async def document(self, run_id: str) -> JsonObject | None:
        """The Run's immutable document."""
        query = select(BENCHMARK_RESULTS.c.results).where(BENCHMARK_RESULTS.c.run_id == run_id)
        async with self._database.transaction() as connection:
            found: Mapping[str, Any] | None = (await connection.execute(query)).scalar_one_or_none()
            return found

    async def evidence(self, plan_name: str, *, since_week: str) -> Sequence[StoredEvidence]:
        """Stored candidate-weeks, oldest first."""
        query = (
            select(EVIDENCE)
            .where(EVIDENCE.c.plan_name == plan_name, EVIDENCE.c.iso_week >= since_week)
            .order_by(EVIDENCE.c.iso_week, EVIDENCE.c.updated_at)
        )
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [_stored_evidence(row) for row in rows.mappings()]

    async def baselines(self, case_ids: Sequence[str], model_name: str) -> Mapping[str, Baseline]:
        """What the model first replied to these Cases, where the reply is still kept."""
        if not case_ids:
            return {}
        attempts = (
            select(ATTEMPTS, RUNS.c.iso_week)
            .join(RUNS, RUNS.c.run_id == ATTEMPTS.c.run_id)
            .where(
                ATTEMPTS.c.case_id.in_(case_ids),
                ATTEMPTS.c.model_name == model_name,
                ATTEMPTS.c.purpose == Purpose.REPLAY.value,
                ATTEMPTS.c.is_final,
                ATTEMPTS.c.reply.is_not(None),
            )
        )
        scores = select(SCORES).where(
            SCORES.c.case_id.in_(case_ids), SCORES.c.model_name == model_name
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(attempts)).mappings().all()
            records: dict[str, list[ScoreRecord]] = {}
            for score in (await connection.execute(scores)).mappings():
                records.setdefault(score["case_id"], []).append(score_record(score))
        return {row["case_id"]: _baseline(row, records.get(row["case_id"], [])) for row in rows}

    async def drift_readings(self, plan_name: str, *, limit: int) -> Sequence[JsonObject]:
        """What the last complete Run of each of the last weeks said about drift, oldest first."""
        query = (
            select(RUNS.c.drift["reading"])
            .ext(distinct_on(RUNS.c.iso_week))
            .where(
                RUNS.c.plan_name == plan_name,
                RUNS.c.status == RunStatus.DONE.value,
                func.jsonb_typeof(RUNS.c.drift["reading"]) == "object",
            )
            .order_by(RUNS.c.iso_week.desc(), RUNS.c.slot_at.desc())
            .limit(limit)
        )
        async with self._database.transaction() as connection:
            found = [row[0] for row in await connection.execute(query)]
        return found[::-1]

    async def states(self, plan_name: str) -> Sequence[StoredState]:
        """The latest state of every candidate."""
        query = select(CANDIDATE_STATES).where(CANDIDATE_STATES.c.plan_name == plan_name)
        async with self._database.transaction() as connection:
            rows = await connection.execute(query)
            return [_stored_state(row) for row in rows.mappings()]

    async def finish(self, results: RunResults) -> None:
        """Commit results, evidence, states, alerts (outbox) and the final status together.

        Texts that the plan does not keep go in the same commit, and whoever still works for the Run
        is fenced off before: no final Run ever holds them.

        A second call for a Run that is final already changes nothing, so that a commit whose
        answer was lost can be repeated.
        """
        async with self._database.transaction() as connection:
            plan_name = await _lock_run(connection, results.run_id)
            if plan_name is None:
                return
            await _write_results(connection, results)
            await _write_memory(connection, results)
            await write_alerts(
                connection,
                plan_name,
                results.alerts,
                results.open_alerts,
                now=results.finished_at,
            )
            await connection.execute(
                update(RUNS)
                .where(RUNS.c.run_id == results.run_id)
                .values(
                    status=results.status.value,
                    finished_at=results.finished_at,
                    error_code=results.error_code,
                    error_message=None
                    if results.error_message is None
                    else clean_text(results.error_message),
                    judge=plain(asdict(results.judge)),
                    drift=_drift(results),
                    adaptive=plain(asdict(results.adaptive)),
                    lease_until=None,
                )
            )
            await fence_off(connection, results.run_id)
            if results.scrub is not None:
                await scrub_texts(connection, results.run_id, results.scrub.clean)


#: What every replay Attempt of a Run consumed.
_USAGE = text("""
    SELECT case_id::text AS case_id, model_name, cost_usd, input_tokens, output_tokens,
      cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens
    FROM switchwise.attempts
    WHERE run_id = :run_id AND purpose = 'replay'
""")


def _charged(attempt: Row[Any], prices: Mapping[str, Price]) -> Decimal:
    """The Attempt's cost at these prices; what was never counted stays as it was."""
    price = prices.get(attempt.model_name)
    if price is None or attempt.input_tokens is None or attempt.cost_usd is None:
        return Decimal(attempt.cost_usd or 0)
    return price.cost(
        Usage(
            input_tokens=attempt.input_tokens,
            output_tokens=attempt.output_tokens,
            cache_read_tokens=attempt.cache_read_tokens,
            cache_write_5m_tokens=attempt.cache_write_5m_tokens,
            cache_write_1h_tokens=attempt.cache_write_1h_tokens,
        )
    )


# --- rows read ----------------------------------------------------------------------------------


def _case_result(call: Row[Any], records: Sequence[ScoreRecord]) -> CaseResult:
    failure = _failure_of(call)
    quality, failure_class = quality_of(records, failure)
    is_success = failure_class is None
    return CaseResult(
        case_id=call.case_id,
        source_id=call.source_id,
        model_name=call.model_name,
        weight=call.weight,
        copies=call.copies,
        stratum=call.stratum,
        conversation=call.conversation,
        segments=call.segments,
        is_anchor=call.is_anchor,
        is_later_turn=call.is_later_turn,
        failure_class=failure_class,
        quality=quality,
        spend_usd=Decimal(call.spend_usd),
        is_cost_known=call.is_cost_known,
        attempts=call.attempts,
        retries=max(0, call.attempts - 1),
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        ttft_s=call.ttft_s if is_success else None,
        latency_s=call.latency_s if is_success else None,
        felt_latency_s=call.felt_latency_s if is_success else None,
        anchor_of=call.anchor_of,
        unscored_reason=unscored_reason(records) if is_success and quality is None else None,
    )


def _failure_of(call: Row[Any]) -> FailureClass | None:
    if not call.is_ended:
        return FailureClass.BREAKER_OPEN
    return FailureClass(call.failure_class) if call.failure_class is not None else None


def score_record(row: RowMapping) -> ScoreRecord:
    """The ScoreRecord of a row of `scores`."""
    result: Score | Unscored
    if row["score"] is None:
        result = Unscored(reason=row["unscored_reason"], detail=row["detail"] or {})
    else:
        result = Score(value=row["score"], reason=row["reason"] or "", detail=row["detail"] or {})
    return ScoreRecord(
        case_id=row["case_id"],
        model_name=intern(row["model_name"]),
        evaluator=intern(row["evaluator"]),
        evaluator_version=intern(row["evaluator_version"]),
        result=result,
        is_gate=row["is_gate"],
        weight=row["weight"],
        judge_model=row["judge_model"],
    )


def _baseline(row: RowMapping, records: Sequence[ScoreRecord]) -> Baseline:
    reply = Reply(
        case_id=row["case_id"],
        model_name=row["model_name"],
        call_key=row["call_key"],
        result=result_of(row),
        attempts=1,
        spend_usd=Decimal(row["cost_usd"] or 0),
    )
    quality, _ = quality_of(records, reply.failure_class)
    return Baseline(case_id=row["case_id"], week=row["iso_week"], reply=reply, quality=quality)


def _drift(results: RunResults) -> Any:
    if results.drift is None and results.drift_reading is None:
        return None
    told = plain(asdict(results.drift)) if results.drift else {}
    return {**told, "reading": plain(results.drift_reading)}


def _stored_evidence(row: RowMapping) -> StoredEvidence:
    return StoredEvidence(
        plan_name=row["plan_name"],
        primary=row["primary_name"],
        candidate=row["candidate_name"],
        week=row["iso_week"],
        epoch=row["epoch"],
        identity=row["identity"],
        run_ids=tuple(row["run_ids"]),
        evidence=Evidence.from_json(row["evidence"]),
        primary_price=row["primary_price"],
        candidate_price=row["candidate_price"],
        segments={key: Evidence.from_json(part) for key, part in row["segments"].items()},
    )


def _stored_state(row: RowMapping) -> StoredState:
    return StoredState(
        plan_name=row["plan_name"],
        primary=row["primary_name"],
        candidate=row["candidate_name"],
        epoch=row["epoch"],
        state=CandidateState(row["state"]),
        week=row["iso_week"],
        since_week=row["since_week"],
        changed_at=row["changed_at"],
        detail=row["detail"],
    )


# --- rows written -------------------------------------------------------------------------------


async def _lock_run(connection: AsyncConnection, run_id: str) -> str | None:
    """Lock the plan's row; None when the Run is final already."""
    found = await connection.execute(
        select(RUNS.c.plan_name, RUNS.c.status).where(RUNS.c.run_id == run_id)
    )
    plan_name, status = found.one()
    await connection.execute(
        select(PLANS.c.plan_name).where(PLANS.c.plan_name == plan_name).with_for_update()
    )
    again = await connection.execute(select(RUNS.c.status).where(RUNS.c.run_id == run_id))
    status = RunStatus(again.scalar_one())
    if status.is_final and status is not RunStatus.PARTIAL:
        return None
    return str(plan_name)


async def _write_results(connection: AsyncConnection, results: RunResults) -> None:
    for table in (MODEL_RESULTS, COMPARISONS, BENCHMARK_RESULTS):
        # A partial Run that was resumed replaces what it said before.
        await connection.execute(table.delete().where(table.c.run_id == results.run_id))
    if results.summaries:
        rows = [_summary_row(summary, results.run_id) for summary in results.summaries]
        await connection.execute(insert(MODEL_RESULTS), rows)
    comparisons = [
        row
        for comparison in results.comparisons
        for row in _comparison_rows(comparison, results.run_id)
    ]
    if comparisons:
        await connection.execute(insert(COMPARISONS), comparisons)
    await connection.execute(
        insert(BENCHMARK_RESULTS).values(
            run_id=results.run_id, timestamp=results.finished_at, results=plain(results.document)
        )
    )


async def _write_memory(connection: AsyncConnection, results: RunResults) -> None:
    """Evidence and states: what later weeks pool and continue from."""
    for stored in results.evidence:
        values = {
            "plan_name": stored.plan_name,
            "primary_name": stored.primary,
            "candidate_name": stored.candidate,
            "iso_week": stored.week,
            "epoch": stored.epoch,
            "identity": plain(stored.identity),
            "run_ids": list(stored.run_ids),
            "evidence": plain(stored.evidence.to_json()),
            "segments": {key: plain(part.to_json()) for key, part in stored.segments.items()},
            "primary_price": plain(stored.primary_price),
            "candidate_price": plain(stored.candidate_price),
            "updated_at": results.finished_at,
        }
        await _replace(connection, EVIDENCE, values)
    for state in results.states:
        values = {
            "plan_name": state.plan_name,
            "primary_name": state.primary,
            "candidate_name": state.candidate,
            "epoch": state.epoch,
            "state": state.state.value,
            "iso_week": state.week,
            "since_week": state.since_week,
            "changed_at": state.changed_at,
            "detail": plain(state.detail),
        }
        await _replace(connection, CANDIDATE_STATES, values)


async def _replace(connection: AsyncConnection, table: Any, values: Mapping[str, Any]) -> None:
    key = [column.name for column in table.primary_key.columns]
    rest = {name: value for name, value in values.items() if name not in key}
    await connection.execute(
        upsert(table).values(values).on_conflict_do_update(index_elements=key, set_=rest)
    )


def _summary_row(summary: Summary, run_id: str) -> dict[str, Any]:
    percentiles: dict[str, Estimate | None] = {
        f"{name}_p{percent}_seconds": getattr(found, f"p{percent}")
        for name, found in (
            ("ttft", summary.ttft_s),
            ("latency", summary.latency_s),
            ("felt_latency", summary.felt_latency_s),
        )
        for percent in (50, 95, 99)
    }
    return {
        "run_id": run_id,
        "model_name": summary.model_name,
        "model": summary.model,
        "role": summary.role.value,
        "segment_name": summary.segment.name,
        "segment_value": summary.segment.value,
        "cases": summary.cases,
        "successes": summary.successes,
        "unscored": summary.unscored,
        **_bounds("quality", summary.quality),
        **_bounds("success_rate", summary.success_rate),
        **_money_bounds("cost_per_success", summary.cost_per_success_usd),
        **_money_bounds("cost_per_1k", summary.cost_per_1k_usd),
        **_money_bounds("cost_per_quality", summary.cost_per_quality_usd),
        **{name: _point(value) for name, value in percentiles.items()},
        "attempts": summary.attempts,
        "retries": summary.retries,
        "spend_usd": summary.spend_usd,
        "unknown_cost": summary.unknown_cost,
        "failures": {failure.value: number for failure, number in summary.failures.items()},
        "pattern": summary.pattern,
        "largest_call_share": summary.largest_call_share,
        "estimates": {
            **_estimates(summary),
            **{name: plain(asdict(value)) for name, value in percentiles.items() if value},
        },
    }


def _comparison_rows(comparison: Comparison, run_id: str) -> list[dict[str, Any]]:
    whole = {
        "run_id": run_id,
        "candidate_name": comparison.candidate,
        "primary_name": comparison.primary,
        "segment_name": ALL.name,
        "segment_value": ALL.value,
        "pairs": comparison.pairs,
        "window_weeks": comparison.window_weeks,
        "wins": comparison.wins,
        "ties": comparison.ties,
        "losses": comparison.losses,
        **_bounds("quality_delta", comparison.quality_delta),
        **_bounds("saving", comparison.saving),
        **_bounds("value_ratio", comparison.value_ratio),
        **_bounds("success_delta", comparison.success_delta),
        **_money_bounds("monthly_saving", comparison.monthly_saving_usd),
        "latency_p50_ratio": comparison.latency_p50_ratio,
        "latency_p95_ratio": comparison.latency_p95_ratio,
        "verdict": comparison.verdict.kind.value,
        "state": comparison.state.value,
        "verdict_reasons": list(comparison.verdict.reasons),
        "caveats": list(comparison.verdict.caveats),
        "is_worse": False,
        "epoch": comparison.epoch,
        "epoch_reason": comparison.epoch_reason,
        "tests": plain(comparison.tests),
        "estimates": _estimates(comparison),
    }
    parts = [
        {**whole, **_segment_values(part, comparison.window_weeks)} for part in comparison.segments
    ]
    return [whole, *parts]


def _segment_values(part: SegmentComparison, window_weeks: int) -> dict[str, Any]:
    return {
        "segment_name": part.segment.name,
        "segment_value": part.segment.value,
        "pairs": part.pairs,
        "window_weeks": window_weeks,
        "wins": part.wins,
        "ties": part.ties,
        "losses": part.losses,
        **_bounds("quality_delta", part.quality_delta),
        **_bounds("saving", part.saving),
        **_bounds("value_ratio", part.value_ratio),
        **_bounds("success_delta", None),
        **_money_bounds("monthly_saving", None),
        "latency_p50_ratio": None,
        "latency_p95_ratio": None,
        "verdict": None,
        "state": None,
        "verdict_reasons": [],
        "caveats": [],
        "is_worse": part.is_worse,
        "tests": {},
        "estimates": _estimates(part),
    }


def _bounds(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    return {
        name: estimate.point if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
    }


def _money_bounds(name: str, estimate: Estimate | None) -> dict[str, Decimal | None]:
    return {
        f"{name}_usd": _money(estimate.point) if estimate else None,
        f"{name}_low_usd": _money(estimate.low) if estimate else None,
        f"{name}_high_usd": _money(estimate.high) if estimate else None,
    }


def _money(value: float) -> Decimal:
    return Decimal(format(value, ".12g"))


def _point(estimate: Estimate | None) -> float | None:
    return estimate.point if estimate else None


def _estimates(holder: Summary | Comparison | SegmentComparison) -> dict[str, Any]:
    """Every Estimate of the holder with interval, confidence and n."""
    return {
        name: plain(asdict(value))
        for name in holder.__dataclass_fields__
        if isinstance(value := getattr(holder, name), Estimate)
    }
