"""Fixtures of the worker's tests: a place with a store, ready data, jobs with small engines, real worker processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.contract.base import new_id, now
from core.contract.datasets import Dataset, DatasetManifest, DatasetReport, Item
from core.contract.jobs import TERMINAL, Job, JobSpec
from core.settings import Settings
from core.store import datasets, events, jobs
from core.store.store import Store

ROOT = Path(__file__).parents[2]
ENGINE = "tests.worker.engines:run"
TENANT = "default"


@dataclass
class Place:
    """A store with helpers to put work into it and to look at what became of it."""

    store: Store
    settings: Settings
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def ready_dataset(self) -> str:
        """A tiny ready data set."""
        with self.store.db.write(blobs=True) as tx:
            content = self.store.blobs.put(b"0123456789")
            item = Item(name="a/1.png", offset=0, length=5, size=5, label=0, split="train", sha256=content)
            manifest = DatasetManifest(modality="image", content_sha256=content, classes=["a", "b"], items=[item])
            found = DatasetReport(files=1, items=1, labelled=True, split_source="made", seed=0, seconds=0)
            sha256 = self.store.blobs.put(manifest.model_dump_json().encode())
            dataset = Dataset(id=new_id("ds"), name="x", state="validating", bytes=10, sha256=content, created_at=now())
            datasets.add(tx, TENANT, dataset, seed=0)
            claim = datasets.claim_next(tx, "test", 10)
            assert claim is not None
            datasets.mark_ready(tx, claim.fence, manifest, sha256, found)
        return dataset.id

    def submit(self, do: str = "finish", *, request_id: str | None = None, **values: object) -> str:
        """Enter a job for the small engine."""
        metadata = {"do": do} | {
            key: str(value) for key, value in values.items() if key not in ("budget", "base_model")
        }
        fields = {key: values[key] for key in ("budget", "base_model") if key in values}
        spec = JobSpec.model_validate({"source": self.source, "metadata": metadata, **fields})
        job_id = new_id("job")
        with self.store.db.write() as tx:
            jobs.add(tx, TENANT, job_id, spec, request_id=request_id)
        return job_id

    @property
    def source(self) -> str:
        """The data set that all jobs use."""
        if not hasattr(self, "_source"):
            self._source = self.ready_dataset()
        return self._source

    def job(self, job_id: str) -> Job:
        """The job as its owner sees it."""
        with self.store.db.read() as tx:
            return jobs.get(tx, TENANT, job_id)

    def dataset(self, dataset_id: str) -> Dataset:
        """The data set as its owner sees it."""
        with self.store.db.read() as tx:
            return datasets.get(tx, TENANT, dataset_id)

    def events(self, job_id: str) -> list[tuple[str, dict[str, object]]]:
        """Kind and data of all its events; their numbers have no gaps."""
        with self.store.db.read() as tx:
            found = events.after(tx, job_id, 0, 100_000)
        assert [event.seq for event in found] == list(range(1, len(found) + 1))
        return [(event.kind, event.data) for event in found]

    def request(self, job_id: str, *, cancel: bool) -> float:
        """Ask for a stop or a cancel; returns when."""
        with self.store.db.write() as tx:
            jobs.request(tx, TENANT, job_id, cancel=cancel)
        return time.monotonic()

    def until_running(self, job_id: str, seconds: float = 60) -> None:
        """Wait until the engine has begun."""
        self.until(lambda: any(kind == "step" for kind, _ in self.events(job_id)), seconds)

    def until_done(self, *job_ids: str, seconds: float = 60) -> list[Job]:
        """Wait until all are terminal."""
        self.until(lambda: all(self.job(job_id).state in TERMINAL for job_id in job_ids), seconds)
        return [self.job(job_id) for job_id in job_ids]

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.02)

    @property
    def log(self) -> Path:
        """Where worker processes write what they log."""
        return self.settings.root / "worker.log"

    def worker(
        self,
        queue: str = "jobs",
        *,
        program: str = "tests.worker.light",
        environment: dict[str, str] | None = None,
        **settings: object,
    ) -> subprocess.Popen[bytes]:
        """Start a real worker process."""
        values = {
            "data_dir": self.settings.root,
            "database_url": self.store.db.url.render_as_string(hide_password=False),
            "broker_url": self.settings.resolved_broker_url,
            "lease_seconds": 2,
            "sweep_seconds": 0.3,
        } | settings
        variables = {f"GRAFT_{key.upper()}": str(value) for key, value in values.items()}
        environment = dict(os.environ) | variables | (environment or {})
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", program, "--queue", queue, "--engine", ENGINE]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=log)
        self.processes.append(process)
        return process

    def end(self) -> None:
        """End the worker processes that still run."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def leftovers(self) -> list[str]:
        """What lies in the folder for work in progress or in the place for unfinished blobs."""
        root = self.settings.root
        return [path.name for folder in (root / "work", root / "blobs" / "pending") for path in folder.glob("*")]


@pytest.fixture
def place(store: Store, settings: Settings) -> Iterator[Place]:
    """A place on SQLite and then on PostgreSQL."""
    yield from _place(store, settings)


@pytest.fixture
def sqlite_place(sqlite_store: Store, settings: Settings) -> Iterator[Place]:
    """A place on SQLite."""
    yield from _place(sqlite_store, settings)


def _place(store: Store, settings: Settings) -> Iterator[Place]:
    place = Place(store, settings.model_copy(update={"lease_seconds": 2.0, "sweep_seconds": 0.3}))
    yield place
    place.end()
