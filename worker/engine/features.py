"""Embed once, adapt many times: the features of a data set under a frozen backbone, kept in the cache."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from core.contract.errors import JobError
from core.contract.prepare import ImagePrepare
from core.modality.image import prepare
from worker.engine.backbones.backbone import Base, Identity
from worker.engine.cache import CacheFolder
from worker.engine.devices import cores
from worker.engine.door import CancelledError, ShouldStop
from worker.engine.graph import backbone_graph
from worker.engine.sessions import open_session

Floats = NDArray[np.float32]
T = TypeVar("T")
Progress = Callable[[int, int], None]

VERSION = "1"  # rises when the same data and backbone would give other features
CPU_BATCH = 2  # small batches stay in the cache of a core: 280 photos/s on two cores, against 230 with 16
GPU_BATCH = 64
PAUSE = 0.1


class Reader(Protocol):
    """Items of a data set by their number in the manifest."""

    def __len__(self) -> int:
        """Number of items."""

    def image(self, index: int) -> Image.Image:
        """One item, decoded."""


def feature_key(identity: Identity, key: str, device: torch.device | None = None) -> str:
    """Name of the features of a data set (`key`: SHA-256 of its manifest) in the cache.

    A GPU embeds in mixed precision, so its features are kept apart from a CPU's.
    """
    precision = "amp" if device is not None and device.type == "cuda" else "fp32"
    config = hashlib.sha256(identity.card.prepare.model_dump_json().encode()).hexdigest()
    return f"{VERSION}:{precision}:{key}:{identity.key}:{config}"


def cached(identity: Identity, key: str, cache: CacheFolder, device: torch.device | None = None) -> Floats | None:
    """The features if they are in the cache, else None."""
    path = cache.get("features", feature_key(identity, key, device))
    return None if path is None else load_file(path)["features"]


def embed(
    base: Base,
    readers: Reader | Sequence[Reader],
    *,
    cache: CacheFolder,
    key: str,
    device: torch.device | None = None,
    threads: int = 0,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Floats:
    """Features (N, D), float32, in the order of the manifest (of several readers, one after the other).

    `key` is the SHA-256 of the manifest. `progress(done, total)` is called from this thread, ten times a second at
    most. A wish to cancel raises `CancelledError`; a wish to stop is no reason to stop here: nothing is trained yet.
    """
    known = cached(base.identity, key, cache, device)
    if known is not None:
        return known
    items = _Items([readers] if not isinstance(readers, Sequence) else readers, base.identity.card.prepare)
    watch = _Watch(len(items), progress, should_stop)
    if device is not None and device.type == "cuda":
        found = _with_torch(base, items, device, threads, watch)
    else:
        found = _with_onnx(base, items, cache, threads, watch)
    if not np.isfinite(found).all():
        raise JobError(
            f"{base.identity.card.id} makes figures that are not finite on this data.",
            code="features_not_finite",
            param="base_model",
            hint="Its weights are damaged or unsuitable: choose another base model.",
        )
    cache.put("features", feature_key(base.identity, key, device), lambda path: _save(found, path))
    return found


def _save(features: Floats, path: Path) -> None:
    save_file({"features": features}, path)


class _Items:
    """All readers as one row of network inputs."""

    def __init__(self, readers: Sequence[Reader], config: ImagePrepare) -> None:
        self._place = [(reader, index) for reader in readers for index in range(len(reader))]
        self.config = config

    def __len__(self) -> int:
        return len(self._place)

    def batch(self, span: range) -> Floats:
        """Items of that span, prepared: (n, 3, S, S)."""
        return np.stack(
            [prepare(reader.image(index), self.config) for reader, index in self._place[span.start : span.stop]]
        )

    def spans(self, size: int) -> Iterator[range]:
        """The row cut into batches."""
        return (range(start, min(start + size, len(self))) for start in range(0, len(self), size))


class _Watch:
    """Tells how far it is, and hears whether it should go on."""

    def __init__(self, total: int, progress: Progress | None, should_stop: ShouldStop | None) -> None:
        self._total, self._done = total, 0
        self._progress, self._should_stop = progress, should_stop
        self._next = 0.0

    def __call__(self, items: int) -> None:
        self._done += items
        now = time.monotonic()
        if now < self._next and self._done < self._total:
            return
        self._next = now + PAUSE
        if self._progress:
            self._progress(self._done, self._total)
        if self._should_stop and self._should_stop() == "cancel":
            raise CancelledError


def _with_onnx(base: Base, items: _Items, cache: CacheFolder, threads: int, watch: _Watch) -> Floats:
    """Each thread decodes a small batch and runs it through ONNX Runtime itself: no core waits for another."""
    session = open_session(backbone_graph(base, cache), threads=1)
    found = np.empty((len(items), base.identity.card.width), dtype=np.float32)

    def work(span: range) -> int:
        found[span.start : span.stop] = session.run(["embedding"], {"image": items.batch(span)})[0]
        return len(span)

    with ThreadPoolExecutor(threads or cores(), thread_name_prefix="embed") as pool:
        for count in _in_order(pool, work, items.spans(CPU_BATCH), ahead=2 * (threads or cores())):
            watch(count)
    return found


def _with_torch(base: Base, items: _Items, device: torch.device, threads: int, watch: _Watch) -> Floats:
    """Threads decode ahead while the device embeds, in mixed precision and channels-last.

    A batch that overflows half precision is embedded again in full precision.
    """
    module: Any = base.backbone().module  # torch does not type `to` with a device and a memory format
    module.to(device=device, memory_format=torch.channels_last)
    module.eval()
    found = []
    try:
        with ThreadPoolExecutor(threads or cores(), thread_name_prefix="decode") as pool, torch.inference_mode():
            for batch in _in_order(pool, items.batch, items.spans(GPU_BATCH), ahead=2 * (threads or cores())):
                images = torch.from_numpy(batch).to(device).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.float16):
                    embedding = module(images).float()
                if not torch.isfinite(embedding).all():
                    embedding = module(images)
                found.append(embedding.cpu().numpy())
                watch(len(batch))
    finally:
        module.to(device="cpu", memory_format=torch.contiguous_format)
    return np.concatenate(found) if found else np.empty((0, base.identity.card.width), dtype=np.float32)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[range], T], spans: Iterator[range], *, ahead: int
) -> Iterator[T]:
    """Results in order of the spans, with at most `ahead` begun before they are wanted; an error ends the rest."""
    waiting: deque[Future[T]] = deque()
    try:
        for span in spans:
            waiting.append(pool.submit(work, span))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
