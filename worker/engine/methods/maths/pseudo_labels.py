"""Adapting by guessing the target's labels: selective pseudo-labelling, and prototype self-training.

Wang, Breckon: Unsupervised Domain Adaptation via Structured Prediction Based Selective Pseudo-Labeling, AAAI 2020.
n source items, m target items, D features, K axes, C classes. Each domain is moved to a centre of its own first; both
methods end as heads on the raw embedding, one for either domain, so that items nobody has seen get answers, too.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.special import softmax

from worker.engine.devices import allotted
from worker.engine.heads import Head
from worker.engine.metrics import Floats, Ints
from worker.engine.stages import Affine, Stage, Unit

Array = NDArray[np.float64]
TINY = 1e-12
_CLUSTER_ROUNDS = 20
_WARMTH = 10.0  # what logits of unit vectors, which are cosines, are multiplied by


@dataclass(frozen=True)
class Guessed:
    """What was learnt: a head for items of the target, and the same for items of the source."""

    target: Head
    source: Head
    labels: NDArray[np.int64]
    """What each target item was taken for in the end (m,)."""


@dataclass(frozen=True)
class Selective:
    """Options of selective pseudo-labelling."""

    axes: int = 128
    """Principal components that are kept of both domains."""
    rounds: int = 10
    """In round t of T, t / T of each class's target items are trusted, the surest first."""
    shrinkage: float = 0.1
    """Share of the within-class scatter that is replaced by a ball of the same size."""
    clusters: bool = True
    """Whether k-means clusters of the target have a say beside the class means."""


@dataclass(frozen=True)
class Prototypes:
    """Options of prototype self-training."""

    rounds: int = 10
    temperature: float = 0.05
    """Of the softmax over cosines: the lower, the harder the guesses."""
    anchor: float = 0.1
    """How much the source's class means still count beside the target's, which have weight 1."""


def selective(xs: Floats, ys: Ints, xt: Floats, classes: int, options: Selective, *, unit: bool = True) -> Guessed:
    """Project both domains so that classes part, guess the target's labels, trust the surest, and again with more.

    `xs` (n, D), `ys` (n,) with items of every class, `xt` (m, D). `unit`: rows are brought to length one, which suits
    features of images and texts; columns are standardised otherwise. The projection is a shrunk linear discriminant
    analysis of the source and the trusted target items. Nothing is random: clusters begin at the class means.
    """
    return selective_by(xs, ys, xt, classes, [options], unit=unit)[0]


def selective_by(
    xs: Floats, ys: Ints, xt: Floats, classes: int, several: Sequence[Selective], *, unit: bool = True
) -> list[Guessed]:
    """The same with several options, for which the principal axes are found once."""
    fronts = Front.of(xs, unit), Front.of(xt, unit)
    zs, zt = fronts[0](xs), fronts[1](xt)
    axes = principal_axes(np.vstack([zs, zt]), max(options.axes for options in several))
    domains = _Domains(zs @ axes, ys, zt @ axes, classes)
    with ThreadPoolExecutor(min(len(several), allotted())) as pool:  # LAPACK lets go of the interpreter's lock
        return list(pool.map(lambda options: _selective(domains, options, fronts, axes[:, : options.axes]), several))


@dataclass(frozen=True)
class _Domains:
    """Both on their principal axes: (n, K) and (m, K), with the source's classes (n,)."""

    zs: Array
    ys: Ints
    zt: Array
    classes: int


def _selective(found: _Domains, options: Selective, fronts: tuple["Front", "Front"], axes: Array) -> Guessed:
    unit, keep = fronts[0].unit, axes.shape[1]
    zs, zt = _scaled(found.zs[:, :keep], unit), _scaled(found.zt[:, :keep], unit)
    fitted = _Discriminant.fit(zs, found.ys, found.classes, options.shrinkage)
    for step in range(1, options.rounds + 1):
        odds = fitted.probable(zt, options.clusters)
        guesses = odds.argmax(axis=1)
        trusted = surest(guesses, odds.max(axis=1), step / options.rounds)
        known, labels = np.vstack([zs, zt[trusted]]), np.concatenate([found.ys, guesses[trusted]])
        fitted = _Discriminant.fit(known, labels, found.classes, options.shrinkage)
    own, other = (fitted.head(front, axes) for front in (fronts[1], fronts[0]))
    return Guessed(own, other, fitted.scores(zt).argmax(axis=1))


