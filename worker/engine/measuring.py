"""A few timed steps on the device: what an estimate rests on where nothing of the kind has run there yet.

What is timed is the real thing: the job's own data, network and code, only on a handful of items. Batches grow from two
items on, so that neither time nor memory runs out before it is known what the wanted size would take.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from core.contract.base import new_id
from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.contract.methods import Auto, FineTune
from core.contract.prepare import TextPrepare
from core.estimating.course import course_of
from core.estimating.observing import Epoch, Spent
from core.recipes import Facts, Settled, resolve
from worker.engine import devices
from worker.engine.backbones import Base
from worker.engine.batches import padded, usual
from worker.engine.cache import CacheFolder
from worker.engine.checkpoint import Checkpoints
from worker.engine.costs import Costs, HeardSteps
from worker.engine.data import Collection, Items, JobData, class_counts
from worker.engine.door import Inputs, Places, ShouldStop
from worker.engine.features import cached, embed, forget
from worker.engine.frozen import FrozenFeatures
from worker.engine.graph import backbone_graph, known_graph
from worker.engine.hypothesis import job_data
from worker.engine.job import open_job_base
from worker.engine.methods import fine_tune
from worker.engine.methods.registry import METHODS
from worker.engine.steps import Wishes
from worker.engine.task import Task

SECONDS = 10.0
_TRAIN_SECONDS = 15.0
_EMBED_SHARE = 0.3  # of the time, where there is training to be timed, too
_FEW = 8  # items that warm things up
_TOKENISED = 64
_SIZES = (2, 8)  # batches before the wanted one
_EPOCHS = 4  # at most, of the wanted batch: the median of all but the first is kept
_PATIENCE = 1.5  # items of a larger batch cost less than those of a small one
_ROOM = 0.7  # of the memory that is free: a larger batch than fits in there is not tried


def measure(spec: JobSpec, inputs: Inputs, places: Places, *, should_stop: ShouldStop) -> list[Spent]:
    """Time what the job would do; each of the results tells something else, `core.estimating.observe` reads them.

    Where the base model still has to be exported, that is all that is done, and one of the results has
    `graph_seconds`: the export leaves so much in its process that a job's memory has to be measured in another one.

    Raises what the job itself would raise before it computes anything, and `CancelledError`.
    """
    end = time.monotonic() + SECONDS
    wishes, costs = Wishes(should_stop), Costs(_silent)
    steps = HeardSteps(costs, {"prepare": 1.0})
    with steps.step("prepare"):
        threads, device = devices.use_threads(places.threads), devices.choose(places.device)
        cache = CacheFolder(places.cache, places.cache_bytes, features=places.features)
        data = job_data(spec, inputs, measured=spec.method.makes_model)
        base = open_job_base(spec, inputs, places, cache, data)
    try:
        costs.opened(base, data, cache, device, threads)
        bench = _Bench(spec, data, base, cache, device, threads, wishes, places.out, end)
        options = bench.options()
        seconds: dict[str, Any] = {}
        if METHODS[spec.method.name].needs_features(spec.method):
            with steps.step("features"):
                exported = bench.export()
                seconds = {"graph_seconds": exported} if exported else bench.embedding(trains=options is not None)
            if exported:
                costs.closed(base, data, cache)
                return [costs.spent(**seconds)]
        costs.closed(base, data, cache)
        resolved = None if options is None else options.model_dump(mode="json")
        found = [costs.spent(resolved=resolved, **seconds)]
        if options is not None and course_of(options, None, modality=data.source.modality).network:
            found += bench.trainings(options, costs)
        return found
    finally:
        data.close()


@dataclass(frozen=True)
class _Bench:
    """What is measured on."""

    spec: JobSpec
    data: JobData
    base: Base
    cache: CacheFolder
    device: torch.device
    threads: int
    wishes: Wishes
    out: Path
    end: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def options(self) -> Settled | None:
        """The training by gradient descent that the job contains, with nothing left open."""
        method = self.spec.method
        if not isinstance(method, (FineTune, Auto)) or self.data.target is not None:
            return None
        facts = Facts(
            modality=self.data.source.modality,
            problem=self.data.problem,
            train_items=len(self.data.train),
            card=self.base.identity.card,
            class_counts=tuple(map(int, class_counts(self.data))),
            device=self.device.type,
            gpus=1,
        )
        return resolve(method if isinstance(method, FineTune) else FineTune(), facts)[0]

    def export(self) -> float | None:
        """Seconds to export the network; None where that is done already, or not needed."""
        if self.device.type != "cpu" or known_graph(self.base, self.cache) is not None:
            return None
        begun = time.monotonic()
        backbone_graph(self.base, self.cache)
        return time.monotonic() - begun

    def embedding(self, *, trains: bool) -> dict[str, Any]:
        """Seconds to embed all items of the source; a job opens the network's session, too, so once is counted."""
        found: dict[str, Any] = {"graph_seconds": None, "embed_seconds": None}
        source = self.data.collections[0]
        if cached(self.base.identity, source.ref.manifest_sha256, self.cache, self.device) is not None:
            return found
        total = len(source.manifest.items)
        few = min(_FEW, total)
        first = self._embed(source, few)
        room = max(1.0, (_EMBED_SHARE if trains else 0.8) * self.left)
        more = min(total, max(2 * few, int(few * room / max(first, 1e-3))))
        second = self._embed(source, more) if more > few else first
        rate = (second - first) / (more - few) if more > few and second > first else second / more
        return found | {"embed_seconds": second + rate * (total - more), "embed_items": total}

    def _embed(self, source: Collection, count: int) -> float:
        """Seconds to embed so many items, small and large ones; they are not kept."""
        key = new_id("mea")
        chosen = typical([item.size for item in source.manifest.items], count)
        begun = time.monotonic()
        embed(
            self.base,
            Items(source, chosen, np.empty(0)),
            cache=self.cache,
            key=key,
            device=self.device,
            threads=self.threads,
            should_stop=self.wishes.ask,
        )
        seconds = time.monotonic() - begun
        forget(self.base.identity, key, self.cache, self.device)
        return seconds

    def trainings(self, options: Settled, costs: Costs) -> Iterator[Spent]:
        """Short trainings with growing batches up to the wanted one, as far as time and memory allow.

        The first warms up, and tells what the next ones may need; of its seconds nothing is kept.
        """
        bench = replace(self, end=time.monotonic() + _TRAIN_SECONDS)
        wanted = options.batch_size
        sizes = sorted({size for size in _SIZES if size < wanted} | {wanted})
        size, epochs = sizes[0], 2
        while (seen := bench.training(options, size, epochs, costs.again())) is not None:
            warm = size == min(_SIZES) < wanted
            yield seen.model_copy(update={"epochs": [] if warm else bench.as_padded(seen.epochs, size)})
            sizes = [one for one in sizes if one > size]
            pace = Pace.of(seen, size)
            if pace is None or (size := pace.largest(sizes, bench.left, bench._free())) == 0:
                return
            epochs = 2 if size < wanted else pace.affordable(size, bench.left)

    def as_padded(self, epochs: list[Epoch], size: int) -> list[Epoch]:
        """What the job's own batches of that size would have taken: fewer texts have less choice of like ones."""
        if self.data.source.modality != "text":
            return epochs
        share = self._padding(self.data.train, size) / self._padding(self._timed(size), size)
        return [epoch.model_copy(update={"seconds": share * epoch.seconds}) for epoch in epochs]

    def _padding(self, items: Items, size: int) -> float:
        """Tokens of a text in batches of that size."""
        prepare = self.base.identity.card.prepare
        most = prepare.max_tokens if isinstance(prepare, TextPrepare) else math.inf
        lengths = np.clip(np.polyval(self._tokens_of_bytes, items.sizes()), 1, most)
        return padded(lengths, usual(items, size, self.spec.seed)(1))

    @cached_property
    def _tokens_of_bytes(self) -> NDArray[np.float64]:
        """A straight line through a few texts that are not cut."""
        few, prepare = _some(self.data.train, _TOKENISED), self.base.preparer()
        sizes = np.array(few.sizes())
        tokens = np.array([len(prepare(few.item(position))[0]) for position in range(len(few))])
        whole = tokens < tokens.max()
        if len(np.unique(sizes[whole])) < 2:
            return np.array([tokens.sum() / max(1, sizes.sum()), 0.0])
        return np.asarray(np.polyfit(sizes[whole], tokens[whole], 1))

    def _free(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available)

    def _timed(self, size: int) -> Items:
        """Training items of a step or two, small and large ones."""
        return _some(self.data.train, _steps(size) * size)

    def training(self, options: Settled, size: int, epochs: int, costs: Costs) -> Spent | None:
        """Epochs of a step or two; None where there are too few items, or it failed as the job would not."""
        data = replace(
            self.data, train=self._timed(size), validation=_some(self.data.validation, min(32, _steps(size) * size))
        )
        own = {
            "batch_size": size,
            "epochs": epochs,
            "early_stop": None,
            "head_start": False,
            "wise_ft": None,
            "devices": 1,
        }
        steps = HeardSteps(costs, {"train": 1.0})
        costs.trains_on(data)
        frozen = FrozenFeatures(
            self.base, self.cache, device=self.device, threads=self.threads, steps=steps, wishes=self.wishes
        )
        task = Task(
            options.model_copy(update=own),
            data,
            self.base,
            frozen,
            self.device,
            self.threads,
            self.spec.seed,
            steps,
            self.wishes,
            costs,
            Checkpoints(self.out, _silent, {}, every=math.inf),
        )
        with contextlib.suppress(JobError):
            with steps.step("train"):
                fine_tune.run(task)
            return costs.spent(resolved=options.model_dump(mode="json") | {"batch_size": size})
        return None


