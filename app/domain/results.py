"""Results: a model's figures and a candidate's paired evidence in one Run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from app.domain.attempts import FailureClass
from app.domain.models import Role
from app.stats.estimates import Estimate
from app.stats.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What one model did on one Case: a row recomputed from `attempts` and `scores`.

    Attributes:
        failure_class: Why the response is unsuccessful (GATE when a gate failed), None if it is
            successful.
        quality: 0..1; 0 when unsuccessful; None when unscored.
        spend_usd: Money of all Attempts whose cost is known.
        is_cost_known: False when an Attempt's cost is unknown: the Case stays out of cost pairs.
        latency_s: Of the successful Attempt, from first byte sent; None when unsuccessful.
        felt_latency_s: What a caller would have felt, retries included.
    """

    case_id: str
    source_id: str
    model_name: str
    weight: float
    copies: int
    stratum: str
    conversation: str | None
    segments: Mapping[str, str]
    is_anchor: bool
    is_later_turn: bool
    failure_class: FailureClass | None
    quality: float | None
    spend_usd: Decimal
    is_cost_known: bool
    attempts: int
    retries: int
    input_tokens: int = 0
    output_tokens: int = 0
    ttft_s: float | None = None
    latency_s: float | None = None
    felt_latency_s: float | None = None
    anchor_of: str | None = None
    unscored_reason: str | None = None

    @property
    def is_success(self) -> bool:
        """Completed properly and passed every gate."""
        return self.failure_class is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Percentiles in seconds; None where the sample cannot support one."""

    p50: Estimate | None = None
    p95: Estimate | None = None
    p99: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the traffic; the whole is `all`."""

    name: str = "all"
    value: str = ""

    @property
    def key(self) -> str:
        """`name=value`, under which Evidence of the segment is kept; `all` for the whole."""
        return f"{self.name}={self.value}" if self.value or self.name != "all" else self.name

    @classmethod
    def from_key(cls, key: str) -> "Segment":
        """The Segment whose `key` this is."""
        name, _, value = key.partition("=")
        return cls(name=name, value=value)


ALL = Segment()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A model's figures in one Run, for one segment. Figures that cannot be had are None."""

    model_name: str
    model: str
    role: Role
    segment: Segment = ALL
    cases: int
    successes: int
    unscored: int
    quality: Estimate | None
    success_rate: Estimate | None
    cost_per_success_usd: Estimate | None
    cost_per_1k_usd: Estimate | None
    cost_per_quality_usd: Estimate | None
    ttft_s: Percentiles = field(default_factory=Percentiles)
    latency_s: Percentiles = field(default_factory=Percentiles)
    felt_latency_s: Percentiles = field(default_factory=Percentiles)
    attempts: int = 0
    retries: int = 0
    spend_usd: Decimal = Decimal(0)
    unknown_cost: int = 0
    failures: Mapping[FailureClass, int] = field(default_factory=dict)
    pattern: str | None = None
    largest_call_share: float | None = None


class VerdictKind(StrEnum):
    """What is said of a candidate."""

    SWITCH = "switch"
    WATCH = "watch"
    KEEP = "keep"
    WORSE = "worse"
    DEARER = "dearer"
    SLOWER = "slower"
    UNRELIABLE = "unreliable"
    UNDECIDED = "undecided"
    UNMEASURED = "unmeasured"


