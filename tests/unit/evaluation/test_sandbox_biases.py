"""The sandbox's honest, wordy and partial-to-position judges, told apart by the report."""

from datetime import UTC, datetime

import pytest

from app.domain.attempts import Reply
from app.domain.cases import Case, Message, Prompt
from app.domain.models import ModelSpec, Role
from app.domain.plans import EvaluatorSettings, JudgeSettings, Plan
from app.domain.results import JudgeReport
from app.domain.scores import ScoreRecord
from app.evaluation.panel import EvaluationPanel
from app.evaluation.reliability import judge_report
from app.sandbox.brain import Brain
from app.sandbox.dialogue import Ask, Turn
from app.sandbox.logs import LogRow, log_rows
from app.sandbox.worlds import JUDGE, LARGE, MINI, PRIME, SWIFT, named_world
from tests.fakes.judges import PRICE, SHARD, FakeCalls, completion, model, plan, reply
from tests.fakes.sandbox_judges import SandboxMind

ENDS_AT = datetime(2026, 1, 12, tzinfo=UTC)


def planned(mode: str) -> Plan:
    judge = model("judge", model_id=JUDGE, role=Role.JUDGE)
    contestants: list[ModelSpec] = [
        model(name, model_id=name) for name in (PRIME, SWIFT, MINI, LARGE)
    ]
    return plan(
        EvaluatorSettings(type="judge"),
        judge=JudgeSettings(models=(judge,), mode=mode, canaries=6),  # type: ignore[arg-type]
        primary=contestants[0],
        candidates=tuple(contestants[1:]),
    )


def replies_to(row: LogRow, brain: Brain, case_id: str) -> list[Reply]:
    turns = tuple(Turn(role=role, text=text) for role, text in row.messages)
    answers = [
        (name, brain.answer(Ask(model=name, system=row.system, turns=turns), week=1))
        for name in (PRIME, SWIFT, MINI, LARGE)
    ]
    return [reply(name, completion(answer.text), case_id=case_id) for name, answer in answers]


def case_of(row: LogRow, number: int) -> Case:
    messages = tuple(Message(role=role, content=text) for role, text in row.messages)  # type: ignore[arg-type]
    return Case(
        case_id=f"case-{number}",
        source_id=f"row-{number}",
        ordinal=number,
        weight=1.0,
        prompt=Prompt(messages=messages, system=row.system),
    )


async def reported(world_name: str, *, cases: int, mode: str = "rubric") -> JudgeReport:
    world = named_world(world_name, seed=3)
    made = planned(mode)
    calls = FakeCalls(SandboxMind(Brain(world=world)))
    panel = EvaluationPanel(made, calls=calls, prices={"judge": PRICE}, seed=3)
    records: list[ScoreRecord] = await panel.grade_canaries("case-0", shard=SHARD)
    rows = log_rows(weeks=1, rows_per_week=cases, ends_at=ENDS_AT, seed=3)
    for number, row in enumerate(rows):
        case = case_of(row, number)
        replies = replies_to(row, Brain(world=world), case.case_id)
        records += await panel.evaluate(case, replies, shard=SHARD)
    return judge_report(made, records=records)


async def test_an_honest_judge_is_believed_without_a_warning() -> None:
    report = await reported("calm", cases=60)
    assert report.is_trusted
    assert report.unscored == 0
    assert report.warnings == ()


async def test_a_judge_that_favours_long_replies_is_reported() -> None:
    report = await reported("wordy_judge", cases=60)
    assert any("favours long replies" in warning for warning in report.warnings)


async def test_a_gullible_judge_is_not_trusted() -> None:
    report = await reported("gullible_judge", cases=3)
    assert not report.is_trusted
    assert any("graded canaries wrongly" in warning for warning in report.warnings)


@pytest.mark.parametrize(("world", "is_steady"), [("calm", True), ("first_judge", False)])
async def test_a_judge_that_always_prefers_the_first_is_reported(
    world: str, *, is_steady: bool
) -> None:
    report = await reported(world, cases=12, mode="pairwise")
    assert report.order_consistency is not None
    assert (report.order_consistency > 0.7) is is_steady
    assert any("prefers a position" in one for one in report.warnings) is not is_steady


async def test_a_babbling_judge_leaves_replies_unscored_and_invents_nothing() -> None:
    report = await reported("babbling_judge", cases=40)
    assert report.unscored_rate is not None
    assert 0.03 < report.unscored_rate < 0.2
