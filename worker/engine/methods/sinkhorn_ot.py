"""`sinkhorn_ot`: source items go to the means of the target items that a transport plan gives them.

Courty, Flamary, Tuia, Rakotomamonjy: Optimal Transport for Domain Adaptation, IEEE TPAMI 2017. The plan (n, m) is of
source (n, D) and target items (m, D); the classifier learns from the moved source items, and target items are answered
as they are.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import SinkhornOt
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.methods.maths import transport
from worker.engine.task import Task, Trained


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, SinkhornOt)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: SinkhornOt, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    first = lengths(modality)
    xs = through(found.xs, first)
    moved = transport.sinkhorn(
        xs,
        found.ys,
        through(found.xt, first),
        regularisation=options.regularisation,
        class_penalty=options.class_penalty,
        most=options.items,
        rng=rng,
    )
    head = classifier(moved.items, found.ys[moved.rows], found.classes, options.classifier, rng)
    # A plan is of the items it was made for; a source item that it has not seen goes where their map would take it.
    source = (*first, transport.follow(xs[moved.rows], moved.items).stage())
    return Adapted(behind(first, head), behind(source, head), notes=_told(moved.regularisation, options))


def _told(used: float, options: SinkhornOt) -> list[str]:
    if used == options.regularisation:
        return []
    if np.isinf(used):
        return ["No transport plan could be found: every source item went to the target's mean."]
    return [f"No transport plan could be found with so little entropy; its weight was raised to {used:.3g}."]
