"""One paid call: reserve and journal, send, settle, and try again where that can help."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from app.calls.breaker import Breaker, BreakerPolicy
from app.calls.retries import (
    Deferrals,
    NextStep,
    RetryPolicy,
    Step,
    deferred_before_s,
    next_step,
)
from app.calls.slots import NoSlots, SlotPools, Slots, Turn
from app.domain.attempts import (
    NEEDS_OPERATOR,
    AttemptOpening,
    AttemptOutcome,
    Completion,
    Failure,
    FailureClass,
    Purpose,
    Reply,
    SettledCalls,
    ShardRef,
)
from app.domain.cases import Prompt
from app.domain.errors import (
    BudgetExhausted,
    GatewayRefused,
    RunInterrupted,
    ShardDeferred,
    StorageUnavailable,
)
from app.domain.json_values import JsonObject
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.prices import Price
from app.ports import BudgetRefusal, Clock, Journal, ModelRequest, Pace, Provider

_THROTTLES = frozenset({FailureClass.RATE_LIMITED, FailureClass.OVERLOADED})
_SHARED_TROUBLE = frozenset({FailureClass.AUTH, FailureClass.BILLING})
_STORAGE_PAUSE_S = 1.0
_MONEY_PATIENCE_S = 5.0
_ROOM_S = 2.0
_REQUEST_OVERHEAD_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What is asked of a model, for whom and at what price.

    Attributes:
        call_key: What the call is for within its Case; equal keys are never paid twice.
        due_at: Under open load, the monotonic second at which the call was due.
        answer_tool, answer_schema: How a judge must answer.
    """

    shard: ShardRef
    plan_name: str
    case_id: str
    model: ModelSpec
    purpose: Purpose
    call_key: str
    prompt: Prompt
    max_tokens: int
    price: Price
    due_at: float | None = None
    answer_tool: JsonObject | None = None
    answer_schema: JsonObject | None = None
    stream: bool = True

    @property
    def upper_bound_usd(self) -> Decimal:
        """The most one Attempt can cost."""
        size = self.prompt.most_tokens + _REQUEST_OVERHEAD_BYTES
        for extra in (self.answer_tool, self.answer_schema):
            size += len(str(extra).encode()) if extra is not None else 0
        return self.price.upper_bound(input_bytes=size, max_tokens=self.max_tokens)


@dataclass(slots=True, kw_only=True)
class _Progress:
    """What one call has been through."""

    attempts: int = 0
    failed: int = 0
    throttled: int = 0
    deferred_s: float = 0.0
    spend_usd: Decimal = Decimal(0)
    is_cost_known: bool = True
    felt_s: float = 0.0


