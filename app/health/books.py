"""Measurements that stand in the database: the same at every API server, and not lost with any of them."""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.health.looks import Look
from core.store import figures
from core.store.figures import Figures
from core.store.store import Store
from core.store.timings import BUCKETS, Timing
from core.store.workers import Worker
from core.wakeup import QUEUES

LOOK_SECONDS = 1.0
_WORKER_GAUGES = {
    "rss_bytes": "Memory of the process that does the worker's job.",
    "peak_bytes": "Most memory that process has had.",
    "gpu_allocated_bytes": "Memory on the GPU that the job's tensors take.",
    "gpu_reserved_bytes": "Memory on the GPU that the job holds.",
}


class Books(Collector):
    """Looks into the database at each scrape; while it does not answer, `graft_database_up` alone is told."""

    def __init__(self, store: Store, worker_seconds: float) -> None:
        self._store = store
        self._worker_seconds = worker_seconds
        self._look = Look(self._gather, "metrics")
        self._lost = _Rising()

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All families."""
        try:
            found = self._look(LOOK_SECONDS)
        except Exception:  # away, overdue or older than this program: the rest of the scrape must not suffer
            found = None
        yield GaugeMetricFamily("graft_database_up", "Whether the database answers.", value=int(found is not None))
        if found is not None:
            yield from _queues(found)
            yield from _jobs(found, self._lost.of(found.lost))
            yield from _workers(found.workers)
            yield _labelled("graft_deliveries", "Webhook deliveries by state.", "state", found.deliveries)
            yield GaugeMetricFamily("graft_uploads_open", "Resumable uploads under way.", value=found.uploads_open)

    def _gather(self) -> Figures:
        with self._store.db.read() as tx:
            return figures.gather(tx, self._worker_seconds)


class _Rising:
    """A sum over rows as a counter: it must not fall when a row is deleted."""

    def __init__(self) -> None:
        self._last = self._gone = 0

    def of(self, value: int) -> int:
        self._gone += max(0, self._last - value)
        self._last = value
        return value + self._gone


def _queues(found: Figures) -> Iterator[Metric]:
    yield _labelled("graft_queue_depth", "Work that waits for a worker.", "queue", found.depth)
    yield _labelled("graft_queue_oldest_seconds", "Age of the work that waits the longest.", "queue", found.oldest)


def _jobs(found: Figures, lost: int) -> Iterator[Metric]:
    yield _labelled("graft_jobs", "Jobs in the books by state.", "state", found.jobs)
    yield CounterMetricFamily("graft_jobs_lost", "Attempts at jobs whose worker or process was lost.", value=lost)
    steps = HistogramMetricFamily("graft_job_step_seconds", "Time of jobs' finished steps.", labels=["method", "step"])
    for timing in found.timings:
        steps.add_metric([timing.method, timing.step], _cumulated(timing), timing.seconds)
    yield steps


def _cumulated(timing: Timing) -> list[tuple[str, float]]:
    bounds = [*map(str, BUCKETS), "+Inf"]
    return list(zip(bounds, accumulate(map(float, timing.buckets)), strict=True))


def _workers(alive: list[Worker]) -> Iterator[Metric]:
    counts = {queue: sum(worker.queue == queue for worker in alive) for queue in QUEUES}
    yield _labelled("graft_workers", "Workers that live.", "queue", counts)
    for key, text in _WORKER_GAUGES.items():
        family = GaugeMetricFamily(f"graft_worker_{key}", text, labels=["worker", "queue"])
        for worker in alive:
            value = (worker.stats or {}).get(key)
            if isinstance(value, (int, float)):
                family.add_metric([worker.id, worker.queue], value)
        yield family


def _labelled(name: str, text: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
