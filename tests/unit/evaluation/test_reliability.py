"""How far the judge can be believed: each figure against a judge whose fault is known."""

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.attempts import FailureClass, Purpose
from app.domain.plans import EvaluatorSettings, JudgeSettings, Plan
from app.domain.results import CaseResult, JudgeReport
from app.domain.runs import SpendLine
from app.domain.scores import Score, ScoreRecord, Unscored
from app.evaluation.families import family_of
from app.evaluation.reliability import judge_report
from tests.fakes.judges import judge_settings, model, plan

JUDGE = EvaluatorSettings(type="judge")


def record(
    case_id: str,
    model_name: str = "prod",
    value: float | None = 0.75,
    *,
    judge: str = "judge",
    label: str = "judge",
    detail: Mapping[str, object] | None = None,
) -> ScoreRecord:
    return ScoreRecord(
        case_id=case_id,
        model_name=model_name,
        evaluator=label,
        evaluator_version="v",
        result=Unscored(reason="no score")
        if value is None
        else Score(value=value, detail=detail or {}),
        judge_model=judge,
        weight=0.0 if "pairwise" in label else 1.0,
    )


def canary(name: str, *, right: bool | None, judge: str = "judge") -> ScoreRecord:
    return ScoreRecord(
        case_id="c",
        model_name=f"canary:{name}",
        evaluator=f"canary:{judge}",
        evaluator_version="v",
        result=Unscored(reason="no score")
        if right is None
        else Score(value=1.0, detail={"right": right}),
        weight=0.0,
        judge_model=judge,
    )


GOOD_CANARIES = [canary(f"good-{number}", right=True) for number in range(6)]


def report(
    records: Sequence[ScoreRecord],
    *,
    judge: JudgeSettings | None = None,
    made: Plan | None = None,
    results: Sequence[CaseResult] = (),
    spend: Sequence[SpendLine] = (),
) -> JudgeReport:
    made = made or plan(JUDGE, judge=judge or judge_settings())
    return judge_report(made, records=records, results=results, spend=spend)


def test_a_plan_without_a_judge_has_nothing_to_distrust() -> None:
    unused = plan(EvaluatorSettings(type="exact"), judge=judge_settings())
    for made in (plan(EvaluatorSettings(type="exact")), unused):
        assert report([], made=made) == JudgeReport()


def test_unscored_replies_are_counted_and_warned_about_above_one_in_twenty() -> None:
    records = [record(f"c{n}", value=None if n < 6 else 0.75) for n in range(100)]
    made = report([*records, *GOOD_CANARIES])
    assert (made.judged, made.unscored, made.unscored_rate) == (100, 6, 0.06)
    assert "6 of 100 judged replies have no score" in made.warnings
    fewer = report([*records[1:], *GOOD_CANARIES, record("c100")])
    assert fewer.unscored_rate == 0.05
    assert fewer.warnings == ()


def test_one_judge_of_a_panel_without_a_score_does_not_make_the_reply_unscored() -> None:
    records = [
        record("c1", label="judge:a", judge="a"),
        record("c1", value=None, label="judge:b", judge="b"),
    ]
    made = report(records, judge=judge_settings("a", "b"))
    assert (made.judged, made.unscored) == (1, 0)


def test_deterministic_scores_and_canaries_are_not_the_judges_word_on_replies() -> None:
    check = ScoreRecord(
        case_id="c1",
        model_name="prod",
        evaluator="exact",
        evaluator_version="v",
        result=Unscored(reason="no reference"),
    )
    made = report([check, *GOOD_CANARIES])
    assert (made.judged, made.unscored, made.unscored_rate) == (0, 0, None)


