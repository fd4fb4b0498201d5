"""The views of schema `switchwise_bi`: stable, free of prompt text, for SQL users.

Columns are only ever appended. A changed view needs a new migration (it may be empty): views are
made anew whenever a migration was applied.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from app.storage.tables import BI_SCHEMA

READER_ROLE = "switchwise_reader"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewColumn:
    """A column of a view: its name, its SQL type and what it tells."""

    name: str
    kind: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view and what it is for."""

    name: str
    comment: str
    columns: tuple[ViewColumn, ...]
    query: str


def create_statements() -> Iterator[str]:
    """Every statement that makes the views, with their comments, in order."""
    for view in VIEWS:
        names = ", ".join(f'"{column.name}"' for column in view.columns)
        yield f"CREATE OR REPLACE VIEW {BI_SCHEMA}.{view.name} ({names}) AS {view.query.strip()}"
        yield f"COMMENT ON VIEW {BI_SCHEMA}.{view.name} IS {_literal(view.comment)}"
        for column in view.columns:
            yield (
                f'COMMENT ON COLUMN {BI_SCHEMA}.{view.name}."{column.name}" '
                f"IS {_literal(column.comment)}"
            )


def grant_statements() -> tuple[str, ...]:
    """What lets the reader role read the views."""
    return (
        f"GRANT USAGE ON SCHEMA {BI_SCHEMA} TO {READER_ROLE}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {BI_SCHEMA} TO {READER_ROLE}",
    )


def views_digest() -> str:
    """Changes whenever a view does; the newest migration names it."""
    return hashlib.sha256("\n".join(create_statements()).encode()).hexdigest()[:16]


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _columns(*lines: str) -> tuple[ViewColumn, ...]:
    """Columns from lines of `name | type | comment`."""
    parts = [[part.strip() for part in line.split("|")] for line in lines]
    return tuple(ViewColumn(name=n, kind=k, comment=c) for n, k, c in parts)


_PLAN = "plan_name | text | Plan"
_RUN = "run_id | uuid | Run"
_FINISHED = "finished_at | timestamp with time zone | When the Run finished"
_LATEST = (
    "is_latest | boolean | Whether it is of the plan's newest complete Run, Runs by hand apart"
)
_SEGMENT = (
    "segment_name | text | Segment, 'all' for the whole traffic",
    "segment_value | text | Value of the segment, '' for 'all'",
)

#: The complete Run of each plan's newest slot. Runs by hand are of no slot, and a slot that was
#: filled in later (`as_of`) stays as old as it is.
_LATEST_RUN = """
    r.run_id IS NOT DISTINCT FROM (
        SELECT l.run_id FROM switchwise.runs l
        WHERE l.plan_name = r.plan_name AND l.status = 'done' AND l.trigger <> 'hand'
        ORDER BY l.slot_at DESC, l.finished_at DESC, l.run_id DESC LIMIT 1
    )"""

_RUNS = View(
    name="runs",
    comment="One line per Run of a plan, whatever became of it",
    columns=_columns(
        _RUN,
        _PLAN,
        "slot_at | timestamp with time zone | Slot of the schedule (by hand: when asked for)",
        "started_at | timestamp with time zone | When work began",
        _FINISHED,
        "duration_seconds | double precision | Seconds from start to finish",
        "status | text | due, running, done, partial, failed, skipped or missed",
        "triggered_by | text | schedule, hand or as_of",
        "cases_requested | integer | Logged rows asked for",
        "cases_sampled | integer | Cases drawn, exact duplicates folded, anchors left out",
        "cases_skipped | integer | Logged rows met that cannot be replayed",
        "cost_usd | numeric | Spent on the primary and the candidates; the judge is apart",
        "judge_cost_usd | numeric | Spent on the judge",
        "config_hash | text | Digest of the configuration: a change breaks trends",
        "app_version | text | Version of the program",
        "error_code | text | Why it is not done",
        "is_latest | boolean | Whether it is the plan's newest complete Run, Runs by hand apart",
    ),
    query=f"""
SELECT r.run_id, r.plan_name, r.slot_at, r.started_at, r.finished_at,
    extract(epoch FROM r.finished_at - r.started_at)::double precision,
    r.status, r.trigger, r.cases_requested, r.cases_sampled,
    (SELECT coalesce(sum(s.value::integer), 0)::integer FROM jsonb_each_text(r.skipped) s),
    coalesce(b.replay_usd, a.replay_usd, 0), coalesce(b.judge_usd, a.judge_usd, 0),
    r.config_hash, r.app_version, r.error_code, {_LATEST_RUN}
FROM switchwise.runs r
LEFT JOIN LATERAL (
    SELECT sum(cost_usd) FILTER (WHERE purpose = 'replay') AS replay_usd,
        sum(cost_usd) FILTER (WHERE purpose = 'judge') AS judge_usd
    FROM switchwise.attempts WHERE run_id = r.run_id
) a ON true
LEFT JOIN LATERAL (
    SELECT (results #>> '{{spend,models_usd}}')::numeric AS replay_usd,
        (results #>> '{{spend,judge_usd}}')::numeric AS judge_usd
    FROM switchwise.benchmark_results
    WHERE run_id = r.run_id AND r.status NOT IN ('due', 'running')
) b ON true""",
)

