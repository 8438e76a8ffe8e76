"""Axes along which two domains look alike while items still differ: TCA, and JDA, which looks at each class, too.

n source items, m target items, D features, r features of the kernel's (`maths.kernels`), k axes. Both maximise the
variance of what is projected against the distance of the domains' means, as a generalised *symmetric* eigenproblem.
"""

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class _Domains:
    """Both domains' features: the source's (n, r), the target's (m, r), their mean (r,), their scatter (r, r)."""

    source: Array
    target: Array
    mean: Array
    scatter: Array
    """Sum of the centred rows' outer products."""

    def turned(self, axes: Array) -> "_Domains":
        """The same in other axes (r, q)."""
        return _Domains(self.source @ axes, self.target @ axes, self.mean @ axes, axes.T @ self.scatter @ axes)


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
    Nystrom's approximation otherwise. `mu` counts for a kernel whose diagonal has the mean 1.
    Pan, Tsang, Kwok, Yang: Domain Adaptation via Transfer Component Analysis, IEEE Trans. Neural Networks 2011.
    """
    kernel = _kernel(source, target, landmarks, gamma, rng)
    domains, scale = _featurise(source, target, kernel)
    # K = F F', so K's own columns lie in the span of F: W = U B loses nothing, and n x n becomes r x r.
    gram = domains.scatter + (len(source) + len(target)) * np.outer(domains.mean, domains.mean)
    spectrum, axes = eigh(gram)
    kept = spectrum > _FLOOR * spectrum[-1]
    dual = axes[:, kept] * np.sqrt(spectrum[kept])  # K U = F V S
    inside = domains.turned(dual)
    apart = inside.source.mean(axis=0) - inside.target.mean(axis=0)
    found = dual @ _leading(inside.scatter, np.outer(apart, apart), mu, k)
    return _projection(found, scale, kernel)


def jda(
    source: NDArray[np.floating],
    labels: Ints,
    target: NDArray[np.floating],
    *,
    k: int,
    mu: float,
    rounds: int,
    classify: Classify,
    landmarks: int = 0,
    gamma: float | None = None,
    rng: np.random.Generator,
) -> Projection:
    """Joint distribution adaptation: as TCA, and each class's means are brought together, by pseudo-labels.

    The target's labels are guessed by `classify` in the last round's projection, none in the first one. The projection
    itself is penalised by `mu` (the paper's primal form), for features whose mean squared length is 1.
    Long, Wang, Ding, Sun, Yu: Transfer Feature Learning with Joint Distribution Adaptation, ICCV 2013.
    """
    kernel = _kernel(source, target, landmarks, gamma, rng)
    domains, scale = _featurise(source, target, kernel)
    guessed: Ints | None = None
    found = np.empty((0, 0))
    for _ in range(max(1, rounds)):
        found = _leading(domains.scatter, _joint(domains, labels, guessed), mu, k)
        before, guessed = guessed, classify(unit(domains.source @ found), labels, unit(domains.target @ found))
        if before is not None and np.array_equal(before, guessed):
            break
    return _projection(found, scale, kernel)


def unit(x: Array) -> Array:
    """Rows (n, k) of length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _kernel(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    landmarks: int,
    gamma: float | None,
    rng: np.random.Generator,
) -> KernelMap | None:
    if not landmarks:
        return None
    width = median_gamma(np.asarray(source), np.asarray(target), rng) if gamma is None else gamma
    return kernel_map(pick_landmarks(source, target, landmarks, rng), width)


def _featurise(
    source: NDArray[np.floating], target: NDArray[np.floating], kernel: KernelMap | None
) -> tuple[_Domains, float]:
    """Both domains' features, scaled so that their mean squared length is 1, and the scale."""
    ours, theirs = (np.asarray(x if kernel is None else kernel(x), dtype=np.float64) for x in (source, target))
    total = len(ours) + len(theirs)
    mean = (ours.sum(axis=0) + theirs.sum(axis=0)) / total
    gram = ours.T @ ours + theirs.T @ theirs
    scale = 1 / np.sqrt(max(float(np.trace(gram)) / total, 1e-300))
    scatter = (gram - total * np.outer(mean, mean)) * scale**2
    return _Domains(ours * scale, theirs * scale, mean * scale, scatter), scale


def _joint(domains: _Domains, labels: Ints, guessed: Ints | None) -> Array:
    """Squared distances of the means, of all items and of each class that has items in both, as a matrix (r, r).

    Its scale is the paper's: the whole counts as often as there are classes, and the matrix of the items' coefficients
    has Frobenius norm 1.
    """
    classes = int(labels.max()) + 1
    ours = np.full((len(labels), 1), classes**0.5 / len(labels))
    theirs = np.full((len(domains.target), 1), classes**0.5 / len(domains.target))
    if guessed is not None:
        both = np.intersect1d(labels, guessed)
        ours = np.hstack([ours, _shares(labels, both)])
        theirs = np.hstack([theirs, _shares(guessed, both)])
    apart = domains.source.T @ ours - domains.target.T @ theirs
    size = float(np.linalg.norm(ours.T @ ours + theirs.T @ theirs))
    return np.asarray(apart @ apart.T / size)


def _shares(labels: Ints, classes: Ints) -> Array:
    """(n, C): 1 / the items of a class for its items, 0 for the others'."""
    found = (labels[:, None] == classes).astype(np.float64)
    return np.asarray(found / found.sum(axis=0))


def _leading(scatter: Array, apart: Array, mu: float, k: int) -> Array:
    """The k first generalised eigenvectors (r, k) of (scatter, apart + mu I), the largest first."""
    r = len(scatter)
    _, found = eigh(scatter, apart + mu * np.eye(r), subset_by_index=(max(0, r - k), r - 1))
    return np.asarray(found[:, ::-1])


def _projection(found: Array, scale: float, kernel: KernelMap | None) -> Projection:
    """A projection (r, k) of scaled features, as a map of what comes in."""
    weight = scale * found if kernel is None else kernel.root @ (scale * found)
    return Projection(Map(weight.T, np.zeros(found.shape[1])), kernel)
