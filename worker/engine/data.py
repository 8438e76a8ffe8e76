"""A job's data: manifests read, checked, split into training, validation and held-out items."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import SPLITS, DatasetManifest, Item, Problem, Split
from core.contract.errors import JobError
from core.contract.jobs import TargetLabels
from core.contract.models import ModelManifest
from core.contract.reports import EvaluatedOn
from core.modality.reader import DatasetReader
from worker.engine import problems
from worker.engine.datasets import Collection, Items, Role, listed, mapping
from worker.engine.door import Inputs
from worker.engine.partners import partners
from worker.engine.problems import Targets, TargetScale
from worker.engine.targets import UNKNOWN, divide

__all__ = ["Collection", "Items", "JobData", "class_counts", "read", "select"]


@dataclass(frozen=True)
class JobData:
    """What a job trains, validates and measures on."""

    classes: list[str]
    train: Items
    validation: Items
    held_out: Items
    collections: list[Collection]
    problem: Problem = "classification"
    scale: TargetScale | None = None
    """Of a regression."""
    target: Items | None = None
    """All items of the new domain, where there is one; their labels are -1, but for those that may be chosen by."""
    novel: Items | None = None
    """Items of other classes that episodes are drawn from, where there are such; labels count in their own classes."""
    hypothesis: ModelManifest | None = None
    """The model that knows the classes, where there is no source: nothing is trained or validated on labels then."""

    @property
    def source(self) -> DatasetManifest:
        """What is learnt from: the source, or, without one, the target."""
        return self.collections[0].manifest

    @property
    def learnt(self) -> Items:
        """What an epoch goes through: the training items, or, without a source, those of the target."""
        return self.train if self.hypothesis is None or self.target is None else self.target

    @property
    def tried(self) -> Items:
        """Real items that a graph is tried on: held-out ones, or, where nothing is measured, those of the target."""
        return self.held_out if len(self.held_out) or self.target is None else self.target

    @property
    def predicted(self) -> str | None:
        """Name of what is predicted, where it has one."""
        return self.source.target if self.hypothesis is None else self.hypothesis.target

    @property
    def outputs(self) -> int:
        """Number of logits, C."""
        return problems.outputs(self.problem, self.classes)

    @property
    def evaluated_on(self) -> EvaluatedOn:
        """Where the held-out items come from."""
        if self.hypothesis is not None and len(self.held_out) == 0:
            return "nothing"
        return _PLACES[self.held_out.collection.role]

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


_PLACES: dict[Role, EvaluatedOn] = {
    "source": "test_split",
    "target": "target",
    "evaluation": "evaluation_dataset",
}


def read(
    inputs: Inputs,
    *,
    measured: bool = True,
    labelled: bool = True,
    target_labels: TargetLabels = "evaluation",
    across: bool = False,
    episodic: bool = False,
    seed: int = 0,
) -> JobData:
    """Read and check the data sets.

    Without an evaluation data set the source's splits are used as they are. With one, all its items are held out; with
    a labelled target those of its items that nothing is chosen by; the source's test split then is trained on, too.
    In an `episodic` job the evaluation data set has classes of its own, and only episodes are measured on it.
    `across` kinds of data an unlabelled target is measured on items whose partner is in that split. Where nothing is
    `measured`, held-out items may be missing; where it need not be `labelled`, a source without labels is all training
    items. Raises `JobError`: `labels_required`, `too_few_classes`, `no_training_items`, `class_without_items`,
    `constant_target`, `classes_differ`, `label_space_open`, `problems_differ`, `no_held_out_items`.
    """
    with opened(inputs) as collections:
        alone = not labelled and not collections[0].manifest.labelled
        if not alone:
            check_labelled(collections[0])
        if alone:
            data = _unlabelled(collections)
        elif episodic and inputs.evaluation is not None:
            *own, other = collections
            data = replace(_split(own, target_labels, seed), collections=collections, novel=_novel(own[0], other))
        else:
            data = _split(collections, target_labels, seed)
        if not alone:
            data = _across(data) if across else data
            _check(data, measured)
        return data


_ROLES: tuple[Role, ...] = ("source", "target", "evaluation")


@contextmanager
def opened(inputs: Inputs) -> Iterator[list[Collection]]:
    """The data sets, the source first; they stay open, unless what is made of them fails."""
    collections: list[Collection] = []
    try:
        for ref, role in zip((inputs.source, inputs.target, inputs.evaluation), _ROLES, strict=True):
            if ref is not None:
                manifest = DatasetManifest.model_validate_json(ref.manifest.read_bytes())
                collections.append(Collection(ref, role, manifest, DatasetReader(manifest, ref.content)))
        yield collections
    except BaseException:
        for collection in collections:
            collection.reader.close()
        raise


def check_labelled(collection: Collection) -> None:
    """`JobError` `labels_required`."""
    if not collection.manifest.labelled:
        raise JobError(
            f"The {collection.role} data set has no labels.",
            code="labels_required",
            param=collection.role,
            hint="Upload a zip with one folder per class, or a table with a column of labels.",
        )


def _has_target(item: Item) -> bool:
    return item.label is not None or item.labels is not None or item.value is not None


def check_alike(problem: Problem, answered: Collection, evaluation: Collection) -> None:
    """Refuse to measure on another kind of data than what is `answered`, or on answers to another question."""
    modality, theirs = answered.manifest.modality, evaluation.manifest
    if (modality, problem) == (theirs.modality, theirs.problem):
        return
    raise JobError(
        f"The evaluation data set is {theirs.modality}, {theirs.problem}; the {answered.role} is {modality}, "
        f"{problem}.",
        code="problems_differ",
        param="evaluation",
        hint=f"Upload it again in the {answered.role}'s form; `modality` and `problem` say how a table is to be read.",
    )


def _split(collections: list[Collection], target_labels: TargetLabels, seed: int) -> JobData:
    source, *others = collections
    classes = source.manifest.classes
    given = {one.role: one for one in others}
    evaluation = given.get("evaluation")
    target = None
    if "target" in given:
        rng = np.random.default_rng(seed)
        target = divide(given["target"], classes, target_labels, audit_all=evaluation is not None, rng=rng)
    elsewhere = evaluation is not None or (target is not None and len(target.measured) > 0)
    training: tuple[Split, ...] = ("train", "test") if elsewhere else ("train",)
    scale = _scale(source, training) if source.manifest.problem == "regression" else None
    own = _Reader(np.arange(len(classes)), len(classes), scale)
    if evaluation is not None:
        check_labelled(evaluation)
        check_alike(source.manifest.problem, given.get("target", source), evaluation)
        numbers = mapping(evaluation, classes, param="evaluation", code="classes_differ")
        held_out = _Reader(numbers, own.classes, scale).select(evaluation, SPLITS)
    elif target is not None and elsewhere:
        held_out = target.measured
    else:
        held_out = own.select(source, ("test",))
    return JobData(
        classes=classes,
        train=own.select(source, training),
        validation=own.select(source, ("validation",)),
        held_out=held_out,
        collections=collections,
        problem=source.manifest.problem,
        scale=scale,
        target=None if target is None else target.items,
    )


def _novel(source: Collection, evaluation: Collection) -> Items:
    """All items of classes that the source does not have; `JobError` where it has some of them."""
    check_labelled(evaluation)
    check_alike(source.manifest.problem, source, evaluation)
    theirs = evaluation.manifest.classes
    known = sorted(set(theirs) & set(source.manifest.classes))
    if known:
        raise JobError(
            f"The source has classes that are to be new: {listed(known)}.",
            code="classes_known",
            param="evaluation",
            hint="Leave these classes out of the source or of the evaluation data set, or name them otherwise.",
            details={"known": known[:20]},
        )
    return _Reader(np.arange(len(theirs)), len(theirs), None).select(evaluation, SPLITS)


def _unlabelled(collections: list[Collection]) -> JobData:
    """Items alone: no classes, nothing to validate or to measure on."""
    source = collections[0]
    found = {one.role: _items(one, len(one.manifest.items)) for one in collections}
    none = _items(source, 0)
    return JobData([], found["source"], none, none, collections, target=found.get("target"))


def _items(collection: Collection, count: int) -> Items:
    return Items(collection, np.arange(count), np.full(count, UNKNOWN))


def _across(data: JobData) -> JobData:
    """Measured on items of the target whose partner is held out, where the target has no labels of its own.

    `JobError` `no_held_out_items` where there are none, and items of the source are of another kind.
    """
    if data.target is None or data.evaluated_on != "test_split":
        return data
    found, target = partners(data.held_out, data.target), data.target.collection.manifest
    if len(found):
        return replace(data, held_out=found)
    if (target.modality, target.columns) == (data.source.modality, data.source.columns):
        return data
    raise JobError(
        "No item of the target has a label or a partner in the source's test split, so nobody could say how good the "
        "model is.",
        code="no_held_out_items",
        param="target",
        hint="Give some items of the target labels, or pair more of them with labelled items of the source.",
    )


def _scale(source: Collection, training: tuple[Split, ...]) -> TargetScale:
    """Mean and spread of the training values: what the validation and the test split say stays out of it."""
    values = [item.value for item in source.manifest.items if item.split in training]
    found = np.array([value for value in values if value is not None], dtype=np.float64)
    spread = float(found.std()) if len(found) else 0.0
    if len(found) and spread <= 1e-12 * max(1.0, float(np.abs(found).max())):
        raise JobError(
            f"All training items have the same value, {found[0]:g}: there is nothing to learn.",
            code="constant_target",
            param="source",
            hint="Check that the right column is the target.",
        )
    return TargetScale(float(found.mean()) if len(found) else 0.0, spread or 1.0)


@dataclass(frozen=True)
class _Reader:
    """Takes items and their targets out of a collection."""

    mapping: NDArray[np.int64]
    """For each class of the collection its number in the source."""
    classes: int
    """Of the source."""
    scale: TargetScale | None

    def select(self, collection: Collection, splits: tuple[Split, ...]) -> Items:
        """The items of those splits; those without a label are left out."""
        items = collection.manifest.items
        wanted = [i for i, item in enumerate(items) if item.split in splits and _has_target(item)]
        indices = np.array(wanted, dtype=np.int64)
        return Items(collection, indices, self._targets(collection.manifest, [items[i] for i in indices]))

    def _targets(self, manifest: DatasetManifest, items: list[Item]) -> Targets:
        if manifest.problem == "classification":
            return self.mapping[np.array([item.label for item in items], dtype=np.int64)]
        if manifest.problem == "multi_label":
            found = np.zeros((len(items), self.classes), dtype=np.float32)
            for row, item in enumerate(items):
                found[row, self.mapping[item.labels or []]] = 1
            return found
        assert self.scale is not None
        values = np.array([[item.value] for item in items], dtype=np.float64).reshape(-1, 1)
        return ((values - self.scale.mean) / self.scale.std).astype(np.float32)


def select(collection: Collection, splits: tuple[Split, ...], classes: list[str]) -> tuple[Items, TargetScale | None]:
    """Items of a collection by themselves, with the scale of their values where it is a regression.

    `classes` are those that the targets are to count in; they must hold all of the collection's.
    """
    manifest = collection.manifest
    scale = _scale(collection, splits) if manifest.problem == "regression" else None
    mapping = np.array([classes.index(name) for name in manifest.classes], dtype=np.int64)
    return _Reader(mapping, len(classes), scale).select(collection, splits), scale


def _check(data: JobData, measured: bool) -> None:
    if data.problem == "classification" and len(data.classes) < 2:
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
    empty = np.flatnonzero(class_counts(data) == 0)
    if len(empty):
        raise JobError(
            f"No training items for {listed([data.classes[number] for number in empty])}.",
            code="class_without_items",
            param="source",
            hint="Add items of these classes to the training split, or leave the classes out.",
        )
    if measured and len(data.held_out) == 0:
        raise JobError(
            "No items are held out, so nobody could say how good the model is.",
            code="no_held_out_items",
            param="evaluation",
            hint="Add items to the source's `test` folder, or give an `evaluation` data set.",
        )


def class_counts(data: JobData) -> NDArray[np.int64]:
    """Training items of each class (C,); of a regression, which has none, (0,)."""
    if data.problem == "classification":
        return np.bincount(data.train.labels, minlength=len(data.classes))
    if data.problem == "multi_label":
        return np.asarray(data.train.labels.sum(axis=0), dtype=np.int64)
    return np.empty(0, dtype=np.int64)
