"""`tca`: axes along which both domains look alike.

Pan, Tsang, Kwok, Yang: Domain Adaptation via Transfer Component Analysis, IEEE Trans. Neural Networks 2011. Source
(n, D) and target (m, D) are brought to the same K components, by a linear map or by one of a Gaussian kernel's values
at landmarks (M, D); the classifier stands on these, each item's brought to length one.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import Tca
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.methods.maths import components
from worker.engine.stages import Unit
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, Tca)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: Tca, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    first = lengths(modality)
    projection = components.tca(
        through(found.xs, first),
        through(found.xt, first),
        k=options.axes,
        mu=options.regularisation,
        landmarks=options.landmarks if options.kernel == "rbf" else 0,
        gamma=None if options.gamma == "auto" else options.gamma,
        rng=rng,
    )
    path = (*first, *projection.stages(), Unit())
    head = classifier(through(found.xs, path), found.ys, found.classes, options.classifier, rng)
    return Adapted(behind(path, head), options={} if projection.kernel is None else {"gamma": projection.kernel.gamma})
