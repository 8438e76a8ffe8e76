"""A job that looks at several base models and makes none: their features, and what those cost."""

import gc
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from core.contract.base import Record
from core.contract.base_models import BaseModelCard
from core.contract.methods import RankBaseModels
from worker.engine.backbones import Base
from worker.engine.cache import CacheFolder
from worker.engine.data import Items, JobData
from worker.engine.devices import cores
from worker.engine.door import ShouldStop, Sink
from worker.engine.features import GPU_BATCH, cached, embed, feature_key, forget
from worker.engine.graph import backbone_graph
from worker.engine.steps import Steps, Wishes
from worker.engine.stored import DamagedError, Features

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]
_SAMPLE = 64
_LOOK = 0.02  # seconds between two looks at the memory in use


class EnoughError(Exception):
    """What was found so far will do: no further base model is wanted."""


@dataclass(frozen=True)
class Exploration:
    """The job as its method sees it."""

    options: RankBaseModels
    data: JobData
    open: Callable[[str], Base]
    """A base model by its name. Raises `GraftError` where there is none, or no weights of it."""
    here: Callable[[BaseModelCard], bool]
    """Whether a card's weights are on this machine."""
    cache: CacheFolder
    device: torch.device
    threads: int
    seed: int
    steps: Steps
    wishes: Wishes
    sink: Sink


class Cost(Record):
    """What it took to embed items."""

    seconds_per_item: float
    memory_bytes: int


def features(
    look: Exploration, base: Base, items: Items, *, progress: Progress, wish: ShouldStop
) -> tuple[Floats, Cost]:
    """Features (n, D) of the items, from the cache or into it, and what it costs to make them.

    A collection that is not much larger than the items is embedded whole. `wish` may raise `EnoughError`.
    """
    collection = items.collection
    key, total = collection.ref.manifest_sha256, len(collection.manifest.items)
    whole = total <= 2 * look.options.max_items or cached(base.identity, key, look.cache, look.device) is not None
    if whole:
        rows, items = items.indices, Items(collection, np.arange(total), items.labels[:0])
    else:
        rows, key = np.arange(len(items)), f"{key}:{hashlib.sha256(items.indices.tobytes()).hexdigest()}"
    found, cost = _made(look, base, items, key, progress=progress, wish=wish)
    try:
        return found.rows(rows), cost
    except DamagedError:
        forget(base.identity, key, look.cache, look.device)
        found, cost = _made(look, base, items, key, progress=progress, wish=wish)
        return found.rows(rows), cost


def _made(
    look: Exploration, base: Base, items: Items, key: str, *, progress: Progress, wish: ShouldStop
) -> tuple[Features, Cost]:
    known = cached(base.identity, key, look.cache, look.device)
    if known is not None:
        progress(len(known), len(known))
        return known, _recalled(look, base, key) or _sampled(look, base, items, key, wish)
    found, cost = _timed(look, base, items, key, progress=progress, wish=wish)
    if cost is None:
        return found, _sampled(look, base, items, key, wish)
    _keep(look, base, key, cost)
    return found, cost


def _sampled(look: Exploration, base: Base, items: Items, key: str, wish: ShouldStop) -> Cost:
    """The cost where the features were there already: of a few items that are embedded once more."""
    few = Items(items.collection, items.indices[:_SAMPLE], items.labels[:0])
    once = f"sample {time.time_ns()}:{key}"
    _, cost = _timed(look, base, few, once, progress=lambda _done, _total: None, wish=wish)
    forget(base.identity, once, look.cache, look.device)
    assert cost is not None
    _keep(look, base, key, cost)
    return cost


def _timed(
    look: Exploration, base: Base, items: Items, key: str, *, progress: Progress, wish: ShouldStop
) -> tuple[Features, Cost | None]:
    """Features and what they cost; None where an earlier attempt had made some of them."""
    if look.device.type == "cpu":
        backbone_graph(base, look.cache)  # exported once, and no part of the price
    first: list[int] = []

    def told(done: int, total: int) -> None:
        first.append(done)
        progress(done, total)

    with peak_memory(look.device) as peak:
        begun = time.monotonic()
        found = embed(
            base,
            items,
            cache=look.cache,
            key=key,
            device=look.device,
            threads=look.threads,
            progress=told,
            should_stop=wish,
            say=look.steps.say,
        )
        seconds = time.monotonic() - begun
    resumed = bool(first) and first[0] > GPU_BATCH
    return found, None if resumed else Cost(seconds_per_item=seconds / max(1, len(found)), memory_bytes=peak())


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Yields what tells, afterwards, how many bytes were in use at most beyond those at the start."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: max(0, torch.cuda.max_memory_allocated(device) - before)
        return
    process, ended = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not ended.wait(_LOOK):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True, name="memory")
    thread.start()
    try:
        yield lambda: most - before
    finally:
        ended.set()
        thread.join()


def _place(look: Exploration, base: Base, key: str) -> str:
    """The same features cost otherwise on another device or with other threads."""
    return f"{feature_key(base.identity, key, look.device)}:{look.device}:{look.threads or cores()}"


def _keep(look: Exploration, base: Base, key: str, cost: Cost) -> None:
    look.cache.put("costs", _place(look, base, key), lambda path: _write(path, cost.model_dump_json()))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _recalled(look: Exploration, base: Base, key: str) -> Cost | None:
    path = look.cache.get("costs", _place(look, base, key))
    try:
        return None if path is None else Cost.model_validate_json(path.read_bytes())
    except (ValidationError, OSError):
        return None
