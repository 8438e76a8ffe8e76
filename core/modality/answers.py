"""Labels as they were written -> classes, indices and values; what the manifest and the report say of them."""

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.contract.datasets import SPLITS, ClassCount, Item, Problem, Split
from core.modality.faults import FaultBook

Answer = str | tuple[str, ...] | float | None
"""What an item's label says: a class, classes, a number; None where there is no label."""


@dataclass(frozen=True)
class Answers:
    """What is to be predicted, of each item in order; `classes` is empty without labels and for a regression."""

    problem: Problem
    given: Sequence[Answer]
    classes: list[str] = field(default_factory=list)

    @property
    def labelled(self) -> bool:
        """Whether there is anything to predict."""
        return self.problem == "regression" or bool(self.classes)

    @property
    def open(self) -> list[int]:
        """Items without an answer where others have one."""
        if not self.labelled:
            return []
        return [index for index, answer in enumerate(self.given) if answer is None]

    def fields(self) -> Iterable[Mapping[str, Any]]:
        """For each item its `label`, `labels` or `value`, as `Item` calls them."""
        index = {name: number for number, name in enumerate(self.classes)}
        for answer in self.given:
            if answer is None:
                yield {}
            elif isinstance(answer, str):
                yield {"label": index[answer]}
            elif isinstance(answer, tuple):
                yield {"labels": sorted(index[name] for name in answer)}
            else:
                yield {"value": answer}

    def strata(self, groups: Sequence[Hashable]) -> list[int | None]:
        """What splits are to be balanced by: the class; an item's rarest class; a tenth of the values in order.

        Items of equal `groups` have equal strata, so that copies stay together.
        """
        if self.problem == "regression":
            return _quantiles(self.given, groups)
        index = {name: number for number, name in enumerate(self.classes)}
        if self.problem == "multi_label":
            counts = Counter(name for answer in self.given if isinstance(answer, tuple) for name in answer)
            return [_rarest(answer, counts, index) for answer in self.given]
        return [index[answer] if isinstance(answer, str) else None for answer in self.given]


def answers_of(problem: Problem, given: Sequence[Answer], *, by_number: bool = False) -> Answers:
    """Name the classes: sorted; by their numbers, if asked for and all are numbers."""
    if problem == "regression":
        return Answers(problem, given)
    if problem == "multi_label":
        names = {name for answer in given if isinstance(answer, tuple) for name in answer}
    else:
        names = {answer for answer in given if isinstance(answer, str)}
    if by_number and all(_is_number(name) for name in names):
        return Answers(problem, given, sorted(names, key=lambda name: (float(name), name)))
    return Answers(problem, given, sorted(names))


def count_classes(classes: Sequence[str], items: Sequence[Item]) -> list[ClassCount]:
    """How many items of each class stand in each split; one of several classes counts in each."""
    counts: Counter[tuple[int, Split]] = Counter()
    for item in items:
        labels = item.labels or () if item.label is None else (item.label,)
        counts.update((label, item.split) for label in labels)
    return [
        ClassCount(name=name, **{split: counts[index, split] for split in SPLITS}) for index, name in enumerate(classes)
    ]


def note_answers(book: FaultBook, answers: Answers, classes: Sequence[ClassCount], splits: Counter[Split]) -> None:
    """Note what is unusual about classes, values and splits."""
    for row in classes:
        if row.total < 3:
            book.add("class_too_small", f"{row.name}: {row.total}")
        if row.train == 0:
            book.add("class_without_training", row.name)
    if not answers.labelled:
        book.add("unlabelled", f"{splits.total()} items")
    elif answers.problem == "regression":
        if len(set(answers.given)) == 1:
            book.add("single_value", str(answers.given[0]))
    elif len(classes) == 1:
        book.add("single_class", classes[0].name)
    else:
        small, large = (pick(classes, key=lambda row: row.total) for pick in (min, max))
        if large.total > 5 * small.total:
            book.add("imbalance", f"{large.name}: {large.total}, {small.name}: {small.total}")
    for split in SPLITS:
        if splits[split] == 0:
            book.add("empty_split", split)


def value_range(answers: Answers) -> tuple[float, float, float] | None:
    """Smallest, median and largest value of a regression."""
    values = [answer for answer in answers.given if isinstance(answer, float)]
    return (min(values), statistics.median(values), max(values)) if values else None


def _rarest(answer: Answer, counts: Counter[str], index: Mapping[str, int]) -> int | None:
    if not isinstance(answer, tuple) or not answer:
        return None
    return index[min(answer, key=lambda name: (counts[name], name))]


def _quantiles(values: Sequence[Answer], groups: Sequence[Hashable]) -> list[int | None]:
    bins = min(10, max(1, len(values) // 10))
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    found: list[int | None] = [None] * len(values)
    first: dict[Hashable, int] = {}
    for rank, index in enumerate(order):
        found[index] = first.setdefault(groups[index], rank * bins // len(values))
    return found


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False
