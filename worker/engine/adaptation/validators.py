"""What the target's items and a classifier's answers to them say without labels. Pure functions on arrays.

n source items, m target items, D features, C classes. None of these is accuracy; the best of them ranks candidates with
a rank correlation of about .6. They are for throwing out what has gone wrong and for voting, not for measuring.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import expit, softmax

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
_TINY = 1e-12
_AXES = 32  # principal components in which domains are told apart
_STEPS = 25
_RIDGE = 1.0


def predicted(logits: Floats) -> NDArray[np.int64]:
    """Class (m,) of the greatest logit."""
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def histogram(labels: Ints, classes: int) -> Array:
    """Share of each class (C,)."""
    return np.bincount(labels, minlength=classes) / max(1, len(labels))


def entropy(shares: Floats) -> Array:
    """In nats, over the last axis."""
    p = np.asarray(shares, dtype=np.float64)
    return np.asarray(-(p * np.log(np.maximum(p, _TINY))).sum(axis=-1))


def evenness(labels: Ints, classes: int) -> float:
    """Entropy of the predicted labels' histogram as a share of the most it could be: 0 where all is one class."""
    return float(entropy(histogram(labels, classes)) / np.log(classes))


def lost_classes(labels: Ints, classes: int) -> NDArray[np.int64]:
    """Classes that no item was taken for."""
    return np.flatnonzero(np.bincount(labels, minlength=classes) == 0)


def information(logits: Floats) -> float:
    """Entropy of the mean answer less the mean answer's entropy (m, C), as a share of log C: sure of each, even in all.

    Shi, Sha: Information-Theoretical Learning of Discriminative Clusters, ICML 2012.
    """
    p = softmax(np.asarray(logits, dtype=np.float64), axis=1)
    return float((entropy(p.mean(axis=0)) - entropy(p).mean()) / np.log(p.shape[1]))


def centred(x: Floats, *, unit: bool = True) -> Array:
    """Features about their domain's own mean, rows of length one where wanted, else columns of spread one."""
    z = np.asarray(x, dtype=np.float64)
    if not unit:
        spread = z.std(axis=0)
        return np.asarray((z - z.mean(axis=0)) / np.maximum(spread, max(1e-3 * float(spread.mean()), 1e-9)))
    z = rows(z)
    return rows(z - z.mean(axis=0))


def rows(z: Array) -> Array:
    """Each row at length one."""
    return np.asarray(z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), _TINY))


def class_means(z: Floats, labels: Ints, classes: int) -> Array:
    """(C, D) of rows (m, D); zeros where a class has none."""
    members = np.eye(classes)[labels]
    return np.asarray(members.T @ z / np.maximum(members.sum(axis=0), 1)[:, None])


def nearest_mean_agreement(z: Floats, labels: Ints, classes: int) -> float:
    """Share of items (m, D) whose own class's mean, taken without them, is the nearest, beyond what chance would give.

    Chance is what two draws from the labels' histogram have in common, so that few or uneven classes earn nothing.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    means = class_means(z, labels, classes)
    distance = np.square(z).sum(axis=1)[:, None] - 2 * z @ means.T + np.square(means).sum(axis=1)
    distance[:, counts == 0] = np.inf
    own = np.arange(len(labels)), labels
    # A mean without the item itself lies farther off by n / (n - 1); the only item of a class has no class to be near.
    distance[own] *= (counts / np.maximum(counts - 1, _TINY))[labels] ** 2
    return beyond_chance(distance.argmin(axis=1), labels, classes)


def neighbour_agreement(z: Floats, labels: Ints, classes: int, k: int = 5) -> float:
    """Share of items whose k nearest neighbours (cosine) bear their label, beyond chance."""
    near = rows(np.asarray(z, dtype=np.float64))
    likeness = near @ near.T
    np.fill_diagonal(likeness, -np.inf)
    k = min(k, len(labels) - 1)
    found = labels[np.argpartition(-likeness, k - 1, axis=1)[:, :k]]
    same = float((found == labels[:, None]).mean())
    chance = float(np.square(histogram(labels, classes)).sum())
    return (same - chance) / max(1 - chance, _TINY) if chance < 1 else 0.0


def between_variance(z: Floats, labels: Ints, classes: int) -> float:
    """Share of the variance that lies between the class means: 0 … 1."""
    counts = np.bincount(labels, minlength=classes)
    means = class_means(z, labels, classes) - z.mean(axis=0)
    total = float(np.square(z - z.mean(axis=0)).sum())
    return float((counts * np.square(means).sum(axis=1)).sum() / max(total, _TINY))


def agreement(first: Ints, second: Ints) -> float:
    """Share of items that two classifiers give the same label."""
    return float((first == second).mean())


def beyond_chance(first: Ints, second: Ints, classes: int) -> float:
    """Cohen's kappa: agreement of two labellings beyond what their histograms alone would give."""
    chance = float(histogram(first, classes) @ histogram(second, classes))
    return (agreement(first, second) - chance) / (1 - chance) if chance < 1 - _TINY else 0.0


