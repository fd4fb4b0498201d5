"""The max_latency check: is the reply fast enough?"""

from dataclasses import dataclass
from typing import ClassVar

from app.domain.attempts import Completion
from app.domain.cases import Case
from app.domain.scores import Score, Unscored
from app.evaluation.evaluator import Versioned, passed


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxLatency(Versioned):
    """1 when the reply came within the limits, else 0; our own queueing and retries left out.

    Attributes:
        seconds: Limit from the first byte sent to the last byte received.
        ttft_seconds: Limit to the first content; replies that were not streamed are Unscored.
    """

    name: ClassVar[str] = "max_latency"

    seconds: float | None = None
    ttft_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is None and self.ttft_seconds is None:
            raise ValueError("give seconds, ttft_seconds or both")

    def score(self, case: Case, completion: Completion) -> Score | Unscored:  # noqa: ARG002
        """Compare the measured times with the limits."""
        if self.seconds is not None and completion.latency_s > self.seconds:
            return passed(False, f"took {completion.latency_s:.2f} s")
        if self.ttft_seconds is not None:
            if completion.ttft_s is None:
                return Unscored(reason="the time to the first token was not measured")
            if completion.ttft_s > self.ttft_seconds:
                return passed(False, f"first content after {completion.ttft_s:.2f} s")
        return passed(True, f"took {completion.latency_s:.2f} s")
