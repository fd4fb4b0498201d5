"""The judge: forms of answer, repeats, panels, preferences, and no score where none was given."""

import asyncio
from collections.abc import Iterator

import pytest

from app.calls.caller import CallRequest
from app.domain.attempts import Completion, Failure, FailureClass, Purpose, StopReason
from app.domain.cases import Case
from app.domain.errors import BudgetExhausted, GatewayRefused
from app.domain.plans import JudgeSettings
from app.domain.scores import Score, Unscored
from app.evaluation.judge import Judge, JudgeEvaluator, Verdicts, judge_version
from tests.fakes.judges import (
    PRICE,
    SHARD,
    Answering,
    FakeCalls,
    case,
    completion,
    graded,
    in_json,
    judge_settings,
    model,
    preferred,
    refused,
)

EVALUATOR = JudgeEvaluator(label="judge", rubric="1 bad\n5 good", version="v1")
REPLY = completion("Click on “Forgot password”.")


def make(answer: Answering, settings: JudgeSettings | None = None) -> tuple[Judge, FakeCalls]:
    settings = settings or judge_settings()
    calls = FakeCalls(answer)
    prices = {one.name: PRICE for one in settings.models}
    return Judge(calls, plan_name="p", settings=settings, prices=prices, seed=1), calls


async def grade(judge: Judge, reply: Completion = REPLY, asked: Case | None = None) -> Verdicts:
    return await judge.grade(asked or case(), reply, EVALUATOR, shard=SHARD)


@pytest.mark.parametrize(("level", "share"), [(1, 0.0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1.0)])
async def test_levels_1_to_5_become_shares_from_0_to_1(level: int, share: float) -> None:
    judge, _ = make(lambda _: graded(level, "It helps."))
    said = await grade(judge)
    assert said == {
        "judge": Score(
            value=share, reason="It helps.", detail={"grades": [float(level)], "words": 4}
        )
    }


async def test_the_call_is_journaled_as_the_judges_and_asks_for_one_forced_tool() -> None:
    judge, calls = make(
        lambda _: graded(4),
        JudgeSettings(models=(model("judge", params={"temperature": 0, "max_tokens": 99}),)),
    )
    await grade(judge)
    (request,) = calls.paid
    assert request.purpose is Purpose.JUDGE
    assert request.shard == SHARD
    assert request.case_id == "case-1"
    assert request.call_key == f"judge:judge:judge:{REPLY.fingerprint}:0:tool"
    assert request.stream is False
    assert request.max_tokens == 99
    assert request.prompt.params == {"temperature": 0}
    assert request.prompt.tools == ()
    assert request.answer_tool is not None
    assert request.answer_schema is None


async def test_the_judge_never_sees_whose_reply_it_is() -> None:
    judge, calls = make(lambda _: graded(4))
    await grade(judge)
    seen = str(calls.paid[0].prompt.to_json()) + str(calls.paid[0].answer_tool)
    for name in ("prod", "small", "claude", "gpt", "primary", "candidate"):
        assert name not in seen.lower()


async def test_repeats_are_separate_calls_and_count_as_their_mean() -> None:
    grades = iter([5, 4, 2])
    judge, calls = make(lambda _: graded(next(grades)), judge_settings(repeats=3))
    said = (await grade(judge))["judge"]
    assert isinstance(said, Score)
    assert said.value == pytest.approx((1.0 + 0.75 + 0.25) / 3)
    assert said.detail["grades"] == [5.0, 4.0, 2.0]
    assert len({request.call_key for request in calls.paid}) == 3
    assert len({str(request.prompt.system) for request in calls.paid}) == 3


async def test_a_repeat_without_a_grade_does_not_lose_the_others() -> None:
    answers = iter([graded(5), completion("hm"), graded(3)])
    judge, _ = make(lambda _: next(answers), judge_settings(repeats=3))
    said = (await grade(judge))["judge"]
    assert isinstance(said, Score)
    assert said.value == pytest.approx(0.75)
    assert said.detail["grades"] == [5.0, None, 3.0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (graded(6), "lies outside 1 to 5"),
        (graded("1 or 5"), "not a number"),
        (graded(None), "not a number"),
        (graded(float("nan")), "not a number"),
        (completion("Well, it is hard to say."), "states no score"),
        (completion(""), "empty"),
        (completion("Score: [[5", stop=StopReason.MAX_TOKENS), "cut off"),
        (completion("Score: [[5]]", stop=StopReason.REFUSAL), "refused"),
        (refused(FailureClass.TIMEOUT), "timeout"),
    ],
)
async def test_whatever_is_no_grade_is_unscored_with_its_reason(
    answer: Completion | Failure, reason: str
) -> None:
    judge, _ = make(lambda _: answer, judge_settings(structured="tool"))
    said = (await grade(judge))["judge"]
    assert isinstance(said, Unscored)
    assert reason in said.reason


