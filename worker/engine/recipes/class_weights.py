"""Weights that make every class count alike, however many items it has.

King, Zeng: Logistic regression in rare events data, Political Analysis 2001.
"""

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Problem

LARGEST = 100.0  # of a weight in `multi_label`: a label with one positive among thousands would be all the gradient


def balanced(problem: Problem, targets: NDArray[np.generic], outputs: int) -> NDArray[np.float32] | None:
    """One weight per class (C,), or None where there are no classes.

    `classification`, targets (n,): inverse to the class's frequency, with mean 1 over the items. `multi_label`, targets
    (n, C): what a positive counts, the negatives per positive.
    """
    if problem == "regression":
        return None
    if problem == "classification":
        counts = np.bincount(np.asarray(targets, dtype=np.int64), minlength=outputs)
        present = np.count_nonzero(counts)
        return np.asarray(len(targets) / (present * np.maximum(counts, 1)), dtype=np.float32)
    positives = np.asarray(targets, dtype=np.float64).sum(axis=0)
    weights = (len(targets) - positives) / np.maximum(positives, 1)
    return np.asarray(np.clip(weights, 1 / LARGEST, LARGEST), dtype=np.float32)
