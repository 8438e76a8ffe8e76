"""Axes along which two domains look alike while items still differ: TCA, and JDA, which looks at each class, too.

n source items, m target items, D features, r features of the kernel's (`maths.kernels`), k axes. Both maximise the
variance of what is projected against the distance of the domains' means, as a generalised *symmetric* eigenproblem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from worker.engine.methods.maths.kernels import KernelMap, Projection, kernel_map, pick_landmarks
from worker.engine.methods.maths.reweighting import median_gamma
from worker.engine.methods.maths.subspaces import Map
from worker.engine.metrics import Ints

Array = NDArray[np.float64]
Classify = Callable[[Array, Ints, Array], Ints]
"""Labels (m,) of items (m, k) by labelled ones (n, k), (n,)."""
_FLOOR = 1e-9
_ROWS = 2048  # features made at a time


class _Sums(NamedTuple):
    """Of one domain's features: how many items, their mean (r,), and the sum of their outer products (r, r)."""

    items: int
    mean: Array
    gram: Array


@dataclass(frozen=True)
class _Domains:
    """Both domains' features, as far as an eigenproblem needs them, scaled to a mean squared length of 1."""

    source: Array
    """The source's mean (r,)."""
    target: Array
    gram: Array
    """Sum of all rows' outer products (r, r)."""
    scatter: Array
    """The same of the centred rows."""
    scale: float


def tca(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    k: int,
    mu: float,
    landmarks: int = 0,
    gamma: float | None = None,
    rng: np.random.Generator,
) -> Projection:
    """Transfer component analysis of items (n, D), (m, D): the first k of eigh(K H K, K L K + mu I).

    The kernel is linear without `landmarks`; with some it is Gaussian, exact where there are no more items than them,
    Nystrom's approximation otherwise. `mu` counts for a kernel whose diagonal has the mean 1. Nothing is larger than
    r x r but the items themselves.
    Pan, Tsang, Kwok, Yang: Domain Adaptation via Transfer Component Analysis, IEEE Trans. Neural Networks 2011.
    """
    kernel = _kernel(source, target, landmarks, gamma, rng) if landmarks else None
    domains = _domains(_summed(source, kernel), _summed(target, kernel))
    # K = F F', so that K's own columns lie in the span of F: W = U B loses nothing, and n x n becomes r x r.
    spectrum, axes = eigh(domains.gram)
    kept = spectrum > _FLOOR * spectrum[-1]
    dual = axes[:, kept] * np.sqrt(spectrum[kept])  # K U = F V S
    apart = dual.T @ (domains.source - domains.target)
    found = dual @ _leading(dual.T @ domains.scatter @ dual, np.outer(apart, apart), mu, k)
    weight = domains.scale * found if kernel is None else kernel.root @ (domains.scale * found)
    return Projection(Map(weight.T, np.zeros(weight.shape[1])), kernel)


def jda(
    source: NDArray[np.floating],
    labels: Ints,
    target: NDArray[np.floating],
    *,
    k: int,
    mu: float,
    rounds: int,
    classify: Classify,
) -> Projection:
    """Joint distribution adaptation: as TCA, and each class's means are brought together, by pseudo-labels.

    The target's labels are guessed by `classify` in the last round's projection, none in the first one. The projection
    itself is penalised by `mu` (the paper's primal form), for features whose mean squared length is 1.
    Long, Wang, Ding, Sun, Yu: Transfer Feature Learning with Joint Distribution Adaptation, ICCV 2013.
    """
    domains = _domains(_summed(source, None), _summed(target, None))
    guessed: Ints | None = None
    weight = np.empty((0, 0))
    for _ in range(max(1, rounds)):
        apart = domains.scale**2 * _joint(source, labels, target, guessed)
        weight = domains.scale * _leading(domains.scatter, apart, mu, k)
        before, guessed = guessed, classify(_projected(source, weight), labels, _projected(target, weight))
        if before is not None and np.array_equal(before, guessed):
            break
    return Projection(Map(weight.T, np.zeros(weight.shape[1])))


def unit(x: Array) -> Array:
    """Rows (n, k) of length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _projected(x: NDArray[np.floating], weight: Array) -> Array:
    """Items (n, D) by a weight (D, k), each of length 1; in the items' own precision, for the sake of memory."""
    return unit(np.asarray(x @ weight.astype(x.dtype), dtype=np.float64))


def _kernel(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    landmarks: int,
    gamma: float | None,
    rng: np.random.Generator,
) -> KernelMap:
    width = median_gamma(np.asarray(source), np.asarray(target), rng) if gamma is None else gamma
    return kernel_map(pick_landmarks(source, target, landmarks, rng), width)


def _summed(x: NDArray[np.floating], kernel: KernelMap | None) -> _Sums:
    """Block by block, in double precision."""
    total, gram = np.zeros(1), np.zeros((1, 1))
    for start in range(0, len(x), _ROWS):
        block = x[start : start + _ROWS]
        features = np.asarray(block if kernel is None else kernel(block), dtype=np.float64)
        total = total + features.sum(axis=0)
        gram = gram + features.T @ features
    return _Sums(len(x), total / len(x), gram)


def _domains(source: _Sums, target: _Sums) -> _Domains:
    items = source.items + target.items
    mean = (source.items * source.mean + target.items * target.mean) / items
    gram = source.gram + target.gram
    square = items / max(float(np.trace(gram)), 1e-300)
    scatter = square * (gram - items * np.outer(mean, mean))
    scale = float(np.sqrt(square))
    return _Domains(scale * source.mean, scale * target.mean, square * gram, scatter, scale)


def _joint(source: NDArray[np.floating], labels: Ints, target: NDArray[np.floating], guessed: Ints | None) -> Array:
    """Squared distances of the means, of all items and of each class that has items in both, as a matrix (D, D).

    Its scale is the paper's: the whole counts as often as there are classes, and the matrix of the items' coefficients
    has Frobenius norm 1.
    """
    classes = int(labels.max()) + 1
    ours = np.full((len(source), 1), classes**0.5 / len(source))
    theirs = np.full((len(target), 1), classes**0.5 / len(target))
    if guessed is not None:
        both = np.intersect1d(labels, guessed)
        ours = np.hstack([ours, _shares(labels, both)])
        theirs = np.hstack([theirs, _shares(guessed, both)])
    apart = source.T @ ours.astype(source.dtype) - target.T @ theirs.astype(target.dtype)
    size = float(np.linalg.norm(ours.T @ ours + theirs.T @ theirs))
    return np.asarray(apart @ apart.T / size, dtype=np.float64)


def _shares(labels: Ints, classes: Ints) -> Array:
    """(n, C): 1 / the items of a class for its items, 0 for the others'."""
    found = (labels[:, None] == classes).astype(np.float64)
    return np.asarray(found / found.sum(axis=0))


def _leading(scatter: Array, apart: Array, mu: float, k: int) -> Array:
    """The k first generalised eigenvectors (r, k) of (scatter, apart + mu I), the largest first."""
    r = len(scatter)
    _, found = eigh(scatter, apart + mu * np.eye(r), subset_by_index=(max(0, r - k), r - 1))
    return np.asarray(found[:, ::-1])