async def test_text_after_a_forced_tool_is_read_strictly() -> None:
    judge, _ = make(lambda _: completion("Fine.\nScore: [[4]]"), judge_settings(structured="tool"))
    said = (await grade(judge))["judge"]
    assert isinstance(said, Score)
    assert said.value == 0.75


# --- forms of answer ------------------------------------------------------------------------


def without_tools(request: CallRequest) -> Completion | Failure:
    if request.answer_tool is not None:
        return refused()
    return in_json({"reason": "r", "score": 4})


def without_structure(request: CallRequest) -> Completion | Failure:
    if request.answer_tool is not None or request.answer_schema is not None:
        return refused()
    return completion("Good.\nScore: [[4]]")


def deaf_to_tools(request: CallRequest) -> Completion:
    """Ignores the forced tool and chats, as some gateways do."""
    if request.answer_tool is not None:
        return completion("I think it is good.")
    return in_json({"reason": "r", "score": 4})


@pytest.mark.parametrize(
    ("answering", "last_form", "probes"),
    [
        (without_tools, "json_schema", 2),
        (without_structure, "text", 3),
        (deaf_to_tools, "json_schema", 2),
    ],
)
async def test_the_form_an_endpoint_supports_is_probed_once_and_remembered(
    answering: Answering, last_form: str, probes: int
) -> None:
    judge, calls = make(answering)
    replies = [completion(f"Reply {number}.") for number in range(6)]
    said = await asyncio.gather(*(grade(judge, reply) for reply in replies))
    assert all(isinstance(one["judge"], Score) for one in said)
    assert len(calls.paid) == probes + 5
    assert all(request.call_key.endswith(f":{last_form}") for request in calls.paid[probes:])


async def test_an_outage_during_the_probe_settles_nothing() -> None:
    answers: Iterator[Completion | Failure] = iter([refused(FailureClass.SERVER), graded(5)])
    judge, calls = make(lambda _: next(answers))
    first = (await grade(judge, completion("one")))["judge"]
    second = (await grade(judge, completion("two")))["judge"]
    assert isinstance(first, Unscored)
    assert isinstance(second, Score)
    assert [request.call_key.rsplit(":", 1)[1] for request in calls.paid] == ["tool", "tool"]


@pytest.mark.parametrize("form", ["tool", "json_schema", "text"])
async def test_a_form_that_the_plan_names_is_used_unprobed(form: str) -> None:
    judge, calls = make(lambda _: refused(), judge_settings(structured=form))
    said = (await grade(judge))["judge"]
    assert isinstance(said, Unscored)
    assert [request.call_key.rsplit(":", 1)[1] for request in calls.paid] == [form]


async def test_a_judgement_made_before_is_not_paid_again_after_a_restart() -> None:
    judge, calls = make(without_tools)
    await grade(judge)
    paid = len(calls.paid)
    again = Judge(calls, plan_name="p", settings=judge.settings, prices={"judge": PRICE}, seed=1)
    said = (await grade(again))["judge"]
    assert isinstance(said, Score)
    assert len(calls.paid) == paid
    requests = [request for request in calls.asked if request.call_key == calls.paid[0].call_key]
    assert len(requests) == 2
    assert requests[0].prompt == requests[1].prompt


# --- panels ---------------------------------------------------------------------------------


async def test_a_panel_asks_every_judge_and_keeps_each_ones_word() -> None:
    levels = {"strict": 2, "kind": 5}
    judge, _ = make(
        lambda request: graded(levels[request.model.name]), judge_settings("strict", "kind")
    )
    said = await grade(judge)
    assert {name: one.value for name, one in said.items() if isinstance(one, Score)} == {
        "strict": 0.25,
        "kind": 1.0,
    }


async def test_a_judge_whose_endpoint_refuses_it_drops_out_of_the_panel() -> None:
    def answer(request: CallRequest) -> Completion:
        if request.model.name == "locked":
            raise GatewayRefused("judge locked: 401")
        return graded(5)

    judge, _ = make(answer, judge_settings("open", "locked"))
    said = await grade(judge)
    assert isinstance(said["open"], Score)
    assert isinstance(said["locked"], Unscored)


async def test_a_panel_of_refused_judges_stops_the_run() -> None:
    def answer(_: CallRequest) -> Completion:
        raise GatewayRefused("401")

    judge, _ = make(answer, judge_settings("a", "b"))
    with pytest.raises(GatewayRefused):
        await grade(judge)
    alone, _ = make(answer)
    with pytest.raises(GatewayRefused):
        await grade(alone)


