"""Embed once, adapt many times: the features of a data set under a frozen backbone, kept in the cache."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache as once
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.prepare import TextPrepare
from core.modality.preparers import Arrays, Preparer
from worker.engine.backbones.backbone import Base, Identity
from worker.engine.cache import CacheFolder
from worker.engine.devices import cores
from worker.engine.door import CancelledError, ShouldStop, SuspendedError
from worker.engine.graph import backbone_graph
from worker.engine.loading import in_order, workers
from worker.engine.memory import AtATime
from worker.engine.sessions import open_session
from worker.engine.shards import Shards
from worker.engine.stored import DamagedError, Features, Precision, write

Floats = NDArray[np.float32]
T = TypeVar("T")
Progress = Callable[[int, int], None]

VERSION = "2"  # rises when the same data and backbone would give other features
CPU_BATCH = 2  # small batches stay in the cache of a core: 280 photos/s on two cores, against 230 with 16
GPU_BATCH = 64
PAUSE = 0.1


class Reader(Protocol):
    """Items of a data set by their number in the manifest."""

    def __len__(self) -> int:
        """Number of items."""

    def item(self, index: int) -> Any:
        """One item, decoded."""

    def size(self, index: int) -> int:
        """Bytes of one item, known without reading it."""


def feature_key(identity: Identity, key: str, device: torch.device | None = None, *, kept: Precision = "fp32") -> str:
    """Name of the features of a data set (`key`: SHA-256 of its manifest) in the cache: whose, by what, how prepared.

    The manifest names every item by the SHA-256 of its bytes, the identity the network by that of its weights, the
    preparation a text's tokenizer by that of its file; libraries that decode are named by their versions. A GPU embeds
    in mixed precision, so its features stand apart from a CPU's, as do those that are `kept` in half precision.
    """
    prepare = identity.card.prepare
    if isinstance(prepare, TextPrepare) and prepare.tokenizer_sha256 is None:
        raise ValueError(f"{identity.card.id} does not say which tokenizer its texts are read with")
    precision = "amp" if device is not None and device.type == "cuda" else "fp32"
    config = hashlib.sha256(prepare.model_dump_json().encode()).hexdigest()
    return f"{VERSION}:{precision}:{kept}:{key}:{identity.key}:{config}:{_decoder(prepare.kind)}"


@once
def _decoder(kind: str) -> str:
    """What turns bytes into inputs, beside our own code."""
    library = {"image": "pillow", "text": "tokenizers"}.get(kind)
    return f"{library} {version(library)}" if library else ""


def cached(identity: Identity, key: str, cache: CacheFolder, device: torch.device | None = None) -> Features | None:
    """The features if they are in the cache, else None. Their rows are checked when they are read."""
    name = feature_key(identity, key, device, kept=cache.features)
    path = cache.get("features", name, check=False)
    try:
        return None if path is None else Features(path)
    except DamagedError:
        cache.remove("features", name)
    except FileNotFoundError:  # another process evicted it just now
        pass
    return None


def forget(identity: Identity, key: str, cache: CacheFolder, device: torch.device | None = None) -> None:
    """Remove features that turned out to be damaged."""
    cache.remove("features", feature_key(identity, key, device, kept=cache.features))


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
    say: Callable[[str], None] = lambda _text: None,
) -> Features:
    """Features (N, D) in the order of the manifest (of several readers, one after the other), in the cache.

    `key` is the SHA-256 of the manifest. `progress(done, total)` is called from this thread, ten times a second at
    most. A wish to cancel raises `CancelledError`, one to suspend `SuspendedError`; a wish to stop is no reason to stop
    here: nothing is trained yet. What is done is saved every few seconds, and the next call goes on from there.
    """
    known = cached(base.identity, key, cache, device)
    if known is not None:
        return known
    items = _Items([readers] if not isinstance(readers, Sequence) else readers, base.preparer())
    watch = _Watch(len(items), progress, should_stop)
    on_gpu = device is not None and device.type == "cuda"
    name = feature_key(base.identity, key, device, kept=cache.features)
    shards = Shards(cache, name, batch=GPU_BATCH if on_gpu else CPU_BATCH)
    if device is not None and on_gpu:
        found = _with_torch(base, items, device, threads, watch, shards=shards, say=say)
    else:
        found = _with_onnx(base, items, cache, threads, watch, shards=shards)
    if not np.isfinite(found).all():
        shards.drop()
        raise JobError(
            f"{base.identity.card.id} makes figures that are not finite on this data.",
            code="features_not_finite",
            param="base_model",
            hint="Its weights are damaged or unsuitable: choose another base model.",
        )
    path = cache.put("features", name, lambda path: write(found, path, cache.features))
    shards.drop()
    return Features(path)


class _Items:
    """All readers as one row of network inputs; texts from the longest to the shortest, so that little is padded."""

    def __init__(self, readers: Sequence[Reader], preparer: Preparer) -> None:
        place = [(reader, index) for reader in readers for index in range(len(reader))]
        self._order: NDArray[np.int64] | None = None
        if isinstance(preparer.config, TextPrepare):
            self._order = np.argsort([-reader.size(index) for reader, index in place], kind="stable")
            place = [place[number] for number in self._order]
        self._place, self.preparer = place, preparer

    def __len__(self) -> int:
        return len(self._place)

    def batch(self, span: range) -> Arrays:
        """Inputs of the items of that span, each (n, …)."""
        place = self._place[span.start : span.stop]
        return self.preparer.collate([self.preparer(reader.item(index)) for reader, index in place])

    def restored(self, rows: Floats) -> Floats:
        """Figures of the row in the order of the readers."""
        if self._order is None:
            return rows
        found = np.empty_like(rows)
        found[self._order] = rows
        return found

    def spans(self, size: int, begin: int) -> Iterator[range]:
        """The row from `begin` on, cut into batches."""
        return (range(start, min(start + size, len(self))) for start in range(begin, len(self), size))


class _Watch:
    """Tells how far it is, and hears whether it should go on."""

    def __init__(self, total: int, progress: Progress | None, should_stop: ShouldStop | None) -> None:
        self._total, self._done = total, 0
        self._progress, self._should_stop = progress, should_stop
        self._next = 0.0

    def skip(self, items: int) -> None:
        """So many were there already."""
        self._done += items

    def __call__(self, items: int) -> None:
        self._done += items
        now = time.monotonic()
        if now < self._next and self._done < self._total:
            return
        self._next = now + PAUSE
        if self._progress:
            self._progress(self._done, self._total)
        self.check()

    def check(self) -> None:
        """Raise if nobody waits for the features any more, or not here."""
        wish = self._should_stop() if self._should_stop else "go_on"
        if wish == "cancel":
            raise CancelledError
        if wish == "suspend":
            raise SuspendedError


def _with_onnx(base: Base, items: _Items, cache: CacheFolder, threads: int, watch: _Watch, *, shards: Shards) -> Floats:
    """Each thread decodes a small batch and runs it through ONNX Runtime itself: no core waits for another."""
    session = open_session(backbone_graph(base, cache), threads=1)

    def work(span: range) -> Floats:
        feed = dict(zip(items.preparer.names, items.batch(span), strict=True))
        found: Floats = session.run(["embedding"], feed)[0]
        return found

    count = threads or cores()
    return _gather(base, items, work, lambda rows: rows, watch=watch, shards=shards, batch=CPU_BATCH, threads=count)


def _with_torch(
    base: Base,
    items: _Items,
    device: torch.device,
    threads: int,
    watch: _Watch,
    *,
    shards: Shards,
    say: Callable[[str], None] = lambda _text: None,
) -> Floats:
    """Threads decode ahead while the device embeds, in mixed precision and channels-last.

    A batch that overflows half precision is embedded again in full precision; one that memory does not suffice for is
    cut in halves.
    """
    module: Any = base.backbone().module  # torch does not type `to` with a device and a memory format
    sizes = AtATime(device, say=lambda before, now: say(_fewer(before, now)))

    def embedding(inputs: Arrays) -> Floats:
        return sizes.attempt(len(inputs[0]), lambda size: _embedded(module, inputs, size, device))

    try:
        module.to(device=device, memory_format=torch.channels_last)
        module.eval()
        count = threads or cores()
        with torch.inference_mode():
            return _gather(
                base, items, items.batch, embedding, watch=watch, shards=shards, batch=GPU_BATCH, threads=count
            )
    finally:
        module.to(device="cpu", memory_format=torch.contiguous_format)


def _embedded(module: Any, inputs: Arrays, size: int, device: torch.device) -> Floats:
    """Embeddings of a batch, at most `size` at a time."""
    found = []
    count = -(-len(inputs[0]) // size)
    for chunk in zip(*(torch.from_numpy(part).tensor_split(count) for part in inputs), strict=True):
        parts = [_on_device(part, device) for part in chunk]
        with torch.autocast(device.type, torch.float16):
            embedding = module(*parts).float()
        if not torch.isfinite(embedding).all():
            embedding = module(*parts)
        found.append(embedding.cpu().numpy())
    return np.concatenate(found)


def _on_device(part: torch.Tensor, device: torch.device) -> torch.Tensor:
    moved = part.to(device)
    return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved


def _fewer(before: int, now: int) -> str:
    return f"Out of memory with {before} images at a time while embedding: goes on with {now}."


def _gather(
    base: Base,
    items: _Items,
    work: Callable[[range], T],
    finish: Callable[[T], Floats],
    *,
    watch: _Watch,
    shards: Shards,
    batch: int,
    threads: int,
) -> Floats:
    """Features of all items: `work` runs in threads, `finish` here; goes on where an earlier attempt was."""
    found = np.empty((len(items), base.identity.card.width), dtype=np.float32)
    done = shards.load(found)
    watch.skip(done)
    spans = items.spans(batch, done)
    try:
        with workers(threads, "embed") as pool:
            for raw in in_order(pool, work, spans, ahead=2 * threads, check=watch.check):
                made = finish(raw)
                found[done : done + len(made)] = made
                done += len(made)
                shards.offer(found, done)
                watch(len(made))
    except SuspendedError:
        shards.offer(found, done, now=True)
        raise
    return items.restored(found)
