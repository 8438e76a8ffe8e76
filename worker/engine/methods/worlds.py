"""Both domains as a deep training sees them: features that never change, or inputs of a network that learns.

Features of a frozen base model are turned into their principal axes first, of both domains together: a bottleneck on
the first of these learns several times as fast and loses nothing that matters.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from worker.engine.backbones import Backbone
from worker.engine.data import Items
from worker.engine.feeds import Floats, Source, embed_all, feature_feed, source
from worker.engine.heads import Head
from worker.engine.loading import workers
from worker.engine.loop import Feed
from worker.engine.memory import AtATime
from worker.engine.methods.domain_feeds import Kitchen, repeated
from worker.engine.methods.domains import Neck
from worker.engine.methods.maths.logistic import rotate
from worker.engine.methods.network import mixed
from worker.engine.methods.settling import Settled
from worker.engine.stages import Affine, Unit
from worker.engine.task import Task

SCORED = 1000  # items of a domain on which a network in training is scored
AXES = 256  # principal axes of frozen features, at most


@dataclass(frozen=True)
class Seen:
    """Embeddings by the network as it is now."""

    own: Floats
    """Of source items that are learnt from, or some of them (n, D)."""
    validation: Floats
    """Of the source's validation items, or the first of them (v, D)."""
    target: Floats
    """Of target items, or some of them (m, D)."""


class World(Protocol):
    """Both domains as a training sees them: features that never change, or inputs of a network that does."""

    @property
    def backbone(self) -> Backbone | None:
        """What is trained; None where it is features."""

    def feeds(self, steps: int) -> tuple[Feed, Feed]:
        """Batches of the source and of the target, so many an epoch."""

    def embed(self) -> Seen:
        """Both domains by the network as it is now."""

    def neck(self, hidden: int, classes: int) -> Neck:
        """A bottleneck and a classifier that go with these embeddings, with random weights."""

    def served(self, head: Head) -> Head:
        """A head on these embeddings as one on the base model's."""


@contextmanager
def world(task: Task, options: Settled, target: Items) -> Iterator[World]:
    """What the options want."""
    if options.freeze == "all":
        yield _Features(task, options, target)
        return
    with workers(task.threads, "augment") as pool:
        yield _Network(task, options, target, pool)


class _Features:
    """Cached features of the frozen base model, of length one but for tables, in their first principal axes.

    Without a source they stay as they are: a classifier that is there already knows what to do with them.
    """

    backbone = None

    def __init__(self, task: Task, options: Settled, target: Items) -> None:
        self._task, self._options = task, options
        fresh = task.data.hypothesis is None
        self._unit = fresh and task.data.source.modality != "tabular"
        rows = [self._of(part) for part in (task.data.train, task.data.validation, target)]
        self._map = reduced(np.concatenate([rows[0], rows[2]]), task.rng()) if fresh else None
        self._seen = Seen(*(rows if self._map is None else map(self._map, rows)))

    def _of(self, items: Items) -> Floats:
        if len(items) == 0:
            return np.empty((0, self._task.base.identity.card.width), dtype=np.float32)
        found = _finite(self._task.features(items))
        return Unit()(found) if self._unit else found

    def feeds(self, steps: int) -> tuple[Feed, Feed]:
        """Batches of features."""
        nothing = np.full(len(self._seen.target), -1)
        return self._feed(self._seen.own, self._task.data.train.labels, 0, steps), self._feed(
            self._seen.target, nothing, 1, steps
        )

    def _feed(self, features: Floats, labels: NDArray[np.int64], domain: int, steps: int) -> Feed:
        task, size = self._task, self._options.batch_size
        order = repeated(len(features), size, steps, (task.seed, domain))
        return feature_feed(features, labels, batch_size=size, seed=task.seed, device=task.device, order=order)

    def embed(self) -> Seen:
        """The features."""
        return self._seen

    def neck(self, hidden: int, classes: int) -> Neck:
        """On the principal axes."""
        assert self._map is not None
        return Neck(len(self._map.bias), hidden, classes, unit=False)

    def served(self, head: Head) -> Head:
        """The principal axes become part of the bottleneck."""
        if self._map is None:
            return head
        first, *rest = head.before
        assert isinstance(first, Affine)
        whole = Affine(first.weight @ self._map.weight, first.weight @ self._map.bias + first.bias)
        return replace(head, before=(*([Unit()] if self._unit else []), whole, *rest))


