"""What a run takes, gathered as it goes: seconds of steps, epochs and embedding, and the most memory of each step.

It hears what the run says anyway (steps, progress, metrics), so no method knows of it.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import torch

from core.contract.jobs import EventKind, StepName
from core.estimating.observing import Epoch, Spent
from worker.engine import devices
from worker.engine.backbones import Base
from worker.engine.cache import CacheFolder
from worker.engine.data import JobData
from worker.engine.door import Sink
from worker.engine.features import feature_key
from worker.engine.graph import known_graph
from worker.engine.memory import peak_bytes
from worker.engine.steps import Steps

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class HeardSteps(Steps):
    """Steps whose progress is heard, all of it: what is said of it is thinned out."""

    def __init__(self, costs: "Costs", shares: dict[StepName, float]) -> None:
        super().__init__(costs, shares)
        self._costs = costs

    def progress(
        self,
        name: StepName,
        fraction: float,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
        eta_seconds: float | None = None,
    ) -> None:
        """As `Steps.progress`."""
        self._costs.progress(name, fraction)
        super().progress(name, fraction, epoch=epoch, epochs=epochs, eta_seconds=eta_seconds)


class Costs:
    """Listens to one run; `spent()` says what it took."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._device = torch.device("cpu")
        self._threads = 0
        self._network = ""
        self._start_bytes: int | None = None
        self._steps: dict[StepName, float] = {}
        self._peaks: dict[StepName, int] = {}
        self._step: StepName | None = None
        self._begun = 0.0
        self._embedding: list[tuple[float, float]] = []
        self._embedded = 0
        self._graph: float | None = None
        self._had_graph = True
        self._setup: float | None = None
        self._marks: list[float] = []
        self._last_step = 0.0
        self._epochs: list[Epoch] = []
        self._train = 0
        self._validation = 0
        self._resolved: dict[str, Any] | None = None
        self._cached: dict[str, str] = {}

    def __call__(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Take one event and hand it on (a `Sink`)."""
        if kind == "step":
            self._take_step(data)
        elif kind == "metric" and "epoch" in data:
            self._end_epoch(float(data["epoch"]))
        elif kind == "resolved":
            self._settle(data["method"])
        self._sink(kind, data)

    def opened(self, base: Base, data: JobData, cache: CacheFolder, device: torch.device, threads: int) -> None:
        """Everything is there and nothing is computed yet: what is held now, every run of this kind holds."""
        self._device, self._threads = device, threads
        self._network = base.identity.lineage[-1]
        self.trains_on(data)
        self._embedded = sum(
            len(collection.manifest.items)
            for collection in data.collections
            if cache.get("features", self._key(base, collection.ref.manifest_sha256, cache), check=False) is None
        )
        self._had_graph = known_graph(base, cache) is not None
        self._start_bytes = self._now()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def trains_on(self, data: JobData) -> None:
        """The items of one epoch."""
        self._train, self._validation = len(data.learnt), len(data.validation)

    def again(self) -> "Costs":
        """To listen to another training in the same process."""
        other = Costs(self._sink)
        other._device, other._threads = self._device, self._threads
        other._network, other._start_bytes = self._network, self._start_bytes
        return other

    def progress(self, name: StepName, fraction: float) -> None:
        """Every step of training and every batch of embedding says how far it is."""
        now = time.monotonic()
        if name == "features":
            self._embedding.append((now, fraction))
        elif name == "train":
            self._last_step = now

    def closed(self, base: Base, data: JobData, cache: CacheFolder) -> None:
        """The run is over: which files of the cache the next one will find."""
        for digest in (collection.ref.manifest_sha256 for collection in data.collections):
            self._note(cache, digest, cache.get("features", self._key(base, digest, cache), check=False))
        self._note(cache, "graph", known_graph(base, cache))

    def spent(self, **values: Any) -> Spent:
        """All of it; `values` are told by others."""
        embed, first = self._embed_seconds()
        gpu = self._device.type == "cuda"
        found = Spent(
            device=devices.title(self._device, self._threads),
            kind="cuda" if gpu else "cpu",
            threads=self._threads or 1,
            gpu_bytes=torch.cuda.get_device_properties(self._device).total_memory if gpu else None,
            network=self._network,
            steps=self._steps,
            start_bytes=self._start_bytes,
            peaks=self._peaks,
            graph_seconds=None if self._had_graph else first,
            embed_seconds=embed,
            embed_items=self._embedded,
            setup_seconds=self._setup,
            epochs=self._epochs,
            resolved=self._resolved,
            cached=self._cached,
            train=self._train,
            validation=self._validation,
        )
        return found.model_copy(update=values)

    def _settle(self, method: dict[str, Any]) -> None:
        """The first training's options as they were used; other methods leave nothing open that costs anything."""
        if self._resolved is None and "epochs" in method:
            self._resolved = method

    def _take_step(self, data: dict[str, Any]) -> None:
        name: StepName = data["name"]
        if data["state"] == "running":
            self._step, self._begun = name, time.monotonic()
            self._marks = [self._begun]
            _forget_peak()
            return
        self._steps[name] = data["seconds"] or 0.0
        self._peaks[name] = self._peak()

    def _end_epoch(self, epoch: float) -> None:
        now = time.monotonic()
        if self._step != "train":
            return
        if epoch == 0:
            self._setup = now - self._begun
        elif self._train and epoch == int(epoch):
            begun = self._marks[-1]
            if not self._validation and self._setup is None:
                self._setup = 0.0
            last = max(begun, min(self._last_step, now))
            checked = now - last if self._validation else None
            self._epochs.append(Epoch(items=self._train, seconds=last - begun, validation=checked))
        self._marks.append(now)

    def _embed_seconds(self) -> tuple[float | None, float | None]:
        """Seconds of embedding all items, and what came before the first batch was done: the graph's export."""
        if not self._embedded or len(self._embedding) < 2:
            return None, None
        (begin, first), (end, last) = self._embedding[0], self._embedding[-1]
        if last - first < 0.2:
            return None, None
        whole = (end - begin) / (last - first)
        started = self._steps.get("features")
        before = None if started is None else max(0.0, started - whole)
        return whole, before

    def _key(self, base: Base, digest: str, cache: CacheFolder) -> str:
        return feature_key(base.identity, digest, self._device, kept=cache.features)

    def _note(self, cache: CacheFolder, name: str, path: Path | None) -> None:
        if path is not None:
            self._cached[name] = str(path.relative_to(cache.root))

    def _now(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.memory_reserved(self._device))
        return _status("VmRSS") or peak_bytes(self._device)

    def _peak(self) -> int:
        if self._device.type == "cuda":
            most = int(torch.cuda.max_memory_reserved(self._device))
            torch.cuda.reset_peak_memory_stats(self._device)
            return most
        return _status("VmHWM") or peak_bytes(self._device)


def _forget_peak() -> None:
    """Let the kernel count the highest memory of this process anew from here on."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _status(name: str) -> int | None:
    """A figure of this process in bytes; None where the kernel does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
