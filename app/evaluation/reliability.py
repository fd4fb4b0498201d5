"""How far the judge can be believed in one Run: the figures beside every verdict."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from app.domain.attempts import Purpose
from app.domain.plans import Plan
from app.domain.results import CaseResult, JudgeReport
from app.domain.runs import SpendLine
from app.domain.scores import Score, ScoreRecord
from app.evaluation.canaries import CanaryReport, canary_report, is_canary
from app.evaluation.catalogue import JUDGE
from app.evaluation.families import family_warnings
from app.evaluation.judge_scores import is_consistent
from app.evaluation.panel import PAIRWISE_SUFFIX
from app.stats.arrays import average_ranks
from app.stats.estimates import Estimate
from app.stats.intervals import wilson

CONFIDENCE = 0.95
MOST_UNSCORED = 0.05
"""Share of judged replies without a score above which a Run's verdicts are unmeasured."""

_HALF_A_LEVEL = 0.125
_SAME = 1e-9
_FEWEST_FOR_CORRELATION = 10
_STRONG_CORRELATION = 0.1
_UNSTABLE = 0.7
_ALMOST_ONE = 0.999999
_SWEEPS = 50

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What all judges said of one reply by one use of the judge."""

    case_id: str
    model_name: str
    records: tuple[ScoreRecord, ...]

    @property
    def scores(self) -> list[float]:
        """The scores of the judges that gave one."""
        return [record.score for record in self.records if record.score is not None]

    @property
    def score(self) -> float | None:
        """Their mean."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def words(self) -> int | None:
        """The reply's length, as some judge's record notes it."""
        noted = [
            record.result.detail.get("words")
            for record in self.records
            if isinstance(record.result, Score)
        ]
        return next((words for words in noted if isinstance(words, int)), None)


def judge_report(
    plan: Plan,
    *,
    records: Sequence[ScoreRecord],
    results: Sequence[CaseResult] = (),
    spend: Sequence[SpendLine] = (),
) -> JudgeReport:
    """The judge's reliability, from everything that is stored of the Run.

    Args:
        plan: Names the judges and what they cost the verdict in trust.
        records: All score records of the Run, canaries' included.
        results: What every model did on every Case, to count what was not judged.
        spend: The Run's spend lines.
    """
    if plan.judge is None or not any(one.type == JUDGE for one in plan.evaluators):
        return JudgeReport()
    judged = _judged(record for record in records if _is_grade(record))
    pairs = [record for record in records if _is_preference(record)]
    canaries = canary_report(records)
    names = tuple(model.name for model in plan.judge.models)
    unscored = sum(one.score is None for one in judged)
    report = JudgeReport(
        models=names,
        judged=len(judged),
        unscored=unscored,
        unscored_rate=unscored / len(judged) if judged else None,
        agreement=panel_agreement(judged),
        spread=panel_spread(judged),
        judge_agreement=judge_agreement(judged),
        repeat_agreement=repeat_agreement(judged),
        order_consistency=order_consistency(pairs),
        length_correlation=length_correlation(judged),
        canaries=canaries.total,
        canaries_right=canaries.right,
        is_trusted=plan.judge.canaries == 0 or canaries.is_trusted,
        spend_usd=sum(
            (
                line.spend_usd
                for line in spend
                if line.purpose is Purpose.JUDGE and line.model_name in names
            ),
            Decimal(0),
        ),
        not_judged=_not_judged(results),
    )
    return replace(report, warnings=tuple(_warnings(plan, report, canaries)))


def panel_agreement(judged: Sequence["_Judged"]) -> Estimate | None:
    """Share of replies on which all judges gave the same level; None without a panel."""
    spans = [max(scores) - min(scores) for one in judged if len(scores := one.scores) > 1]
    return _share(sum(span <= _HALF_A_LEVEL + _SAME for span in spans), len(spans))


def panel_spread(judged: Sequence["_Judged"]) -> float | None:
    """Mean standard deviation between the judges on one reply; None without a panel."""
    spreads = [statistics.stdev(scores) for one in judged if len(scores := one.scores) > 1]
    return statistics.fmean(spreads) if spreads else None


def judge_agreement(judged: Sequence["_Judged"]) -> Mapping[str, float]:
    """Per judge, how often it is within half a level of the mean of the others."""
    agreed: dict[str, list[bool]] = {}
    for one in judged:
        for record in one.records:
            others = [
                other.score
                for other in one.records
                if other is not record and other.score is not None
            ]
            if record.score is None or not others or record.judge_model is None:
                continue
            gap = abs(record.score - statistics.fmean(others))
            agreed.setdefault(record.judge_model, []).append(gap <= _HALF_A_LEVEL + _SAME)
    return {judge: statistics.fmean(said) for judge, said in sorted(agreed.items())}


def repeat_agreement(judged: Sequence["_Judged"]) -> float | None:
    """Share of pairs of repeated judgements with the same grade; None without repeats."""
    same: list[bool] = []
    for one in judged:
        for record in one.records:
            grades = [grade for grade in _detail(record, "grades") if grade is not None]
            same += [a == b for a, b in combinations(grades, 2)]
    return statistics.fmean(same) if same else None


def order_consistency(preferences: Sequence[ScoreRecord]) -> float | None:
    """Share of preferences that survived the swap of the two replies; None without any."""
    orders = [order for record in preferences for order in _detail(record, "orders")]
    said = [is_consistent(order) for order in orders if isinstance(order, Sequence)]
    return statistics.fmean(said) if said else None


