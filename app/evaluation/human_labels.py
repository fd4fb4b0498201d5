"""The judge against people: agreement on labelled replies, and what corrects its bias.

A judge's noise, and any lean it has towards all models alike, cancel in a difference. A lean
towards one of them does not, and more data only makes a wrong verdict surer. Pairs that people have
labelled measure it; with enough of them the judged qualities are corrected, once, after pooling
(prediction-powered inference, `app.stats.rectifier`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.domain.json_values import JsonObject
from app.domain.labels import LabelledReply, counts_as_judged
from app.domain.plans import Plan
from app.domain.results import HumanAgreement, JudgeReport
from app.domain.scores import Score, ScoreRecord, quality_of
from app.evaluation.catalogue import JUDGE
from app.stats.agreement import MIN_RATINGS, spearman, weighted_kappa
from app.stats.arrays import NotEnoughDataError
from app.stats.drift import clustered_mean
from app.stats.estimates import Estimate
from app.stats.rectifier import MIN_LABELLED_PAIRS, Rectifier, rectifier

POOR_KAPPA = 0.4
"""Agreement with people whose interval lies below this is called poor (Landis and Koch 1977)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanEvidence:
    """What the labels of a Plan say of its judge as it is today.

    Attributes:
        rectifiers: Correction of judged qualities, by candidate with enough labelled pairs.
        agreement: None while nobody has labelled anything.
        warnings: What a reader must know before believing the scores.
    """

    rectifiers: Mapping[str, Rectifier]
    agreement: HumanAgreement | None = None
    warnings: tuple[str, ...] = ()

    def told_in(self, report: JudgeReport) -> JudgeReport:
        """The judge's report with what people think of it."""
        return replace(report, human=self.agreement, warnings=(*report.warnings, *self.warnings))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A labelled pair: (candidate, primary) as judged and as people see it."""

    conversation: str
    judged: tuple[float, float]
    human: tuple[float, float]

    @property
    def lean(self) -> float:
        """How much more the judge gives the candidate over the primary than people do."""
        return (self.judged[0] - self.judged[1]) - (self.human[0] - self.human[1])


def human_evidence(
    plan: Plan, evaluation: JsonObject, labelled: Sequence[LabelledReply]
) -> HumanEvidence:
    """What people's labels say of the judge, and the correction they allow.

    Labels count only for replies that the judge scored in its present version and that today's
    models gave: a changed judge makes its old scores, and the labels beside them, stale.

    Args:
        plan: Names the models.
        evaluation: Today's Evaluators by label, the judge's versions among them.
        labelled: Every labelled reply of the Plan.
    """
    if not labelled:
        return HumanEvidence(rectifiers={})
    today = _judge_versions(evaluation)
    current = [one for one in labelled if set(one.judge_version.split("+")) <= today]
    pairs = {
        candidate.name: _pairs(plan.primary.name, candidate.name, _of_today(plan, current))
        for candidate in plan.candidates
    }
    rectifiers = {name: found for name, own in pairs.items() if (found := _rectifier(own))}
    agreement = replace(
        agreement_of(current),
        stale=len(labelled) - len(current),
        pairs={name: len(own) for name, own in pairs.items() if own},
        bias={name: lean for name, own in pairs.items() if (lean := _lean(own)) is not None},
        corrected=tuple(rectifiers),
    )
    return HumanEvidence(
        rectifiers=rectifiers,
        agreement=agreement,
        warnings=tuple(_warnings(plan.primary.name, agreement)),
    )


def agreement_of(replies: Sequence[LabelledReply]) -> HumanAgreement:
    """How well the judge's scores of these replies agree with people's."""
    rated = [
        (score, one.human) for one in replies if (score := judged_score(one.records)) is not None
    ]
    if len(rated) < MIN_RATINGS:
        return HumanAgreement(replies=len(replies))
    judged, human = [score for score, _ in rated], [score for _, score in rated]
    return HumanAgreement(
        replies=len(replies),
        kappa=weighted_kappa(judged, human),
        spearman=spearman(judged, human),
    )


def judged_score(records: Sequence[ScoreRecord]) -> float | None:
    """The judge's mean score of one reply on 0..1; None where it gave none."""
    quality, _ = quality_of([one for one in records if counts_as_judged(one)], None)
    return quality