def prototypes(xs: Floats, ys: Ints, xt: Floats, classes: int, options: Prototypes, *, unit: bool = True) -> Guessed:
    """Begin at the source's class means; let the target's items, each as far as it is sure, move them; and again.

    Shapes as in `selective`. Cosines about each domain's own mean are what is compared: two domains that differ by a
    shift alone are then the same.
    """
    a, b = Front.of(xs, unit), Front.of(xt, unit)
    zs, zt = _scaled(a(xs), True), _scaled(b(xt), True)
    first = _scaled(class_means(zs, ys, classes), True)
    means = first
    for _ in range(options.rounds):
        odds = softmax(zt @ means.T / options.temperature, axis=1)
        moved = odds.T @ zt / np.maximum(odds.sum(axis=0), TINY)[:, None]
        means = _scaled(_scaled(moved, True) + options.anchor * first, True)
    return Guessed(b.head(_WARMTH * means), a.head(_WARMTH * means), (zt @ means.T).argmax(axis=1))


def class_means(x: Array, labels: Ints, classes: int) -> Array:
    """Mean of each class's rows (C, K) of (n, K); 0 where a class has none."""
    members = np.eye(classes)[labels]
    return np.asarray(members.T @ x / np.maximum(members.sum(axis=0), 1)[:, None])


def surest(guesses: Ints, confidence: Array, share: float) -> NDArray[np.bool_]:
    """Which items (m,) belong to the surest `share` of those that were given the same label."""
    order = np.lexsort((-confidence, guesses))
    counts = np.bincount(guesses)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(guesses), dtype=np.int64)
    rank[order] = np.arange(len(guesses)) - np.repeat(starts, counts)
    return np.asarray(rank < np.floor(share * counts + 1e-9)[guesses])


def principal_axes(x: Array, axes: int) -> Array:
    """The first principal axes (D, K) of rows (n, D), by the smaller of the two scatter matrices."""
    z = x - x.mean(axis=0)
    keep = max(1, min(axes, len(z) - 1, z.shape[1]))
    small = len(z) < z.shape[1]
    scatter = z @ z.T if small else z.T @ z
    values, vectors = eigh(scatter, subset_by_index=[len(scatter) - keep, len(scatter) - 1])
    found = z.T @ vectors / np.sqrt(np.maximum(values, TINY)) if small else vectors
    return np.asarray(found[:, ::-1])


def scatter_within(x: Array, labels: Ints, means: Array, shrinkage: float) -> Array:
    """Mean squared deviation from the class means (K, K), shrunk towards a ball."""
    deviation = x - means[labels]
    found = deviation.T @ deviation / len(x)
    size = max(float(np.trace(found)) / len(found), TINY)
    return np.asarray((1 - shrinkage) * found + shrinkage * size * np.eye(len(found)))


