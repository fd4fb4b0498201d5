"""A Plan: one configured, scheduled evaluation programme."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from app.domain.json_values import JsonObject
from app.domain.models import ModelSpec, Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Where prompts come from.

    Attributes:
        dsn: Connection of a SELECT-only role; None reads the results database.
        table: Table name, or None when `query` is given.
        query: A SELECT whose columns are named by `columns`.
        path: For the `file` preset, the JSONL or CSV file.
        columns: Our column name -> theirs; only the columns the operator named.
        segments: Segment name -> column or SQL expression.
        statement_timeout_s: Longest a statement on the log database may take.
        options: Settings of API presets (langfuse, helicone, openai): base_url, keys.
    """

    preset: str = "generic"
    dsn: Secret | None = None
    table: str | None = None
    query: str | None = None
    path: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    segments: Mapping[str, str] = field(default_factory=dict)
    statement_timeout_s: float = 60.0
    options: Mapping[str, Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """How Cases are drawn; `by` names the segments that make the strata."""

    n: int = 100
    window: timedelta = timedelta(days=7)
    strategy: Literal["random", "stratified"] = "random"
    by: tuple[str, ...] = ()
    anchors: int = 20
    max_input_tokens: int = 32_000
    adaptive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorSettings:
    """One configured Evaluator; `when` limits it to Cases of the named segments."""

    type: str
    gate: bool = False
    weight: float = 1.0
    when: Mapping[str, str] = field(default_factory=dict)
    options: JsonObject = field(default_factory=dict)
    name: str | None = None

    @property
    def label(self) -> str:
        """How scores of this Evaluator are named."""
        return self.name or self.type

    @property
    def measures_embeddings(self) -> bool:
        """Whether it is the likeness of embeddings, which takes a paid call."""
        return self.type == "similarity" and self.options.get("measure") == "embeddings"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """Who judges and how.

    Attributes:
        rubric: The rubric's text.
        reference: Whether and whence the judge is shown a reference answer.
        repeats: Judgements per reply, averaged.
        canaries: Known replies graded in every Run; 0 turns them off.
        bias_allowance: Subtracted from the candidate's quality in both tests (0..1).
        structured: How the score is asked for; auto probes once.
    """

    models: tuple[ModelSpec, ...]
    mode: Literal["rubric", "pairwise"] = "rubric"
    rubric: str = ""
    reference: Literal["none", "logged", "column"] = "none"
    repeats: int = 1
    canaries: int = 6
    bias_allowance: float = 0.0
    structured: Literal["auto", "tool", "json_schema", "text"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What counts as better value, fixed before the Run (STATISTICS: delta, s, guardrails)."""

    quality_margin: float = 0.05
    min_saving: float = 0.10
    max_latency_p50_ratio: float = 1.25
    max_latency_p95_ratio: float = 1.5
    success_margin: float = 0.05
    false_alerts_per_year: float = 0.05
    min_pairs: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Caps in USD; None means no cap. Months are those of the Plan's time zone."""

    per_run_usd: Decimal | None = None
    per_month_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When Runs are due; day names only."""

    cron: str
    timezone: ZoneInfo
    catch_up: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackSettings:
    """Where alerts go: a bot token and channel, or an incoming webhook."""

    token: Secret | None = None
    channel: str | None = None
    webhook_url: Secret | None = None
    base_url: str = "https://slack.com/api/"
    digest: Literal["always", "on_change", "never"] = "always"
    remind_every: timedelta = timedelta(days=28)
    mentions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """A generic JSON webhook, signed with HMAC-SHA256 when a secret is given."""

    url: Secret
    secret: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept; None means for ever."""

    bodies: timedelta | None = timedelta(days=30)
    case_scores: timedelta | None = timedelta(days=400)
    results: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What is stored, what is masked and where prompts may go."""

    store_bodies: Literal["none", "redacted", "full"] = "full"
    redact: tuple[str, ...] = ()
    redact_before_replay: bool = False
    egress_allow: tuple[str, ...] = ()
    exclude_segments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where `serve` listens."""

    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""
    token: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How load is offered: closed (fixed concurrency) or open (Poisson arrivals per second)."""

    rate_per_s: float | None = None
    report_both: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One configured, scheduled evaluation programme; its `name` is its key.

    Attributes:
        embedder: The model that embeds texts for evaluators that measure likeness by it.
    """

    name: str
    primary: ModelSpec
    candidates: tuple[ModelSpec, ...]
    logs: LogSettings
    sample: SampleSettings
    evaluators: tuple[EvaluatorSettings, ...]
    judge: JudgeSettings | None = None
    embedder: ModelSpec | None = None
    policy: Policy = field(default_factory=Policy)
    budget: Budget = field(default_factory=Budget)
    schedule: Schedule | None = None
    replay: Replay = field(default_factory=Replay)
    slack: SlackSettings | None = None
    webhook: WebhookSettings | None = None
    heartbeat_url: str | None = None
    retention: Retention = field(default_factory=Retention)
    privacy: Privacy = field(default_factory=Privacy)
    server: Server = field(default_factory=Server)
    config_hash: str = ""
    source_file: str | None = None

    @property
    def contestants(self) -> tuple[ModelSpec, ...]:
        """The primary and the candidates, in that order."""
        return (self.primary, *self.candidates)

    @property
    def judges(self) -> tuple[ModelSpec, ...]:
        """The judge models, if a judge is configured."""
        return self.judge.models if self.judge else ()

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """Every model that a Run may call: contestants, judges, and what embeds texts."""
        embedder = () if self.embedder is None else (self.embedder,)
        return (*self.contestants, *self.judges, *embedder)

    def model(self, name: str) -> ModelSpec:
        """The model with this name."""
        return next(m for m in self.models if m.name == name)