@dataclass(frozen=True)
class Pace:
    """What a training with batches of `size` took: what larger ones may be tried goes by that."""

    size: int
    each: float
    """Seconds of an item."""
    held: int
    """Bytes beyond those before the training."""

    @classmethod
    def of(cls, seen: Spent, size: int) -> "Pace | None":
        """None where it was not all measured."""
        if not seen.epochs or seen.peak is None or seen.start_bytes is None:
            return None
        return cls(size, seen.epochs[-1].seconds / seen.epochs[-1].items, seen.peak - seen.start_bytes)

    def largest(self, sizes: Sequence[int], seconds: float, free: float) -> int:
        """The largest batch that would be done in so many seconds, and fit into so many bytes; 0: none."""
        fit = [
            size
            for size in sizes
            if 2 * _steps(size) * size * self.each < _PATIENCE * seconds
            and self.held * (size / self.size - 1) < _ROOM * free
        ]
        return max(fit, default=0)

    def affordable(self, size: int, seconds: float) -> int:
        """Epochs, of which the first is not counted; more than one other, where there is time: steps are uneven."""
        return int(min(max(seconds / (_steps(size) * size * self.each), 2), _EPOCHS))


def _steps(size: int) -> int:
    """Steps of an epoch: one of a large batch takes long enough to be timed."""
    return 2 if size <= _SIZES[-1] else 1


def _some(items: Items, count: int) -> Items:
    """Fewer of them, small and large ones."""
    chosen = typical(items.sizes(), min(count, len(items)))
    return Items(items.collection, items.indices[chosen], items.labels[chosen])


def typical(sizes: Sequence[int], count: int) -> NDArray[np.intp]:
    """So many positions, in their order, at even quantiles of the size: long texts cost more, and set a batch's length.

    A handful in the order of the data set may all be short ones.
    """
    by_size = np.argsort(sizes, kind="stable")
    return np.sort(by_size[((np.arange(count) + 0.5) * len(sizes) / max(1, count)).astype(np.intp)])


def _silent(kind: Any, data: dict[str, Any]) -> None:
    """Nobody listens."""
