"""Figures on held-out items. Pure functions on NumPy arrays; C classes, n items."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Z95 = 1.959963984540054


@dataclass(frozen=True)
class ClassFigures:
    """Per class, each of shape (C,)."""

    support: Ints
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def softmax(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """softmax(logits / temperature) over the last axis, in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=-1, keepdims=True)
    return scaled


def nll(logits: Floats, labels: Ints, temperature: float = 1.0) -> float:
    """Mean negative log likelihood in nats of `labels` (n,) under softmax(logits / temperature), logits (n, C)."""
    return float(np.mean(item_nll(logits, labels, temperature)))


def item_nll(logits: Floats, labels: Ints, temperature: float = 1.0) -> NDArray[np.float64]:
    """The same of each item (n,)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    top = scaled.max(axis=1)
    log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return np.asarray(log_sum - scaled[np.arange(len(labels)), labels])


def wilson(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share of `right` in `n` (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share = right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the bound is exact; rounding would put it on the wrong side of the share itself.
    low = 0.0 if right == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if right == n else min(1.0, (centre + half) / scale)
    return low, high


def micro_f1(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """F1 over all pairs of item and class (n, C); 1 where nothing is true and nothing was said."""
    sizes = int(said.sum() + truth.sum())
    return 2.0 * int((said & truth).sum()) / sizes if sizes else 1.0


def average_precision(scores: Floats, truth: NDArray[np.bool_]) -> float:
    """Mean over the classes with positives of the area under precision and recall, (n, C), ties at their worst."""
    found = []
    for column in np.flatnonzero(truth.any(axis=0)):
        order = np.lexsort((truth[:, column], -scores[:, column]))
        hits = truth[order, column]
        ranks = np.flatnonzero(hits) + 1
        found.append(float((np.arange(1, len(ranks) + 1) / ranks).mean()))
    return float(np.mean(found)) if found else 0.0


def r2(predicted: Floats, truth: Floats) -> float:
    """Share of the variance that is explained; 0 where the truth does not vary and is not met exactly."""
    error = float(np.square(np.asarray(truth, np.float64) - predicted).sum())
    spread = float(np.square(np.asarray(truth, np.float64) - np.mean(truth)).sum())
    if spread == 0:
        return 1.0 if error == 0 else 0.0
    return 1 - error / spread


def bootstrap(
    figure: Callable[[Ints], float], n: int, rng: np.random.Generator, *, rounds: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of `figure(indices)` over `rounds` samples of n items with replacement."""
    values = [figure(rng.integers(0, n, n)) for _ in range(rounds)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def confusion(truth: Ints, predicted: Ints, classes: int) -> NDArray[np.int64]:
    """Counts (C, C): rows are the truth, columns the prediction."""
    cells = np.asarray(truth, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def per_class(counts: Ints) -> ClassFigures:
    """Precision, recall and F1 of each class from a confusion matrix (…, C, C); 0 where undefined."""
    right = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    support = counts.sum(axis=-1)
    predicted = counts.sum(axis=-2)
    return ClassFigures(
        support=support,
        precision=_share(right, predicted),
        recall=_share(right, support),
        f1=_share(2 * right, support + predicted),
    )


def macro_f1(counts: Ints) -> NDArray[np.float64]:
    """Mean F1 over the classes that have items, from confusion matrices (…, C, C); shape (…)."""
    figures = per_class(counts)
    present = figures.support > 0
    return _share((figures.f1 * present).sum(axis=-1), present.sum(axis=-1))


def macro_f1_interval(
    counts: Ints, rng: np.random.Generator, *, rounds: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of macro-F1 from one confusion matrix (C, C).

    Drawing n items with replacement is drawing a multinomial over the cells of the matrix, which needs no items. The
    mean is over the classes of the matrix at hand, so a class that a draw happens to miss does not count as zero.
    """
    n = int(counts.sum())
    if n == 0:
        return 0.0, 1.0
    classes = counts.shape[0]
    kept = np.flatnonzero(counts)
    draws = rng.multinomial(n, counts.ravel()[kept] / n, size=rounds)
    rows, columns = np.divmod(kept, classes)
    right = _gather(draws[:, rows == columns], rows[rows == columns], classes)
    support, predicted = _gather(draws, rows, classes), _gather(draws, columns, classes)
    present = support > 0
    f1 = _share(2.0 * right, support + predicted) * present
    values = _share(f1.sum(axis=1), present.sum(axis=1))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _gather(draws: Ints, target: Ints, classes: int) -> NDArray[np.float64]:
    """Sum the columns of (rounds, cells) by class: (rounds, C)."""
    sums = np.zeros((classes, draws.shape[0]))
    np.add.at(sums, target, draws.T)
    return sums.T


def _share(part: Floats, whole: NDArray[np.floating] | Ints) -> NDArray[np.float64]:
    out = np.zeros(np.broadcast_shapes(part.shape, whole.shape), dtype=np.float64)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
