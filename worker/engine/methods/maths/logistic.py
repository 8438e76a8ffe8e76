"""Multinomial logistic regression by L-BFGS, several folds at once along a path of penalties.

Liu, Nocedal: On the limited memory BFGS method for large scale optimization, Mathematical Programming 1989.
n items, r features, F problems (folds) that share the features, C classes. A solution is an array (r + 1, F, C): the
weights, then the bias. Each problem f minimises
    sum_i mask[i, f] * cross entropy_i + penalty / 2 * |weights|^2,     sum_i mask[i, f] = 1.
All the problems are steps of one matrix product, which is what makes cross-validation cheap.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worker.engine.metrics import softmax

Array = NDArray[np.floating]
_BLOCK = 1 << 19  # logits worked on at a time, so that they stay in the processor's cache
_ARMIJO = 1e-4


@dataclass(frozen=True)
class Basis:
    """Centred features in their own axes: x = centre + axes @ z. The axes make the problem nearly round."""

    z: Array
    """(n, r)"""
    axes: Array
    """(D, r), orthonormal columns."""
    centre: Array
    """(D,)"""
    variance: Array
    """Mean square along each axis, (r,)."""


def rotate(x: Array) -> Basis:
    """Rotate features (n, D) into their principal axes (all that carry anything; at most n)."""
    n, width = x.shape
    centre: Array = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
    x = x - centre
    if n <= width:
        spectrum, u = _eigh(x @ x.T)
        kept = _carrying(spectrum, x.dtype)
        length = np.sqrt(np.maximum(spectrum[kept], 1e-12))
        z: Array = u[:, kept] * length
        axes: Array = (x.T @ u[:, kept]) / length
    else:
        spectrum, vectors = _eigh(x.T @ x)
        kept = _carrying(spectrum, x.dtype)
        axes = vectors[:, kept]
        z = x @ axes
    return Basis(np.ascontiguousarray(z), axes, centre, np.asarray(np.maximum(spectrum[kept], 0) / n, dtype=x.dtype))


def _eigh(gram: Array) -> tuple[Array, Array]:
    """Eigenvalues (ascending) and eigenvectors; torch's LAPACK is nearly twice as fast as NumPy's."""
    values, vectors = torch.linalg.eigh(torch.from_numpy(gram))
    return values.numpy(), vectors.numpy()


def _carrying(spectrum: Array, dtype: np.dtype[np.floating]) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = spectrum > max(float(spectrum[-1]), 0) * 10 * np.finfo(dtype).eps
    kept[-1] = True  # features that are all alike still leave one axis
    return kept


def unrotate(basis: Basis, solution: Array) -> tuple[Array, Array]:
    """Weight (C, D) and bias (C,) on the features themselves, from a solution (r + 1, C)."""
    weight = (basis.axes @ solution[:-1]).T
    return weight, solution[-1] - weight @ basis.centre


def logits(z: Array, solution: Array) -> Array:
    """Logits (n, F, C) of features (n, r)."""
    flat: Array = z @ solution[:-1].reshape(z.shape[1], -1)
    return np.asarray(flat.reshape(len(z), *solution.shape[1:]) + solution[-1])


def objective(
    z: Array, labels: NDArray[np.integer], mask: Array, solution: Array, penalty: float
) -> tuple[Array, Array]:
    """Values (F,) in float64 and gradient (r + 1, F, C) of the F objectives."""
    n, (_, problems, classes) = len(z), solution.shape
    gradient = penalty * solution
    gradient[-1] = 0
    value = 0.5 * penalty * np.einsum("rfc,rfc->f", solution[:-1], solution[:-1], dtype=np.float64)
    step = max(1, _BLOCK // (problems * classes))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        here, truth, share = z[rows], labels[rows], mask[rows]
        items = np.arange(len(here))
        out = logits(here, solution)
        out -= out.max(axis=2, keepdims=True)
        own = out[items, :, truth]
        np.exp(out, out=out)
        total = out.sum(axis=2)
        value += np.einsum("nf,nf->f", np.log(total) - own, share, dtype=np.float64)
        out *= (share / total)[:, :, None]
        out[items, :, truth] -= share
        gradient[:-1] += (here.T @ out.reshape(len(here), -1)).reshape(-1, problems, classes)
        gradient[-1] += out.sum(axis=0)
    return value, gradient


def minimise(
    basis: Basis,
    labels: NDArray[np.integer],
    mask: Array,
    start: Array,
    penalty: float,
    *,
    tolerance: float = 1e-4,
    iterations: int = 200,
    memory: int = 8,
    check: Callable[[], None] = lambda: None,
) -> Array:
    """Solve the F problems from `start` (r + 1, F, C); returns the solution of the same shape.

    A problem is solved when the decrease that its quadratic model still promises is below `tolerance` of its value.
    Coordinates are scaled by the curvature along each axis at `start`. `check` is called once a step and may raise.
    """
    scale = _scale(basis, start, penalty)
    x: Array = start / scale

    def evaluate(point: Array) -> tuple[Array, Array]:
        value, gradient = objective(basis.z, labels, mask, point * scale, penalty)
        return value, gradient * scale

    value, gradient = evaluate(x)
    steps: list[tuple[Array, Array, Array]] = []  # (s, y, 1 / s'y) with s, y of shape (r + 1, F, C)
    for _ in range(iterations):
        check()
        direction = _direction(gradient, steps)
        slope = _dot(direction, gradient)
        active = -0.5 * slope > tolerance * np.maximum(value, 1e-3)
        if not active.any():
            break
        direction *= active[:, None]
        new_x, new_value, new_gradient, moved = _search(
            evaluate, x, value, direction=direction, slope=slope, active=active
        )
        s, y = new_x - x, new_gradient - gradient
        product = _dot(s, y)
        good = moved & (product > 1e-12)
        steps = [*steps[-(memory - 1) :], (s, y, np.where(good, 1 / np.where(good, product, 1), 0))]
        x, value, gradient = new_x, new_value, new_gradient
        if not moved.any():  # the arithmetic's precision is reached
            break
    return np.asarray(x * scale)


def _scale(basis: Basis, start: Array, penalty: float) -> Array:
    """1 / root of the curvature along each axis, (r + 1, 1, 1), for the mean p(1 - p) of the logits at `start`."""
    seen = slice(None, None, max(1, len(basis.z) // 2000))
    p = softmax(logits(basis.z[seen], start))
    spread = float(np.clip((p * (1 - p)).mean(), 1e-3, 0.25))
    curvature = np.append(spread * basis.variance + penalty, spread)
    return np.asarray(1 / np.sqrt(curvature), dtype=basis.z.dtype)[:, None, None]


def _dot(a: Array, b: Array) -> NDArray[np.float64]:
    """Per problem: (r + 1, F, C) x (r + 1, F, C) -> (F,)."""
    return np.asarray(np.einsum("rfc,rfc->f", a, b), dtype=np.float64)


def _direction(gradient: Array, steps: list[tuple[Array, Array, Array]]) -> Array:
    """The two-loop recursion, for each problem on its own."""
    q = -gradient
    kept = []
    for s, y, inverse in reversed(steps):
        a = inverse * _dot(s, q)
        q -= _wide(a, q) * y
        kept.append(a)
    for (s, y, inverse), a in zip(steps, reversed(kept), strict=True):
        q += _wide(a - inverse * _dot(y, q), q) * s
    return q


def _wide(values: Array, like: Array) -> Array:
    return values.astype(like.dtype)[:, None]


def _search(
    evaluate: Callable[[Array], tuple[Array, Array]],
    x: Array,
    value: Array,
    *,
    direction: Array,
    slope: Array,
    active: NDArray[np.bool_],
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Armijo's rule with halving, for each problem on its own; a problem that finds nothing better stays put."""
    length = active.astype(np.float64)
    for _ in range(12):
        point = x + _wide(length, x) * direction
        new_value, gradient = evaluate(point)
        slack = 4 * np.finfo(x.dtype).eps * np.abs(value)
        missed = active & ~(new_value <= value + _ARMIJO * length * slope + slack)
        if not missed.any():
            return point, new_value, gradient, length > 0
        length = np.where(missed, length / 2, length)
    length = np.where(missed, 0.0, length)
    point = x + _wide(length, x) * direction
    new_value, gradient = evaluate(point)
    return point, new_value, gradient, length > 0
