"""`meda`: a kernel classifier on the geodesic between two domains' subspaces, smooth on both and alike on both.

Wang, Feng, Chen, Yu, Huang, Yu: Visual Domain Adaptation with Manifold Embedded Distribution Alignment, ACM Multimedia
2018. Source (n, D) and target (m, D), each about its own mean, come to the same 2 K axes by one linear map, each item
to length one; what the classifier is made of is a Gaussian kernel of these items, its width their length.
"""

import numpy as np

from core.contract.datasets import Modality
from core.contract.methods import Meda
from worker.engine.heads import Head
from worker.engine.methods.adapting import Adapted, Domains, adapt, mixed
from worker.engine.methods.aligning import Stages, through
from worker.engine.methods.maths.kernels import kernel_map, pick_landmarks
from worker.engine.methods.maths.manifold import Wanted, aligned_weights, geodesic
from worker.engine.methods.maths.pseudo_labels import Front
from worker.engine.methods.maths.subspaces import principal
from worker.engine.stages import RbfKernel, Unit
from worker.engine.task import Task, Trained

AXES = (15, 20, 25)
_GAMMA = 0.5


def run(task: Task) -> Trained:
    """Adapt on frozen features."""
    options = task.options
    assert isinstance(options, Meda)
    return adapt(task, lambda found, rng: fit(found, options, rng, task.data.source.modality))


def fit(found: Domains, options: Meda, rng: np.random.Generator, modality: Modality = "image") -> Adapted:
    """On arrays; columns of tables are standardised, other features brought to length one."""
    fronts = [Front.of(x, modality != "tabular") for x in (found.xt, found.xs)]
    counts = AXES if options.axes == "auto" else (options.axes,)
    theirs, ours = (principal(front(x), max(counts))[1] for front, x in zip(fronts, (found.xt, found.xs), strict=True))
    flows = [geodesic(ours[:, :count], theirs[:, :count]) for count in counts]
    fits = [_fit(found, options, rng, [(*front.stages(flow), Unit()) for front in fronts]) for flow in flows]
    return fits[0] if len(fits) == 1 else mixed(found, fits, [1.0] * len(fits))


def _fit(found: Domains, options: Meda, rng: np.random.Generator, paths: list[Stages]) -> Adapted:
    """With the ways of target and source onto the geodesic."""
    target, source = (
        np.asarray(through(x, path), dtype=np.float64) for x, path in zip((found.xt, found.xs), paths, strict=True)
    )
    kernel = kernel_map(pick_landmarks(source, target, options.landmarks, rng), _GAMMA)
    both = np.concatenate([source, target])
    weights = aligned_weights(kernel(both), both, found.ys, found.classes, _wanted(options))
    weight = np.ascontiguousarray((kernel.root @ weights).T, dtype=np.float32)
    landmarks = RbfKernel(kernel.landmarks.astype(np.float32), kernel.gamma)
    bias = np.zeros(found.classes, dtype=np.float32)
    heads = [Head(weight, bias, before=(*path, landmarks)) for path in paths]
    return Adapted(heads[0], heads[1])


def _wanted(options: Meda) -> Wanted:
    return Wanted(
        options.alignment,
        None if options.balance == "auto" else options.balance,
        options.smoothness,
        options.regularisation,
        options.neighbours,
        options.rounds,
    )
