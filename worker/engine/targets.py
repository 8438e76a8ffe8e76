"""The data of the new domain: what a method may see of it, and what only measures.

A method is given all target items without their labels (-1). Under `few` a handful of labels of each class are shown to
it, to choose by (audit labels), and are not measured on. All other labels stand with the held-out items alone, which no
method, and nothing that decides on what is served, looks at.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.jobs import TargetLabels
from worker.engine.datasets import Collection, Items, mapping

AUDIT = 5  # labels of each class, at most
UNKNOWN = -1


@dataclass(frozen=True)
class Target:
    """The target's items as they are adapted to, and those of them that measure (none where nothing is known)."""

    items: Items
    measured: Items


def divide(
    collection: Collection, classes: list[str], labels: TargetLabels, *, audit_all: bool, rng: np.random.Generator
) -> Target:
    """Divide a target collection; `classes` are the source's.

    With `audit_all` (there is an evaluation data set) every label may be an audit label. Raises `JobError`
    `label_space_open` where it has classes that the source lacks, `labels_required` where `few` finds no label.
    """
    manifest = collection.manifest
    truth = np.full(len(manifest.items), UNKNOWN, dtype=np.int64)
    if labels != "none" and manifest.problem == "classification" and manifest.labelled:
        numbers = mapping(collection, classes, param="target", code="label_space_open")
        known = [(place, item.label) for place, item in enumerate(manifest.items) if item.label is not None]
        for place, label in known:
            truth[place] = numbers[label]
    shown = np.full_like(truth, UNKNOWN)
    if labels == "few":
        chosen = _audit(truth, whole=audit_all, rng=rng)
        shown[chosen] = truth[chosen]
    if labels == "few" and not (shown >= 0).any():
        raise JobError(
            "None of the target's items has a label.",
            code="labels_required",
            param="target_labels",
            hint="Label one to five items of each class, or leave `target_labels` out.",
        )
    everything = np.arange(len(truth))
    measured = np.flatnonzero((truth >= 0) & (shown < 0))
    return Target(Items(collection, everything, shown), Items(collection, measured, truth[measured]))


def _audit(truth: NDArray[np.int64], *, whole: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of the audit labels: of each class at most five, and at most half unless all may be taken."""
    if whole:
        return np.flatnonzero(truth >= 0)
    found = []
    for number in np.unique(truth[truth >= 0]):
        own = rng.permutation(np.flatnonzero(truth == number))
        found.append(own[: min(AUDIT, -(-len(own) // 2))])
    return np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
