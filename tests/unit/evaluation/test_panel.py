"""The evaluation of one Case: cheap first, each reply judged once, nothing scored twice."""

from dataclasses import dataclass

import pytest

from app.calls.caller import CallRequest
from app.domain.attempts import Completion, FailureClass, Reply, StopReason
from app.domain.errors import BudgetExhausted, ConfigError
from app.domain.plans import EvaluatorSettings, JudgeSettings, Plan
from app.domain.scores import Score, ScoreRecord, Unscored, quality_of
from app.evaluation.panel import EvaluationPanel
from tests.fakes.judges import (
    PRICE,
    SHARD,
    Answering,
    FakeCalls,
    case,
    completion,
    graded,
    judge_settings,
    plan,
    preferred,
    refused,
    reply,
)

JUDGE = EvaluatorSettings(type="judge", weight=0.8)
GATE = EvaluatorSettings(type="not_refused", gate=True)
SHORT = EvaluatorSettings(type="length", weight=0.2, options={"at_most": 50})


@dataclass(frozen=True, slots=True, kw_only=True)
class Raising:
    """An own evaluator that always fails."""

    name = "raising"
    version = "1"

    def score(self, case: object, completion: object) -> Score:
        raise RuntimeError("the secret prompt text")


def make(made: Plan, answer: Answering = lambda _: graded(4)) -> tuple[EvaluationPanel, FakeCalls]:
    calls = FakeCalls(answer)
    prices = {model.name: PRICE for model in made.judges}
    return EvaluationPanel(made, calls=calls, prices=prices, seed=1), calls


def standard(*more: EvaluatorSettings, judge: JudgeSettings | None = None) -> Plan:
    return plan(GATE, SHORT, JUDGE, *more, judge=judge or judge_settings())


def of(records: list[ScoreRecord], model_name: str) -> list[ScoreRecord]:
    return [record for record in records if record.model_name == model_name]


async def test_a_reply_gets_a_record_per_evaluator_and_a_quality() -> None:
    panel, _ = make(standard())
    records = await panel.evaluate(case(), [reply("prod", completion("Yes."))], shard=SHARD)
    assert [(one.evaluator, one.is_gate, one.weight, one.judge_model) for one in records] == [
        ("not_refused", True, 0.0, None),
        ("length", False, 0.2, None),
        ("judge", False, 0.8, "judge"),
    ]
    assert quality_of(records, None)[0] == pytest.approx(0.8 * 0.75 + 0.2)


@pytest.mark.parametrize(
    "result",
    [
        refused(FailureClass.SERVER),
        completion("", stop=StopReason.END_TURN),
        completion("Half an ans", stop=StopReason.MAX_TOKENS),
        completion("No.", stop=StopReason.REFUSAL),
    ],
)
async def test_an_unsuccessful_reply_is_neither_checked_nor_judged(result: Completion) -> None:
    panel, calls = make(standard())
    assert await panel.evaluate(case(), [reply("prod", result)], shard=SHARD) == []
    assert calls.asked == []


async def test_a_failed_gate_spares_the_judge() -> None:
    panel, calls = make(standard())
    records = await panel.evaluate(
        case(), [reply("prod", completion("I'm sorry, but I can't help with that."))], shard=SHARD
    )
    assert [record.evaluator for record in records] == ["not_refused"]
    assert calls.asked == []
    assert quality_of(records, None) == (0.0, FailureClass.GATE)


async def test_a_gate_that_raises_is_unscored_and_spares_the_judge() -> None:
    own = EvaluatorSettings(type="python:tests.unit.evaluation.test_panel:Raising", gate=True)
    panel, calls = make(plan(own, JUDGE, judge=judge_settings()))
    records = await panel.evaluate(case(), [reply("prod", completion())], shard=SHARD)
    (record,) = records
    assert isinstance(record.result, Unscored)
    assert record.result.reason == "the evaluator raised RuntimeError"
    assert "secret" not in str(record)
    assert calls.asked == []


async def test_an_evaluator_that_raises_does_not_stop_the_others() -> None:
    own = EvaluatorSettings(type="python:tests.unit.evaluation.test_panel:Raising")
    panel, _ = make(plan(own, JUDGE, judge=judge_settings()))
    records = await panel.evaluate(case(), [reply("prod", completion())], shard=SHARD)
    assert [type(record.result) for record in records] == [Unscored, Score]
    assert quality_of(records, None) == (None, None)


