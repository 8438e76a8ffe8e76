"""How well frozen features suit labels: scores that need no training, and how far two orders agree.

n items, D features, C targets. Labels are classes by number, int (n,), or targets (n, C) of `worker.engine.problems`:
zeros and ones (multi-label) or values (regression); of those each column counts alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import weightedtau

from worker.engine.methods.maths import ridge

Array = NDArray[np.float64]
_SIMILARITIES = 4_000_000  # held in memory at a time
_TEMPERATURE = 0.07
_ROUNDS = 100
_EXACT = 1e-6


def columns(labels: NDArray[Any]) -> Array:
    """Targets (n, C): one column of zeros and ones for each class that occurs, or the columns that are there."""
    if labels.ndim == 2:
        return np.asarray(labels, dtype=np.float64)
    return np.asarray(labels[:, None] == np.unique(labels), dtype=np.float64)


def logme(features: NDArray[np.floating], labels: NDArray[Any]) -> float:
    """Log of the maximum evidence of a Bayesian linear model, per item; the mean over the targets. More is better.

    You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021, by the
    fixed point of their algorithm 3 (no bias; features and targets as they are).
    """
    x, y = np.asarray(features, dtype=np.float64), columns(labels)
    n, width = x.shape
    gram = x @ x.T if n <= width else x.T @ x
    spectrum, axes = np.linalg.eigh(gram)
    kept = spectrum > len(spectrum) * np.finfo(np.float64).eps * max(float(spectrum[-1]), np.finfo(np.float64).tiny)
    spectrum, axes = spectrum[kept], axes[:, kept]
    seen = axes.T @ y if n <= width else (x @ axes).T @ y / np.sqrt(spectrum)[:, None]
    return float(_evidence(spectrum, np.square(seen), np.square(y).sum(axis=0), n).mean() / n)


def _evidence(spectrum: Array, seen: Array, total: Array, n: int) -> Array:
    """Log evidence (C,) at its maximum. `seen` (r, C): squares of the targets along the features' axes (n,)."""
    rest = np.maximum(total - seen.sum(axis=0), 0)
    ratio = np.ones(seen.shape[1])  # alpha / beta, the precision of the weights over that of the noise
    for _ in range(_ROUNDS):
        alpha, beta, _, _ = _precisions(spectrum, seen, rest, ratio, n)
        before, ratio = ratio, np.clip(alpha / beta, 1e-12 * spectrum.max(initial=1), 1e12 * spectrum.max(initial=1))
        if np.all(np.abs(ratio - before) <= _EXACT * before):
            break
    alpha, beta, length, error = _precisions(spectrum, seen, rest, ratio, n)
    spread = np.log1p(spectrum[:, None] / ratio).sum(axis=0)  # log det(I + x x' beta / alpha)
    return np.asarray(0.5 * (n * np.log(beta / (2 * np.pi)) - spread - beta * error - alpha * length))


def _precisions(spectrum: Array, seen: Array, rest: Array, ratio: Array, n: int) -> tuple[Array, Array, Array, Array]:
    """alpha, beta, |weights|^2 and the squared error of the fit, each (C,), at one ratio."""
    wide = spectrum[:, None]
    degrees = (wide / (wide + ratio)).sum(axis=0)
    length = (wide * seen / np.square(wide + ratio)).sum(axis=0)
    error = (seen * np.square(ratio / (wide + ratio))).sum(axis=0) + rest
    tiny = 1e-12 * (length.mean() + error.mean() + 1e-12)
    alpha = np.maximum(degrees, tiny) / np.maximum(length, tiny)
    # The noise is never less than the arithmetic's: a target that is met exactly would have endless evidence.
    beta = np.maximum(n - degrees, tiny) / np.maximum(error, 1e-9 * (seen.sum(axis=0) + rest) + tiny)
    return alpha, beta, length, error


def h_score(features: NDArray[np.floating], labels: NDArray[Any], *, shrink: bool = True) -> float:
    """tr(cov(features)^-1 cov(mean features of the classes)); targets (n, C): the mean over the columns.

    Bao et al.: An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019; shrunk as in
    Ibrahim, Ponomareva, Mazumder: Newer is not always better, 2021 (Ledoit, Wolf, J. Multivariate Analysis 2004): more
    features than items otherwise tell nothing. For a column the conditional mean is the linear one, which for zeros and
    ones is the mean of each of the two.
    """
    y = columns(labels)
    parts = ridge.decompose(features, y)
    n, variance = len(y), parts.spectrum / len(y)
    shrinkage, mean = _ledoit_wolf(parts, features.shape[1]) if shrink else (0.0, 0.0)
    weight = np.square(parts.moment) / ((1 - shrinkage) * variance + shrinkage * mean)[:, None]
    if labels.ndim == 1:
        sizes = n * parts.target_centre  # the moment is the sum of the class's centred features
        return float((1 - shrinkage) * (weight.sum(axis=0) / sizes).sum() / n)
    spread = np.square(parts.targets).sum(axis=0)
    moving = spread > 0
    return float((1 - shrinkage) * (weight.sum(axis=0)[moving] / (n * spread[moving])).mean()) if moving.any() else 0.0


def _ledoit_wolf(parts: ridge.Decomposed, width: int) -> tuple[float, float]:
    """How far the covariance (D, D) is shrunk to a multiple of the identity, and that multiple."""
    n, variance = len(parts.z), parts.spectrum / len(parts.z)
    mean = float(variance.sum()) / width
    apart = float(np.square(variance).sum()) - width * mean * mean
    fourth = float(np.square(parts.squares.sum(axis=1)).sum())
    noise = (fourth / n - float(np.square(variance).sum())) / n
    return (min(noise, apart) / apart if apart > 0 else 1.0), mean


def nearest_neighbours(
    features: NDArray[np.floating],
    labels: NDArray[Any],
    k: int = 5,
    *,
    check: Callable[[], None] = lambda: None,
) -> Array:
    """What the `k` nearest other items say of each, by cosine: scores (n, C), a column per class that occurs.

    A neighbour counts by exp(cosine / 0.07) (Wu et al.: Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination, CVPR 2018). Worked on in blocks of rows; `check` is called once a block and may raise.
    """
    y, n = columns(labels), len(features)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    x = np.asarray(features / np.maximum(length, 1e-12), dtype=np.float32)
    k = min(k, n - 1)
    found = np.empty_like(y)
    step = max(1, _SIMILARITIES // n)
    for start in range(0, n, step):
        check()
        near = x[start : start + step] @ x.T
        rows = np.arange(len(near))
        near[rows, start + rows] = -np.inf
        best = np.argpartition(-near, k - 1, axis=1)[:, :k]
        cosine = np.take_along_axis(near, best, axis=1).astype(np.float64)
        weight = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / _TEMPERATURE)
        found[start : start + step] = np.einsum("nk,nkc->nc", weight / weight.sum(axis=1, keepdims=True), y[best])
    return found


def weighted_kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Weighted Kendall tau of two lists of scores, more being better; nan with fewer than two, or if one is all alike.

    Vigna: A Weighted Correlation Index for Rankings with Ties, WWW 2015, with the usual additive hyperbolic weights
    1 / (rank + 1) by either list's order, averaged: the first places count most, as in You et al., ICML 2021.
    """
    if len(a) < 2:
        return float("nan")
    found: Any = weightedtau(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return float(found.statistic)
