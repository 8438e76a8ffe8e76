"""What the service has to do meanwhile: a steady stream of jobs and uploads, sent by the SDK, each exactly once."""

import io
import random
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from core.contract.jobs import TERMINAL
from core.store import datasets
from core.store.store import Store
from core.store.tables import jobs, models
from examples.demo import write_digits
from graft import Graft
from graft.errors import GraftError

TENANT = "default"
PROBE = {"name": "linear_probe"}
TUNE = {
    "name": "fine_tune",
    "freeze": "blocks.4",
    "head_start": False,
    "epochs": 6,
    "batch_size": 16,
    "early_stop": None,
    "augmentation": "light",
    "horizontal_flip": False,
}
SPECS: dict[str, dict[str, Any]] = {
    **{f"ridge {seed}": {"method": PROBE | {"solver": "ridge"}, "seed": seed} for seed in range(2)},
    **{f"lbfgs {seed}": {"method": PROBE | {"solver": "lbfgs"}, "seed": seed} for seed in range(2)},
    **{f"fine_tune {seed}": {"method": TUNE, "seed": seed} for seed in range(2)},
}
WEIGHTS = [1, 1, 1, 1, 3, 3]
Axis = list[float]


@dataclass(frozen=True)
class Reference:
    """What an unbroken run of a spec gives: its tensors' bytes and the axis of its curve."""

    tensors: dict[str, bytes]
    axis: Axis
    seconds: float


def write_archive(folder: Path, per_class: int) -> Path:
    """A zip of some of scikit-learn's digits."""
    source = write_digits(folder)
    path = folder / f"digits-{per_class}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for label in sorted(source.iterdir()):
            for image in sorted(label.iterdir())[:per_class]:
                archive.write(image, f"{label.name}/{image.name}")
    return path


def tensors(bundle: bytes | Path) -> dict[str, bytes]:
    """The bytes of every tensor in a bundle, with their type and shape."""
    with zipfile.ZipFile(io.BytesIO(bundle) if isinstance(bundle, bytes) else bundle) as archive:
        found = load_tensors(archive.read("model.safetensors"))
    return {
        f"{name} {value.dtype} {value.shape}": np.ascontiguousarray(value).tobytes() for name, value in found.items()
    }


def axis_of(event: dict[str, Any]) -> float | None:
    """Where on its curve's axis a metric event stands; None if it is not a point of a curve."""
    value = event.get("epoch", event.get("log10_regularisation"))
    return None if value is None else float(value)


def references(client: Graft, store: Store, source: str) -> dict[str, Reference]:
    """Run every spec once, undisturbed."""
    found = {}
    for name, spec in SPECS.items():
        began = time.monotonic()
        job = client.jobs.wait(client.jobs.create(source=source, **spec, metadata={"reference": name}), timeout=600)
        points = [axis_of(event.data) for event in client.jobs.stream(job.id) if event.kind == "metric"]
        bundle = store.blob(_bundle(store, job.id))
        seconds = time.monotonic() - began
        found[name] = Reference(tensors(bundle), [point for point in points if point is not None], seconds)
        print(f"     unbroken {name}: {seconds:.1f} s, {len(found[name].axis)} points", flush=True)
    return found


def _bundle(store: Store, job_id: str) -> str:
    with store.db.read() as tx:
        return str(tx.scalar(select(models.c.bundle_sha256).where(models.c.job_id == job_id)))


@dataclass
class Load:
    """Keeps `waiting` jobs in flight until told to stop; `sent` maps each job's id to its number and spec."""

    url: str
    store: Store
    source: str
    archive: bytes
    rng: random.Random
    waiting: int = 3
    sent: dict[str, tuple[int, str]] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to send."""
        for target, pause in ((self._send_job, 0.2), (self._send_data, 12.0)):
            thread = threading.Thread(target=self._repeat, args=(target, pause), daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Send no more; what was sent goes on."""
        self._end.set()

    def busy(self) -> bool:
        """Whether a request is still under way."""
        return any(thread.is_alive() for thread in self._threads)

    def _repeat(self, work: Callable[[Graft], None], pause: float) -> None:
        with Graft(self.url, max_retries=30, timeout=60) as client:
            while not self._end.is_set():
                try:
                    work(client)
                except GraftError as error:  # the SDK tries again by itself, so this is a promise broken
                    self.refused.append(f"{type(error).__name__}: {error}")
                    print(f"     REFUSED {self.refused[-1]}", flush=True)
                self._end.wait(pause)

    def _send_job(self, client: Graft) -> None:
        if unfinished(self.store) >= self.waiting:
            return
        name = self.rng.choices(list(SPECS), WEIGHTS)[0]
        number = len(self.sent) + len(self.refused)
        metadata = {"spec": name, "number": str(number)}
        job = client.jobs.create(source=self.source, **SPECS[name], metadata=metadata)
        self.sent[job.id] = (number, name)

    def _send_data(self, client: Graft) -> None:
        self.uploads.append(client.datasets.upload(io.BytesIO(self.archive), name=f"upload {len(self.uploads)}").id)

    def unready(self) -> list[str]:
        """Data sets that were sent and are not ready (yet)."""
        try:
            with self.store.db.read() as tx:
                return [one for one in self.uploads if datasets.get(tx, TENANT, one).state != "ready"]
        except SQLAlchemyError:
            return list(self.uploads)


def unfinished(store: Store) -> int:
    """How many jobs have not ended; very many while the database is away."""
    try:
        with store.db.read() as tx:
            query = select(func.count()).select_from(jobs).where(jobs.c.state.not_in(TERMINAL))
            return int(tx.scalar(query) or 0)
    except SQLAlchemyError:
        return 1_000_000
