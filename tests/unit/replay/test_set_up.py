"""Whether a Run may go on under the plan it finds."""

from dataclasses import replace

import pytest

from app.domain.json_values import JsonObject
from app.domain.plans import Budget, Plan
from app.plans import public_config
from app.replay.set_up import changed_parts
from tests.fakes.small_plans import plan


def frozen(told: Plan, versions: dict[str, str] | None = None) -> JsonObject:
    return {"config": public_config(told), "evaluator_versions": versions or {"judge": "v1"}}


def test_nothing_has_changed_before_anything_was_frozen() -> None:
    assert changed_parts({}, frozen(plan())) == ()


def test_the_same_plan_may_go_on() -> None:
    assert list(changed_parts(frozen(plan()), frozen(plan()))) == []


def test_a_new_cap_or_name_of_the_file_changes_no_figure() -> None:
    now = replace(plan(), budget=Budget(per_run_usd=None, per_month_usd=None), source_file="b.yaml")
    assert list(changed_parts(frozen(plan()), frozen(now))) == []


@pytest.mark.parametrize("part", ["primary", "candidates"])
def test_another_model_behind_the_same_name_is_another_plan(part: str) -> None:
    before = plan("a", "b")
    if part == "primary":
        now = replace(before, primary=replace(before.primary, model="another-model"))
    else:
        first, *others = before.candidates
        now = replace(before, candidates=(replace(first, model="another-model"), *others))
    assert list(changed_parts(frozen(before), frozen(now))) == [part]


def test_a_candidate_more_or_less_is_another_plan() -> None:
    before = plan("a", "b")
    now = replace(before, candidates=before.candidates[:-1])
    assert list(changed_parts(frozen(before), frozen(now))) == ["candidates"]


def test_another_rubric_is_another_plan() -> None:
    found = changed_parts(frozen(plan()), frozen(plan(), {"judge": "v2"}))
    assert list(found) == ["evaluators"]


def test_what_a_newer_program_freezes_beside_is_no_change() -> None:
    config = public_config(plan())
    now = {**config, "primary": {**config["primary"], "new_setting": 1}, "new_part": {}}  # type: ignore[dict-item]
    assert list(changed_parts({"config": config}, {"config": now})) == []
