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
from worker.engine.methods.maths.subspaces import Map

Array = NDArray[np.float64]
_TINY = 1e-12


class View(NamedTuple):
    """One kind of items as a kernel sees them: features (n, r), and how they came about; None where as they are."""

    features: Array
    kernel: KernelMap | None


class Correlated(NamedTuple):
    """Projections of both kinds, and the regularised correlations (k,) of their axes, the greatest first."""

    source: Projection
    target: Projection
    correlations: Array


def view(x: NDArray[np.floating], landmarks: int, width: float, rng: np.random.Generator) -> View:
    """Items (n, D) under a Gaussian kernel on so many of them, exp(-width d^2 / median); as they are without landmarks.

    Paired or not, all items have a say in it.
    """
    if not landmarks:
        return View(np.asarray(x, dtype=np.float64), None)
    rows = np.sort(rng.choice(len(x), min(landmarks, len(x)), replace=False))
    chosen = np.asarray(x[rows], dtype=np.float64)
    kernel = kernel_map(chosen, width * median_gamma(chosen, chosen[:0], rng))
    return View(kernel(x), kernel)


def correlate(
    source: View, target: View, pairs: tuple[NDArray[np.integer], NDArray[np.integer]], k: int, regularisation: float
) -> Correlated:
    """Projections by the rows (p,), (p,) of source and target that are pairs.

    To each covariance `regularisation` times its mean variance is added. Axes are scaled by their correlation, so that
    a classifier trusts the sure ones.
    """
    ours, theirs = source.features[pairs[0]], target.features[pairs[1]]
    first, second, correlations = canonical(ours, theirs, k, regularisation)
    return Correlated(
        _projection(ours, first * correlations, source.kernel),
        _projection(theirs, second * correlations, target.kernel),
        correlations,
    )


def canonical(x: Array, y: Array, k: int, regularisation: float) -> tuple[Array, Array, Array]:
    """Canonical weights (D, k) and (E, k) of pairs (p, D), (p, E), and their correlations (k,).

    X (X'X + p r I)^-1/2 = U diag(s / sqrt(s^2 + p r)) V': both weights lie in the span of the pairs, so that nothing is
    larger than p x p.
    """
    (u, to_x), (w, to_y) = _whitened(x, regularisation), _whitened(y, regularisation)
    left, correlations, right = np.linalg.svd(u.T @ w, full_matrices=False)
    k = min(k, int((correlations > _TINY).sum()))
    return to_x @ left[:, :k], to_y @ right[:k].T, correlations[:k]


def _whitened(x: Array, regularisation: float) -> tuple[Array, Array]:
    """Pairs (p, q) in axes in which the regularised covariance is I, and the way there (D, q)."""
    centred = x - x.mean(axis=0)
    u, spread, axes = np.linalg.svd(centred, full_matrices=False)
    kept = spread > 1e-8 * max(float(spread[0]), _TINY)
    u, spread, axes = u[:, kept], spread[kept], axes[kept]
    more = regularisation * float(np.square(spread).sum()) / x.shape[1]
    length = np.sqrt(np.square(spread) + more)
    return u * (spread / length), axes.T / length * np.sqrt(len(x))


def _projection(pairs: Array, weight: Array, kernel: KernelMap | None) -> Projection:
    bias = -pairs.mean(axis=0) @ weight
    return Projection(Map((weight if kernel is None else kernel.root @ weight).T, bias), kernel)