def length_correlation(judged: Sequence["_Judged"]) -> Estimate | None:
    """Rank correlation of score and length in words, effects of Case and model removed.

    What remains is how a reply's score moves when it is longer than this model's replies to such
    prompts usually are: quality that belongs to the model or to the prompt does not enter.
    Interval by Fisher's z with the variance of Spearman's rho (Bonett and Wright 2000).

    Returns:
        None with fewer than 10 degrees of freedom, or when scores or lengths do not vary.
    """
    rows = [
        (one.case_id, one.model_name, score, words)
        for one in judged
        if (score := one.score) is not None and (words := one.words) is not None
    ]
    cases = _codes([row[0] for row in rows])
    models = _codes([row[1] for row in rows])
    df = len(rows) - len(set(cases)) - len(set(models)) + 1
    if df < _FEWEST_FOR_CORRELATION:
        return None
    scores = _without_effects(np.array([row[2] for row in rows], dtype=float), cases, models)
    lengths = _without_effects(np.array([row[3] for row in rows], dtype=float), cases, models)
    if np.ptp(scores) < _SAME or np.ptp(lengths) < _SAME:
        return None
    rho = float(np.corrcoef(average_ranks(scores), average_ranks(lengths))[0, 1])
    rho = min(max(rho, -_ALMOST_ONE), _ALMOST_ONE)
    half = _z() * math.sqrt((1 + rho**2 / 2) / (df - 2))
    low, high = math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
    return Estimate(point=rho, low=low, high=high, confidence=CONFIDENCE, n=len(rows))


def _warnings(plan: Plan, report: JudgeReport, canaries: CanaryReport) -> Iterator[str]:
    """What a reader must know before believing the scores, one sentence each."""
    judge = plan.judge
    if judge is None:
        return
    yield from _canary_warnings(judge.canaries, canaries)
    if report.unscored_rate is not None and report.unscored_rate > MOST_UNSCORED:
        yield f"{report.unscored} of {report.judged} judged replies have no score"
    if (length := report.length_correlation) is not None and length.low > _STRONG_CORRELATION:
        yield (
            f"the judge favours long replies: scores rise with length, correlation "
            f"{length.point:.2f} ({length.low:.2f} to {length.high:.2f})"
        )
    if report.order_consistency is not None and report.order_consistency < _UNSTABLE:
        yield (
            f"the judge prefers a position: only {report.order_consistency:.0%} of its preferences "
            "survive a swap of the replies; the others count as ties"
        )
    if report.repeat_agreement is not None and report.repeat_agreement < _UNSTABLE:
        yield f"only {report.repeat_agreement:.0%} of repeated judgements gave the same grade"
    yield from family_warnings(judge.models, plan.contestants)


def _canary_warnings(wanted: int, canaries: CanaryReport) -> Iterator[str]:
    if wanted == 0:
        yield "canaries are turned off: nothing checks the judge in this run"
    elif canaries.total == 0:
        yield "no canary was graded: nothing shows that the judge can be believed"
    elif canaries.misgraded:
        yield f"the judge graded canaries wrongly: {', '.join(canaries.misgraded)}"
    if wanted and canaries.ungraded:
        yield f"{canaries.ungraded} gradings of canaries brought no grade"


def _judged(records: Iterable[ScoreRecord]) -> list["_Judged"]:
    groups: dict[_Key, list[ScoreRecord]] = {}
    for record in records:
        label = record.evaluator.removesuffix(f":{record.judge_model}")
        groups.setdefault((record.case_id, record.model_name, label), []).append(record)
    return [
        _Judged(case_id=case_id, model_name=model_name, records=tuple(group))
        for (case_id, model_name, _), group in groups.items()
    ]


def _is_grade(record: ScoreRecord) -> bool:
    return record.judge_model is not None and not is_canary(record) and not _is_preference(record)


def _is_preference(record: ScoreRecord) -> bool:
    label = record.evaluator.removesuffix(f":{record.judge_model}")
    return record.judge_model is not None and label.endswith(PAIRWISE_SUFFIX)


def _not_judged(results: Sequence[CaseResult]) -> Mapping[str, int]:
    return dict(Counter(str(one.failure_class) for one in results if one.failure_class))


def _detail(record: ScoreRecord, name: str) -> Sequence[object]:
    if not isinstance(record.result, Score):
        return ()
    value = record.result.detail.get(name)
    return value if isinstance(value, list | tuple) else ()


def _share(successes: int, n: int) -> Estimate | None:
    """A share with its Wilson interval, None of nothing."""
    return wilson(successes, n, confidence=CONFIDENCE) if n else None


def _codes(names: Sequence[str]) -> NDArray[np.intp]:
    """Each name as the number of its first appearance order, for array arithmetic."""
    return np.unique(np.array(names, dtype=object), return_inverse=True)[1]


def _without_effects(
    values: NDArray[np.float64], cases: NDArray[np.intp], models: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The residuals of an additive model of Case and model, by alternating projections."""
    for _ in range(_SWEEPS):
        for groups in (cases, models):
            sums = np.bincount(groups, weights=values)
            values = values - (sums / np.bincount(groups))[groups]
    return np.round(values, 9)


def _z() -> float:
    return NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
