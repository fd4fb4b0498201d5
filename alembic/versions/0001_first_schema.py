"""The first schema: tables; the views are made after the last migration."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "3183eddd0e74bde7"


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column(
            "alert_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Key of the alert",
        ),
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan"),
        sa.Column(
            "key", sa.Text(), nullable=False, comment="Deduplication key, such as PLAN/switch:NAME"
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="switch, regressed or run"),
        sa.Column("title", sa.Text(), nullable=False, comment="Title of its latest message"),
        sa.Column(
            "opened_at", sa.DateTime(timezone=True), nullable=False, comment="When it was opened"
        ),
        sa.Column(
            "last_sent_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When its latest message was composed",
        ),
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=True, comment="Run that last touched it"
        ),
        sa.Column("thread", sa.Text(), nullable=True, comment="Where its replies go"),
        sa.Column(
            "acknowledged_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was acknowledged",
        ),
        sa.Column(
            "acknowledged_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Until when; null with an acknowledgement: for good",
        ),
        sa.Column(
            "acknowledged_reason", sa.Text(), nullable=True, comment="Why, in the operator's words"
        ),
        sa.Column(
            "resolved_at", sa.DateTime(timezone=True), nullable=True, comment="When it was closed"
        ),
        sa.Column(
            "facts",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Figures of the latest message",
        ),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
        schema="switchwise",
        comment="Findings over time: opened, acknowledged, resolved",
    )
    op.create_index(
        op.f("ix_alerts_plan_name_opened_at"),
        "alerts",
        ["plan_name", "opened_at"],
        unique=False,
        schema="switchwise",
    )
    op.create_index(
        "uq_alerts_one_open",
        "alerts",
        ["key"],
        unique=True,
        schema="switchwise",
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "candidate_states",
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan"),
        sa.Column("primary_name", sa.Text(), nullable=False, comment="Label of the primary"),
        sa.Column("candidate_name", sa.Text(), nullable=False, comment="Label of the candidate"),
        sa.Column("epoch", sa.Text(), nullable=False, comment="Epoch the state belongs to"),
        sa.Column("state", sa.Text(), nullable=False, comment="quiet, watch, alert or resolved"),
        sa.Column("iso_week", sa.Text(), nullable=False, comment="Week it was last decided"),
        sa.Column(
            "since_week", sa.Text(), nullable=False, comment="Week in which its held history begins"
        ),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the state last changed",
        ),
        sa.Column(
            "detail",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="What the decision keeps for next week",
        ),
        sa.PrimaryKeyConstraint(
            "plan_name", "primary_name", "candidate_name", name=op.f("pk_candidate_states")
        ),
        schema="switchwise",
        comment="Where every candidate stands over weeks",
    )
    op.create_table(
        "evidence",
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan"),
        sa.Column("primary_name", sa.Text(), nullable=False, comment="Label of the primary"),
        sa.Column("candidate_name", sa.Text(), nullable=False, comment="Label of the candidate"),
        sa.Column(
            "iso_week", sa.Text(), nullable=False, comment="ISO week of the slots merged here"
        ),
        sa.Column(
            "epoch",
            sa.Text(),
            nullable=False,
            comment="Digest of what must stay the same for evidence to be pooled",
        ),
        sa.Column(
            "identity",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="What the epoch covers",
        ),
        sa.Column(
            "run_ids",
            postgresql.ARRAY(sa.UUID(as_uuid=False)),
            nullable=False,
            comment="Runs merged here",
        ),
        sa.Column(
            "evidence",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Sufficient statistics of the week",
        ),
        sa.Column(
            "segments",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The same per segment",
        ),
        sa.Column(
            "primary_price",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Rates of the primary it was computed with",
        ),
        sa.Column(
            "candidate_price",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Rates of the candidate it was computed with",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it was last written",
        ),
        sa.PrimaryKeyConstraint(
            "plan_name",
            "primary_name",
            "candidate_name",
            "iso_week",
            "epoch",
            name=op.f("pk_evidence"),
        ),
        schema="switchwise",
        comment="Sufficient statistics of one candidate-week that later weeks pool",
    )
    op.create_table(
        "ledger",
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan that is charged"),
        sa.Column(
            "period",
            sa.Text(),
            nullable=False,
            comment="run:UUID or month:YYYY-MM in the plan's time zone",
        ),
        sa.Column(
            "reserved_usd",
            sa.Numeric(),
            nullable=False,
            comment="Reservations of calls that have not settled with a known cost",
        ),
        sa.Column("spent_usd", sa.Numeric(), nullable=False, comment="Costs of settled calls"),
        sa.PrimaryKeyConstraint("plan_name", "period", name=op.f("pk_ledger")),
        schema="switchwise",
        comment="Money reserved and spent per cap; can be recomputed from attempts",
    )
    op.create_table(
        "outbox",
        sa.Column(
            "outbox_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Key and order of the message",
        ),
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan"),
        sa.Column("key", sa.Text(), nullable=False, comment="Deduplication key of its alert"),
        sa.Column(
            "alert",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The message",
        ),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, comment="When it was composed"
        ),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it may next be tried",
        ),
        sa.Column("tries", sa.Integer(), nullable=False, comment="Deliveries tried"),
        sa.Column("leased_by", sa.Text(), nullable=True, comment="Who is delivering it"),
        sa.Column(
            "leased_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When that claim runs out",
        ),
        sa.Column(
            "delivered_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was delivered",
        ),
        sa.Column(
            "failed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was given up: an operator must mend something",
        ),
        sa.Column("last_error", sa.Text(), nullable=True, comment="Why the latest try failed"),
        sa.Column("reference", sa.Text(), nullable=True, comment="Id of the delivered message"),
        sa.PrimaryKeyConstraint("outbox_id", name=op.f("pk_outbox")),
        schema="switchwise",
        comment="Messages to deliver, at least once",
    )
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["due_at"],
        unique=False,
        schema="switchwise",
        postgresql_where=sa.text("delivered_at IS NULL AND failed_at IS NULL"),
    )
    op.create_table(
        "plans",
        sa.Column(
            "plan_name", sa.Text(), nullable=False, comment="Name of the plan: its key everywhere"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the plan was first seen",
        ),
        sa.Column(
            "config_hash", sa.Text(), nullable=False, comment="Digest of its latest configuration"
        ),
        sa.Column(
            "timezone",
            sa.Text(),
            nullable=False,
            comment="Time zone of its slots and of its monthly cap",
        ),
        sa.PrimaryKeyConstraint("plan_name", name=op.f("pk_plans")),
        schema="switchwise",
        comment="Plans that have run; the row is locked to begin and to finish a Run",
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.UUID(as_uuid=False), nullable=False, comment="Key of the Run"),
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan it executes"),
        sa.Column(
            "trigger",
            sa.Text(),
            nullable=False,
            comment="What asked for it: schedule, hand or as_of",
        ),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="due, running, done, partial, failed, skipped or missed",
        ),
        sa.Column(
            "slot_key",
            sa.Text(),
            nullable=False,
            comment="Local date and time of the slot; for Runs by hand a key of their own",
        ),
        sa.Column(
            "slot_at", sa.DateTime(timezone=True), nullable=False, comment="Instant of the slot"
        ),
        sa.Column(
            "closes_week",
            sa.Boolean(),
            nullable=False,
            comment="Whether it is the last slot of its ISO week",
        ),
        sa.Column(
            "iso_week",
            sa.Text(),
            nullable=False,
            comment="ISO week of the slot's local date, such as 2026-W13",
        ),
        sa.Column(
            "seed",
            sa.BigInteger(),
            nullable=False,
            comment="Seed of every random choice of the Run",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the row was inserted",
        ),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), nullable=True, comment="When work first began"
        ),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it reached its final status",
        ),
        sa.Column(
            "window_start",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Start of the sampled window, included",
        ),
        sa.Column(
            "window_end",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="End of the sampled window, not included",
        ),
        sa.Column("cases_requested", sa.Integer(), nullable=False, comment="Logged rows asked for"),
        sa.Column(
            "cases_sampled",
            sa.Integer(),
            nullable=False,
            comment="Cases drawn, exact duplicates folded, anchors left out",
        ),
        sa.Column(
            "drawn",
            sa.Integer(),
            nullable=False,
            comment="Replayable logged rows drawn, duplicates counted",
        ),
        sa.Column("frame", sa.BigInteger(), nullable=False, comment="Logged rows in the window"),
        sa.Column(
            "skipped",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Rows met and not replayed: {reason: count}",
        ),
        sa.Column(
            "mean_logged_output_tokens",
            sa.Double(),
            nullable=True,
            comment="Mean output tokens of the drawn rows, as logged",
        ),
        sa.Column(
            "config_hash",
            sa.Text(),
            nullable=False,
            comment="Digest of the configuration it ran with",
        ),
        sa.Column("app_version", sa.Text(), nullable=False, comment="Version of the program"),
        sa.Column(
            "error_code", sa.Text(), nullable=True, comment="Why it is not done: a short code"
        ),
        sa.Column(
            "error_message", sa.Text(), nullable=True, comment="Why it is not done: a sentence"
        ),
        sa.Column("owner", sa.Text(), nullable=True, comment="Who works on it"),
        sa.Column(
            "lease_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When that claim runs out",
        ),
        sa.Column(
            "restarts",
            sa.Integer(),
            nullable=False,
            comment="How often it was begun again without progress",
        ),
        sa.Column(
            "progress_mark",
            sa.Integer(),
            nullable=False,
            comment="Settled Attempts when it was last begun",
        ),
        sa.Column(
            "frozen",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Configuration without secrets, policy, evaluator versions and prices",
        ),
        sa.Column(
            "judge",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="How far the judge can be believed",
        ),
        sa.Column(
            "drift",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="What moved since earlier weeks",
        ),
        sa.Column(
            "adaptive",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="What adaptive spending left out and saved",
        ),
        sa.CheckConstraint(
            "status IN ('due', 'running', 'done', 'partial', 'failed', 'skipped', 'missed')",
            name=op.f("ck_runs_status"),
        ),
        sa.CheckConstraint(
            "trigger IN ('schedule', 'hand', 'as_of')", name=op.f("ck_runs_trigger")
        ),
        sa.ForeignKeyConstraint(
            ["plan_name"],
            ["switchwise.plans.plan_name"],
            name=op.f("fk_runs_plan_name"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
        sa.UniqueConstraint("plan_name", "slot_key", name=op.f("uq_runs_plan_name_slot_key")),
        schema="switchwise",
        comment="One execution of a plan for one slot or by hand",
    )
    op.create_index(
        "ix_runs_plan_name_slot_at",
        "runs",
        ["plan_name", "slot_at"],
        unique=False,
        schema="switchwise",
    )
    op.create_index(
        "uq_runs_one_active",
        "runs",
        ["plan_name"],
        unique=True,
        schema="switchwise",
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "attempts",
        sa.Column(
            "attempt_id", sa.UUID(as_uuid=False), nullable=False, comment="Key of the Attempt"
        ),
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column("shard_no", sa.Integer(), nullable=False, comment="Shard it was made in"),
        sa.Column("fence", sa.Integer(), nullable=False, comment="Fence under which it was sent"),
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan it is charged to"),
        sa.Column("case_id", sa.UUID(as_uuid=False), nullable=False, comment="Case it is for"),
        sa.Column(
            "model_name", sa.Text(), nullable=False, comment="Label of the model that was called"
        ),
        sa.Column("model", sa.Text(), nullable=False, comment="Id sent to the endpoint"),
        sa.Column("purpose", sa.Text(), nullable=False, comment="replay or judge"),
        sa.Column(
            "call_key", sa.Text(), nullable=False, comment="What the call is for within its Case"
        ),
        sa.Column(
            "attempt_no", sa.Integer(), nullable=False, comment="Number within the call, from 1"
        ),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="sent, settled, or ambiguous: sent by an owner that vanished",
        ),
        sa.Column(
            "reserved_usd",
            sa.Numeric(),
            nullable=False,
            comment="Upper bound of its cost, charged to the caps until it settles",
        ),
        sa.Column(
            "cost_usd",
            sa.Numeric(),
            nullable=True,
            comment="Money spent; null while open and when unknown",
        ),
        sa.Column(
            "price",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Rates used",
        ),
        sa.Column(
            "sent_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it was journaled, just before it was sent",
        ),
        sa.Column(
            "settled_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its end was stored",
        ),
        sa.Column(
            "is_final",
            sa.Boolean(),
            nullable=False,
            comment="Whether it is the call's last Attempt",
        ),
        sa.Column("stop_reason", sa.Text(), nullable=True, comment="Why the model stopped"),
        sa.Column(
            "failure_class", sa.Text(), nullable=True, comment="Why the response is unsuccessful"
        ),
        sa.Column(
            "http_status", sa.Integer(), nullable=True, comment="HTTP status of a failed call"
        ),
        sa.Column(
            "error",
            sa.Text(),
            nullable=True,
            comment="Why it failed, for operators; no prompt text",
        ),
        sa.Column(
            "request_id", sa.Text(), nullable=True, comment="Request id given by the endpoint"
        ),
        sa.Column("input_tokens", sa.Integer(), nullable=True, comment="Uncached input tokens"),
        sa.Column(
            "output_tokens", sa.Integer(), nullable=True, comment="Output tokens, thinking included"
        ),
        sa.Column(
            "cache_read_tokens",
            sa.Integer(),
            nullable=True,
            comment="Input tokens read from the provider's cache",
        ),
        sa.Column(
            "cache_write_5m_tokens",
            sa.Integer(),
            nullable=True,
            comment="Input tokens written to the five-minute cache",
        ),
        sa.Column(
            "cache_write_1h_tokens",
            sa.Integer(),
            nullable=True,
            comment="Input tokens written to the one-hour cache",
        ),
        sa.Column(
            "thinking_tokens",
            sa.Integer(),
            nullable=True,
            comment="The part of the output spent on thinking",
        ),
        sa.Column(
            "ttft_seconds", sa.Double(), nullable=True, comment="First byte sent to first content"
        ),
        sa.Column(
            "latency_seconds",
            sa.Double(),
            nullable=True,
            comment="First byte sent to last byte received",
        ),
        sa.Column(
            "felt_latency_seconds",
            sa.Double(),
            nullable=True,
            comment="On the final Attempt: what a caller would have felt",
        ),
        sa.Column(
            "reported_cost_usd",
            sa.Numeric(),
            nullable=True,
            comment="Cost as the gateway reported it",
        ),
        sa.Column("reply_hash", sa.Text(), nullable=True, comment="Digest of the reply"),
        sa.Column(
            "reply",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="Text and tool calls; null when not stored or pruned",
        ),
        sa.CheckConstraint("purpose IN ('replay', 'judge')", name=op.f("ck_attempts_purpose")),
        sa.CheckConstraint(
            "state IN ('planned', 'sent', 'settled', 'ambiguous')", name=op.f("ck_attempts_state")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_attempts_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_attempts")),
        schema="switchwise",
        comment="The journal: every HTTP call, written before it was sent",
    )
    op.create_index(
        op.f("ix_attempts_plan_name_sent_at"),
        "attempts",
        ["plan_name", "sent_at"],
        unique=False,
        schema="switchwise",
    )
    op.create_index(
        op.f("ix_attempts_run_id_case_id"),
        "attempts",
        ["run_id", "case_id"],
        unique=False,
        schema="switchwise",
    )
    op.create_table(
        "benchmark_results",
        sa.Column(
            "benchmark_result_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Key of the document",
        ),
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column(
            "timestamp", sa.DateTime(timezone=True), nullable=False, comment="When the Run finished"
        ),
        sa.Column(
            "results",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The object that `switchwise report --json` prints",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_benchmark_results_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("benchmark_result_id", name=op.f("pk_benchmark_results")),
        sa.UniqueConstraint("run_id", name=op.f("uq_benchmark_results_run_id")),
        schema="switchwise",
        comment="One immutable document per Run",
    )
    op.create_table(
        "cases",
        sa.Column("case_id", sa.UUID(as_uuid=False), nullable=False, comment="Key of the Case"),
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column("source_id", sa.Text(), nullable=False, comment="Id of the logged row"),
        sa.Column(
            "ordinal", sa.Integer(), nullable=False, comment="Position in the Sample, from 0"
        ),
        sa.Column(
            "block", sa.Integer(), nullable=False, comment="Block of Cases it is worked in, from 0"
        ),
        sa.Column(
            "weight",
            sa.Double(),
            nullable=False,
            comment="Share of the traffic it stands for; 0 for anchors",
        ),
        sa.Column(
            "copies",
            sa.Integer(),
            nullable=False,
            comment="Drawn rows it stands for (exact duplicates folded)",
        ),
        sa.Column(
            "stratum",
            sa.Text(),
            nullable=False,
            comment="Stratum it was drawn from; '' when the draw was uniform",
        ),
        sa.Column(
            "conversation", sa.Text(), nullable=True, comment="Logged conversation, where known"
        ),
        sa.Column(
            "segments",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Segments of the row: {name: value}",
        ),
        sa.Column(
            "is_anchor",
            sa.Boolean(),
            nullable=False,
            comment="Whether it is repeated from earlier weeks",
        ),
        sa.Column(
            "anchor_of",
            sa.UUID(as_uuid=False),
            nullable=True,
            comment="For an anchor, the Case of its first appearance",
        ),
        sa.Column(
            "is_later_turn",
            sa.Boolean(),
            nullable=False,
            comment="Whether the conversation already holds an assistant's words",
        ),
        sa.Column("prompt_hash", sa.Text(), nullable=False, comment="Digest of the whole prompt"),
        sa.Column(
            "logged_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the row was logged",
        ),
        sa.Column(
            "body",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="Prompt, reference and logged reply; null when not stored or pruned",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["switchwise.runs.run_id"], name=op.f("fk_cases_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_cases")),
        schema="switchwise",
        comment="Logged prompts drawn for a Run",
    )
    op.create_index(
        op.f("ix_cases_run_id_ordinal"),
        "cases",
        ["run_id", "ordinal"],
        unique=False,
        schema="switchwise",
    )
    op.create_table(
        "comparisons",
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column("candidate_name", sa.Text(), nullable=False, comment="Label of the candidate"),
        sa.Column("primary_name", sa.Text(), nullable=False, comment="Label of the primary"),
        sa.Column(
            "segment_name",
            sa.Text(),
            nullable=False,
            comment="Name of the segment; 'all' is the whole traffic",
        ),
        sa.Column(
            "segment_value", sa.Text(), nullable=False, comment="Value of the segment; '' for 'all'"
        ),
        sa.Column("pairs", sa.Integer(), nullable=False, comment="Pairs in the verdict's window"),
        sa.Column(
            "window_weeks", sa.Integer(), nullable=False, comment="Weeks in the verdict's window"
        ),
        sa.Column(
            "wins",
            sa.Integer(),
            nullable=False,
            comment="Pairs in which the candidate's quality is higher",
        ),
        sa.Column("ties", sa.Integer(), nullable=False, comment="Pairs of equal quality"),
        sa.Column(
            "losses",
            sa.Integer(),
            nullable=False,
            comment="Pairs in which the primary's quality is higher",
        ),
        sa.Column(
            "quality_delta",
            sa.Double(),
            nullable=True,
            comment="Candidate's quality less the primary's; null when it cannot be had",
        ),
        sa.Column(
            "quality_delta_low",
            sa.Double(),
            nullable=True,
            comment="Candidate's quality less the primary's: lower end of the 95 % interval",
        ),
        sa.Column(
            "quality_delta_high",
            sa.Double(),
            nullable=True,
            comment="Candidate's quality less the primary's: upper end of the 95 % interval",
        ),
        sa.Column(
            "saving",
            sa.Double(),
            nullable=True,
            comment="1 less the ratio of mean costs: the bill; null when it cannot be had",
        ),
        sa.Column(
            "saving_low",
            sa.Double(),
            nullable=True,
            comment="1 less the ratio of mean costs: the bill: lower end of the 95 % interval",
        ),
        sa.Column(
            "saving_high",
            sa.Double(),
            nullable=True,
            comment="1 less the ratio of mean costs: the bill: upper end of the 95 % interval",
        ),
        sa.Column(
            "value_ratio",
            sa.Double(),
            nullable=True,
            comment="Ratio of costs per quality point; null when it cannot be had",
        ),
        sa.Column(
            "value_ratio_low",
            sa.Double(),
            nullable=True,
            comment="Ratio of costs per quality point: lower end of the 95 % interval",
        ),
        sa.Column(
            "value_ratio_high",
            sa.Double(),
            nullable=True,
            comment="Ratio of costs per quality point: upper end of the 95 % interval",
        ),
        sa.Column(
            "success_delta",
            sa.Double(),
            nullable=True,
            comment="Candidate's success rate less the primary's; null when it cannot be had",
        ),
        sa.Column(
            "success_delta_low",
            sa.Double(),
            nullable=True,
            comment="Candidate's success rate less the primary's: lower end of the 95 % interval",
        ),
        sa.Column(
            "success_delta_high",
            sa.Double(),
            nullable=True,
            comment="Candidate's success rate less the primary's: upper end of the 95 % interval",
        ),
        sa.Column(
            "monthly_saving_usd",
            sa.Numeric(),
            nullable=True,
            comment="Saving at the logged volume of 30 days; null when it cannot be had",
        ),
        sa.Column(
            "monthly_saving_low_usd",
            sa.Numeric(),
            nullable=True,
            comment="Saving at the logged volume of 30 days: lower end of the 95 % interval",
        ),
        sa.Column(
            "monthly_saving_high_usd",
            sa.Numeric(),
            nullable=True,
            comment="Saving at the logged volume of 30 days: upper end of the 95 % interval",
        ),
        sa.Column(
            "latency_p50_ratio", sa.Double(), nullable=True, comment="Ratio of median latencies"
        ),
        sa.Column(
            "latency_p95_ratio",
            sa.Double(),
            nullable=True,
            comment="Ratio of 95th percentiles of latency",
        ),
        sa.Column(
            "verdict",
            sa.Text(),
            nullable=True,
            comment="What is said of the candidate; null for segments",
        ),
        sa.Column(
            "state",
            sa.Text(),
            nullable=True,
            comment="Where it stands over weeks; null for segments",
        ),
        sa.Column(
            "verdict_reasons",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="Why, in sentences",
        ),
        sa.Column(
            "caveats",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="What to mind before acting",
        ),
        sa.Column(
            "is_worse",
            sa.Boolean(),
            nullable=False,
            comment="For segments, whether the candidate certainly loses here",
        ),
        sa.Column(
            "epoch",
            sa.Text(),
            nullable=True,
            comment="Digest of what must stay the same for evidence to be pooled",
        ),
        sa.Column("epoch_reason", sa.Text(), nullable=True, comment="Why a new epoch began"),
        sa.Column(
            "tests",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Every test of the policy with its figures",
        ),
        sa.Column(
            "estimates",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Every estimate with interval, confidence and n",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_comparisons_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "candidate_name", "segment_name", "segment_value", name=op.f("pk_comparisons")
        ),
        schema="switchwise",
        comment="A candidate against the primary on the verdict's window, per segment",
    )
    op.create_table(
        "labels",
        sa.Column(
            "label_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Key of the label",
        ),
        sa.Column("plan_name", sa.Text(), nullable=False, comment="Plan"),
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column(
            "case_id", sa.UUID(as_uuid=False), nullable=False, comment="Case that was answered"
        ),
        sa.Column(
            "model_name", sa.Text(), nullable=False, comment="Label of the model that answered"
        ),
        sa.Column("score", sa.Double(), nullable=False, comment="A human's score, 0 to 1"),
        sa.Column("labelled_by", sa.Text(), nullable=False, comment="Who scored"),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False, comment="When"),
        sa.Column(
            "judge_version", sa.Text(), nullable=False, comment="Judge version it is compared with"
        ),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_labels_score_range")),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_labels_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("label_id", name=op.f("pk_labels")),
        sa.UniqueConstraint(
            "run_id",
            "case_id",
            "model_name",
            "labelled_by",
            name=op.f("uq_labels_run_id_case_id_model_name_labelled_by"),
        ),
        schema="switchwise",
        comment="Human scores, to calibrate the judge",
    )
    op.create_table(
        "model_results",
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column("model_name", sa.Text(), nullable=False, comment="Label of the model"),
        sa.Column("model", sa.Text(), nullable=False, comment="Id sent to the endpoint"),
        sa.Column("role", sa.Text(), nullable=False, comment="primary or candidate"),
        sa.Column(
            "segment_name",
            sa.Text(),
            nullable=False,
            comment="Name of the segment; 'all' is the whole traffic",
        ),
        sa.Column(
            "segment_value", sa.Text(), nullable=False, comment="Value of the segment; '' for 'all'"
        ),
        sa.Column("cases", sa.Integer(), nullable=False, comment="Cases the model was run on"),
        sa.Column("successes", sa.Integer(), nullable=False, comment="Successful responses"),
        sa.Column("unscored", sa.Integer(), nullable=False, comment="Responses without a score"),
        sa.Column(
            "quality",
            sa.Double(),
            nullable=True,
            comment="Mean quality, 0 to 1; null when it cannot be had",
        ),
        sa.Column(
            "quality_low",
            sa.Double(),
            nullable=True,
            comment="Mean quality, 0 to 1: lower end of the 95 % interval",
        ),
        sa.Column(
            "quality_high",
            sa.Double(),
            nullable=True,
            comment="Mean quality, 0 to 1: upper end of the 95 % interval",
        ),
        sa.Column(
            "success_rate",
            sa.Double(),
            nullable=True,
            comment="Share of successful responses; null when it cannot be had",
        ),
        sa.Column(
            "success_rate_low",
            sa.Double(),
            nullable=True,
            comment="Share of successful responses: lower end of the 95 % interval",
        ),
        sa.Column(
            "success_rate_high",
            sa.Double(),
            nullable=True,
            comment="Share of successful responses: upper end of the 95 % interval",
        ),
        sa.Column(
            "cost_per_success_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per successful response; null when it cannot be had",
        ),
        sa.Column(
            "cost_per_success_low_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per successful response: lower end of the 95 % interval",
        ),
        sa.Column(
            "cost_per_success_high_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per successful response: upper end of the 95 % interval",
        ),
        sa.Column(
            "cost_per_1k_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per 1,000 requests; null when it cannot be had",
        ),
        sa.Column(
            "cost_per_1k_low_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per 1,000 requests: lower end of the 95 % interval",
        ),
        sa.Column(
            "cost_per_1k_high_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per 1,000 requests: upper end of the 95 % interval",
        ),
        sa.Column(
            "cost_per_quality_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per quality point; null when it cannot be had",
        ),
        sa.Column(
            "cost_per_quality_low_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per quality point: lower end of the 95 % interval",
        ),
        sa.Column(
            "cost_per_quality_high_usd",
            sa.Numeric(),
            nullable=True,
            comment="Spend per quality point: upper end of the 95 % interval",
        ),
        sa.Column(
            "ttft_p50_seconds",
            sa.Double(),
            nullable=True,
            comment="Time to first token, 50th percentile",
        ),
        sa.Column(
            "ttft_p95_seconds",
            sa.Double(),
            nullable=True,
            comment="Time to first token, 95th percentile",
        ),
        sa.Column(
            "ttft_p99_seconds",
            sa.Double(),
            nullable=True,
            comment="Time to first token, 99th percentile",
        ),
        sa.Column(
            "latency_p50_seconds",
            sa.Double(),
            nullable=True,
            comment="Latency of the successful Attempt, 50th percentile",
        ),
        sa.Column(
            "latency_p95_seconds",
            sa.Double(),
            nullable=True,
            comment="Latency of the successful Attempt, 95th percentile",
        ),
        sa.Column(
            "latency_p99_seconds",
            sa.Double(),
            nullable=True,
            comment="Latency of the successful Attempt, 99th percentile",
        ),
        sa.Column(
            "felt_latency_p50_seconds",
            sa.Double(),
            nullable=True,
            comment="Latency with retries, 50th percentile",
        ),
        sa.Column(
            "felt_latency_p95_seconds",
            sa.Double(),
            nullable=True,
            comment="Latency with retries, 95th percentile",
        ),
        sa.Column(
            "felt_latency_p99_seconds",
            sa.Double(),
            nullable=True,
            comment="Latency with retries, 99th percentile",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="HTTP calls made"),
        sa.Column(
            "retries",
            sa.Integer(),
            nullable=False,
            comment="HTTP calls beyond the first of each Case",
        ),
        sa.Column("spend_usd", sa.Numeric(), nullable=False, comment="Money spent on all Attempts"),
        sa.Column(
            "unknown_cost", sa.Integer(), nullable=False, comment="Cases whose cost is unknown"
        ),
        sa.Column(
            "failures",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Unsuccessful responses: {class: count}",
        ),
        sa.Column(
            "pattern", sa.Text(), nullable=True, comment="What the figures suggest, in a sentence"
        ),
        sa.Column(
            "largest_call_share",
            sa.Double(),
            nullable=True,
            comment="Share of the dearest call in the spend",
        ),
        sa.Column(
            "estimates",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Every estimate with interval, confidence and n",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_model_results_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "model_name", "segment_name", "segment_value", name=op.f("pk_model_results")
        ),
        schema="switchwise",
        comment="A model's figures in one Run, per segment",
    )
    op.create_table(
        "scores",
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column(
            "case_id", sa.UUID(as_uuid=False), nullable=False, comment="Case that was answered"
        ),
        sa.Column(
            "model_name", sa.Text(), nullable=False, comment="Label of the model that answered"
        ),
        sa.Column("evaluator", sa.Text(), nullable=False, comment="Label of the evaluator"),
        sa.Column("score", sa.Double(), nullable=True, comment="0 to 1; null when unscored"),
        sa.Column("unscored_reason", sa.Text(), nullable=True, comment="Why there is no score"),
        sa.Column("reason", sa.Text(), nullable=True, comment="The evaluator's reason; prunable"),
        sa.Column(
            "detail",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="What the evaluator noted",
        ),
        sa.Column(
            "evaluator_version", sa.Text(), nullable=False, comment="Version of the evaluator"
        ),
        sa.Column(
            "judge_model",
            sa.Text(),
            nullable=True,
            comment="Label of the judge; null for deterministic evaluators",
        ),
        sa.Column(
            "is_gate",
            sa.Boolean(),
            nullable=False,
            comment="Whether a failure makes the response unsuccessful",
        ),
        sa.Column(
            "is_passed", sa.Boolean(), nullable=True, comment="For gates, whether the reply passed"
        ),
        sa.Column(
            "weight",
            sa.Double(),
            nullable=False,
            comment="Weight in the quality of the reply; 0 for gates",
        ),
        sa.Column(
            "scored_at", sa.DateTime(timezone=True), nullable=False, comment="When it was stored"
        ),
        sa.CheckConstraint(
            "(score IS NULL) <> (unscored_reason IS NULL)", name=op.f("ck_scores_scored_or_not")
        ),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_scores_score_range")),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_scores_run_id"),
            ondelete="CASCADE",
        ),
        schema="switchwise",
        comment="What every evaluator said of every reply",
    )
    op.create_index(
        "uq_scores_once",
        "scores",
        [
            "run_id",
            "case_id",
            "model_name",
            "evaluator",
            sa.literal_column("coalesce(judge_model, '')"),
        ],
        unique=True,
        schema="switchwise",
    )
    op.create_table(
        "shards",
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column(
            "shard_no", sa.Integer(), nullable=False, comment="Number within the Run, from 0"
        ),
        sa.Column("block", sa.Integer(), nullable=False, comment="Block of Cases it belongs to"),
        sa.Column(
            "models",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="Contestants called for its Cases",
        ),
        sa.Column(
            "case_ids",
            postgresql.ARRAY(sa.UUID(as_uuid=False)),
            nullable=False,
            comment="Its Cases",
        ),
        sa.Column(
            "fence",
            sa.Integer(),
            nullable=False,
            comment="Generation of its owner; writes of older ones are refused",
        ),
        sa.Column("owner", sa.Text(), nullable=True, comment="Who works on it"),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its owner took it",
        ),
        sa.Column(
            "is_done",
            sa.Boolean(),
            nullable=False,
            comment="Whether all its calls and scores are stored",
        ),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True, comment="When it was done"),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_shards_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "shard_no", name=op.f("pk_shards")),
        schema="switchwise",
        comment="A few Cases with all their models, worked by one owner at a time",
    )


def downgrade() -> None:
    op.execute("DROP SCHEMA IF EXISTS switchwise_bi CASCADE")
    op.drop_table("shards", schema="switchwise")
    op.drop_index("uq_scores_once", table_name="scores", schema="switchwise")
    op.drop_table("scores", schema="switchwise")
    op.drop_table("model_results", schema="switchwise")
    op.drop_table("labels", schema="switchwise")
    op.drop_table("comparisons", schema="switchwise")
    op.drop_index(op.f("ix_cases_run_id_ordinal"), table_name="cases", schema="switchwise")
    op.drop_table("cases", schema="switchwise")
    op.drop_table("benchmark_results", schema="switchwise")
    op.drop_index(op.f("ix_attempts_run_id_case_id"), table_name="attempts", schema="switchwise")
    op.drop_index(op.f("ix_attempts_plan_name_sent_at"), table_name="attempts", schema="switchwise")
    op.drop_table("attempts", schema="switchwise")
    op.drop_index(
        "uq_runs_one_active",
        table_name="runs",
        schema="switchwise",
        postgresql_where=sa.text("status = 'running'"),
    )
    op.drop_index("ix_runs_plan_name_slot_at", table_name="runs", schema="switchwise")
    op.drop_table("runs", schema="switchwise")
    op.drop_table("plans", schema="switchwise")
    op.drop_index(
        "ix_outbox_waiting",
        table_name="outbox",
        schema="switchwise",
        postgresql_where=sa.text("delivered_at IS NULL AND failed_at IS NULL"),
    )
    op.drop_table("outbox", schema="switchwise")
    op.drop_table("ledger", schema="switchwise")
    op.drop_table("evidence", schema="switchwise")
    op.drop_table("candidate_states", schema="switchwise")
    op.drop_index(
        "uq_alerts_one_open",
        table_name="alerts",
        schema="switchwise",
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.drop_index(op.f("ix_alerts_plan_name_opened_at"), table_name="alerts", schema="switchwise")
    op.drop_table("alerts", schema="switchwise")
