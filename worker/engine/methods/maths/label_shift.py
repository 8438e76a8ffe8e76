"""How often each class occurs in a target without labels, where only that has moved: three estimators, and intervals.

n source items, m target items, C classes, p features. An estimator is a function of how often each source item (n,)
and each target item (m,) counts, so that the same one serves the data and a bootstrap's draws; it returns priors (C,).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls

from worker.engine.metrics import Ints, softmax

Array = NDArray[np.float64]
Estimator = Callable[[Array, Array], Array]
_SUM = 1e3  # how strictly priors must add up to 1, against the equations' own scale of about 1
_TINY = 1e-300


def mlls(source: Array, target: Array) -> Estimator:
    """Maximum likelihood, by expectation-maximisation; needs calibrated probabilities, (n, C) and (m, C).

    Saerens, Latinne, Decaestecker: Adjusting the Outputs of a Classifier to New a Priori Probabilities, Neural
    Computation 2002; with calibration it is the most exact (Alexandari, Kundaje, Shrikumar, ICML 2020).
    """

    def estimate(ours: Array, theirs: Array) -> Array:
        prior = ours @ source / ours.sum()
        return mixture(target / np.maximum(prior, _TINY), theirs)

    return estimate


def mixture(density: Array, counts: Array, *, steps: int = 1000, tol: float = 1e-7) -> Array:
    """The shares (C,) of a mixture whose items (m,) have these densities (m, C) under each component."""
    share = np.full(density.shape[1], 1 / density.shape[1])
    last = -np.inf
    for step in range(steps):
        total = np.maximum(density @ share, _TINY)
        if step % 10 == 9:
            value = float(counts @ np.log(total) / counts.sum())
            if value - last < tol:
                break
            last = value
        share *= (counts / total) @ density / counts.sum()
        share /= share.sum()
    return share


def matching(source: Array, labels: Ints, target: Array, classes: int) -> Estimator:
    """The priors under which the classes' means of what is known of items, (n, p) and (m, p), mix to the target's mean.

    Of a classifier's answers, one-hot or probabilities, it is black box shift estimation: what it says of a class does
    not move, only how often the class comes (Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black
    Box Predictors, ICML 2018). Of a kernel's features it is TarS (Zhang, Schoelkopf, Muandet, Wang: Domain Adaptation
    under Target and Conditional Shift, ICML 2013).
    """
    belongs = np.eye(classes)[labels]

    def estimate(ours: Array, theirs: Array) -> Array:
        return simplex(source.T @ shares(belongs, ours), theirs @ target / theirs.sum())

    return estimate


def shares(belongs: Array, counts: Array) -> Array:
    """What each item (n,) adds to its class's mean, (n, C); a class without items has none."""
    found = belongs * counts[:, None]
    return np.asarray(found / np.maximum(found.sum(axis=0), _TINY))


def simplex(columns: Array, wanted: Array) -> Array:
    """The shares q (C,), q >= 0, of sum 1, under which the mean of columns (k, C) is the nearest to `wanted` (k,)."""
    matrix = np.vstack([columns, np.full((1, columns.shape[1]), _SUM)])
    found = nnls(matrix, np.append(wanted, _SUM))[0]
    return np.asarray(found / found.sum())


def interval(
    estimate: Estimator, n: int, m: int, rng: np.random.Generator, *, rounds: int = 100, level: float = 0.9
) -> Array:
    """Percentile bootstrap interval of priors, (2, C), over draws of source and target items."""
    draws = [
        estimate(
            rng.multinomial(n, np.full(n, 1 / n)).astype(float), rng.multinomial(m, np.full(m, 1 / m)).astype(float)
        )
        for _ in range(rounds)
    ]
    return np.asarray(np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0))


def calibrate(logits: Array, labels: Ints) -> tuple[float, Array]:
    """A factor and a bias (C,) that make probabilities softmax(factor * logits + bias) of held-out logits (n, C).

    Bias-corrected temperature scaling, without which the likelihood of priors leads astray (Alexandari et al. 2020). A
    normal prior of the weight of one item keeps both finite where every item is right.
    """
    n, classes = logits.shape
    truth = np.eye(classes)[labels]

    def objective(point: Array) -> tuple[float, Array]:
        factor, bias = math.exp(point[0]), point[1:]
        p = softmax(factor * logits + bias)
        off = (p - truth) / n
        value = -float(np.log(np.maximum(p[np.arange(n), labels], _TINY)).mean()) + 0.5 * float(point @ point) / n
        slope = np.append(factor * float((off * logits).sum()), off.sum(axis=0)) + point / n
        return value, slope

    found = minimize(objective, np.zeros(classes + 1), jac=True, method="L-BFGS-B")
    return math.exp(found.x[0]), np.asarray(found.x[1:] - found.x[1:].mean())