async def test_an_error_is_raised_only_after_the_other_calls_have_ended() -> None:
    ended: list[str] = []

    def answer(request: CallRequest) -> Completion:
        if request.model.name == "poor":
            raise BudgetExhausted("the cap does not allow another call")
        ended.append(request.call_key)
        return graded(5)

    judge, _ = make(answer, judge_settings("poor", "rich", repeats=2, structured="tool"))
    with pytest.raises(BudgetExhausted):
        await grade(judge)
    assert len(ended) == 2


# --- references -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "shown"),
    [("none", None), ("column", "From the column."), ("logged", "From the log.")],
)
async def test_a_reference_is_shown_only_as_configured(source: str, shown: str | None) -> None:
    judge, calls = make(lambda _: graded(4), judge_settings(reference=source))
    await grade(judge, asked=case(reference="From the column.", logged="From the log."))
    text = str(calls.paid[0].prompt.messages[0].content)
    assert ("<reference-" in text) is (shown is not None)
    for reference in ("From the column.", "From the log."):
        assert (reference in text) is (reference == shown)


# --- preferences ----------------------------------------------------------------------------

PRIMARY, CANDIDATE = completion("The old answer."), completion("The new answer.")


async def compare(judge: Judge, candidate: Completion = CANDIDATE) -> Score | Unscored:
    said = await judge.compare(case(), (PRIMARY, candidate), EVALUATOR, shard=SHARD)
    return said["judge"]


def prefers(text: str) -> Answering:
    def answer(request: CallRequest) -> Completion:
        shown = str(request.prompt.messages[0].content)
        first = shown[shown.index("<reply-first-") : shown.index("</reply-first-")]
        return preferred("first" if text in first else "second")

    return answer


@pytest.mark.parametrize(
    ("answering", "value", "orders"),
    [
        (prefers("new"), 1.0, [["second", "first"]]),
        (prefers("old"), 0.0, [["first", "second"]]),
        (lambda _: preferred("first"), 0.5, [["first", "first"]]),
        (lambda _: preferred("second"), 0.5, [["second", "second"]]),
        (lambda _: preferred("tie"), 0.5, [["tie", "tie"]]),
    ],
)
async def test_both_orders_are_asked_and_disagreement_is_a_tie(
    answering: Answering, value: float, orders: list[list[str]]
) -> None:
    judge, calls = make(answering)
    said = await compare(judge)
    assert isinstance(said, Score)
    assert said.value == value
    assert said.detail["orders"] == orders
    assert len(calls.paid) == 2


async def test_a_preference_against_a_tie_is_a_tie() -> None:
    answers = iter([preferred("second"), preferred("tie")])
    judge, _ = make(lambda _: next(answers))
    said = await compare(judge)
    assert isinstance(said, Score)
    assert said.value == 0.5


async def test_equal_replies_tie_without_a_call() -> None:
    judge, calls = make(lambda _: preferred("first"))
    said = await compare(judge, completion("The old answer."))
    assert isinstance(said, Score)
    assert said.value == 0.5
    assert calls.paid == []


async def test_a_preference_in_one_order_only_is_no_preference() -> None:
    answers = iter([preferred("second"), completion("hm"), preferred("second"), preferred("first")])
    judge, _ = make(lambda _: next(answers), judge_settings(repeats=2, structured="tool"))
    said = await compare(judge)
    assert isinstance(said, Score)
    assert said.value == 1.0
    assert said.detail["orders"] == [["second", "first"]]


async def test_no_preference_at_all_is_unscored() -> None:
    judge, _ = make(lambda _: preferred("both"))
    assert isinstance(await compare(judge), Unscored)


# --- versions -------------------------------------------------------------------------------


def test_the_version_changes_with_rubric_model_parameters_and_mode_only() -> None:
    settings = judge_settings()
    base = judge_version(settings, "rubric")
    assert judge_version(judge_settings(), "rubric") == base
    others = [
        judge_version(settings, "another rubric"),
        judge_version(judge_settings(repeats=2), "rubric"),
        judge_version(judge_settings(reference="logged"), "rubric"),
        judge_version(judge_settings(mode="pairwise"), "rubric"),
        judge_version(judge_settings(structured="text"), "rubric"),
        judge_version(JudgeSettings(models=(model("judge", model_id="other"),)), "rubric"),
        judge_version(JudgeSettings(models=(model("judge", params={"temperature": 0}),)), "rubric"),
    ]
    assert len({base, *others}) == len(others) + 1
    assert judge_version(judge_settings(canaries=0, bias_allowance=0.1), "rubric") == base
