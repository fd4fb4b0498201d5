"""Evaluators built from a Plan: types, options, own ones, entry points, versions."""

from pathlib import Path

import pytest

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.errors import ConfigError
from app.domain.plans import EvaluatorSettings
from app.domain.scores import Score
from app.evaluation.catalogue import (
    build_evaluator,
    build_evaluators,
    evaluation_identity,
    evaluator_types,
    evaluator_versions,
    judge_evaluators,
)
from app.evaluation.rubrics import DEFAULT_RUBRIC, rubric_problems
from tests.fakes.judges import case, completion, judge_settings, plan

HERE = "tests.unit.evaluation.test_catalogue"
EXAMPLE = Path(__file__).parent / "example_plugin"


class Shouting:
    """An own evaluator without a version."""

    def __init__(self, marks: int = 1) -> None:
        self._marks = marks

    def score(self, case: Case, completion: Completion) -> Score:
        return Score(value=float(completion.text.endswith("!" * self._marks)))


class Mistaken:
    def score(self, case: Case, completion: Completion) -> float:
        return 0.5


class Coloured:
    async def score(self, case: Case, completion: Completion) -> Score:
        return Score(value=1.0)


class Promising:
    """Returns what would have to be awaited, from an ordinary method."""

    def score(self, case: Case, completion: Completion) -> object:
        return Coloured().score(case, completion)


class Silent:
    """Has no score method."""


def one(type_name: str, **options: object) -> EvaluatorSettings:
    return EvaluatorSettings(type=type_name, options=options)


def test_every_built_in_type_is_known_and_documented() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "evaluators.md").read_text(encoding="utf-8")
    for name in evaluator_types():
        assert f"`{name}`" in docs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (one("regx"), "did you mean `regex`"),
        (one("wholly else"), "known: "),
        (one("regex"), "pattern"),
        (one("regex", pattern="("), "not a regular expression"),
        (one("regex", patern="a"), "did you mean `pattern`"),
        (one("json_valid", fence="maybe"), "fence"),
        (one("length"), "at_least, at_most or both"),
        (one("python:nowhere"), "python:package.module:ClassName"),
        (one("python:nowhere.at_all:X"), "cannot be loaded"),
        (one(f"python:{HERE}:Missing"), "cannot be loaded"),
        (one(f"python:{HERE}:HERE"), "no class"),
        (one(f"python:{HERE}:Shouting", volume=3), "does not take these options"),
        (one(f"python:{HERE}:Silent"), "no method score"),
        (one(f"python:{HERE}:Coloured"), "not an async one"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_nearest_right_one(
    settings: EvaluatorSettings, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_evaluator(settings)


def test_options_become_parameters() -> None:
    evaluator = build_evaluator(one("contains", expected=["a", "b"]))
    assert evaluator.score(case(), completion("b a")) == Score(value=1.0, reason="all found")


def test_an_own_evaluator_is_loaded_by_module_and_name() -> None:
    evaluator = build_evaluator(one(f"python:{HERE}:Shouting", marks=2))
    assert evaluator.score(case(), completion("Yes!!")) == Score(value=1.0)
    assert evaluator.score(case(), completion("Yes!")) == Score(value=0.0)


def test_an_own_evaluator_without_a_version_gets_one_from_source_and_options() -> None:
    once = build_evaluator(one(f"python:{HERE}:Shouting", marks=1))
    twice = build_evaluator(one(f"python:{HERE}:Shouting", marks=2))
    again = build_evaluator(one(f"python:{HERE}:Shouting", marks=1))
    other = build_evaluator(one(f"python:{HERE}:Mistaken"))
    assert once.version == again.version
    assert len({once.version, twice.version, other.version}) == 3


def test_an_own_evaluator_that_returns_no_score_is_unscored() -> None:
    made = plan(one(f"python:{HERE}:Mistaken"))
    record = build_evaluators(made)[0].record(case(), "prod", completion())
    assert record.score is None
    assert "returned float" in str(record.result)


def test_an_own_evaluator_that_returns_a_coroutine_is_unscored_and_leaves_none_behind() -> None:
    made = plan(one(f"python:{HERE}:Promising"))
    record = build_evaluators(made)[0].record(case(), "prod", completion())
    assert "returned coroutine" in str(record.result)


def test_an_installed_package_brings_its_evaluators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    assert "polite" in evaluator_types()
    made = plan(EvaluatorSettings(type="polite", gate=True, options={"words": ["please"]}))
    configured = build_evaluators(made)[0]
    assert configured.record(case(), "prod", completion("Yes, please.")).is_passed is True
    assert configured.record(case(), "prod", completion("Yes.")).is_passed is False
    assert configured.evaluator.version == "polite-1"


def test_repeated_types_get_labels_of_their_own() -> None:
    made = plan(one("regex", pattern="a"), one("regex", pattern="b"), one("exact"))
    assert [evaluator.label for evaluator in build_evaluators(made)] == [
        "regex",
        "regex-2",
        "exact",
    ]
    assert set(evaluator_versions(made)) == {"regex", "regex-2", "exact"}


def test_a_judge_needs_a_model_and_cannot_be_a_gate() -> None:
    with pytest.raises(ConfigError, match="no judge model"):
        judge_evaluators(plan(EvaluatorSettings(type="judge")))
    gate = EvaluatorSettings(type="judge", gate=True)
    with pytest.raises(ConfigError, match="cannot be a gate"):
        judge_evaluators(plan(gate, judge=judge_settings()))
    with pytest.raises(ConfigError, match="unknown option `rubrik`"):
        judge_evaluators(plan(one("judge", rubrik="x"), judge=judge_settings()))


def test_the_rubric_is_the_evaluators_or_the_plans_or_the_built_in_one() -> None:
    own = judge_evaluators(plan(one("judge", rubric="A"), judge=judge_settings(rubric="B")))
    shared = judge_evaluators(plan(one("judge"), judge=judge_settings(rubric="B")))
    built_in = judge_evaluators(plan(one("judge"), judge=judge_settings()))
    assert [each[0].rubric for each in (own, shared, built_in)] == ["A", "B", DEFAULT_RUBRIC]
    assert len({each[0].version for each in (own, shared, built_in)}) == 3


def test_the_identity_also_covers_weights_gates_and_segments() -> None:
    base = plan(EvaluatorSettings(type="exact"))
    changed = [
        plan(EvaluatorSettings(type="exact", weight=0.5)),
        plan(EvaluatorSettings(type="exact", gate=True)),
        plan(EvaluatorSettings(type="exact", when={"route": "a"})),
        plan(EvaluatorSettings(type="exact", options={"field": "answer"})),
    ]
    for other in changed:
        assert evaluation_identity(other) != evaluation_identity(base)
    assert evaluator_versions(changed[0]) == evaluator_versions(base)
    assert evaluator_versions(changed[3]) != evaluator_versions(base)


def test_the_built_in_rubric_is_the_one_in_the_config_folder() -> None:
    shipped = Path(__file__).parents[3] / "config" / "rubrics" / "default.md"
    assert shipped.read_text(encoding="utf-8") == DEFAULT_RUBRIC


def test_a_rubric_must_say_what_every_level_means() -> None:
    assert rubric_problems(DEFAULT_RUBRIC) == ()
    assert rubric_problems("  ") == ("the rubric is empty",)
    (problem,) = rubric_problems("5: good\n4: fine\n- 3: so so\n**1** bad")
    assert "level 2 means" in problem
    assert "20005 characters" in rubric_problems("1\n2\n3\n4\n5\n" + "x" * 19_995)[0]
