"""Ridge classification in closed form, its penalty chosen by exact leave-one-out.

Hoerl, Kennard: Ridge regression, Technometrics 1970; leave-one-out as in Golub, Heath, Wahba, Technometrics 1979.
n items, D features, C classes, L penalties.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Decomposed:
    """Weighted, centred features X (n, D) in their own axes: X = Z V', Z'Z = diag(spectrum); r = rank axes."""

    z: Array
    """(n, r), rows weighted by the root of the item's weight."""
    spectrum: Array
    """(r,), ascending."""
    axes: Array
    """V, (D, r)."""
    centre: Array
    """Weighted mean of the features, (D,)."""
    target_centre: Array
    """Weighted mean of the targets, (C,)."""
    targets: Array
    """Weighted, centred targets, (n, C)."""
    weights: Array
    """Weights of the items, (n,), mean 1."""
    moment: Array
    """Z' times the targets, (r, C)."""
    squares: Array
    """Z squared, (n, r)."""


def decompose(x: NDArray[np.floating], targets: NDArray[np.floating], weights: Array | None = None) -> Decomposed:
    """Centre features (n, D) and targets (n, C) and find the features' axes, over the smaller of X'X and XX'.

    Centring leaves the intercept unpenalised.
    """
    x = np.array(x, dtype=np.float64)  # a copy of our own, changed in place: copies of copies would be the peak
    n, width = x.shape
    weights = np.ones(n) if weights is None else weights * (n / weights.sum())
    centre = weights @ x / n
    target_centre = weights @ targets / n
    root = np.sqrt(weights)[:, None]
    x -= centre
    x *= root
    if n <= width:
        spectrum, u = np.linalg.eigh(x @ x.T)
        kept = spectrum > _floor(spectrum)
        spectrum, u = spectrum[kept], u[:, kept]
        z = u * np.sqrt(spectrum)
        axes = x.T @ (u / np.sqrt(spectrum))
    else:
        spectrum, axes = np.linalg.eigh(x.T @ x)
        kept = spectrum > _floor(spectrum)
        spectrum, axes = spectrum[kept], axes[:, kept]
        z = x @ axes
    y = np.asarray(root * (targets - target_centre), dtype=np.float64)
    return Decomposed(z, spectrum, axes, centre, target_centre, y, weights, z.T @ y, np.square(z))


def _floor(spectrum: Array) -> float:
    return float(len(spectrum) * np.finfo(np.float64).eps * max(spectrum[-1], np.finfo(np.float64).tiny))


def solve(parts: Decomposed, penalty: float) -> tuple[Array, Array]:
    """Weight (C, D) and bias (C,) that minimise sum_i s_i |W x_i + b - y_i|^2 + n * penalty * |W|^2."""
    n = len(parts.z)
    inner = parts.moment / (parts.spectrum + n * penalty)[:, None]
    weight = (parts.axes @ inner).T
    return weight, parts.target_centre - weight @ parts.centre


def leave_one_out(parts: Decomposed, penalties: Array) -> Array:
    """The scores (L, n, C) that each item would get from fits without it, at the same absolute n * `penalties`.

    A linear smoother needs no refitting: with leverage h_i, the residual without item i is the residual / (1 - h_i).
    """
    n, classes = parts.targets.shape
    shrinking = 1 / (parts.spectrum + n * penalties[:, None])  # (L, r)
    leverage = parts.weights[:, None] / n + parts.squares @ shrinking.T
    inner = shrinking[:, :, None] * parts.moment  # all fits in one matrix product
    flat = inner.transpose(1, 0, 2).reshape(len(parts.spectrum), len(penalties) * classes)
    fitted = (parts.z @ flat).reshape(n, len(penalties), classes)
    residual = (parts.targets[:, None] - fitted) / np.maximum(1 - leverage, 1e-10)[:, :, None]
    scores = (parts.targets[:, None] - residual) / np.sqrt(parts.weights)[:, None, None] + parts.target_centre
    return np.asarray(scores.transpose(1, 0, 2))


def penalty_grid(parts: Decomposed, points: int = 22) -> Array:
    """Penalties (points,), descending, relative to the mean squared length of the centred features: 10 … 3e-7."""
    scale = float(parts.spectrum.sum()) / len(parts.z) or 1.0
    return scale * np.logspace(1, -6.5, points)
