"""The keys of a plan file, their types and their defaults.

Every model here is one section; the docstrings of the fields are what an editor shows.
"""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from app.plans.addresses import parse_address, split_bind
from app.plans.times import DURATION_PATTERN, check_cron, parse_duration, parse_zone

_RESERVED_SQL = re.compile(r";|--|/\*|\x00")
_COLUMN = re.compile(
    r"""(?x)
    (?: [A-Za-z_][A-Za-z0-9_$]* | "[^"\x00]{1,63}" )
    (?: \. (?: [A-Za-z_][A-Za-z0-9_$]* | "[^"\x00]{1,63}" ) )?
    (?: \s* (?: ->>? | \#>>? ) \s* (?: '[^'\x00]*' | \d+ ) )*
    | [^\W\d] [\w .-]{0,62}    # names in files may hold blanks; they are looked up, never run
    """
)
_TABLE = re.compile(
    r"""(?x)
    (?: [A-Za-z_][A-Za-z0-9_$]{0,62} | "[^"\x00]{1,63}" )
    (?: \. (?: [A-Za-z_][A-Za-z0-9_$]{0,62} | "[^"\x00]{1,63}" ) ){0,2}
    """
)
REDACTORS = ("email", "phone", "card", "iban", "ip")


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
        raise ValueError(
            "must be at most 63 letters, digits, dots, dashes and underscores, starting with a "
            "letter or digit"
        )
    return text


def _column(text: str) -> str:
    if not _COLUMN.fullmatch(text.strip()):
        raise ValueError(
            "must be a column name (quote capitals: '\"createdAt\"') or a JSON path such as "
            "metadata->>'team'"
        )
    return text.strip()


def _table(text: str) -> str:
    if not _TABLE.fullmatch(text.strip()):
        raise ValueError(
            "must be a table name such as public.ai_logs (quote capitals: '\"AiLogs\"')"
        )
    return text.strip()


def _sql(text: str) -> str:
    """Refuse what would end the expression early; the role's grants are the real protection."""
    bare = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "''", text)
    if _RESERVED_SQL.search(bare) or "'" in bare.replace("''", ""):
        raise ValueError("must be one SQL expression: no `;`, no comments, quotes closed")
    depth = 0
    for character in bare:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    if depth != 0 or not bare.strip():
        raise ValueError("must be one SQL expression with balanced parentheses")
    return text


def _url(text: str) -> str:
    return text if not text else parse_address(text).url


def _cron(text: str) -> str:
    return check_cron(text)


def _zone(text: str) -> str:
    return parse_zone(text).key


def _forever(value: object) -> timedelta | None:
    return None if value in (None, "forever") else parse_duration(value)


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


_DURATION_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["120s", "24h"]}

