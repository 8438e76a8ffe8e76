"""`coral`: source items get the target's mean and covariance; the classifier learns from them there.

Sun, Feng, Saenko: Return of Frustratingly Easy Domain Adaptation, AAAI 2016. The map (D, D) is of source items (n, D);
target items are answered as they are.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import Coral
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.methods.maths import subspaces
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, Coral)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: Coral, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    first = lengths(modality)
    moved = subspaces.coral(through(found.xs, first), through(found.xt, first), options.regularisation)
    source = (*first, moved.stage())
    head = classifier(through(found.xs, source), found.ys, found.classes, options.classifier, rng)
    return Adapted(behind(first, head), behind(source, head))
