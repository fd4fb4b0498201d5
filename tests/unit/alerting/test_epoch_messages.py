"""A changed judge, rubric or policy is named in the message of the week it begins to count."""

from dataclasses import replace

import numpy as np

from app.alerting.compose import Outcome, compose_alerts
from app.decision.decide import Decision, WeekOfEvidence, decide
from app.domain.alerts import AlertKind, OpenAlert
from app.domain.plans import Plan
from app.domain.results import PairedEvidence
from app.domain.runs import RunStatus
from app.stats.evidence import pair_evidence
from tests.fakes.small_plans import NOW, plan, price, run

PLAN = plan("c")
OTHER_RUBRIC = plan("c", rubric="Grade it by politeness alone.")


def pairs(cost: float, seed: int) -> PairedEvidence:
    rng = np.random.default_rng(seed)
    ours = rng.gamma(4.0, 0.25, 400)
    ease = rng.uniform(0.5, 1.0, 400)
    seconds = rng.gamma(16.0, 0.1, 400)
    return PairedEvidence(
        candidate="c",
        primary="p",
        evidence=pair_evidence(cost * ours, ours, ease, ease, latency_c=seconds, latency_p=seconds),
    )


def week(number: int, of: Plan, cost: float, before: Decision | None = None) -> Decision:
    return decide(
        WeekOfEvidence(
            plan=of,
            week=f"2026-W{number}",
            run_ids=(f"run-{number}",),
            now=NOW,
            pairs={"c": pairs(cost, number)},
            prices={"p": price(), "c": price()},
            evaluation={"judge": {"version": of.judge.rubric if of.judge else ""}},
            history=before.evidence if before else (),
            states=before.states if before else (),
        )
    )


def outcome(of: Plan, decision: Decision) -> Outcome:
    return Outcome(plan=of, run=run(), status=RunStatus.DONE, comparisons=decision.comparisons)


def test_the_digest_names_what_broke_the_epoch() -> None:
    after = week(13, OTHER_RUBRIC, 1.0, week(12, PLAN, 1.0))

    told = compose_alerts(outcome(OTHER_RUBRIC, after), {}, now=NOW)

    assert any("the rubric changed" in line for line in told.alerts[0].lines)
    assert any("the rubric changed" in caveat for caveat in after.comparisons[0].verdict.caveats)


def test_the_digest_of_an_unbroken_epoch_names_no_change() -> None:
    after = week(13, PLAN, 1.0, week(12, PLAN, 1.0))

    told = compose_alerts(outcome(PLAN, after), {}, now=NOW)

    assert not any("changed" in line for line in told.alerts[0].lines)


def test_a_recommendation_withdrawn_by_a_new_epoch_says_so() -> None:
    before = week(12, PLAN, 0.4)
    after = week(13, OTHER_RUBRIC, 1.0, before)
    key = "support-bot/switch:c"
    known = OpenAlert(
        key=key, kind=AlertKind.SWITCH, opened_at=NOW, last_sent_at=NOW, title="Switch: p → c"
    )

    told = compose_alerts(outcome(OTHER_RUBRIC, after), {key: known}, now=NOW)

    assert before.comparisons[0].state.value == "alert"
    assert "the rubric changed" in told.alerts[0].lead
    assert told.states[0] == replace(known, resolved_at=NOW)
