"""Maps that bring two domains together: subspace alignment, CORAL, and what every linear one of them ends as.

n source items, m target items, D features, k axes. All float64; float32 only once a map is a stage of a head.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

from worker.engine.stages import Affine

Array = NDArray[np.float64]
_TINY = 1e-12
_BLOCK = 4096  # rows made float64 at a time


@dataclass(frozen=True)
class Map:
    """x -> x @ weight.T + bias; `weight` is (K, D), `bias` is (K,)."""

    weight: Array
    bias: Array

    def __call__(self, x: NDArray[np.floating]) -> Array:
        """(N, D) becomes (N, K)."""
        return np.asarray(x @ self.weight.T + self.bias, dtype=np.float64)

    def stage(self) -> Affine:
        """The same as a stage of a head."""
        return Affine(self.weight.astype(np.float32), self.bias.astype(np.float32))


class Aligned(NamedTuple):
    """What a source item and what a target item goes through; then one classifier does for both."""

    source: Map
    target: Map


class Moments(NamedTuple):
    """Mean (D,) and covariance (D, D) of some items, and how many they were."""

    mean: Array
    covariance: Array
    items: int


def moments(x: NDArray[np.floating]) -> Moments:
    """Of items (n, D); the covariance is the one divided by n."""
    mean = x.mean(axis=0, dtype=np.float64)
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), _BLOCK):
        centred = x[start : start + _BLOCK] - mean
        total += centred.T @ centred
    return Moments(mean, total / max(1, len(x)), len(x))


def shrunk(x: NDArray[np.floating]) -> Moments:
    """Of items (n, D); where they are no more than features, the covariance is shrunk towards a multiple of I.

    Ledoit, Wolf: A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate Analysis 2004.
    """
    found = moments(x)
    if found.items > len(found.mean):
        return found
    share = float(ledoit_wolf_shrinkage(x - found.mean, assume_centered=True))
    level = np.trace(found.covariance) / len(found.mean)
    return found._replace(covariance=(1 - share) * found.covariance + share * level * np.eye(len(found.mean)))


def principal(x: NDArray[np.floating], k: int) -> tuple[Array, Array]:
    """Mean (D,) and the first axes (D, k) of items (n, D), the longest first; fewer where there are not as many."""
    mean = x.mean(axis=0, dtype=np.float64)
    if len(x) < x.shape[1]:
        centred = x - mean
        spectrum, u = np.linalg.eigh(centred @ centred.T)
        kept = np.flatnonzero(spectrum > _TINY * spectrum[-1])[::-1][:k]
        return mean, centred.T @ (u[:, kept] / np.sqrt(spectrum[kept]))
    spectrum, axes = np.linalg.eigh(moments(x).covariance)
    return mean, axes[:, np.flatnonzero(spectrum > _TINY * spectrum[-1])[::-1][:k]]


def subspace_alignment(source: NDArray[np.floating], target: NDArray[np.floating], k: int) -> Aligned:
    """Source axes turned onto the target's: source items (x - mean) Ps Ps'Pt, target items (x - mean) Pt.

    Fernando, Habrard, Sebban, Tuytelaars: Unsupervised Visual Domain Adaptation Using Subspace Alignment, ICCV 2013.
    """
    source_mean, source_axes = principal(source, k)
    target_mean, target_axes = principal(target, k)
    turned = source_axes @ (source_axes.T @ target_axes)
    return Aligned(
        Map(turned.T, -source_mean @ turned),
        Map(target_axes.T, -target_mean @ target_axes),
    )


def coral(source: NDArray[np.floating], target: NDArray[np.floating], regularisation: float = 1.0) -> Map:
    """The map (D, D) that gives source items the target's mean and covariance: (Cs + r I)^-1/2 (Ct + r I)^1/2.

    r is `regularisation` times the features' mean variance, so that 1 is the paper's I on standardised features.
    Sun, Feng, Saenko: Return of Frustratingly Easy Domain Adaptation, AAAI 2016.
    """
    ours, theirs = regularised(shrunk(source), shrunk(target), regularisation)
    turned = power(ours.covariance, -0.5) @ power(theirs.covariance, 0.5)
    return Map(turned.T, theirs.mean - ours.mean @ turned)


def regularised(source: Moments, target: Moments, regularisation: float) -> tuple[Moments, Moments]:
    """Both with the same multiple of I added: `regularisation` times their mean variance."""
    width = len(source.mean)
    level = float(np.trace(source.covariance) + np.trace(target.covariance)) / (2 * width)
    more = max(regularisation * level, _TINY) * np.eye(width)
    return source._replace(covariance=source.covariance + more), target._replace(covariance=target.covariance + more)


def power(matrix: Array, exponent: float) -> Array:
    """A power of a symmetric positive matrix (D, D)."""
    spectrum, axes = np.linalg.eigh(matrix)
    floor = len(spectrum) * np.finfo(np.float64).eps * max(float(spectrum[-1]), _TINY)
    return np.asarray((axes * np.maximum(spectrum, floor) ** exponent) @ axes.T)
