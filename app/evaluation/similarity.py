"""Likeness to a reference without embeddings: similarity (ROUGE-L) and levenshtein."""

import re
from dataclasses import dataclass
from typing import ClassVar

from rapidfuzz.distance import LCSseq, Levenshtein

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.scores import Score, Unscored
from app.evaluation.evaluator import Versioned, passed
from app.evaluation.references import NO_REFERENCE, ReferenceSource, reference_of
from app.evaluation.text_checks import answer_of, normalise

_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity(Versioned):
    """ROUGE-L between reply and reference: how much of both their words stand in one order.

    The F-measure of the longest common subsequence of words, case and punctuation aside (Lin
    2004, https://aclanthology.org/W04-1013). Scripts without blanks are compared by character.

    Attributes:
        reference: Whence the reference comes: its own column, or the logged reply.
        at_least: Turns the measure into 1 or 0, as a gate needs it.
    """

    name: ClassVar[str] = "similarity"

    reference: ReferenceSource = "column"
    at_least: float | None = None

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Measure the likeness."""
        wanted = reference_of(case, self.reference)
        if wanted is None or not (words := _words(wanted)):
            return NO_REFERENCE
        return graded_likeness(_rouge_l(_words(completion.text), words), self.at_least, "ROUGE-L")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevenshteinLikeness(Versioned):
    """1 minus the edit distance to the reference over the longer length.

    Attributes:
        expected: A text every reply is compared with, instead of the Case's reference.
        reference: Whence the reference comes: its own column, or the logged reply.
        field: Compare this field of the JSON in the reply; a reply without it scores 0.
        at_least: Turns the measure into 1 or 0, as a gate needs it.
    """

    name: ClassVar[str] = "levenshtein"

    expected: str | None = None
    reference: ReferenceSource = "column"
    field: str | None = None
    at_least: float | None = None

    def score(self, case: Case, completion: Completion) -> Score | Unscored:
        """Measure the likeness, case and spacing aside."""
        wanted = self.expected if self.expected is not None else reference_of(case, self.reference)
        if wanted is None:
            return NO_REFERENCE
        given = answer_of(completion, self.field)
        if given is None:
            return passed(False, f"the reply has no JSON field `{self.field}`")
        likeness = Levenshtein.normalized_similarity(normalise(given), normalise(wanted))
        return graded_likeness(likeness, self.at_least, "likeness")


def graded_likeness(measure: float, at_least: float | None, what: str) -> Score:
    """The measure, held within 0..1, as a Score; 1 or 0 where a least likeness is wanted."""
    measure = min(max(measure, 0.0), 1.0)
    reason = f"{what} {measure:.3f}"
    if at_least is None:
        return Score(value=measure, reason=reason)
    return passed(measure >= at_least, f"{reason}, at least {at_least} wanted")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _rouge_l(reply: list[str], reference: list[str]) -> float:
    if not reply or not reference:
        return 0.0
    return 2.0 * LCSseq.similarity(reply, reference) / (len(reply) + len(reference))