class CandidateState(StrEnum):
    """Where a candidate stands over weeks."""

    QUIET = "quiet"
    WATCH = "watch"
    ALERT = "alert"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of a candidate and why; each reason is a sentence with its numbers."""

    kind: VerdictKind
    reasons: tuple[str, ...]
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEvidence:
    """What the pairs of one Run (or of all Runs of one week) say about a candidate.

    Attributes:
        evidence: None when the pairs cannot carry any.
        reason: Why the week is unmeasured for this candidate, None when it is measured.
        needs_mending: Whether the reason is one that more Cases would not cure.
        segments: Evidence per `Segment.key`, where a segment carries any.
        dropped: Pairs left out, by reason.
    """

    candidate: str
    primary: str
    evidence: Evidence | None
    reason: str | None = None
    needs_mending: bool = False
    segments: Mapping[str, Evidence] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentComparison:
    """A candidate against the primary within one segment, on the verdict's window."""

    segment: Segment
    pairs: int
    quality_delta: Estimate | None
    saving: Estimate | None
    value_ratio: Estimate | None
    is_worse: bool = False
    wins: int = 0
    ties: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate against the primary on the verdict's window.

    Attributes:
        saving: 1 - ratio of mean costs (the bill); value_ratio: R, cost per quality point.
        monthly_saving_usd: At the window's logged volume scaled to 30 days.
        tests: Every test of the policy with its figures, as `explain` prints them.
        epoch: Digest of what must stay the same for evidence to be pooled.
        win_rate: Share of pairs won, ties counted half, by the scores as they are.
        latency_p50: `latency_p50_ratio` with its interval, None where nothing supports one.
        latency_p95: The same of the 95th percentile.
    """

    candidate: str
    primary: str
    pairs: int
    window_weeks: int
    wins: int
    ties: int
    losses: int
    quality_delta: Estimate | None
    saving: Estimate | None
    value_ratio: Estimate | None
    success_delta: Estimate | None
    latency_p50_ratio: float | None
    latency_p95_ratio: float | None
    monthly_saving_usd: Estimate | None
    verdict: Verdict
    state: CandidateState
    segments: tuple[SegmentComparison, ...] = ()
    tests: Mapping[str, object] = field(default_factory=dict)
    epoch: str = ""
    epoch_reason: str | None = None
    win_rate: Estimate | None = None
    latency_p50: Estimate | None = None
    latency_p95: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanAgreement:
    """How well the judge agrees with people, on replies that it scored in its present version.

    Attributes:
        replies: Labelled replies that count.
        stale: Labelled replies that another version of the judge scored; they do not count.
        kappa: Cohen's quadratically weighted kappa on the judge's five levels.
        spearman: Rank correlation of the judge's and the people's scores.
        pairs: Labelled pairs with the primary, by candidate.
        bias: By candidate, how much more the judge gives it over the primary than people do.
        corrected: Candidates whose quality is corrected by their pairs.
    """

    replies: int = 0
    stale: int = 0
    kappa: Estimate | None = None
    spearman: Estimate | None = None
    pairs: Mapping[str, int] = field(default_factory=dict)
    bias: Mapping[str, Estimate] = field(default_factory=dict)
    corrected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """How far the judge can be believed in one Run; absent figures are None.

    Attributes:
        agreement: Share of replies on which all judges of a panel gave the same level.
        spread: Mean standard deviation (0..1) between the judges of a panel on one reply.
        judge_agreement: Per judge of a panel, share of replies on which it is within half a level
            of the mean of the others.
        repeat_agreement: Share of repeated judgements that gave the same grade.
        order_consistency: Share of preferences that survived the swap of the two replies.
        length_correlation: Of score and length, effects of Case and model removed: verbosity bias.
        is_trusted: False makes the verdicts of the Run unmeasured.
        not_judged: Replies the judge was spared, by failure class.
        human: Agreement with people, None while nobody has labelled anything.
    """

    models: tuple[str, ...] = ()
    judged: int = 0
    unscored: int = 0
    unscored_rate: float | None = None
    agreement: Estimate | None = None
    spread: float | None = None
    judge_agreement: Mapping[str, float] = field(default_factory=dict)
    repeat_agreement: float | None = None
    order_consistency: float | None = None
    length_correlation: Estimate | None = None
    canaries: int = 0
    canaries_right: int = 0
    is_trusted: bool = True
    warnings: tuple[str, ...] = ()
    spend_usd: Decimal = Decimal(0)
    not_judged: Mapping[str, int] = field(default_factory=dict)
    human: HumanAgreement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What moved since earlier weeks: each an Estimate of the change in mean, or None.

    Attributes:
        since_week: First ISO week of the window in which a regression was shown.
        ill_weeks: ISO weeks of regressions that have healed: what candidates were compared with
            then is not what the primary is now.
    """

    traffic: Estimate | None = None
    primary: Estimate | None = None
    judge: Estimate | None = None
    price: Estimate | None = None
    causes: tuple[str, ...] = ()
    regressed: bool = False
    worst_segment: Segment | None = None
    sentences: tuple[str, ...] = ()
    since_week: str | None = None
    ill_weeks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveReport:
    """What adaptive spending left out and saved."""

    planned_calls: int = 0
    made_calls: int = 0
    dropped: Mapping[str, str] = field(default_factory=dict)
