"""The numeric check: is the number right?"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Literal

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.scores import Score, Unscored
from app.evaluation.evaluator import Versioned, passed
from app.evaluation.references import NO_REFERENCE, ReferenceSource, reference_of
from app.evaluation.text_checks import answer_of

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?(?:[eE][-+]?\d{1,3})?(?![\d.]*\d)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numeric(Versioned):
    """1 when the number in the reply equals the reference within the tolerance, else 0.

    Attributes:
        expected: A number every reply must give, instead of the Case's reference.
        reference: Whence the reference comes: its own column, or the logged reply.
        field: Look in this field of the JSON in the reply; a reply without it scores 0.
        pick: Which number of a text counts; thousands commas and currency signs are ignored.
        tolerance: Largest absolute difference.
        relative_tolerance: Largest difference as a share of the reference.
    """

    name: ClassVar[str] = "numeric"

    expected: float | None = None
    reference: ReferenceSource = "column"
    field: str | None = None
    pick: Literal["first", "last"] = "last"
    tolerance: float = 0.0
    relative_tolerance: float = 0.0

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Find both numbers and compare them."""
        source = reference_of(case, self.reference)
        wanted = str(self.expected) if self.expected is not None else source
        if wanted is None:
            return NO_REFERENCE
        target = _number(wanted, self.pick)
        if target is None:
            return Unscored(reason="the reference holds no number")
        given = answer_of(completion, self.field)
        if given is None:
            return passed(False, f"the reply has no JSON field `{self.field}`")
        found = _number(given, self.pick)
        if found is None:
            return passed(False, "the reply holds no number")
        allowed = max(
            Decimal(str(self.tolerance)), Decimal(str(self.relative_tolerance)) * abs(target)
        )
        is_right = abs(found - target) <= allowed
        return passed(is_right, f"{found} where {target} is right")


def _number(text: str, pick: Literal["first", "last"]) -> Decimal | None:
    found = _NUMBER.findall(text.replace("−", "-").replace("$", " "))
    if not found:
        return None
    return Decimal(found[0 if pick == "first" else -1].replace(",", ""))
