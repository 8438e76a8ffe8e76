"""Whether two samples come from one distribution, and how far apart they lie.

Gretton, Borgwardt, Rasch, Schölkopf, Smola: A Kernel Two-Sample Test, JMLR 2012; Lopez-Paz, Oquab: Revisiting
Classifier Two-Sample Tests, ICLR 2017; Ben-David et al.: A theory of learning from different domains, Machine Learning
2010 (proxy A-distance). n source and m target items, N = n + m in this order, D features, r axes, P permutations.

Both tests are by permutation, so they are exact whatever the features: kernel, axes and covariance do not depend on
who is source and who is target, and all P relabellings are columns of one matrix product.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
_Z = 1.959964  # of a 95 % interval
_ROUNDS = 4  # of subspace iteration
_MEDIAN_ROWS = 2000


@dataclass(frozen=True)
class Tested:
    """What a test found; the interval is that of the effect."""

    statistic: float
    effect: float
    low: float
    high: float
    p_value: float
    null: float
    """What the statistic stays below in 95 % of the relabellings."""


def folds(n: int, m: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold (N,) of each item; source and target are spread evenly over them."""
    return np.concatenate([rng.permutation(np.arange(size) % count) for size in (n, m)])


def memberships(n: int, m: int, fold: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Who is source, ones and zeros (N, 1 + count): first as it is, then shuffled within the folds.

    Shuffled as a whole, a fold could run out of one side, and a fit without it would lean towards that side.
    """
    member = np.zeros((n + m, 1 + count), dtype=np.float32)
    member[:n] = 1
    for number in range(int(fold.max()) + 1):
        rows = np.flatnonzero(fold == number)
        member[rows, 1:] = rng.permuted(member[rows, 1:], axis=0)
    return member


def axes(x: Floats, most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The items (N, D), centred, on the first principal axes of them all: (N, r), r <= `most`, the longest first.

    By subspace iteration (Halko, Martinsson, Tropp: Finding structure with randomness, SIAM Review 2011).
    """
    x = np.asarray(x - x.mean(axis=0), dtype=np.float32)
    scale = float(np.abs(x).max()) or 1.0
    x = x / scale
    basis = rng.normal(size=(x.shape[1], min(most + 16, *x.shape))).astype(np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(x.T @ np.linalg.qr(x @ basis)[0])[0]
    seen = x @ basis
    spectrum, turn = np.linalg.eigh(seen.T @ seen)
    kept = spectrum > 1e-6 * max(float(spectrum[-1]), float(np.finfo(np.float32).tiny))
    kept[-1] = True
    return np.asarray(scale * (seen @ turn[:, kept][:, ::-1][:, :most]), dtype=np.float32)


def gram(x: Floats) -> NDArray[np.float32]:
    """exp(-|x_i - x_j|^2 / (2 s^2)) of all pairs of items (N, D), s the median distance; 0 on the diagonal: (N, N).

    Above 2,000 items the median is that of some rows.
    """
    x = np.asarray(x - x.mean(axis=0), dtype=np.float32)
    length = np.square(x).sum(axis=1)
    squared = length[:, None] + length - 2 * (x @ x.T)
    np.maximum(squared, 0, out=squared)
    np.fill_diagonal(squared, -1)
    pairs = squared[:: max(1, len(x) // _MEDIAN_ROWS)]
    pairs = pairs[pairs >= 0]
    width = float(np.median(pairs)) or float(pairs.mean()) or 1.0
    np.fill_diagonal(squared, 0)
    squared *= -0.5 / width
    kernel: NDArray[np.float32] = np.exp(squared, out=squared)
    np.fill_diagonal(kernel, 0)
    return kernel


def mmd(kernel: NDArray[np.float32], member: NDArray[np.float32]) -> Tested:
    """The unbiased squared maximum mean discrepancy; needs three items a side.

    The effect is the share of the items' spread in kernel space that lies between the domains (0 … 1), each domain
    counting alike; its interval is by the jackknife.
    """
    n = int(member[:, 0].sum())
    centre = float(kernel.sum(dtype=np.float64)) / (len(kernel) * (len(kernel) - 1))
    values = _discrepancies(kernel, member, centre)
    share, error = _share(kernel, n)
    p_value, null = _ranked(values)
    return Tested(float(values[0]), share, max(0.0, share - _Z * error), min(1.0, share + _Z * error), p_value, null)


def _discrepancies(kernel: NDArray[np.float32], member: NDArray[np.float32], centre: float) -> Array:
    """Squared discrepancies (1 + P,); a constant taken from all pairs changes none of them, and keeps digits."""
    total, n = len(kernel), float(member[:, 0].sum())
    m = total - n
    within = np.einsum("np,np->p", kernel @ member, member, dtype=np.float64) - centre * n * (n - 1)
    rows = kernel.sum(axis=1, dtype=np.float64) - centre * (total - 1)
    reach = rows @ member
    across = reach - within
    other = rows.sum() - 2 * reach + within
    return np.asarray(within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * across / (n * m))


def _share(kernel: NDArray[np.float32], n: int) -> tuple[float, float]:
    """Share of the spread between the domains, and its standard error by leaving out one item after the other."""
    m = len(kernel) - n
    own, other = kernel[:n, :n].sum(axis=1, dtype=np.float64), kernel[n:, n:].sum(axis=1, dtype=np.float64)
    out, back = kernel[:n, n:].sum(axis=1, dtype=np.float64), kernel[:n, n:].sum(axis=0, dtype=np.float64)
    a, b, c = own.sum() / (n * (n - 1)), other.sum() / (m * (m - 1)), out.sum() / (n * m)
    left = _between((own.sum() - 2 * own) / ((n - 1) * (n - 2)), b, (out.sum() - out) / ((n - 1) * m))
    right = _between(a, (other.sum() - 2 * other) / ((m - 1) * (m - 2)), (out.sum() - back) / (n * (m - 1)))
    variance = (n - 1) * float(np.var(left)) + (m - 1) * float(np.var(right))
    return float(_between(a, b, c)), float(np.sqrt(variance))


def _between(a: Floats | float, b: Floats | float, c: Floats | float) -> Array:
    """From the mean similarities within source, within target and across: (1/4 MMD^2) / variance of an even mixture."""
    return np.asarray((a + b - 2 * c) / np.maximum(4 - a - b - 2 * c, 1e-12), dtype=np.float64)


def _ranked(values: Array) -> tuple[float, float]:
    """P-value of the first value among all, and what 95 % of the others stay below."""
    rest = values[1:]
    return float((1 + np.count_nonzero(rest >= values[0])) / len(values)), float(np.quantile(rest, 0.95))


@dataclass(frozen=True)
class Told:
    """What a linear classifier that tells target from source made of the items, each by a fit without it."""

    tested: Tested
    """The statistic is the accuracy (each domain counting alike), the effect the proxy A-distance 2 (1 - 2 error)."""
    logit: Array
    """Log of the density ratio target / source, calibrated, (N,)."""
    overlap: float
    """Effective sample size of the source items weighted by that ratio, as a share of them: 1 where all are alike."""


def classifier(z: Floats, member: NDArray[np.float32], fold: NDArray[np.int64]) -> Told:
    """Fisher's discriminant with a shrunk covariance, cross-validated, on items (N, r) and how far out they lie.

    The distance shows a change of spread, which no linear map of the items themselves can.
    """
    n, m = int(member[:, 0].sum()), len(member) - int(member[:, 0].sum())
    scores = _scores(with_distance(z), 1 - member, fold)
    accuracy, gap = _accuracies(scores, member)
    # Accuracies tie; the mean distance between the sides decides between equals without outweighing any item.
    p_value, null = _ranked(accuracy + gap / (1 + np.abs(gap)) / (8 * n * m))
    found = float(accuracy[0])
    low, high = _wilson(found, _worth(accuracy[1:], 4 * n * m / (n + m)))
    effect, low, high = (max(0.0, 4 * share - 2) for share in (found, low, high))
    tested = Tested(found, effect, low, high, p_value, null)
    logit = _calibrated(scores[:, 0].astype(np.float64), 1 - member[:, 0])
    return Told(tested, logit, _overlap(logit[:n]))


def with_distance(z: Floats) -> NDArray[np.float32]:
    """Items (N, r) and, as one more feature of the first one's spread, their squared distance from the centre."""
    far = np.square(z).sum(axis=1)
    spread = float(far.std())
    last = (far - far.mean()) * (float(z[:, 0].std()) / spread if spread > 0 else 0.0)
    return np.column_stack([z, last]).astype(np.float32)


def _scores(z: NDArray[np.float32], target: NDArray[np.float32], fold: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores (N, 1 + P), above 0 for the target, of all relabellings at once; each item's from the other folds."""
    scores = np.empty_like(target)
    for number in range(int(fold.max()) + 1):
        held, rest = fold == number, fold != number
        here, chosen = z[rest], target[rest]
        size = chosen.sum(axis=0)
        moment = here.T @ chosen
        there, away = moment / size, (here.sum(axis=0)[:, None] - moment) / (len(here) - size)
        weight = cho_solve(cho_factor(shrunk_covariance(here)), there - away).astype(np.float32)
        scores[held] = z[held] @ weight - np.einsum("rp,rp->p", weight, there + away) / 2
    return scores


def _accuracies(scores: NDArray[np.float32], member: NDArray[np.float32]) -> tuple[Array, Array]:
    """Of each relabelling, the accuracy with both sides counting alike, and the distance between their mean scores."""
    n = float(member[:, 0].sum())
    m = len(member) - n
    said = (scores > 0).astype(np.float32)
    wrong = np.einsum("np,np->p", said, member, dtype=np.float64)
    right = said.sum(axis=0, dtype=np.float64) - wrong
    near = np.einsum("np,np->p", scores, member, dtype=np.float64)
    return (right / m + 1 - wrong / n) / 2, (scores.sum(axis=0, dtype=np.float64) - near) / m - near / n


def _worth(accuracies: Array, n: float) -> float:
    """Independent items that the accuracy is worth: folds share their items, which the relabellings' spread shows."""
    return n * min(1.0, 0.25 / n / max(float(accuracies.var()), 1e-12))


def _overlap(logit: Array) -> float:
    """(sum w)^2 / sum w^2 / n of the ratios at the source items (n,), times what is missing to their mean of 1.

    Where no source item lies among the target's, all have about the same weight: next to none.
    """
    weight = np.exp(np.minimum(logit, 50))
    effective = float(weight.sum() ** 2 / np.square(weight).sum() / len(weight))
    return effective * min(1.0, float(weight.mean()))


def shrunk_covariance(z: Floats) -> Array:
    """Covariance (r, r) shrunk towards its mean variance (Ledoit, Wolf, J. Multivariate Analysis 2004)."""
    n, width = z.shape
    z = np.asarray(z - z.mean(axis=0), dtype=np.float64)
    covariance = z.T @ z / n
    mean = float(np.trace(covariance)) / width
    length = float(np.square(covariance).sum())
    noise = (float(np.square(np.square(z).sum(axis=1)).sum()) / n - length) / n
    apart = length - width * mean * mean
    share = min(max(noise, 0.0) / apart, 1.0) if apart > 0 else 1.0
    share = max(share, 1e-6)
    return np.asarray((1 - share) * covariance + (share * mean + 1e-12) * np.eye(width))


def _wilson(share: float, n: float) -> tuple[float, float]:
    centre, half = share + _Z**2 / (2 * n), _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return float((centre - half) / (1 + _Z**2 / n)), float((centre + half) / (1 + _Z**2 / n))


def _calibrated(score: Array, target: Floats, steps: int = 30) -> Array:
    """Log odds (N,) of the target, both domains weighing alike: a logistic regression on the score by Newton's method.

    Platt: Probabilistic outputs for support vector machines, 1999. The slope is held back by one item's worth, so that
    domains which a score parts without error keep finite odds.
    """
    spread = float(score.std())
    x = np.column_stack([(score - score.mean()) / (spread if spread > 0 else 1.0), np.ones(len(score))])
    y = np.asarray(target, dtype=np.float64)
    weight = np.where(y > 0, 0.5 / y.sum(), 0.5 / (len(y) - y.sum()))
    ridge = np.diag([1 / len(y), 1e-9])
    solution = np.zeros(2)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ solution, -30, 30)))
        slope = x.T @ (weight * (p - y)) + ridge @ solution
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge
        solution = solution - np.linalg.solve(curve, slope)
    return np.asarray(x @ solution)
