"""What a Run works with: its Plan, its stores, its Caller, its judge panel, its clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.calls.caller import Caller
from app.domain.json_values import JsonObject
from app.domain.plans import Plan
from app.domain.prices import Price
from app.domain.runs import Run, Shard, Slot
from app.evaluation.panel import EvaluationPanel
from app.ports import AlertStore, Clock, Journal, LabelStore, LogSource, RunStore
from app.replay.load import Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a Run has come, for progress bars."""

    cases_done: int
    cases_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTools:
    """What a Run works with; wiring chooses what stands behind each.

    Attributes:
        prices: Price of every contestant and judge by name.
        evaluation: What must stay the same for qualities to be comparable, by label of Evaluator.
        owner: Who works its shards.
        holder: Who holds the Run's lease, where that is not the owner.
        hand_out: Has shards worked elsewhere; None works them in this process.
        next_slot: The slot after this Run, for the messages.
        on_progress: Told after every shard.
        is_told: False when the Run shall send no message.
    """

    plan: Plan
    runs: RunStore
    labels: LabelStore
    alerts: AlertStore
    journal: Journal
    logs: LogSource
    caller: Caller
    panel: EvaluationPanel
    load: Load
    prices: Mapping[str, Price]
    evaluation: JsonObject
    clock: Clock
    owner: str
    frozen: JsonObject
    next_slot: Slot | None = None
    on_progress: Callable[[Progress], None] = field(default=lambda _progress: None)
    is_told: bool = True
    holder: str | None = None
    hand_out: "HandOut | None" = None


class EndTools(Protocol):
    """What of the RunTools is needed to end a Run, even one that was never begun."""

    @property
    def plan(self) -> Plan:
        """The plan."""

    @property
    def runs(self) -> RunStore:
        """Where the end is stored."""

    @property
    def alerts(self) -> AlertStore:
        """What is known already."""

    @property
    def clock(self) -> Clock:
        """The injected clock."""

    @property
    def next_slot(self) -> Slot | None:
        """The slot after this Run."""

    @property
    def is_told(self) -> bool:
        """Whether the Run may send messages."""


class HandOut(Protocol):
    """Has shards worked by other processes."""

    async def __call__(self, run: Run, shards: Sequence[Shard], tools: RunTools) -> None:
        """Return when every one of these shards is done."""
