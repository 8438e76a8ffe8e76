"""What the methods that weigh source items share: a small space to compare domains in, and what becomes of ratios.

Shimodaira: Improving predictive inference under covariate shift by weighting the log-likelihood function, Journal of
Statistical Planning and Inference 2000. n source items, m target items, D features, r axes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from worker.engine.metrics import Floats

Array = NDArray[np.float64]
FEWEST = 0.1
"""Share of the source items that must carry the weight; under it, a fit rests on too few of them."""
FLOOR = 1e-3
"""Least weight of an item: at 0, leaving it out would say nothing about it."""
_AXES_ROWS = 4000
_WIDTH_ROWS = 1000
_ROUNDS = 5  # of subspace iteration


@dataclass(frozen=True)
class Weighing:
    """Weights (n,) of the source items, with mean 1, and what they are worth."""

    weights: Array
    effective: float
    """Effective sample size of the weights as they were estimated and clipped, (sum w)^2 / sum w^2: 1 … n."""
    clipped: int
    """Items whose weight was cut."""
    uniform: bool
    """Whether the weights were given up, as too few items would have carried them."""


def settle(raw: Floats, clip: float) -> Weighing:
    """Make weights of ratios (n,): cut at `clip` times the mean, given up under `FEWEST` n effective items."""
    n = len(raw)
    ratio = np.maximum(np.nan_to_num(np.asarray(raw, dtype=np.float64), nan=0.0, posinf=1e300), 0.0)
    ratio = ratio / top if (top := float(ratio.max(initial=0.0))) > 0 else np.ones(n)
    limit = clip_level(ratio, clip)
    weights = np.minimum(ratio, limit)
    weights = weights / weights.mean()
    effective = effective_size(weights)
    uniform = effective < FEWEST * n
    weights = np.ones(n) if uniform else np.maximum(weights, FLOOR)
    return Weighing(weights / weights.mean(), effective, int((ratio > limit).sum()), uniform)


def clip_level(ratio: Array, clip: float) -> float:
    """The level at which ratios (n,) are cut so that the greatest is `clip` times the mean of the cut ones.

    Against the mean before the cut, one enormous ratio would leave every other one at nothing.
    """
    n, order = len(ratio), np.sort(ratio)
    below = np.append(0.0, np.cumsum(order))[:-1]
    above = np.arange(n, 0, -1)  # items at or above each candidate
    # Cutting the items from rank k on at level t: t = clip * (below_k + above_k t) / n.
    room = n - above * clip
    level = np.divide(clip * below, room, out=np.full(n, np.inf), where=(room > 0) & (below > 0))
    fits = level <= order
    return float(level[fits][0]) if fits.any() else float(order[-1])


def effective_size(weights: Array) -> float:
    """How many items of equal weight would tell as much (Kish 1965): (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def principal(source: Floats, target: Floats, components: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Both domains (n, D), (m, D) on the first axes of the two together: (n, r), (m, r), r <= `components`.

    Kernels degenerate in hundreds of dimensions: all items lie about equally far apart. Each domain has the same say in
    the axes, which are found from at most 4,000 items.
    """
    half = _AXES_ROWS // 2
    parts = [_some(items, half, rng) for items in (source, target)]
    share = np.repeat([0.5 / len(part) for part in parts], [len(part) for part in parts])
    sample = np.concatenate(parts).astype(np.float64)
    centre = share @ sample
    axes = leading(np.sqrt(share)[:, None] * (sample - centre), components, rng)
    return source @ axes - centre @ axes, target @ axes - centre @ axes


def leading(x: Array, most: int, rng: np.random.Generator) -> Array:
    """The first principal axes (D, r), r <= `most`, of centred items (n, D), by subspace iteration.

    Halko, Martinsson, Tropp: Finding structure with randomness, SIAM Review 2011.
    """
    basis = rng.normal(size=(x.shape[1], min(most + 10, *x.shape)))
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(x.T @ np.linalg.qr(x @ basis)[0])[0]
    seen = x @ basis
    spectrum, turn = np.linalg.eigh(seen.T @ seen)
    kept = spectrum > 1e-10 * max(float(spectrum[-1]), 1e-300)
    kept[-1] = True
    return np.asarray(basis @ turn[:, kept][:, ::-1][:, :most])


def _some(items: Floats, most: int, rng: np.random.Generator) -> Floats:
    return items if len(items) <= most else items[np.sort(rng.choice(len(items), most, replace=False))]


def median_gamma(source: Array, target: Array, rng: np.random.Generator) -> float:
    """Width of a Gaussian kernel exp(-gamma d^2) by the median of the squared distances in both domains together."""
    half = _WIDTH_ROWS // 2
    squared = pdist(np.concatenate([_some(source, half, rng), _some(target, half, rng)]), "sqeuclidean")
    middle = float(np.median(squared)) if len(squared) else 1.0
    return 1 / middle if middle > 0 else 1.0


def gaussian(a: Floats, b: Floats, gamma: float) -> Array:
    """Kernel matrix exp(-gamma |a_i - b_j|^2), (n, m)."""
    inner = np.asarray(a @ b.T)
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * inner
    np.maximum(squared, 0, out=squared)
    squared *= -gamma
    return np.asarray(np.exp(squared, out=squared))


def explained(source: Array, target: Array, weights: Array) -> float:
    """How much of the distance between the domains' means weights (n,) do away with, 0 … 1.

    Means of a kernel's features (n, p), (m, p), their squared distance (MMD) taken above what chance makes it. Where
    the inputs have moved otherwise than the weights suppose, hardly any of it goes.
    """
    left = max(0.0, _above_chance(source, target, weights))
    before = _above_chance(source, target, np.ones(len(source)))
    return float(np.clip(1 - left / max(before, 1e-12), 0, 1))


def _above_chance(source: Array, target: Array, weights: Array) -> float:
    share = weights / weights.sum()
    ours, theirs = share @ source, target.mean(axis=0)
    size = float(np.square(share).sum())
    chance = float(np.square(share) @ np.square(source).sum(axis=1)) - size * float(ours @ ours)
    chance += (float(np.square(target).sum(axis=1).mean()) - float(theirs @ theirs)) / len(target)
    return float(np.square(ours - theirs).sum()) - chance
