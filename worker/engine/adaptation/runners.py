"""What the race of `auto` puts against each other: classifiers on frozen features, each within a second or two.

n source items, m target items, D features, C classes. Each runner makes of `Domains` an `Adapted`: a head for items of
the target, and one for items of the source.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import Ridge

from core.contract.datasets import Modality
from core.contract.methods import LabelShift, LinearProbe
from worker.engine.heads import Head
from worker.engine.methods import label_shift, linear_probe
from worker.engine.methods.adapting import Adapted, Domains, mixed
from worker.engine.methods.maths import pseudo_labels, spreading
from worker.engine.methods.maths.pseudo_labels import Front, Guessed, Prototypes, Selective
from worker.engine.stages import Affine, Unit

Floats = NDArray[np.float32]
_PENALTY = 1.0  # of rows of length one: a third to three times as much comes to the same
# Six fits that differ in what nobody can choose without labels: their mean is better than most of them, and steadier.
SELECTIVE = tuple(Selective(axes=axes, shrinkage=share) for axes in (64, 128, 256) for share in (0.1, 0.4))


@dataclass(frozen=True)
class Probe:
    """The source-only classifier."""

    fitted: linear_probe.Fitted

    @property
    def adapted(self) -> Adapted:
        return Adapted(self.fitted.head)

    @property
    def honest(self) -> Floats:
        """Its logits (n, C) on the source, by fits without each item."""
        return self.fitted.out_of_fold


def source_only(found: Domains, rng: np.random.Generator, modality: Modality) -> Probe:
    """What a user would have without adapting: a linear probe on the source."""
    return Probe(label_shift.source_probe(found, rng, modality))


def centred(found: Domains, rng: np.random.Generator, modality: Modality) -> Adapted:
    """A linear probe on features about each domain's own mean; of tables its columns' spread is taken, too."""
    if modality == "tabular":
        return _standardised(found, rng)
    means = [_rows(x).mean(axis=0) for x in (found.xt, found.xs)]
    x = _rows(_rows(found.xs) - means[1])
    fitted = linear_probe.fit(x, found.ys, found.classes, LinearProbe(normalise="l2"), rng=rng).head
    heads = [Head(fitted.weight, fitted.bias, "centred_l2", mean, before=(Unit(),)) for mean in means]
    return Adapted(heads[0], heads[1])


def _standardised(found: Domains, rng: np.random.Generator) -> Adapted:
    spread = float(np.mean(found.xs.std(axis=0)))
    scales = [np.maximum(x.std(axis=0), max(1e-3 * spread, 1e-6)) for x in (found.xt, found.xs)]
    maps = [
        Affine(np.diag(1 / scale).astype(np.float32), (-x.mean(axis=0) / scale).astype(np.float32))
        for x, scale in zip((found.xt, found.xs), scales, strict=True)
    ]
    fitted = linear_probe.fit(
        maps[1](found.xs), found.ys, found.classes, LinearProbe(), rng=rng, modality="tabular"
    ).head
    heads = [Head(fitted.weight, fitted.bias, fitted.normalise, fitted.mean, fitted.scale, (way,)) for way in maps]
    return Adapted(heads[0], heads[1])


def selective(found: Domains, modality: Modality) -> Adapted:
    """Selective pseudo-labels: the mean of several fits."""
    fits = pseudo_labels.selective_by(
        found.xs, found.ys, found.xt, found.classes, SELECTIVE, unit=modality != "tabular"
    )
    return mixed(found, [_adapted(fit) for fit in fits], [1.0] * len(fits))


def prototypes(found: Domains, modality: Modality) -> Adapted:
    """Prototype self-training."""
    unit = modality != "tabular"
    return _adapted(pseudo_labels.prototypes(found.xs, found.ys, found.xt, found.classes, Prototypes(), unit=unit))


def spread(found: Domains, guessed: Adapted, modality: Modality) -> Adapted:
    """What another makes of the target's items, passed on among neighbours; then a ridge regression on both domains.

    Items nobody has seen get their answers from that, too.
    """
    domains = found.xt, found.xs
    fronts = [Front.of(x, modality != "tabular") for x in domains]
    rows, known = (_rows(front(x).astype(np.float32)) for front, x in zip(fronts, domains, strict=True))
    passed_on = spreading.spread(rows, softmax(guessed.head(found.xt).astype(np.float64), axis=1))
    labels = np.concatenate([passed_on.argmax(axis=1), found.ys])
    fitted = Ridge(alpha=_PENALTY).fit(np.vstack([rows, known]), np.eye(found.classes, dtype=np.float32)[labels])
    bias = np.asarray(fitted.intercept_, dtype=np.float32)
    heads = [replace(front.head(fitted.coef_), bias=bias) for front in fronts]
    return mixed(found, [Adapted(heads[0], heads[1])], [1.0])


def shifted(found: Domains, probe: Probe, rng: np.random.Generator, modality: Modality) -> Adapted:
    """The source-only classifier with the classes' shares of the target."""
    return label_shift.fit(found, LabelShift(), rng, modality, probe=probe.fitted)


def _adapted(guessed: Guessed) -> Adapted:
    return Adapted(guessed.target, guessed.source)


def _rows(x: Floats) -> Floats:
    return Unit()(x)
