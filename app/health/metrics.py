"""Measurements in Prometheus' format; one registry per application."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.jobs.tailer import Tailer
from core.store import datasets, jobs
from core.store.store import Store

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics:
    """What the API counts about itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "graft_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "graft_http_request_seconds",
            "Time until the reply was complete.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = method if method in ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)

    def watch(self, store: Store, tailer: Tailer) -> None:
        """Let each scrape look up how much work is waiting and how many streams are open."""
        self.registry.register(_Queues(store))
        Gauge("graft_event_streams", "Open event streams.", registry=self.registry).set_function(lambda: tailer.watched)

    def text(self) -> bytes:
        """Everything, for a scrape."""
        return generate_latest(self.registry)


class _Queues(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The family without values: registering must not ask the database."""
        yield _family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Depth of both queues; nothing while the database is away."""
        family = _family()
        try:
            with self._store.db.read() as tx:
                family.add_metric(["jobs"], jobs.queued(tx))
                family.add_metric(["ingest"], datasets.waiting(tx))
        except SQLAlchemyError:
            return
        yield family


def _family() -> GaugeMetricFamily:
    return GaugeMetricFamily("graft_queue_depth", "Work that waits for a worker.", labels=["queue"])
