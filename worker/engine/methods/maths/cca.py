"""Kernel canonical correlation: projections of two kinds of features in which the two halves of a pair agree.

Hardoon, Szedmak, Shawe-Taylor: Canonical correlation analysis: an overview with application to learning methods, Neural
Computation 2004. p pairs, D and E features (of the items, or of kernels on landmarks), k axes. Where pairs are no more
than features, every correlation could be 1: only the regularised ones say anything.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths.kernels import KernelMap, Projection, kernel_map
from worker.engine.methods.maths.reweighting import median_gamma
from worker.engine.methods.maths.subspaces import Map, moments, power

Array = NDArray[np.float64]


class Correlated(NamedTuple):
    """Projections of both kinds, and the regularised correlations (k,) of their axes, the greatest first."""

    source: Projection
    target: Projection
    correlations: Array


def kernel_cca(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    pairs: tuple[NDArray[np.integer], NDArray[np.integer]],
    *,
    k: int,
    regularisation: float,
    landmarks: int,
    rng: np.random.Generator,
) -> Correlated:
    """From all items (n, D), (m, E) and the rows (p,), (p,) that are pairs.

    The kernels are Gaussian on so many landmarks, linear where that is 0; widths and landmarks come from all items,
    paired or not, the correlations from the pairs. To each covariance `regularisation` times its mean variance is added. Axes
    are scaled by their correlation, so that a classifier trusts the sure ones.
    """
    kernels = [_kernel(x, landmarks, rng) for x in (source, target)]
    ours, theirs = (
        np.asarray(x[rows] if kernel is None else kernel(x[rows]), dtype=np.float64)
        for x, rows, kernel in zip((source, target), pairs, kernels, strict=True)
    )
    weights, correlations = canonical(ours, theirs, k, regularisation)
    source_side, target_side = (
        _projection(x.mean(axis=0), weight * correlations, kernel)
        for x, weight, kernel in zip((ours, theirs), weights, kernels, strict=True)
    )
    return Correlated(source_side, target_side, correlations)


def canonical(x: Array, y: Array, k: int, regularisation: float) -> tuple[tuple[Array, Array], Array]:
    """Canonical weights (D, k) and (E, k) of pairs (p, D), (p, E), and their correlations (k,)."""
    first, second = _whitener(x, regularisation), _whitener(y, regularisation)
    shared = (x - x.mean(axis=0)).T @ (y - y.mean(axis=0)) / len(x)
    left, correlations, right = np.linalg.svd(first @ shared @ second, full_matrices=False)
    k = min(k, len(x) - 1, len(correlations))  # p centred pairs have p - 1 axes
    return (first @ left[:, :k], second @ right[:k].T), correlations[:k]


def _whitener(x: Array, regularisation: float) -> Array:
    covariance = moments(x).covariance
    level = max(regularisation * float(np.trace(covariance)) / len(covariance), 1e-12)
    return power(covariance + level * np.eye(len(covariance)), -0.5)


def _kernel(x: NDArray[np.floating], landmarks: int, rng: np.random.Generator) -> KernelMap | None:
    if not landmarks:
        return None
    rows = np.sort(rng.choice(len(x), min(landmarks, len(x)), replace=False))
    chosen = np.asarray(x[rows], dtype=np.float64)
    return kernel_map(chosen, median_gamma(chosen, chosen[:0], rng))


def _projection(mean: Array, weight: Array, kernel: KernelMap | None) -> Projection:
    bias = -mean @ weight
    return Projection(Map((weight if kernel is None else kernel.root @ weight).T, bias), kernel)