async def test_equal_replies_to_one_case_share_one_judgement() -> None:
    panel, calls = make(standard())
    replies = [reply(name, completion("Same.")) for name in ("prod", "small", "tiny")]
    records = await panel.evaluate(case(), replies, shard=SHARD)
    assert len(calls.paid) == 1
    judged = [record for record in records if record.judge_model]
    assert [record.model_name for record in judged] == ["prod", "small", "tiny"]
    assert len({id(record.result) for record in judged}) == 1


async def test_equal_replies_to_different_cases_are_judged_apart() -> None:
    panel, calls = make(standard())
    for case_id in ("case-1", "case-2"):
        await panel.evaluate(
            case(case_id=case_id),
            [reply("prod", completion("Same."), case_id=case_id)],
            shard=SHARD,
        )
    assert len(calls.paid) == 2


async def test_evaluators_apply_only_in_their_segments() -> None:
    extract = EvaluatorSettings(type="json_valid", gate=True, when={"route": "extract"})
    chat = EvaluatorSettings(type="judge", when={"route": "chat"})
    panel, calls = make(plan(extract, chat, judge=judge_settings()))
    replies = [reply("prod", completion("Hello."))]
    in_chat = await panel.evaluate(case(segments={"route": "chat"}), replies, shard=SHARD)
    assert [record.evaluator for record in in_chat] == ["judge"]
    in_extract = await panel.evaluate(
        case(case_id="case-2", segments={"route": "extract"}), replies, shard=SHARD
    )
    assert [(one.evaluator, one.is_passed) for one in in_extract] == [("json_valid", False)]
    assert await panel.evaluate(case(case_id="case-3"), replies, shard=SHARD) == []
    assert len(calls.paid) == 1


async def test_what_is_stored_is_not_scored_again() -> None:
    panel, calls = make(standard())
    replies = [reply("prod", completion("A.")), reply("small", completion("B."))]
    first = await panel.evaluate(case(), replies, shard=SHARD)
    asked = len(calls.asked)
    assert await panel.evaluate(case(), replies, shard=SHARD, done=first) == []
    assert len(calls.asked) == asked


async def test_after_a_restart_only_what_is_missing_is_added() -> None:
    panel, calls = make(standard())
    replies = [reply("prod", completion("Same.")), reply("small", completion("Same."))]
    first = await panel.evaluate(case(), replies, shard=SHARD)
    done = [one for one in first if not (one.model_name == "small" and one.judge_model)]
    added = await panel.evaluate(case(), replies, shard=SHARD, done=done)
    assert [(one.model_name, one.evaluator) for one in added] == [("small", "judge")]
    assert len(calls.asked) == 1


async def test_stored_records_of_another_case_or_version_do_not_count() -> None:
    panel, _ = make(standard())
    replies = [reply("prod", completion("A."))]
    records = await panel.evaluate(case(), replies, shard=SHARD)
    assert (
        len(await panel.evaluate(case(case_id="case-2"), replies, shard=SHARD, done=records)) == 3
    )
    other, _ = make(standard(judge=judge_settings(repeats=2)))
    added = await other.evaluate(case(), replies, shard=SHARD, done=records)
    assert [one.evaluator for one in added] == ["judge"]


async def test_an_unscored_judgement_is_kept_and_not_paid_again() -> None:
    panel, calls = make(standard(), lambda _: completion("hm"))
    replies = [reply("prod", completion("A."))]
    records = await panel.evaluate(case(), replies, shard=SHARD)
    asked = len(calls.asked)
    assert quality_of(records, None) == (None, None)
    assert await panel.evaluate(case(), replies, shard=SHARD, done=records) == []
    assert len(calls.asked) == asked


