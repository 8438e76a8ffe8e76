"""KLIEP: the ratio of two densities as a mixture of kernels on target items, by maximum likelihood.

Sugiyama, Nakajima, Kashima, von Buenau, Kawanabe: Direct Importance Estimation with Model Selection and Its Application
to Covariate Shift Adaptation, NeurIPS 2007. n source items, m target items, c centres, r axes.
    w(x) = sum_l a_l k(x, c_l);   maximise mean_target log w   with mean_source w = 1, a >= 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.methods.maths.reweighting import gaussian

Array = NDArray[np.float64]
WIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Kernel widths that are tried, as multiples of the median distance's gamma."""
_FOLDS = 5
_ROWS = 4000  # items that take part in choosing the width
_TINY = 1e-300


@dataclass(frozen=True)
class Ratio:
    """A fitted ratio target / source of densities."""

    centres: Array
    """(c, r)"""
    share: Array
    """a, (c,)"""
    gamma: float

    def __call__(self, items: Array) -> Array:
        """Ratios (k,) of items (k, r)."""
        return np.asarray(gaussian(items, self.centres, self.gamma) @ self.share)


def fit(source: Array, target: Array, gamma: float, centres: Array, *, steps: int = 500, tol: float = 1e-6) -> Ratio:
    """The most likely ratio, between source (n, r) and target (m, r), on kernels at `centres` (c, r).

    With b_l = mean_source k(., c_l) and a_l b_l as shares that sum to 1, this is the likelihood of a mixture's shares,
    which expectation-maximisation climbs without a step size, to the one maximum there is.
    """
    norm = gaussian(source, centres, gamma).mean(axis=0)
    used = norm > 1e-12 * max(float(norm.max()), _TINY)  # no source item near a centre: its ratio has no estimate
    if not used.any():
        return Ratio(centres, np.zeros(len(centres)), gamma)
    density = gaussian(target, centres[used], gamma) / norm[used]
    share = np.full(int(used.sum()), 1 / used.sum())
    last = -np.inf
    for step in range(steps):
        ratio = np.maximum(density @ share, _TINY)
        if step % 10 == 9:
            value = float(np.log(ratio).mean())
            if value - last < tol:
                break
            last = value
        share *= density.T @ (1 / ratio) / len(target)
        share /= share.sum()
    found = np.zeros(len(centres))
    found[used] = share / norm[used]
    return Ratio(centres, found, gamma)


def choose_gamma(source: Array, target: Array, middle: float, centres: int, rng: np.random.Generator) -> float:
    """The width, of `WIDTHS` times `middle`, under which target items held out of the fit are the most likely."""
    source, target = source[rng.permutation(len(source))[:_ROWS]], target[rng.permutation(len(target))[:_ROWS]]
    fold = np.arange(len(target)) % min(_FOLDS, len(target))
    found = []
    for factor in WIDTHS:
        value = 0.0
        for part in range(fold.max() + 1):
            train, test = target[fold != part], target[fold == part]
            if len(train):
                ratio = fit(source, train, factor * middle, train[:centres], steps=100, tol=1e-4)
                value += float(np.log(np.maximum(ratio(test), 1e-10)).sum())
        found.append(value)
    return WIDTHS[int(np.argmax(found))] * middle


def pick_centres(target: Array, most: int, rng: np.random.Generator) -> Array:
    """At most `most` of the target items (m, r), drawn at random."""
    return target[np.sort(rng.permutation(len(target))[:most])]
