"""A job's data: manifests read, checked, split into training, validation and held-out items."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import SPLITS, DatasetManifest, Split
from core.contract.errors import JobError
from core.contract.models import DataUse
from core.modality.reader import DatasetReader
from worker.engine.door import DataRef, Inputs

Role = Literal["source", "evaluation"]
_NAMED = 5  # classes named in a message


@dataclass(frozen=True)
class Collection:
    """A data set as the job reads it."""

    ref: DataRef
    role: Role
    manifest: DatasetManifest
    reader: DatasetReader

    def use(self) -> DataUse:
        """How it stands in the model's manifest."""
        counts = Counter(item.split for item in self.manifest.items)
        return DataUse(
            dataset_id=self.ref.id,
            role=self.role,
            manifest_sha256=self.ref.manifest_sha256,
            content_sha256=self.manifest.content_sha256,
            items=len(self.manifest.items),
            splits={split: counts[split] for split in SPLITS},
        )


@dataclass(frozen=True)
class Items:
    """Some items of one collection; labels index the source's classes."""

    collection: Collection
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, position: int) -> str:
        """The item's path in its upload."""
        return self.collection.manifest.items[int(self.indices[position])].name

    def digests(self) -> set[str]:
        """SHA-256 of every item's bytes."""
        return {self.collection.manifest.items[int(index)].sha256 for index in self.indices}


@dataclass(frozen=True)
class JobData:
    """What a job trains, validates and measures on."""

    classes: list[str]
    train: Items
    validation: Items
    held_out: Items
    collections: list[Collection]

    @property
    def evaluated_on(self) -> Literal["test_split", "evaluation_dataset"]:
        """Where the held-out items come from."""
        return "test_split" if self.held_out.collection.role == "source" else "evaluation_dataset"

    def merged(self) -> "JobData":
        """The same with the validation items among the training items, for methods that validate by themselves."""
        train, more = self.train, self.validation
        indices = np.concatenate([train.indices, more.indices])
        labels = np.concatenate([train.labels, more.labels])
        return replace(
            self,
            train=Items(train.collection, indices, labels),
            validation=Items(train.collection, indices[:0], labels[:0]),
        )

    def close(self) -> None:
        """Close the data sets' files."""
        for collection in self.collections:
            collection.reader.close()


def read(inputs: Inputs) -> JobData:
    """Read and check the data sets.

    Without an evaluation data set the source's splits are used as they are. With one, all its items are held out, and
    the source's test split is trained on, too. Raises `JobError`: `labels_required`, `too_few_classes`,
    `no_training_items`, `class_without_items`, `classes_differ`, `no_held_out_items`.
    """
    source = _open(inputs.source, "source")
    collections = [source]
    try:
        _labelled(source)
        if inputs.evaluation is not None:
            collections.append(_open(inputs.evaluation, "evaluation"))
        data = _split(source, collections[1] if inputs.evaluation else None, collections)
        _check(data)
    except BaseException:
        for collection in collections:
            collection.reader.close()
        raise
    return data


def _open(ref: DataRef, role: Role) -> Collection:
    manifest = DatasetManifest.model_validate_json(ref.manifest.read_bytes())
    return Collection(ref, role, manifest, DatasetReader(manifest, ref.content))


def _labelled(collection: Collection) -> None:
    manifest = collection.manifest
    if not manifest.labelled or any(item.label is None for item in manifest.items):
        raise JobError(
            f"The {collection.role} data set has no labels.",
            code="labels_required",
            param=collection.role,
            hint="Upload a zip with one folder per class.",
        )


def _split(source: Collection, evaluation: Collection | None, collections: list[Collection]) -> JobData:
    own = np.arange(len(source.manifest.classes))
    training: tuple[Split, ...] = ("train",) if evaluation is None else ("train", "test")
    if evaluation is None:
        held_out = _select(source, ("test",), own)
    else:
        _labelled(evaluation)
        held_out = _select(evaluation, SPLITS, _mapping(evaluation, source))
    return JobData(
        classes=source.manifest.classes,
        train=_select(source, training, own),
        validation=_select(source, ("validation",), own),
        held_out=held_out,
        collections=collections,
    )


def _select(collection: Collection, splits: tuple[Split, ...], mapping: NDArray[np.int64]) -> Items:
    chosen = [(i, item.label) for i, item in enumerate(collection.manifest.items) if item.split in splits]
    pairs = np.array(chosen, dtype=np.int64).reshape(-1, 2)
    return Items(collection, pairs[:, 0], mapping[pairs[:, 1]])


def _mapping(evaluation: Collection, source: Collection) -> NDArray[np.int64]:
    """For each class of the evaluation data set, its number in the source."""
    known = {name: number for number, name in enumerate(source.manifest.classes)}
    foreign = [name for name in evaluation.manifest.classes if name not in known]
    if foreign:
        raise JobError(
            f"The evaluation data set has classes that the source does not have: {_names(foreign)}.",
            code="classes_differ",
            param="evaluation",
            hint=f"Name its folders as the source's classes: {_names(source.manifest.classes)}.",
            details={"unknown": foreign[:20], "known": source.manifest.classes[:20]},
        )
    return np.array([known[name] for name in evaluation.manifest.classes], dtype=np.int64)


def _check(data: JobData) -> None:
    if len(data.classes) < 2:
        raise JobError(
            f"There is only one class, {data.classes[0]!r}: nothing can be told apart.",
            code="too_few_classes",
            param="source",
            hint="Upload a data set with at least two class folders.",
        )
    if len(data.train) == 0:
        raise JobError(
            "The source data set has no training items.",
            code="no_training_items",
            param="source",
            hint="Put items into a `train` folder, or upload plain class folders and let the service split them.",
        )
    empty = np.flatnonzero(np.bincount(data.train.labels, minlength=len(data.classes)) == 0)
    if len(empty):
        raise JobError(
            f"No training items for {_names([data.classes[number] for number in empty])}.",
            code="class_without_items",
            param="source",
            hint="Add items of these classes to the training split, or leave the classes out.",
        )
    if len(data.held_out) == 0:
        raise JobError(
            "No items are held out, so nobody could say how good the model is.",
            code="no_held_out_items",
            param="evaluation",
            hint="Add items to the source's `test` folder, or give an `evaluation` data set.",
        )


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
