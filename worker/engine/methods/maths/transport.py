"""Optimal transport of source items onto the target: between Gaussians in closed form, between items by Sinkhorn.

n source items, m target items, D features. Peyre, Cuturi: Computational Optimal Transport, 2019. The solver is POT's
(Flamary et al.: POT: Python Optimal Transport, JMLR 2021).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths import ridge
from worker.engine.methods.maths.subspaces import Map, power, regularised, shrunk
from worker.engine.metrics import Ints
from worker.engine.stages import squared_distances

Array = NDArray[np.float64]
_TOLERANCE = 1e-2  # share of the mass that may lie wrong when a plan counts as found
_ITERATIONS = 1_000
_TRIES = 8  # weights of the entropy, each four times the last
_ROUNDS = 10  # of the class penalty
_FOLLOWING = 1e-3  # penalty of the linear map, in units of the items' mean variance in all axes together


@dataclass(frozen=True)
class Transported:
    """Where source items go."""

    rows: NDArray[np.int64]
    """Which they are, (q,)."""
    items: Array
    """(q, D): the means of the target items that each one's mass goes to."""
    regularisation: float
    """Weight of the entropy at which a plan was found; infinite where there was none."""


def linear_ot(source: NDArray[np.floating], target: NDArray[np.floating], regularisation: float) -> Map:
    """The optimal map between Gaussians of the domains' means and covariances.

    A = Cs^-1/2 (Cs^1/2 Ct Cs^1/2)^1/2 Cs^-1/2; `regularisation` times the features' mean variance is added to both
    covariances. Knott, Smith: On the optimal mapping of distributions, JOTA 1984; Flamary, Lounici, Ferrari:
    Concentration bounds for linear Monge mapping estimation and optimal transport domain adaptation, 2019.
    """
    ours, theirs = regularised(shrunk(source), shrunk(target), regularisation)
    root, inverse = power(ours.covariance, 0.5), power(ours.covariance, -0.5)
    weight = inverse @ power(root @ theirs.covariance @ root, 0.5) @ inverse
    return Map(weight, theirs.mean - weight @ ours.mean)


def sinkhorn(
    source: NDArray[np.floating],
    labels: Ints,
    target: NDArray[np.floating],
    *,
    regularisation: float,
    class_penalty: float,
    most: int = 3_000,
    rng: np.random.Generator,
) -> Transported:
    """Move source items (n, D), labelled (n,), to the barycentres of the target items (m, D) that a plan gives them.

    The cost is the squared distance over the median one, so that `regularisation` is free of units. Plans are of at
    most `most` items of each domain, every class in its share. Courty, Flamary, Tuia, Rakotomamonjy: Optimal Transport
    for Domain Adaptation, IEEE TPAMI 2017.
    """
    rows = _thinned(labels, most, rng)
    if len(target) > most:
        target = target[np.sort(rng.choice(len(target), most, replace=False))]
    cost = squared_distances(source[rows], target).astype(np.float64)
    middle = float(np.median(cost))
    plan, level = class_plan(cost / middle if middle > 0 else cost, labels[rows], regularisation, class_penalty)
    return Transported(rows, barycentres(plan, target), level)


def follow(source: NDArray[np.floating], moved: Array) -> Map:
    """The linear map (D, D) that comes nearest to where source items (q, D) went: the way of items that no plan had.

    Perrot, Courty, Flamary, Habrard: Mapping estimation for discrete optimal transport, NeurIPS 2016.
    """
    parts = ridge.decompose(source, moved)
    return Map(*ridge.solve(parts, _FOLLOWING * float(parts.spectrum.sum()) / len(source)))


def _thinned(labels: Ints, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of about `most` items, as many of each class as its share; one at least."""
    if len(labels) <= most:
        return np.arange(len(labels))
    parts = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        parts.append(rng.choice(own, max(1, len(own) * most // len(labels)), replace=False))
    return np.sort(np.concatenate(parts))


def class_plan(cost: Array, labels: Ints, regularisation: float, penalty: float) -> tuple[Array, float]:
    """A plan (n, m) in which classes share no target items, as far as the `penalty` goes, and its entropy's weight.

    The penalty is the sum over classes and target items of the root of the mass between them; it is concave, and each
    round takes its slope at the last plan for a cost.
    """
    plan, level = _plan(cost, regularisation)
    for _ in range(_ROUNDS if penalty else 0):
        extra = np.zeros_like(cost)
        for label in np.unique(labels):
            share = plan[labels == label].sum(axis=0) * cost.shape[1]
            extra[labels == label] = penalty * _slope(share)
        before = plan
        plan, level = _plan(cost + extra, level)
        if np.abs(plan - before).sum() < _TOLERANCE:
            break
    return plan, level


def _slope(share: Array) -> Array:
    """Of the root at shares in [0, 1]; finite at 0."""
    return np.asarray(0.5 / np.sqrt(share + 1e-3))


def barycentres(plan: Array, target: NDArray[np.floating]) -> Array:
    """Means (n, D) of the target items (m, D), weighed by the rows of a plan (n, m)."""
    return np.asarray(plan @ target / np.maximum(plan.sum(axis=1, keepdims=True), 1e-300))


def _plan(cost: Array, regularisation: float) -> tuple[Array, float]:
    """The entropic plan (n, m) between uniform masses, and the weight of the entropy at which it could be found.

    Iterated in a form that absorbs what would underflow into the potentials; where that is not enough, the entropy
    counts four times as much, until it is.
    """
    from ot.bregman import sinkhorn_stabilized  # slow to import

    level = regularisation
    for _ in range(_TRIES):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # what it would say is looked at below
            plan = sinkhorn_stabilized([], [], cost, level, numItermax=_ITERATIONS, stopThr=1e-6, warn=False)
        if np.isfinite(plan).all() and _error(plan) < _TOLERANCE:
            return plan, level
        level *= 4
    # So much entropy leaves nothing of the cost: every item goes everywhere.
    return np.full(cost.shape, 1 / cost.size), float("inf")


def _error(plan: Array) -> float:
    """Share of the mass that is not where uniform marginals have it."""
    n, m = plan.shape
    return float(np.abs(plan.sum(axis=1) - 1 / n).sum() + np.abs(plan.sum(axis=0) - 1 / m).sum()) / 2
