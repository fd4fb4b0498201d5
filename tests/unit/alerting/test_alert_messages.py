"""What is said, word for word, and when."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.alerting.compose import Messages, Outcome, compose_alerts
from app.alerting.slots import missed_alert, skipped_alert
from app.domain.alerts import AlertKind, News, OpenAlert
from app.domain.plans import Budget
from app.domain.results import (
    Comparison,
    DriftReport,
    JudgeReport,
    Segment,
    SegmentComparison,
    VerdictKind,
)
from app.domain.runs import RunStatus, Slot, Trigger
from tests.fakes.outcomes import (
    NOW,
    REGRESSED_KEY,
    RUN_ID,
    RUN_KEY,
    SWITCH_KEY,
    comparison,
    estimate,
    fallen,
    healthy,
    losing_segment,
    opened,
    outcome,
    plan,
    regressed,
    run,
)

SWITCH = VerdictKind.SWITCH


def compose(told: Outcome, *known: OpenAlert) -> Messages:
    return compose_alerts(told, {alert.key: alert for alert in known}, now=NOW)


def kinds(messages: Messages) -> list[tuple[AlertKind, News]]:
    return [(alert.kind, alert.news) for alert in messages.alerts]


# --- 1: switch recommended ----------------------------------------------------------------------


def test_the_switch_message_says_what_is_saved_at_which_quality_on_how_much_evidence() -> None:
    found = replace(comparison(SWITCH), segments=(losing_segment(),))
    told = replace(outcome(found), skipped={"unsupported_content": 12, "empty": 3})

    (alert,) = compose(told).alerts

    assert alert.key == SWITCH_KEY
    assert alert.title == "Switch recommended: prod-sonnet → haiku"
    assert alert.lead == (
        "haiku saves 31–44 % at equal quality: −0.01 ±0.02 on 400 prompts of 4 weeks "
        "(allowed: −0.05)."
    )
    assert alert.fields == (
        ("Cost per 1,000 requests", "$9.10 ($8.60–9.60) → $5.60 ($5.10–6.10)"),
        ("Quality (0–1)", "0.85 ±0.02 → 0.84 ±0.02"),
        ("p95 latency", "4.4 s (3.9–4.9 s) → 3.1 s (2.6–3.6 s)"),
        ("At last week's volume", "about $1,140 a month ($920–1,310)"),
    )
    assert alert.lines == (
        (
            "Before you switch: `route=extract` is worse, −0.09 ±0.05 on 62 prompts: keep it on "
            "prod-sonnet."
        ),
        "Not measured: 12 logged prompts with content that cannot be replayed.",
    )
    assert [label for label, _ in alert.links] == [
        "Report",
        "Cases that got worse",
        "Why this verdict",
    ]
    assert alert.context == (
        "judges agree 91 %",
        "run cost $14.20",
        f"not switching? `switchwise ack {SWITCH_KEY} --reason …`",
        "± and ranges are 95 % intervals",
    )
    assert alert.chart is not None


def test_first_and_later_turns_are_told_apart_where_both_occur() -> None:
    first, later = (
        SegmentComparison(
            segment=Segment(name="turn", value=turn),
            pairs=pairs,
            quality_delta=estimate(delta, 0.03),
            saving=None,
            value_ratio=None,
        )
        for turn, pairs, delta in (("first", 310, 0.0), ("later", 90, -0.04))
    )

    def lines(*turns: SegmentComparison) -> tuple[str, ...]:
        (alert,) = compose(outcome(replace(comparison(SWITCH), segments=turns))).alerts
        return alert.lines

    assert (
        "Quality by turn: first turns 0.00 ±0.03 on 310 prompts, later turns −0.04 ±0.03 on "
        "90 prompts." in lines(first, later)
    )
    few = replace(later, pairs=12, quality_delta=None)
    assert any("later turns not compared on 12 prompts" in line for line in lines(first, few))
    assert not any("by turn" in line for line in lines(first))


def test_a_switch_for_better_quality_at_no_saving_says_what_the_bill_does() -> None:
    found = replace(
        comparison(SWITCH), quality_delta=estimate(0.12, 0.03), saving=estimate(-0.02, 0.04)
    )

    (alert,) = compose(outcome(found)).alerts

    assert alert.lead == (
        "haiku costs 32–42 % less per quality point, at better quality: +0.12 ±0.03 on 400 prompts "
        "of 4 weeks (allowed: −0.05); the bill itself is between 2 % lower and 6 % higher."
    )


@pytest.mark.parametrize(
    ("best", "line"),
    [
        ("haiku", "Best of 2 that qualify: beats qwen head to head."),
        ("qwen", "qwen qualifies as well and is better value head to head."),
        (None, "Tied with qwen: no head-to-head winner yet."),
    ],
)
def test_several_that_qualify_are_ranked_or_said_to_be_tied(best: str | None, line: str) -> None:
    tests: dict[str, object] = {"best": best}
    both = [comparison(SWITCH, candidate=name, tests=tests) for name in ("haiku", "qwen")]

    alerts = compose(outcome(*both, of=plan("haiku", "qwen"))).alerts

    assert line in next(a for a in alerts if a.key == SWITCH_KEY).lines


# --- 2: still recommended -----------------------------------------------------------------------


def test_the_reminder_says_what_waiting_has_cost_and_how_to_end_the_reminders() -> None:
    messages = compose(outcome(comparison(SWITCH)), opened(weeks_ago=6))

    (alert,) = messages.alerts
    assert alert.news is News.REMINDER
    assert alert.title == "Still recommended (week 6): prod-sonnet → haiku"
    assert alert.lead.startswith("haiku saves 31–44 % at equal quality: −0.01 ±0.02")
    assert alert.lines == (
        "Not switching since 15 February: about $1,596 ($1,288–1,834).",
        (
            f"`switchwise ack {SWITCH_KEY} --reason …` ends the reminders; the next one comes on "
            "26 April 2026."
        ),
    )
    assert [(state.key, state.last_sent_at) for state in messages.states] == [(SWITCH_KEY, NOW)]


def test_an_expired_acknowledgement_is_told_with_its_reason() -> None:
    known = replace(
        opened(weeks_ago=6),
        acknowledged_until=NOW - timedelta(days=1),
        acknowledged_reason="wait for the freeze to end",
    )

    (alert,) = compose(outcome(comparison(SWITCH)), known).alerts

    assert alert.news is News.EXPIRED
    assert alert.lines[0] == (
        "The acknowledgement of 28 March has run out: wait for the freeze to end"
    )


def test_a_week_that_could_not_measure_the_candidate_neither_reminds_nor_resolves() -> None:
    unmeasured = replace(comparison(VerdictKind.UNMEASURED), state=comparison(SWITCH).state)

    messages = compose(outcome(unmeasured, of=plan(digest="on_change")), opened(weeks_ago=9))

    assert messages.alerts == ()
    assert messages.states == ()


def test_a_candidate_that_no_longer_qualifies_is_withdrawn_with_the_reason() -> None:
    found = comparison(VerdictKind.WORSE, reasons=("Quality fell to −0.11 ±0.03.",))

    messages = compose(outcome(found), opened())

    (alert,) = messages.alerts
    assert alert.news is News.RESOLVED
    assert alert.title == "No longer recommended: prod-sonnet → haiku"
    assert alert.lead == "Quality fell to −0.11 ±0.03."
    assert alert.lines[0].startswith("Latest: haiku saves 31–44 %")
    assert messages.states[0].resolved_at == NOW


def test_a_candidate_that_became_the_primary_closes_its_alert_as_adopted() -> None:
    known = opened("support-bot/switch:prod-sonnet", title="Switch recommended: old → prod-sonnet")

    (alert,) = compose(outcome(comparison()), known).alerts

    assert alert.news is News.ADOPTED
    assert alert.title == "Adopted: prod-sonnet is the primary now"


def test_alerts_about_models_that_left_the_plan_are_closed() -> None:
    gone = opened("support-bot/switch:gone", title="Switch recommended: prod-sonnet → gone")
    former = opened("support-bot/regressed:old", title="old got worse", kind=AlertKind.REGRESSED)

    messages = compose(outcome(comparison()), gone, former)

    assert [alert.title for alert in messages.alerts] == ["Withdrawn: gone", "Withdrawn: old"]
    assert all(state.resolved_at == NOW for state in messages.states)


def test_a_failed_run_leaves_the_switch_alert_open() -> None:
    failed = replace(
        outcome(), status=RunStatus.FAILED, incomplete="no rows in the window", comparisons=()
    )

    messages = compose(failed, opened())

    assert kinds(messages) == [(AlertKind.RUN, News.NEW)]
    assert [state.key for state in messages.states] == [RUN_KEY]


# --- 3: the primary got worse -------------------------------------------------------------------


def test_the_regression_message_names_the_cause_and_advises_no_switch() -> None:
    messages = compose(outcome(comparison(SWITCH), drift=fallen()))

    (alert,) = messages.alerts
    assert alert.kind is AlertKind.REGRESSED
    assert alert.title == "prod-sonnet got worse"
    assert alert.lead == (
        "prod-sonnet scores −0.20 ±0.06 against its own earlier replies to the same 40 anchor "
        "prompts, old and new judged today by the same judge; most in `route=extract`."
    )
    assert alert.fields == (
        ("Is it the model?", "yes, −0.20 ±0.06"),
        ("Is it the traffic?", "no, +0.01 ±0.03"),
        ("Is it the judge?", "no, 0.00 ±0.02"),
        ("Is it the price?", "no, 0 %"),
    )
    assert alert.lines == (
        "Cause: prod-sonnet itself, not the traffic and not the judge.",
        "Since: week 2026-W12.",
        (
            "No switch is advised until the cause is known: "
            f"`switchwise ack {REGRESSED_KEY} --reason …` says that it is."
        ),
        "Closes when two weeks of anchor prompts are answered as well as before.",
    )
    assert "haiku" not in repr(alert)


def test_what_moved_beside_the_primary_is_named_too() -> None:
    both = replace(fallen(), causes=("traffic", "primary"))

    (alert,) = compose(outcome(comparison(), drift=both)).alerts

    assert alert.lines[0] == "Cause: prod-sonnet itself; the traffic changed as well."
    assert alert.fields[1] == ("Is it the traffic?", "yes, +0.01 ±0.03")


def test_no_switch_is_told_while_the_primary_is_worse_and_it_is_told_when_it_is_back() -> None:
    during = compose(
        outcome(comparison(SWITCH), of=plan(digest="on_change"), drift=fallen()), regressed()
    )
    after = compose(outcome(comparison(SWITCH), drift=healthy()), regressed())

    assert during.alerts == ()
    assert kinds(after) == [
        (AlertKind.SWITCH, News.NEW),
        (AlertKind.REGRESSED, News.RESOLVED),
    ]


def test_a_week_that_cannot_tell_keeps_switch_advice_held() -> None:
    unknown = outcome(comparison(SWITCH), of=plan(digest="on_change"), drift=DriftReport())
    assert compose(unknown, regressed()).alerts == ()


def test_a_cause_that_an_operator_knows_lets_switch_advice_through() -> None:
    known = replace(regressed(), acknowledged_until=NOW + timedelta(weeks=9))

    messages = compose(outcome(comparison(SWITCH), drift=fallen()), known)

    assert kinds(messages) == [(AlertKind.SWITCH, News.NEW)]


def test_the_reminder_that_was_held_comes_with_the_primary_being_back() -> None:
    messages = compose(
        outcome(comparison(SWITCH), drift=healthy()), regressed(), opened(weeks_ago=5)
    )

    (alert,) = messages.alerts
    assert alert.title == "prod-sonnet is back"
    assert alert.lead == (
        "prod-sonnet answers its anchor prompts as well as before it got worse; the alert of "
        "22 March is closed."
    )
    assert alert.lines[0].startswith("Recommended as before: haiku saves 31–44 %")
    assert {state.key: state.last_sent_at for state in messages.states}[SWITCH_KEY] == NOW


def test_a_primary_that_is_back_tells_of_a_recommendation_not_measured_this_week() -> None:
    unmeasured = replace(comparison(VerdictKind.UNMEASURED), state=comparison(SWITCH).state)

    messages = compose(outcome(unmeasured, drift=healthy()), regressed(), opened(weeks_ago=5))

    (alert,) = [one for one in messages.alerts if one.kind is AlertKind.REGRESSED]
    assert alert.lines == ("Recommended before, not measured this week: haiku.",)
    assert {state.key: state.last_sent_at for state in messages.states}[SWITCH_KEY] == NOW


def test_the_digest_gives_no_switch_advice_while_the_primary_is_worse() -> None:
    (alert,) = compose(
        outcome(comparison(SWITCH), drift=fallen()), regressed(), opened(weeks_ago=2)
    ).alerts

    assert alert.kind is AlertKind.QUIET
    assert alert.title == "No change: prod-sonnet is still worse"
    assert alert.lead == "No switch is advised until the cause is known."


# --- 4: run incomplete --------------------------------------------------------------------------


def partial(why: str = "The cap of $25.00 a run was reached after 61 of 100 prompts.") -> Outcome:
    return replace(
        outcome(),
        status=RunStatus.PARTIAL,
        incomplete=why,
        finishing_usd=Decimal("9.80"),
    )


def test_the_message_about_an_incomplete_run_says_why_and_what_finishing_takes() -> None:
    (alert,) = compose(partial()).alerts

    assert alert.title == "Run incomplete: no verdict this week (support-bot)"
    assert alert.lead == "The cap of $25.00 a run was reached after 61 of 100 prompts."
    assert alert.lines == (
        "Stored: 206 attempts on 100 cases.",
        f"Finishing costs about $9.80: `switchwise run --resume {RUN_ID}`",
        "Next slot: Sun 05 Apr 2026 06:00 UTC.",
    )


RUN_CAP = "the cap budget.per_run_usd of $15 does not allow another call"
WAIT = "raise budget.per_month_usd or wait for the next month, then "
MONTH_CAP = "the cap budget.per_month_usd of $60 does not allow another call"


@pytest.mark.parametrize(
    ("why", "per_run", "per_month", "advice"),
    [
        (RUN_CAP, "15", None, "`switchwise run --resume RUN --max-usd 26.77`"),
        (RUN_CAP, None, None, "`switchwise run --resume RUN --max-usd 25.97`"),
        (
            MONTH_CAP,
            None,
            "60",
            f"{WAIT}`switchwise run --resume RUN`",
        ),
        (
            MONTH_CAP,
            "20",
            "60",
            f"{WAIT}`switchwise run --resume RUN --max-usd 25.97`",
        ),
        (
            RUN_CAP,
            "15",
            "60",
            f"{WAIT}`switchwise run --resume RUN --max-usd 26.77`",
        ),
    ],
)
def test_what_finishing_takes_covers_what_was_spent_and_names_the_cap_in_the_way(
    why: str, per_run: str | None, per_month: str | None, advice: str
) -> None:
    budget = Budget(
        per_run_usd=Decimal(per_run) if per_run else None,
        per_month_usd=Decimal(per_month) if per_month else None,
    )
    told = replace(partial(why), finishing_usd=Decimal("9.804"))

    (alert,) = compose(replace(told, plan=replace(told.plan, budget=budget))).alerts

    assert alert.lines[1] == f"Finishing costs about $9.80: {advice.replace('RUN', RUN_ID)}"


def test_a_run_whose_calls_are_all_made_still_gets_room_to_be_judged() -> None:
    told = replace(partial(RUN_CAP), finishing_usd=Decimal(0))
    (alert,) = compose(told).alerts
    assert alert.lines[1].endswith("--max-usd 14.91`")


def test_a_run_whose_prompts_are_not_kept_is_not_offered_to_be_finished() -> None:
    told = partial()
    unkept = replace(told.plan, privacy=replace(told.plan.privacy, store_bodies="none"))

    (alert,) = compose(replace(told, plan=unkept)).alerts

    assert "--resume" not in " ".join(alert.lines)
    assert alert.lines[1] == (
        "It cannot be finished: the plan keeps no prompt (privacy.store_bodies)."
    )


def test_the_same_trouble_with_other_figures_is_told_once() -> None:
    first = compose(partial("swift did not answer 40 of 40 calls (overloaded 2, cut 38): outage."))
    known = {state.key: state for state in first.states}

    again = compose_alerts(
        partial("swift did not answer 39 of 41 calls (overloaded 39): outage."), known, now=NOW
    )
    other = compose_alerts(partial("no rows in the window"), known, now=NOW)

    assert again.alerts == ()
    assert kinds(other) == [(AlertKind.RUN, News.CHANGED)]


@pytest.mark.parametrize("ids", [("haiku-3-5", "haiku-4-5"), ("35haiku", "45haiku")])
def test_the_same_trouble_with_another_model_is_told_though_only_a_version_differs(
    ids: tuple[str, str],
) -> None:
    def silent(name: str, calls: int) -> Outcome:
        why = f"{name} did not answer {calls} of {calls} calls (overloaded {calls}): outage."
        return replace(partial(why), plan=plan(*ids))

    known = {state.key: state for state in compose(silent(ids[0], 40)).states}

    again = compose_alerts(silent(ids[0], 39), known, now=NOW)
    other = compose_alerts(silent(ids[1], 40), known, now=NOW)

    assert again.alerts == ()
    assert kinds(other) == [(AlertKind.RUN, News.CHANGED)]


def test_the_end_of_trouble_is_silent_unless_the_digest_is_asked_for() -> None:
    known = opened(RUN_KEY, kind=AlertKind.RUN, signature="outage")

    silent = compose(outcome(comparison(), of=plan(digest="on_change")), known)

    assert silent.alerts == ()
    assert [state.resolved_at for state in silent.states] == [NOW]


def test_a_candidate_in_trouble_is_told_although_the_run_is_complete() -> None:
    down = comparison(
        VerdictKind.UNMEASURED,
        reasons=("Not measured this week: the candidate did not answer 40 of 40 calls.",),
        tests={"trouble": True},
    )

    (alert,) = compose(outcome(down)).alerts

    assert alert.title == "Run incomplete: no verdict on some models this week (support-bot)"
    assert alert.lead.startswith("haiku: Not measured this week")


def test_too_few_pairs_are_no_trouble() -> None:
    young = comparison(VerdictKind.UNMEASURED, reasons=("Too few pairs.",))
    assert [a.kind for a in compose(outcome(young)).alerts] == [AlertKind.QUIET]


def test_a_judge_that_misgrades_canaries_is_told() -> None:
    judge = JudgeReport(models=("judge",), canaries=6, canaries_right=2, is_trusted=False)

    (alert,) = compose(replace(outcome(comparison()), judge=judge)).alerts

    assert alert.lead == "The judge misgraded 4 of 6 canaries; its scores decide nothing."


# --- 5: all quiet -------------------------------------------------------------------------------


def test_the_digest_has_a_line_per_candidate_and_what_was_spent() -> None:
    undecided = comparison(tests={"prompts_to_settle": 1200})

    (alert,) = compose(outcome(undecided)).alerts

    assert alert.title == "All quiet: keep prod-sonnet"
    assert alert.lead == (
        "No candidate is shown to be better value than prod-sonnet "
        "(quality 0.85 ±0.02 on 100 prompts)."
    )
    assert alert.lines == (
        (
            "haiku: undecided, quality −0.01 ±0.02, bill 31–44 % lower on 400 prompts of 4 weeks; "
            "about 1,200 prompts would settle it"
        ),
    )
    assert alert.context == (
        "run cost $14.20 (judge $2.30)",
        "this month $56.80",
        "next slot Sun 05 Apr 2026 06:00 UTC",
        "± and ranges are 95 % intervals",
    )


@pytest.mark.parametrize(("digest", "told"), [("always", 1), ("on_change", 0), ("never", 0)])
def test_the_digest_follows_the_plans_policy(digest: str, told: int) -> None:
    assert len(compose(outcome(comparison(), of=plan(digest=digest))).alerts) == told


def test_the_digest_is_left_out_where_something_else_was_said() -> None:
    assert kinds(compose(outcome(comparison(SWITCH)))) == [(AlertKind.SWITCH, News.NEW)]


@pytest.mark.parametrize(("digest", "told"), [("on_change", 1), ("never", 0)])
def test_only_changes_are_told_where_the_digest_is_never(digest: str, told: int) -> None:
    due = compose(outcome(comparison(SWITCH), of=plan(digest=digest)), opened(weeks_ago=5))
    assert len(due.alerts) == told


# --- runs by hand, slots ------------------------------------------------------------------------


@pytest.mark.parametrize("found", [comparison(SWITCH), comparison()])
def test_a_run_by_hand_says_its_result_once_and_opens_nothing(found: Comparison) -> None:
    messages = compose(outcome(found, trigger=Trigger.HAND))

    (alert,) = messages.alerts
    assert messages.states == ()
    assert alert.kind is AlertKind.HAND
    assert alert.title.endswith("(run by hand)")
    assert "run by hand: opens no alert, pools no evidence" in alert.context
    assert not any("switchwise ack" in part for part in alert.context)


def test_slots_that_passed_unseen_are_told_in_one_message() -> None:
    slots = [Slot(key=f"2026-03-{day:02d}T06:00", at=NOW) for day in range(1, 8)]

    alert = missed_alert(plan(), slots)

    assert alert.title == "Missed 7 slots of support-bot"
    assert alert.lead.endswith("2026-03-05 06:00 and 2 more: those weeks have no evidence.")


def test_a_slot_that_fell_into_a_run_is_told() -> None:
    alert = skipped_alert(plan(), Slot(key="2026-04-05T06:00", at=NOW), run())

    assert alert.lead == (
        "The Run of 2026-03-29 06:00 was still at work at 2026-04-05 06:00; the later slot is "
        "skipped."
    )


def test_a_slot_that_fell_into_an_interrupted_run_names_what_to_do() -> None:
    slot = Slot(key="2026-04-05T06:00", at=NOW)
    alert = skipped_alert(plan(), slot, run(), is_held=False)

    assert "was interrupted and not finished at 2026-04-05 06:00" in alert.lead
    assert alert.lines == (f"Finish it with: switchwise run --resume {run().run_id}",)


def test_eight_weeks_of_one_finding_are_one_message_one_reminder_and_one_recovery() -> None:
    known: dict[str, OpenAlert] = {}
    told: list[News] = []
    for week in range(9):
        kind = SWITCH if week < 8 else VerdictKind.WORSE
        messages = compose_alerts(
            outcome(comparison(kind), of=plan(digest="on_change")),
            known,
            now=NOW + timedelta(weeks=week),
        )
        told += [alert.news for alert in messages.alerts]
        known.update({state.key: state for state in messages.states})
        known = {key: state for key, state in known.items() if state.resolved_at is None}
    assert told == [News.NEW, News.REMINDER, News.RESOLVED]


def test_two_hundred_findings_at_once_are_one_message_each() -> None:
    names = [f"m{number}" for number in range(200)]
    found = [comparison(SWITCH, candidate=name) for name in names]

    first = compose_alerts(outcome(*found, of=plan(*names)), {}, now=NOW)
    known = {state.key: state for state in first.states}
    second = compose_alerts(outcome(*found, of=plan(*names, digest="never")), known, now=NOW)

    assert len(first.alerts) == 200
    assert second.alerts == ()
