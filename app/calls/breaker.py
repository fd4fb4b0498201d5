"""A circuit breaker per model: a dead model is not called hundreds of times."""

from dataclasses import dataclass

from app.domain.attempts import NEEDS_OPERATOR, TRANSIENT, FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens and how long its callers wait.

    Attributes:
        threshold: Transient failures in a row that open it.
        cooldown_s: First pause before one call probes the model; doubles up to `longest_s`.
        patience_s: Once open for this long, callers fail at once instead of waiting.
    """

    threshold: int = 10
    cooldown_s: float = 5.0
    longest_s: float = 60.0
    patience_s: float = 60.0


class Breaker:
    """Closed: calls go. Open: one probe per cool-down goes, others wait or give up."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_at = 0.0
        self._cooldown_s = policy.cooldown_s
        self.refused: FailureClass | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._opened_at is not None

    def wait_s(self, now: float) -> float | None:
        """Seconds a call must wait before it may go; 0 to go now, None to give up."""
        if self._opened_at is None:
            return 0.0
        if now >= self._probe_at:
            self._probe_at = now + self._cooldown_s
            self._cooldown_s = min(self._cooldown_s * 2, self._policy.longest_s)
            return 0.0
        if now - self._opened_at >= self._policy.patience_s:
            return None
        return self._probe_at - now

    def observe(self, failure: FailureClass | None, now: float) -> None:
        """Learn how one Attempt ended.

        A 429 is the endpoint's limit, not the model's health: it neither opens nor closes.
        """
        if failure is FailureClass.RATE_LIMITED:
            return
        if failure in NEEDS_OPERATOR:
            self.refused = failure
        if failure not in TRANSIENT:
            self._close()
            return
        self._failures += 1
        if self._opened_at is None and self._failures >= self._policy.threshold:
            self._opened_at = now
            self._probe_at = now + self._cooldown_s

    def _close(self) -> None:
        self._failures = 0
        self._opened_at = None
        self._cooldown_s = self._policy.cooldown_s
