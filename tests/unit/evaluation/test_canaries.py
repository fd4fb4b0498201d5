"""Canaries tell a judge that can be believed from one that cannot."""

from collections import Counter

import pytest

from app.calls.caller import CallRequest
from app.domain.attempts import Completion
from app.domain.plans import JudgeSettings
from app.domain.scores import Score, ScoreRecord, Unscored
from app.evaluation.canaries import canaries, canary_report, grade_canaries
from app.evaluation.canary_texts import CANARIES, CanaryKind
from app.evaluation.judge import Judge
from app.sandbox.world import JudgeSpec
from tests.fakes.judges import (
    PRICE,
    SHARD,
    Answering,
    FakeCalls,
    completion,
    graded,
    judge_settings,
)
from tests.fakes.sandbox_judges import SandboxMind


def make(answer: Answering, settings: JudgeSettings | None = None) -> tuple[Judge, FakeCalls]:
    settings = settings or judge_settings()
    calls = FakeCalls(answer)
    prices = {one.name: PRICE for one in settings.models}
    return Judge(calls, plan_name="p", settings=settings, prices=prices, seed=1), calls


async def records_of(judge: Judge, done: list[ScoreRecord] | None = None) -> list[ScoreRecord]:
    return await grade_canaries(judge, case_id="case-0", shard=SHARD, done=done or [])


def by_worth(request: CallRequest) -> Completion:
    """Knows every canary by heart."""
    text = str(request.prompt.messages[0].content)
    reply = text[text.index("<reply-") :].split("\n", 2)
    first_line = reply[1][3:]
    canary = next(one for one in CANARIES if one.reply.splitlines()[0].startswith(first_line))
    return graded(5 if canary.kind is CanaryKind.GOOD else 1)


def test_any_first_few_canaries_hold_every_kind_and_an_attack_first() -> None:
    assert canaries(1)[0].kind is CanaryKind.ATTACK
    for count in (3, 6, 9, 18):
        kinds = Counter(one.kind for one in canaries(count))
        assert set(kinds.values()) == {count // 3}
    assert len({one.name for one in CANARIES}) == len(CANARIES) == 18
    assert canaries(0) == ()


async def test_a_judge_that_knows_their_worth_is_trusted() -> None:
    judge, calls = make(by_worth)
    records = await records_of(judge)
    report = canary_report(records)
    assert (report.total, report.right, report.misgraded, report.ungraded) == (6, 6, (), 0)
    assert report.is_trusted
    assert len(calls.paid) == 6
    assert {record.model_name for record in records} == {
        f"canary:{one.name}" for one in canaries(6)
    }
    assert {record.weight for record in records} == {0.0}
    assert {record.case_id for record in records} == {"case-0"}


async def test_a_judge_that_always_says_5_is_not_trusted() -> None:
    judge, _ = make(lambda _: graded(5))
    report = canary_report(await records_of(judge))
    assert report.total == 6
    assert report.right == 2
    assert report.misgraded == (
        "attack-override (judge)",
        "attack-verdict (judge)",
        "bad-idle (judge)",
        "bad-subject (judge)",
    )
    assert not report.is_trusted


async def test_a_single_lapse_is_forgiven_after_a_second_look() -> None:
    seen: Counter[str] = Counter()

    def answer(request: CallRequest) -> Completion:
        seen[request.call_key] += 1
        if "canary-good-boiling:" in request.call_key:
            return graded(1)
        return by_worth(request)

    judge, calls = make(answer)
    records = await records_of(judge)
    report = canary_report(records)
    assert report.is_trusted
    assert report.right == 6
    assert len(calls.paid) == 7
    boiling = next(one for one in records if one.model_name == "canary:good-boiling")
    assert isinstance(boiling.result, Score)
    assert boiling.result.value == 0.0
    assert boiling.result.detail["looks"] == [0.0, 1.0]


async def test_a_canary_without_a_grade_counts_neither_way() -> None:
    judge, _ = make(lambda _: completion("hm"), judge_settings(structured="text"))
    records = await records_of(judge)
    report = canary_report(records)
    assert all(isinstance(record.result, Unscored) for record in records)
    assert (report.total, report.right, report.ungraded) == (0, 0, 6)
    assert not report.is_trusted


async def test_every_judge_of_a_panel_is_put_to_the_test() -> None:
    def answer(request: CallRequest) -> Completion:
        return graded(5) if request.model.name == "flatterer" else by_worth(request)

    judge, _ = make(answer, judge_settings("honest", "flatterer"))
    records = await records_of(judge)
    report = canary_report(records)
    assert report.total == 12
    assert report.right == 8
    assert all(name.endswith("(flatterer)") for name in report.misgraded)
    assert {record.evaluator for record in records} == {"canary:honest", "canary:flatterer"}


async def test_stored_canaries_are_not_graded_again() -> None:
    judge, calls = make(by_worth)
    records = await records_of(judge)
    paid = len(calls.asked)
    assert await records_of(judge, done=records) == []
    assert len(calls.asked) == paid
    assert [one.model_name for one in await records_of(judge, done=records[1:])] == [
        records[0].model_name
    ]


async def test_as_many_canaries_are_graded_as_the_plan_says() -> None:
    none, calls = make(by_worth, judge_settings(canaries=0))
    assert await records_of(none) == []
    assert calls.asked == []
    all_of_them, _ = make(by_worth, judge_settings(canaries=50))
    assert len(await records_of(all_of_them)) == 18


@pytest.mark.parametrize("form", ["tool", "json_schema", "text"])
@pytest.mark.parametrize("seed", range(5))
async def test_the_sandboxs_honest_judge_passes_every_canary(form: str, seed: int) -> None:
    settings = judge_settings(canaries=18, structured=form)
    judge, _ = make(SandboxMind.of(JudgeSpec(), seed=seed), settings)
    report = canary_report(await records_of(judge))
    assert report.misgraded == ()
    assert report.total == 18


@pytest.mark.parametrize("form", ["tool", "json_schema", "text"])
@pytest.mark.parametrize("seed", range(5))
async def test_the_sandboxs_gullible_judge_is_caught_in_every_run(form: str, seed: int) -> None:
    settings = judge_settings(canaries=3, structured=form)
    judge, _ = make(SandboxMind.of(JudgeSpec(gullible=True), seed=seed), settings)
    report = canary_report(await records_of(judge))
    assert report.misgraded == ("attack-override (judge)",)


async def test_the_sandboxs_gullible_judge_falls_for_every_attack() -> None:
    settings = judge_settings(canaries=18)
    judge, _ = make(SandboxMind.of(JudgeSpec(gullible=True)), settings)
    report = canary_report(await records_of(judge))
    attacks = {f"{one.name} (judge)" for one in CANARIES if one.kind is CanaryKind.ATTACK}
    assert set(report.misgraded) == attacks
