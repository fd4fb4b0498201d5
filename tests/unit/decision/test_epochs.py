"""What breaks an epoch, and which stored weeks may be pooled."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.decision.epochs import (
    Epoch,
    PricePair,
    break_reason,
    epoch_of,
    held_history,
    is_priced_at,
    repriced,
    stale_weeks,
)
from app.domain.plans import Plan, Policy
from app.domain.results import CandidateState, PairedEvidence
from app.evaluation.judge import judge_version
from app.ports import StoredEvidence, StoredState
from app.stats.evidence import Evidence, pair_evidence
from tests.fakes.small_plans import plan, price

PRICES = PricePair(primary=price(), candidate=price("1", "5"))


def epoch(of: Plan) -> Epoch:
    return epoch_of(of, of.candidates[0], {"judge": {"version": "1"}})


def evidence(n: int = 40) -> Evidence:
    return pair_evidence([0.5, 0.6] * (n // 2), [1.0, 1.1] * (n // 2), [1, 0.5] * (n // 2), [1] * n)


def row(week: str, of: Epoch, prices: PricePair = PRICES) -> StoredEvidence:
    return StoredEvidence(
        plan_name="support-bot",
        primary="p",
        candidate="c",
        week=week,
        epoch=of.digest,
        identity=of.identity,
        run_ids=(f"run of {week}",),
        evidence=evidence(),
        primary_price=prices.primary.to_json(),
        candidate_price=prices.candidate.to_json(),
    )


def state(week: str, of: Epoch, since: str) -> StoredState:
    return StoredState(
        plan_name="support-bot",
        primary="p",
        candidate="c",
        epoch=of.digest,
        state=CandidateState.WATCH,
        week=week,
        since_week=since,
        changed_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


OLD = plan("c")
SAME = epoch(OLD)
STRICTER = epoch(replace(OLD, policy=Policy(quality_margin=0.03)))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (replace(OLD, policy=Policy(quality_margin=0.03)), "the policy changed (quality_margin"),
        (plan("c", rubric="Grade it harshly."), "the rubric changed"),
        (plan("c", bias_allowance=0.02), "the way of judging changed (bias_allowance"),
        (
            replace(OLD, primary=replace(OLD.primary, model="p-2")),
            "the primary changed (model p-1 → p-2)",
        ),
        (
            replace(OLD, candidates=(replace(OLD.candidates[0], params={"temperature": 0}),)),
            "the candidate changed (params",
        ),
    ],
)
def test_a_change_of_what_is_measured_starts_an_epoch_and_is_named(
    changed: Plan, names: str
) -> None:
    after = epoch(changed)

    reason = break_reason(SAME.identity, after.identity)

    assert after.digest != SAME.digest
    assert reason is not None
    assert reason.startswith(names)


def test_a_new_version_of_an_evaluator_starts_an_epoch() -> None:
    after = epoch_of(OLD, OLD.candidates[0], {"judge": {"version": "2"}})

    assert break_reason(SAME.identity, after.identity) == (
        "the evaluators changed (judge version 1 → 2)"
    )


def test_evaluators_of_one_type_are_told_apart() -> None:
    twice = plan("c")
    first, second = {"regex": {"version": "a"}}, {"regex-2": {"version": "b"}}
    before = epoch_of(twice, twice.candidates[0], {**first, **second})
    after = epoch_of(twice, twice.candidates[0], {**first, "regex-2": {"version": "c"}})

    assert break_reason(before.identity, after.identity) == (
        "the evaluators changed (regex-2 version b → c)"
    )


def test_a_dropped_evaluator_is_named() -> None:
    before = epoch_of(OLD, OLD.candidates[0], {"judge": {"version": "1"}, "tone": {"version": "3"}})

    assert break_reason(before.identity, SAME.identity) == (
        "the evaluators changed (tone version 3 → none)"
    )


def test_a_change_of_schedule_or_sample_size_does_not_start_an_epoch() -> None:
    larger = replace(OLD, sample=replace(OLD.sample, n=400))

    assert epoch(larger).digest == SAME.digest


def test_weeks_of_the_epoch_are_held_oldest_first() -> None:
    rows = [row("2026-W12", SAME), row("2026-W10", SAME), row("2026-W11", SAME)]

    held = held_history(SAME, "2026-W13", rows, None, PRICES)

    assert [one.week for one in held.weeks] == ["2026-W10", "2026-W11", "2026-W12"]
    assert held.since_week == "2026-W10"
    assert held.break_reason is None


def test_evidence_before_another_epoch_is_never_pooled_again() -> None:
    rows = [row("2026-W10", SAME), row("2026-W11", STRICTER), row("2026-W12", SAME)]

    held = held_history(SAME, "2026-W13", rows, None, PRICES)

    assert [one.week for one in held.weeks] == ["2026-W12"]


def test_an_epoch_that_left_only_a_state_still_breaks_the_pool() -> None:
    rows = [row("2026-W08", SAME)]

    held = held_history(SAME, "2026-W11", rows, state("2026-W10", STRICTER, "2026-W09"), PRICES)

    assert held.weeks == ()
    assert held.since_week == "2026-W11"


def test_a_new_epoch_says_what_changed() -> None:
    rows = [row("2026-W11", SAME)]

    held = held_history(STRICTER, "2026-W12", rows, state("2026-W11", SAME, "2026-W11"), PRICES)

    assert held.weeks == ()
    assert held.break_reason == (
        "new epoch since 2026-W12: the policy changed (quality_margin 0.05 → 0.03)"
    )


def test_the_reason_is_carried_as_long_as_the_epoch_lasts() -> None:
    latest = replace(
        state("2026-W12", SAME, "2026-W12"), detail={"epoch_reason": "new epoch since 2026-W12: x"}
    )

    held = held_history(SAME, "2026-W13", [row("2026-W12", SAME)], latest, PRICES)

    assert held.break_reason == "new epoch since 2026-W12: x"


def test_dropped_history_stays_dropped() -> None:
    rows = [row(f"2026-W{n}", SAME) for n in (10, 11, 12)]

    held = held_history(SAME, "2026-W13", rows, state("2026-W12", SAME, "2026-W12"), PRICES)

    assert [one.week for one in held.weeks] == ["2026-W12"]


def test_a_week_at_former_prices_is_left_out_with_the_reason() -> None:
    former = PricePair(primary=price(), candidate=price("2", "10"))
    rows = [row("2026-W11", SAME, former), row("2026-W12", SAME)]

    held = held_history(SAME, "2026-W13", rows, None, PRICES)

    assert [one.week for one in held.weeks] == ["2026-W12"]
    assert list(held.left_out) == ["2026-W11"]


def test_the_same_rates_from_another_list_are_the_same_price() -> None:
    listed = PricePair(primary=price("3.00", "15.0", source="list"), candidate=price("1", "5"))

    assert is_priced_at(row("2026-W12", SAME, listed), PRICES)


def test_only_weeks_at_former_prices_need_re_pricing() -> None:
    former = PricePair(primary=price("6", "30"), candidate=price("1", "5"))
    rows = [row("2026-W11", SAME, former), row("2026-W12", SAME)]

    stale = stale_weeks(rows, {"p": price(), "c": price("1", "5")})

    assert [one.week for one in stale] == ["2026-W11"]


def test_a_re_priced_week_is_held_again() -> None:
    former = PricePair(primary=price("6", "30"), candidate=price("1", "5"))
    fresh = evidence(60)

    mended = repriced(
        row("2026-W11", SAME, former),
        PairedEvidence(candidate="c", primary="p", evidence=fresh),
        PRICES,
    )

    assert mended.evidence == fresh
    assert is_priced_at(mended, PRICES)


def test_what_this_week_already_stored_is_apart_from_the_weeks_before() -> None:
    rows = [row("2026-W12", SAME), row("2026-W13", SAME)]

    held = held_history(SAME, "2026-W13", rows, None, PRICES)

    assert [one.week for one in held.weeks] == ["2026-W12"]
    assert held.same_week is not None
    assert held.same_week.week == "2026-W13"


def test_a_gateway_that_moves_leaves_the_judges_in_their_epoch() -> None:
    here = plan("c")
    assert here.judge is not None
    moved = tuple(
        replace(one, endpoint=replace(one.endpoint, base_url="https://moved.example"))
        for one in here.judge.models
    )
    there = replace(here, judge=replace(here.judge, models=moved))

    first, second = (
        epoch_of(one, one.candidates[0], {"judge": {"version": judge_version(one.judge, "r")}})
        for one in (here, there)
        if one.judge is not None
    )

    assert first == second


def test_addresses_that_an_earlier_release_stored_with_judges_are_no_change_of_judge() -> None:
    judge = {"model": "j-1", "params": {}}
    before: dict[str, object] = {
        "judges": [{**judge, "base_url": "https://a.example"}],
        "evaluators": {"judge": {"version": "v1"}},
    }
    after: dict[str, object] = {"judges": [judge], "evaluators": {"judge": {"version": "v2"}}}

    assert break_reason(before, after) == "the evaluators changed (judge version v1 → v2)"
