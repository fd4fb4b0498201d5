"""Track record: what a plan's own Runs tell about the cost and the spread of its next one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from statistics import fmean

from app.domain.results import CaseResult
from app.stats.evidence import Evidence

MIN_REPLIES = 10
"""Replies from which a model's mean token counts are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What one model was asked and used in the last complete Run.

    Attributes:
        cases: Cases it was given, anchors apart.
        input_tokens: Mean per successful reply, whatever was cached.
        output_tokens: Mean per successful reply.
    """

    cases: int
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackRecord:
    """Stored evidence of a plan, and what its last complete Run used.

    Attributes:
        weeks: Evidence per candidate against the present primary, oldest first.
        uses: Measured use by model name; models with too few replies are left out.
        anchors: Anchor Cases that the last Run repeated.
        judged_usd: What one judged reply cost in it, None when nothing was judged.
        run_at: Slot of that Run, None when there is none.
        missing: Why there is no record, in words.
    """

    weeks: Mapping[str, Sequence[Evidence]] = field(default_factory=dict)
    uses: Mapping[str, ModelUse] = field(default_factory=dict)
    anchors: int = 0
    judged_usd: Decimal | None = None
    run_at: datetime | None = None
    missing: str = "no Run of this plan has ended yet"

    @property
    def best_measured(self) -> tuple[str, Sequence[Evidence]]:
        """The candidate with most independent pairs, and its weeks; nobody where none is held.

        Pairs of different candidates are not mixed: a hopeless one varies in its own way.
        """
        held = [
            (sum(week.independent_pairs for week in weeks), name)
            for name, weeks in self.weeks.items()
            if weeks
        ]
        if not held:
            return "", ()
        most = max(held, key=lambda one: one[0])[1]
        return most, self.weeks[most]


def uses_of(results: Iterable[CaseResult]) -> dict[str, ModelUse]:
    """Return what every model was asked and used, where enough replies tell."""
    rows = [row for row in results if not row.is_anchor]
    found = {}
    for name in {row.model_name for row in rows}:
        mine = [row for row in rows if row.model_name == name]
        told = [row for row in mine if row.is_success and row.output_tokens > 0]
        if len(told) >= MIN_REPLIES:
            found[name] = ModelUse(
                cases=len(mine),
                input_tokens=fmean(row.input_tokens for row in told),
                output_tokens=fmean(row.output_tokens for row in told),
            )
    return found