def nearest_means(x: Array, start: Array) -> Array:
    """Centres (C, K) that k-means finds from `start`; one that loses all its items stays where it was."""
    centres = start
    for _ in range(_CLUSTER_ROUNDS):
        nearest = _closeness(x, centres).argmax(axis=1)
        counts = np.bincount(nearest, minlength=len(centres))
        moved = np.where((counts > 0)[:, None], class_means(x, nearest, len(centres)), centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres


@dataclass(frozen=True)
class Front:
    """How a domain is brought to its own centre; of tables its columns' scale is taken, too."""

    mean: Array
    scale: Array
    unit: bool

    @classmethod
    def of(cls, x: Floats, unit: bool) -> "Front":
        z = _scaled(np.asarray(x, dtype=np.float64), unit)
        spread = np.ones(z.shape[1]) if unit else np.maximum(z.std(axis=0), max(1e-3 * float(z.std()), 1e-6))
        return cls(z.mean(axis=0), spread, unit)

    def __call__(self, x: Floats) -> Array:
        z = (_scaled(np.asarray(x, dtype=np.float64), self.unit) - self.mean) / self.scale
        return _scaled(z, self.unit)

    def stages(self, axes: Array) -> tuple[Stage, ...]:
        """Up to the projection on axes (D, K)."""
        weight = (axes / self.scale[:, None]).T
        affine = Affine(_f32(weight), _f32(-weight @ self.mean))
        return (Unit(), affine, Unit()) if self.unit else (affine,)

    def head(self, weight: Array) -> Head:
        """Cosines about the mean, weighed by (C, D)."""
        bias = _f32(np.zeros(len(weight)))
        if self.unit:
            return Head(_f32(weight), bias, "centred_l2", _f32(self.mean), before=(Unit(),))
        affine = Affine(_f32(np.diag(1 / self.scale)), _f32(-self.mean / self.scale))
        return Head(_f32(weight), bias, "l2", before=(affine,))


@dataclass(frozen=True)
class _Discriminant:
    """Discriminant axes (K, A), their mean (A,), and the class means (C, A) there. With one axis lengths are kept."""

    axes: Array
    mean: Array
    means: Array

    @classmethod
    def fit(cls, x: Array, labels: Ints, classes: int, shrinkage: float) -> "_Discriminant":
        means = class_means(x, labels, classes)
        apart = (means - x.mean(axis=0)) * np.sqrt(np.bincount(labels, minlength=classes) / len(x))[:, None]
        lower = cholesky(scatter_within(x, labels, means, shrinkage), lower=True)
        # Between classes there are C - 1 axes at most: whitened class means have them, at a fraction of an eigh's cost.
        whitened = solve_triangular(lower, apart.T, lower=True)
        keep = min(classes - 1, len(lower))
        turned = np.linalg.svd(whitened, full_matrices=False)[0][:, :keep]
        found = solve_triangular(lower, turned, lower=True, trans="T")
        centre = (x @ found).mean(axis=0)
        placed = cls(found, centre, np.empty((0, keep)))
        centres = class_means(placed.place(x), labels, classes)
        return cls(found, centre, _scaled(centres, placed.round))

    @property
    def round(self) -> bool:
        return bool(self.axes.shape[1] > 1)

    def place(self, z: Array) -> Array:
        return _scaled(z @ self.axes - self.mean, self.round)

    def scores(self, z: Array) -> Array:
        return _closeness(self.place(z), self.means)

    def probable(self, z: Array, clusters: bool) -> Array:
        """For each item and class (m, C) the greater of what class means and clusters make of it."""
        placed = self.place(z)
        odds = softmax(_closeness(placed, self.means), axis=1)
        if not clusters:
            return np.asarray(odds)
        centres = nearest_means(placed, self.means)
        return np.asarray(np.maximum(odds, softmax(_closeness(placed, centres), axis=1)))

    def head(self, front: Front, axes: Array) -> Head:
        """Minus the squared distance to each class mean, without the part that all classes share."""
        place = Affine(_f32(self.axes.T), _f32(-self.mean))
        weight, bias = 2 * _WARMTH * self.means, -_WARMTH * np.square(self.means).sum(axis=1)
        before = (*front.stages(axes), place)
        return Head(_f32(weight), _f32(bias), "l2" if self.round else "none", before=before)


def _closeness(x: Array, centres: Array) -> Array:
    """Minus the squared distance of rows (n, K) to centres (C, K)."""
    return np.asarray(2 * x @ centres.T - np.square(x).sum(axis=1, keepdims=True) - np.square(centres).sum(axis=1))


def _scaled(x: Array, unit: bool) -> Array:
    """Rows of length one, where wanted."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)) if unit else x


def _f32(x: Array) -> NDArray[np.float32]:
    return np.ascontiguousarray(x, dtype=np.float32)
