"""Decide: this week's evidence, the weeks before and the policy become verdicts and states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.decision.comparisons import Setting, comparison_of
from app.decision.epochs import Epoch, Held, PricePair, epoch_of, held_history
from app.decision.looks import Look, Rules, look_at, rules_of
from app.decision.ranking import HeadToHead, Ranking, rank, with_rank
from app.domain.json_values import JsonObject
from app.domain.models import ModelSpec
from app.domain.plans import Plan
from app.domain.prices import Price
from app.domain.results import CandidateState, Comparison, JudgeReport, PairedEvidence
from app.ports import StoredEvidence, StoredState
from app.stats.evidence import Evidence, pool
from app.stats.rectifier import Rectifier


def _no_head_to_head(first: str, second: str) -> None:
    del first, second


def _no_results(run_ids: Sequence[str], candidate: str) -> None:
    del run_ids, candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekOfEvidence:
    """Everything a decision is made from.

    Attributes:
        plan: As frozen for the Run, all candidates included.
        week: ISO week of the Run's slot.
        run_ids: Runs whose results `pairs` covers.
        pairs: Per candidate that took part, its pairs with the primary.
        prices: Today's price of each contestant, None where unknown.
        evaluation: What must stay the same for qualities to be comparable, by label of Evaluator.
        history: Stored weeks of the plan.
        states: Latest stored states of the plan.
        judge: How far the judge can be believed.
        repriced: Stored weeks recomputed at today's prices; they replace those in `history`.
        requests_per_month: The logged volume scaled to 30 days.
        incomplete: Why the Run is not a complete one, None when it is.
        counts: Whether the Run is the Run of its slot; else it is shown, not pooled.
        closes_week: Whether this is the week's last slot, when evidence is looked at.
        rectifiers: Correction from human labels per candidate.
        head_to_head: Evidence of one candidate against another, to name a single best.
        with_earlier: Pairs of a candidate over these Runs and earlier ones of the same week, rows
            that several of them drew being one independent unit; None where the earlier results
            are gone: then what those Runs stored is pooled.
        ill_weeks: Earlier weeks in which the primary was worse than it is: they are not pooled, and
            what was recommended in one of them must be shown anew.
    """

    plan: Plan
    week: str
    run_ids: tuple[str, ...]
    now: datetime
    pairs: Mapping[str, PairedEvidence]
    prices: Mapping[str, Price | None]
    evaluation: JsonObject = field(default_factory=dict)
    history: Sequence[StoredEvidence] = ()
    states: Sequence[StoredState] = ()
    judge: JudgeReport = field(default_factory=JudgeReport)
    repriced: Sequence[StoredEvidence] = ()
    requests_per_month: float | None = None
    incomplete: str | None = None
    counts: bool = True
    closes_week: bool = True
    rectifiers: Mapping[str, Rectifier] = field(default_factory=dict)
    head_to_head: HeadToHead = _no_head_to_head
    ill_weeks: frozenset[str] = frozenset()
    with_earlier: Callable[[Sequence[str], str], PairedEvidence | None] = _no_results


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided, ready to be stored and told.

    Attributes:
        comparisons: One per candidate that took part, in the plan's order.
        states: New states; none for Runs that do not count or do not close their week.
        evidence: Candidate-weeks to store: this week's and the re-priced ones.
        ranking: Candidates that qualify, and the single best.
    """

    comparisons: tuple[Comparison, ...] = ()
    states: tuple[StoredState, ...] = ()
    evidence: tuple[StoredEvidence, ...] = ()
    ranking: Ranking = field(default_factory=Ranking)


