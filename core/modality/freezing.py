"""The last steps of every ingestion: splits, and the report of what there is."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from core.contract.datasets import SPLITS, DatasetReport, Item, Split
from core.modality.answers import Answers, count_classes, note_answers, value_range
from core.modality.ingestion import Run
from core.modality.splits import SplitSource, assign_splits


def split_up(
    run: Run, answers: Answers, given: Sequence[Split | None], groups: Sequence[Hashable]
) -> tuple[list[Split], SplitSource]:
    """The split of each item; items of equal `groups` are copies and stay together.

    Items without a label, where others have one, stand in the training split: they measure nothing, and the others'
    splits are those they would have alone.
    """
    strata, open_ = answers.strata(groups), set(answers.open)
    known = [index for index in range(len(given)) if index not in open_]
    found, source = assign_splits(
        [strata[index] for index in known],
        [given[index] for index in known],
        [groups[index] for index in known],
        run.seed,
    )
    splits: list[Split] = ["train"] * len(given)
    for index, split in zip(known, found, strict=True):
        splits[index] = split
    if source == "made" and any(given):
        names = ", ".join(sorted({split for split in given if split}))
        run.book.add("given_splits_ignored", f"only {names} was given")
    return splits, source


def report_on(run: Run, answers: Answers, items: Sequence[Item], source: SplitSource, **extra: Any) -> DatasetReport:
    """The report of usable items; `extra` are fields that only some modalities have."""
    splits = Counter(item.split for item in items)
    classes = count_classes(answers.classes, items)
    note_answers(run.book, answers, classes, splits)
    for index in answers.open:
        run.book.add("unlabelled_item", items[index].name)
    return DatasetReport(
        faults=run.book.faults(),
        files=run.files,
        items=len(items),
        labelled=answers.labelled,
        unlabelled=len(answers.open),
        classes=classes,
        splits={split: splits[split] for split in SPLITS},
        split_source=source,
        seed=run.seed,
        values=value_range(answers),
        seconds=run.seconds,
        **extra,
    )
