"""What every label store promises: people's scores beside the judge's, one per person and reply."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.attempts import (
    Completion,
    Failure,
    FailureClass,
    Purpose,
    ShardRef,
    StopReason,
)
from app.domain.labels import Label
from app.domain.runs import Trigger
from app.domain.scores import Unscored
from tests.fakes.clocks import START
from tests.fakes.storage import Storage
from tests.fakes.work import (
    LEASE_S,
    Begun,
    begin_run,
    completion,
    failure,
    opening,
    outcome,
    record,
    sample_for,
    shard_for,
    slot,
    weekly_plan,
)

PLAN = "support-bot"


async def answered(
    storage: Storage,
    begun: Begun,
    *,
    case: int = 0,
    model_name: str = "p",
    result: Completion | Failure | None = None,
    is_final: bool = True,
    purpose: Purpose = Purpose.REPLAY,
) -> None:
    """One call that ended."""
    opened = opening(begun, case=case, model_name=model_name, purpose=purpose)
    assert await storage.journal.open(opened) is None
    await storage.journal.settle(outcome(opened, result, is_final=is_final))


async def judged(
    storage: Storage, begun: Begun, *, case: int = 0, model_name: str = "p", value: float = 0.75
) -> None:
    """One proper reply with a judge's score."""
    await answered(storage, begun, case=case, model_name=model_name)
    await storage.journal.score(begun.ref, [record(begun, value, case=case, model_name=model_name)])


def label(
    begun: Begun,
    score: float = 1.0,
    *,
    case: int = 0,
    model_name: str = "p",
    by: str = "ann",
    later: timedelta = timedelta(0),
) -> Label:
    return Label(
        run_id=begun.run.run_id,
        case_id=begun.sample.cases[case].case_id,
        model_name=model_name,
        score=score,
        labelled_by=by,
        labelled_at=START + later,
        judge_version="1",
    )


# --- what can be labelled -----------------------------------------------------------------------


async def test_judged_replies_come_with_their_case_and_every_score(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun, case=1)
    await judged(storage, begun, case=1, model_name="a", value=0.25)
    await judged(storage, begun, case=0)

    first, second = await storage.labels.judged_cases(begun.run.run_id)

    assert (first.case, second.case) == begun.sample.cases[:2]
    assert (first.run_id, set(first.replies), set(second.replies)) == (
        begun.run.run_id, {"p"}, {"p", "a"},
    )  # fmt: skip
    assert second.replies["a"].records == (record(begun, 0.25, case=1, model_name="a"),)
    assert second.replies["a"].completion.text == completion().text
    assert second.replies["a"].judge_version == "1"


@pytest.mark.parametrize(
    "result",
    [
        failure(),
        failure(FailureClass.AUTH),
        replace(completion(), stop_reason=StopReason.MAX_TOKENS),
        replace(completion(), stop_reason=StopReason.REFUSAL),
        replace(completion(), text=" "),
    ],
    ids=["failed", "refused key", "truncated", "refusal", "empty"],
)
async def test_an_unsuccessful_reply_cannot_be_labelled(
    storage: Storage, result: Completion | Failure
) -> None:
    begun = await begin_run(storage.runs)
    await answered(storage, begun, result=result)
    await storage.journal.score(begun.ref, [record(begun)])

    assert list(await storage.labels.judged_cases(begun.run.run_id)) == []


