"""Kernel mean matching: weights under which the source's mean in a kernel's space is the target's.

Huang, Gretton, Borgwardt, Schoelkopf, Smola: Correcting Sample Selection Bias by Unlabeled Data, NeurIPS 2006.
n source items, m target items, r axes, p columns of a map Phi with K = Phi Phi'. The problem is
    minimise 1/2 w'Kw - kappa'w,   kappa_i = n/m sum_j k(x_i, z_j),   0 <= w <= B,   |sum w - n| <= eps n.
"""

import math

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths.kernels import kernel_map, pick_landmarks

Array = NDArray[np.float64]
LANDMARKS = 1000
_BLOCK = 4000


def embed(source: Array, target: Array, gamma: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Phi (n, p) of source items (n, r), and the mean (p,) of the target's (m, r), for the kernel exp(-gamma d^2).

    On `LANDMARKS` items of both domains (Nystrom), on all where there are no more: then K is exact. So memory is n p
    instead of n n (20,000 items: 160 MB instead of 3.2 GB), and a step of the solver costs n p.
    """
    kernel = kernel_map(pick_landmarks(source, target, min(LANDMARKS, len(source) + len(target)), rng), gamma)
    total = np.sum([kernel(target[at : at + _BLOCK]).sum(axis=0) for at in range(0, len(target), _BLOCK)], axis=0)
    return kernel(source), total / len(target)


def slack(n: int) -> float:
    """The paper's eps: how far the mean weight may be from 1."""
    return (math.sqrt(n) - 1) / math.sqrt(n)


def match(
    phi: Array,
    mean: Array,
    *,
    bound: float = 1000.0,
    noise: float = 1.0,
    eps: float | None = None,
    steps: int = 5000,
    tol: float = 1e-6,
) -> Array:
    """Weights (n,) that solve the problem, with noise / 2 |w|^2 added, for Phi (n, p) and the target's mean (p,).

    A weighted mean of a sample is off by about |w|^2 / n^2 in square, which is what `noise` = 1 stands for: without it
    (the paper's problem is `noise` = 0) a handful of items match the target better than chance would let the truth do.

    Accelerated projected gradient (Beck, Teboulle 2009) that starts afresh where it overshoots (O'Donoghue, Candes
    2015); ends when 25 steps lower the objective by less than `tol` of it.
    """
    n = len(phi)
    eps = slack(n) if eps is None else eps
    total = (n * (1 - eps), n * (1 + eps))
    kappa = n * (phi @ mean)
    rate = 1 / (_largest(phi) + noise)
    w = ahead = np.ones(n)
    seen = seen_ahead = phi.T @ w  # Phi'w of both, so that a step multiplies by Phi twice and no more
    value = checked = math.inf
    momentum = 1.0
    for step in range(steps):
        new = project(ahead - rate * (phi @ seen_ahead + noise * ahead - kappa), bound, total)
        new_seen = phi.T @ new
        new_value = 0.5 * float(new_seen @ new_seen + noise * (new @ new)) - float(kappa @ new)
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


def _largest(phi: Array) -> float:
    """The largest eigenvalue of Phi Phi'."""
    return (
        float(np.linalg.eigvalsh(phi.T @ phi)[-1]) if phi.shape[1] <= len(phi) else float(np.linalg.norm(phi, 2) ** 2)
    )


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
