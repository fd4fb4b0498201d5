"""The results database in memory: RunStore, Journal, LabelStore and AlertStore over one state.

The contract suites run on these and on Postgres alike. `Memory.go_away()` plays a database that
cannot be reached: everything is refused, and settling waits, until `come_back()`.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app import __version__
from app.domain.alerts import Alert, Delivery, OpenAlert, OutboxItem, StuckDelivery
from app.domain.attempts import (
    AttemptOpening,
    AttemptOutcome,
    AttemptState,
    Completion,
    FailureClass,
    Purpose,
    Reply,
    SettledCalls,
    ShardRef,
)
from app.domain.cases import Case, Prompt, Sample
from app.domain.errors import FenceLost, RunInProgress, StorageUnavailable, SwitchwiseError
from app.domain.json_values import JsonObject
from app.domain.labels import JudgedCase, JudgedReply, Label, LabelledReply, judge_version_of
from app.domain.plans import Plan
from app.domain.prices import CostCheck, Price
from app.domain.results import CaseResult
from app.domain.runs import ABANDONED, ClaimedShard, Run, RunStatus, Shard, Slot, SpendLine, Trigger
from app.domain.scores import Score, ScoreRecord, quality_of, unscored_reason
from app.ports import (
    AlertStore,
    Baseline,
    BudgetRefusal,
    Journal,
    LabelStore,
    RunResults,
    RunStore,
    Scrub,
    StoredEvidence,
    StoredState,
)
from app.storage.alert_store import FOR_GOOD, pause_before_retry_s
from app.storage.documents import plain
from app.storage.ledger import Caps, caps_of_plan
from tests.fakes.clocks import HandClock

NO_CAPS = Caps()
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class MemoryAttempt:
    """One row of the journal."""

    opening: AttemptOpening
    state: AttemptState = AttemptState.SENT
    outcome: AttemptOutcome | None = None
    is_scrubbed: bool = False

    @property
    def cost_usd(self) -> Decimal | None:
        return self.outcome.cost_usd if self.outcome else None

    @property
    def charged_usd(self) -> Decimal:
        return self.opening.reserved_usd if self.cost_usd is None else self.cost_usd


@dataclass(slots=True)
class _Held:
    """What the row of a Run holds beside the Run."""

    owner: str | None = None
    lease_until: datetime | None = None
    progress_mark: int = 0


@dataclass(slots=True)
class _Message:
    item: OutboxItem
    due_at: datetime
    leased_until: datetime | None = None
    delivered_at: datetime | None = None
    failed_at: datetime | None = None
    error: str = ""

    @property
    def is_waiting(self) -> bool:
        return self.delivered_at is None and self.failed_at is None


@dataclass(slots=True)
class Memory:
    """All rows."""

    runs: dict[str, Run] = field(default_factory=dict)
    held: dict[str, _Held] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)
    caps: dict[str, Caps] = field(default_factory=dict)
    shards: dict[tuple[str, int], Shard] = field(default_factory=dict)
    attempts: dict[str, MemoryAttempt] = field(default_factory=dict)
    scores: dict[tuple[str, str, str, str, str | None], ScoreRecord] = field(default_factory=dict)
    results: dict[str, RunResults] = field(default_factory=dict)
    evidence: dict[tuple[str, ...], StoredEvidence] = field(default_factory=dict)
    states: dict[tuple[str, ...], StoredState] = field(default_factory=dict)
    labels: dict[tuple[str, str, str, str], tuple[str, Label]] = field(default_factory=dict)
    alerts: list[OpenAlert] = field(default_factory=list)
    outbox: dict[int, _Message] = field(default_factory=dict)
    scrubbed: set[str] = field(default_factory=set)
    redacted: set[str] = field(default_factory=set)
    reworded: set[str] = field(default_factory=set)
    _back: asyncio.Event = field(default_factory=asyncio.Event)
    is_away: bool = False

    def go_away(self) -> None:
        """Refuse everything until `come_back`."""
        self.is_away = True
        self._back.clear()

    def come_back(self) -> None:
        """Serve again."""
        self.is_away = False
        self._back.set()

    def require(self) -> None:
        """Raise while the database is away."""
        if self.is_away:
            raise StorageUnavailable("the results database does not answer")

    async def wait_until_back(self) -> None:
        """Return when the database is there."""
        if self.is_away:
            await self._back.wait()

    def check_fence(self, ref: ShardRef) -> None:
        """Raise when the shard is in newer hands."""
        shard = self.shards.get((ref.run_id, ref.shard_no))
        if shard is None or shard.fence != ref.fence:
            raise FenceLost(f"shard {ref.shard_no} of run {ref.run_id} has a newer owner")

    def plan_of(self, run_id: str) -> str:
        """The plan of a Run."""
        return self.runs[run_id].plan_name

    def case(self, run_id: str, case_id: str) -> Case:
        """The Case with this id."""
        sample = self.samples[run_id]
        return next(c for c in (*sample.cases, *sample.anchors) if c.case_id == case_id)


class MemoryJournal:
    """The journal and the ledger over a Memory."""

    def __init__(
        self, memory: Memory | None = None, *, caps: Callable[[str], Caps] = lambda _plan: NO_CAPS
    ) -> None:
        self.memory = memory or Memory()
        self._caps = caps

    async def open(self, opening: AttemptOpening) -> BudgetRefusal | None:
        await asyncio.sleep(0)
        self.memory.require()
        self.memory.check_fence(opening.shard)
        known = self.memory.attempts.get(opening.attempt_id)
        if known is not None:
            if known.state is AttemptState.SENT:
                return None
            raise SwitchwiseError(f"attempt {opening.attempt_id} is {known.state} already")
        for period, cap_usd in self._periods(opening).items():
            if cap_usd is None:
                continue
            charged = self._charged(opening.plan_name, period)
            if sum((a.charged_usd for a in charged), opening.reserved_usd) > cap_usd:
                name = "run" if period.startswith("run:") else "month"
                return BudgetRefusal(
                    cap=f"budget.per_{name}_usd",
                    cap_usd=cap_usd,
                    may_fit_later=any(self._is_in_flight(a, opening.sent_at) for a in charged),
                )
        self.memory.attempts[opening.attempt_id] = MemoryAttempt(opening)
        return None

    async def settle(self, outcome: AttemptOutcome) -> None:
        await asyncio.sleep(0)
        await self.memory.wait_until_back()
        self.memory.check_fence(outcome.shard)
        known = self.memory.attempts.get(outcome.attempt_id)
        if known is None:
            raise SwitchwiseError(f"attempt {outcome.attempt_id} was never opened")
        if known.state is AttemptState.SENT:
            known.state, known.outcome = AttemptState.SETTLED, outcome

    async def score(self, shard: ShardRef, records: Sequence[ScoreRecord]) -> None:
        await asyncio.sleep(0)
        await self.memory.wait_until_back()
        if records:
            self.memory.check_fence(shard)
        for r in records:
            key = (shard.run_id, r.case_id, r.model_name, r.evaluator, r.judge_model)
            self.memory.scores.setdefault(key, r)

    async def close(self) -> None:
        """Nothing is held."""

    def _charged(self, plan_name: str, period: str) -> list[MemoryAttempt]:
        return [
            attempt
            for attempt in self.memory.attempts.values()
            if attempt.opening.plan_name == plan_name and period in self._periods(attempt.opening)
        ]

    def _periods(self, opening: AttemptOpening) -> dict[str, Decimal | None]:
        run_id = opening.shard.run_id
        caps = self.memory.caps.get(run_id) or self._caps(opening.plan_name)
        return caps.periods(run_id, opening.sent_at)

    def _is_in_flight(self, attempt: MemoryAttempt, now: datetime) -> bool:
        opening = attempt.opening
        shard = self.memory.shards[(opening.shard.run_id, opening.shard.shard_no)]
        return (
            attempt.state is AttemptState.SENT
            and shard.fence == opening.shard.fence
            and self.memory.runs[opening.shard.run_id].status is RunStatus.RUNNING
            and opening.sent_at > now - timedelta(hours=1)
        )


class MemoryRuns:
    """The RunStore over a Memory."""

    def __init__(self, memory: Memory | None = None, *, now: Callable[[], datetime]) -> None:
        self.memory = memory or Memory()
        self._now = now

    # --- slots and leases ---------------------------------------------------------------------

    async def request(self, plan: Plan, slot: Slot, trigger: Trigger, *, seed: int) -> Run | None:
        self.memory.require()
        if trigger is not Trigger.HAND and self._has_slot(plan.name, slot):
            return None
        run = Run(
            run_id=str(uuid.uuid4()),
            plan_name=plan.name,
            trigger=trigger,
            status=RunStatus.DUE,
            slot=slot,
            seed=seed,
            created_at=self._now(),
            cases_requested=plan.sample.n,
            config_hash=plan.config_hash,
            app_version=__version__,
        )
        return self._put(run)

    async def begin(
        self, run: Run, plan: Plan, *, owner: str, now: datetime, lease_s: float
    ) -> Run:
        self.memory.require()
        current, held = self.memory.runs[run.run_id], self.memory.held[run.run_id]
        others = [r for r in self._of(plan.name, RunStatus.RUNNING) if r.run_id != run.run_id]
        if others:
            raise RunInProgress(f"run {others[0].run_id} of {plan.name} is active")
        is_running = current.status is RunStatus.RUNNING
        is_held = held.lease_until is not None and held.lease_until >= now
        if is_running and is_held and held.owner != owner:
            raise RunInProgress(f"run {run.run_id} is held by {held.owner}")
        if current.status.is_final and current.status is not RunStatus.PARTIAL:
            raise RunInProgress(f"run {run.run_id} is {current.status.value} already")
        lost = self._why_it_cannot_go_on(run.run_id)
        if lost is not None:
            raise RunInProgress(
                f"run {run.run_id} cannot go on: {lost}. Begin a new one: switchwise run"
            )
        settled = sum(
            attempt.state is AttemptState.SETTLED for attempt in self._attempts_of(run.run_id)
        )
        restarts = 0
        if is_running or current.error_code == ABANDONED:
            restarts = 1 if settled > held.progress_mark else current.restarts + 1
        self.memory.held[run.run_id] = _Held(
            owner=owner, lease_until=now + timedelta(seconds=lease_s), progress_mark=settled
        )
        return self._put(
            replace(
                current,
                status=RunStatus.RUNNING,
                started_at=current.started_at or now,
                finished_at=None,
                error_code=None,
                error_message=None,
                restarts=restarts,
            )
        )

    async def allow(self, run_id: str, plan: Plan, *, now: datetime, anew: bool = False) -> None:
        self.memory.require()
        held = self.memory.held[run_id]
        is_running = self.memory.runs[run_id].status is RunStatus.RUNNING
        is_held = is_running and held.lease_until is not None and held.lease_until >= now
        if not is_held if anew else run_id not in self.memory.caps:
            self.memory.caps[run_id] = caps_of_plan(plan)

    async def renew(self, run_id: str, *, owner: str, now: datetime, lease_s: float) -> bool:
        self.memory.require()
        held = self.memory.held.get(run_id, _Held())
        is_ours = held.owner == owner and self.memory.runs[run_id].status is RunStatus.RUNNING
        if is_ours:
            held.lease_until = now + timedelta(seconds=lease_s)
        return is_ours

    async def release(self, run_id: str, *, owner: str) -> None:
        self.memory.require()
        held = self.memory.held[run_id]
        if held.owner == owner:
            held.lease_until = None

    async def holder(self, run_id: str) -> str | None:
        self.memory.require()
        held = self.memory.held[run_id]
        is_running = self.memory.runs[run_id].status is RunStatus.RUNNING
        return held.owner if is_running and held.lease_until is not None else None

    async def orphans(self, plan_name: str, *, now: datetime) -> Sequence[Run]:
        self.memory.require()

        def is_free(run: Run) -> bool:
            if run.trigger is Trigger.HAND:
                return False
            is_asked_for = run.trigger is Trigger.AS_OF and run.status is RunStatus.DUE
            if is_asked_for and run.created_at >= now - timedelta(seconds=60):
                return False
            until = self.memory.held[run.run_id].lease_until
            return until is None or until < now

        runs = self._of(plan_name, RunStatus.DUE, RunStatus.RUNNING)
        return sorted(
            (run for run in runs if is_free(run)),
            key=lambda run: run.slot.at,
        )

    async def end_abandoned(
        self, plan_name: str, *, now: datetime, scrub: Scrub | None
    ) -> Sequence[Run]:
        self.memory.require()
        ended = []
        for run in self._of(plan_name, RunStatus.RUNNING):
            held = self.memory.held[run.run_id]
            is_held = held.lease_until and held.lease_until >= now - timedelta(seconds=60)
            if run.trigger is Trigger.HAND and not is_held:
                held.lease_until = None
                self._fence_off(run.run_id)
                if scrub is not None:
                    await self.scrub(run.run_id, scrub.clean)
                lost = self._why_it_cannot_go_on(run.run_id)
                ended.append(
                    self._put(
                        replace(
                            run,
                            status=RunStatus.PARTIAL,
                            finished_at=now,
                            error_code=ABANDONED,
                            error_message="its process ended before it did; finish it with:"
                            " switchwise run --resume RUN"
                            if lost is None
                            else f"its process ended before it did, and it cannot go on: {lost}",
                        )
                    )
                )
        return ended

    async def newest_slot(self, plan_name: str) -> Slot | None:
        self.memory.require()
        slots = [run.slot for run in self._of(plan_name) if run.trigger is not Trigger.HAND]
        return max(slots, key=lambda slot: slot.key, default=None)

    async def record_missed(
        self,
        plan: Plan,
        slots: Sequence[Slot],
        *,
        status: RunStatus,
        now: datetime,
        alert: Alert | None = None,
    ) -> int:
        count = 0
        for slot in slots:
            run = await self.request(plan, slot, Trigger.SCHEDULE, seed=0)
            if run is not None:
                count += 1
                self._put(replace(run, status=status, finished_at=now, error_code=status.value))
        if count and alert is not None:
            write_alerts(self.memory, plan.name, [alert], [], now=now)
        return count

    # --- runs ---------------------------------------------------------------------------------

    async def run(self, run_id: str) -> Run | None:
        self.memory.require()
        found = [run for key, run in self.memory.runs.items() if key.startswith(run_id)]
        return found[0] if len(found) == 1 else None

    async def active_run(self, plan_name: str) -> Run | None:
        return await self.latest_run(plan_name, statuses=(RunStatus.RUNNING,))

    async def latest_run(self, plan_name: str, *, statuses: Sequence[RunStatus] = ()) -> Run | None:
        return next(iter(await self.runs(plan_name, statuses=statuses, limit=1)), None)

    async def runs(
        self, plan_name: str, *, statuses: Sequence[RunStatus] = (), limit: int = 100
    ) -> Sequence[Run]:
        self.memory.require()
        newest_first = sorted(
            self._of(plan_name, *statuses),
            key=lambda run: (run.slot.at, run.created_at),
            reverse=True,
        )
        return newest_first[:limit]

    async def plan_names(self) -> Sequence[str]:
        return sorted({run.plan_name for run in self.memory.runs.values()})

    # --- samples ------------------------------------------------------------------------------

    async def save_sample(self, run: Run, sample: Sample, frozen: JsonObject) -> Run:
        self.memory.require()
        current = self.memory.runs[run.run_id]
        if run.run_id in self.memory.samples:
            return current
        self.memory.samples[run.run_id] = sample
        return self._put(
            replace(
                current,
                window=sample.window,
                cases_requested=sample.requested,
                cases_sampled=len(sample.cases),
                frame=sample.frame,
                skipped=dict(sample.skipped),
                frozen=plain(frozen),
            )
        )

    async def sample(self, run_id: str) -> Sample | None:
        self.memory.require()
        sample = self.memory.samples.get(run_id)
        if sample is not None and run_id in self.memory.scrubbed:
            return replace(sample, cases=(), anchors=())
        return sample

    async def anchors(self, plan_name: str, *, before_run: str) -> Sequence[Case]:
        runs = self._complete(plan_name, before_run)
        kept = self._kept(runs[0].run_id)[1] if runs else ()
        return [case for case in kept if case.case_id not in self.memory.redacted]

    async def earlier_cases(self, plan_name: str, *, before_run: str, limit: int) -> Sequence[Case]:
        runs = self._complete(plan_name, before_run)
        return [
            case
            for run in runs
            for case in self._kept(run.run_id)[0]
            if self._is_answered(run.run_id, case.case_id)
            and case.case_id not in self.memory.redacted
        ][:limit]

    async def scrub(self, run_id: str, clean: Callable[[str], str] | None) -> None:
        self.memory.require()
        if clean is None:
            self.memory.scrubbed.add(run_id)
            self._forget_replies(run_id)
        else:
            self._clean(run_id, clean)

    # --- shards -------------------------------------------------------------------------------

    async def quarantined(self, plan_name: str, *, primary: str, attempts: int) -> frozenset[str]:
        tried: dict[tuple[str, str], list[MemoryAttempt]] = {}
        for attempt in self.memory.attempts.values():
            opening = attempt.opening
            of_primary = (opening.plan_name, opening.model_name) == (plan_name, primary)
            if of_primary and opening.purpose is Purpose.REPLAY:
                case = self.memory.case(opening.shard.run_id, opening.case_id)
                key = (case.prompt.fingerprint, opening.shard.run_id)
                tried.setdefault(key, []).append(attempt)
        answered = {
            key: any(a.outcome and isinstance(a.outcome.result, Completion) for a in group)
            for key, group in tried.items()
        }
        counted: Counter[str] = Counter()
        for (prompt, run_id), group in tried.items():
            of_run = [is_ok for (_, other), is_ok in answered.items() if other == run_id]
            if 2 * sum(of_run) >= len(of_run):
                counted[prompt] += -1_000_000 if answered[prompt, run_id] else len(group)
        return frozenset(prompt for prompt, count in counted.items() if count >= attempts)

    async def plan_shards(self, run_id: str, shards: Sequence[Shard]) -> None:
        self.memory.require()
        for shard in shards:
            key = (run_id, shard.shard_no)
            self.memory.shards.setdefault(key, replace(shard, fence=0, is_done=False))

    async def shards(self, run_id: str) -> Sequence[Shard]:
        self.memory.require()
        return [s for (key, _), s in sorted(self.memory.shards.items()) if key == run_id]

    async def claim(
        self, run_id: str, shard_no: int, *, owner: str, at: datetime, holder: str | None = None
    ) -> ClaimedShard:
        self.memory.require()
        is_running = self.memory.runs[run_id].status is RunStatus.RUNNING
        is_its = is_running and self.memory.held[run_id].owner == holder
        if holder is not None and not is_its:
            raise FenceLost(f"run {run_id} is not held by {holder} any more")
        old = self.memory.shards[(run_id, shard_no)]
        shard = replace(old, fence=old.fence + 1)
        self.memory.shards[(run_id, shard_no)] = shard
        for attempt in self._attempts_of(run_id):
            is_of_shard = attempt.opening.shard.shard_no == shard_no
            if is_of_shard and attempt.state is AttemptState.SENT:
                attempt.state = AttemptState.AMBIGUOUS
        cases = (self.memory.case(run_id, case_id) for case_id in shard.case_ids)
        return ClaimedShard(shard=shard, cases=tuple(sorted(cases, key=lambda c: c.ordinal)))

    async def settled(self, shard: Shard) -> SettledCalls:
        self.memory.require()
        calls: dict[tuple[str, str], list[MemoryAttempt]] = {}
        for attempt in self._attempts_of(shard.run_id):
            if attempt.opening.shard.shard_no == shard.shard_no:
                key = (attempt.opening.case_id, attempt.opening.call_key)
                calls.setdefault(key, []).append(attempt)
        ended = {key: reply for key, group in calls.items() if (reply := _reply_of(group))}
        return SettledCalls(
            replies=ended,
            tried_at={
                key: tuple(
                    one.outcome.settled_at if one.outcome else one.opening.sent_at for one in group
                )
                for key, group in calls.items()
                if key not in ended
            },
        )

    async def scored(self, shard: Shard) -> Sequence[ScoreRecord]:
        records = await self.scores(shard.run_id)
        if not shard.case_ids:
            return [r for r in records if r.model_name.startswith("canary")]
        return [r for r in records if r.case_id in shard.case_ids]

    async def close_shard(self, ref: ShardRef, *, at: datetime) -> bool:
        self.memory.require()
        self.memory.check_fence(ref)
        key = (ref.run_id, ref.shard_no)
        closed = replace(self.memory.shards[key], is_done=True)
        self.memory.shards[key] = closed
        return all(s.is_done for s in await self.shards(ref.run_id) if s.block == closed.block)

    # --- results ------------------------------------------------------------------------------

    async def results(self, run_id: str) -> Sequence[CaseResult]:
        found = []
        for shard in await self.shards(run_id):
            for case_id in shard.case_ids:
                for model_name in shard.models:
                    result = self._result(self.memory.case(run_id, case_id), model_name, shard)
                    if result is not None:
                        found.append((self.memory.case(run_id, case_id).ordinal, result))
        return [r for _, r in sorted(found, key=lambda one: (one[0], one[1].model_name))]

    async def repriced_results(
        self, run_id: str, prices: Mapping[str, Price]
    ) -> Sequence[CaseResult]:
        repriced = []
        for row in await self.results(run_id):
            attempts = self._replays_of(run_id, row.case_id, row.model_name)
            spend = sum((_charged(a, prices) for a in attempts), Decimal(0))
            repriced.append(replace(row, spend_usd=spend))
        return repriced

    async def scores(self, run_id: str) -> Sequence[ScoreRecord]:
        self.memory.require()
        return [record for key, record in self.memory.scores.items() if key[0] == run_id]

    async def spend(self, run_id: str) -> Sequence[SpendLine]:
        self.memory.require()
        lines: dict[tuple[str, Purpose], list[MemoryAttempt]] = {}
        for attempt in self._attempts_of(run_id):
            key = (attempt.opening.model_name, attempt.opening.purpose)
            lines.setdefault(key, []).append(attempt)
        return [
            SpendLine(
                model_name=model_name,
                purpose=purpose,
                attempts=len(attempts),
                spend_usd=sum((a.cost_usd or Decimal(0) for a in attempts), Decimal(0)),
                unknown_cost=sum(a.cost_usd is None for a in attempts),
                check=_check(model_name, attempts),
                failures=Counter(
                    failure
                    for a in attempts
                    if a.outcome and (failure := a.outcome.result.failure_class)
                ),
            )
            for (model_name, purpose), attempts in sorted(lines.items())
        ]

    async def spend_since(self, plan_name: str, since: datetime) -> Decimal:
        self.memory.require()
        return sum(
            (
                a.charged_usd
                for a in self.memory.attempts.values()
                if a.opening.plan_name == plan_name and a.opening.sent_at >= since
            ),
            Decimal(0),
        )

    async def finish(self, results: RunResults) -> None:
        self.memory.require()
        run = self.memory.runs[results.run_id]
        if run.status.is_final and run.status is not RunStatus.PARTIAL:
            return
        self.memory.results[run.run_id] = results
        for stored in results.evidence:
            key = (stored.plan_name, stored.primary, stored.candidate, stored.week, stored.epoch)
            self.memory.evidence[key] = stored
        for state in results.states:
            self.memory.states[(state.plan_name, state.primary, state.candidate)] = state
        write_alerts(
            self.memory,
            run.plan_name,
            results.alerts,
            results.open_alerts,
            now=results.finished_at,
        )
        self.memory.held[run.run_id].lease_until = None
        self._fence_off(run.run_id)
        self._put(
            replace(
                run,
                status=results.status,
                finished_at=results.finished_at,
                error_code=results.error_code,
                error_message=results.error_message,
            )
        )
        if results.scrub is not None:
            await self.scrub(run.run_id, results.scrub.clean)

    async def document(self, run_id: str) -> JsonObject | None:
        self.memory.require()
        results = self.memory.results.get(run_id)
        told: JsonObject | None = plain(results.document) if results else None
        return told

    async def evidence(self, plan_name: str, *, since_week: str) -> Sequence[StoredEvidence]:
        self.memory.require()
        rows = self.memory.evidence.values()
        return sorted(
            (row for row in rows if row.plan_name == plan_name and row.week >= since_week),
            key=lambda row: row.week,
        )

    async def baselines(self, case_ids: Sequence[str], model_name: str) -> Mapping[str, Baseline]:
        found = {}
        for attempt in self.memory.attempts.values():
            opening, outcome = attempt.opening, attempt.outcome
            if (
                opening.case_id not in case_ids
                or opening.model_name != model_name
                or opening.purpose is not Purpose.REPLAY
                or outcome is None
                or not outcome.is_final
                or not isinstance(outcome.result, Completion)
                or opening.shard.run_id in self.memory.scrubbed
            ):
                continue
            records = self._records(opening.shard.run_id, opening.case_id, model_name)
            quality, _ = quality_of(records, outcome.result.failure_class)
            found[opening.case_id] = Baseline(
                case_id=opening.case_id,
                week=self.memory.runs[opening.shard.run_id].slot.iso_week,
                reply=Reply(
                    case_id=opening.case_id,
                    model_name=model_name,
                    call_key=opening.call_key,
                    result=outcome.result,
                    attempts=1,
                    spend_usd=attempt.cost_usd or Decimal(0),
                ),
                quality=quality,
            )
        return found

    async def drift_readings(self, plan_name: str, *, limit: int) -> Sequence[JsonObject]:
        runs = await self.runs(plan_name, statuses=(RunStatus.DONE,))
        told: dict[str, JsonObject] = {}
        for run in runs:
            reading = self.memory.results[run.run_id].drift_reading
            if reading is not None:
                told.setdefault(run.slot.iso_week, plain(reading))
        return list(told.values())[:limit][::-1]

    async def states(self, plan_name: str) -> Sequence[StoredState]:
        self.memory.require()
        return [s for s in self.memory.states.values() if s.plan_name == plan_name]

    # --- parts --------------------------------------------------------------------------------

    def _put(self, run: Run) -> Run:
        self.memory.runs[run.run_id] = run
        self.memory.held.setdefault(run.run_id, _Held())
        return run

    def _why_it_cannot_go_on(self, run_id: str) -> str | None:
        sample = self.memory.samples.get(run_id)
        if sample is None:
            return None
        if run_id in self.memory.scrubbed:
            return "its prompts were removed"
        is_reworded = any(
            case.case_id in self.memory.reworded for case in (*sample.cases, *sample.anchors)
        )
        return "its prompts were redacted" if is_reworded else None

    def _fence_off(self, run_id: str) -> None:
        for key, shard in self.memory.shards.items():
            if key[0] == run_id:
                self.memory.shards[key] = replace(shard, fence=shard.fence + 1)
        for attempt in self._attempts_of(run_id):
            if attempt.state is AttemptState.SENT:
                attempt.state = AttemptState.AMBIGUOUS

    def _of(self, plan_name: str, *statuses: RunStatus) -> list[Run]:
        runs = (run for run in self.memory.runs.values() if run.plan_name == plan_name)
        return [run for run in runs if not statuses or run.status in statuses]

    def _has_slot(self, plan_name: str, slot: Slot) -> bool:
        return any(
            run.slot.key == slot.key and run.trigger is not Trigger.HAND
            for run in self._of(plan_name)
        )

    def _complete(self, plan_name: str, before_run: str) -> list[Run]:
        """Complete Runs that count, newest first."""
        runs = (
            run
            for run in self._of(plan_name, RunStatus.DONE)
            if run.trigger is not Trigger.HAND and run.run_id != before_run
        )
        return sorted(runs, key=lambda run: run.slot.at, reverse=True)

    def _kept(self, run_id: str) -> tuple[Sequence[Case], Sequence[Case]]:
        sample = self.memory.samples.get(run_id)
        if sample is None or run_id in self.memory.scrubbed:
            return (), ()
        return sample.cases, sample.anchors

    def _attempts_of(self, run_id: str) -> list[MemoryAttempt]:
        return [a for a in self.memory.attempts.values() if a.opening.shard.run_id == run_id]

    def _replays_of(self, run_id: str, case_id: str, model_name: str) -> list[MemoryAttempt]:
        return [
            attempt
            for attempt in self._attempts_of(run_id)
            if attempt.opening.purpose is Purpose.REPLAY
            and attempt.opening.case_id == case_id
            and attempt.opening.model_name == model_name
        ]

    def _is_answered(self, run_id: str, case_id: str) -> bool:
        return any(
            attempt.opening.case_id == case_id
            and attempt.opening.purpose is Purpose.REPLAY
            and attempt.outcome is not None
            and attempt.outcome.is_final
            and isinstance(attempt.outcome.result, Completion)
            for attempt in self._attempts_of(run_id)
        )

    def _records(self, run_id: str, case_id: str, model_name: str) -> list[ScoreRecord]:
        return [
            record
            for key, record in self.memory.scores.items()
            if key[:3] == (run_id, case_id, model_name)
        ]

    def _result(self, case: Case, model_name: str, shard: Shard) -> CaseResult | None:
        attempts = self._replays_of(shard.run_id, case.case_id, model_name)
        final = next((a.outcome for a in attempts if a.outcome and a.outcome.is_final), None)
        if final is None and not shard.is_done:
            return None
        ended = final.result.failure_class if final else FailureClass.BREAKER_OPEN
        records = self._records(shard.run_id, case.case_id, model_name)
        quality, failure = quality_of(records, ended)
        usage = final.result.usage if final else None
        completion = final.result if final and isinstance(final.result, Completion) else None
        is_success = failure is None
        return CaseResult(
            case_id=case.case_id,
            source_id=case.source_id,
            model_name=model_name,
            weight=case.weight,
            copies=case.copies,
            stratum=case.stratum,
            conversation=case.conversation,
            segments=case.segments,
            is_anchor=case.is_anchor,
            is_later_turn=case.prompt.is_later_turn,
            failure_class=failure,
            quality=quality,
            spend_usd=sum((a.cost_usd or Decimal(0) for a in attempts), Decimal(0)),
            is_cost_known=all(a.cost_usd is not None for a in attempts),
            attempts=len(attempts),
            retries=max(0, len(attempts) - 1),
            input_tokens=usage.prompt_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            ttft_s=completion.ttft_s if completion and is_success else None,
            latency_s=completion.latency_s if completion and is_success else None,
            felt_latency_s=final.felt_latency_s if final and is_success else None,
            anchor_of=case.anchor_of,
            unscored_reason=unscored_reason(records) if is_success and quality is None else None,
        )

    def _forget_replies(self, run_id: str) -> None:
        for attempt in self._attempts_of(run_id):
            attempt.is_scrubbed = True
        for key, record in self.memory.scores.items():
            if key[0] == run_id and isinstance(record.result, Score):
                kept = replace(record.result, reason="", detail={})
                self.memory.scores[key] = replace(record, result=kept)

    def _clean(self, run_id: str, clean: Callable[[str], str]) -> None:
        sample = self.memory.samples.get(run_id)
        if sample is None:
            return
        cleaned_sample = replace(
            sample,
            cases=tuple(_clean_case(case, clean) for case in sample.cases),
            anchors=tuple(_clean_case(case, clean) for case in sample.anchors),
        )
        for before, after in zip(
            (*sample.cases, *sample.anchors),
            (*cleaned_sample.cases, *cleaned_sample.anchors),
            strict=True,
        ):
            if before != after:
                self.memory.redacted.add(before.case_id)
                self.memory.reworded.add(before.case_id)
        self.memory.samples[run_id] = cleaned_sample
        for attempt in self._attempts_of(run_id):
            outcome = attempt.outcome
            if outcome is not None and isinstance(outcome.result, Completion):
                cleaned_reply = replace(outcome.result, text=clean(outcome.result.text))
                if cleaned_reply != outcome.result and attempt.opening.purpose is Purpose.REPLAY:
                    self.memory.redacted.add(attempt.opening.case_id)
                attempt.outcome = replace(outcome, result=cleaned_reply)
        for key, record in self.memory.scores.items():
            if key[0] == run_id:
                cleaned = replace(record.result, reason=clean(record.result.reason))
                self.memory.scores[key] = replace(record, result=cleaned)


class MemoryLabels:
    """The LabelStore."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._runs = MemoryRuns(memory, now=lambda: _NEVER)

    async def judged_cases(self, run_id: str) -> Sequence[JudgedCase]:
        cases = (
            JudgedCase(run_id=run_id, case=case, replies=self._judged(run_id, case.case_id))
            for case in self._runs._kept(run_id)[0]
        )
        return [one for one in cases if one.replies]

    async def add(self, plan_name: str, labels: Sequence[Label]) -> None:
        for label in labels:
            key = (label.run_id, label.case_id, label.model_name, label.labelled_by)
            self.memory.labels[key] = (plan_name, label)

    async def labelled(self, plan_name: str) -> Sequence[LabelledReply]:
        groups: dict[tuple[str, str, str], list[Label]] = {}
        for key, (name, label) in self.memory.labels.items():
            if name == plan_name:
                groups.setdefault(key[:3], []).append(label)
        found = (self._labelled(key, groups[key]) for key in sorted(groups))
        return [one for one in found if one is not None]

    def _judged(self, run_id: str, case_id: str) -> dict[str, JudgedReply]:
        replies: dict[str, JudgedReply] = {}
        for attempt in self._runs._attempts_of(run_id):
            opening, outcome = attempt.opening, attempt.outcome
            if opening.case_id != case_id or outcome is None or not outcome.is_final:
                continue
            records = tuple(self._runs._records(run_id, case_id, opening.model_name))
            is_kept = not attempt.is_scrubbed and opening.purpose is Purpose.REPLAY
            if is_kept and outcome.result.failure_class is None and judge_version_of(records):
                assert isinstance(outcome.result, Completion)
                replies[opening.model_name] = JudgedReply(
                    completion=outcome.result, records=records
                )
        return replies

    def _labelled(self, key: tuple[str, str, str], labels: Sequence[Label]) -> LabelledReply | None:
        run_id, case_id, model_name = key
        records = tuple(self._runs._records(run_id, case_id, model_name))
        version = judge_version_of(records)
        final = [
            attempt.opening.model
            for attempt in self._runs._replays_of(run_id, case_id, model_name)
            if attempt.outcome is not None and attempt.outcome.is_final
        ]
        if version is None or not final:
            return None
        return LabelledReply(
            run_id=run_id,
            case_id=case_id,
            model_name=model_name,
            model=final[0],
            conversation=self.memory.case(run_id, case_id).conversation,
            human=sum(label.score for label in labels) / len(labels),
            raters=len(labels),
            judge_version=version,
            records=records,
        )