def reduced(rows: Floats, rng: np.random.Generator) -> Affine:
    """The map of rows (n, D) to their first principal axes, turned at random; figures are about 1.

    The turn spreads what is in the axes evenly: Adam's steps, which are as long for weights of weak axes as for those
    of strong ones, would learn noise first.
    """
    basis = rotate(rows)
    kept = np.argsort(basis.variance)[::-1][:AXES]
    size = max(float(basis.variance[kept].mean()), 1e-12) ** 0.5
    turn, _ = np.linalg.qr(rng.standard_normal((len(kept), len(kept))))
    weight = np.ascontiguousarray(turn @ basis.axes[:, kept].T / size, dtype=np.float32)
    return Affine(weight, np.asarray(-weight @ basis.centre, dtype=np.float32))


class _Network:
    """A network that learns, and the items as they are put into it."""

    def __init__(self, task: Task, options: Settled, target: Items, pool: ThreadPoolExecutor) -> None:
        self.backbone = copy.deepcopy(task.base.backbone())  # others may still want the frozen one
        self._task, self._pool, self._target = task, pool, target
        self._kitchen = Kitchen(
            self.backbone, options, task.seed, task.device, pool, task.threads + 1, task.wishes.check
        )
        self._autocast = mixed(task.device) if options.mixed_precision else None
        self._sizes = AtATime(task.device)
        rng = task.rng()
        parts = (_some(task.data.train, rng), _some(task.data.validation, None), _some(target, rng))
        self._scored = [source(items, self.backbone, share=0.05) for items in parts]

    def neck(self, hidden: int, classes: int) -> Neck:
        """On embeddings of length one; those of tables stay as they are."""
        card = self.backbone.card
        return Neck(card.width, hidden, classes, unit=card.modality != "tabular")

    def served(self, head: Head) -> Head:
        """The head itself."""
        return head

    def feeds(self, steps: int) -> tuple[Feed, Feed]:
        """Batches of inputs; the target's labels are hidden."""
        hidden = replace(self._target, labels=np.full(len(self._target), -1))
        return self._kitchen.feed(self._task.data.train, 0, steps), self._kitchen.feed(hidden, 1, steps)

    def embed(self) -> Seen:
        """Embeddings of at most so many items of each kind."""
        return Seen(*(self._of(part) for part in self._scored))

    def _of(self, part: Source) -> Floats:
        if len(part.items) == 0:
            return np.empty((0, self.backbone.card.width), dtype=np.float32)
        found = embed_all(
            self.backbone.module,
            part,
            device=self._task.device,
            pool=self._pool,
            autocast=self._autocast,
            check=self._task.wishes.check,
            sizes=self._sizes,
        )
        return _finite(found)


def _some(items: Items, rng: np.random.Generator | None) -> Items:
    """The first items, or, with a generator, any; not more than are scored."""
    if len(items) <= SCORED:
        return items
    chosen = np.arange(SCORED) if rng is None else np.sort(rng.permutation(len(items))[:SCORED])
    return replace(items, indices=items.indices[chosen], labels=items.labels[chosen])


def _finite(features: Floats) -> Floats:
    if np.isfinite(features).all():
        return features
    raise JobError(
        "Some of the network's embeddings are not finite.",
        code="non_finite_loss",
        param="method",
        hint="Lower `head_lr` and `backbone_lr`.",
    )
