"""`prototype_self_training`: class means that the target's own items move.

As the centroids of Liang, Hu, Feng: Source Hypothesis Transfer, ICML 2020, on frozen features. Source (n, D) and target
(m, D) are centred apart and brought to length one; class means (C, D) begin at the source's, and are the target's
softly assigned means after some rounds.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import PrototypeSelfTraining
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.maths import pseudo_labels
from worker.engine.methods.selective_pseudo_labels import moved
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, PrototypeSelfTraining)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(
    found: Domains, options: PrototypeSelfTraining, _rng: np.random.Generator, modality: Modality = "image"
) -> Adapted:
    """On arrays, without a draw; columns of tables are standardised, other features brought to length one."""
    how = pseudo_labels.Prototypes(options.rounds, options.temperature, options.anchor)
    guessed = pseudo_labels.prototypes(found.xs, found.ys, found.xt, found.classes, how, unit=modality != "tabular")
    return Adapted(guessed.target, guessed.source, notes=[moved(guessed.labels, found.classes)])