@dataclass(frozen=True)
class Kinship:
    """How alike two domains arrange the classes that both have."""

    mean: float
    """Mean cosine of a class's mean here and there, less that of two different classes: 1 alike, 0 unrelated."""
    margins: Array
    """For each class (B,), its cosine with itself less that with the likest other class there."""

    @property
    def misplaced(self) -> float:
        """Share of the classes that are liker to another class there than to themselves."""
        return float((self.margins < 0).mean()) if len(self.margins) else 1.0


def kinship(zs: Floats, ys: Ints, zt: Floats, labels: Ints, classes: int, *, fewest: int = 3) -> Kinship:
    """Compare the class means of source (n, D) and target (m, D), in which `labels` are guesses.

    The means are taken about their own mean, so that neither the domains' shift nor their shares of classes count.
    Classes with under `fewest` items are left out. A class that was made up by splitting another one, as happens where
    the target has fewer classes than the source, has a negative margin.
    """
    counts = np.minimum(*(np.bincount(y, minlength=classes) for y in (ys, labels)))
    both = np.flatnonzero(counts >= fewest)
    if len(both) < 2:
        return Kinship(0.0, np.empty(0))
    first, second = (class_means(z, y, classes)[both] for z, y in ((zs, ys), (zt, labels)))
    cosines = rows(first - first.mean(axis=0)) @ rows(second - second.mean(axis=0)).T
    own = np.diag(cosines)
    others = (float(cosines.sum()) - float(own.sum())) / (len(both) * (len(both) - 1))
    likest = np.where(np.eye(len(both), dtype=bool), -np.inf, cosines).max(axis=1)
    return Kinship((float(own.mean()) - others) / (1 + 1 / (len(both) - 1)), own - likest)


@dataclass(frozen=True)
class DomainWeights:
    """How much more likely each source item is in the target, with mean 1 (n,), and how well domains are told apart."""

    weights: Array
    effective: float
    """Effective sample size as a share of the source's."""
    separation: float
    """Balanced accuracy of the classifier that tells domains apart, on the items it was fitted on: 0.5 … 1."""


def domain_weights(zs: Floats, zt: Floats) -> DomainWeights:
    """By a penalised logistic regression on principal components of both domains (Bickel et al., ICML 2007)."""
    x = np.vstack([zs, zt]).astype(np.float64)
    x = x - x.mean(axis=0)
    keep = min(_AXES, len(x) - 1, x.shape[1])
    small = len(x) < x.shape[1]
    scatter = x @ x.T if small else x.T @ x
    values, vectors = eigh(scatter, subset_by_index=[len(scatter) - keep, len(scatter) - 1])
    z = vectors * np.sqrt(len(x)) if small else x @ vectors / np.sqrt(np.maximum(values / len(x), _TINY))
    is_target = np.concatenate([np.zeros(len(zs)), np.ones(len(zt))])
    score = _logistic(z, is_target)
    raw = np.exp(np.clip(score[: len(zs)], -20, 20))
    weights = np.minimum(raw, np.quantile(raw, 0.99)) if len(raw) > 100 else raw
    weights = weights / weights.mean()
    right = 0.5 * ((score[: len(zs)] < 0).mean() + (score[len(zs) :] > 0).mean())
    return DomainWeights(weights, float(weights.sum() ** 2 / np.square(weights).sum() / len(weights)), float(right))


def _logistic(z: Array, y: Array) -> Array:
    """Scores of a ridge-penalised logistic regression in which both classes count the same; Newton's method."""
    x = np.column_stack([z, np.ones(len(z))])
    share = np.where(y > 0, 0.5 / max(y.mean(), _TINY), 0.5 / max(1 - y.mean(), _TINY))
    penalty = np.diag([*[_RIDGE] * z.shape[1], 1e-6])
    beta = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = expit(x @ beta)
        gradient = x.T @ (share * (p - y)) + penalty @ beta
        step = np.linalg.solve((x * (share * p * (1 - p))[:, None]).T @ x + penalty, gradient)
        beta -= step
        if np.abs(step).max() < 1e-6:
            break
    return np.asarray(x @ beta)


def weighted_risk(logits: Floats, labels: Ints, weights: Floats) -> float:
    """Share of source items answered wrongly, each weighed by how likely it is in the target; NaN rows are left out.

    Sugiyama, Krauledat, Müller: Covariate Shift Adaptation by Importance Weighted Cross Validation, JMLR 2007.
    """
    known = np.isfinite(logits).all(axis=1)
    if not known.any():
        return float("nan")
    wrong = predicted(logits[known]) != labels[known]
    return float((wrong * weights[known]).sum() / max(float(weights[known].sum()), _TINY))


def accuracy(logits: Floats, labels: Ints) -> float:
    """On rows that are finite; NaN where none is."""
    known = np.isfinite(logits).all(axis=1)
    return float((predicted(logits[known]) == labels[known]).mean()) if known.any() else float("nan")
