"""Measurements in Prometheus' format; one registry per application."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from app.health.books import Books
from app.health.disk import Disk
from app.jobs.tailer import Tailer
from core.settings import Settings
from core.store.store import Store

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")


class Metrics:
    """What the API counts about itself, and what it looks up for a scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
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
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)

    def watch(self, store: Store, tailer: Tailer, settings: Settings) -> None:
        """Let each scrape look into the books and at the disk, and count the streams that are open."""
        self.registry.register(Books(store, settings.lease_seconds))
        self.registry.register(Disk(store.blobs.root))
        Gauge("graft_event_streams", "Open event streams.", registry=self.registry).set_function(lambda: tailer.watched)

    def text(self) -> bytes:
        """Everything, for a scrape."""
        return generate_latest(self.registry)
