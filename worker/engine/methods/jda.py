"""`jda`: axes along which both domains look alike, as a whole and class by class.

Long, Wang, Ding, Sun, Yu: Transfer Feature Learning with Joint Distribution Adaptation, ICCV 2013. Source (n, D) and
target (m, D) are brought to the same K axes by one linear map, each item to length one; the target's classes are
guessed there, and the map is made again by these guesses.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import Jda
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.methods.maths import components
from worker.engine.metrics import Ints
from worker.engine.stages import Unit
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, Jda)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: Jda, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""

    def guess(source: components.Array, labels: Ints, target: components.Array) -> Ints:
        head = classifier(source, labels, found.classes, options.classifier, rng)
        return np.asarray(head(target.astype(np.float32)).argmax(axis=1))

    first = lengths(modality)
    projection = components.jda(
        through(found.xs, first),
        found.ys,
        through(found.xt, first),
        k=options.axes,
        mu=options.regularisation,
        rounds=options.rounds,
        classify=guess,
    )
    path = (*first, *projection.stages(), Unit())
    head = classifier(through(found.xs, path), found.ys, found.classes, options.classifier, rng)
    return Adapted(behind(path, head))
