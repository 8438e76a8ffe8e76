"""One job, one child process: every way it can end."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from core.contract.jobs import Job, JobState
from core.contract.reports import Report
from core.settings import Settings
from core.store import jobs, models
from core.store.store import Store
from tests.worker.conftest import ENGINE, TENANT, Place
from worker import children, failures
from worker.runner import JobRunner


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(children.PRELOAD, "jobs", ("worker.child", "worker.jobs_child"))
    children.warm("jobs")


def run(place: Place, job_id: str) -> Job:
    """Run the next job in this process's care."""
    runner = JobRunner(place.store, place.settings, lambda: False, ENGINE)
    assert runner.run_next("me")
    assert not runner.run_next("me")
    assert place.leftovers() == []
    return place.job(job_id)


def test_success_leaves_model_report_and_events(place: Place) -> None:
    job_id = place.submit()
    job = run(place, job_id)
    assert job.state == "succeeded"
    assert job.metrics == {"accuracy": 0.75}
    assert [(step.name, step.state) for step in job.steps] == [("train", "done"), ("store", "done")]
    with place.store.db.read() as tx:
        model = models.get(tx, TENANT, job.model_id or "")
        report_sha256 = jobs.report_blob(tx, TENANT, job_id)
    bundle = place.store.blob(model.sha256).read_bytes()
    assert len(bundle) == model.bytes
    graph = next(file for file in model.files if file.name == "model.onnx")
    assert bundle[graph.offset : graph.offset + graph.bytes] == b"\x08\x07" * 100
    report = Report.model_validate_json(place.store.blob(report_sha256 or "").read_bytes())
    assert [step.name for step in report.steps] == ["train", "store"]
    states = [data["state"] for kind, data in place.events(job_id) if kind == "state"]
    assert states == ["queued", "running", "succeeded"]


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("refuse", "too_few_items"),
        ("fault", "internal_error"),
        ("memory", "out_of_memory"),
        ("full", "disk_full"),
        ("wrong_event", "internal_error"),
    ],
)
def test_failure_says_why_and_leaves_nothing(sqlite_place: Place, do: str, code: str) -> None:
    blobs = set(sqlite_place.store.blobs.root.glob("??/*"))
    sqlite_place.source  # noqa: B018
    blobs = set(sqlite_place.store.blobs.root.glob("??/*"))
    job = run(sqlite_place, sqlite_place.submit(do))
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == code
    assert job.error.hint
    assert "secret" not in job.error.model_dump_json()
    assert set(sqlite_place.store.blobs.root.glob("??/*")) == blobs


def test_the_work_folder_is_gone_before_a_failure_is_written(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk it is the job's own files that keep the database from growing."""
    seen: list[list[str]] = []
    before = jobs.transition

    def transition(tx: Connection, job_id: str, state: JobState, **values: Any) -> Job:
        seen.append(sqlite_place.leftovers())
        return before(tx, job_id, state, **values)

    job_id = sqlite_place.submit("full")
    monkeypatch.setattr(jobs, "transition", transition)
    run(sqlite_place, job_id)
    assert seen == [[]]


def test_a_full_database_is_told_as_a_full_disk() -> None:
    inner = sqlite3.OperationalError("database or disk is full")
    assert failures.of_exception(OperationalError("COMMIT", None, inner)).code == "disk_full"
    inner = sqlite3.OperationalError("no such table: jobs")
    assert failures.of_exception(OperationalError("SELECT", None, inner)).code == "internal_error"


def test_an_unexpected_error_tells_its_type_only(sqlite_place: Place) -> None:
    error = run(sqlite_place, sqlite_place.submit("fault")).error
    assert error is not None
    assert error.details == {"exception": "ZeroDivisionError"}


def test_the_memory_watch_ends_a_hoarder(sqlite_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "machine_memory", lambda: 300 << 20)
    job = run(sqlite_place, sqlite_place.submit("allocate"))
    assert job.error is not None
    assert job.error.code == "out_of_memory"
    assert job.error.details["peak_bytes"] > 200 << 20


def test_deadline(sqlite_place: Place) -> None:
    began = time.monotonic()
    job = run(sqlite_place, sqlite_place.submit("deaf", budget={"max_seconds": 1}))
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("deadline", "budget.max_seconds")
    assert time.monotonic() - began < 20  # it hears nothing for a minute


def test_a_flood_of_events_is_gathered(sqlite_place: Place) -> None:
    job_id = sqlite_place.submit("flood")
    job = run(sqlite_place, job_id)
    assert job.state == "succeeded"
    found = sqlite_place.events(job_id)
    metrics = [data for kind, data in found if kind == "metric"]
    assert [data["epoch"] for data in metrics] == list(range(0, 1000, 2))
    assert metrics[250]["loss"] is None
    assert job.progress is not None
    assert job.progress.fraction == 0.999


def test_a_cancel_that_comes_before_the_end_wins(place: Place) -> None:
    """The engine does not hear it and finishes; what it made is thrown away all the same."""
    job_id = place.submit("deaf", seconds=1.5)
    kept = set(place.store.blobs.root.glob("??/*"))
    asker = threading.Thread(target=lambda: (place.until_running(job_id), place.request(job_id, cancel=True)))
    asker.start()
    job = run(place, job_id)
    asker.join()
    assert (job.state, job.model_id, job.metrics) == ("cancelled", None, {})
    assert set(place.store.blobs.root.glob("??/*")) == kept


def test_a_database_that_drops_every_connection_costs_no_event(settings: Settings, postgres_url: str) -> None:
    settings = settings.model_copy(update={"database_url": postgres_url, "lease_seconds": 5.0})
    place = Place(Store.open(settings), settings)
    job_id = place.submit("work", seconds=2)
    ended = threading.Event()
    cuts: list[int] = []

    def cut() -> None:
        url = postgres_url.replace("+psycopg", "")
        kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        while not ended.wait(0.25):
            with psycopg.connect(url, autocommit=True) as connection:
                row = connection.execute(kill + "AND datname = current_database()").fetchone()
                cuts.append(row[0] if row else 0)

    cutter = threading.Thread(target=cut)
    runner = JobRunner(place.store, settings, lambda: False, ENGINE)
    cutter.start()
    try:
        assert _patiently(lambda: runner.run_next("me"))
    finally:
        ended.set()
        cutter.join()
    assert sum(cuts) > 3
    job = place.job(job_id)
    assert (job.state, job.attempt) == ("succeeded", 1)
    epochs = [data["epoch"] for kind, data in place.events(job_id) if kind == "metric"]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) >= 5
    place.store.close()


def _patiently(work: Callable[[], bool]) -> bool:
    """Claiming may meet the cut; the worker's loop tries again."""
    while True:
        with contextlib.suppress(DBAPIError):
            return work()


def test_missing_model_and_data(sqlite_place: Place) -> None:
    job = run(sqlite_place, sqlite_place.submit(base_model="mdl_" + "0" * 26))
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("model_not_found", "base_model")