def _judge_versions(evaluation: JsonObject) -> set[str]:
    return {
        str(one["version"])
        for one in evaluation.values()
        if isinstance(one, Mapping) and one.get("type") == JUDGE
    }


def _of_today(plan: Plan, replies: Sequence[LabelledReply]) -> list[LabelledReply]:
    """Replies of the models that the Plan compares today."""
    ids = {model.name: model.model for model in plan.contestants}
    return [one for one in replies if ids.get(one.model_name) == one.model]


def _pairs(primary: str, candidate: str, replies: Sequence[LabelledReply]) -> list[_Pair]:
    mine = {(one.run_id, one.case_id): one for one in replies if one.model_name == primary}
    found = (
        _pair(one, mine[one.run_id, one.case_id])
        for one in replies
        if one.model_name == candidate and (one.run_id, one.case_id) in mine
    )
    return [pair for pair in found if pair is not None]


def _pair(theirs: LabelledReply, mine: LabelledReply) -> _Pair | None:
    judged = [quality_of(one.records, None)[0] for one in (theirs, mine)]
    human = [quality_of(_as_people_see(one), None)[0] for one in (theirs, mine)]
    if judged[0] is None or judged[1] is None or human[0] is None or human[1] is None:
        return None
    return _Pair(
        conversation=theirs.conversation or f"case {theirs.case_id}",
        judged=(judged[0], judged[1]),
        human=(human[0], human[1]),
    )


def _as_people_see(reply: LabelledReply) -> list[ScoreRecord]:
    """The reply's records with the people's score in place of every judge's."""
    return [
        replace(record, result=Score(value=reply.human)) if counts_as_judged(record) else record
        for record in reply.records
    ]


def _rectifier(pairs: Sequence[_Pair]) -> Rectifier | None:
    """The correction, None with too few pairs.

    The judge keeps its full weight (power 1): a smaller one has less variance, but would mix the
    labelled weeks' mean into every later week and so hide what changes afterwards.
    """
    if len(pairs) < MIN_LABELLED_PAIRS:
        return None
    try:
        return rectifier(
            [pair.judged for pair in pairs],
            [pair.human for pair in pairs],
            clusters=[pair.conversation for pair in pairs],
        )
    except NotEnoughDataError:
        return None


def _lean(pairs: Sequence[_Pair]) -> Estimate | None:
    if len(pairs) < MIN_RATINGS:
        return None
    try:
        lean, _ = clustered_mean(
            [pair.lean for pair in pairs], [pair.conversation for pair in pairs]
        )
    except NotEnoughDataError:
        return None
    return lean


def _warnings(primary: str, agreement: HumanAgreement) -> list[str]:
    said = []
    if agreement.stale:
        said.append(
            f"{agreement.stale} labels are stale: another version of the judge scored those "
            "replies; `switchwise labels export` draws new pairs"
        )
    for name, pairs in agreement.pairs.items():
        if name not in agreement.corrected:
            said.append(
                f"{pairs} of the {MIN_LABELLED_PAIRS} labelled pairs that a correction of {name} "
                "needs: its verdict rests on the judge alone"
            )
    for name, lean in agreement.bias.items():
        if lean.low > 0 or lean.high < 0:
            favoured = name if lean.point > 0 else primary
            remedy = "is corrected for it" if name in agreement.corrected else "is NOT corrected"
            said.append(
                f"the judge favours {favoured}: beside people's labels it moves the difference "
                f"between {name} and {primary} by {_signed(lean.point)} ({_signed(lean.low)} to "
                f"{_signed(lean.high)}); the verdict {remedy}"
            )
    if agreement.kappa is not None and agreement.kappa.high < POOR_KAPPA:
        said.append(
            f"the judge agrees poorly with people: weighted kappa {agreement.kappa.point:.2f} on "
            f"{agreement.replies} replies"
        )
    return said


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212")