def test_canaries_make_or_break_trust() -> None:
    trusted = report(GOOD_CANARIES)
    assert (trusted.canaries, trusted.canaries_right, trusted.is_trusted) == (6, 6, True)
    misled = report([*GOOD_CANARIES[:5], canary("attack-override", right=False)])
    assert (misled.canaries, misled.canaries_right, misled.is_trusted) == (6, 5, False)
    assert misled.warnings == ("the judge graded canaries wrongly: attack-override (judge)",)
    silent = report([canary("good-1", right=None)])
    assert not silent.is_trusted
    assert "no canary was graded: nothing shows that the judge can be believed" in silent.warnings
    off = report([], judge=judge_settings(canaries=0))
    assert off.is_trusted
    assert off.warnings == ("canaries are turned off: nothing checks the judge in this run",)


def test_a_panels_agreement_is_the_share_of_replies_graded_alike() -> None:
    records: list[ScoreRecord] = []
    for number in range(10):
        other = 1.0 if number < 2 else 0.75
        records += [
            record(f"c{number}", value=0.75, label="judge:a", judge="a"),
            record(f"c{number}", value=other, label="judge:b", judge="b"),
        ]
    made = report(records, judge=judge_settings("a", "b"))
    assert made.agreement is not None
    assert made.agreement.point == 0.8
    assert made.agreement.n == 10
    assert (round(made.agreement.low, 3), round(made.agreement.high, 3)) == (0.490, 0.943)
    assert made.spread == pytest.approx(0.2 * 0.25 / 2**0.5)
    assert made.judge_agreement == {"a": 0.8, "b": 0.8}


def test_a_single_judge_agrees_with_nobody() -> None:
    made = report([record("c1"), record("c2")])
    assert made.agreement is None
    assert made.spread is None
    assert made.repeat_agreement is None
    assert made.order_consistency is None


def test_repeat_agreement_is_the_share_of_equal_pairs() -> None:
    made = report(
        [
            record("c1", detail={"grades": [4.0, 4.0, 5.0]}),
            record("c2", detail={"grades": [3.0, 3.0, None]}),
            *GOOD_CANARIES,
        ]
    )
    assert made.repeat_agreement == pytest.approx(2 / 4)
    assert "only 50% of repeated judgements gave the same grade" in made.warnings


def test_a_judge_that_prefers_a_position_is_reported() -> None:
    biased = [
        record(
            f"c{n}", "small", 0.5, label="judge_pairwise", detail={"orders": [["first", "first"]]}
        )
        for n in range(8)
    ]
    fair = [
        record(
            "d1", "small", 1.0, label="judge_pairwise", detail={"orders": [["second", "first"]]}
        ),
        record("d2", "small", 0.5, label="judge_pairwise", detail={"orders": [["tie", "tie"]]}),
    ]
    made = report([*biased, *fair, *GOOD_CANARIES], judge=judge_settings(mode="pairwise"))
    assert made.order_consistency == pytest.approx(0.2)
    assert made.judged == 0
    assert any("prefers a position: only 20%" in warning for warning in made.warnings)
    assert report([*fair, *GOOD_CANARIES]).warnings == ()


MODELS = {"prod": (0.6, 120), "small": (0.55, 150), "tiny": (0.4, 80)}


def graded_run(*, bias_per_100_words: float, seed: int, cases: int = 100) -> list[ScoreRecord]:
    """Replies whose true quality has nothing to do with how long they are for their model."""
    rng = random.Random(seed)
    records = []
    for number in range(cases):
        difficulty, verbosity = rng.gauss(0, 0.15), rng.gauss(0, 0.35)
        for name, (quality, length) in MODELS.items():
            words = max(1, round(length * 2.718 ** (verbosity + rng.gauss(0, 0.15))))
            true = quality - difficulty + rng.gauss(0, 0.1)
            seen = true + bias_per_100_words * (words - 100) / 100
            level = min(max(round(seen * 4), 0), 4)
            records.append(record(f"c{number}", name, level / 4, detail={"words": words}))
    return records


def test_a_judge_that_favours_long_replies_is_reported() -> None:
    for seed in range(5):
        made = report([*graded_run(bias_per_100_words=0.4, seed=seed), *GOOD_CANARIES])
        assert made.length_correlation is not None
        assert made.length_correlation.low > 0.1
        assert any("favours long replies" in warning for warning in made.warnings)


