"""`subspace_alignment`: the source's principal axes turned onto the target's.

Fernando, Habrard, Sebban, Tuytelaars: Unsupervised Visual Domain Adaptation Using Subspace Alignment, ICCV 2013.
Source (n, D) and target (m, D) are centred apart; each is brought to K axes of its own, and the source's axes are
turned onto the target's, (K, K). The classifier stands on the target's axes.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import SubspaceAlignment
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.methods.maths import subspaces
from worker.engine.stages import Unit
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, SubspaceAlignment)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: SubspaceAlignment, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    first = lengths(modality)
    maps = subspaces.subspace_alignment(through(found.xs, first), through(found.xt, first), options.axes)
    source, target = ((*first, side.stage(), Unit()) for side in maps)
    how = "nearest" if options.classifier == "auto" else options.classifier
    head = classifier(through(found.xs, source), found.ys, found.classes, how, rng)
    return Adapted(behind(target, head), behind(source, head))
