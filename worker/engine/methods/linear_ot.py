"""`linear_ot`: the least linear map of the source onto the target's mean and covariance.

Flamary, Lounici, Ferrari: Concentration bounds for linear Monge mapping estimation and optimal transport domain
adaptation, 2019. The map (D, D) is of source items (n, D), which the classifier learns from where it puts them;
target items are answered as they are.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import LinearOt
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.methods.maths import transport
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, LinearOt)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: LinearOt, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    first = lengths(modality)
    moved = transport.linear_ot(through(found.xs, first), through(found.xt, first), options.regularisation)
    source = (*first, moved.stage())
    head = classifier(through(found.xs, source), found.ys, found.classes, options.classifier, rng)
    return Adapted(behind(first, head), behind(source, head))
