"""The arms of a job: what its method made, and the cheap baselines that it is compared with.

All of them answer the same two sets of items. *Held out* is what the verdict rests on. *Choosing* are the training and
validation items together, in that order, as far as an arm can answer them honestly (validation items, or out of fold);
a row of NaN stands for one it cannot. What is served is chosen there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.methods import LinearProbe
from core.contract.verdicts import ArmRole, ArmState
from worker.engine.data import Items, JobData
from worker.engine.frozen import FrozenFeatures, embeddings_of
from worker.engine.heads import Head
from worker.engine.methods import linear_probe
from worker.engine.problems import one_hot
from worker.engine.task import Raced, Task, Trained

Floats = NDArray[np.float32]
CONSTANT = frozenset({"majority", "mean"})
_WORST = -4.0  # below any score of a class that has a mean


@dataclass(frozen=True)
class ArmRun:
    """One arm: what was trained, and what it answers."""

    name: str
    role: ArmRole = "baseline"
    state: ArmState = "measured"
    trained: Trained | None = None
    frozen: FrozenFeatures | None = None
    """The base model that it stands on, with its features."""
    choosing: Floats = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    """Logits (training + validation items, C); NaN where there is no honest answer."""
    held_out: Floats = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    """Logits (held-out items, C)."""
    seconds: float | None = None
    note: str = ""
    is_probe: bool = False
    """Whether the method is a linear probe itself, which is no baseline of its own."""


def logits_of(trained: Trained, items: Items, frozen: FrozenFeatures, check: Callable[[], None]) -> Floats:
    """Logits (n, C) of items."""
    if len(items) == 0:
        return np.empty((0, trained.head.classes), dtype=np.float32)
    if trained.backbone is None:
        return trained.head(frozen(items))
    return trained.head(embeddings_of(trained.backbone, items, frozen, check))


def of_method(task: Task, trained: Trained, seconds: float) -> ArmRun:
    """The method's own arm."""
    name = next((one.name for one in trained.raced if one.won), task.options.name)
    arm = _of(task, task.options.name, trained, seconds)
    return replace(arm, is_probe=name == "linear_probe")


def of_race(task: Task, one: Raced) -> ArmRun:
    """A method that ran in the same job and did not win."""
    return replace(_of(task, one.name, one.trained, one.seconds), note="It lost the race.")


def _of(task: Task, name: str, trained: Trained, seconds: float) -> ArmRun:
    choosing = _choosing(task, trained)
    held_out = logits_of(trained, trained.data.held_out, task.features, task.wishes.check)
    return ArmRun(name, "method", "measured", trained, task.features, choosing, held_out, round(seconds, 4))


def _choosing(task: Task, trained: Trained) -> Floats:
    """Out-of-fold answers where they are, else those to the validation items, which were not trained on."""
    trains, validates = len(task.data.train), len(task.data.validation)
    if trained.out_of_fold is not None and len(trained.out_of_fold) == trains + validates:
        return trained.out_of_fold
    found = np.full((trains + validates, trained.head.classes), np.nan, dtype=np.float32)
    if trained.out_of_fold is not None:
        found[:trains] = trained.out_of_fold
    if len(trained.data.validation):
        found[trains:] = logits_of(trained, trained.data.validation, task.features, task.wishes.check)
    return found


def attempt(name: str, run: Callable[[], ArmRun]) -> ArmRun:
    """A baseline that fails is told, and is no reason for the job to fail."""
    begun = time.monotonic()
    try:
        found = run()
    except JobError as error:
        return ArmRun(name, state="failed", note=error.message)
    if found.state != "measured" or found.seconds is not None:
        return found
    return replace(found, seconds=round(time.monotonic() - begun, 4))


def skipped(name: str, why: str) -> ArmRun:
    """A baseline that was not run."""
    return ArmRun(name, state="skipped", note=why)


def on_features(name: str, merged: JobData, head: Head, out_of_fold: Floats, frozen: FrozenFeatures) -> ArmRun:
    """An arm that is a head on the frozen base model, with what it says of each item without having learnt from it."""
    trained = Trained(merged, head, out_of_fold=out_of_fold)
    return ArmRun(name, "baseline", "measured", trained, frozen, out_of_fold, head(frozen(merged.held_out)))


def probe(task: Task, merged: JobData, frozen: FrozenFeatures) -> ArmRun:
    """`linear_probe` with its default options (Kornblith et al., CVPR 2019)."""
    features, control = frozen(merged.train), linear_probe.Control(check=task.wishes.check)
    found = linear_probe.fit(
        features,
        merged.train.labels,
        merged.outputs,
        LinearProbe(),
        rng=task.rng(),
        problem=merged.problem,
        modality=merged.source.modality,
        control=control,
    )
    return on_features("linear_probe", merged, found.head, found.out_of_fold, frozen)


def class_means(merged: JobData, frozen: FrozenFeatures) -> ArmRun:
    """`nearest_class_mean`: SimpleShot's CL2N (Wang et al., 2019): centre, scale to length one, nearest class mean.

    Out of fold each item is taken out of the mean of its class; the centre, of all items, stays.
    """
    features, labels = frozen(merged.train).astype(np.float64), merged.train.labels
    centre = features.mean(axis=0).astype(np.float32)
    z = features - centre
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    member = one_hot("classification", labels, len(merged.classes))
    sums, counts = member.T @ z, member.sum(axis=0)
    weight, bias = _nearest(sums / counts[:, None])
    head = Head(weight.astype(np.float32), bias.astype(np.float32), "centred_l2", centre)
    scores = z @ weight.T + bias
    alone = counts[labels] < 2
    own, own_bias = _nearest((sums[labels] - z) / np.maximum(counts[labels] - 1, 1)[:, None])
    scores[np.arange(len(z)), labels] = np.where(alone, _WORST, (z * own).sum(axis=1) + own_bias)
    return on_features("nearest_class_mean", merged, head, scores.astype(np.float32), frozen)


def _nearest(means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and biases whose scores are the squared distances to the means (…, D), turned round."""
    return 2 * means, -np.square(means).sum(axis=-1)


def _best_tags(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (K,) of the same tags for every item: those by whose number, the commonest first, F1 is highest.

    No tags at all would be an F1 of 0, which any guess beats.
    """
    ordered = np.sort(share)[::-1]
    f1 = 2 * ordered.cumsum() / (np.arange(1, len(share) + 1) + share.sum())
    last = ordered[int(f1.argmax())]
    odds: NDArray[np.float64] = np.log(share / (1 - share))
    return odds - float(np.log(last / (1 - last))) + 0.1


def constant(merged: JobData, frozen: FrozenFeatures) -> ArmRun:
    """`majority`, or for a regression `mean`: one answer to everything, from the training labels alone."""
    labels, width = merged.train.labels, frozen.base.identity.card.width
    if merged.problem == "regression":
        name, bias = "mean", np.asarray(labels, dtype=np.float64).mean(axis=0)
    else:
        share = (one_hot(merged.problem, labels, merged.outputs).sum(axis=0) + 0.5) / (len(labels) + 1)
        name, bias = "majority", np.log(share) if merged.problem == "classification" else _best_tags(share)
    head = Head(np.zeros((merged.outputs, width), dtype=np.float32), bias.astype(np.float32))
    answers = [np.tile(head.bias, (len(items), 1)) for items in (merged.train, merged.held_out)]
    return ArmRun(
        name, "baseline", "measured", Trained(merged, head, out_of_fold=answers[0]), frozen, answers[0], answers[1]
    )
