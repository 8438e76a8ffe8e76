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


@dataclass(frozen=True)
class Answers:
    """One classifier, by its answers."""

    labels: NDArray[np.int64]
    """Of target items (m,)."""
    evenness: float
    nearest_mean: float
    neighbours: float
    kinship: validators.Kinship
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
    lost: list[int]
    """Classes that the source-only classifier finds in the target (in over 2 % of it) and the adapted one does not."""


def measure(evidence: Evidence, rng: np.random.Generator) -> Measures:
    """Of at most a thousand items of each domain, drawn by `rng`."""
    n, m = (_drawn(len(x), rng) for x in (evidence.xs, evidence.xt))
    classes = evidence.target_after.shape[1]
    zs, zt = validators.centred(evidence.xs[n]), validators.centred(evidence.xt[m])
    ys = evidence.ys[n]
    weights = validators.domain_weights(zs, zt)
    finite = np.isfinite(evidence.source_before[n]) & np.isfinite(evidence.source_after[n])
    known = np.asarray(finite.all(axis=1))

    def answers(source: NDArray[np.float32], target: NDArray[np.float32]) -> Answers:
        labels = validators.predicted(target[m])
        honest = np.where(known[:, None], source[n], np.nan)
        return Answers(
            labels,
            validators.evenness(labels, classes),
            validators.nearest_mean_agreement(zt, labels, classes),
            validators.neighbour_agreement(zt, labels, classes),
            validators.kinship(zs, ys, zt, labels, classes),
            validators.accuracy(honest, ys),
            validators.weighted_risk(honest, ys, weights.weights),
        )

    before = answers(evidence.source_before, evidence.target_before)
    after = answers(evidence.source_after, evidence.target_after)
    found = validators.histogram(before.labels, classes)
    return Measures(
        classes,
        before,
        after,
        _shift(validators.rows(evidence.xs[n].astype(float)), validators.rows(evidence.xt[m].astype(float)), rng),
        _inner(evidence, n, m, rng),
        weights.effective,
        validators.agreement(before.labels, after.labels),
        validators.beyond_chance(before.labels, after.labels, classes),
        validators.neighbour_agreement(zs, ys, classes),
        [int(c) for c in validators.lost_classes(after.labels, classes) if found[c] > 0.02],
    )


def _drawn(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.permutation(count)[:_ROWS])


def _inner(evidence: Evidence, n: NDArray[np.int64], m: NDArray[np.int64], rng: np.random.Generator) -> Shift | None:
    if evidence.source_inner is None or evidence.target_inner is None:
        return None
    return _shift(evidence.source_inner[n].astype(float), evidence.target_inner[m].astype(float), rng)


def _shift(zs: Array, zt: Array, rng: np.random.Generator) -> Shift:
    """By a permutation test on principal axes of both."""
    if min(len(zs), len(zt)) < 3:
        return Shift(math.nan, 1.0)
    kernel = shift.gram(shift.axes(np.vstack([zs, zt]), _AXES, rng))
    fold = shift.folds(len(zs), len(zt), _FOLDS, rng)
    found = shift.mmd(kernel, shift.memberships(len(zs), len(zt), fold, _RELABELLINGS, rng))
    return Shift(found.effect, found.p_value)
