"""Likeness by embeddings: paid once per pair of texts, gates before the judge, absent if unknown."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from app.calls.caller import CallRequest
from app.domain.attempts import Completion, FailureClass, Purpose
from app.domain.errors import ConfigError
from app.domain.models import Endpoint, ModelSpec, Role
from app.domain.plans import EvaluatorSettings, Plan
from app.domain.results import CaseResult
from app.domain.runs import SpendLine
from app.domain.scores import Score, Unscored, quality_of
from app.evaluation.catalogue import build_evaluators, evaluation_identity, evaluator_versions
from app.evaluation.panel import EvaluationPanel
from app.evaluation.reliability import judge_report
from tests.fakes.judges import (
    PRICE,
    SHARD,
    Answer,
    FakeCalls,
    case,
    completion,
    graded,
    judge_settings,
    model,
    plan,
    refused,
    reply,
)

JUDGE = EvaluatorSettings(type="judge")


def alike(**options: object) -> EvaluatorSettings:
    gate = bool(options.pop("gate", False))
    name = options.pop("name", None)
    return EvaluatorSettings(
        type="similarity",
        gate=gate,
        name=None if name is None else str(name),
        options={"measure": "embeddings", **options},
    )


def embedder(base_url: str = "http://127.0.0.1:1/v1", **params: object) -> ModelSpec:
    endpoint = Endpoint(base_url=base_url, api="embeddings")
    return ModelSpec(
        name="embeddings", model="embed-3", role=Role.EMBEDDER, endpoint=endpoint, params=params
    )


def planned(*evaluators: EvaluatorSettings, judge: bool = False) -> Plan:
    made = plan(*evaluators, judge=judge_settings() if judge else None)
    return replace(made, embedder=embedder())


def made(of: Plan, likeness: object = 0.8) -> tuple[EvaluationPanel, FakeCalls]:
    def answer(request: CallRequest) -> Answer:
        if request.model.role is Role.JUDGE:
            return graded(4)
        return likeness if isinstance(likeness, Completion) else completion(json.dumps([likeness]))

    calls = FakeCalls(answer)
    prices = {one.name: PRICE for one in (*of.judges, embedder())}
    return EvaluationPanel(of, calls=calls, prices=prices, seed=1), calls


async def test_the_score_is_the_cosine_of_reply_and_reference() -> None:
    panel, calls = made(planned(alike()))

    (record,) = await panel.evaluate(
        case(reference="Paris."), [reply("prod", completion("It is Paris."))], shard=SHARD
    )

    assert record.result == Score(value=0.8, reason="cosine of embeddings 0.800")
    assert (record.evaluator, record.judge_model, record.weight) == ("similarity", None, 1.0)
    (request,) = calls.paid
    assert [message.text for message in request.prompt.messages] == ["Paris.", "It is Paris."]
    assert request.purpose is Purpose.JUDGE
    assert (request.max_tokens, request.stream) == (0, False)
    assert request.upper_bound_usd > Decimal(0)


@pytest.mark.parametrize(("cosine", "score"), [(-0.4, 0.0), (0.0, 0.0), (1.0, 1.0)])
async def test_opposite_meaning_is_worth_nothing(cosine: float, score: float) -> None:
    panel, _ = made(planned(alike()), cosine)

    (record,) = await panel.evaluate(
        case(reference="Yes."), [reply("prod", completion("No."))], shard=SHARD
    )

    assert record.score == score


async def test_equal_replies_are_embedded_once() -> None:
    panel, calls = made(planned(alike()))
    replies = [
        reply(name, completion(text))
        for name, text in [("prod", "A"), ("small", "A"), ("tiny", "B")]
    ]

    records = await panel.evaluate(case(reference="A"), replies, shard=SHARD)

    assert len(calls.asked) == 2
    assert [record.model_name for record in records] == ["prod", "small", "tiny"]


async def test_a_gate_and_a_measure_share_one_call() -> None:
    panel, calls = made(planned(alike(gate=True, at_least=0.5, name="near"), alike()))

    records = await panel.evaluate(
        case(reference="A"), [reply("prod", completion("B"))], shard=SHARD
    )

    assert len(calls.asked) == 1
    assert [(one.evaluator, one.score) for one in records] == [("near", 1.0), ("similarity", 0.8)]


async def test_a_failed_gate_by_embeddings_spares_the_judge() -> None:
    panel, calls = made(planned(alike(gate=True, at_least=0.9), JUDGE, judge=True))

    records = await panel.evaluate(
        case(reference="A"), [reply("prod", completion("B"))], shard=SHARD
    )

    assert [request.model.role for request in calls.asked] == [Role.EMBEDDER]
    assert quality_of(records, None) == (0.0, FailureClass.GATE)


async def test_a_failed_gate_of_another_kind_spares_the_embeddings() -> None:
    short = EvaluatorSettings(type="length", gate=True, options={"at_most": 1})
    panel, calls = made(planned(short, alike()))

    await panel.evaluate(case(reference="A"), [reply("prod", completion("B C D"))], shard=SHARD)

    assert calls.asked == []


async def test_what_is_stored_is_not_paid_again() -> None:
    first, _ = made(planned(alike()))
    replies = [reply("prod", completion("B"))]
    done = await first.evaluate(case(reference="A"), replies, shard=SHARD)
    again, calls = made(planned(alike()))

    assert await again.evaluate(case(reference="A"), replies, shard=SHARD, done=done) == []
    assert calls.asked == []


@pytest.mark.parametrize(
    "said",
    [
        completion("[]"),
        completion("[0.1, 0.2]"),
        completion("null"),
        completion("no"),
        completion(""),
    ],
    ids=lambda one: one.text,
)
async def test_a_reply_without_one_likeness_is_unscored(said: Completion) -> None:
    panel, _ = made(planned(alike()), said)

    (record,) = await panel.evaluate(
        case(reference="A"), [reply("prod", completion("B"))], shard=SHARD
    )

    assert isinstance(record.result, Unscored)


async def test_a_failed_call_is_unscored_and_the_others_go_on() -> None:
    of = planned(alike(), JUDGE, judge=True)
    calls = FakeCalls(lambda request: graded(5) if request.model.role is Role.JUDGE else refused())
    panel = EvaluationPanel(of, calls=calls, prices={"judge": PRICE, "embeddings": PRICE}, seed=1)

    records = await panel.evaluate(
        case(reference="A"), [reply("prod", completion("B"))], shard=SHARD
    )

    assert [type(record.result) for record in records] == [Unscored, Score]
    assert records[0].result.reason == "no embedding: bad_request"


async def test_a_case_without_reference_costs_nothing() -> None:
    panel, calls = made(planned(alike()))

    (record,) = await panel.evaluate(case(), [reply("prod", completion("B"))], shard=SHARD)

    assert isinstance(record.result, Unscored)
    assert calls.asked == []


async def test_a_reply_of_tool_calls_alone_is_like_nothing_and_costs_nothing() -> None:
    panel, calls = made(planned(alike()))
    called = completion("", tool_calls=({"type": "tool_use", "name": "look", "input": {}},))

    (record,) = await panel.evaluate(case(reference="A"), [reply("prod", called)], shard=SHARD)

    assert record.score == 0.0
    assert calls.asked == []


def test_the_version_covers_model_parameters_and_options_but_not_the_address() -> None:
    def version(of: ModelSpec, settings: EvaluatorSettings) -> str:
        return evaluator_versions(replace(planned(settings), embedder=of))["similarity"]

    same = version(embedder(), alike())

    assert version(embedder("https://elsewhere.example/v1"), alike()) == same
    others = {
        version(replace(embedder(), model="embed-4"), alike()),
        version(embedder(dimensions=256), alike()),
        version(embedder(), alike(at_least=0.5)),
        version(embedder(), alike(reference="logged")),
    }
    assert len(others | {same}) == 5


def test_rouge_keeps_its_version_whether_it_is_named_or_not() -> None:
    named = EvaluatorSettings(type="similarity", options={"measure": "rouge_l"})
    (first,) = build_evaluators(plan(named))
    (second,) = build_evaluators(plan(EvaluatorSettings(type="similarity")))

    assert first.evaluator.version == second.evaluator.version


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (alike(gate=True), "as a gate it needs `at_least`"),
        (alike(at_leest=0.5), "did you mean `at_least`"),
        (alike(reference="elsewhere"), "reference"),
        (EvaluatorSettings(type="similarity", options={"measure": "bleu"}), "must be `rouge_l`"),
    ],
)
def test_a_wrong_option_is_named(settings: EvaluatorSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluation_identity(planned(settings))


def test_embeddings_without_a_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="no model is under `embeddings`"):
        evaluation_identity(plan(alike()))


def test_what_embeddings_cost_is_not_the_judges_spend() -> None:
    of = planned(alike(), JUDGE, judge=True)
    spend = [
        SpendLine(model_name=name, purpose=Purpose.JUDGE, attempts=1, spend_usd=Decimal(usd))
        for name, usd in (("judge", "0.30"), ("embeddings", "0.02"))
    ]
    results: list[CaseResult] = []

    report = judge_report(of, records=[], results=results, spend=spend)

    assert report.spend_usd == Decimal("0.30")


def test_every_model_of_a_plan_is_found_by_name() -> None:
    of = planned(alike(), JUDGE, judge=True)

    assert [one.name for one in of.models] == ["prod", "small", "tiny", "judge", "embeddings"]
    assert of.model("embeddings") == embedder()
    assert model("prod").role is Role.CANDIDATE
