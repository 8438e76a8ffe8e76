"""Items of two data sets that are one thing: they have the same name, but for folder and suffix."""

from collections import Counter
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from worker.engine.datasets import Items


def paired(source: list[str], target: list[str]) -> NDArray[np.int64]:
    """Rows (p, 2) of source and target items of the same name, but for folder and suffix; a name that is there once."""
    ours, theirs = ([PurePosixPath(name).stem for name in names] for names in (source, target))
    once = [{stem for stem, times in Counter(stems).items() if times == 1} for stems in (ours, theirs)]
    where = {stem: row for row, stem in enumerate(theirs)}
    found = [(row, where[stem]) for row, stem in enumerate(ours) if stem in once[0] & once[1]]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def partners(items: Items, target: Items) -> Items:
    """Items of the target that are paired with one of the items, with its label."""
    ours, theirs = ([some.name(row) for row in range(len(some))] for some in (items, target))
    rows = paired(ours, theirs)
    return Items(target.collection, target.indices[rows[:, 1]], items.labels[rows[:, 0]])
