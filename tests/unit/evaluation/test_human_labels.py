"""People against the judge: agreement, staleness, and a self-preferring judge corrected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from app.decision.decider import Decider
from app.domain.labels import LabelledReply
from app.domain.models import Role
from app.domain.scores import Score, ScoreRecord
from app.evaluation.human_labels import HumanEvidence, human_evidence
from app.sandbox.brain import opinion_of
from app.sandbox.draws import level, share
from app.sandbox.judging import Judged, Matter
from app.sandbox.world import Family, JudgeSpec
from app.sandbox.worlds import JUDGE, PRIME, SWIFT, named_world
from app.stats.estimates import Estimate
from tests.fakes.case_results import model
from tests.fakes.small_plans import plan

PLAN = plan("c")
TODAY = {"judge": {"type": "judge", "version": "v1"}}
PARTIAL = named_world("partial_judge").models[JUDGE].judge
FAIR = JudgeSpec()
WEEKS, N, LABELLED = 4, 100, 200
TRUE_DIFFERENCE = -0.02


@dataclass(frozen=True)
class Pairs:
    """Replies of both models to the same prompts: columns are the primary and the candidate."""

    true: np.ndarray
    judged: np.ndarray
    human: np.ndarray
    cost: np.ndarray


def pairs(seed: int, judge: JudgeSpec, n: int = WEEKS * N) -> Pairs:
    """Qualities whose true means are .85 and .83, as the sandbox's judge and people see them."""
    rng = np.random.default_rng(seed)
    latent = np.sqrt(0.55) * rng.standard_normal((n, 1)) + np.sqrt(0.45) * rng.standard_normal(
        (n, 2)
    )
    means = (0.85, 0.85 + TRUE_DIFFERENCE)
    true = np.array(
        [
            [level(share(z), q, 0.2, 4) / 4 for z, q in zip(row, means, strict=True)]
            for row in latent
        ]
    )
    families: tuple[Family, Family] = ("aster", "birch")
    judged = np.array(
        [
            [
                (grade(judge, float(q), family, (seed, number, family)) - 1) / 4
                for q, family in zip(row, families, strict=True)
            ]
            for number, row in enumerate(true)
        ]
    )
    people = np.array([[level(share(rng.normal()), q, 0.1, 4) / 4 for q in row] for row in true])
    cost = rng.gamma(4.0, 0.002, (n, 2)) * [1.0, 0.6]
    return Pairs(true=true, judged=judged, human=people, cost=cost)


def grade(judge: JudgeSpec, quality: float, family: Family, draw: tuple[object, ...]) -> int:
    reply = Judged(quality=quality, text="a reply", words=100, family=family)
    return opinion_of(judge, Matter(replies=(reply,), topic="", is_attacked=False), draw).grade


def labelled(found: Pairs, n: int = LABELLED, *, version: str = "v1") -> list[LabelledReply]:
    return [
        labelled_reply(name, case, found.judged[case, at], found.human[case, at], version)
        for case in range(n)
        for at, name in enumerate(("p", "c"))
    ]


def labelled_reply(
    name: str, case: int, judged: float, human: float, version: str = "v1"
) -> LabelledReply:
    record = ScoreRecord(
        case_id=f"case-{case}",
        model_name=name,
        evaluator="judge",
        evaluator_version=version,
        result=Score(value=float(judged)),
        judge_model="judge",
    )
    return LabelledReply(
        run_id="run-1",
        case_id=f"case-{case}",
        model_name=name,
        model=f"{name}-1",
        conversation=None,
        human=float(human),
        raters=1,
        judge_version=version,
        records=(record,),
    )


def difference(found: Pairs, people: HumanEvidence | None) -> Estimate:
    """The interval on D that a plan shows after its weeks."""
    decider = Decider(["p", "c"], primary="p", rectifiers=people.rectifiers if people else None)
    for week in range(WEEKS):
        rows = slice(week * N, (week + 1) * N)
        told = decider.week(found.cost[rows], found.judged[rows], np.ones((N, 2)), np.ones((N, 2)))
    estimate = told.comparisons["c"].quality_delta
    assert estimate is not None
    return estimate


