"""What a shift does to the classes: pseudo-labels, class shares of the target, how far each class has moved.

Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors, ICML 2018; Azizzadenesheli,
Liu, Yang, Anandkumar: Regularized Learning for Domain Adaptation under Label Shifts, ICLR 2019; Rabanser, Günnemann,
Lipton: Failing Loudly, NeurIPS 2019. n source and m target items on r principal axes of both together, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths.folds import stratified_folds
from worker.engine.methods.maths.shift import Array, Floats, shrunk_covariance

Ints = NDArray[np.int64]
_FOLDS = 5
_RESAMPLES = 200
_HELD = 0.01  # how strongly the ratios of the shares are held at 1


@dataclass(frozen=True)
class Guessed:
    """Classes by a linear discriminant that learnt from the source, all classes being equally likely."""

    source: Ints
    """Of each source item by a fit without its fold, (n,)."""
    target: Ints
    """Pseudo-labels, (m,)."""


def guess(source: Floats, labels: Ints, target: Floats, classes: int, rng: np.random.Generator) -> Guessed:
    """Pseudo-labels for the target (m, r), and the source's (n, r) own, cross-validated."""
    fold = stratified_folds(labels, _FOLDS, rng)
    own = _nearest(source, labels, source, classes)
    for number in range(_FOLDS):
        held = fold == number
        if held.any() and not held.all():
            own[held] = _nearest(source[~held], labels[~held], source[held], classes)
    return Guessed(own, _nearest(source, labels, target, classes))


def _nearest(x: Floats, labels: Ints, asked: Floats, classes: int) -> Ints:
    """The class (q,) whose mean is nearest to each asked item (q, r), by the shrunk covariance within classes."""
    counts = np.bincount(labels, minlength=classes)
    means = class_means(x, labels, classes)
    weight = np.linalg.solve(shrunk_covariance(x - means[labels]), means.T)
    scores = asked @ weight - np.einsum("cr,rc->c", means, weight) / 2
    return np.asarray(np.where(counts > 0, scores, -np.inf).argmax(axis=1), dtype=np.int64)


def class_means(x: Floats, labels: Ints, classes: int) -> Array:
    """Mean of each class's items (C, r); zeros where it has none."""
    member = np.eye(classes)[labels]
    return np.asarray((member.T @ x) / np.maximum(member.sum(axis=0), 1)[:, None])


@dataclass(frozen=True)
class Priors:
    """The classes' shares in source and target."""

    source: Array
    """(C,)"""
    target: Array
    """Estimated, (C,)."""
    distance: float
    """Half the sum of the differences (total variation), 0 … 1; its interval by resampling."""
    low: float
    high: float
    p_value: float
    """That the predicted classes are as frequent in the target as in the source, by permutation."""