class MemoryAlerts:
    """The AlertStore over a Memory."""

    def __init__(self, memory: Memory | None = None, *, now: Callable[[], datetime]) -> None:
        self.memory = memory or Memory()
        self._now = now

    async def open_alerts(self, plan_name: str) -> Sequence[OpenAlert]:
        self.memory.require()
        return [
            alert
            for alert in self.memory.alerts
            if alert.resolved_at is None and alert.key.partition("/")[0] == plan_name
        ]

    async def enqueue(
        self, plan_name: str, alerts: Sequence[Alert], states: Sequence[OpenAlert]
    ) -> None:
        self.memory.require()
        write_alerts(self.memory, plan_name, alerts, states, now=self._now())

    async def lease_outbox(
        self,
        *,
        owner: str,
        now: datetime,
        lease_s: float,
        plan_names: Sequence[str] | None = None,
    ) -> Sequence[OutboxItem]:
        self.memory.require()
        leased, seen = [], set()
        for message in self.memory.outbox.values():
            key = (message.item.plan_name, message.item.alert.key)
            if not message.is_waiting or key in seen:
                continue
            if plan_names is not None and message.item.plan_name not in plan_names:
                continue
            seen.add(key)
            if message.due_at <= now and (message.leased_until or now) <= now:
                message.leased_until = now + timedelta(seconds=lease_s)
                about = self._about(message.item)
                thread = self.memory.alerts[about].thread if about is not None else None
                leased.append(replace(message.item, thread=thread))
        return leased

    async def record_delivery(self, item: OutboxItem, delivery: Delivery, *, now: datetime) -> None:
        self.memory.require()
        message = self.memory.outbox[item.outbox_id]
        if delivery.is_delivered:
            message.delivered_at, message.failed_at = now, None
            self._keep_thread(item, delivery.reference)
        elif message.delivered_at is None:
            pause_s = pause_before_retry_s(item.tries + 1, delivery.retry_after_s)
            message.due_at = now + timedelta(seconds=pause_s)
            message.failed_at = now if delivery.is_permanent else None
            message.error = delivery.error or "not delivered"
        message.leased_until = None
        message.item = replace(message.item, tries=message.item.tries + 1)

    async def acknowledge(
        self, key: str, *, reason: str, until: datetime | None, now: datetime
    ) -> OpenAlert | None:
        self.memory.require()
        at = _open_at(self.memory, key)
        if at is None:
            return None
        self.memory.alerts[at] = replace(
            self.memory.alerts[at], acknowledged_until=until or FOR_GOOD, acknowledged_reason=reason
        )
        return self.memory.alerts[at]

    async def failing(self, plan_name: str) -> Sequence[StuckDelivery]:
        self.memory.require()
        return [
            StuckDelivery(
                outbox_id=m.item.outbox_id,
                key=m.item.alert.key,
                title=m.item.alert.title,
                tries=m.item.tries,
                error=m.error,
                is_permanent=m.failed_at is not None,
                created_at=m.item.created_at,
                due_at=m.due_at,
            )
            for m in self.memory.outbox.values()
            if m.item.plan_name == plan_name
            and m.delivered_at is None
            and (m.failed_at is not None or m.item.tries >= 3)
        ]

    async def retry_failed(self, plan_name: str, *, now: datetime) -> int:
        revived = [
            m
            for m in self.memory.outbox.values()
            if m.item.plan_name == plan_name and m.failed_at is not None
        ]
        for message in revived:
            message.failed_at, message.due_at = None, now
        return len(revived)

    async def outbox_age_s(self, *, now: datetime) -> float:
        waiting = [m.item.created_at for m in self.memory.outbox.values() if m.is_waiting]
        return max(0.0, (now - min(waiting)).total_seconds()) if waiting else 0.0

    def _about(self, item: OutboxItem) -> int | None:
        """Index of the alert a message is about: the latest of its key when it was composed."""
        found = [
            at
            for at, alert in enumerate(self.memory.alerts)
            if alert.key == item.alert.key and alert.opened_at <= item.created_at
        ]
        return max(found, key=lambda at: (self.memory.alerts[at].opened_at, at), default=None)

    def _keep_thread(self, item: OutboxItem, reference: str | None) -> None:
        at = self._about(item)
        if at is not None and reference is not None and self.memory.alerts[at].thread is None:
            self.memory.alerts[at] = replace(self.memory.alerts[at], thread=reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What stands behind the storage ports in one test.

    Attributes:
        another_journal: Opens the journal of one more process, under these caps.
    """

    runs: RunStore
    alerts: AlertStore
    labels: LabelStore
    journal: Journal
    clock: HandClock
    another_journal: Callable[[Caps], Journal]


def storage_in_memory(clock: HandClock, memory: Memory | None = None) -> Storage:
    """All storage ports over one Memory."""
    rows = memory or Memory()
    return Storage(
        runs=MemoryRuns(rows, now=clock.now),
        alerts=MemoryAlerts(rows, now=clock.now),
        labels=MemoryLabels(rows),
        journal=MemoryJournal(rows),
        clock=clock,
        another_journal=lambda caps: MemoryJournal(rows, caps=lambda _plan: caps),
    )


def write_alerts(
    memory: Memory,
    plan_name: str,
    alerts: Iterable[Alert],
    states: Iterable[OpenAlert],
    *,
    now: datetime,
) -> None:
    """Messages and alert states, as one commit writes them."""
    for state in states:
        at = _open_at(memory, state.key)
        if state.resolved_at is not None:
            if at is not None:
                memory.alerts[at] = replace(memory.alerts[at], resolved_at=state.resolved_at)
        elif at is None:
            memory.alerts.append(state)
        else:
            memory.alerts[at] = replace(
                memory.alerts[at],
                title=state.title,
                last_sent_at=state.last_sent_at,
                run_id=state.run_id,
                facts=state.facts,
            )
    for alert in alerts:
        number = len(memory.outbox) + 1
        item = OutboxItem(
            outbox_id=number, plan_name=plan_name, alert=alert, tries=0, created_at=now
        )
        memory.outbox[number] = _Message(item, due_at=now)


def _open_at(memory: Memory, key: str) -> int | None:
    return next(
        (
            at
            for at, alert in enumerate(memory.alerts)
            if alert.key == key and alert.resolved_at is None
        ),
        None,
    )


def _reply_of(group: Sequence[MemoryAttempt]) -> Reply | None:
    final = next((a for a in group if a.outcome is not None and a.outcome.is_final), None)
    if final is None or final.outcome is None:
        return None
    result = final.outcome.result
    if final.is_scrubbed and isinstance(result, Completion):
        result = replace(result, text="", tool_calls=())
    return Reply(
        case_id=final.opening.case_id,
        model_name=final.opening.model_name,
        call_key=final.opening.call_key,
        result=result,
        attempts=len(group),
        spend_usd=sum((a.cost_usd or Decimal(0) for a in group), Decimal(0)),
        is_cost_known=all(a.cost_usd is not None for a in group),
        felt_latency_s=final.outcome.felt_latency_s,
    )


def _check(model_name: str, attempts: Sequence[MemoryAttempt]) -> CostCheck | None:
    told = [
        (a.cost_usd, a.outcome.result.reported_cost_usd)
        for a in attempts
        if a.outcome and isinstance(a.outcome.result, Completion)
    ]
    both = [(ours, theirs) for ours, theirs in told if ours is not None and theirs is not None]
    if not both:
        return None
    return CostCheck(
        model_name=model_name,
        calls=len(both),
        computed_usd=sum((ours for ours, _ in both), Decimal(0)),
        reported_usd=sum((theirs for _, theirs in both), Decimal(0)),
    )


def _charged(attempt: MemoryAttempt, prices: Mapping[str, Price]) -> Decimal:
    price = prices.get(attempt.opening.model_name)
    usage = attempt.outcome.result.usage if attempt.outcome else None
    if price is None or usage is None or attempt.cost_usd is None:
        return attempt.cost_usd or Decimal(0)
    return price.cost(usage)


def _clean_case(case: Case, clean: Callable[[str], str]) -> Case:
    return replace(
        case,
        prompt=Prompt.from_json(_cleaned(case.prompt.to_json(), clean)),  # type: ignore[arg-type]
        reference=None if case.reference is None else clean(case.reference),
        logged_response=None if case.logged_response is None else clean(case.logged_response),
    )


def _cleaned(value: object, clean: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, clean) for item in value]
    return value