async def test_a_panel_of_judges_keeps_a_record_each_and_counts_as_their_mean() -> None:
    levels = {"strict": 2, "kind": 5}
    panel, _ = make(
        plan(JUDGE, judge=judge_settings("strict", "kind")),
        lambda request: graded(levels[request.model.name]),
    )
    records = await panel.evaluate(case(), [reply("prod", completion("A."))], shard=SHARD)
    assert [(one.evaluator, one.judge_model, one.score) for one in records] == [
        ("judge:strict", "strict", 0.25),
        ("judge:kind", "kind", 1.0),
    ]
    assert quality_of(records, None)[0] == pytest.approx(0.625)


async def test_only_the_judges_that_are_missing_are_asked_after_a_restart() -> None:
    panel, calls = make(plan(JUDGE, judge=judge_settings("one", "two")))
    replies = [reply("prod", completion("A."))]
    records = await panel.evaluate(case(), replies, shard=SHARD)
    calls.asked.clear()
    added = await panel.evaluate(case(), replies, shard=SHARD, done=records[:1])
    assert [one.judge_model for one in added] == ["two"]
    assert {request.model.name for request in calls.asked} == {"two"}


async def test_two_uses_of_the_judge_have_rubrics_of_their_own() -> None:
    tone = EvaluatorSettings(type="judge", name="tone", options={"rubric": "1 rude … 5 kind"})
    panel, calls = make(plan(JUDGE, tone, judge=judge_settings()))
    records = await panel.evaluate(case(), [reply("prod", completion("A."))], shard=SHARD)
    assert [one.evaluator for one in records] == ["judge", "tone"]
    assert ["1 rude … 5 kind" in str(one.prompt.system) for one in calls.paid] == [False, True]


# --- preferences ----------------------------------------------------------------------------


def judging_both_ways(request: CallRequest) -> Completion:
    if request.answer_tool is not None and request.answer_tool["name"] == "record_grade":
        return graded(4)
    shown = str(request.prompt.messages[0].content)
    first = shown[shown.index("<reply-first-") : shown.index("</reply-first-")]
    return preferred("first" if "better" in first else "second")


async def test_pairwise_mode_compares_candidates_with_the_primary_beside_the_grades() -> None:
    panel, _ = make(plan(JUDGE, judge=judge_settings(mode="pairwise")), judging_both_ways)
    replies = [
        reply("prod", completion("Old.")),
        reply("small", completion("A better one.")),
        reply("tiny", completion("Old.")),
    ]
    records = await panel.evaluate(case(), replies, shard=SHARD)
    pairs = [one for one in records if one.evaluator == "judge_pairwise"]
    assert [(one.model_name, one.score, one.weight) for one in pairs] == [
        ("small", 1.0, 0.0),
        ("tiny", 0.5, 0.0),
    ]
    assert quality_of(of(records, "small"), None) == (0.75, None)
    assert await panel.evaluate(case(), replies, shard=SHARD, done=records) == []


async def test_without_a_successful_primary_there_is_nothing_to_compare() -> None:
    panel, calls = make(plan(JUDGE, judge=judge_settings(mode="pairwise")), judging_both_ways)
    replies: list[Reply] = [
        reply("prod", refused(FailureClass.SERVER)),
        reply("small", completion("A better one.")),
    ]
    records = await panel.evaluate(case(), replies, shard=SHARD)
    assert [one.evaluator for one in records] == ["judge"]
    assert len(calls.paid) == 1


# --- the rest -------------------------------------------------------------------------------


async def test_running_out_of_money_stops_the_evaluation() -> None:
    def answer(_: CallRequest) -> Completion:
        raise BudgetExhausted("the cap does not allow another call")

    panel, _ = make(standard(), answer)
    with pytest.raises(BudgetExhausted):
        await panel.evaluate(case(), [reply("prod", completion("A."))], shard=SHARD)


async def test_canaries_are_graded_only_where_a_judge_is_used() -> None:
    judged, calls = make(standard(), lambda _: graded(1))
    records = await judged.grade_canaries("case-0", shard=SHARD)
    assert len(records) == 6
    assert calls.asked
    unjudged, none = make(plan(GATE, SHORT, judge=judge_settings()))
    assert await unjudged.grade_canaries("case-0", shard=SHARD) == []
    assert none.asked == []


def test_a_plan_with_a_wrong_evaluator_is_refused_at_once() -> None:
    with pytest.raises(ConfigError):
        make(plan(EvaluatorSettings(type="jugde"), judge=judge_settings()))
