"""Shares: how many calls of an endpoint this process may have in flight, beside other workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.models import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker stands among the live ones of a queue or an endpoint.

    Attributes:
        place: From 0, in the order in which they joined.
        workers: How many they are.
    """

    place: int
    workers: int


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
    """The share of this process in every endpoint; nothing until its places are known.

    Where an endpoint has more workers than slots, the last of them have none. The first worker of
    a queue always has one slot: otherwise nobody might work it, where the slots belong to workers
    of other queues.

    Args:
        queues: Queue name -> the endpoints that its shards call.
        most: Most calls in flight of this process per endpoint, None for no such limit.
    """

    def __init__(
        self, queues: Mapping[str, Sequence[Endpoint]], *, most: int | None = None
    ) -> None:
        self._queues = {name: _narrowest(endpoints) for name, endpoints in queues.items()}
        self._most = most
        self._places: Mapping[str, Place] = {}
        self._led: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """What others may work beside us: queues, and keys of endpoints."""
        endpoints = {key for found in self._queues.values() for key in found}
        return frozenset(self._queues) | endpoints

    def settle(self, places: Mapping[str, Place]) -> None:
        """Know our place in each of `names`."""
        led = [name for name in self._queues if name in places and places[name].place == 0]
        self._places = places
        self._led = frozenset(key for name in led for key in self._queues[name])

    def may_work(self, queue: str) -> bool:
        """Whether every endpoint that shards of the queue call has a slot for us."""
        return all(self(endpoint) > 0 for endpoint in self._queues[queue].values())

    def __call__(self, endpoint: Endpoint) -> int:
        """How many calls of the endpoint may be in flight here."""
        key = endpoint.key
        if key not in self._places:
            return 0
        place = self._places[key]
        share = share_of(endpoint.concurrency, place=place.place, workers=place.workers)
        if key in self._led:
            share = max(1, share)
        return share if self._most is None else min(share, self._most)


def _narrowest(endpoints: Sequence[Endpoint]) -> Mapping[str, Endpoint]:
    """By key, the endpoint with the least concurrency: the one that its pool keeps to."""
    widest_first = sorted(endpoints, key=lambda one: one.concurrency, reverse=True)
    return {endpoint.key: endpoint for endpoint in widest_first}
