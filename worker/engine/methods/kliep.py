"""`kliep`: source items weighed by the ratio of the domains' densities.

Sugiyama, Nakajima, Kashima, von Buenau, Kawanabe: Direct Importance Estimation with Model Selection and Its Application
to Covariate Shift Adaptation, NeurIPS 2007. Source (n, r) and target (m, r) in their principal axes; the ratio is a
mixture of Gaussian kernels on some target items, of a width under which held-out target items are the most likely.
"""

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.methods import Kliep
from worker.engine.methods import reweighted
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.maths import kliep
from worker.engine.methods.maths.reweighting import median_gamma
from worker.engine.task import Task, Trained

Array = NDArray[np.float64]


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, Kliep)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: Kliep, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    return reweighted.fit(found, options, weigh(options), rng, modality)


def weigh(options: Kliep) -> reweighted.Weigh:
    """Ratios as the options want them."""

    def ratios(source: Array, target: Array, rng: np.random.Generator) -> Array:
        middle = median_gamma(source, target, rng)
        if options.gamma == "auto":
            gamma = kliep.choose_gamma(source, target, middle, options.centres, rng)
        else:
            gamma = options.gamma * middle
        return kliep.fit(source, target, gamma, kliep.pick_centres(target, options.centres, rng))(source)

    return ratios
