"""Kernel mean matching: weights under which the source's mean in a kernel's space is the target's.

Huang, Gretton, Borgwardt, Schoelkopf, Smola: Correcting Sample Selection Bias by Unlabeled Data, NeurIPS 2006.
n source items, m target items, r axes, p columns of a map Phi with K = Phi Phi'. The problem is
    minimise 1/2 w'Kw - kappa'w,   kappa_i = n/m sum_j k(x_i, z_j),   0 <= w <= B,   |sum w - n| <= eps n.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths.kernels import kernel_map, pick_landmarks
from worker.engine.methods.maths.reweighting import gaussian

Array = NDArray[np.float64]
EXACT = 4000
"""Source items up to which the kernel is the whole one."""
LANDMARKS = 1000
_BLOCK = 4000
_ROUNDS = 30


@dataclass(frozen=True)
class Problem:
    """K, as what it makes of weights (n,), and kappa (n,)."""

    product: Callable[[Array], Array]
    kappa: Array


def pose(source: Array, target: Array, gamma: float, rng: np.random.Generator) -> Problem:
    """The problem of source (n, r) and target items (m, r) for the kernel exp(-gamma d^2).

    Of more than `EXACT` source items the kernel is Nystrom's on `LANDMARKS` items of both domains, K = Phi Phi': memory
    is n p then instead of n n (20,000 items: 160 MB instead of 3.2 GB), and a product costs n p.
    """
    n, m = len(source), len(target)
    if n <= EXACT:
        kernel = gaussian(source, source, gamma)
        total = np.sum([gaussian(source, rows, gamma).sum(axis=1) for rows in _blocks(target)], axis=0)
        return Problem(lambda w: np.asarray(kernel @ w), n / m * total)
    features = kernel_map(pick_landmarks(source, target, LANDMARKS, rng), gamma)
    phi = features(source)
    mean = np.sum([features(rows).sum(axis=0) for rows in _blocks(target)], axis=0) / m
    return Problem(lambda w: np.asarray(phi @ (phi.T @ w)), n * (phi @ mean))


def _blocks(items: Array) -> list[Array]:
    return [items[at : at + _BLOCK] for at in range(0, len(items), _BLOCK)]


def slack(n: int) -> float:
    """The paper's eps: how far the mean weight may be from 1."""
    return (math.sqrt(n) - 1) / math.sqrt(n)


def match(
    problem: Problem,
    *,
    bound: float = 1000.0,
    noise: float = 1.0,
    eps: float | None = None,
    steps: int = 5000,
    tol: float = 1e-6,
) -> Array:
    """Weights (n,) that solve the problem, with noise / 2 |w|^2 added.

    A weighted mean of a sample is off by about |w|^2 / n^2 in square, which is what `noise` = 1 stands for: without it
    (the paper's problem is `noise` = 0) a handful of items match the target better than chance would let the truth do.

    Accelerated projected gradient (Beck, Teboulle 2009) that starts afresh where it overshoots (O'Donoghue, Candes
    2015); ends when 25 steps lower the objective by less than `tol` of it.
    """
    n = len(problem.kappa)
    eps = slack(n) if eps is None else eps
    total = (n * (1 - eps), n * (1 + eps))
    rate = 1 / (_largest(problem) + noise)
    w = ahead = np.ones(n)
    seen = seen_ahead = problem.product(w)  # K times both, so that a step has one product
    value = checked = math.inf
    momentum = 1.0
    for step in range(steps):
        new = project(ahead - rate * (seen_ahead + noise * ahead - problem.kappa), bound, total)
        new_seen = problem.product(new)
        new_value = 0.5 * float(new @ new_seen + noise * (new @ new)) - float(problem.kappa @ new)
        if new_value > value and momentum > 1:
            ahead, seen_ahead, momentum = w, seen, 1.0
            continue
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        push = (momentum - 1) / following
        ahead, seen_ahead = new + push * (new - w), new_seen + push * (new_seen - seen)
        w, seen, value, momentum = new, new_seen, new_value, following
        if step % 25 == 24:
            if checked - value < tol * abs(value):
                break
            checked = value
    return w


def _largest(problem: Problem) -> float:
    """The largest eigenvalue of K, by power iteration: quick, as all of a Gaussian kernel's values are positive."""
    vector = np.ones(len(problem.kappa))
    size = 0.0
    for _ in range(_ROUNDS):
        vector = problem.product(vector)
        size = float(np.linalg.norm(vector))
        vector /= size
    return 1.01 * size


def project(w: Array, bound: float, total: tuple[float, float]) -> Array:
    """The nearest weights (n,) with 0 <= w <= bound and a sum within `total`."""
    nearest = np.clip(w, 0, bound)
    have = float(nearest.sum())
    if total[0] <= have <= total[1]:
        return nearest
    wanted = total[0] if have < total[0] else total[1]
    low, high = float(w.min()) - bound, float(w.max())  # all at the bound, all at nothing
    for _ in range(60):
        shift = (low + high) / 2
        if float(np.clip(w - shift, 0, bound).sum()) > wanted:
            low = shift
        else:
            high = shift
    return np.asarray(np.clip(w - (low + high) / 2, 0, bound))
