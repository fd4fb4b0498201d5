"""The tables of schema `switchwise`, as migrations must leave them."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

SCHEMA = "switchwise"
#: Views for SQL users; owned by the same migrations.
BI_SCHEMA = "switchwise_bi"
#: The queue's own tables; never touched by our migrations.
QUEUE_SCHEMA = "switchwise_queue"

METADATA = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)


def _column(name: str, kind: Any, comment: str, *extra: Any, null: bool = False) -> Column[Any]:
    return Column(name, kind, *extra, nullable=null, comment=comment)


def _text(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, Text, comment, null=null)


def _uuid(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, UUID(as_uuid=False), comment, null=null)


def _int(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, Integer, comment, null=null)


def _float(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, Double, comment, null=null)


def _money(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, Numeric, comment, null=null)


def _flag(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, Boolean, comment, null=null)


def _time(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, DateTime(timezone=True), comment, null=null)


def _json(name: str, comment: str, *, null: bool = False) -> Column[Any]:
    return _column(name, JSONB(none_as_null=True), comment, null=null)


def _run() -> Column[Any]:
    key = ForeignKey("runs.run_id", ondelete="CASCADE")
    return _column("run_id", UUID(as_uuid=False), "The Run it belongs to", key)


def _estimate(name: str, what: str, *, money: bool = False) -> tuple[Column[Any], ...]:
    """Three columns: the point and its 95 % interval."""
    kind = _money if money else _float
    stem, unit = (name.removesuffix("_usd"), "_usd") if money else (name, "")
    return (
        kind(name, f"{what}; null when it cannot be had", null=True),
        kind(f"{stem}_low{unit}", f"{what}: lower end of the 95 % interval", null=True),
        kind(f"{stem}_high{unit}", f"{what}: upper end of the 95 % interval", null=True),
    )


def _segment() -> tuple[Column[Any], ...]:
    return (
        _text("segment_name", "Name of the segment; 'all' is the whole traffic"),
        _text("segment_value", "Value of the segment; '' for 'all'"),
    )


PLANS = Table(
    "plans",
    METADATA,
    _text("plan_name", "Name of the plan: its key everywhere"),
    _time("created_at", "When the plan was first seen"),
    _text("config_hash", "Digest of its latest configuration"),
    _text("timezone", "Time zone of its slots and of its monthly cap"),
    PrimaryKeyConstraint("plan_name"),
    comment="Plans that have run; the row is locked to begin and to finish a Run",
)

RUNS = Table(
    "runs",
    METADATA,
    _uuid("run_id", "Key of the Run"),
    _column(
        "plan_name", Text, "Plan it executes", ForeignKey("plans.plan_name", ondelete="CASCADE")
    ),
    _text("trigger", "What asked for it: schedule, hand or as_of"),
    _text("status", "due, running, done, partial, failed, skipped or missed"),
    _text("slot_key", "Local date and time of the slot; for Runs by hand a key of their own"),
    _time("slot_at", "Instant of the slot"),
    _flag("closes_week", "Whether it is the last slot of its ISO week"),
    _text("iso_week", "ISO week of the slot's local date, such as 2026-W13"),
    _column("seed", BigInteger, "Seed of every random choice of the Run"),
    _time("created_at", "When the row was inserted"),
    _time("started_at", "When work first began", null=True),
    _time("finished_at", "When it reached its final status", null=True),
    _time("window_start", "Start of the sampled window, included", null=True),
    _time("window_end", "End of the sampled window, not included", null=True),
    _int("cases_requested", "Logged rows asked for"),
    _int("cases_sampled", "Cases drawn, exact duplicates folded, anchors left out"),
    _int("drawn", "Replayable logged rows drawn, duplicates counted"),
    _column("frame", BigInteger, "Logged rows in the window"),
    _json("skipped", "Rows met and not replayed: {reason: count}"),
    _float(
        "mean_logged_output_tokens", "Mean output tokens of the drawn rows, as logged", null=True
    ),
    _float("replayable", "About how many rows logged in the window can be replayed", null=True),
    _text("config_hash", "Digest of the configuration it ran with"),
    _text("app_version", "Version of the program"),
    _text("error_code", "Why it is not done: a short code", null=True),
    _text("error_message", "Why it is not done: a sentence", null=True),
    _text("owner", "Who works on it", null=True),
    _time("lease_until", "When that claim runs out", null=True),
    _int("restarts", "How often it was begun again without progress"),
    _int("progress_mark", "Settled Attempts when it was last begun"),
    _json(
        "caps", "What it may spend: per_run_usd, per_month_usd, timezone of the month", null=True
    ),
    _json("frozen", "Configuration without secrets, policy, evaluator versions and prices"),
    _json("judge", "How far the judge can be believed", null=True),
    _json("drift", "What moved since earlier weeks", null=True),
    _json("adaptive", "What adaptive spending left out and saved", null=True),
    PrimaryKeyConstraint("run_id"),
    UniqueConstraint("plan_name", "slot_key"),
    CheckConstraint(
        "status IN ('due', 'running', 'done', 'partial', 'failed', 'skipped', 'missed')",
        name="status",
    ),
    CheckConstraint("trigger IN ('schedule', 'hand', 'as_of')", name="trigger"),
    Index("ix_runs_plan_name_slot_at", "plan_name", "slot_at"),
    Index(
        "uq_runs_one_active",
        "plan_name",
        unique=True,
        postgresql_where=text("status = 'running'"),
    ),
    comment="One execution of a plan for one slot or by hand",
)

CASES = Table(
    "cases",
    METADATA,
    _uuid("case_id", "Key of the Case"),
    _run(),
    _text("source_id", "Id of the logged row"),
    _int("ordinal", "Position in the Sample, from 0"),
    _int("block", "Block of Cases it is worked in, from 0"),
    _float("weight", "Share of the traffic it stands for; 0 for anchors"),
    _int("copies", "Drawn rows it stands for (exact duplicates folded)"),
    _text("stratum", "Stratum it was drawn from; '' when the draw was uniform"),
    _text("conversation", "Logged conversation, where known", null=True),
    _json("segments", "Segments of the row: {name: value}"),
    _flag("is_anchor", "Whether it is repeated from earlier weeks"),
    _uuid("anchor_of", "For an anchor, the Case of its first appearance", null=True),
    _flag("is_later_turn", "Whether the conversation already holds an assistant's words"),
    _text("prompt_hash", "Digest of the whole prompt"),
    _time("logged_at", "When the row was logged", null=True),
    _json("body", "Prompt, reference and logged reply; null when not stored or pruned", null=True),
    PrimaryKeyConstraint("case_id"),
    Index(None, "run_id", "ordinal"),
    comment="Logged prompts drawn for a Run",
)

LOG_PAGES = Table(
    "log_pages",
    METADATA,
    _run(),
    _text("listing", "Digest of what is listed: source, window, columns"),
    _int("page_no", "Number of the page, from 1"),
    _text("next_cursor", "Where the next page begins, as JSON; null after the last", null=True),
    _text("records", "Ids, times and segments of its rows, as JSON; no bodies"),
    _time("listed_at", "When it was listed"),
    PrimaryKeyConstraint("run_id", "listing", "page_no"),
    comment="Listings of remote logs under way; gone once the Run's sample is committed",
)

SHARDS = Table(
    "shards",
    METADATA,
    _run(),
    _int("shard_no", "Number within the Run, from 0"),
    _int("block", "Block of Cases it belongs to"),
    _column("models", ARRAY(Text), "Contestants called for its Cases"),
    _column("case_ids", ARRAY(UUID(as_uuid=False)), "Its Cases"),
    _int("fence", "Generation of its owner; writes of older ones are refused"),
    _text("owner", "Who works on it", null=True),
    _time("claimed_at", "When its owner took it", null=True),
    _flag("is_done", "Whether all its calls and scores are stored"),
    _time("done_at", "When it was done", null=True),
    PrimaryKeyConstraint("run_id", "shard_no"),
    comment="A few Cases with all their models, worked by one owner at a time",
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    _uuid("attempt_id", "Key of the Attempt"),
    _run(),
    _int("shard_no", "Shard it was made in"),
    _int("fence", "Fence under which it was sent"),
    _text("plan_name", "Plan it is charged to"),
    _uuid("case_id", "Case it is for"),
    _text("model_name", "Label of the model that was called"),
    _text("model", "Id sent to the endpoint"),
    _text("purpose", "replay or judge"),
    _text("call_key", "What the call is for within its Case"),
    _int("attempt_no", "Number within the call, from 1"),
    _text("state", "sent, settled, or ambiguous: sent by an owner that vanished"),
    _money("reserved_usd", "Upper bound of its cost, charged to the caps until it settles"),
    _money("cost_usd", "Money spent; null while open and when unknown", null=True),
    _json("price", "Rates used"),
    _time("sent_at", "When it was journaled, just before it was sent"),
    _time("settled_at", "When its end was stored", null=True),
    _flag("is_final", "Whether it is the call's last Attempt"),
    _text("stop_reason", "Why the model stopped", null=True),
    _text("failure_class", "Why the response is unsuccessful", null=True),
    _int("http_status", "HTTP status of a failed call", null=True),
    _text("error", "Why it failed, for operators; no prompt text", null=True),
    _text("request_id", "Request id given by the endpoint", null=True),
    _int("input_tokens", "Uncached input tokens", null=True),
    _int("output_tokens", "Output tokens, thinking included", null=True),
    _int("cache_read_tokens", "Input tokens read from the provider's cache", null=True),
    _int("cache_write_5m_tokens", "Input tokens written to the five-minute cache", null=True),
    _int("cache_write_1h_tokens", "Input tokens written to the one-hour cache", null=True),
    _int("thinking_tokens", "The part of the output spent on thinking", null=True),
    _float("ttft_seconds", "First byte sent to first content", null=True),
    _float("latency_seconds", "First byte sent to last byte received", null=True),
    _float(
        "felt_latency_seconds", "On the final Attempt: what a caller would have felt", null=True
    ),
    _money("reported_cost_usd", "Cost as the gateway reported it", null=True),
    _text("reply_hash", "Digest of the reply", null=True),
    _json("reply", "Text and tool calls; null when not stored or pruned", null=True),
    PrimaryKeyConstraint("attempt_id"),
    CheckConstraint("state IN ('planned', 'sent', 'settled', 'ambiguous')", name="state"),
    CheckConstraint("purpose IN ('replay', 'judge')", name="purpose"),
    Index(None, "run_id", "case_id"),
    Index(None, "plan_name", "sent_at"),
    comment="The journal: every HTTP call, written before it was sent",
)

SCORES = Table(
    "scores",
    METADATA,
    _run(),
    _uuid("case_id", "Case that was answered"),
    _text("model_name", "Label of the model that answered"),
    _text("evaluator", "Label of the evaluator"),
    _float("score", "0 to 1; null when unscored", null=True),
    _text("unscored_reason", "Why there is no score", null=True),
    _text("reason", "The evaluator's reason; prunable", null=True),
    _json("detail", "What the evaluator noted"),
    _text("evaluator_version", "Version of the evaluator"),
    _text("judge_model", "Label of the judge; null for deterministic evaluators", null=True),
    _flag("is_gate", "Whether a failure makes the response unsuccessful"),
    _flag("is_passed", "For gates, whether the reply passed", null=True),
    _float("weight", "Weight in the quality of the reply; 0 for gates"),
    _time("scored_at", "When it was stored"),
    Index(
        "uq_scores_once",
        *("run_id", "case_id", "model_name", "evaluator"),
        text("coalesce(judge_model, '')"),
        unique=True,
    ),
    CheckConstraint("score BETWEEN 0 AND 1", name="score_range"),
    CheckConstraint("(score IS NULL) <> (unscored_reason IS NULL)", name="scored_or_not"),
    comment="What every evaluator said of every reply",
)

LEDGER = Table(
    "ledger",
    METADATA,
    _text("plan_name", "Plan that is charged"),
    _text("period", "run:UUID or month:YYYY-MM in the plan's time zone"),
    _money("reserved_usd", "Reservations of calls that have not settled with a known cost"),
    _money("spent_usd", "Costs of settled calls"),
    PrimaryKeyConstraint("plan_name", "period"),
    comment="Money reserved and spent per Run and month; can be recomputed from attempts",
)

ENDPOINT_PACE = Table(
    "endpoint_pace",
    METADATA,
    _text("endpoint", "Digest of the endpoint, without secrets"),
    _time("next_at", "When its next call may leave, by the database's clock"),
    PrimaryKeyConstraint("endpoint"),
    comment="Spacing of calls per endpoint that has a rate, shared by all processes",
)

WORKER_PLACES = Table(
    "worker_places",
    METADATA,
    _text("worker", "Name of the worker's process"),
    _text("what", "Digest of a queue or of an endpoint"),
    _time("joined_at", "When it joined, by the database's clock"),
    _time("seen_at", "When it last said that it lives, by the database's clock"),
    PrimaryKeyConstraint("what", "worker"),
    comment="Live workers of every queue and endpoint, which share its slots",
)

MODEL_RESULTS = Table(
    "model_results",
    METADATA,
    _run(),
    _text("model_name", "Label of the model"),
    _text("model", "Id sent to the endpoint"),
    _text("role", "primary or candidate"),
    *_segment(),
    _int("cases", "Cases the model was run on"),
    _int("successes", "Successful responses"),
    _int("unscored", "Responses without a score"),
    *_estimate("quality", "Mean quality, 0 to 1"),
    *_estimate("success_rate", "Share of successful responses"),
    *_estimate("cost_per_success_usd", "Spend per successful response", money=True),
    *_estimate("cost_per_1k_usd", "Spend per 1,000 requests", money=True),
    *_estimate("cost_per_quality_usd", "Spend per quality point", money=True),
    *(
        _float(f"{what}_p{percent}_seconds", f"{label}, {percent}th percentile", null=True)
        for what, label in (
            ("ttft", "Time to first token"),
            ("latency", "Latency of the successful Attempt"),
            ("felt_latency", "Latency with retries"),
        )
        for percent in (50, 95, 99)
    ),
    _int("attempts", "HTTP calls made"),
    _int("retries", "HTTP calls beyond the first of each Case"),
    _money("spend_usd", "Money spent on all Attempts"),
    _int("unknown_cost", "Cases whose cost is unknown"),
    _json("failures", "Unsuccessful responses: {class: count}"),
    _text("pattern", "What the figures suggest, in a sentence", null=True),
    _float("largest_call_share", "Share of the dearest call in the spend", null=True),
    _json("estimates", "Every estimate with interval, confidence and n"),
    PrimaryKeyConstraint("run_id", "model_name", "segment_name", "segment_value"),
    comment="A model's figures in one Run, per segment",
)

COMPARISONS = Table(
    "comparisons",
    METADATA,
    _run(),
    _text("candidate_name", "Label of the candidate"),
    _text("primary_name", "Label of the primary"),
    *_segment(),
    _int("pairs", "Pairs in the verdict's window"),
    _int("window_weeks", "Weeks in the verdict's window"),
    _int("wins", "Pairs in which the candidate's quality is higher"),
    _int("ties", "Pairs of equal quality"),
    _int("losses", "Pairs in which the primary's quality is higher"),
    *_estimate("quality_delta", "Candidate's quality less the primary's"),
    *_estimate("saving", "1 less the ratio of mean costs: the bill"),
    *_estimate("value_ratio", "Ratio of costs per quality point"),
    *_estimate("success_delta", "Candidate's success rate less the primary's"),
    *_estimate("monthly_saving_usd", "Saving at the logged volume of 30 days", money=True),
    _float("latency_p50_ratio", "Ratio of median latencies", null=True),
    _float("latency_p95_ratio", "Ratio of 95th percentiles of latency", null=True),
    _text("verdict", "What is said of the candidate; null for segments", null=True),
    _text("state", "Where it stands over weeks; null for segments", null=True),
    _column("verdict_reasons", ARRAY(Text), "Why, in sentences"),
    _column("caveats", ARRAY(Text), "What to mind before acting"),
    _flag("is_worse", "For segments, whether the candidate certainly loses here"),
    _text("epoch", "Digest of what must stay the same for evidence to be pooled", null=True),
    _text("epoch_reason", "Why a new epoch began", null=True),
    _json("tests", "Every test of the policy with its figures"),
    _json("estimates", "Every estimate with interval, confidence and n"),
    PrimaryKeyConstraint("run_id", "candidate_name", "segment_name", "segment_value"),
    comment="A candidate against the primary on the verdict's window, per segment",
)

EVIDENCE = Table(
    "evidence",
    METADATA,
    _text("plan_name", "Plan"),
    _text("primary_name", "Label of the primary"),
    _text("candidate_name", "Label of the candidate"),
    _text("iso_week", "ISO week of the slots merged here"),
    _text("epoch", "Digest of what must stay the same for evidence to be pooled"),
    _json("identity", "What the epoch covers"),
    _column("run_ids", ARRAY(UUID(as_uuid=False)), "Runs merged here"),
    _json("evidence", "Sufficient statistics of the week"),
    _json("segments", "The same per segment"),
    _json("primary_price", "Rates of the primary it was computed with"),
    _json("candidate_price", "Rates of the candidate it was computed with"),
    _time("updated_at", "When it was last written"),
    PrimaryKeyConstraint("plan_name", "primary_name", "candidate_name", "iso_week", "epoch"),
    comment="Sufficient statistics of one candidate-week that later weeks pool",
)

CANDIDATE_STATES = Table(
    "candidate_states",
    METADATA,
    _text("plan_name", "Plan"),
    _text("primary_name", "Label of the primary"),
    _text("candidate_name", "Label of the candidate"),
    _text("epoch", "Epoch the state belongs to"),
    _text("state", "quiet, watch, alert or resolved"),
    _text("iso_week", "Week it was last decided"),
    _text("since_week", "Week in which its held history begins"),
    _time("changed_at", "When the state last changed"),
    _json("detail", "What the decision keeps for next week"),
    PrimaryKeyConstraint("plan_name", "primary_name", "candidate_name"),
    comment="Where every candidate stands over weeks",
)

ALERTS = Table(
    "alerts",
    METADATA,
    _column("alert_id", BigInteger, "Key of the alert", Identity(always=True)),
    _text("plan_name", "Plan"),
    _text("key", "Deduplication key, such as PLAN/switch:NAME"),
    _text("kind", "switch, regressed or run"),
    _text("title", "Title of its latest message"),
    _time("opened_at", "When it was opened"),
    _time("last_sent_at", "When its latest message was composed"),
    _uuid("run_id", "Run that last touched it", null=True),
    _text("thread", "Where its replies go", null=True),
    _time("acknowledged_at", "When it was acknowledged", null=True),
    _time("acknowledged_until", "Until when; null with an acknowledgement: for good", null=True),
    _text("acknowledged_reason", "Why, in the operator's words", null=True),
    _time("resolved_at", "When it was closed", null=True),
    _json("facts", "Figures of the latest message"),
    PrimaryKeyConstraint("alert_id"),
    Index("uq_alerts_one_open", "key", unique=True, postgresql_where=text("resolved_at IS NULL")),
    Index(None, "plan_name", "opened_at"),
    comment="Findings over time: opened, acknowledged, resolved",
)

OUTBOX = Table(
    "outbox",
    METADATA,
    _column("outbox_id", BigInteger, "Key and order of the message", Identity(always=True)),
    _text("plan_name", "Plan"),
    _text("key", "Deduplication key of its alert"),
    _json("alert", "The message"),
    _time("created_at", "When it was composed"),
    _time("due_at", "When it may next be tried"),
    _int("tries", "Deliveries tried"),
    _text("leased_by", "Who is delivering it", null=True),
    _time("leased_until", "When that claim runs out", null=True),
    _time("delivered_at", "When it was delivered", null=True),
    _time("failed_at", "When it was given up: an operator must mend something", null=True),
    _text("last_error", "Why the latest try failed", null=True),
    _text("reference", "Id of the delivered message", null=True),
    PrimaryKeyConstraint("outbox_id"),
    Index(
        "ix_outbox_waiting",
        "due_at",
        postgresql_where=text("delivered_at IS NULL AND failed_at IS NULL"),
    ),
    comment="Messages to deliver, at least once",
)

LABELS = Table(
    "labels",
    METADATA,
    _column("label_id", BigInteger, "Key of the label", Identity(always=True)),
    _text("plan_name", "Plan"),
    _run(),
    _uuid("case_id", "Case that was answered"),
    _text("model_name", "Label of the model that answered"),
    _float("score", "A human's score, 0 to 1"),
    _text("labelled_by", "Who scored"),
    _time("labelled_at", "When"),
    _text("judge_version", "Judge version it is compared with"),
    PrimaryKeyConstraint("label_id"),
    UniqueConstraint("run_id", "case_id", "model_name", "labelled_by"),
    CheckConstraint("score BETWEEN 0 AND 1", name="score_range"),
    comment="Human scores, to calibrate the judge",
)

BENCHMARK_RESULTS = Table(
    "benchmark_results",
    METADATA,
    _column("benchmark_result_id", BigInteger, "Key of the document", Identity(always=True)),
    _run(),
    _time("timestamp", "When the Run finished"),
    _json("results", "The object that `switchwise report --json` prints"),
    PrimaryKeyConstraint("benchmark_result_id"),
    UniqueConstraint("run_id"),
    comment="One immutable document per Run",
)
