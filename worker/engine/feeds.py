"""Batches for the loop, and embeddings of a network in training. Threads prepare ahead while the device works."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.engine import augment
from worker.engine.images import ImageCache, normalise, to_inputs
from worker.engine.loading import in_order
from worker.engine.loop import Batch, Feed
from worker.engine.memory import AtATime

Floats = NDArray[np.float32]


def shuffled(items: int, batch_size: int, seed: Sequence[int]) -> list[NDArray[np.int64]]:
    """Positions 0 … items - 1 in random order, in batches of nearly the same size, none above `batch_size`."""
    order = np.random.default_rng(seed).permutation(items)
    return np.array_split(order, -(-items // batch_size))


def feature_feed(
    features: Floats, labels: NDArray[np.int64], *, batch_size: int, seed: int, device: torch.device
) -> Feed:
    """Batches of cached features (n, D)."""
    x, y = torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device)

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        for part in shuffled(len(labels), batch_size, (seed, epoch))[skip:]:
            chosen = torch.from_numpy(part).to(device)
            yield Batch(x[chosen], y[chosen])

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
) -> Feed:
    """Batches of images (n, 3, S, S), augmented by `recipe`; without one they are as `prepare` makes them.

    `check` is called while a batch is awaited, and may raise.
    """
    labels = torch.from_numpy(images.items.labels)

    def feed(epoch: int, skip: int = 0) -> Iterator[Batch]:
        def make(part: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None]:
            if recipe is None:
                return _stack([images.centre(int(i)) for i in part]), labels[part], None
            views, factors = zip(
                *(
                    augment.draw(images.whole(i), images.config, recipe, np.random.default_rng((seed, epoch, i)))
                    for i in map(int, part)
                ),
                strict=True,
            )
            return _stack(views), labels[part], torch.from_numpy(np.stack(factors)) if recipe.jitter else None

        parts = shuffled(len(images.items), batch_size, (seed, epoch))[skip:]
        for pixels, truth, factors in in_order(pool, make, parts, ahead=ahead, check=check):
            yield Batch(_on_device(pixels, factors, images, device), truth.to(device, non_blocking=True))

    return feed


def _stack(views: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(views))


def _on_device(pixels: Tensor, factors: Tensor | None, images: ImageCache, device: torch.device) -> Tensor:
    pixels = pixels.to(device, non_blocking=True)
    if factors is None:
        return to_inputs(pixels, images.config)
    values = augment.jitter(pixels.permute(0, 3, 1, 2).float() / 255, factors.to(device))
    return normalise(values, images.config).contiguous(memory_format=torch.channels_last)


def embed_images(
    module: nn.Module,
    images: ImageCache,
    *,
    device: torch.device,
    pool: ThreadPoolExecutor,
    autocast: torch.dtype | None = None,
    batch_size: int = 32,
    check: Callable[[], None] = lambda: None,
    sizes: AtATime | None = None,
) -> Floats:
    """Embeddings (n, D) of images as `prepare` makes them, by a network on `device`, in evaluation mode.

    `sizes` is told, and tells the next call, how many go through the network at a time if memory does not suffice.
    """
    module.eval()
    sizes = sizes or AtATime(device)
    positions = np.arange(len(images.items))
    parts = np.array_split(positions, max(1, -(-len(positions) // batch_size)))

    def embedding(pixels: Tensor, size: int) -> list[Floats]:
        chunks = pixels.tensor_split(max(1, -(-len(pixels) // size)))
        return [module(to_inputs(chunk.to(device), images.config)).float().cpu().numpy() for chunk in chunks]

    def decoded(part: NDArray[np.int64]) -> Tensor:
        return _stack([images.centre(int(i)) for i in part])

    found: list[Floats] = []
    with torch.inference_mode(), torch.autocast(device.type, autocast, enabled=autocast is not None):
        for pixels in in_order(pool, decoded, parts, ahead=4, check=check):
            check()
            found += sizes.attempt(len(pixels), partial(embedding, pixels))
    return np.concatenate(found)
