"""Which training items stand together in a batch, epoch by epoch."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from worker.engine.data import Items

Batches = list[NDArray[np.int64]]
Order = Callable[[int], Sequence[NDArray[np.int64]]]
"""The positions of every batch of an epoch (from 1); the same ones each time."""
_STRETCH = 16  # batches whose items are sorted together: the longer, the less is padded, and the less is left to chance


def usual(items: Items, batch_size: int, seed: int) -> Order:
    """Every item once in an epoch: texts with others of about their length, anything else at random."""
    if items.collection.manifest.modality == "text":
        return of_like_size(items.sizes(), batch_size, seed)
    return all_shuffled(len(items), batch_size, seed)


def all_shuffled(items: int, batch_size: int, seed: int) -> Order:
    """Every item once in an epoch, at random."""
    return lambda epoch: shuffled(items, batch_size, (seed, epoch))


def of_like_size(sizes: Sequence[int], batch_size: int, seed: int) -> Order:
    """Every item once in an epoch, in batches of items of like size, for what is padded to the largest of its batch.

    Batches at random of texts of very different lengths are padding to a large part. Items are shuffled, sorted by
    size within each stretch of batches, and the batches come in random order: that is what `group_by_length` of
    transformers does, but for the last.
    """
    known = np.asarray(sizes)

    def order(epoch: int) -> Batches:
        rng = np.random.default_rng((seed, epoch))
        found: Batches = []
        parts = shuffled(len(known), batch_size, (seed, epoch))
        for begin in range(0, len(parts), _STRETCH):
            stretch = parts[begin : begin + _STRETCH]
            items = np.concatenate(stretch)
            by_size = items[np.argsort(known[items], kind="stable")]
            found += np.split(by_size, np.cumsum([len(part) for part in stretch])[:-1])
        return [rng.permutation(found[i]) for i in rng.permutation(len(found))]

    return order


def shuffled(items: int, batch_size: int, seed: Sequence[int]) -> Batches:
    """Positions 0 … items - 1 in random order, in batches of nearly the same size, none above `batch_size`."""
    order = np.random.default_rng(seed).permutation(items)
    return np.array_split(order, -(-items // batch_size))


def padded(lengths: Sequence[float] | NDArray[np.floating], batches: Sequence[NDArray[np.int64]]) -> float:
    """Mean length of an item in these batches, each padded to its longest."""
    known = np.asarray(lengths)
    return sum(float(known[part].max()) * len(part) for part in batches) / sum(map(len, batches))
