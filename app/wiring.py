"""The only place that chooses edges: what stands behind every port."""

import asyncio
import random
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from app import __version__
from app.alerting.delivery import deliver_due
from app.calls.caller import Caller, CallerPolicy
from app.calls.slots import SlotPools
from app.clocks import FileClock, SystemClock
from app.domain.attempts import Completion, Failure
from app.domain.cases import Message, Prompt
from app.domain.errors import ConfigError, RunInterrupted, StorageUnavailable, SwitchwiseError
from app.domain.json_values import JsonObject, fingerprint
from app.domain.models import Endpoint, ModelSpec, Secret
from app.domain.plans import Plan
from app.domain.prices import CostCheck, Price
from app.domain.runs import Run, Slot
from app.evaluation.catalogue import evaluation_identity, evaluator_versions
from app.evaluation.panel import EvaluationPanel
from app.pipeline import execute, known_prices
from app.plans import PRICES_FILE, load_plans, public_config
from app.ports import (
    AlertStore,
    Clock,
    FoundLog,
    Heartbeat,
    Journal,
    LabelStore,
    ListingStore,
    LogSource,
    ModelRequest,
    Notifier,
    Pace,
    PriceBook,
    Provider,
    RunStore,
)
from app.replay.load import ClosedLoad, Load, PoissonLoad
from app.replay.shards import CALLS_PER_SLOT_SHARED, CASES_PER_SHARD, shards_for
from app.run_tools import HandOut, Progress, RunTools
from app.settings import Settings
from app.workers.owners import is_gone, owner_name

if TYPE_CHECKING:
    from app.providers.prices import ListPrices
    from app.storage.page_queries import PostgresPages
    from app.storage.retention import Pruned
    from app.workers.worker import ShardWorker

_PROBE_TOKENS = 16
_PRUNE_WITHIN_S = 600.0
GRACE_S = 15.0


# --- the environment ----------------------------------------------------------------------------


def clock_for(settings: Settings) -> Clock:
    """The machine's clock, or the one a file tells."""
    return FileClock(settings.clock_file) if settings.clock_file else SystemClock()


def plans_for(settings: Settings, path: Path | None = None) -> tuple[Plan, ...]:
    """The plans of a file or directory.

    Raises:
        ConfigError: Naming file, line and key of everything to mend.
    """
    return load_plans(path or settings.config, settings.variables)


@contextmanager
def results_database(settings: Settings) -> Iterator[str]:
    """The DSN of the results database; without DATABASE_URL a private Postgres is started."""
    if settings.database_url is not None:
        yield settings.database_url.reveal()
        return
    from app.storage.embedded import EmbeddedPostgres

    with EmbeddedPostgres(settings.home) as server:
        yield server.dsn


def logs_dsn(plan: Plan, settings: Settings, results_dsn: str) -> str:
    """Where prompts are read: the plan's DSN, the environment's, else the results database."""
    if plan.logs.dsn is not None:
        return plan.logs.dsn.reveal()
    if settings.logs_database_url is not None:
        return settings.logs_database_url.reveal()
    return results_dsn


# --- edges --------------------------------------------------------------------------------------


def log_source(plan: Plan, dsn: str, listings: ListingStore | None = None) -> LogSource:
    """Where the plan's prompts come from.

    Args:
        plan: The plan.
        dsn: The database of a log in Postgres.
        listings: Keeps how far the listing of a remote log has come.

    Raises:
        ConfigError: If the preset is none of this program's.
    """
    match plan.logs.preset:
        case "generic":
            from app.logsources.postgres import PostgresLogs

            return PostgresLogs(plan.logs, dsn=dsn)
        case "file":
            from app.logsources.file import FileLogs

            return FileLogs(plan.logs)
        case "litellm":
            from app.logsources.litellm import LiteLLMLogs

            return LiteLLMLogs(plan.logs, dsn=dsn)
        case "phoenix":
            from app.logsources.phoenix import PhoenixLogs

            return PhoenixLogs(plan.logs, dsn=dsn)
        case "langfuse" | "helicone" | "openai":
            return _exported_logs(plan, listings)
        case "otel":
            from app.logsources.otel import OtelLogs

            return OtelLogs(plan.logs, dsn=dsn)
        case unknown:
            raise ConfigError(f"logs.preset: {unknown} is not supported")