def covers(estimate: Estimate) -> bool:
    return estimate.low <= TRUE_DIFFERENCE <= estimate.high


def test_a_self_preferring_judge_is_corrected_by_two_hundred_labelled_pairs() -> None:
    plain, corrected = [], []
    for seed in range(100):
        found = pairs(seed, PARTIAL)
        people = human_evidence(PLAN, TODAY, labelled(found))
        plain.append(covers(difference(found, None)))
        corrected.append(covers(difference(found, people)))
    print(f"coverage of D: uncorrected {np.mean(plain):.2f}, corrected {np.mean(corrected):.2f}")
    assert np.mean(plain) < 0.60
    assert np.mean(corrected) >= 0.90


def test_the_lean_of_a_self_preferring_judge_is_measured_and_told() -> None:
    people = human_evidence(PLAN, TODAY, labelled(pairs(1, PARTIAL)))

    assert people.agreement is not None
    assert people.agreement.bias["c"].low > 0.03
    assert people.agreement.corrected == ("c",)
    assert any("the judge favours c" in said and "corrected" in said for said in people.warnings)


def test_a_fair_judge_is_not_accused() -> None:
    people = human_evidence(PLAN, TODAY, labelled(pairs(2, FAIR)))

    assert people.warnings == ()
    assert people.agreement is not None
    assert people.agreement.kappa is not None
    assert people.agreement.spearman is not None
    assert people.agreement.kappa.low > 0.5
    assert people.agreement.spearman.low > 0.5


def test_too_few_labelled_pairs_are_told_and_correct_nothing() -> None:
    people = human_evidence(PLAN, TODAY, labelled(pairs(3, PARTIAL), 150))

    assert people.rectifiers == {}
    assert any(said.startswith("150 of the 200 labelled pairs") for said in people.warnings)
    assert any("is NOT corrected" in said for said in people.warnings)


def test_labels_beside_another_judge_version_are_stale() -> None:
    people = human_evidence(PLAN, TODAY, labelled(pairs(4, PARTIAL), version="v0"))

    assert people.rectifiers == {}
    assert people.agreement is not None
    assert (people.agreement.replies, people.agreement.stale) == (0, 2 * LABELLED)
    assert any("labels are stale" in said for said in people.warnings)


def test_labels_of_a_model_that_has_been_exchanged_correct_nothing() -> None:
    other = replace(PLAN, candidates=(model("c", Role.CANDIDATE, "c-2"),))

    assert human_evidence(other, TODAY, labelled(pairs(5, PARTIAL))).rectifiers == {}


def test_labels_replace_the_judges_part_of_quality_only() -> None:
    def reply(name: str, case: int) -> LabelledReply:
        one = labelled_reply(name, case, judged=0.5, human=1.0 if case % 2 else 0.5)
        tone = replace(one.records[0], evaluator="tone", judge_model=None, result=Score(value=0.0))
        return replace(one, records=(*one.records, tone))

    replies = [reply(name, case) for case in range(LABELLED) for name in ("p", "c")]

    found = human_evidence(PLAN, TODAY, replies).rectifiers["c"]

    assert found.shift == pytest.approx((0.125, 0.125))


def test_without_labels_nothing_is_said() -> None:
    assert human_evidence(PLAN, TODAY, ()) == HumanEvidence(rectifiers={})


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_labels_changes_nothing(order: int) -> None:
    replies: Sequence[LabelledReply] = labelled(pairs(6, PARTIAL), 210)

    found = human_evidence(PLAN, TODAY, replies[::order]).rectifiers["c"]

    assert found.shift == pytest.approx(human_evidence(PLAN, TODAY, replies).rectifiers["c"].shift)


def test_the_sandboxes_models_have_the_families_that_its_partial_judge_tells_apart() -> None:
    models = named_world("partial_judge").models
    assert PARTIAL.prefers_family == models[SWIFT].family != models[PRIME].family
