"""Guesses that neighbours pass on to each other: an item among many that look alike is taken for what these are.

Zhou, Bousquet, Lal, Weston, Schoelkopf: Learning with Local and Global Consistency, NeurIPS 2004. Where theirs starts
from a few labels, this starts from what a classifier makes probable of every item.
"""

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths.manifold import cosines, shares
from worker.engine.metrics import Floats

Array = NDArray[np.float64]
_ROUNDS = 30
_TINY = 1e-12


def spread(rows: Floats, odds: Array, *, neighbours: int = 10, share: float = 0.7, power: float = 8.0) -> Array:
    """What items (m, D), as rows of length one, are taken for (m, C), after each has heard its neighbours.

    `odds` (m, C) is what each item's own classifier says; `share` is how much its neighbours count beside that, and a
    neighbour counts by its cosine to this `power`: near ones do, others hardly. Rows sum to one.
    """
    if min(neighbours, len(rows) - 1) < 1:
        return odds
    near = cosines(rows, neighbours).power(power)
    ways = shares(near + near.T)
    found = odds
    for _ in range(_ROUNDS):
        found = share * (ways @ found) + (1 - share) * odds
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), _TINY))
