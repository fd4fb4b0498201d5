"""Shares: how many calls of an endpoint this process may have in flight, beside other workers."""

from app.domain.models import Endpoint


def share_of(total: int, *, place: int, workers: int) -> int:
    """The slots of one of several workers; all shares together make the total.

    Args:
        total: The endpoint's concurrency.
        place: This worker's place among the live ones, from 0.
        workers: How many live workers there are.
    """
    if not 0 <= place < workers:
        return 0
    return total // workers + (1 if place < total % workers else 0)


class Shares:
    """The share of this process in every endpoint; nothing until its place is known.

    Args:
        most: Most calls in flight of this process per endpoint, None for no such limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._place = 0
        self._workers = 0

    def settle(self, *, place: int, workers: int) -> None:
        """Know our place among the live workers."""
        self._place, self._workers = place, workers

    def __call__(self, endpoint: Endpoint) -> int:
        """How many calls of the endpoint may be in flight here."""
        if self._workers == 0:
            return 0
        share = share_of(endpoint.concurrency, place=self._place, workers=self._workers)
        return share if self._most is None else min(share, self._most)
