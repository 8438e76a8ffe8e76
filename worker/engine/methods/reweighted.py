"""What the methods that weigh source items do alike: features in, ratios, weights, a weighted linear probe.

Source (n, D) and target (m, D) are compared in r principal axes of the two; ratios (n,) of the target's density to the
source's become weights there, and the probe is fitted on all D features, as `linear_probe` is.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.methods import LinearProbe
from core.contract.methods.reweighting import Reweighting
from worker.engine.methods import linear_probe
from worker.engine.methods.adapting import Adapted, Domains, adapt
from worker.engine.methods.maths.reweighting import FEWEST, Weighing, principal, settle
from worker.engine.task import Task, Trained

Array = NDArray[np.float64]
Weigh = Callable[[Array, Array, np.random.Generator], Array]
"""Ratios (n,) of source (n, r), given target (m, r)."""


def run(task: Task, options: Reweighting, weigh: Weigh) -> Trained:
    """Adapt on frozen features."""
    modality = task.data.source.modality
    return adapt(task, lambda found, rng: fit(found, options, weigh, rng, modality))


def fit(
    found: Domains, options: Reweighting, weigh: Weigh, rng: np.random.Generator, modality: Modality = "image"
) -> Adapted:
    """On arrays."""
    probe = LinearProbe()
    how = linear_probe.settled(probe, "classification", modality, len(found.ys)).normalise
    source, target = (linear_probe.normalised(x, how)[0] for x in (found.xs, found.xt))
    weighing = settle(weigh(*principal(source, target, options.components, rng), rng), options.clip)
    fitted = linear_probe.fit(
        found.xs, found.ys, found.classes, probe, rng=rng, modality=modality, importance=weighing.weights
    )
    return Adapted(fitted.head, options=_figures(weighing), notes=[_story(weighing)])


def _figures(weighing: Weighing) -> dict[str, object]:
    n = len(weighing.weights)
    return {
        "effective_sample_size": round(weighing.effective, 1),
        "effective_share": round(weighing.effective / n, 4),
        "clipped_items": weighing.clipped,
        "uniform": weighing.uniform,
    }


def _story(weighing: Weighing) -> str:
    n = len(weighing.weights)
    carried = f"The weights of the {n} source items are worth {weighing.effective:.0f} items of equal weight"
    if weighing.uniform:
        return (
            f"{carried}, fewer than {FEWEST:.0%}: the target lies where the source has next to nothing, so all items "
            "count alike and this is the classifier without adaptation. Methods that move features fit such a shift."
        )
    return f"{carried}; the heaviest counts {weighing.weights.max():.1f} times the mean."
