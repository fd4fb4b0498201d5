"""What is told of Runs that cannot go on."""

from dataclasses import dataclass, field

from app.domain.attempts import Purpose
from app.domain.errors import GatewayRefused
from app.domain.plans import Plan
from app.domain.runs import Slot
from app.pipeline import fail
from tests.fakes.clocks import HandClock
from tests.fakes.storage import Memory, MemoryAlerts, MemoryJournal, MemoryRuns
from tests.fakes.work import begin_run, opening, outcome, slot, weekly_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a Run is ended with, over a database in memory."""

    memory: Memory
    plan: Plan = field(default_factory=weekly_plan)
    clock: HandClock = field(default_factory=HandClock)
    next_slot: Slot | None = field(default_factory=lambda: slot(1))
    is_told: bool = True

    @property
    def runs(self) -> MemoryRuns:
        return MemoryRuns(self.memory, now=self.clock.now)

    @property
    def alerts(self) -> MemoryAlerts:
        return MemoryAlerts(self.memory, now=self.clock.now)


async def test_a_run_that_fails_midway_tells_what_it_stored_and_what_it_cost() -> None:
    ending = Ending(memory=Memory())
    begun = await begin_run(ending.runs, plan=ending.plan, n=4)
    journal = MemoryJournal(ending.memory)
    for case in range(3):
        for purpose, cost_usd in ((Purpose.REPLAY, "0.50"), (Purpose.JUDGE, "0.20")):
            opened = opening(begun, case=case, purpose=purpose)
            assert await journal.open(opened) is None
            await journal.settle(outcome(opened, cost_usd=cost_usd))

    await fail(begun.run, ending, GatewayRefused("the gateway refuses the key: 401"))

    (alert,) = ending.memory.results[begun.run.run_id].alerts
    assert alert.lead == "the gateway refuses the key: 401"
    assert alert.lines[0] == "Stored: 6 attempts on 4 cases."
    assert alert.context == ("run cost $2.10",)


async def test_a_run_that_fails_before_it_began_says_that_nothing_is_stored() -> None:
    ending = Ending(memory=Memory())
    begun = await begin_run(ending.runs, plan=ending.plan)
    ending.memory.samples.clear()

    await fail(begun.run, ending, GatewayRefused("the gateway refuses the key: 401"))

    (alert,) = ending.memory.results[begun.run.run_id].alerts
    assert alert.lines[0] == "Stored: 0 attempts on 0 cases."
    assert alert.context == ("run cost $0.00",)
