"""What the methods share that bring both domains into one space: the way there and the classifier at its end.

n source and m target items of D features become (n, K) and (m, K); a classifier on the former answers the latter.
"""

import math
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
    items: NDArray[np.floating],
    labels: Ints,
    classes: int,
    how: Classifier,
    rng: np.random.Generator,
    *,
    cautious: bool = True,
) -> Head:
    """A head on items (n, K) of the common space; every class needs one. A `cautious` probe is strongly penalised."""
    x = np.asarray(items, dtype=np.float32)
    if how == "nearest":
        eye = np.eye(classes, dtype=np.float32)
        return Head(eye, np.zeros(classes, np.float32), before=(Nearest.of(x, labels, classes),))
    if not cautious:
        return linear_probe.fit(x, labels, classes, LinearProbe(normalise="none"), rng=rng).head
    return _probe(x, labels, classes, rng)


def _probe(x: NDArray[np.float32], labels: Ints, classes: int, rng: np.random.Generator) -> Head:
    """A linear probe with the largest penalty that is as good as the best, but for one standard error.

    What a map makes small it makes small for a reason, and a probe with hardly a penalty would make it large again: of
    penalties that the source cannot tell apart the largest is the safest on the target. Breiman, Friedman, Olshen,
    Stone: Classification and Regression Trees, 1984.
    """
    first = linear_probe.fit(x, labels, classes, LinearProbe(normalise="none"), rng=rng)
    scores = {point.x: point.validation_accuracy for point in first.curve if point.validation_accuracy is not None}
    if not scores:
        return first.head
    best = max(scores.values())
    enough = best - math.sqrt(best * (1 - best) / len(x))
    penalty = 10 ** max(at for at, score in scores.items() if score >= enough)
    return linear_probe.fit(x, labels, classes, LinearProbe(normalise="none", regularisation=penalty), rng=rng).head


def behind(stages: Stages, head: Head) -> Head:
    """The head with stages before its own."""
    return replace(head, before=(*stages, *head.before))
