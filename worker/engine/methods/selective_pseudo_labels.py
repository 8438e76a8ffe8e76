"""`selective_pseudo_labels`: guess the target's labels, trust the surest, project, and guess again.

Wang, Breckon: Unsupervised Domain Adaptation via Structured Prediction Based Selective Pseudo-Labeling, AAAI 2020.
Source (n, D) and target (m, D) are centred apart and brought to K principal axes, then to C - 1 discriminant axes of
the source and the trusted target items; a class mean there gives each class's logit.
"""

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.methods import SelectivePseudoLabels
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.maths import pseudo_labels
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, SelectivePseudoLabels)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(
    found: Domains, options: SelectivePseudoLabels, _rng: np.random.Generator, modality: Modality = "image"
) -> Adapted:
    """On arrays, without a draw; columns of tables are standardised, other features brought to length one."""
    how = pseudo_labels.Selective(options.axes, options.rounds, options.shrinkage, options.clusters)
    guessed = pseudo_labels.selective(found.xs, found.ys, found.xt, found.classes, how, unit=modality != "tabular")
    return Adapted(guessed.target, guessed.source, notes=[moved(guessed.labels, found.classes)])


def moved(labels: NDArray[np.int64], classes: int) -> str:
    """Says how the guesses fell."""
    counts = np.bincount(labels, minlength=classes)
    empty = int((counts == 0).sum())
    lost = f" {empty} classes were guessed of no item." if empty else ""
    return f"Target items guessed per class: {counts.min()} to {counts.max()} of {len(labels)}.{lost}"