def _exported_logs(plan: Plan, listings: ListingStore | None) -> LogSource:
    """The log of a product: an export of it where the plan names a file, else its API."""
    from app.logsources.api_logs import ApiLogs
    from app.logsources.exported_records import READINGS
    from app.logsources.file import FileLogs
    from app.logsources.log_apis import open_api

    if plan.logs.path is not None:
        return FileLogs(plan.logs, reading=READINGS[plan.logs.preset])
    return ApiLogs(plan.logs, open_api(plan.logs.preset, plan.logs.options), listings)


async def find_log_tables(dsn: str) -> tuple[FoundLog, ...]:
    """Tables of a database that look like logs of prompts, the likeliest first.

    Raises:
        LogSourceError: If the database cannot be reached.
    """
    from app.logsources.detection import find_logs

    return await find_logs(dsn)


def find_log_file(path: Path) -> FoundLog:
    """What a file of prompts holds.

    Raises:
        LogSourceError: If it is none.
    """
    from app.logsources.detection import find_in_file

    return find_in_file(path)


#: Product -> option of its API -> variable of the environment that holds it.
API_KEYS: Mapping[str, Mapping[str, str]] = {
    "langfuse": {"public_key": "LANGFUSE_PUBLIC_KEY", "secret_key": "LANGFUSE_SECRET_KEY"},
    "helicone": {"api_key": "HELICONE_API_KEY"},
    "openai": {"api_key": "OPENAI_API_KEY"},
}
_API_ADDRESSES = {
    "langfuse": ("LANGFUSE_BASE_URL", "LANGFUSE_HOST"),
    "helicone": ("HELICONE_BASE_URL",),
    "openai": ("OPENAI_BASE_URL",),
}


async def find_log_in_api(product: str, variables: Mapping[str, str], now: datetime) -> FoundLog:
    """What the API of a product keeps, by its newest page.

    Args:
        product: One of `API_KEYS`.
        variables: The environment.
        now: The present.

    Raises:
        LogSourceError: If it cannot be read, or holds nothing.
    """
    from app.logsources.detection import find_in_api

    names = dict(API_KEYS[product])
    address = next((name for name in _API_ADDRESSES[product] if variables.get(name)), None)
    if address is not None:
        names = {"base_url": address, **names}
    options = {option: Secret(variables[name]) for option, name in names.items()}
    found = await find_in_api(product, options, now)
    return replace(found, options={option: f"${{{name}}}" for option, name in names.items()})


def price_book(plan: Plan) -> PriceBook:
    """The plan's own prices, then those of `prices.yaml` beside it, then the shipped list.

    Raises:
        ConfigError: If `prices.yaml` is wrong.
    """
    return price_list_for(plan)


def price_list_for(plan: Plan | None) -> "ListPrices":
    """As `price_book`, with what the list can tell of itself; None: the shipped list alone.

    Raises:
        ConfigError: If `prices.yaml` is wrong.
    """
    from app.providers.prices import ListPrices, parse_overrides

    if plan is None:
        return ListPrices()
    file = Path(plan.source_file or "").parent / PRICES_FILE
    if plan.source_file is None or not file.is_file():
        return ListPrices()
    return ListPrices(parse_overrides(file.read_text(encoding="utf-8"), file=str(file)))