def priors(labels: Ints, guessed: Guessed, classes: int, count: int, rng: np.random.Generator) -> Priors:
    """Estimate the target's class shares from how often each class is predicted there and mistaken in the source."""
    n, m = len(labels), len(guessed.target)
    joint = np.bincount(guessed.source * classes + labels, minlength=classes**2).reshape(classes, classes) / n
    said = np.bincount(guessed.target, minlength=classes) / m
    shares, found = joint.sum(axis=0), _shares(joint[None], said[None])[0]
    again = max(20, min(_RESAMPLES, 200_000_000 // classes**3))
    joints = rng.multinomial(n, joint.ravel(), size=again).reshape(again, classes, classes) / n
    drawn = _shares(joints, rng.multinomial(m, said, size=again) / m)
    distances = np.abs(drawn - joints.sum(axis=1)).sum(axis=1) / 2
    distance = float(np.abs(found - shares).sum() / 2)
    # Resampling adds to a distance; the pivotal interval takes as much off again.
    high, low = np.clip(2 * distance - np.quantile(distances, [0.025, 0.975]), 0, 1)
    p_value = _alike(np.bincount(guessed.source, minlength=classes), np.round(said * m).astype(np.int64), count, rng)
    return Priors(shares, found, distance, float(low), max(distance, float(high)), p_value)


def _shares(joint: Array, said: Array) -> Array:
    """Shares (B, C) of the target from B confusion matrices (B, C predicted, C true) and predicted shares (B, C)."""
    classes = joint.shape[-1]
    across = joint.transpose(0, 2, 1)
    missed = (across @ (said - joint.sum(axis=2))[:, :, None])[:, :, 0]
    held = _HELD * np.square(joint).sum(axis=(1, 2)) / classes
    ratio = 1 + np.linalg.solve(across @ joint + held[:, None, None] * np.eye(classes), missed[:, :, None])[:, :, 0]
    found = np.maximum(ratio, 0) * joint.sum(axis=1)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _alike(source: Ints, target: Ints, count: int, rng: np.random.Generator) -> float:
    """P-value of the chi-squared distance of two histograms (C,) among `count` ways to deal out the same items."""
    both = source + target
    seen = both > 0
    expected = both[seen] * (source.sum() / both.sum())
    dealt = rng.multivariate_hypergeometric(both[seen], int(source.sum()), size=count, method="marginals")
    far = (np.square(dealt - expected) / expected).sum(axis=1)
    found = float((np.square(source[seen] - expected) / expected).sum())
    return float((1 + np.count_nonzero(far >= found * (1 - 1e-9))) / (1 + count))


def reweighted_mmd(kernel: Floats, weights: Array) -> float:
    """The unbiased squared discrepancy of the target from source items that count by `weights` (n,); (N, N) kernel."""
    n = len(weights)
    m = len(kernel) - n
    own = float(weights @ kernel[:n, :n] @ weights) / float(weights.sum() ** 2 - np.square(weights).sum())
    other = float(kernel[n:, n:].sum(dtype=np.float64)) / (m * (m - 1))
    across = float(weights @ kernel[:n, n:].sum(axis=1, dtype=np.float64)) / (float(weights.sum()) * m)
    return own + other - 2 * across


@dataclass(frozen=True)
class Moves:
    """How far the classes have moved from source to target."""

    distance: Array
    """Of the class means, in units of how far a class's items lie from their mean, (C,); NaN where none were found."""
    common: float
    """Share of it that is one move of all classes together, 0 … 1."""


def moves(source: Floats, labels: Ints, target: Floats, pseudo: Ints, classes: int) -> Moves:
    """Distances of each class's source mean from the mean of the target items taken for it.

    In many dimensions two means of few items lie apart by chance; what chance brings is taken off.
    """
    counts = np.array([np.bincount(found, minlength=classes) for found in (labels, pseudo)])
    means = [class_means(x, found, classes) for x, found in ((source, labels), (target, pseudo))]
    spread = np.array([_spread(source, labels, means[0], counts[0]), _spread(target, pseudo, means[1], counts[1])])
    chance = (spread / np.maximum(counts, 1)).sum(axis=0)
    apart = means[1] - means[0]
    unit = float((spread[0] * counts[0]).sum() / counts[0].sum())
    squared = np.maximum(np.square(apart).sum(axis=1) - chance, 0)
    found = counts.min(axis=0) >= 2
    weight = np.where(found, counts.min(axis=0), 0).astype(np.float64)
    weight /= max(weight.sum(), 1.0)
    together = float(np.square(weight @ apart).sum()) - float(np.square(weight) @ chance)
    total = float(weight @ squared)
    common = min(max(together, 0.0) / total, 1.0) if total > 0 else 0.0
    distance = np.sqrt(squared / unit) if unit > 0 else np.zeros(classes)
    return Moves(np.where(found, distance, np.nan), common)


def _spread(x: Floats, labels: Ints, means: Array, counts: Ints) -> Array:
    """Mean squared distance of each class's items from their mean (C,), without bias."""
    squared = np.bincount(labels, weights=np.square(x - means[labels]).sum(axis=1), minlength=len(counts))
    return np.asarray(squared / np.maximum(counts - 1, 1))