_MODEL_COLUMNS = (
    _FINISHED,
    _LATEST,
    "config_hash | text | Digest of the configuration: a change breaks trends",
    _RUN,
    _PLAN,
    "model_name | text | Label of the model",
    "model | text | Id sent to the endpoint",
    "role | text | primary or candidate",
    *_SEGMENT,
    "cases | integer | Cases the model was run on",
    "successes | integer | Successful responses",
    "quality | double precision | Mean quality, 0 to 1",
    "quality_low | double precision | Lower end of its 95 % interval",
    "quality_high | double precision | Upper end of its 95 % interval",
    "success_rate | double precision | Share of successful responses",
    "cost_per_success_usd | numeric | Spend on all Attempts per successful response",
    "cost_per_1k_usd | numeric | Spend per 1,000 requests",
    "cost_per_quality_usd | numeric | Spend per quality point",
    "cost_per_quality_low_usd | numeric | Lower end of its 95 % interval",
    "cost_per_quality_high_usd | numeric | Upper end of its 95 % interval",
    "ttft_p50_seconds | double precision | Time to first token, median",
    "ttft_p95_seconds | double precision | Time to first token, 95th percentile",
    "latency_p50_seconds | double precision | Latency, median",
    "latency_p95_seconds | double precision | Latency, 95th percentile",
    "attempts | integer | HTTP calls made",
    "retries | integer | HTTP calls beyond the first of each Case",
    "spend_usd | numeric | Money spent on all Attempts",
)

_MODEL_RESULTS = View(
    name="model_results",
    comment="A model's figures in one Run, per segment",
    columns=_columns(*_MODEL_COLUMNS),
    query=f"""
SELECT r.finished_at, {_LATEST_RUN}, r.config_hash, r.run_id, r.plan_name,
    m.model_name, m.model, m.role, m.segment_name, m.segment_value, m.cases, m.successes,
    m.quality, m.quality_low, m.quality_high, m.success_rate,
    m.cost_per_success_usd, m.cost_per_1k_usd,
    m.cost_per_quality_usd, m.cost_per_quality_low_usd, m.cost_per_quality_high_usd,
    m.ttft_p50_seconds, m.ttft_p95_seconds, m.latency_p50_seconds, m.latency_p95_seconds,
    m.attempts, m.retries, m.spend_usd
FROM switchwise.model_results m JOIN switchwise.runs r USING (run_id)""",
)

_LEADERBOARD = View(
    name="leaderboard",
    comment="Every model in its plan's newest complete Run, Runs by hand apart, best cost per "
    "quality point first",
    columns=_columns(*_MODEL_COLUMNS),
    query=f"""
SELECT * FROM {BI_SCHEMA}.model_results
WHERE is_latest AND segment_name = 'all'
ORDER BY plan_name, cost_per_quality_usd""",
)