def provider_for(endpoint: Endpoint, clock: Clock) -> Provider:
    """The adapter that speaks to an endpoint."""
    match endpoint.api:
        case "openai":
            from app.providers.openai import OpenAIProvider

            return OpenAIProvider(endpoint, clock)
        case "embeddings":
            from app.providers.embeddings import EmbeddingsProvider

            return EmbeddingsProvider(endpoint, clock)
        case "anthropic":
            from app.providers.anthropic import AnthropicProvider

            return AnthropicProvider(endpoint, clock)


def load_sdk() -> None:
    """Import the SDK that most plans call with: seconds that fit beside the start of a database."""


def notifier_for(plan: Plan, clock: Clock, stream: TextIO) -> Notifier:
    """What delivers the plan's alerts; the console when nothing is configured."""
    if plan.slack is not None and plan.slack.token is not None:
        from app.notifiers.slack import SlackNotifier

        return SlackNotifier(plan.slack, public_url=plan.server.public_url, draw_chart=_draw_chart)
    if plan.slack is not None and plan.slack.webhook_url is not None:
        from app.notifiers.slack import SlackWebhookNotifier

        return SlackWebhookNotifier(plan.slack, public_url=plan.server.public_url)
    if plan.webhook is not None:
        from app.notifiers.webhook import WebhookNotifier

        return WebhookNotifier(plan.webhook, clock.now)
    from app.notifiers.console import ConsoleNotifier

    return ConsoleNotifier(stream)


def _draw_chart(chart: Mapping[str, object]) -> bytes:
    """The chart of an alert as PNG; what draws is imported when there is something to draw."""
    from app.notifiers.chart import draw_chart

    return draw_chart(chart)


def heartbeat() -> Heartbeat:
    """What pings a URL after a success."""
    from app.notifiers.heartbeat import ping

    return ping


class Providers:
    """One adapter per endpoint, made on first use and closed together."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[int, tuple[Endpoint, Provider]] = {}
        self._by_key: dict[str, Provider] = {}

    def __call__(self, endpoint: Endpoint) -> Provider:
        """The adapter of an endpoint."""
        known = self._made.get(id(endpoint))
        if known is not None and known[0] is endpoint:
            return known[1]
        key = endpoint.key
        if key not in self._by_key:
            self._by_key[key] = provider_for(endpoint, self._clock)
        self._made[id(endpoint)] = (endpoint, self._by_key[key])
        return self._by_key[key]

    async def prepare(self, endpoints: Iterable[Endpoint]) -> None:
        """Make the adapters of these endpoints; vendors' SDKs take seconds to load."""
        await asyncio.to_thread(lambda: [self(endpoint) for endpoint in endpoints])

    async def close(self) -> None:
        """Give back all connections."""
        for provider in self._by_key.values():
            await provider.close()


