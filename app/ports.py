"""Every edge of the system as a Protocol. Wiring decides what stands behind each."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from app.domain.alerts import Alert, Delivery, OpenAlert, OutboxItem, StuckDelivery
from app.domain.attempts import (
    AttemptOpening,
    AttemptOutcome,
    Completion,
    Failure,
    Reply,
    SettledCalls,
    ShardRef,
)
from app.domain.cases import Case, Prompt, Sample, Window
from app.domain.json_values import JsonObject
from app.domain.labels import JudgedCase, Label, LabelledReply
from app.domain.models import Endpoint, ModelSpec
from app.domain.plans import Plan
from app.domain.prices import Price
from app.domain.results import (
    AdaptiveReport,
    CandidateState,
    CaseResult,
    Comparison,
    DriftReport,
    JudgeReport,
    Summary,
)
from app.domain.runs import ClaimedShard, Run, RunStatus, Shard, Slot, SpendLine, Trigger
from app.domain.scores import ScoreRecord
from app.stats.evidence import Evidence


class Clock(Protocol):
    """Tells the time; every process takes the injected one."""

    def now(self) -> datetime:
        """The aware instant, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go backwards, for durations."""

    async def sleep(self, seconds: float) -> None:
        """Let others run for that long."""


# --- logs -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the window holds: rows per stratum ("" when unstratified)."""

    rows: Mapping[str, int]

    @property
    def total(self) -> int:
        """Rows in the window."""
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One logged row as the source holds it; `fields` uses our column names.

    Attributes:
        fields: prompt | messages, system, params, tools, response, reference, conversation, model,
            status and whatever else the preset knows; absent columns are absent keys.
        skip: A reason of `SkipReason` when the preset already knows the row cannot be replayed.
    """

    source_id: str
    created_at: datetime | None
    segments: Mapping[str, str]
    fields: Mapping[str, object]
    stratum: str = ""
    skip: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLog:
    """A table or file that looks like a log of prompts.

    Attributes:
        table: As a plan names it; the path of a file.
        rows: The database's own estimate, 0 when it has none.
        columns: Our name -> theirs.
        segments: Segment name -> column.
        models: Models of recent rows, the most used first.
        query: A SELECT that reads the table, where its columns do not serve as they are.
        options: For the API of a product: name -> reference to a variable of the environment.
    """

    preset: str
    table: str
    rows: int
    columns: Mapping[str, str] = field(default_factory=dict)
    segments: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    query: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The draw that will follow a count, which a source may prepare while it counts.

    Attributes:
        rows: About how many rows will be drawn, of all strata together.
    """

    seed: int
    rows: int


class LogSource(Protocol):
    """Where prompts come from; read only."""

    async def check(self) -> tuple[str, ...]:
        """Warnings about roles, columns and indexes.

        Raises:
            LogSourceError: If the source cannot be read as the plan says.
        """

    async def frame(
        self, window: Window, *, by: Sequence[str], ahead: Ahead | None = None
    ) -> Frame:
        """Count the rows of the window, by stratum when segments are named."""

    async def draw(
        self,
        window: Window,
        *,
        seed: int,
        by: Sequence[str],
        quota: Mapping[str, int],
        offset: Mapping[str, int],
    ) -> Sequence[LogRow]:
        """Take the next `quota[stratum]` rows of each stratum in the seeded order.

        The order is uniform and reproducible from the seed; `offset[stratum]` rows of it were
        taken before.
        """

    async def explain(self, window: Window) -> str | None:
        """The source's own estimate of what a draw costs, None where it has none."""

    async def close(self) -> None:
        """Give back connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPage:
    """One page of a remote log's listing, without bodies.

    Attributes:
        number: From 1 on.
        cursor: Leads to the next page, None after the last.
    """

    number: int
    records: tuple[JsonObject, ...]
    cursor: str | None


class ListingStore(Protocol):
    """How far listings of remote logs have come, kept over the end of a process."""

    async def pages(self, listing: str) -> Sequence[ListedPage]:
        """The pages of a listing so far, in order."""

    async def add(self, listing: str, page: ListedPage) -> None:
        """Keep one more page; a page that is kept already stays as it is.

        Raises:
            StorageUnavailable: If it cannot be kept.
        """


# --- models ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What is sent in one Attempt.

    Attributes:
        answer_tool: For judges: a tool the model is forced to answer with.
        answer_schema: For judges: a JSON Schema the reply text must satisfy.
        stream: False asks for a plain reply (judges); then TTFT is unknown.
    """

    model: ModelSpec
    prompt: Prompt
    max_tokens: int
    deadline_s: float
    answer_tool: JsonObject | None = None
    answer_schema: JsonObject | None = None
    stream: bool = True


