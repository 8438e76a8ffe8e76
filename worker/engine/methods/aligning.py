"""What the methods share that bring both domains into one space: the way there and the classifier at its end.

n source and m target items of D features become (n, K) and (m, K); a classifier on the former answers the latter.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.methods import LinearProbe
from worker.engine.heads import Head
from worker.engine.methods import linear_probe
from worker.engine.metrics import Ints
from worker.engine.stages import Nearest, Stage, Unit

Classifier = Literal["auto", "linear", "nearest"]
Stages = tuple[Stage, ...]


def lengths(modality: Modality) -> Stages:
    """What features go through first: rows of length one, but for tables, whose columns are scaled already."""
    return () if modality == "tabular" else (Unit(),)


def through(x: NDArray[np.float32], stages: Stages) -> NDArray[np.float32]:
    """Items (n, D) after the stages."""
    for stage in stages:
        x = stage(x)
    return x


def classifier(
    items: NDArray[np.floating], labels: Ints, classes: int, how: Classifier, rng: np.random.Generator
) -> Head:
    """A head on items (n, K) of the common space; every class needs one."""
    x = np.asarray(items, dtype=np.float32)
    if how == "nearest":
        eye = np.eye(classes, dtype=np.float32)
        return Head(eye, np.zeros(classes, np.float32), before=(Nearest.of(x, labels, classes),))
    return linear_probe.fit(x, labels, classes, LinearProbe(normalise="none"), rng=rng).head


def behind(stages: Stages, head: Head) -> Head:
    """The head with stages before its own."""
    return replace(head, before=(*stages, *head.before))
