"""What a reply is compared with."""

from typing import Literal

from app.domain.cases import Case
from app.domain.scores import Unscored

ReferenceSource = Literal["column", "logged"]

NO_REFERENCE = Unscored(reason="the Case has no reference to compare with")


def reference_of(case: Case, source: ReferenceSource) -> str | None:
    """The Case's reference answer: its own column, or the logged reply of the primary."""
    return case.reference if source == "column" else case.logged_response