Name = Annotated[
    str, AfterValidator(_name), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 63})
]
Text = Annotated[str, StringConstraints(min_length=1)]
Url = Annotated[str, AfterValidator(_url)]
Column = Annotated[str, AfterValidator(_column)]
Table = Annotated[str, AfterValidator(_table)]
Sql = Annotated[str, AfterValidator(_sql)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
Lifetime = Annotated[
    timedelta | None,
    BeforeValidator(_forever),
    WithJsonSchema({"anyOf": [{"const": "forever"}, _DURATION_SCHEMA]}),
]
Rate = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Usd = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Names = Annotated[list[Text], BeforeValidator(_one_or_more)]

LogColumn = Literal[
    "id",
    "created_at",
    "prompt",
    "messages",
    "system",
    "params",
    "tools",
    "response",
    "reference",
    "expected",
    "conversation",
    "model",
    "status",
    "cache_hit",
    "call_type",
    "tool_calls",
    "input_tokens",
    "output_tokens",
]
MentionKind = Literal["switch", "regressed", "run", "quiet", "hand"]


class Section(BaseModel):
    """A part of the plan that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RatesSection(Section):
    """USD per million tokens."""

    input: Rate
    """Uncached input."""
    output: Rate
    """Output, thinking included."""
    cache_read: Rate | None = None
    """Input served from the provider's cache; default: as input."""
    cache_write_5m: Rate | None = None
    """Input written to the five-minute cache; default: as input."""
    cache_write_1h: Rate | None = None
    """Input written to the one-hour cache; default: as input."""


class TierSection(RatesSection):
    """Rates of requests above a size."""

    above_input_tokens: int = Field(gt=0)
    """The rates hold for the whole request once its input exceeds this many tokens."""


class PriceSection(RatesSection):
    """What a model costs, in USD per million tokens; wins over every price list."""

    per_request_usd: Rate = Decimal(0)
    """Fee per request."""
    tiers: list[TierSection] = Field(default_factory=list)
    """Rates of long-context requests."""


class EndpointSection(Section):
    """How a model is reached; what is absent comes from `gateway`."""

    base_url: Url | None = None
    """Address of the API; without /v1 for `anthropic`, with it for `openai`."""
    api_key: str | None = None
    """The key, as a reference: ${VAR} or ${file:/run/secrets/x}."""
    api: Literal["anthropic", "openai"] | None = None
    """Which vendor's requests the endpoint understands."""
    auth: Literal["bearer", "x-api-key"] | None = None
    """How the key is sent."""
    api_version: Text | None = None
    """Value of the anthropic-version header."""
    headers: dict[Text, str] = Field(default_factory=dict)
    """More headers to send."""
    concurrency: int | None = Field(default=None, ge=1, le=1_000)
    """Most calls in flight at once."""
    rate_per_min: float | None = Field(default=None, gt=0, le=1_000_000)
    """Most calls that leave within a minute, of all processes together."""
    timeout: Duration | None = None
    """Total deadline of one call."""

    @field_validator("timeout")
    @classmethod
    def _positive(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and not timedelta(0) < value <= timedelta(hours=1):
            raise ValueError("must be more than 0 and at most 1h")
        return value


class GatewaySection(EndpointSection):
    """The endpoint that models share unless they name their own."""


class ModelSection(EndpointSection):
    """One model."""

    name: Name
    """Stable label, used in SQL, Slack and charts."""
    model: Text
    """Id sent to the endpoint."""
    params: dict[str, object] = Field(default_factory=dict)
    """Overrides of the logged parameters, such as max_tokens."""
    price: PriceSection | None = None
    """Own price in USD per million tokens; default: the shipped price list."""
    price_as: Text | None = None
    """Name under which the price list knows the model."""


class EmbeddingPriceSection(Section):
    """What embedding costs, in USD per million tokens; wins over every price list."""

    input: Rate
    """Texts embedded."""
    per_request_usd: Rate = Decimal(0)
    """Fee per request."""


class EmbeddingsSection(EndpointSection):
    """The model that embeds texts for evaluators with `measure: embeddings`."""

    name: Name = "embeddings"
    """Stable label, used in SQL."""
    model: Text
    """Id sent to the endpoint."""
    params: dict[str, object] = Field(default_factory=dict)
    """Further members of the request, such as dimensions."""
    price: EmbeddingPriceSection | None = None
    """Own price in USD per million tokens; default: the shipped price list."""
    price_as: Text | None = None
    """Name under which the price list knows the model."""

    @field_validator("api")
    @classmethod
    def _openai_shape(cls, value: str | None) -> str | None:
        if value == "anthropic":
            raise ValueError("must be openai: embeddings are asked for at /v1/embeddings")
        return value


class LogsSection(Section):
    """Where prompts come from; read only."""

    preset: Literal[
        "generic", "litellm", "phoenix", "otel", "langfuse", "helicone", "openai", "file"
    ] = "generic"
    """Shape of the log."""
    dsn: str | None = None
    """Connection of a SELECT-only role; default ${LOGS_DATABASE_URL}, else the results database."""
    table: Table | None = None
    """Table with one row per request."""
    query: Text | None = None
    """A SELECT instead of a table, or file:PATH that holds it."""
    path: Text | None = None
    """JSONL or CSV file, for the preset `file`."""
    columns: dict[LogColumn, Column] = Field(default_factory=dict)
    """Our names of columns and yours."""
    where: Sql | None = None
    """Condition on rows."""
    segments: dict[Name, Sql] = Field(default_factory=dict)
    """Segment names and the columns or SQL expressions they come from."""
    statement_timeout: Duration = timedelta(seconds=60)
    """Longest a statement may take on the log database."""
    options: dict[Text, str] = Field(default_factory=dict)
    """Settings of API presets: base_url, public_key, secret_key, api_key, …"""

    @model_validator(mode="after")
    def _one_source(self) -> "LogsSection":
        if self.table and self.query:
            raise ValueError("give a table or a query, not both")
        if self.preset == "file" and not self.path:
            raise ValueError("preset `file` needs `path`")
        if self.path and self.preset not in {"file", "openai", "langfuse", "helicone", "otel"}:
            raise ValueError(f"preset `{self.preset}` takes no `path`")
        if self.preset == "generic" and not (self.table or self.query):
            raise ValueError("needs `table` (or `query`)")
        return self


class SampleSection(Section):
    """How many prompts are replayed, and which."""

    n: int = Field(default=100, ge=1, le=100_000)
    """Rows drawn."""
    window: Duration = timedelta(days=7)
    """How far back rows are drawn from."""
    strategy: Literal["random", "stratified"] | None = None
    """Uniform, or a share of every segment."""
    by: Names = Field(default_factory=list)
    """Segments that make the strata, all together."""
    anchors: int = Field(default=20, ge=0, le=10_000)
    """Earlier prompts repeated, to tell model drift from traffic drift."""
    max_input_tokens: int = Field(default=32_000, ge=1)
    """Longer prompts are skipped and counted."""
    adaptive: bool = True
    """Stop calling candidates whose verdict is clear."""

    @field_validator("window")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(days=3_660):
            raise ValueError("must be more than 0 and at most ten years")
        return value


class EvaluatorSection(BaseModel):
    """Turns a reply into a score 0..1; further keys are options of its type."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    type: Text
    """A built-in evaluator, python:module:Name, or an installed entry point."""
    gate: bool = False
    """A failure makes the response unsuccessful."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight in the quality of a reply."""
    when: dict[Name, str] = Field(default_factory=dict)
    """Only for prompts of these segments."""
    name: Name | None = None
    """Label of its scores; default: the type."""


class JudgeSection(Section):
    """Who grades replies, and how."""

    models: list[ModelSection] = Field(min_length=1)
    """One judge, or a panel."""
    mode: Literal["rubric", "pairwise"] = "rubric"
    """Grades 1 to 5 by a rubric, or candidate against primary."""
    rubric: str = ""
    """The rubric's text, or file:PATH; default: the built-in one."""
    reference: Literal["none", "logged", "column"] = "none"
    """Reference answer shown to the judge."""
    repeats: int = Field(default=1, ge=1, le=10)
    """Judgements per reply, averaged."""
    canaries: int = Field(default=6, ge=0, le=100)
    """Known replies graded in every run; 0 turns them off."""
    bias_allowance: float = Field(default=0.0, ge=0, le=0.5, allow_inf_nan=False)
    """Subtracted from the candidate's quality in the tests."""
    structured: Literal["auto", "tool", "json_schema", "text"] = "auto"
    """How the grade is asked for."""


class PolicySection(Section):
    """What counts as better value."""

    quality_margin: float = Field(default=0.05, gt=0, lt=0.5, allow_inf_nan=False)
    """Loss of quality (0..1) that is still acceptable."""
    min_saving: float = Field(default=0.10, ge=0, lt=1, allow_inf_nan=False)
    """Least saving in cost per quality worth a switch."""
    max_latency_p50_ratio: float = Field(default=1.25, gt=0, allow_inf_nan=False)
    """Most the median latency may grow."""
    max_latency_p95_ratio: float = Field(default=1.5, gt=0, allow_inf_nan=False)
    """Most the 95th percentile may grow."""
    success_margin: float = Field(default=0.05, gt=0, lt=0.5, allow_inf_nan=False)
    """Loss of success rate that is still acceptable."""
    false_alerts_per_year: float = Field(default=0.05, gt=0, lt=0.5, allow_inf_nan=False)
    """Chance of any false alert in a year, over all candidates."""
    min_pairs: int = Field(default=30, ge=10)
    """Least independent pairs behind a recommendation."""


class BudgetSection(Section):
    """Caps in USD."""

    per_run_usd: Usd | None = None
    """Cap of one run."""
    per_month_usd: Usd | None = None
    """Cap of a month in the plan's time zone."""


class ScheduleSection(Section):
    """When runs are due."""

    cron: Annotated[str, AfterValidator(_cron)]
    """minute hour day month weekday; weekdays by name."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Name such as Europe/London."""
    catch_up: Duration = timedelta(hours=24)
    """How late a missed run is still made up for."""


class OpenLoadSection(Section):
    """Calls that arrive at random."""

    rate_per_s: float = Field(gt=0, le=10_000, allow_inf_nan=False)
    """Arrivals per second."""


class ReplaySection(Section):
    """How load is offered."""

    load: Literal["closed"] | OpenLoadSection = "closed"
    """closed: fixed concurrency; {rate_per_s: X}: random arrivals at that rate."""
    report_both: bool = False
    """Measure latency under both."""


class SlackSection(Section):
    """Where alerts go in Slack."""

    token: str | None = None
    """Bot token, as a reference; default ${SLACK_BOT_TOKEN}."""
    channel: str | None = None
    """Channel id."""
    webhook_url: str | None = None
    """Incoming webhook, as a reference, instead of token and channel."""
    base_url: Url = "https://slack.com/api/"
    """For a Slack-compatible server."""
    digest: Literal["always", "on_change", "never"] = "always"
    """When a run without news is told."""
    remind_every: Duration = timedelta(days=28)
    """How often an open alert is repeated."""
    mentions: dict[MentionKind, Text] = Field(default_factory=dict)
    """Who is mentioned, per kind of message."""


class WebhookSection(Section):
    """A JSON webhook."""

    url: Url
    """Receives every alert by POST."""
    secret: str | None = None
    """Signs the body (HMAC-SHA256), as a reference."""


class RetentionSection(Section):
    """How long things are kept."""

    bodies: Lifetime = timedelta(days=30)
    """Prompts and replies."""
    case_scores: Lifetime = timedelta(days=400)
    """Scores and attempts of single cases."""
    results: Lifetime = None
    """Results of runs."""


class PrivacySection(Section):
    """What is stored, what is masked and where prompts may go."""

    store_bodies: Literal["none", "redacted", "full"] = "full"
    """What is kept of prompts and replies."""
    redact: list[str] = Field(default_factory=list)
    """email, phone, card, iban, ip or re:PATTERN."""
    redact_before_replay: bool = False
    """Mask before any model sees a prompt."""
    egress_allow: list[Text] | None = None
    """Hosts that may receive prompts; default: those of the configured base_urls."""
    exclude_segments: dict[Name, Names] = Field(default_factory=dict)
    """Segments whose prompts are never replayed."""

    @field_validator("redact")
    @classmethod
    def _known(cls, values: list[str]) -> list[str]:
        for value in values:
            if value.startswith("re:"):
                _compile(value.removeprefix("re:"))
            elif value not in REDACTORS:
                raise ValueError(f"{value!r} is none of {', '.join(REDACTORS)}, re:PATTERN")
        return values

    @field_validator("egress_allow")
    @classmethod
    def _hosts(cls, values: list[str] | None) -> list[str] | None:
        for value in values or ():
            if "/" in value or "*" in value:
                raise ValueError(f"{value!r}: name hosts only, e.g. api.anthropic.com")
        return values


class ServerSection(Section):
    """Where `serve` listens."""

    bind: Annotated[str, StringConstraints(min_length=1)] = "127.0.0.1:8080"
    """host:port."""
    public_url: Url = ""
    """Address under which people reach the pages; for links in messages."""
    token: str | None = None
    """Token of the pages, as a reference; required unless bound to loopback."""

    @field_validator("bind")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        split_bind(value)
        return value


class PlanFile(Section):
    """A plan: one scheduled evaluation programme."""

    version: Literal[1] = 1
    """Version of this format."""
    name: Name
    """The plan's key in SQL, Slack and charts."""
    gateway: GatewaySection = Field(default_factory=GatewaySection)
    """The endpoint that models share."""
    primary: ModelSection
    """The model in production."""
    candidates: list[ModelSection] = Field(min_length=1, max_length=50)
    """Models considered instead."""
    logs: LogsSection
    """Where prompts come from."""
    sample: SampleSection = Field(default_factory=SampleSection)
    """How many prompts are replayed, and which."""
    evaluators: list[EvaluatorSection] | None = Field(default=None, min_length=1)
    """How replies are scored; default: not_refused as a gate, and the judge."""
    judge: JudgeSection | None = None
    """Who grades replies; required when an evaluator of type judge is listed."""
    embeddings: EmbeddingsSection | None = None
    """Embeds texts; required when an evaluator measures by embeddings."""
    policy: PolicySection = Field(default_factory=PolicySection)
    """What counts as better value."""
    budget: BudgetSection = Field(default_factory=BudgetSection)
    """Caps in USD."""
    schedule: ScheduleSection | None = None
    """When runs are due; without it only by hand."""
    replay: ReplaySection = Field(default_factory=ReplaySection)
    """How load is offered."""
    slack: SlackSection | None = None
    """Where alerts go in Slack."""
    webhook: WebhookSection | None = None
    """Where alerts go as JSON."""
    heartbeat_url: Url | None = None
    """Pinged after every success, so that silence is noticed."""
    retention: RetentionSection = Field(default_factory=RetentionSection)
    """How long things are kept."""
    privacy: PrivacySection = Field(default_factory=PrivacySection)
    """What is stored, what is masked and where prompts may go."""
    server: ServerSection = Field(default_factory=ServerSection)
    """Where `serve` listens."""


def _compile(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"re:{pattern} is no regular expression: {error}") from error