# --- storage ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The results database as its ports.

    Attributes:
        listings_of: What keeps the listings of a Run, by its id.
    """

    dsn: str
    runs: RunStore
    labels: LabelStore
    alerts: AlertStore
    journal: Journal
    pace: Pace
    listings_of: Callable[[str], ListingStore]


@asynccontextmanager
async def open_storage(
    dsn: str, clock: Clock, plans: Sequence[Plan] = ()
) -> AsyncIterator[Storage]:
    """Open the results database, whose schema must be this program's.

    Raises:
        StorageUnavailable: If it cannot be reached.
        SchemaMismatch: If its schema is of another version.
    """
    from app.storage.alert_store import PostgresAlerts
    from app.storage.engine import Database
    from app.storage.journal import PostgresJournal
    from app.storage.label_store import PostgresLabels
    from app.storage.ledger import Caps, caps_of_plan
    from app.storage.listing_store import PostgresListings
    from app.storage.migrations import require_current
    from app.storage.pace import PostgresPace
    from app.storage.result_store import PostgresResults

    await asyncio.to_thread(require_current, dsn)
    caps = {plan.name: caps_of_plan(plan) for plan in plans}
    database = Database(dsn)
    journal = PostgresJournal(dsn, clock=clock, caps=lambda name: caps.get(name) or Caps())
    try:
        yield Storage(
            dsn=dsn,
            runs=PostgresResults(database, clock.now),
            labels=PostgresLabels(database),
            alerts=PostgresAlerts(database, clock.now),
            journal=journal,
            pace=PostgresPace(database),
            listings_of=lambda run_id: PostgresListings(database, run_id, clock.now),
        )
    finally:
        await journal.close()
        await database.close()


async def reported_costs(
    dsn: str, plan_name: str, *, since: datetime, run_id: str | None = None
) -> Sequence[CostCheck]:
    """What calls cost by our prices, beside what the gateway says they cost, per model."""
    from app.storage import reported_costs as stored

    return await stored.reported_costs(dsn, plan_name, since=since, run_id=run_id)


@asynccontextmanager
async def open_pages(dsn: str) -> AsyncIterator["PostgresPages"]:
    """What the pages read, over connections of their own: visitors never hold up a Run."""
    from app.storage.engine import Database
    from app.storage.page_queries import PostgresPages

    database = Database(dsn)
    try:
        yield PostgresPages(database)
    finally:
        await database.close()


# --- a run --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What an operator asks of one Run beside its plan.

    Attributes:
        stop: Set to stop: no new call, those in flight settle.
        is_told: False when the Run shall send no message.
        pools: The slots of every endpoint, where Runs share them.
        hand_out: Has shards worked by other processes; None works them in this one.
        caps_anew: True to replace the caps that the Run was begun with by the plan's.
    """

    owner: str
    stop: asyncio.Event
    next_slot: Slot | None = None
    on_progress: Callable[[Progress], None] = field(default=lambda _progress: None)
    is_told: bool = True
    pools: SlotPools = field(default_factory=SlotPools)
    hand_out: HandOut | None = None
    caps_anew: bool = False


@asynccontextmanager
async def run_tools(
    run: Run, plan: Plan, storage: Storage, settings: Settings, options: RunOptions
) -> AsyncIterator[RunTools]:
    """Everything a Run of the plan works with.

    Args:
        run: The Run.
        plan: The plan.
        storage: The open results database.
        settings: The environment.
        options: Owner, stop signal and progress.

    Raises:
        UnknownPrice: Naming every model without a price.
        ConfigError: If an evaluator cannot be made.
    """
    clock = clock_for(settings)
    book = price_book(plan)
    prices = known_prices(plan.models, lambda model: book.price(model, clock.now()))
    rng = random.Random()  # noqa: S311 - jitter and ids
    async with AsyncExitStack() as stack:
        providers = Providers(clock)
        stack.push_async_callback(providers.close)
        await providers.prepare(model.endpoint for model in plan.models)
        listings = storage.listings_of(run.run_id)
        source = log_source(plan, logs_dsn(plan, settings, storage.dsn), listings)
        stack.push_async_callback(source.close)
        caller = Caller(
            provider_for=providers,
            journal=storage.journal,
            clock=clock,
            rng=rng,
            policy=CallerPolicy(
                primary=plan.primary.endpoint,
                counts_from_arrival=not plan.replay.report_both,
                pools=options.pools,
                pace=storage.pace,
            ),
            stop=options.stop,
        )
        panel = EvaluationPanel(plan, calls=caller, prices=prices, seed=run.seed)
        versions = evaluator_versions(plan)
        yield RunTools(
            plan=plan,
            runs=storage.runs,
            labels=storage.labels,
            alerts=storage.alerts,
            journal=storage.journal,
            logs=source,
            caller=caller,
            panel=panel,
            load=_load_of(plan, clock, rng),
            prices=prices,
            evaluation=evaluation_identity(plan),
            clock=clock,
            owner=options.owner,
            frozen=frozen_set_up(plan, prices, versions),
            next_slot=options.next_slot,
            on_progress=options.on_progress,
            is_told=options.is_told,
            hand_out=options.hand_out,
        )


