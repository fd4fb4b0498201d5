"""Replay: every model on a Case, started together in random order over one pool of slots."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.calls.caller import CallRequest, Calls
from app.domain.attempts import Purpose, Reply, ShardRef
from app.domain.cases import Case, Prompt
from app.domain.models import ModelSpec
from app.domain.prices import Price
from app.replay.load import Load

DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """Which models are called on whose behalf, and what they cost."""

    plan_name: str
    models: Sequence[ModelSpec]
    prices: Mapping[str, Price]


async def replay_case(
    case: Case, order: ReplayOrder, *, shard: ShardRef, calls: Calls, rng: random.Random, load: Load
) -> list[Reply]:
    """Call every model on one Case and wait for all of them.

    The models start together in random order, so that none is favoured by the hour or the queue.
    A call already in flight is never abandoned: the first error is raised once all have ended.

    Returns:
        One Reply per model, in the order of `order.models`.
    """
    models = list(order.models)
    rng.shuffle(models)
    requests = [replay_request(case, model, order, shard) for model in models]
    ended = await asyncio.gather(
        *(_arriving(request, calls, load) for request in requests), return_exceptions=True
    )
    replies: dict[str, Reply] = {}
    for reply in ended:
        if isinstance(reply, BaseException):
            raise reply
        replies[reply.model_name] = reply
    return [replies[model.name] for model in order.models]


def replay_request(
    case: Case, model: ModelSpec, order: ReplayOrder, shard: ShardRef
) -> CallRequest:
    """The call of one model on one Case: logged parameters, overridden by the model's own."""
    params = {**case.prompt.params, **model.params}
    max_tokens = params.pop("max_tokens", None)
    return CallRequest(
        shard=shard,
        plan_name=order.plan_name,
        case_id=case.case_id,
        model=model,
        purpose=Purpose.REPLAY,
        call_key=f"replay:{model.name}",
        prompt=Prompt(
            messages=case.prompt.messages,
            system=case.prompt.system,
            tools=case.prompt.tools,
            params=params,
        ),
        max_tokens=_positive(max_tokens),
        price=order.prices[model.name],
    )


async def _arriving(request: CallRequest, calls: Calls, load: Load) -> Reply:
    due_at = await load.arrival(request.model.name)
    return await calls.call(request if due_at is None else replace(request, due_at=due_at))


def _positive(max_tokens: object) -> int:
    if isinstance(max_tokens, int) and not isinstance(max_tokens, bool) and max_tokens > 0:
        return max_tokens
    return DEFAULT_MAX_TOKENS
