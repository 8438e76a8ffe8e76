"""Arms and figures that need the parent, where a job starts from one of the user's own models."""

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import DatasetManifest, Split
from core.contract.models import ModelManifest
from core.contract.verdicts import Forgetting
from core.modality.reader import DatasetReader
from worker.engine.arms import ArmRun, logits_of, skipped
from worker.engine.backbones import own
from worker.engine.data import Collection, Items, JobData, select
from worker.engine.door import DataRef, Inputs
from worker.engine.frozen import FrozenFeatures
from worker.engine.heads import Head
from worker.engine.problems import TargetScale, score
from worker.engine.task import Task, Trained

Floats = NDArray[np.float32]
NAME = "previous_model"
MOST_ITEMS = 500  # of the former data that forgetting is measured on


def previous_model(task: Task, inputs: Inputs, merged: JobData, frozen: FrozenFeatures) -> ArmRun:
    """The parent as it is, on the items of this job; skipped where it answers another question.

    What it says of items that it may have learnt from tells nothing: where this very data set was its source, it has
    no choosing rows, so that it is measured, but not served in the method's place.
    """
    assert inputs.parent is not None
    found = own.manifest(inputs.parent)
    reason = _differs(found, merged, frozen)
    head = None if reason else own.head(inputs.parent, found)
    if head is None:
        return skipped(NAME, reason or "The parent is an embedding without a classifier.")
    trained = Trained(merged, _aligned(head, found, merged))
    choosing, note = logits_of(trained, merged.train, frozen, task.wishes.check), ""
    if inputs.source and any(use.manifest_sha256 == inputs.source.manifest_sha256 for use in found.data):
        choosing = np.full_like(choosing, np.nan)
        note = "It learnt from this data set, so it is measured on the held-out items alone."
    held_out = logits_of(trained, merged.held_out, frozen, task.wishes.check)
    trained = Trained(merged, trained.head, out_of_fold=choosing)
    return ArmRun(NAME, "baseline", "measured", trained, frozen, choosing, held_out, note=note)


def _differs(found: ModelManifest, data: JobData, frozen: FrozenFeatures) -> str:
    """Why the parent cannot be asked what this job asks; empty where it can."""
    if found.problem != data.problem:
        return f"The parent answers another question ({found.problem})."
    if set(found.classes) != set(data.classes):
        return "The parent knows other classes."
    if data.problem == "regression" and found.target != data.source.target:
        return "The parent predicts another column."
    if found.prepare != frozen.base.identity.card.prepare:
        return "The parent reads its items otherwise."
    return ""


def _aligned(head: Head, found: ModelManifest, data: JobData) -> Head:
    """The parent's head with this job's order of classes, or in this job's unit."""
    if data.scale is not None:
        return head.rescaled(-data.scale.mean / data.scale.std, 1 / data.scale.std)
    order = [found.classes.index(name) for name in data.classes]
    return head.reordered(order)


def forgetting(task: Task, inputs: Inputs, served: ArmRun) -> Forgetting | None:
    """What the served arm still knows of the data that the parent learnt from.

    Before: the parent's network and head. After: the new network, with its new head where both know the same classes,
    else with the parent's, for which the question is how far its features have moved. None where there is no parent,
    where its held-out items are gone or another kind, or where nothing can have moved: a frozen network with other
    classes. At most 500 items, evenly spread; the figure is accuracy, micro-averaged F1 or R2.
    """
    if inputs.parent is None or inputs.former is None or served.trained is None or served.frozen is None:
        return None
    found = own.manifest(inputs.parent)
    head = own.head(inputs.parent, found)
    same = not _differs(found, task.data, served.frozen)
    moved = served.trained.backbone is not None
    if head is None or found.prepare != served.frozen.base.identity.card.prepare or not (moved or same):
        return None
    former = _former(inputs.former, found)
    if former is None:
        return None
    try:
        # A whole data set is embedded, and kept, only where its features serve both figures.
        before = Trained(task.data, _standardised(head, former[1]), served.frozen.base.backbone() if moved else None)
        new = _back(served.trained.head, task.data, found, former[1]) if same else before.head
        after = Trained(task.data, new, served.trained.backbone)
        answers = [logits_of(one, former[0], served.frozen, task.wishes.check) for one in (before, after)]
        figures = [score(found.problem, logits, former[0].labels) for logits in answers]
        return Forgetting(dataset_id=inputs.former.id, items=len(former[0]), before=figures[0], after=figures[1])
    finally:
        former[0].collection.reader.close()


def _standardised(head: Head, unit: TargetScale | None) -> Head:
    return head if unit is None else head.rescaled(-unit.mean / unit.std, 1 / unit.std)


def _back(head: Head, data: JobData, found: ModelManifest, unit: TargetScale | None) -> Head:
    """The new head with the parent's order of classes, or in the former data's unit."""
    if data.scale is not None:
        return _standardised(head.rescaled(data.scale.mean, data.scale.std), unit)
    order = [data.classes.index(name) for name in found.classes]
    return head.reordered(order)


def _former(ref: DataRef, found: ModelManifest) -> tuple[Items, TargetScale | None] | None:
    """Items that the parent was measured on: all of its evaluation data set, or its source's test split."""
    use = next((use for use in found.data if use.manifest_sha256 == ref.manifest_sha256), None)
    manifest = DatasetManifest.model_validate_json(ref.manifest.read_bytes())
    known = set(manifest.classes) <= set(found.classes) and manifest.problem == found.problem
    if use is None or not known:
        return None
    collection = Collection(ref, "evaluation", manifest, DatasetReader(manifest, ref.content))
    splits: tuple[Split, ...] = ("test",) if use.role == "source" else ("train", "validation", "test")
    items, unit = select(collection, splits, found.classes)
    if len(items) == 0:
        collection.reader.close()
        return None
    kept = np.unique(np.linspace(0, len(items) - 1, min(len(items), MOST_ITEMS)).round().astype(np.int64))
    return Items(collection, items.indices[kept], items.labels[kept]), unit