class Provider(Protocol):
    """Adapter to a model API. Never raises for what a server does: that is a Failure."""

    async def send(self, request: ModelRequest) -> Completion | Failure:
        """Make exactly one HTTP call and validate what came back, within the deadline."""

    async def close(self) -> None:
        """Give back connections."""


class PriceBook(Protocol):
    """What models cost."""

    def price(self, model: ModelSpec, at: datetime) -> Price | None:
        """The price of the model at that time, None when unknown: never a default."""


# --- calls ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRefusal:
    """The cap that a reservation did not fit, and whether waiting can help.

    Attributes:
        may_fit_later: True while other calls are in flight whose reservations exceed their cost.
    """

    cap: str
    cap_usd: Decimal
    may_fit_later: bool


class Journal(Protocol):
    """The Attempt journal and the budget ledger, which move together."""

    async def open(self, opening: AttemptOpening) -> BudgetRefusal | None:
        """Reserve the money and commit the Attempt as sent, before it is sent.

        Returns:
            None when it may be sent, else the cap that forbids it (nothing was written).

        Raises:
            FenceLost: If a newer owner holds the shard.
            StorageUnavailable: If it could not be committed; it must not be sent.
        """

    async def settle(self, outcome: AttemptOutcome) -> None:
        """Commit how the Attempt ended and exchange its reservation for its cost.

        Waits for the database to come back rather than lose a paid result.

        Raises:
            FenceLost: If a newer owner holds the shard.
        """

    async def score(self, shard: ShardRef, records: Sequence[ScoreRecord]) -> None:
        """Commit the scores of replies; equal keys are written once.

        Raises:
            FenceLost: If a newer owner holds the shard.
        """


class Pace(Protocol):
    """How fast calls of an endpoint may follow each other, whoever makes them."""

    async def turn(self, endpoint: Endpoint) -> float:
        """Take the endpoint's next turn and return the seconds until it comes.

        Raises:
            StorageUnavailable: If no turn could be taken; the call must not be sent.
        """


