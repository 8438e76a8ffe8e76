"""The nearest labelled item: the classifier of most published figures of domain adaptation.

Cover, Hart: Nearest neighbor pattern classification, IEEE Transactions on Information Theory 1967.
"""

import numpy as np
from numpy.typing import NDArray

from worker.engine.metrics import Ints

_BLOCK = 1 << 22  # distances held at a time


def nearest_labels(items: NDArray[np.floating], labels: Ints, x: NDArray[np.floating]) -> Ints:
    """The label (n,) of the nearest of the items (m, D), labelled (m,), for each of x (n, D)."""
    half = np.square(items).sum(axis=1) / 2
    rows = max(1, _BLOCK // len(items))
    parts = [(x[start : start + rows] @ items.T - half).argmax(axis=1) for start in range(0, max(len(x), 1), rows)]
    return np.asarray(labels[np.concatenate(parts)])
