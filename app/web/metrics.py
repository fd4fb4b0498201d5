"""/metrics: what Prometheus scrapes, read from Postgres at every scrape."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.domain.errors import StorageUnavailable
from app.storage.metrics_queries import Gauge

ReadGauges = Callable[[], Awaitable[Sequence[Gauge]]]


def metrics_routes(read: ReadGauges, *, own: Callable[[], Sequence[Gauge]] = tuple) -> list[Route]:
    """The route; it answers without the database too, and says that it is away.

    Args:
        read: Reads every metric that is stored.
        own: Tells what this process knows of itself.
    """

    async def metrics(_request: Request) -> Response:
        gauges: Sequence[Gauge] = ()
        is_up = True
        try:
            gauges = await read()
        except (StorageUnavailable, TimeoutError):
            is_up = False
        return Response(
            exposition([*gauges, *own(), _is_up(is_up)]),
            media_type=CONTENT_TYPE_LATEST,
            headers={"Cache-Control": "no-store"},
        )

    return [Route("/metrics", metrics)]


def exposition(gauges: Sequence[Gauge]) -> bytes:
    """The metrics in Prometheus's text format, with those of the process (memory, files, CPU)."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Collected(gauges))
    return generate_latest(registry)


def _is_up(is_up: bool) -> Gauge:
    return Gauge(
        name="switchwise_database_up",
        help="Whether the results database answered this scrape",
        labels=(),
        values=[((), float(is_up))],
    )


class _Collected:
    """Hands values that were read already to the client library."""

    def __init__(self, gauges: Sequence[Gauge]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """One family per metric."""
        for gauge in self._gauges:
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for labels, value in gauge.values:
                family.add_metric(labels, value)
            yield family
