"""Which items are learned from, tuned on and measured on.

Figures are only worth something on items that nothing was learned from. So the test split is frozen here, once, when
the data set is made: jobs on it can be compared, and none can choose its own. Splits are stratified, for a class that
is missing from one would be missing from the figures; exact copies stay together, for a copy of a training item in the
test split would be a question whose answer is known; and they follow from (items in order, seed) alone, so that the
same upload gives the same splits everywhere.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from core.contract.datasets import Split

SplitSource = Literal["given", "made", "mixed"]
TEST_SHARE = 0.15
VALIDATION_SHARE = 0.15


def keeps_given(given: set[Split | None]) -> bool:
    """Whether splits that came with the upload are kept: something to learn from and something to measure on."""
    return "train" in given and bool(given & {"validation", "test"})


def assign_splits(
    labels: Sequence[int | None], given: Sequence[Split | None], groups: Sequence[Hashable], seed: int
) -> tuple[list[Split], SplitSource]:
    """Give each item its split.

    `labels`: class per item, or None throughout; `given`: the split it came with; `groups`: items with equal values are
    exact copies. All of one length. Returns the splits in order and where they come from:

    - train, validation and test given: kept.
    - train and test given: 15 % of each class of train becomes validation.
    - train and validation given: the given validation is what was meant to be measured on, so it becomes test; 15 % of
      train becomes validation.
    - anything else: 70 / 15 / 15 of each class. One distinct item goes to train, two to train and test, three or more
      at least one to each.
    """
    kinds = set(given)
    if not keeps_given(kinds):
        return _share_out(labels, groups, range(len(labels)), seed, test=True), "made"
    if {"validation", "test"} <= kinds:
        return [split or "train" for split in given], "given"
    result: list[Split] = ["test" if split in ("validation", "test") else "train" for split in given]
    train = [index for index, split in enumerate(result) if split == "train"]
    for index, split in zip(train, _share_out(labels, groups, train, seed, test=False), strict=True):
        result[index] = split
    return result, "mixed"


def _share_out(
    labels: Sequence[int | None], groups: Sequence[Hashable], items: Sequence[int], seed: int, *, test: bool
) -> list[Split]:
    """Splits of `items`, in their order, class by class."""
    copies: dict[int | None, dict[Hashable, list[int]]] = defaultdict(dict)
    for index in items:
        copies[labels[index]].setdefault(groups[index], []).append(index)
    splits: dict[int, Split] = {}
    for label, units in copies.items():
        rng = np.random.default_rng((seed, 0 if label is None else label + 1))
        piles = list(units.values())
        shuffled = [piles[at] for at in rng.permutation(len(piles))]
        splits |= _share_class(shuffled, test=test)
    return [splits[index] for index in items]


def _share_class(units: list[list[int]], *, test: bool) -> dict[int, Split]:
    """Splits of one class, given as shuffled units of copies; what is copied most goes to train."""
    units = sorted(units, key=len)
    count = sum(len(unit) for unit in units)
    wanted: list[tuple[Split, float]] = [("validation", VALIDATION_SHARE)] if len(units) >= 3 else []
    if test and len(units) >= 2:
        wanted.insert(0, ("test", TEST_SHARE))
    splits: dict[int, Split] = {}
    start = 0
    for left, (split, share) in enumerate(wanted, start=1 - len(wanted)):
        target = max(1, round(share * count))
        last = len(units) - 1 + left  # a unit for each split that follows
        taken = 0
        while taken < target and start < last:
            # A pile of copies that overshoots by more than it helps stays in train.
            if taken and taken + len(units[start]) - target > target - taken:
                break
            splits |= dict.fromkeys(units[start], split)
            taken += len(units[start])
            start += 1
    return splits | {index: "train" for unit in units[start:] for index in unit}
