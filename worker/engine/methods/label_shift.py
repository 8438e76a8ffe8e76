"""`label_shift`: the classes' shares in the target, estimated without labels, and a classifier that reckons with them.

Lipton, Wang, Smola: Detecting and Correcting for Label Shift with Black Box Predictors, ICML 2018; Saerens, Latinne,
Decaestecker: Adjusting the Outputs of a Classifier to New a Priori Probabilities, Neural Computation 2002. A linear
probe's leave-one-out logits (n, C) calibrate it and say how it errs; its logits on the target (m, C) then give the
priors (C,), and log(target prior / source prior) is added to the calibrated logits. Where such priors do not account
for the distance between the domains, the ratio is drawn towards 1, as inputs that have moved make any estimate run
wild (regularised as in Azizzadenesheli, Liu, Yang, Anandkumar: Regularized Learning for Domain Adaptation under Label
Shifts, ICLR 2019).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.methods import LabelShift, LinearProbe
from worker.engine.heads import Head
from worker.engine.methods import linear_probe
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.maths import label_shift
from worker.engine.methods.maths.reweighting import explained
from worker.engine.methods.reweighted import compared, through_kernel
from worker.engine.metrics import softmax
from worker.engine.task import Task, Trained

Array = NDArray[np.float64]
_NAMED = 5
_WHOLE = 0.8  # of the distance: what is left may be chance


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, LabelShift)
    modality = task.data.source.modality
    names = task.data.classes
    return adapt(task, lambda found, rng: fit(found, options, rng, modality, names))


@dataclass(frozen=True)
class _Said:
    """Calibrated answers: of source items (n, C) by fits without them, of target items (m, C).

    They are those of `head` with `bias` (C,) added.
    """

    head: Head
    bias: Array
    source: Array
    target: Array


def fit(
    found: Domains,
    options: LabelShift,
    rng: np.random.Generator,
    modality: Modality = "image",
    names: list[str] | None = None,
    *,
    probe: linear_probe.Fitted | None = None,
) -> Adapted:
    """On arrays; `probe` is the source's own one, where it was fitted already."""
    said = _calibrated(found, probe or source_probe(found, rng, modality))
    source, target = through_kernel(*compared(found, options.components, rng, modality), rng)
    estimate = _estimator(found, said, options, source, target)
    n, m = len(found.ys), len(found.xt)
    priors = estimate(np.ones(n), np.ones(m))
    low, high = label_shift.interval(estimate, n, m, rng)
    before = np.bincount(found.ys, minlength=found.classes) / n
    # Half an item at least: a class that was not seen among m items may still come.
    ratio = np.maximum(priors, 0.5 / m) / before
    trust = explained(source, target, ratio[found.ys])
    shift = trust * said.bias + np.log(1 + trust * (ratio - 1))
    head = replace(said.head, bias=(said.head.bias + shift - shift.mean()).astype(np.float32))
    names = [str(number) for number in range(found.classes)] if names is None else names
    shares = {
        name: {"source": a, "target": b, "low": c, "high": d}
        for name, a, b, c, d in zip(names, *(np.round(x, 4).tolist() for x in (before, priors, low, high)), strict=True)
    }
    notes = [_moved(before, priors, low, high, names), _trusted(trust)]
    return Adapted(head, options={"class_shares": shares, "explained": round(trust, 4)}, notes=notes)


def source_probe(found: Domains, rng: np.random.Generator, modality: Modality) -> linear_probe.Fitted:
    """A linear probe on the source: what one would have without adapting."""
    return linear_probe.fit(found.xs, found.ys, found.classes, LinearProbe(), rng=rng, modality=modality)


def _calibrated(found: Domains, fitted: linear_probe.Fitted) -> _Said:
    """The probe, with the bias and scale that make its answers probabilities."""
    # Where a class has one item there may be no fit without it: what is said of it then is said too surely.
    held_out = np.where(np.isfinite(fitted.out_of_fold), fitted.out_of_fold, fitted.head(found.xs))
    factor, bias = label_shift.calibrate(held_out.astype(np.float64), found.ys)
    head = replace(
        fitted.head,
        weight=(fitted.head.weight * factor).astype(np.float32),
        bias=(fitted.head.bias * factor).astype(np.float32),
    )
    return _Said(head, bias, softmax(factor * held_out + bias), softmax(head(found.xt) + bias))


def _estimator(found: Domains, said: _Said, options: LabelShift, source: Array, target: Array) -> label_shift.Estimator:
    if options.estimator == "mlls":
        return label_shift.mlls(said.source, said.target)
    if options.estimator == "bbse":
        return label_shift.matching(said.source, found.ys, said.target, found.classes)
    return label_shift.matching(source, found.ys, target, found.classes)


def _trusted(trust: float) -> str:
    other = "inputs have moved in another way, too" if trust < _WHOLE else "nothing else seems to have moved"
    return (
        f"Such shares account for {trust:.0%} of the domains' distance and are reckoned with to that extent: {other}."
    )


def _moved(before: Array, priors: Array, low: Array, high: Array, names: list[str]) -> str:
    """Says which shares have moved beyond their interval, the widest first."""
    moved = np.flatnonzero((before < low) | (before > high))
    moved = moved[np.argsort(-np.abs(priors - before)[moved])]
    if not len(moved):
        return "No class's share in the target differs from that in the source beyond chance."
    said = [
        f"{names[c]} {before[c]:.1%} to {priors[c]:.1%} (90 % interval {low[c]:.1%} to {high[c]:.1%})"
        for c in moved[:_NAMED]
    ]
    more = f", and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
    return (
        f"Shares that have moved beyond chance, if each class looks as it did in the source: {', '.join(said)}{more}."
    )
