"""Data sets as a job reads them, and items of them with what is known of their labels."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import SPLITS, DatasetManifest
from core.contract.errors import JobError
from core.contract.models import DataUse
from core.modality.reader import DatasetReader
from worker.engine.door import DataRef
from worker.engine.problems import Targets

Role = Literal["source", "target", "evaluation"]
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
    """Some items of one collection.

    `labels` are what `worker.engine.problems` calls targets: classes of the source by number (n,), zeros and ones for
    each class (n, C), or standardised values (n, 1).
    """

    collection: Collection
    indices: NDArray[np.int64]
    labels: Targets

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, position: int) -> str:
        """The item's path in its upload."""
        return self.collection.manifest.items[int(self.indices[position])].name

    def item(self, position: int) -> Any:
        """The item, decoded."""
        return self.collection.reader.item(int(self.indices[position]))

    def size(self, position: int) -> int:
        """Its bytes, known without reading it."""
        return self.collection.reader.size(int(self.indices[position]))

    def sizes(self) -> list[int]:
        """Every item's bytes, known without reading it."""
        return [self.size(position) for position in range(len(self))]

    def digests(self) -> set[str]:
        """SHA-256 of every item's bytes."""
        return {self.collection.manifest.items[int(index)].sha256 for index in self.indices}


def mapping(collection: Collection, classes: list[str], *, param: str, code: str) -> NDArray[np.int64]:
    """For each class of a collection its number among the source's `classes`; `JobError` for one that is not there."""
    known = {name: number for number, name in enumerate(classes)}
    foreign = [name for name in collection.manifest.classes if name not in known]
    if foreign:
        raise JobError(
            f"The {collection.role} data set has classes that the source does not have: {listed(foreign)}.",
            code=code,
            param=param,
            hint=f"Name its folders as the source's classes, or leave them out: {listed(classes)}.",
            details={"unknown": foreign[:20], "known": classes[:20]},
        )
    return np.array([known[name] for name in collection.manifest.classes], dtype=np.int64)


def listed(names: list[str]) -> str:
    """Some names for a message."""
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
