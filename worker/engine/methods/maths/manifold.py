"""The geodesic between two domains' subspaces, and a kernel classifier that is smooth and alike on both: MEDA.

n source items, m target items, N = n + m, D features, k axes, r features of a Gaussian kernel's, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.sparse import csr_array, diags_array, eye_array, sparray
from sklearn.neighbors import kneighbors_graph

from worker.engine.methods.maths.neighbours import nearest_labels
from worker.engine.methods.maths.ridge import decompose, leave_one_out
from worker.engine.metrics import Ints

Array = NDArray[np.float64]
_TINY = 1e-12
_NOISE = 1e-6
_FLAT = 1e-6  # angles (radians) below which two axes are one
_RIDGE = 0.1  # of the classifier that tells domains apart; items have length one


@dataclass(frozen=True)
class Wanted:
    """How a classifier is to be; see `core.contract.methods.meda`."""

    alignment: float
    balance: float | None
    """None: found anew in each round."""
    smoothness: float
    regularisation: float
    neighbours: int
    rounds: int


def geodesic(ours: Array, theirs: Array) -> Array:
    """Axes (D, 2k) on which products are the geodesic flow kernel's, from one domain's principal axes to another's.

    Both are (D, k) and orthonormal; of more axes on one side the first ones count. Where the items of one domain are
    all alike, so that it has none, there is no way to go: the other's axes are all there is.
    Gong, Shi, Sha, Grauman: Geodesic Flow Kernel for Unsupervised Domain Adaptation, CVPR 2012.
    """
    k = min(ours.shape[1], theirs.shape[1])
    if k == 0:
        return max(ours, theirs, np.eye(len(ours), 1), key=lambda axes: axes.shape[1])
    ours, theirs = ours[:, :k], theirs[:, :k]
    left, cosines, right = np.linalg.svd(ours.T @ theirs)
    angle = np.arccos(np.clip(cosines, -1, 1))
    begin, end = ours @ left, theirs @ right.T
    flat = angle < _FLAT
    across = np.where(flat, 0, (end - begin * cosines) / np.where(flat, 1, np.sin(angle)))
    twice = 2 * np.maximum(angle, _FLAT)
    # The integral, from 0 to 1, of cos² ta, sin ta cos ta and sin² ta.
    both = np.array([1 + np.sin(twice) / twice, (1 - np.cos(twice)) / twice, 1 - np.sin(twice) / twice]) / 2
    inner = np.block([[np.diag(both[0]), np.diag(both[1])], [np.diag(both[1]), np.diag(both[2])]])
    spectrum, turned = np.linalg.eigh(inner)
    return np.asarray(np.hstack([begin, across]) @ (turned * np.sqrt(np.maximum(spectrum, 0))))


def laplacian(x: Array, neighbours: int) -> sparray:
    """Of the graph of nearest items (N, K) of length one, by their cosines: I - W / sqrt(d d'), (N, N)."""
    if min(neighbours, len(x) - 1) < 1:
        return eye_array(len(x), format="csr")
    near = cosines(x, neighbours)
    return eye_array(len(x), format="csr") - shares(near.maximum(near.T))


def cosines(x: NDArray[np.floating], neighbours: int) -> sparray:
    """From each item (N, K), of length one, to its nearest ones, where they are positive: (N, N), one way."""
    near = csr_array(kneighbors_graph(x, min(neighbours, len(x) - 1), mode="distance"))
    found = 1 - np.square(near.data) / 2
    near.data = np.where(found > _NOISE, found, 0.0)  # what rounding leaves of items at right angles is no likeness
    return near


def shares(near: sparray) -> sparray:
    """Weights between items W (N, N), the same both ways, as W / sqrt(d d')."""
    degree = np.asarray(near.sum(axis=1)).ravel()
    root = diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1)))
    return root @ near @ root


def aligned_weights(features: Array, x: Array, labels: Ints, classes: int, wanted: Wanted) -> Array:
    """Weights (r, C) on a kernel's features (N, r) of items (N, K), the labelled source (n,) first.

    Least squares on the source, with what its answers differ between neighbours, and what the domains' means differ,
    of all items and of each class. The first guesses are the nearest source items'.
    """
    n = len(labels)
    known = features[:n]
    base = known.T @ known + wanted.regularisation * np.eye(features.shape[1])
    if wanted.smoothness:
        base += wanted.smoothness * features.T @ (laplacian(x, wanted.neighbours) @ features)
    truth = known.T @ np.eye(classes)[labels]
    guesses = nearest_labels(x[:n], labels, x[n:])
    weights = np.empty((0, classes))
    for _ in range(wanted.rounds):
        share = balance(x[:n], labels, x[n:], guesses) if wanted.balance is None else wanted.balance
        apart = _apart(labels, guesses, classes, share)
        size = max(float(np.linalg.norm(apart @ apart.T)), _TINY)
        means = apart @ features
        weights = solve(base + wanted.alignment / size * means.T @ means, truth, assume_a="pos")
        before, guesses = guesses, np.asarray((features[n:] @ weights).argmax(axis=1))
        if np.array_equal(before, guesses):
            break
    return weights


def balance(source: Array, labels: Ints, target: Array, guesses: Ints) -> float:
    """How far apart the domains are within classes, against as a whole: 0 to 1, by proxy A-distances.

    Ben-David, Blitzer, Crammer, Kulesza, Pereira, Vaughan: A theory of learning from different domains, 2010.
    """
    whole = _distance(source, target)
    parts = [_distance(source[labels == one], target[guesses == one]) for one in np.intersect1d(labels, guesses)]
    within = float(np.mean(parts)) if parts else 0.0
    return within / (whole + within) if whole + within > 0 else 0.5


def _distance(source: Array, target: Array) -> float:
    """2 (1 - 2 e), where e is the error of a linear classifier of the domains on items it has not seen."""
    if min(len(source), len(target)) < 2:
        return 0.0
    side = np.repeat([-1.0, 1.0], [len(source), len(target)])
    parts = decompose(np.vstack([source, target]), side[:, None])
    said = leave_one_out(parts, np.array([_RIDGE / len(side)]))[0, :, 0]
    return max(0.0, 2 * (1 - 2 * float((np.sign(said) != side).mean())))


def _apart(labels: Ints, guesses: Ints, classes: int, share: float) -> Array:
    """What makes differences of means of features (N, r): (1 + C', N), those of classes that both domains have."""
    n, m = len(labels), len(guesses)
    rows = [(classes * (1 - share)) ** 0.5 * np.repeat([1 / n, -1 / m], [n, m])]
    for one in np.intersect1d(labels, guesses):
        ours, theirs = labels == one, guesses == one
        rows.append(share**0.5 * np.concatenate([ours / ours.sum(), -(theirs / theirs.sum())]))
    return np.array(rows)