# --- storage --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidence:
    """One candidate-week as it is kept.

    Attributes:
        week: ISO week of the slot, e.g. `2026-W13`.
        epoch: Digest of what must stay the same for evidence to be pooled.
        identity: What the digest covers, to name the reason of a break.
        primary_price, candidate_price: Prices it was computed with, to re-price after a change.
    """

    plan_name: str
    primary: str
    candidate: str
    week: str
    epoch: str
    identity: JsonObject
    run_ids: tuple[str, ...]
    evidence: Evidence
    primary_price: JsonObject
    candidate_price: JsonObject
    segments: Mapping[str, Evidence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """A candidate's state over weeks; `since_week` is where its held history begins."""

    plan_name: str
    primary: str
    candidate: str
    epoch: str
    state: CandidateState
    week: str
    since_week: str
    changed_at: datetime
    detail: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a model replied to a Case when it first appeared, and what that was worth then."""

    case_id: str
    week: str
    reply: Reply
    quality: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrub:
    """What becomes of a Run's stored texts once it is final.

    Attributes:
        clean: Makes the form that may be kept; None removes every text.
    """

    clean: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """Everything that is committed at the end of a Run, in one transaction.

    Attributes:
        document: The `report --json` object, kept immutable in `benchmark_results`.
        alerts: What goes to the outbox.
        drift_reading: What the week says about drift, for later weeks to compare with.
        open_alerts: Changes of alert state that the alerts tell of.
        scrub: What the plan allows of the stored texts, now that the Run is final; None keeps all.
    """

    run_id: str
    status: RunStatus
    finished_at: datetime
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    evidence: tuple[StoredEvidence, ...]
    states: tuple[StoredState, ...]
    drift: DriftReport | None
    judge: JudgeReport
    adaptive: AdaptiveReport
    document: JsonObject
    alerts: tuple[Alert, ...]
    open_alerts: tuple[OpenAlert, ...] = ()
    drift_reading: JsonObject | None = None
    error_code: str | None = None
    error_message: str | None = None
    scrub: Scrub | None = None


class RunStore(Protocol):
    """Runs, their Samples, shards and results."""

    async def request(self, plan: Plan, slot: Slot, trigger: Trigger, *, seed: int) -> Run | None:
        """Insert the Run of a slot in status `due`; None when the slot already has one.

        Runs by hand get a slot key of their own and are always inserted.
        """

    async def begin(
        self, run: Run, plan: Plan, *, owner: str, now: datetime, lease_s: float
    ) -> Run:
        """Make it the Plan's one active Run and own it until the lease runs out.

        Done under a lock on the plan's row. A Run that was begun before is taken over when its
        owner's lease has run out (or is our own), or after it was ended as abandoned; then
        `restarts` counts up, and counts from 1 again when Attempts have settled since the last
        start.

        Raises:
            RunInProgress: If another Run of the Plan is active, or this one is in other hands.
        """

    async def allow(self, run_id: str, plan: Plan, *, now: datetime, anew: bool = False) -> None:
        """Store what the Run may spend, as the plan says: every process that works it keeps to it.

        What was stored stays, so that a process with another version of the plan's file changes
        nothing; `anew` replaces it, unless somebody is at work on the Run.
        """

    async def renew(self, run_id: str, *, owner: str, now: datetime, lease_s: float) -> bool:
        """Hold the lease for longer; False when the Run is final or in other hands."""

    async def release(self, run_id: str, *, owner: str) -> None:
        """Give the lease back, so that the Run can be resumed at once."""

    async def holder(self, run_id: str) -> str | None:
        """Who owns the Run's lease, run out or not; None when nobody does."""

    async def orphans(self, plan_name: str, *, now: datetime) -> Sequence[Run]:
        """Runs of slots, due or running, that nobody holds: to be begun or gone on with.

        Their lease ran out or was never taken. One that a hand asked for as of a slot is given a
        minute to begin; Runs by hand are never among them.
        """

    async def end_abandoned(
        self, plan_name: str, *, now: datetime, scrub: Scrub | None
    ) -> Sequence[Run]:
        """End Runs by hand that nobody works any more as partial, and return them.

        Their lease was given back, or ran out a minute ago. They hold up no slot from then on.
        Their texts become what `scrub` makes of them in the same commit, as at every end; they can
        be resumed when it left the prompts as they were.
        """

    async def newest_slot(self, plan_name: str) -> Slot | None:
        """The newest slot of the Plan that has a row of any status, runs by hand apart."""

    async def record_missed(
        self,
        plan: Plan,
        slots: Sequence[Slot],
        *,
        status: RunStatus,
        now: datetime,
        alert: Alert | None = None,
    ) -> int:
        """Insert rows for slots that will not be run (missed, skipped); count the new ones.

        The alert goes to the outbox in the same commit, where a row is new.
        """

    async def save_sample(self, run: Run, sample: Sample, frozen: JsonObject) -> Run:
        """Commit the Sample with the frozen Policy, once; a second call changes nothing."""

    async def run(self, run_id: str) -> Run | None:
        """The Run with this id (or unique prefix)."""

    async def active_run(self, plan_name: str) -> Run | None:
        """The Plan's Run in work, if any."""

    async def latest_run(self, plan_name: str, *, statuses: Sequence[RunStatus] = ()) -> Run | None:
        """The Plan's newest Run, optionally of these statuses."""

    async def runs(
        self, plan_name: str, *, statuses: Sequence[RunStatus] = (), limit: int = 100
    ) -> Sequence[Run]:
        """The Plan's Runs, newest first."""

    async def plan_names(self) -> Sequence[str]:
        """Every Plan that ever had a Run."""

    async def sample(self, run_id: str) -> Sample | None:
        """The Sample of a Run with its Cases and anchors, None before it was saved."""

    async def quarantined(self, plan_name: str, *, primary: str, attempts: int) -> frozenset[str]:
        """Fingerprints of prompts that the primary never answered in so many Attempts.

        Only Runs count in which it answered at least half of the others: an outage condemns no
        prompt.
        """

    async def plan_shards(self, run_id: str, shards: Sequence[Shard]) -> None:
        """Add the shards of a block, once."""

    async def shards(self, run_id: str) -> Sequence[Shard]:
        """All shards so far, in order."""

    async def claim(
        self, run_id: str, shard_no: int, *, owner: str, at: datetime, holder: str | None = None
    ) -> ClaimedShard:
        """Take the shard under a new Fence; `sent` Attempts of earlier owners become ambiguous.

        Raises:
            FenceLost: If a holder is named who does not hold the Run any more.
        """

    async def settled(self, shard: Shard) -> SettledCalls:
        """What earlier owners of the shard's Cases already paid for."""

    async def scored(self, shard: Shard) -> Sequence[ScoreRecord]:
        """Scores already stored for the shard's Cases."""

    async def close_shard(self, ref: ShardRef, *, at: datetime) -> bool:
        """Mark the shard done; True when it was the last open shard of its block.

        Raises:
            FenceLost: If a newer owner holds the shard.
        """

    async def results(self, run_id: str) -> Sequence[CaseResult]:
        """What every model did on every Case, recomputed from `attempts` and `scores`."""

    async def repriced_results(
        self, run_id: str, prices: Mapping[str, Price]
    ) -> Sequence[CaseResult]:
        """As `results`, with the stored usage of every Attempt charged at these prices."""

    async def scores(self, run_id: str) -> Sequence[ScoreRecord]:
        """Every score of the Run, canaries included (their model_name is `canary`)."""

    async def spend(self, run_id: str) -> Sequence[SpendLine]:
        """What the Run spent, by model and purpose."""

    async def spend_since(self, plan_name: str, since: datetime) -> Decimal:
        """What the Plan has charged to its caps since then, open reservations included."""

    async def scrub(self, run_id: str, clean: Callable[[str], str] | None) -> None:
        """Replace every stored text of the Run by its cleaned form; None removes all bodies."""

    async def finish(self, results: RunResults) -> None:
        """Commit results, evidence, states, alerts (outbox) and the final status together.

        Whoever still works for the Run is fenced off in the same commit, as at every end.
        """

    async def document(self, run_id: str) -> JsonObject | None:
        """The Run's immutable document."""

    async def evidence(self, plan_name: str, *, since_week: str) -> Sequence[StoredEvidence]:
        """Stored candidate-weeks, oldest first."""

    async def baselines(self, case_ids: Sequence[str], model_name: str) -> Mapping[str, Baseline]:
        """What the model first replied to these Cases, where the reply is still kept."""

    async def drift_readings(self, plan_name: str, *, limit: int) -> Sequence[JsonObject]:
        """What the last complete Run of each of the last weeks said about drift, oldest first."""

    async def states(self, plan_name: str) -> Sequence[StoredState]:
        """The latest state of every candidate."""

    async def anchors(self, plan_name: str, *, before_run: str) -> Sequence[Case]:
        """The anchors of the Plan's last complete Run."""

    async def earlier_cases(self, plan_name: str, *, before_run: str, limit: int) -> Sequence[Case]:
        """Cases of earlier Runs that can become anchors (bodies kept, with weight)."""


class LabelStore(Protocol):
    """What people think of replies, beside what the judge thinks."""

    async def judged_cases(self, run_id: str) -> Sequence[JudgedCase]:
        """The Run's Cases, anchors apart, whose prompt and judged replies are still kept.

        Replies that are unsuccessful or that no judge scored are left out.
        """

    async def add(self, plan_name: str, labels: Sequence[Label]) -> None:
        """Keep the labels; a person's newer label of a reply replaces the older one."""

    async def labelled(self, plan_name: str) -> Sequence[LabelledReply]:
        """Every labelled reply of the Plan whose scores are still kept, in a fixed order."""


class AlertStore(Protocol):
    """Alert state and the outbox."""

    async def open_alerts(self, plan_name: str) -> Sequence[OpenAlert]:
        """Alerts that are open, acknowledged ones included."""

    async def enqueue(
        self, plan_name: str, alerts: Sequence[Alert], states: Sequence[OpenAlert]
    ) -> None:
        """Put alerts in the outbox outside a Run's end, with the state they change."""

    async def lease_outbox(
        self,
        *,
        owner: str,
        now: datetime,
        lease_s: float,
        plan_names: Sequence[str] | None = None,
    ) -> Sequence[OutboxItem]:
        """Claim what is due, of these Plans or of all; a dead owner's lease runs out."""

    async def record_delivery(self, item: OutboxItem, delivery: Delivery, *, now: datetime) -> None:
        """Note the outcome; undelivered items become due again with back-off."""

    async def acknowledge(
        self, key: str, *, reason: str, until: datetime | None, now: datetime
    ) -> OpenAlert | None:
        """Acknowledge an open alert; None when there is no such open alert."""

    async def retry_failed(self, plan_name: str, *, now: datetime) -> int:
        """Make messages that were given up due again, for when it was mended; count them."""

    async def failing(self, plan_name: str) -> Sequence[StuckDelivery]:
        """Messages given up, and those that failed several times, oldest first."""


# --- out ------------------------------------------------------------------------------------


class Notifier(Protocol):
    """What delivers an Alert."""

    name: str

    async def deliver(self, alert: Alert, *, thread: str | None) -> Delivery:
        """Try once to deliver; never raises for what the other side does."""

    async def check(self) -> tuple[str, ...]:
        """Warnings about tokens, scopes and channels."""

    async def close(self) -> None:
        """Give back connections."""


Heartbeat = Callable[[str], Awaitable[bool]]
"""Ping the URL after a success; True when it was answered with 2xx."""
