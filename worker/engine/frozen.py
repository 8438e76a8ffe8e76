"""Features of the frozen base model as a job needs them: each data set's read from the cache, or made, once."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from worker.engine.backbones import Backbone, Base
from worker.engine.cache import CacheFolder
from worker.engine.data import Collection, Items
from worker.engine.features import cached, embed, forget
from worker.engine.feeds import embed_all, source
from worker.engine.loading import workers
from worker.engine.steps import Steps, Wishes
from worker.engine.stored import DamagedError, Features

Floats = NDArray[np.float32]


class FrozenFeatures:
    """Features of the frozen base model, each data set's read or made once."""

    def __init__(
        self,
        base: Base,
        cache: CacheFolder,
        *,
        device: torch.device,
        threads: int,
        steps: Steps,
        wishes: Wishes,
        target: Base | None = None,
    ) -> None:
        """`target` is the base model of the new domain, where it is of another kind than the source."""
        self.base, self.cache, self.device, self.threads = base, cache, device, threads
        self.target = target or base
        self._steps, self._wishes = steps, wishes
        self._known: dict[str, Features] = {}

    @property
    def mixed(self) -> bool:
        """Whether source and target have base models of their own."""
        return self.target is not self.base

    def base_of(self, collection: Collection) -> Base:
        """The base model that a data set's items go through."""
        return self.base if collection.role == "source" else self.target

    @property
    def exact(self) -> bool:
        """Whether they are as exact as the network's own figures on a CPU."""
        return self.device.type == "cpu" and self.cache.features == "fp32"

    def __call__(self, items: Items) -> Floats:
        """Features (n, D) of the items; only their rows are read."""
        try:
            return self._of(items.collection).rows(items.indices)
        except DamagedError:
            self._steps.say("The features on disk were damaged: they are made again.")
            key = items.collection.ref.manifest_sha256
            forget(self.base_of(items.collection).identity, key, self.cache, self.device)
            self._known[key] = self._embed(items.collection)
            return self._known[key].rows(items.indices)

    def of(self, base: Base) -> "FrozenFeatures":
        """The same of another base model."""
        return FrozenFeatures(
            base, self.cache, device=self.device, threads=self.threads, steps=self._steps, wishes=self._wishes
        )

    def load(self, collections: list[Collection]) -> str:
        """Read or make the features of all data sets; returns a note for the step."""
        made = 0
        for collection in collections:
            key = collection.ref.manifest_sha256
            found = cached(self.base_of(collection).identity, key, self.cache, self.device)
            if found is None:
                found = self._embed(collection)
                made += len(found)
            self._known[key] = found
        return f"{made} items embedded" if made else "from cache"

    def _of(self, collection: Collection) -> Features:
        key = collection.ref.manifest_sha256
        if key not in self._known:
            self._known[key] = self._embed(collection)
        return self._known[key]

    def _embed(self, collection: Collection) -> Features:
        return embed(
            self.base_of(collection),
            collection.reader,
            cache=self.cache,
            key=collection.ref.manifest_sha256,
            device=self.device,
            threads=self.threads,
            progress=lambda done, total: self._steps.progress("features", done / total),
            should_stop=self._wishes.ask,
            say=self._steps.say,
        )


def embeddings_of(backbone: Backbone, items: Items, frozen: FrozenFeatures, check: Callable[[], None]) -> Floats:
    """Embeddings (n, D) of items by a network that was trained."""
    module = backbone.module.to(frozen.device)
    with workers(frozen.threads, "evaluate") as pool:
        seen = source(items, frozen.base, share=0)
        return embed_all(module, seen, device=frozen.device, pool=pool, check=check)
