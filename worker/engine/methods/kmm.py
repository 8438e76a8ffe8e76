"""`kmm`: source items weighed so that their mean in a kernel's space is the target's.

Huang, Gretton, Borgwardt, Schoelkopf, Smola: Correcting Sample Selection Bias by Unlabeled Data, NeurIPS 2006.
Source (n, r) and target (m, r) in their principal axes, through a Gaussian kernel of the median width (on 1,000
landmarks where there are more than 4,000 source items), give a quadratic problem in n weights.
"""

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.methods import Kmm
from worker.engine.methods import reweighted
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.maths import kmm
from worker.engine.methods.maths.reweighting import median_gamma
from worker.engine.task import Task, Trained

Array = NDArray[np.float64]


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, Kmm)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: Kmm, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    return reweighted.fit(found, options, weigh(options), rng, modality)


def weigh(options: Kmm) -> reweighted.Weigh:
    """Ratios as the options want them."""

    def ratios(source: Array, target: Array, rng: np.random.Generator) -> Array:
        problem = kmm.pose(source, target, median_gamma(source, target, rng), rng)
        return kmm.match(problem, bound=options.bound, noise=options.noise)

    return ratios