_COMPARISONS = View(
    name="comparisons",
    comment="A candidate against the primary on the verdict's window, per segment",
    columns=_columns(
        _FINISHED,
        _LATEST,
        _RUN,
        _PLAN,
        "candidate_name | text | Label of the candidate",
        "primary_name | text | Label of the primary",
        *_SEGMENT,
        "pairs | integer | Cases of the window that both models were run on",
        "window_weeks | integer | Weeks in the window",
        "wins | integer | Pairs in which the candidate's quality is higher",
        "ties | integer | Pairs of equal quality",
        "losses | integer | Pairs in which the primary's quality is higher",
        "quality_delta | double precision | Candidate's quality less the primary's",
        "quality_delta_low | double precision | Lower end of its 95 % interval",
        "quality_delta_high | double precision | Upper end of its 95 % interval",
        "saving | double precision | 1 less the ratio of mean costs: the bill",
        "saving_low | double precision | Lower end of its 95 % interval",
        "saving_high | double precision | Upper end of its 95 % interval",
        "value_ratio | double precision | Ratio of costs per quality point",
        "value_ratio_low | double precision | Lower end of its 95 % interval",
        "value_ratio_high | double precision | Upper end of its 95 % interval",
        "monthly_saving_usd | numeric | Saving at the logged volume of 30 days",
        "latency_p95_ratio | double precision | Ratio of 95th percentiles of latency",
        "verdict | text | switch, watch, keep, worse, dearer, slower, unreliable, undecided or "
        "unmeasured; null for segments",
        "state | text | quiet, watch, alert or resolved; null for segments",
        "verdict_reasons | text[] | Why, in sentences",
    ),
    query=f"""
SELECT r.finished_at, {_LATEST_RUN}, r.run_id, r.plan_name,
    c.candidate_name, c.primary_name, c.segment_name, c.segment_value,
    c.pairs, c.window_weeks, c.wins, c.ties, c.losses,
    c.quality_delta, c.quality_delta_low, c.quality_delta_high,
    c.saving, c.saving_low, c.saving_high,
    c.value_ratio, c.value_ratio_low, c.value_ratio_high,
    c.monthly_saving_usd, c.latency_p95_ratio, c.verdict, c.state, c.verdict_reasons
FROM switchwise.comparisons c JOIN switchwise.runs r USING (run_id)""",
)

_CASE_SCORES = View(
    name="case_scores",
    comment="Every evaluator's word on every reply; a reply nobody scored has one line",
    columns=_columns(
        _RUN,
        "case_id | uuid | Case",
        "source_id | text | Id of the logged row",
        "segments | jsonb | Segments of the row",
        "is_anchor | boolean | Whether the Case is repeated from earlier weeks",
        "model_name | text | Label of the model that answered",
        "evaluator | text | Label of the evaluator",
        "evaluator_version | text | Version of the evaluator",
        "judge_model | text | Label of the judge; null for deterministic evaluators",
        "is_gate | boolean | Whether a failure makes the response unsuccessful",
        "score | double precision | 0 to 1; null when unscored",
        "is_passed | boolean | For gates, whether the reply passed",
        "ttft_seconds | double precision | Time to first token",
        "latency_seconds | double precision | Latency of the final Attempt",
        "input_tokens | integer | Uncached input tokens of the final Attempt",
        "output_tokens | integer | Output tokens of the final Attempt",
        "cost_usd | numeric | Spent on all Attempts of the model on the Case",
        "failure_class | text | Why the response is unsuccessful, gates aside",
    ),
    query="""
SELECT f.run_id, f.case_id, c.source_id, c.segments, c.is_anchor, f.model_name,
    s.evaluator, s.evaluator_version, s.judge_model, s.is_gate, s.score, s.is_passed,
    f.ttft_seconds, f.latency_seconds, f.input_tokens, f.output_tokens,
    f.spent_usd, f.failure_class
FROM (
    SELECT DISTINCT ON (a.run_id, a.case_id, a.model_name) a.*,
        sum(a.cost_usd) OVER (PARTITION BY a.run_id, a.case_id, a.model_name) AS spent_usd
    FROM switchwise.attempts a
    WHERE a.purpose = 'replay'
    ORDER BY a.run_id, a.case_id, a.model_name, a.is_final DESC, a.attempt_no DESC
) f
JOIN switchwise.cases c ON c.case_id = f.case_id
LEFT JOIN switchwise.scores s
    ON s.run_id = f.run_id AND s.case_id = f.case_id AND s.model_name = f.model_name
WHERE f.is_final""",
)

