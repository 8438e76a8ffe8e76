"""Batches for the loop, and embeddings of a network in training. Threads prepare ahead while the device works."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.contract.prepare import ImagePrepare
from worker.engine import augment
from worker.engine.backbones import Base
from worker.engine.batches import Order, all_shuffled, usual
from worker.engine.data import Items
from worker.engine.images import ImageCache, normalise, to_inputs
from worker.engine.loading import in_order
from worker.engine.loop import Batch, Feed
from worker.engine.memory import AtATime
from worker.engine.prepared import PreparedItems

Floats = NDArray[np.float32]


Part = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""What of a batch, by its positions, is wanted here."""


def _whole(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions


def feature_feed(
    features: Floats,
    labels: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    order: Order | None = None,
) -> Feed:
    """Batches of cached features (n, D); those of `order`, or else every item once in an epoch."""
    x, y = torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device)
    order = order or all_shuffled(len(labels), batch_size, seed)

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        for part in order(epoch)[skip:]:
            chosen = torch.from_numpy(part).to(device)
            yield Batch((x[chosen],), y[chosen])

    return feed


def image_feed(
    images: ImageCache,
    recipe: augment.Recipe | None,
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    pool: ThreadPoolExecutor,
    ahead: int,
    check: Callable[[], None] = lambda: None,
    part: Part = _whole,
    order: Order | None = None,
) -> Feed:
    """Batches of images (n, 3, S, S), augmented by `recipe`; without one they are as `prepare` makes them.

    `check` is called while a batch is awaited, and may raise. `part` takes what is wanted here of each batch, which
    are those of `order`, or else every item once in an epoch.
    """
    labels = torch.from_numpy(images.items.labels)
    order = order or all_shuffled(len(images.items), batch_size, seed)

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        def make(chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None]:
            if recipe is None:
                return _stack([images.centre(int(i)) for i in chosen]), labels[chosen], None
            views, factors = zip(
                *(
                    augment.draw(images.whole(i), images.config, recipe, np.random.default_rng((seed, epoch, i)))
                    for i in map(int, chosen)
                ),
                strict=True,
            )
            return _stack(views), labels[chosen], torch.from_numpy(np.stack(factors)) if recipe.jitter else None

        parts = map(part, order(epoch)[skip:])
        for pixels, truth, factors in in_order(pool, make, parts, ahead=ahead, check=check):
            yield Batch((_on_device(pixels, factors, images, device),), truth.to(device, non_blocking=True))

    return feed


def item_feed(
    items: PreparedItems,
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    pool: ThreadPoolExecutor,
    ahead: int,
    check: Callable[[], None] = lambda: None,
    part: Part = _whole,
    order: Order | None = None,
) -> Feed:
    """Batches of texts or rows as their preparation makes them; `part` and `order` as for images.

    By itself a text stands with others of about its length, since a batch is padded to its longest.
    """
    labels = torch.from_numpy(items.items.labels)
    order = order or usual(items.items, batch_size, seed)

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        parts = map(part, order(epoch)[skip:])
        made = in_order(pool, lambda chosen: (items.load(chosen), labels[chosen]), parts, ahead=ahead, check=check)
        for inputs, truth in made:
            yield Batch(items.finish(inputs, device), truth.to(device, non_blocking=True))

    return feed


def _stack(views: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(views))


def _on_device(pixels: Tensor, factors: Tensor | None, images: ImageCache, device: torch.device) -> Tensor:
    pixels = pixels.to(device, non_blocking=True)
    if factors is None:
        return to_inputs(pixels, images.config)
    values = augment.jitter(pixels.permute(0, 3, 1, 2).float() / 255, factors.to(device))
    return normalise(values, images.config).contiguous(memory_format=torch.channels_last)


class Source(Protocol):
    """Items as a network takes them: `load` in threads, `finish` where the device is fed."""

    @property
    def items(self) -> Items:
        """Which items."""

    def load(self, positions: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Items of those positions, as they are prepared, on the CPU."""

    def finish(self, inputs: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
        """The network's inputs on the device."""


def source(items: Items, base: Base, *, share: float) -> Source:
    """Items as the base model prepares them, kept in that share of the memory that is free now."""
    config = base.identity.card.prepare
    if isinstance(config, ImagePrepare):
        return ImageCache(items, config, share=share)
    return PreparedItems(items, base.preparer(), share=share)


def embed_all(
    module: nn.Module,
    source: Source,
    *,
    device: torch.device,
    pool: ThreadPoolExecutor,
    autocast: torch.dtype | None = None,
    batch_size: int = 32,
    check: Callable[[], None] = lambda: None,
    sizes: AtATime | None = None,
) -> Floats:
    """Embeddings (n, D) of items as `prepare` makes them, by a network on `device`, in evaluation mode.

    `sizes` is told, and tells the next call, how many go through the network at a time if memory does not suffice.
    """
    module.eval()
    sizes = sizes or AtATime(device)
    order = _by_length(source.items)
    parts = np.array_split(order, max(1, -(-len(order) // batch_size)))

    def embedding(inputs: tuple[Tensor, ...], size: int) -> list[Floats]:
        count = max(1, -(-len(inputs[0]) // size))
        chunks = zip(*(part.tensor_split(count) for part in inputs), strict=True)
        return [module(*source.finish(chunk, device)).float().cpu().numpy() for chunk in chunks]

    found: list[Floats] = []
    with torch.inference_mode(), torch.autocast(device.type, autocast, enabled=autocast is not None):
        for inputs in in_order(pool, source.load, parts, ahead=4, check=check):
            check()
            found += sizes.attempt(len(inputs[0]), partial(embedding, inputs))
    rows = np.concatenate(found)
    whole = np.empty_like(rows)
    whole[order] = rows
    return whole


def _by_length(items: Items) -> NDArray[np.int64]:
    """Positions of texts from the longest to the shortest, so that little is padded; of other items as they stand."""
    if items.collection.manifest.modality != "text":
        return np.arange(len(items))
    return np.argsort([-size for size in items.sizes()], kind="stable")
