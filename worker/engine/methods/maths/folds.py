"""Splitting training items for cross-validation."""

import numpy as np
from numpy.typing import NDArray

from worker.engine.metrics import Ints


def stratified_folds(labels: Ints, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold (0 … folds - 1) in which each of the labels (n,) is held out; classes are spread evenly.

    The only item of a class is never held out (-1): without it the class could not be learnt at all.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % folds  # on through the classes, so that small ones do not fill fold 0
    counts = np.bincount(labels)
    fold[counts[labels] == 1] = -1
    return fold


def balanced_weights(labels: Ints, classes: int) -> NDArray[np.float64]:
    """One weight per item, inverse to its class's frequency, with mean 1 (n,)."""
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    return np.asarray(len(labels) / (present * counts[labels]), dtype=np.float64)
