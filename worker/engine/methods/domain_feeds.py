"""Batches of two domains: as many source as target items, source inputs first."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.contract.prepare import ImagePrepare
from worker.engine import augment
from worker.engine.backbones import Backbone
from worker.engine.batches import Order
from worker.engine.data import Items
from worker.engine.feeds import image_feed, item_feed
from worker.engine.images import ImageCache
from worker.engine.loop import Batch, Feed
from worker.engine.methods.settling import Settled
from worker.engine.prepared import PreparedItems
from worker.engine.recipes.warp import draw, warp

SHARE = 0.2  # of the memory that is free, for the prepared items of each domain


def repeated(items: int, batch_size: int, steps: int, seed: tuple[int, ...]) -> Order:
    """Batches of just `batch_size` for so many steps an epoch: one permutation after the other, as far as it takes."""

    def order(epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng((*seed, epoch))
        rounds = [rng.permutation(items) for _ in range(-(-steps * batch_size // items))]
        return np.split(np.concatenate(rounds)[: steps * batch_size], steps)

    return order


def paired(source: Feed, target: Feed) -> Feed:
    """A batch of each at once; labels are the source's."""

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        for one, other in zip(source(epoch, skip), target(epoch, skip), strict=True):
            yield Batch((*one.inputs, *other.inputs), one.labels)

    return feed


def in_turn(source: Feed, target: Feed, epochs: int) -> Feed:
    """Source items alone in the first `epochs`, target items alone after them."""

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        return (source if epoch <= epochs else target)(epoch, skip)

    return feed


def warped(feed: Feed, seed: tuple[int, ...]) -> Feed:
    """Every image of a batch turned, shifted and scaled a little, by (seed, epoch, batch) alone."""

    def changed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(feed(epoch, skip), skip):
            rng = np.random.default_rng((*seed, epoch, number))
            yield Batch(tuple(warp(part, draw(len(part), rng)) for part in batch.inputs), batch.labels)

    return changed


@dataclass(frozen=True)
class Kitchen:
    """What batches of a network's inputs are made with."""

    backbone: Backbone
    options: Settled
    seed: int
    device: torch.device
    pool: ThreadPoolExecutor
    ahead: int
    """Batches begun before they are wanted."""
    check: Callable[[], None]

    def feed(self, items: Items, domain: int, steps: int) -> Feed:
        """Batches of items of one domain, by its number: augmented images, or texts and rows as they are."""
        seed, config = (self.seed, domain), self.backbone.card.prepare
        common: dict[str, Any] = {
            "batch_size": self.options.batch_size,
            "seed": self.seed,
            "device": self.device,
            "pool": self.pool,
            "ahead": self.ahead,
            "check": self.check,
            "order": repeated(len(items), self.options.batch_size, steps, seed),
        }
        if not isinstance(config, ImagePrepare):
            return item_feed(PreparedItems(items, self.backbone.preparer(), share=SHARE), **common)
        images = ImageCache(items, config, share=SHARE)
        if self.options.augmentation == "affine":
            return warped(image_feed(images, None, **common), seed)
        recipe = augment.recipe(self.options.augmentation, horizontal_flip=self.options.horizontal_flip)
        return image_feed(images, recipe, **common)
