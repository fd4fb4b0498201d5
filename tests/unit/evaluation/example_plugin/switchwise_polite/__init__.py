"""An example of a package that brings an evaluator of its own."""

from dataclasses import dataclass

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.scores import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Polite:
    """1 when the reply holds one of the polite words, else 0."""

    words: tuple[str, ...] = ("please", "thank you")

    name = "polite"
    version = "polite-1"

    def score(self, case: Case, completion: Completion) -> Score:
        """Look for the words."""
        found = any(word in completion.text.lower() for word in self.words)
        return Score(value=float(found), reason="polite" if found else "curt")
