"""Drift in the sandbox's worlds without the wire: the real panel, anchors and readings.

What a week costs over HTTP and Postgres in seconds costs here a tenth of it, so that twenty seeds
of every cause can be lived through.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from app.decision.readings import STORED_PREFIX, drift_of, reading_of
from app.domain.attempts import Completion, Reply
from app.domain.cases import Case, Message, Prompt
from app.domain.json_values import JsonObject
from app.domain.models import Role
from app.domain.plans import EvaluatorSettings, JudgeSettings, Plan
from app.domain.prices import Price, Rates
from app.domain.results import CaseResult
from app.domain.scores import ScoreRecord, quality_of
from app.evaluation.canaries import canary_scores
from app.evaluation.panel import EvaluationPanel
from app.ports import Baseline
from app.sampling.anchors import choose_anchors, is_new_month, repeated
from app.sandbox.brain import Brain
from app.sandbox.dialogue import Ask, Turn
from app.sandbox.logs import LogRow, log_rows
from app.sandbox.world import World
from app.sandbox.worlds import JUDGE, PRIME, STARTS_AT, named_world
from app.stats.drift import Cause
from tests.fakes.judges import PRICE, SHARD, FakeCalls, completion, model, plan
from tests.fakes.sandbox_judges import SandboxMind

CHANGE_IN = 6
N, ANCHORS = 100, 20


@dataclass(frozen=True, kw_only=True)
class SandboxDrift:
    """What changes in week 6: the sandbox's world, the traffic, or the primary's price."""

    world: str = "calm"
    shifts_traffic: bool = False
    price_factor: float = 1.0


CHANGES: Mapping[Cause | None, SandboxDrift] = {
    None: SandboxDrift(),
    Cause.PRIMARY: SandboxDrift(world="degraded"),
    Cause.TRAFFIC: SandboxDrift(shifts_traffic=True),
    Cause.JUDGE: SandboxDrift(world="harsh_judge"),
    Cause.PRICE: SandboxDrift(price_factor=1.5),
}


@dataclass(kw_only=True)
class SandboxYear:
    """One plan with nothing but its primary, week by week."""

    drift: SandboxDrift
    seed: int
    readings: list[JsonObject] = field(default_factory=list)
    anchors: tuple[Case, ...] = ()
    pool: list[Case] = field(default_factory=list)
    baselines: dict[str, Baseline] = field(default_factory=dict)

    async def step(self) -> tuple[str, ...]:
        """Live through one more week; return the causes it names."""
        number = len(self.readings) + 1
        at = STARTS_AT + timedelta(weeks=number, days=-1)
        week = _Week(year=self, number=number, at=at, world=self._world())
        self._choose_anchors(number, at)
        results, records = await week.lived()
        made, now = week.plan, self._price(number)
        reading = reading_of(
            made, week.iso, results, records, self.baselines, canary_scores(records)
        )
        assert reading is not None
        self.readings.append(reading)
        report = drift_of(made, self.readings, results, now, self._price(number - 1))
        return report.causes if report is not None else ()

    def _world(self) -> World:
        return named_world(self.drift.world, seed=self.seed)

    def _price(self, week: int) -> Price:
        factor = Decimal(str(self.drift.price_factor if week >= CHANGE_IN else 1))
        return Price(rates=Rates(input=3 * factor, output=15 * factor), source="plan")

    def _choose_anchors(self, week: int, at: datetime) -> None:
        chosen = choose_anchors(
            self.anchors,
            self.pool,
            wanted=ANCHORS,
            seed=self.seed * 100 + week,
            rotate=is_new_month(at - timedelta(weeks=1), at, ZoneInfo("UTC")),
        )
        self.anchors = repeated(chosen, run_id=f"run-{week}", first_ordinal=N)


@dataclass(frozen=True, kw_only=True)
class _Week:
    year: SandboxYear
    number: int
    at: datetime
    world: World

    @property
    def iso(self) -> str:
        year, week, _ = self.at.isocalendar()
        return f"{year}-W{week:02d}"

    @property
    def plan(self) -> Plan:
        judge = model("judge", model_id=JUDGE, role=Role.JUDGE)
        return plan(
            EvaluatorSettings(type="judge"),
            judge=JudgeSettings(models=(judge,)),
            primary=model("prime", model_id=PRIME, role=Role.PRIMARY),
            candidates=(),
        )

    async def lived(self) -> tuple[list[CaseResult], list[ScoreRecord]]:
        """Every result and every score of the week; fresh Cases join the pool of anchors."""
        brain = Brain(world=self.world)
        calls = FakeCalls(SandboxMind(brain, week=self.number))
        panel = EvaluationPanel(self.plan, calls=calls, prices={"judge": PRICE}, seed=self.number)
        records = await panel.grade_canaries(f"canaries-{self.number}", shard=SHARD)
        results = []
        for case in (*self._fresh(), *self.year.anchors):
            answer = _reply("prime", case, _answered(brain, case, self.number))
            replies = [answer]
            if case.anchor_of is not None:
                stored = self.year.baselines[case.anchor_of].reply
                replies.append(_reply(STORED_PREFIX + "prime", case, stored.result))
            scored = await panel.evaluate(case, replies, shard=SHARD)
            records += scored
            own = [record for record in scored if record.model_name == "prime"]
            quality, _ = quality_of(own, answer.failure_class)
            results.append(_result(case, answer, quality))
            if case.anchor_of is None:
                self.year.pool.append(case)
                self.year.baselines[case.case_id] = Baseline(
                    case_id=case.case_id, week=self.iso, reply=answer, quality=quality
                )
        return results, records

    def _fresh(self) -> list[Case]:
        shift = STARTS_AT + timedelta(weeks=CHANGE_IN - 1)
        rows = log_rows(
            weeks=1,
            rows_per_week=4 * N,
            ends_at=STARTS_AT + timedelta(weeks=self.number),
            seed=self.year.seed,
            traffic_shift_from=shift if self.year.drift.shifts_traffic else None,
        )
        usable = [row for row in rows if row.status == "success" and row.prompt]
        step = len(usable) // N
        return [_case(row, self.number, k) for k, row in enumerate(usable[: N * step : step])]


async def first_causes(cause: Cause | None, seed: int, *, runs: int = 2) -> tuple[str, ...]:
    """The causes first named within `runs` Runs of the change; "early" when one was before it."""
    year = SandboxYear(drift=CHANGES[cause], seed=seed)
    for week in range(1, CHANGE_IN + runs):
        found = await year.step()
        if found:
            return found if week >= CHANGE_IN else ("early", *found)
    return ()


def _case(row: LogRow, week: int, number: int) -> Case:
    messages = tuple(Message(role=role, content=text) for role, text in row.messages)  # type: ignore[arg-type]
    return Case(
        case_id=f"case-{week}-{number}",
        source_id=f"row-{number}",
        ordinal=number,
        weight=1.0 / N,
        conversation=str(row.metadata["conversation_id"]),
        segments={"route": row.route},
        prompt=Prompt(messages=messages, system=row.system),
    )


def _answered(brain: Brain, case: Case, week: int) -> Completion:
    turns = tuple(Turn(role=one.role, text=one.text) for one in case.prompt.messages)
    answer = brain.answer(Ask(model=PRIME, system=case.prompt.system or "", turns=turns), week=week)
    return completion(answer.text)


def _reply(name: str, case: Case, result: Completion | object) -> Reply:
    assert isinstance(result, Completion)
    return Reply(
        case_id=case.case_id,
        model_name=name,
        call_key=f"replay:{name}",
        result=result,
        attempts=1,
        spend_usd=Decimal("0.01"),
    )


def _result(case: Case, reply: Reply, quality: float | None) -> CaseResult:
    return CaseResult(
        case_id=case.case_id,
        source_id=case.source_id,
        model_name=reply.model_name,
        weight=case.weight,
        copies=1,
        stratum="",
        conversation=case.conversation,
        segments=case.segments,
        is_anchor=case.is_anchor,
        is_later_turn=case.prompt.is_later_turn,
        failure_class=reply.failure_class,
        quality=quality,
        spend_usd=reply.spend_usd,
        is_cost_known=True,
        attempts=1,
        retries=0,
        input_tokens=100,
        output_tokens=150,
        anchor_of=case.anchor_of,
    )