def _load_of(plan: Plan, clock: Clock, rng: random.Random) -> Load:
    rate_per_s = plan.replay.rate_per_s
    return ClosedLoad() if rate_per_s is None else PoissonLoad(rate_per_s, clock=clock, rng=rng)


def frozen_set_up(
    plan: Plan, prices: Mapping[str, Price], versions: Mapping[str, str]
) -> JsonObject:
    """What is fixed before the Run, without secrets."""
    return {
        "config": public_config(plan),
        "evaluator_versions": dict(versions),
        "prices": {name: price.to_json() for name, price in prices.items()},
        "app_version": __version__,
    }


def seed_for(plan: Plan, slot: Slot) -> int:
    """The seed of a slot's Run: the same on every replica, another every week."""
    return int(fingerprint([plan.name, slot.key]), 16) % 2**31


async def work_run(
    run: Run, plan: Plan, storage: Storage, settings: Settings, options: RunOptions
) -> JsonObject:
    """Work one Run to its end in this process, deliver its alerts, return its document.

    Raises:
        RunInterrupted: If it was asked to stop; the lease is given back, resume it later.
        SwitchwiseError: What stopped the work.
    """
    halt = asyncio.Event()
    try:
        now = clock_for(settings).now()
        await storage.runs.allow(run.run_id, plan, now=now, anew=options.caps_anew)
        async with run_tools(run, plan, storage, settings, replace(options, stop=halt)) as tools:
            return await _until_stopped(execute(run, tools), options.stop, halt)
    except SwitchwiseError:
        with suppress(StorageUnavailable):
            await storage.runs.release(run.run_id, owner=options.owner)
        raise


async def _until_stopped(
    work: Coroutine[Any, Any, JsonObject], stop: asyncio.Event, halt: asyncio.Event
) -> JsonObject:
    """Do the work; once asked to stop, let calls in flight settle for some seconds, no longer.

    Raises:
        RunInterrupted: If it was stopped.
    """
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            halt.set()
            await asyncio.wait({working}, timeout=GRACE_S)
        if working.done():
            return working.result()
        raise RunInterrupted(f"stopped; calls in flight did not end within {GRACE_S:.0f} s")
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.wait({working})


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedWork:
    """Work shared by processes: one worker here, and ways to hand shards out.

    Attributes:
        hand_outs: By plan name.
    """

    worker: "ShardWorker"
    hand_outs: Mapping[str, HandOut]
    pools: SlotPools


@asynccontextmanager
async def shared_work(
    plans: Sequence[Plan],
    storage: Storage,
    settings: Settings,
    *,
    owner: str,
    most_calls: int | None = None,
    is_holder: bool = False,
) -> AsyncIterator[SharedWork]:
    """Open the queue of shards.

    Args:
        plans: The plans whose shards are worked and handed out here.
        storage: The open results database.
        settings: The environment.
        owner: The name of this process.
        most_calls: Most calls in flight here per endpoint, None for our share of its concurrency.
        is_holder: Whether Runs are held here: then one call at a time is always possible, for
            open load and for finding out why others cannot do a shard.

    Raises:
        SchemaMismatch: If the database holds no queue.
    """
    from app.workers.hand_out import HandOut as QueuedHandOut
    from app.workers.queue import ShardQueue
    from app.workers.shares import Shares
    from app.workers.worker import ShardWorker, WorkerTools

    queue = ShardQueue(storage.dsn, worker=owner)
    await queue.open()
    by_queue = {queue_name(plan): plan for plan in plans}
    shares = Shares({name: _endpoints(plan) for name, plan in by_queue.items()}, most=most_calls)
    least = 1 if is_holder else 0
    pools = SlotPools(lambda endpoint: max(least, shares(endpoint)))

    def tools_for(
        run: Run, plan: Plan, halt: asyncio.Event
    ) -> AbstractAsyncContextManager[RunTools]:
        options = RunOptions(owner=owner, stop=halt, pools=pools)
        return run_tools(run, plan, storage, settings, options)

    try:
        yield SharedWork(
            worker=ShardWorker(
                WorkerTools(
                    queue=queue,
                    runs=storage.runs,
                    clock=clock_for(settings),
                    plans=by_queue,
                    tools_for=tools_for,
                    shares=shares,
                    on_share=pools.adjust,
                    at_once=max(_shards_at_once(plan, most_calls) for plan in plans),
                )
            ),
            hand_outs={
                plan.name: QueuedHandOut(queue=queue, name=queue_name(plan)) for plan in plans
            },
            pools=pools,
        )
    finally:
        await queue.close()