def test_a_judge_that_minds_no_length_is_not_though_better_models_write_more() -> None:
    low = 0
    for seed in range(20):
        made = report([*graded_run(bias_per_100_words=0.0, seed=seed), *GOOD_CANARIES])
        assert made.length_correlation is not None
        low += made.length_correlation.excludes(0.0)
        assert made.warnings == ()
    assert low <= 4


def test_too_few_or_unvarying_scores_have_no_length_correlation() -> None:
    few = graded_run(bias_per_100_words=0.4, seed=1, cases=4)
    assert report(few).length_correlation is None
    same = [record(f"c{n}", name, 0.75, detail={"words": 10}) for n in range(40) for name in MODELS]
    assert report(same).length_correlation is None
    unmeasured = [record(f"c{n}", name) for n in range(40) for name in MODELS]
    assert report(unmeasured).length_correlation is None


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([f"c{n}" for n in range(12)]),
            st.sampled_from(sorted(MODELS)),
            st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, None]),
            st.integers(0, 500),
        ),
        unique_by=lambda row: (row[0], row[1]),
        max_size=36,
    )
)
def test_no_scores_break_the_figures(rows: list[tuple[str, str, float | None, int]]) -> None:
    records = [record(c, m, value, detail={"words": words}) for c, m, value, words in rows]
    made = report(records)
    assert made.judged == len(rows)
    if made.length_correlation is not None:
        assert -1 <= made.length_correlation.low <= made.length_correlation.high <= 1


def test_only_the_judges_spend_is_its_cost() -> None:
    spend = [
        SpendLine(model_name="judge", purpose=Purpose.JUDGE, attempts=3, spend_usd=Decimal("0.5")),
        SpendLine(model_name="prod", purpose=Purpose.REPLAY, attempts=3, spend_usd=Decimal(7)),
        SpendLine(model_name="other", purpose=Purpose.JUDGE, attempts=1, spend_usd=Decimal("0.25")),
    ]
    assert report([], spend=spend).spend_usd == Decimal("0.5")


def test_replies_the_judge_was_spared_are_counted_by_reason() -> None:
    def result(failure: FailureClass | None) -> CaseResult:
        return CaseResult(
            case_id="c",
            source_id="s",
            model_name="prod",
            weight=1.0,
            copies=1,
            stratum="",
            conversation=None,
            segments={},
            is_anchor=False,
            is_later_turn=False,
            failure_class=failure,
            quality=0.0,
            spend_usd=Decimal(0),
            is_cost_known=True,
            attempts=1,
            retries=0,
        )

    spared = [FailureClass.GATE, FailureClass.GATE, FailureClass.REFUSAL, None]
    made = report([], results=[result(failure) for failure in spared])
    assert made.not_judged == {"gate_failed": 2, "refusal": 1}


def test_a_judge_of_a_contestants_family_is_warned_about() -> None:
    made = plan(
        JUDGE,
        judge=JudgeSettings(models=(model("referee", model_id="anthropic/claude-opus-4-5"),)),
        primary=model("prod", model_id="claude-sonnet-4-5"),
        candidates=(model("small", model_id="gpt-5-mini"), model("open", model_id="qwen3-235b")),
    )
    (warning,) = report(GOOD_CANARIES, made=made).warnings
    assert warning.startswith("judge referee is of the same family (claude) as prod and may favour")


@pytest.mark.parametrize(
    ("model_id", "family"),
    [
        ("claude-haiku-4-5", "claude"),
        ("bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0", "claude"),
        ("gpt-4o-mini", "gpt"),
        ("azure/o3-mini", "gpt"),
        ("gemini-2.5-flash", "gemini"),
        ("meta-llama/Llama-3-70b", "llama"),
        ("Qwen/QwQ-32B", "qwen"),
        ("mixtral-8x7b", "mistral"),
        ("aster-large", "aster"),
        ("sandbox-swift", "swift"),
        ("123", None),
    ],
)
def test_a_model_id_tells_its_family(model_id: str, family: str | None) -> None:
    assert family_of(model_id) == family
