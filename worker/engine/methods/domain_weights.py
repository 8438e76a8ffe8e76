"""`domain_weights`: source items weighed by the odds at which a classifier takes them for the target's.

Bickel, Brueckner, Scheffer: Discriminative Learning Under Covariate Shift, Journal of Machine Learning Research 2009.
Source (n, r) and target (m, r) in their principal axes are told apart by logistic regression, also by their squares, so
that a spread that has changed is seen, too. Each source item's odds, times n / m, are those of a fit without it: a
classifier is too sure of what it has learnt from.
"""

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.methods import DomainWeights, LinearProbe
from worker.engine.methods import linear_probe, reweighted
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.task import Task, Trained

Array = NDArray[np.float64]
_LIMIT = 30.0  # of log odds


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, DomainWeights)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: DomainWeights, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays."""
    return reweighted.fit(found, options, odds, rng, modality)


def odds(source: Array, target: Array, rng: np.random.Generator) -> Array:
    """Ratios (n,) of the densities at the source items; 1 for items that no fit was without."""
    both = np.concatenate([source, target])
    both = both / max(float(both.std()), 1e-12)
    both = np.hstack([both, np.square(both)]).astype(np.float32)
    domain = np.repeat([0, 1], [len(source), len(target)])
    # Axes keep their lengths: blown up to equal ones, those that hardly vary would say as much as the others.
    told = linear_probe.fit(both, domain, 2, LinearProbe(solver="lbfgs", normalise="none"), rng=rng).out_of_fold
    logit = np.diff(np.asarray(told[: len(source)], dtype=np.float64), axis=1)[:, 0]
    ratio = np.exp(np.clip(logit, -_LIMIT, _LIMIT)) * len(source) / len(target)
    return np.where(np.isfinite(ratio), ratio, 1.0)