def queue_name(plan: Plan) -> str:
    """Shards wait where only workers of this version with this very plan look."""
    return fingerprint([plan.name, plan.config_hash, __version__])


def _endpoints(plan: Plan) -> Sequence[Endpoint]:
    return [model.endpoint for model in plan.models]


def _shards_at_once(plan: Plan, most_calls: int | None) -> int:
    endpoints = {model.endpoint.key: model.endpoint for model in plan.contestants}
    slots = sum(
        endpoint.concurrency if most_calls is None else min(most_calls, endpoint.concurrency)
        for endpoint in endpoints.values()
    )
    calls = CASES_PER_SHARD * len(plan.contestants)
    return shards_for(slots, calls, per_slot=CALLS_PER_SLOT_SHARED)


async def free_abandoned(run_id: str, runs: RunStore) -> None:
    """Give the Run's lease back when the process that holds it has certainly ended."""
    holder = await runs.holder(run_id)
    if holder is not None and is_gone(holder):
        await runs.release(run_id, owner=holder)


async def prune_results(
    dsn: str, plans: Sequence[Plan], *, now: datetime, is_trial: bool = False
) -> Sequence["Pruned"]:
    """Remove what is older than the plans allow and tell what was removed.

    Raises:
        StorageUnavailable: If the results database cannot be reached.
    """
    from app.storage.engine import Database
    from app.storage.retention import prune

    database = Database(dsn, pool_size=1, answer_within_s=_PRUNE_WITHIN_S)
    try:
        kept = {plan.name: plan.retention for plan in plans}
        return await prune(database, kept, now=now, is_trial=is_trial)
    finally:
        await database.close()


async def deliver_alerts(
    plans: Sequence[Plan], storage: Storage, clock: Clock, stream: TextIO, *, owner: str
) -> int:
    """Deliver what waits in the outbox for these plans, once; count what was delivered."""
    notifiers = {plan.name: notifier_for(plan, clock, stream) for plan in plans}
    try:
        return await deliver_due(storage.alerts, notifiers, owner=owner, clock=clock)
    finally:
        for notifier in notifiers.values():
            await notifier.close()


async def probe_models(
    plan: Plan, clock: Clock
) -> Sequence[tuple[ModelSpec, Completion | Failure]]:
    """Send one word to every model of the plan, outside any Run, to see whether it answers."""
    prompt = Prompt(messages=(Message(role="user", content="Say OK."),))
    providers = Providers(clock)
    try:
        return [
            (model, await providers(model.endpoint).send(_probe(model, prompt)))
            for model in plan.models
        ]
    finally:
        await providers.close()


def _probe(model: ModelSpec, prompt: Prompt) -> ModelRequest:
    return ModelRequest(
        model=model, prompt=prompt, max_tokens=_PROBE_TOKENS, deadline_s=model.endpoint.timeout_s
    )


__all__ = [
    "Providers",
    "RunOptions",
    "SharedWork",
    "Storage",
    "clock_for",
    "deliver_alerts",
    "free_abandoned",
    "frozen_set_up",
    "heartbeat",
    "log_source",
    "logs_dsn",
    "notifier_for",
    "open_storage",
    "owner_name",
    "plans_for",
    "price_book",
    "probe_models",
    "provider_for",
    "queue_name",
    "results_database",
    "run_tools",
    "seed_for",
    "shared_work",
    "work_run",
]
