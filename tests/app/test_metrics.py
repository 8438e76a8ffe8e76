"""The metrics page: what it says of the books, how it is written, and that nothing can stop it."""

import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text, update

from app.health.metrics import Metrics
from app.jobs.tailer import Tailer
from core.contract.jobs import Step
from core.settings import Settings
from core.store import timings, workers
from core.store.store import Store
from core.store.tables import jobs as table
from tests.app.seed import add_dataset, add_job, start_job

STATS = {"rss_bytes": 7, "peak_bytes": 9, "gpu_allocated_bytes": 3, "gpu_reserved_bytes": 4, "job": "x", "step": "y"}
UNITS = ("seconds", "bytes")


def families(store: Store, settings: Settings) -> dict[str, Metric]:
    """Every family that a scrape brings."""
    metrics = Metrics()
    metrics.watch(store, Tailer(store), settings)
    return parsed(metrics)


def parsed(metrics: Metrics) -> dict[str, Metric]:
    found = list(text_string_to_metric_families(metrics.text().decode()))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def values(family: Metric, suffix: str = "") -> dict[tuple[str, ...], float]:
    name = family.name + suffix
    return {tuple(sample.labels.values()): sample.value for sample in family.samples if sample.name == name}


def test_the_books_are_told(store: Store, settings: Settings) -> None:
    source = add_dataset(store)
    for _ in range(3):
        add_job(store, source)
    fence = start_job(store)
    add_dataset(store, state="validating")
    with store.db.write() as tx:
        tx.execute(update(table).where(table.c.id == fence.id).values(lost=2))
        timings.add(
            tx, "linear_probe", [Step(name="train", state="done", seconds=seconds) for seconds in (0.3, 2, 9e9)]
        )
        workers.beat(tx, "w1", "jobs", host="here", pid=1, stats=STATS)
        workers.beat(tx, "w2", "ingest", host="here", pid=2)
    found = families(store, settings)
    assert values(found["graft_jobs"]) == {
        ("queued",): 2, ("running",): 1, ("succeeded",): 0, ("failed",): 0, ("cancelled",): 0,
    }  # fmt: skip
    assert values(found["graft_jobs_lost"], "_total") == {(): 2}
    assert values(found["graft_queue_depth"]) == {("jobs",): 2, ("ingest",): 1}
    assert all(0 < age < 300 for age in values(found["graft_queue_oldest_seconds"]).values())
    assert values(found["graft_workers"]) == {("jobs",): 1, ("ingest",): 1}
    assert values(found["graft_worker_gpu_reserved_bytes"]) == {("jobs", "w1"): 4}
    assert values(found["graft_deliveries"]) == {("pending",): 0, ("delivered",): 0, ("failed",): 0}
    steps = found["graft_job_step_seconds"]
    assert values(steps, "_count") == {("linear_probe", "train"): 3}
    buckets = {key[0]: value for key, value in values(steps, "_bucket").items()}
    assert (buckets["0.1"], buckets["0.5"], buckets["5.0"], buckets["43200.0"], buckets["+Inf"]) == (0, 1, 2, 2, 3)
    assert values(found["graft_database_up"]) == {(): 1}
    assert values(found["graft_disk_free_bytes"])[()] > 0
    assert values(found["graft_blob_bytes"])[()] > 0
    assert "process_resident_memory_bytes" in found


def test_names_and_buckets_follow_the_conventions(sqlite_store: Store, settings: Settings) -> None:
    for name, family in families(sqlite_store, settings).items():
        if not name.startswith("graft_"):
            continue
        assert re.fullmatch(r"graft(_[a-z0-9]+)+", name)
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)
        else:
            assert not name.endswith("_total")
        if family.type == "histogram":
            assert name.endswith(UNITS)
        assert not name.endswith(("_ms", "_milliseconds", "_kb", "_mib", "_count", "_sum", "_bucket"))
        for sample in family.samples:
            assert set(sample.labels) <= {
                "method",
                "route",
                "status",
                "queue",
                "state",
                "step",
                "worker",
                "le",
                "phase",
            }


def test_a_deleted_job_does_not_make_the_counter_of_losses_fall(sqlite_store: Store, settings: Settings) -> None:
    first, second = add_job(sqlite_store, add_dataset(sqlite_store)), add_job(sqlite_store, add_dataset(sqlite_store))
    metrics = Metrics()
    metrics.watch(sqlite_store, Tailer(sqlite_store), settings)
    with sqlite_store.db.write() as tx:
        tx.execute(update(table).values(lost=2))
    assert values(parsed(metrics)["graft_jobs_lost"], "_total") == {(): 4}
    with sqlite_store.db.write() as tx:
        tx.execute(table.delete().where(table.c.id == first))
    assert values(parsed(metrics)["graft_jobs_lost"], "_total") == {(): 4}
    with sqlite_store.db.write() as tx:
        tx.execute(update(table).where(table.c.id == second).values(lost=3))
    assert values(parsed(metrics)["graft_jobs_lost"], "_total") == {(): 5}


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


def test_a_database_that_hangs_does_not_hold_up_the_scrape(settings: Settings, black_hole: int) -> None:
    url = f"postgresql+psycopg://u:p@127.0.0.1:{black_hole}/x"
    store = Store.open(settings.model_copy(update={"database_url": url}))
    metrics = Metrics()
    metrics.watch(store, Tailer(store), settings)
    metrics.observe("GET", "/jobs", 200, 0.1)
    for _ in range(3):
        began = time.monotonic()
        found = parsed(metrics)
        assert time.monotonic() - began < 8
        assert values(found["graft_database_up"]) == {(): 0}
        assert values(found["graft_http_requests"], "_total") == {("GET", "/jobs", "200"): 1}
        assert "graft_jobs" not in found
    assert len([thread for thread in threading.enumerate() if thread.name == "look-metrics"]) == 1


def test_the_sum_of_losses_is_answered_by_its_index(store: Store) -> None:
    query = "select sum(lost) from jobs where lost > 0"
    with store.db.read() as tx:
        if store.db.is_sqlite:
            plan = str(list(tx.execute(text(f"explain query plan {query}"))))
        else:
            tx.execute(text("set local enable_seqscan = off"))
            plan = str(list(tx.execute(text(f"explain {query}"))))
    assert "ix_jobs_lost" in plan
