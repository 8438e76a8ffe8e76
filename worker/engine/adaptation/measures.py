"""The figures that the guard rests on: what source, target and two classifiers' answers say without target labels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.adaptation import validators
from worker.engine.adaptation.evidence import Evidence
from worker.engine.methods.maths import shift

_ROWS = 1000  # of each domain: more would tell nothing new of these figures
_AXES = 64
_RELABELLINGS = 200
_FOLDS = 5
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """How far apart source and target lie (MMD)."""

    effect: float
    """Share of the spread that lies between them: 0 … 1."""
    p_value: float


_UNKNOWN = Shift(math.nan, math.nan)


@dataclass(frozen=True)
class Answers:
    """One classifier, by its answers."""

    labels: NDArray[np.int64]
    """Of target items (m,)."""
    evenness: float
    nearest_mean: float
    neighbours: float
    kinship: validators.Kinship
    """With the source; of nothing where that is not there."""
    source_accuracy: float
    """On source items that it had not learnt from; NaN where there are none."""
    risk: float
    """Share of such items answered wrongly, weighed as if they were the target's; NaN where that cannot be known."""

    @property
    def misplaced(self) -> float:
        """Share of the classes that are liker to another class of the target than to themselves."""
        return self.kinship.misplaced

    @property
    def worst_margin(self) -> float:
        """Of the class that is placed worst."""
        return float(self.kinship.margins.min()) if len(self.kinship.margins) else -1.0


@dataclass(frozen=True)
class Measures:
    """All of it, before (the source-only classifier) and after (the adapted one)."""

    classes: int
    before: Answers
    after: Answers
    shift_before: Shift
    shift_after: Shift | None
    effective: float
    """Effective sample size of the importance weights, as a share of the source items."""
    agreement: float
    beyond_chance: float
    source_neighbours: float
    """Share of the source items' neighbours that bear their label, beyond chance: what is to be had at best."""
    source_evenness: float
    """Of the source's own labels; 1 where these are not known."""
    lost: list[int]
    """Classes that the source-only classifier finds in the target (in over 2 % of it) and the adapted one does not."""
    alone: bool = False
    """Whether there are no source items, so that what is said of them means nothing."""


def measure(evidence: Evidence, rng: np.random.Generator) -> Measures:
    """Of at most a thousand items of each domain, drawn by `rng`."""
    return Ground.of(evidence, rng).measure(evidence)


@dataclass(frozen=True)
class Ground:
    """What is the same for all classifiers that are held against one source-only classifier."""

    rng: np.random.Generator
    source: NDArray[np.int64]
    """Places of the source items that are looked at (n,)."""
    target: NDArray[np.int64]
    zs: Array
    ys: NDArray[np.int64]
    zt: Array
    weights: validators.DomainWeights | None
    """None where there are no source items."""
    shift: Shift
    source_neighbours: float

    @classmethod
    def of(cls, evidence: Evidence, rng: np.random.Generator) -> "Ground":
        """Of the items alone."""
        n, m = (_drawn(len(x), rng) for x in (evidence.xs, evidence.xt))
        xs, xt = (x.astype(np.float64) for x in (evidence.xs[n], evidence.xt[m]))
        if evidence.alone:
            return cls(rng, n, m, xs, evidence.ys, validators.centred(xt), None, _UNKNOWN, math.nan)
        zs, zt, ys = validators.centred(xs), validators.centred(xt), evidence.ys[n]
        weights = validators.domain_weights(zs, zt)
        apart = _UNKNOWN if evidence.across else _shift(validators.rows(xs), validators.rows(xt), rng)
        order = validators.neighbour_agreement(zs, ys, evidence.target_after.shape[1])
        return cls(rng, n, m, zs, ys, zt, weights, apart, order)

    def measure(self, evidence: Evidence) -> Measures:
        """Of two classifiers on these items."""
        classes = evidence.target_after.shape[1]
        finite = np.isfinite(evidence.source_before[self.source]) & np.isfinite(evidence.source_after[self.source])
        known = np.asarray(finite.all(axis=1))
        before, after = (
            self._answers(np.where(known[:, None], source[self.source], np.nan), target[self.target])
            for source, target in (
                (evidence.source_before, evidence.target_before),
                (evidence.source_after, evidence.target_after),
            )
        )
        found = validators.histogram(before.labels, classes)
        return Measures(
            classes,
            before,
            after,
            self.shift,
            self._inner(evidence),
            0.0 if self.weights is None else self.weights.effective,
            validators.agreement(before.labels, after.labels),
            validators.beyond_chance(before.labels, after.labels, classes),
            self.source_neighbours,
            1.0 if evidence.alone else validators.evenness(self.ys, classes),
            [int(c) for c in validators.lost_classes(after.labels, classes) if found[c] > 0.02],
            evidence.alone,
        )

    def _answers(self, source: NDArray[np.float32], target: NDArray[np.float32]) -> Answers:
        labels, classes = validators.predicted(target), target.shape[1]
        return Answers(
            labels,
            validators.evenness(labels, classes),
            validators.nearest_mean_agreement(self.zt, labels, classes),
            validators.neighbour_agreement(self.zt, labels, classes),
            validators.kinship(self.zs, self.ys, self.zt, labels, classes),
            validators.accuracy(source, self.ys),
            math.nan if self.weights is None else validators.weighted_risk(source, self.ys, self.weights.weights),
        )

    def _inner(self, evidence: Evidence) -> Shift | None:
        inner = evidence.source_inner, evidence.target_inner
        if inner[0] is None or inner[1] is None:
            return None
        zs, zt = (z.astype(np.float64) for z in (inner[0][self.source], inner[1][self.target]))
        return _shift(zs, zt, self.rng)


def _drawn(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.permutation(count)[:_ROWS])


def _shift(zs: Array, zt: Array, rng: np.random.Generator) -> Shift:
    """By a permutation test on principal axes of both."""
    if min(len(zs), len(zt)) < 3:
        return Shift(math.nan, 1.0)
    kernel = shift.gram(shift.axes(np.vstack([zs, zt]), _AXES, rng))
    fold = shift.folds(len(zs), len(zt), _FOLDS, rng)
    found = shift.mmd(kernel, shift.memberships(len(zs), len(zt), fold, _RELABELLINGS, rng))
    return Shift(found.effect, found.p_value)
