"""The items of a job that is measured on episodes, and its classes, divided."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.methods.episodic import Episodic
from worker.engine.data import Items, JobData
from worker.engine.few_shot.classes import ClassSplit, divide
from worker.engine.few_shot.episodes import MIRRORED, Pool, feasible, turns_of

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Test:
    """Episodes of one kind that are measured."""

    ways: int
    shots: int
    queries: int


@dataclass(frozen=True)
class Material:
    """What episodes are drawn from."""

    data: JobData
    options: Episodic
    split: ClassSplit

    @classmethod
    def of(cls, data: JobData, options: Episodic, *, trains: bool) -> "Material":
        """Of a job's data; `JobError` where there are too few classes or items for what is asked."""
        if data.problem != "classification":
            raise JobError(
                f"Episodes are drawn from classes; this is {data.problem}.",
                code="not_applicable",
                param="method",
                hint="Choose another method, e.g. `linear_probe`.",
            )
        split = divide(data.classes, options, elsewhere=data.novel is not None, trains=trains)
        found = cls(data, options, split)
        found.tests  # noqa: B018 - it is refused here what cannot be drawn
        return found

    @cached_property
    def items(self) -> Items:
        """Training, validation and held-out items of the source, in this order."""
        train, more, held_out = self.data.train, self.data.validation, self.data.held_out
        parts = [train, more, held_out] if held_out.collection is train.collection else [train, more]
        return Items(
            train.collection,
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )

    @cached_property
    def learnable(self) -> int:
        """How many of these are not held out, the first ones."""
        return len(self.data.train) + len(self.data.validation)

    @property
    def measured(self) -> Items:
        """Those that test episodes are drawn from."""
        return self.items if self.data.novel is None else self.data.novel

    def pool(self, classes: list[int], what: str, *, mirrored: bool = False) -> Pool:
        """Items to train or validate with: none that is held out. `mirrored` has mirror images be classes, too."""
        turns = MIRRORED if mirrored and self.options.rotations else turns_of(self.options)
        return Pool.of(self.items.labels[: self.learnable], classes, turns=turns, what=what)

    @cached_property
    def test_pool(self) -> Pool:
        """Items of new classes."""
        labels = self.measured.labels
        classes = self.split.test if self.data.novel is None else list(range(len(self.test_names)))
        return Pool.of(labels, classes, turns=turns_of(self.options), what="test")

    @property
    def test_names(self) -> list[str]:
        """The classes that are measured on."""
        if self.data.novel is None:
            return [self.data.classes[number] for number in self.split.test]
        return self.data.novel.collection.manifest.classes

    @cached_property
    def tests(self) -> list[Test]:
        """All kinds of episodes that are measured, the one that the verdict rests on first."""
        wanted = [(ways, shots) for ways in self.options.ways for shots in self.options.shots]
        return [
            Test(ways, shots, feasible(self.test_pool, ways, shots, self.options.queries)) for ways, shots in wanted
        ]