#: How an Attempt ended and what follows; nothing follows a Completion.
_Ended = tuple[Completion | Failure, NextStep | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerPolicy:
    """How patient calls are and when a model counts as down.

    Attributes:
        primary: The primary's endpoint: when it refuses its credentials, the Run stops.
        counts_from_arrival: Under open load, whether TTFT and latency count from the instant a
            call was due (what it waited for a slot included) or from its sending; the latency
            that a caller would have felt counts from then in any case.
        pools: The slots of every endpoint, where Runs share them.
        pace: Spaces the calls of endpoints that have a rate, over all processes.
    """

    primary: Endpoint
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    counts_from_arrival: bool = True
    pools: SlotPools = field(default_factory=SlotPools)
    pace: Pace | None = None


class Calls(Protocol):
    """What replay and judges need of a caller."""

    async def call(self, request: CallRequest) -> Reply:
        """Make one paid call, or return what it brought before."""


class Caller:
    """Makes paid calls for replay and judge alike, over one pool of slots per endpoint.

    Args:
        provider_for: Finds the adapter that speaks to an endpoint.
        journal: Where Attempts are committed before they are sent and after they end.
        clock: The injected clock.
        rng: Source of jitter and of Attempt ids.
        policy: Retries, breakers and the endpoint whose refusal stops the Run.
        stop: Set to make no new call; those in flight end and settle.
    """

    def __init__(
        self,
        *,
        provider_for: Callable[[Endpoint], Provider],
        journal: Journal,
        clock: Clock,
        rng: random.Random,
        policy: CallerPolicy,
        stop: asyncio.Event | None = None,
    ) -> None:
        self._provider_for = provider_for
        self._journal = journal
        self._clock = clock
        self._rng = rng
        self._primary_key = policy.primary.key
        self._policy = policy
        self._stop = stop or asyncio.Event()
        self._why_stopped = "asked to stop"
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._fatal: str | None = None
        self._answering: set[str] = set()
        self._keys: dict[int, tuple[Endpoint, str]] = {}
        self._settled: dict[tuple[str, str], Reply] = {}
        self._earlier: dict[tuple[str, str], tuple[datetime, ...]] = {}
        self._deferrals: dict[tuple[str, str], Deferrals] = {}
        self._landed = asyncio.Event()
        self._tried: set[tuple[str, str]] = set()

    def recall(self, settled: SettledCalls) -> None:
        """Know what earlier owners of a shard already paid for."""
        self._settled.update(settled.replies)
        self._earlier.update(settled.tried_at)

    def forget(self, case_ids: Iterable[str]) -> None:
        """Drop what is known of Cases that are done."""
        gone = set(case_ids)
        self._settled = {key: one for key, one in self._settled.items() if key[0] not in gone}
        self._earlier = {key: one for key, one in self._earlier.items() if key[0] not in gone}

    def interrupt(self, why: str) -> None:
        """Make no new call; those in flight end and settle."""
        self._why_stopped = why
        self._stop.set()

    async def pause(self, seconds: float) -> None:
        """Wait so long; wakes at once when the Run is asked to stop.

        Raises:
            RunInterrupted: If the Run is asked to stop.
        """
        self._refuse_if_stopped()
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({sleeping, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopped.cancel()
        self._refuse_if_stopped()

    def slots(self, endpoint: Endpoint) -> Slots:
        """The pool of slots of an endpoint."""
        return self._policy.pools.pool(self._key(endpoint), endpoint)

    async def call(self, request: CallRequest) -> Reply:
        """Make the call, trying again where that can help, and return how it ended.

        Raises:
            BudgetExhausted: If a cap forbids it and waiting cannot help.
            RunInterrupted: If the Run was asked to stop.
            ShardDeferred: If the gateway asked for a long wait, or other processes have all slots.
            GatewayRefused: If the primary's or shared credentials were refused.
            FenceLost: If a newer owner holds the shard.
        """
        known = self._settled.get((request.case_id, request.call_key))
        if known is not None:
            return known
        progress = self._progress_of(request)
        while True:
            held_back = await self._wait_for_breaker(request)
            if held_back is not None:
                return _reply(request, held_back, progress)
            try:
                ended = await self._attempt(request, progress)
            except NoSlots as error:
                raise ShardDeferred(
                    f"{request.model.name}: other workers have all slots of its endpoint",
                    until=self._clock.now() + timedelta(seconds=_ROOM_S),
                ) from error
            if ended is None:
                continue
            result, step = ended
            if step is None or step.step is Step.GIVE_UP:
                return _reply(request, result, progress)
            if step.step is Step.DEFER:
                self._deferrals_of(request.model).add(step.wait_s, now_s=self._clock.monotonic())
                raise ShardDeferred(
                    f"{request.model.name}: asked to wait, {step.wait_s:.0f} s are given",
                    until=self._clock.now() + timedelta(seconds=step.wait_s),
                )
            if result.failure_class is not FailureClass.RATE_LIMITED:
                progress.felt_s += step.wait_s
            await self.pause(step.wait_s)

    def _progress_of(self, request: CallRequest) -> _Progress:
        """What the call has been through in the hands of earlier owners."""
        tried_at = self._earlier.get((request.case_id, request.call_key), ())
        if not tried_at:
            return _Progress()
        deferred_s = deferred_before_s(tried_at, self._clock.now(), self._policy.retry)
        return _Progress(attempts=len(tried_at), deferred_s=deferred_s)

    def _deferrals_of(self, model: ModelSpec) -> Deferrals:
        return self._deferrals.setdefault(self._breaker_key(model), Deferrals())

    async def _attempt(self, request: CallRequest, progress: _Progress) -> _Ended | None:
        """Make one Attempt under a slot; None when the model was given up meanwhile."""
        slots = self.slots(request.model.endpoint)
        breaker = self._breaker(request.model)
        is_probe = breaker.is_open
        await slots.acquire(self._turn(request, progress))
        try:
            await self._wait_for_rate(request.model.endpoint, slots)
            self._raise_if_fatal()
            if breaker.refused is not None or (breaker.is_open and not is_probe):
                return None
            opening = await self._open(request, progress, slots)
            late_s = self._lateness(request, progress)
            result = await self._provider_for(request.model.endpoint).send(_sent(request))
            self._observe(request, result, slots)
        finally:
            slots.release()
        result = _later(result, late_s)
        step = self._judge(request.model, result, progress)
        if request.due_at is not None:
            progress.felt_s = self._clock.monotonic() - request.due_at
        await self._settle(request, opening, result, progress, step)
        self._raise_if_fatal()
        return result, step

    def _turn(self, request: CallRequest, progress: _Progress) -> Turn:
        """Who goes before whom: what others may wait for first, what nothing waits for last.

        The first call of a model may tell how it wants to be asked, which its others wait for.
        """
        key = self._breaker_key(request.model)
        is_first = key not in self._tried
        self._tried.add(key)
        if is_first or progress.attempts:
            return Turn.AT_ONCE
        return Turn.REPLY if request.purpose is Purpose.REPLAY else Turn.JUDGEMENT

    def _lateness(self, request: CallRequest, progress: _Progress) -> float:
        """Seconds between a call's arrival and its sending, where they count as latency."""
        is_first = progress.attempts == 1
        if request.due_at is None or not is_first or not self._policy.counts_from_arrival:
            return 0.0
        return max(0.0, self._clock.monotonic() - request.due_at)

    async def _wait_for_rate(self, endpoint: Endpoint, slots: Slots) -> None:
        """Wait until the endpoint may be called again.

        The slot is kept: no other call of the endpoint could leave earlier.
        """
        if endpoint.rate_per_min is None or self._policy.pace is None:
            return
        while True:
            self._refuse_if_stopped()
            try:
                wait_s = await self._policy.pace.turn(endpoint)
                break
            except StorageUnavailable:
                await _yield_slot(slots, self.pause(_STORAGE_PAUSE_S))
        if wait_s > 0:
            await self.pause(wait_s)

    async def _open(
        self, request: CallRequest, progress: _Progress, slots: Slots
    ) -> AttemptOpening:
        """Commit the Attempt before it is sent; waits for money in flight and for storage."""
        opening = AttemptOpening(
            attempt_id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            shard=request.shard,
            plan_name=request.plan_name,
            case_id=request.case_id,
            model_name=request.model.name,
            model=request.model.model,
            purpose=request.purpose,
            call_key=request.call_key,
            attempt_no=progress.attempts + 1,
            sent_at=self._clock.now(),
            reserved_usd=request.upper_bound_usd,
            price=request.price.to_json(),
        )
        began = self._clock.monotonic()
        while True:
            self._refuse_if_stopped()
            self._landed.clear()
            try:
                refusal = await self._journal.open(opening)
            except StorageUnavailable:
                await _yield_slot(slots, self.pause(_STORAGE_PAUSE_S))
                continue
            if refusal is None:
                progress.attempts += 1
                return opening
            if not refusal.may_fit_later:
                raise BudgetExhausted(_cap_message(refusal))
            if self._clock.monotonic() - began > _MONEY_PATIENCE_S:
                # what is in flight may have died with its owner: make room to claim its shard
                raise ShardDeferred(
                    f"{_cap_message(refusal)} while others are in flight",
                    until=self._clock.now() + timedelta(seconds=_MONEY_PATIENCE_S),
                )
            await _yield_slot(slots, self._wait_for_landing())

    async def _settle(
        self,
        request: CallRequest,
        opening: AttemptOpening,
        result: Completion | Failure,
        progress: _Progress,
        step: NextStep | None,
    ) -> None:
        cost_usd = _cost(result, request.price)
        progress.is_cost_known = progress.is_cost_known and cost_usd is not None
        progress.spend_usd += cost_usd or Decimal(0)
        is_final = step is None or step.step is Step.GIVE_UP
        await self._journal.settle(
            AttemptOutcome(
                attempt_id=opening.attempt_id,
                shard=request.shard,
                result=result,
                cost_usd=cost_usd,
                settled_at=self._clock.now(),
                is_final=is_final,
                felt_latency_s=progress.felt_s if is_final else None,
            )
        )
        self._landed.set()

    def _judge(
        self, model: ModelSpec, result: Completion | Failure, progress: _Progress
    ) -> NextStep | None:
        """Count the result into the progress and decide what follows."""
        if result.failure_class is not FailureClass.RATE_LIMITED:
            progress.felt_s += result.latency_s or 0.0
        if isinstance(result, Completion):
            return None
        if result.failure_class is FailureClass.RATE_LIMITED:
            progress.throttled += 1
        else:
            progress.failed += 1
        return next_step(
            result,
            failed=progress.failed,
            throttled=progress.throttled,
            policy=self._policy.retry,
            rng=self._rng,
            deferred_s=max(
                progress.deferred_s,
                self._deferrals_of(model).passed_s(self._clock.monotonic()),
            ),
        )

    def _observe(self, request: CallRequest, result: Completion | Failure, slots: Slots) -> None:
        """Learn what the result says of the endpoint and of the model."""
        failure = result if isinstance(result, Failure) else None
        failure_class = failure.failure_class if failure else None
        slots.observe(throttled=failure_class in _THROTTLES)
        self._breaker(request.model).observe(failure_class, self._clock.monotonic())
        key = self._key(request.model.endpoint)
        if failure is None:
            self._answering.add(key)
        elif failure_class in NEEDS_OPERATOR and self._is_fatal(request.model, failure):
            self._fatal = f"{request.model.role} {request.model.name}: {failure.message}"

    def _is_fatal(self, model: ModelSpec, failure: Failure) -> bool:
        """Whether a refusal concerns more than a candidate.

        A candidate's refusal is about the credentials it shares with the primary, unless they
        were accepted before or the refusal is of this model alone (403).
        """
        if model.role is not Role.CANDIDATE:
            return True
        key = self._key(model.endpoint)
        return (
            key == self._primary_key
            and key not in self._answering
            and failure.failure_class in _SHARED_TROUBLE
            and failure.http_status != 403
        )

    def _raise_if_fatal(self) -> None:
        """Stop the Run once the primary, a judge or shared credentials were refused."""
        if self._fatal is not None:
            raise GatewayRefused(self._fatal)

    async def _wait_for_breaker(self, request: CallRequest) -> Failure | None:
        """Wait while the model's breaker is open; a Failure when it is not worth waiting."""
        breaker = self._breaker(request.model)
        while True:
            self._raise_if_fatal()
            if breaker.refused is not None:
                return _refused(breaker.refused)
            wait_s = breaker.wait_s(self._clock.monotonic())
            if wait_s is None:
                return Failure(
                    failure_class=FailureClass.BREAKER_OPEN,
                    message=f"{request.model.name} kept failing and was not called again",
                )
            if wait_s <= 0:
                return None
            await self.pause(wait_s)

    async def _wait_for_landing(self) -> None:
        """Wait until some call settled and gave back what it did not spend."""
        landed = asyncio.ensure_future(self._landed.wait())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({landed, stopped}, return_when=asyncio.FIRST_COMPLETED, timeout=5.0)
        finally:
            landed.cancel()
            stopped.cancel()
        self._refuse_if_stopped()

    def _refuse_if_stopped(self) -> None:
        if self._stop.is_set():
            raise RunInterrupted(f"{self._why_stopped}; settled calls are kept")

    def _breaker(self, model: ModelSpec) -> Breaker:
        key = self._breaker_key(model)
        if key not in self._breakers:
            self._breakers[key] = Breaker(self._policy.breaker)
        return self._breakers[key]

    def _breaker_key(self, model: ModelSpec) -> tuple[str, str]:
        return (self._key(model.endpoint), model.model)

    def _key(self, endpoint: Endpoint) -> str:
        """The endpoint's key, computed once per object: it is asked for on every call."""
        known = self._keys.get(id(endpoint))
        if known is None or known[0] is not endpoint:
            known = (endpoint, endpoint.key)
            self._keys[id(endpoint)] = known
        return known[1]


async def _yield_slot(slots: Slots, waiting: Awaitable[None]) -> None:
    """Give the slot back while waiting, and take one again."""
    slots.release()
    try:
        await waiting
        await slots.acquire(Turn.AT_ONCE)
    except BaseException:
        slots.retake()  # whoever held it gives it back
        raise


def _cost(result: Completion | Failure, price: Price) -> Decimal | None:
    """The money an Attempt cost; None when tokens may have been billed that nobody counted."""
    if isinstance(result, Completion):
        return price.cost(result.usage)
    if result.is_cost_unknown:
        return None
    return price.cost(result.usage) if result.usage is not None else Decimal(0)


def _later(result: Completion | Failure, late_s: float) -> Completion | Failure:
    """The result as seen by somebody who waited so long before it was sent."""
    if not late_s:
        return result
    latency_s = None if result.latency_s is None else result.latency_s + late_s
    if isinstance(result, Failure):
        return replace(result, latency_s=latency_s)
    ttft_s = None if result.ttft_s is None else result.ttft_s + late_s
    return replace(result, latency_s=result.latency_s + late_s, ttft_s=ttft_s)


def _sent(request: CallRequest) -> ModelRequest:
    return ModelRequest(
        model=request.model,
        prompt=request.prompt,
        max_tokens=request.max_tokens,
        deadline_s=request.model.endpoint.timeout_s,
        answer_tool=request.answer_tool,
        answer_schema=request.answer_schema,
        stream=request.stream,
    )


def _refused(failure: FailureClass) -> Failure:
    return Failure(failure_class=failure, message="not called again after the endpoint refused it")


def _reply(request: CallRequest, result: Completion | Failure, progress: _Progress) -> Reply:
    return Reply(
        case_id=request.case_id,
        model_name=request.model.name,
        call_key=request.call_key,
        result=result,
        attempts=progress.attempts,
        spend_usd=progress.spend_usd,
        is_cost_known=progress.is_cost_known,
        felt_latency_s=progress.felt_s if progress.attempts else None,
    )


def _cap_message(refusal: BudgetRefusal) -> str:
    return f"the cap {refusal.cap} of ${refusal.cap_usd} does not allow another call"