_ATTEMPTS = View(
    name="attempts",
    comment="Every HTTP call that was made",
    columns=_columns(
        "attempt_id | uuid | Key of the Attempt",
        _RUN,
        _PLAN,
        "case_id | uuid | Case it is for",
        "model_name | text | Label of the model that was called",
        "model | text | Id sent to the endpoint",
        "purpose | text | replay or judge",
        "attempt_no | integer | Number within the call, from 1",
        "state | text | sent, settled, or ambiguous: possibly paid",
        "is_final | boolean | Whether it is the call's last Attempt",
        "sent_at | timestamp with time zone | When it was journaled, just before it was sent",
        "settled_at | timestamp with time zone | When its end was stored",
        "stop_reason | text | Why the model stopped",
        "failure_class | text | Why the response is unsuccessful",
        "http_status | integer | HTTP status of a failed call",
        "request_id | text | Request id given by the endpoint",
        "input_tokens | integer | Uncached input tokens",
        "output_tokens | integer | Output tokens, thinking included",
        "cache_read_tokens | integer | Input tokens read from the provider's cache",
        "cache_write_tokens | integer | Input tokens written to the provider's cache",
        "thinking_tokens | integer | The part of the output spent on thinking",
        "ttft_seconds | double precision | First byte sent to first content",
        "latency_seconds | double precision | First byte sent to last byte received",
        "reserved_usd | numeric | Upper bound of its cost, charged until it settles",
        "cost_usd | numeric | Money spent; null while open and when unknown",
    ),
    query="""
SELECT attempt_id, run_id, plan_name, case_id, model_name, model, purpose, attempt_no, state,
    is_final, sent_at, settled_at, stop_reason, failure_class, http_status, request_id,
    input_tokens, output_tokens, cache_read_tokens,
    cache_write_5m_tokens + cache_write_1h_tokens, thinking_tokens,
    ttft_seconds, latency_seconds, reserved_usd, cost_usd
FROM switchwise.attempts""",
)

_DRIFT = View(
    name="drift",
    comment="What moved since earlier weeks, one line per cause",
    columns=_columns(
        _RUN,
        _PLAN,
        _FINISHED,
        _LATEST,
        "cause | text | traffic, primary, judge or price",
        "change | double precision | Change in mean quality (price: in mean cost)",
        "change_low | double precision | Lower end of its 95 % interval",
        "change_high | double precision | Upper end of its 95 % interval",
        "observations | integer | Observations behind it",
    ),
    query=f"""
SELECT r.run_id, r.plan_name, r.finished_at, {_LATEST_RUN}, c.cause,
    (r.drift #>> ARRAY[c.cause, 'point'])::double precision,
    (r.drift #>> ARRAY[c.cause, 'low'])::double precision,
    (r.drift #>> ARRAY[c.cause, 'high'])::double precision,
    (r.drift #>> ARRAY[c.cause, 'n'])::integer
FROM switchwise.runs r
CROSS JOIN (VALUES ('traffic'), ('primary'), ('judge'), ('price')) AS c (cause)
WHERE jsonb_typeof(r.drift -> c.cause) = 'object'""",
)