def decide(week: WeekOfEvidence) -> Decision:
    """Look at every candidate once and say what is to be said.

    1. Take this week's pairs, unless the Run is incomplete, the judge is not to be believed or a
       price is unknown: then the week is unmeasured.
    2. Join them with those of earlier Runs of the same ISO week.
    3. Pool the weeks of the epoch and test every window.
    4. Move the state, once a week, at the week's last slot.
    5. Name the verdict by the first rule that matches; rank those that qualify.
    """
    rules = rules_of(
        week.plan.policy,
        candidates=len(week.plan.candidates),
        bias_allowance=week.plan.judge.bias_allowance if week.plan.judge else 0.0,
        counts=week.counts,
    )
    found = [
        _candidate(candidate, week, rules)
        for candidate in week.plan.candidates
        if candidate.name in week.pairs
    ]
    comparisons = [one.comparison for one in found]
    ranking = rank(comparisons, rules.policy, week.head_to_head)
    return Decision(
        comparisons=tuple(with_rank(comparison, ranking) for comparison in comparisons),
        states=tuple(one.state for one in found if one.state is not None),
        evidence=(
            *(week.repriced if week.counts else ()),
            *(one.evidence for one in found if one.evidence is not None),
        ),
        ranking=ranking,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was found about one candidate, and what of it is stored."""

    comparison: Comparison
    state: StoredState | None
    evidence: StoredEvidence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A candidate's epoch, held history and latest state before this look."""

    epoch: Epoch
    held: Held
    latest: StoredState | None
    ill_weeks: frozenset[str] = frozenset()

    @property
    def before(self) -> CandidateState:
        """The state the candidate is in: quiet in a new epoch, or when illness alone led to it."""
        if self.latest is None or self.latest.epoch != self.epoch.digest:
            return CandidateState.QUIET
        if _entered(self.latest) in self.ill_weeks:
            return CandidateState.QUIET
        return self.latest.state


def _candidate(candidate: ModelSpec, week: WeekOfEvidence, rules: Rules) -> _Found:
    pairs = week.pairs[candidate.name]
    prices = _prices(candidate, week)
    standing = standing_of(candidate, week)
    outside = _unmeasured(candidate, week)
    this_week = None
    if outside is None and pairs.reason is None and prices is not None:
        this_week = _this_week(candidate, week, standing, prices)
    look = look_at(
        [row.evidence for row in standing.held.weeks],
        this_week.evidence if this_week else None,
        standing.before,
        rules,
        rectifier=week.rectifiers.get(candidate.name),
        unmeasured=outside or pairs.reason,
    )
    is_look = _takes_look(week, standing.latest)
    moves = is_look and week.incomplete is None  # finished later, the Run has its look then
    if week.counts and not is_look:
        look = replace(look, state=look.before, drops_history=False, reason=_NO_LOOK)
    return _Found(
        comparison=comparison_of(
            candidate.name,
            week.plan.primary.name,
            look,
            rules,
            _setting(candidate, week, standing, look, this_week),
        ),
        state=_state(candidate, week, standing, look) if moves else None,
        evidence=this_week if week.counts else None,
    )


_NO_LOOK = "evidence is looked at once a week, at its last slot"


def _prices(candidate: ModelSpec, week: WeekOfEvidence) -> PricePair | None:
    primary = week.prices.get(week.plan.primary.name)
    own = week.prices.get(candidate.name)
    return None if primary is None or own is None else PricePair(primary=primary, candidate=own)


def standing_of(candidate: ModelSpec, week: WeekOfEvidence) -> Standing:
    """Return a candidate's epoch, the history that may be pooled and its latest state."""
    epoch = epoch_of(week.plan, candidate, week.evaluation)
    rows = {
        (row.week, row.epoch): row
        for row in (*week.history, *week.repriced)
        if row.candidate == candidate.name
    }
    states = [state for state in week.states if state.candidate == candidate.name]
    latest = max(states, key=lambda state: (state.week, state.changed_at), default=None)
    return Standing(
        epoch=epoch,
        held=held_history(
            epoch,
            week.week,
            rows.values(),
            latest,
            _prices(candidate, week),
            ill_weeks=week.ill_weeks,
        ),
        latest=latest,
        ill_weeks=week.ill_weeks,
    )


def _unmeasured(candidate: ModelSpec, week: WeekOfEvidence) -> str | None:
    """Say what, apart from the pairs, keeps this week from being measured."""
    if week.incomplete is not None:
        return f"the Run is incomplete: {week.incomplete}"
    if not week.judge.is_trusted:
        right, asked = week.judge.canaries_right, week.judge.canaries
        return f"the judge cannot be believed: it graded {right} of {asked} known replies right"
    for name in (week.plan.primary.name, candidate.name):
        if week.prices.get(name) is None:
            return f"the price of {name} is unknown"
    return None


def _this_week(
    candidate: ModelSpec, week: WeekOfEvidence, standing: Standing, prices: PricePair
) -> StoredEvidence | None:
    """Return the week's one row: this Run's pairs with what the week's earlier Runs stored."""
    pairs = week.pairs[candidate.name]
    if pairs.evidence is None:
        return None
    row = StoredEvidence(
        plan_name=week.plan.name,
        primary=week.plan.primary.name,
        candidate=candidate.name,
        week=week.week,
        epoch=standing.epoch.digest,
        identity=standing.epoch.identity,
        run_ids=week.run_ids,
        evidence=pairs.evidence,
        primary_price=prices.primary.to_json(),
        candidate_price=prices.candidate.to_json(),
        segments=dict(pairs.segments),
    )
    earlier = standing.held.same_week
    if earlier is None or not week.counts or set(earlier.run_ids) <= set(week.run_ids):
        return row
    before = tuple(run for run in earlier.run_ids if run not in week.run_ids)
    joined = week.with_earlier(before, candidate.name)
    row = replace(row, run_ids=(*before, *week.run_ids))
    if joined is not None and joined.evidence is not None:
        return replace(row, evidence=joined.evidence, segments=dict(joined.segments))
    return replace(
        row,
        evidence=pool([earlier.evidence, row.evidence]),
        segments=_pooled_segments(earlier.segments, row.segments),
    )


def _pooled_segments(
    first: Mapping[str, Evidence], second: Mapping[str, Evidence]
) -> dict[str, Evidence]:
    return {
        key: pool([part[key] for part in (first, second) if key in part])
        for key in sorted({*first, *second})
    }


def _takes_look(week: WeekOfEvidence, latest: StoredState | None) -> bool:
    """Whether the state may move: once a week, at the last slot of a Run that counts."""
    is_first = latest is None or latest.week < week.week
    return week.counts and week.closes_week and is_first


def _setting(
    candidate: ModelSpec,
    week: WeekOfEvidence,
    standing: Standing,
    look: Look,
    this_week: StoredEvidence | None,
) -> Setting:
    pairs = week.pairs[candidate.name]
    rows = [*standing.held.weeks]
    if look.unmeasured is None and this_week is not None:
        rows.append(this_week)
    return Setting(
        segments=[row.segments for row in rows],
        requests_per_month=week.requests_per_month,
        judging_usd_per_pair=_judging_usd_per_pair(week.judge),
        epoch=standing.epoch.digest,
        epoch_reason=standing.held.break_reason,
        dropped_pairs=pairs.dropped,
        left_out_weeks=standing.held.left_out,
        is_trouble=_unmeasured(candidate, week) is not None or pairs.needs_mending,
        rectifier=week.rectifiers.get(candidate.name),
        caveats=_caveats(candidate, week, pairs, standing.held),
    )


def _judging_usd_per_pair(judge: JudgeReport) -> float:
    return 2 * float(judge.spend_usd) / judge.judged if judge.judged else 0.0


_AS_JUDGED = "wins, losses and single segments are shown as judged, without it."


def _caveats(
    candidate: ModelSpec, week: WeekOfEvidence, pairs: PairedEvidence, held: Held
) -> tuple[str, ...]:
    rectifier = week.rectifiers.get(candidate.name)
    allowance = week.plan.judge.bias_allowance if week.plan.judge else 0.0
    said = [*week.judge.warnings]
    if held.break_reason is not None and not held.weeks:
        said.insert(0, f"Earlier weeks are not pooled with this one: {held.break_reason}.")
    if rectifier is not None:
        said.append(
            f"Quality is corrected by {rectifier.n} pairs that people have labelled; {_AS_JUDGED}"
        )
    elif allowance > 0:
        said.append(
            f"{allowance:g} is subtracted from the candidate's quality as an allowance for a "
            f"judge that favours it; {_AS_JUDGED}"
        )
    if any(key.startswith("turn=later") for key in pairs.segments):
        said.append(
            "Later turns favour the primary: their logged context holds its own words. First and "
            "later turns are shown apart."
        )
    if pairs.dropped:
        causes = ", ".join(f"{reason} {n}" for reason, n in sorted(pairs.dropped.items()))
        said.append(f"{sum(pairs.dropped.values())} pairs are left out this week: {causes}.")
    return tuple(said)


def _entered(state: StoredState) -> str:
    """The ISO week whose look led to the state; earlier releases kept the moment alone."""
    year, week, _ = state.changed_at.isocalendar()
    return str(state.detail.get("entered") or f"{year}-W{week:02d}")


def _state(
    candidate: ModelSpec, week: WeekOfEvidence, standing: Standing, look: Look
) -> StoredState:
    latest = standing.latest
    is_same = latest is not None and latest.epoch == standing.epoch.digest
    is_unchanged = is_same and latest is not None and look.before is latest.state is look.state
    return StoredState(
        plan_name=week.plan.name,
        primary=week.plan.primary.name,
        candidate=candidate.name,
        epoch=standing.epoch.digest,
        state=look.state,
        week=week.week,
        since_week=week.week if look.drops_history else standing.held.since_week,
        changed_at=latest.changed_at if latest is not None and is_unchanged else week.now,
        detail={
            "entered": _entered(latest) if latest is not None and is_unchanged else week.week,
            "from": look.before.value,
            "reason": look.reason,
            "epoch_reason": standing.held.break_reason,
        },
    )
