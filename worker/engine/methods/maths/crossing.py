"""A linear map from one kind of features to another, learnt from pairs; its penalty is chosen by finding partners.

Ridge regression between frozen encoders: Frome et al., DeViSE, NeurIPS 2013; Merullo et al., ICLR 2023. p pairs of E
features and of D, g of the latter different. A pair that is left out takes along all pairs with the same partner: what
is asked is how a partner is found that was never seen.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths import ridge
from worker.engine.metrics import Ints

Array = NDArray[np.float64]
_FEWEST = 5
"""Different partners; where there are fewer, each pair is left out alone."""
_MOST = 2000
"""Pairs that the penalty is chosen on."""
_PENALTIES = 12
_FAVOURS = np.linspace(0, 1.5, 61)
_WORTH = 0.2
"""Harmonic mean of accuracies under which nothing can be said."""


class Crossing(NamedTuple):
    """The map x -> `weight` x + `bias`, (D, E) and (D,), and how well it finds partners."""

    weight: Array
    bias: Array
    centre: Array
    """Mean of the partners, (D,)."""
    penalty: float
    """Relative to the mean squared length of the centred features."""
    found: float
    """Mean reciprocal rank of the true one among all g partners, of pairs that were left out."""
    chance: float
    """What guessing would reach."""
    parts: ridge.Decomposed
    """The pairs that it was learnt from."""

    def without(self, group: Ints) -> Array:
        """What each of the pairs would become (p, D) by a map that was learnt without its group (p,)."""
        return left_out(self.parts, self.penalty * _spread(self.parts), group)


def cross(x: Array, y: Array, partner: Ints, penalty: float | None, rng: np.random.Generator) -> Crossing:
    """Learn the map from features x (p, E) to y (p, D); `partner` (p,) numbers the different rows of y from 0 on."""
    parts = ridge.decompose(x, y)
    chosen, found, chance = _choose(x, y, partner, penalty, rng)
    weight, bias = ridge.solve(parts, chosen * _spread(parts))
    return Crossing(weight, bias, parts.target_centre, chosen, found, chance, parts)


def left_out(parts: ridge.Decomposed, penalty: float, group: Ints) -> Array:
    """What each of the pairs would become (p, D) by a map without all pairs of its `group` (p,), without refitting.

    With H the hat matrix, residuals r of a group G that is left out are (I - H_GG)^-1 r_G.
    """
    n = len(parts.z)
    shrinking = 1 / (parts.spectrum + n * penalty)
    residual = parts.targets - (parts.z * shrinking) @ parts.moment
    leverage = 1 / n + parts.squares @ shrinking
    without = residual / np.maximum(1 - leverage, 1e-10)[:, None]
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(rows) > 1:
            hat = (parts.z[rows] * shrinking) @ parts.z[rows].T + 1 / n
            without[rows] = np.linalg.solve((1 + 1e-10) * np.eye(len(rows)) - hat, residual[rows])
    return parts.targets - without + parts.target_centre


def reciprocal_rank(made: Array, partners: Array, partner: Ints, centre: Array) -> float:
    """Mean of 1 / place of the true one among the `partners` (g, D), by the cosine about the centre."""
    scores = unit(made - centre) @ unit(partners - centre).T
    true = scores[np.arange(len(made)), partner]
    return float((1 / (scores >= true[:, None] - 1e-12).sum(axis=1)).mean())


def favour(seen: Array, unseen: Array, truth: Ints, unpaired: NDArray[np.bool_]) -> float:
    """What is added to the cosines of `unpaired` classes (C,), which a map that has never met them lets come too short.

    Calibrated stacking (Chao et al., ECCV 2016): cosines (p, C) of pairs as they are if their class was learnt from,
    and if it was not; the harmonic mean of both accuracies chooses, the middle of what is best. 0 where nothing is.
    """
    own = np.arange(len(truth))
    found = np.zeros(len(_FAVOURS))
    for number, more in enumerate(_FAVOURS):
        bonus = more * unpaired
        known = float(((seen + bonus).argmax(axis=1) == truth).mean())
        scores = unseen + bonus
        scores[own, truth] += more
        new = float((scores.argmax(axis=1) == truth).mean())
        found[number] = 2 * known * new / max(known + new, 1e-12)
    best = np.flatnonzero(found >= found.max() - 1e-9)
    return float(_FAVOURS[best[len(best) // 2]]) if found.max() >= _WORTH else 0.0


def unit(x: Array) -> Array:
    """Rows of length one."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12))


def _choose(
    x: Array, y: Array, partner: Ints, penalty: float | None, rng: np.random.Generator
) -> tuple[float, float, float]:
    """The relative penalty under which partners are found best, the greatest of equal ones; how well, and by chance."""
    rows = np.sort(rng.choice(len(x), _MOST, replace=False)) if len(x) > _MOST else np.arange(len(x))
    parts = ridge.decompose(x[rows], y[rows])
    _, first, partner = np.unique(partner[rows], return_index=True, return_inverse=True)
    partners, group = y[rows][first], partner if len(first) >= _FEWEST else np.arange(len(rows))
    spread = _spread(parts)
    grid = ridge.penalty_grid(parts, _PENALTIES) / spread if penalty is None else np.array([penalty])
    found = [
        reciprocal_rank(left_out(parts, one * spread, group), partners, partner, parts.target_centre) for one in grid
    ]
    best = int(np.argmax(found))
    return float(grid[best]), found[best], float((1 / np.arange(1, len(first) + 1)).mean())


def _spread(parts: ridge.Decomposed) -> float:
    return float(parts.spectrum.sum()) / len(parts.z) or 1.0