_JUDGES = View(
    name="judges",
    comment="How far the judge could be believed in each Run that used one",
    columns=_columns(
        _RUN,
        _PLAN,
        _FINISHED,
        _LATEST,
        "judge_models | text[] | Labels of the judges",
        "judged | integer | Replies judged",
        "unscored_rate | double precision | Share of them without a score",
        "canaries | integer | Gradings of known replies",
        "canaries_right | integer | Those on the right side",
        "is_trusted | boolean | False: the Run's verdicts are unmeasured",
        "agreement | double precision | Panels: share of replies all judges gave the same level",
        "repeat_agreement | double precision | Share of repeated judgements with the same grade",
        "order_consistency | double precision | Share of preferences that survived a swap",
        "length_correlation | double precision | Of score and length: verbosity bias",
        "labelled_replies | integer | Replies that people have labelled for this judge version",
        "stale_labels | integer | Labelled replies that another judge version scored",
        "kappa | double precision | Weighted kappa of judge and people",
        "kappa_low | double precision | Lower end of its 95 % interval",
        "kappa_high | double precision | Upper end of its 95 % interval",
        "spearman | double precision | Rank correlation of judge and people",
        "spearman_low | double precision | Lower end of its 95 % interval",
        "spearman_high | double precision | Upper end of its 95 % interval",
        "warnings | text[] | What to know before believing the scores",
    ),
    query=f"""
SELECT r.run_id, r.plan_name, r.finished_at, {_LATEST_RUN},
    ARRAY(SELECT jsonb_array_elements_text(r.judge -> 'models')),
    (r.judge ->> 'judged')::integer, (r.judge ->> 'unscored_rate')::double precision,
    (r.judge ->> 'canaries')::integer, (r.judge ->> 'canaries_right')::integer,
    (r.judge ->> 'is_trusted')::boolean,
    (r.judge #>> '{{agreement,point}}')::double precision,
    (r.judge ->> 'repeat_agreement')::double precision,
    (r.judge ->> 'order_consistency')::double precision,
    (r.judge #>> '{{length_correlation,point}}')::double precision,
    (r.judge #>> '{{human,replies}}')::integer, (r.judge #>> '{{human,stale}}')::integer,
    (r.judge #>> '{{human,kappa,point}}')::double precision,
    (r.judge #>> '{{human,kappa,low}}')::double precision,
    (r.judge #>> '{{human,kappa,high}}')::double precision,
    (r.judge #>> '{{human,spearman,point}}')::double precision,
    (r.judge #>> '{{human,spearman,low}}')::double precision,
    (r.judge #>> '{{human,spearman,high}}')::double precision,
    ARRAY(SELECT jsonb_array_elements_text(r.judge -> 'warnings'))
FROM switchwise.runs r
WHERE jsonb_array_length(r.judge -> 'models') > 0""",
)

_LABELS = View(
    name="labels",
    comment="People's scores of replies, to calibrate the judge",
    columns=_columns(
        _RUN,
        _PLAN,
        "case_id | uuid | Case that was answered",
        "model_name | text | Label of the model that answered",
        "score | double precision | A person's score, 0 to 1",
        "labelled_at | timestamp with time zone | When it was stored",
        "judge_version | text | Version of the judge whose score it is compared with",
    ),
    query="""
SELECT run_id, plan_name, case_id, model_name, score, labelled_at, judge_version
FROM switchwise.labels""",
)

_ALERTS = View(
    name="alerts",
    comment="Findings over time: opened, acknowledged, resolved",
    columns=_columns(
        "alert_id | bigint | Key of the alert",
        _PLAN,
        "key | text | Deduplication key, such as PLAN/switch:NAME",
        "kind | text | switch, regressed or run",
        "title | text | Title of its latest message",
        "is_open | boolean | Whether it is not resolved",
        "opened_at | timestamp with time zone | When it was opened",
        "last_sent_at | timestamp with time zone | When its latest message was composed",
        "acknowledged_at | timestamp with time zone | When it was acknowledged",
        "acknowledged_until | timestamp with time zone | Until when; null: for good",
        "acknowledged_reason | text | Why, in the operator's words",
        "resolved_at | timestamp with time zone | When it was closed",
        "run_id | uuid | Run that last touched it",
    ),
    query="""
SELECT alert_id, plan_name, key, kind, title, resolved_at IS NULL, opened_at, last_sent_at,
    acknowledged_at, acknowledged_until, acknowledged_reason, resolved_at, run_id
FROM switchwise.alerts""",
)

_BENCHMARK_RESULTS = View(
    name="benchmark_results",
    comment="One immutable document per Run: what `switchwise report --json` prints",
    columns=_columns(
        "benchmark_result_id | bigint | Key of the document",
        _RUN,
        _PLAN,
        "timestamp | timestamp with time zone | When the Run finished",
        "results | jsonb | The document",
    ),
    query="""
SELECT b.benchmark_result_id, b.run_id, r.plan_name, b.timestamp, b.results
FROM switchwise.benchmark_results b JOIN switchwise.runs r USING (run_id)""",
)

VIEWS = (
    _RUNS,
    _MODEL_RESULTS,
    _LEADERBOARD,
    _COMPARISONS,
    _CASE_SCORES,
    _ATTEMPTS,
    _DRIFT,
    _JUDGES,
    _LABELS,
    _ALERTS,
    _BENCHMARK_RESULTS,
)
