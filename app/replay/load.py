"""Load: when calls arrive.

Closed load keeps a fixed number of calls in flight: a slow model is asked less often, which hides
how it behaves under pressure (coordinated omission). Open load lets calls arrive at random at a
given rate, whatever became of the earlier ones, and counts from the instant at which a call was
due.
"""

import random
from typing import Protocol

from app.ports import Clock


class Load(Protocol):
    """When calls may start."""

    async def arrival(self, model_name: str) -> float | None:
        """Return when the model's next call is due.

        Returns:
            The monotonic second at which it was due; None when calls start as slots are free.
        """


class ClosedLoad:
    """Calls start as soon as a slot is free."""

    async def arrival(self, model_name: str) -> float | None:
        """Return at once."""
        del model_name
        return None


class PoissonLoad:
    """Calls of each model arrive at random and independently of each other, at a mean rate.

    Args:
        rate_per_s: Mean arrivals per second, of each model.
        clock: The injected clock.
        rng: Draws the gaps between arrivals, which are exponential.
    """

    def __init__(self, rate_per_s: float, *, clock: Clock, rng: random.Random) -> None:
        if rate_per_s <= 0:
            raise ValueError("arrivals need a positive rate")
        self._rate_per_s = rate_per_s
        self._clock = clock
        self._rng = rng
        self._last: dict[str, float] = {}

    async def arrival(self, model_name: str) -> float | None:
        """Return when the model's next call is due, which may have passed already."""
        last = self._last.get(model_name)
        began = self._clock.monotonic() if last is None else last
        due = began + self._rng.expovariate(self._rate_per_s)
        self._last[model_name] = due
        wait_s = due - self._clock.monotonic()
        if wait_s > 0:
            await self._clock.sleep(wait_s)
        return due