async def test_a_reply_that_no_judge_scored_cannot_be_labelled(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    checked = replace(record(begun), judge_model=None)
    unscored = replace(record(begun, case=1), result=Unscored(reason="no grade"))
    preferred = replace(record(begun, case=2), weight=0.0)
    for case in range(4):
        await answered(storage, begun, case=case)
    await storage.journal.score(begun.ref, [checked, unscored, preferred])

    assert list(await storage.labels.judged_cases(begun.run.run_id)) == []


async def test_only_the_final_reply_of_a_replay_counts(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    await answered(storage, begun, is_final=False)
    await answered(storage, begun, case=1, purpose=Purpose.JUDGE)
    await storage.journal.score(begun.ref, [record(begun), record(begun, case=1)])

    assert list(await storage.labels.judged_cases(begun.run.run_id)) == []


async def test_an_anchor_is_no_case_of_the_week_to_be_labelled(storage: Storage) -> None:
    asked = await storage.runs.request(weekly_plan(), slot(), Trigger.SCHEDULE, seed=7)
    assert asked is not None
    run = await storage.runs.begin(
        asked, weekly_plan(), owner="us", now=asked.created_at, lease_s=LEASE_S
    )
    *fresh, last = sample_for(run).cases
    anchor = replace(last, anchor_of=fresh[0].case_id, weight=0.0)
    sample = replace(sample_for(run), cases=tuple(fresh), anchors=(anchor,))
    await storage.runs.save_sample(run, sample, {"policy": "frozen"})
    await storage.runs.plan_shards(run.run_id, [shard_for(run, (*fresh, anchor))])
    claimed = await storage.runs.claim(run.run_id, 0, owner="us", at=run.created_at)
    ref = ShardRef(run_id=run.run_id, shard_no=0, fence=claimed.shard.fence)
    begun = Begun(plan=weekly_plan(), run=run, sample=sample_for(run), ref=ref)
    await judged(storage, begun, case=0)
    await judged(storage, begun, case=3)

    (found,) = await storage.labels.judged_cases(run.run_id)

    assert found.case.case_id == fresh[0].case_id


async def test_texts_that_are_gone_cannot_be_labelled_but_their_labels_still_count(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun)
    await storage.labels.add(PLAN, [label(begun)])

    await storage.runs.scrub(begun.run.run_id, None)

    assert list(await storage.labels.judged_cases(begun.run.run_id)) == []
    assert len(await storage.labels.labelled(PLAN)) == 1


async def test_an_unknown_run_has_nothing_to_label(storage: Storage) -> None:
    assert list(await storage.labels.judged_cases("0f7a1f4e-8c0b-4d3e-9d6e-3f1f3ad3c001")) == []


# --- labels -------------------------------------------------------------------------------------


async def test_a_labelled_reply_has_the_peoples_mean_beside_the_judges_word(
    storage: Storage,
) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun)

    await storage.labels.add(PLAN, [label(begun, 1.0), label(begun, 0.5, by="bob")])

    (found,) = await storage.labels.labelled(PLAN)
    assert (found.human, found.raters) == (0.75, 2)
    assert (found.model_name, found.model, found.judge_version) == ("p", "p-1", "1")
    assert (found.run_id, found.case_id) == (begun.run.run_id, begun.sample.cases[0].case_id)
    assert found.records == (record(begun, 0.75),)


async def test_a_persons_newer_label_replaces_the_older_one(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun)
    await storage.labels.add(PLAN, [label(begun, 0.0)])

    await storage.labels.add(PLAN, [label(begun, 0.75, later=timedelta(days=1))])

    (found,) = await storage.labels.labelled(PLAN)
    assert (found.human, found.raters) == (0.75, 1)


async def test_the_same_sheet_twice_changes_nothing(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun)
    sheet = [label(begun, 0.5), label(begun, 1.0, by="bob")]
    await storage.labels.add(PLAN, sheet)
    before = await storage.labels.labelled(PLAN)

    await storage.labels.add(PLAN, sheet)
    await storage.labels.add(PLAN, [])

    assert list(await storage.labels.labelled(PLAN)) == list(before)


async def test_labels_of_a_reply_without_a_judges_score_are_left_out(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun)
    await answered(storage, begun, case=1)

    await storage.labels.add(PLAN, [label(begun), label(begun, case=1)])

    assert [one.case_id for one in await storage.labels.labelled(PLAN)] == [
        begun.sample.cases[0].case_id
    ]


async def test_labelled_replies_come_in_one_order_whoever_came_first(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    keys = [(case, name) for case in range(3) for name in ("p", "a")]
    for case, name in keys:
        await judged(storage, begun, case=case, model_name=name)
    labels = [label(begun, case=case, model_name=name) for case, name in keys]

    await storage.labels.add(PLAN, labels[::-1])

    found = [(one.case_id, one.model_name) for one in await storage.labels.labelled(PLAN)]
    assert found == sorted((one.case_id, one.model_name) for one in labels)


async def test_plans_see_their_own_labels_only(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun)
    await storage.labels.add(PLAN, [label(begun)])

    assert list(await storage.labels.labelled("another")) == []


async def test_a_name_that_postgres_cannot_hold_is_still_a_name(storage: Storage) -> None:
    begun = await begin_run(storage.runs)
    await judged(storage, begun)

    await storage.labels.add(PLAN, [label(begun, by="an\x00n")])

    (found,) = await storage.labels.labelled(PLAN)
    assert found.raters == 1
