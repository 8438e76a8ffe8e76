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
from worker.engine.methods.adapting import Adapted, Domains
from worker.engine.methods.maths.kernels import kernel_map, pick_landmarks
from worker.engine.methods.maths.reweighting import (
    FEWEST,
    Weighing,
    explained,
    median_gamma,
    principal,
    settle,
)

Array = NDArray[np.float64]
Weigh = Callable[[Array, Array, np.random.Generator], Array]
"""Ratios (n,) of source (n, r), given target (m, r)."""
_LANDMARKS = 300


def fit(
    found: Domains, options: Reweighting, weigh: Weigh, rng: np.random.Generator, modality: Modality = "image"
) -> Adapted:
    """On arrays."""
    weighing, trust = _weighing(found, options, weigh, rng, modality)
    # Where weights cannot bring the domains together they only make items scarce. Even weights are the plain probe.
    importance = None if weighing.uniform else 1 + trust * (weighing.weights - 1)
    fitted = linear_probe.fit(
        found.xs, found.ys, found.classes, LinearProbe(), rng=rng, modality=modality, importance=importance
    )
    return Adapted(fitted.head, options=_figures(weighing, trust), notes=_story(weighing, trust))


def _weighing(
    found: Domains, options: Reweighting, weigh: Weigh, rng: np.random.Generator, modality: Modality
) -> tuple[Weighing, float]:
    """Weights, and how much of the domains' distance they do away with."""
    source, target = compared(found, options.components, rng, modality)
    weighing = settle(weigh(source, target, rng), options.clip)
    return weighing, explained(*through_kernel(source, target, rng), weighing.weights)


def compared(
    found: Domains, components: int, rng: np.random.Generator, modality: Modality = "image"
) -> tuple[Array, Array]:
    """Source (n, r) and target (m, r) in their first principal axes, after the normalisation of a linear probe."""
    how = linear_probe.settled(LinearProbe(), "classification", modality, len(found.ys)).normalise
    ours, theirs = (linear_probe.normalised(x, how)[0] for x in (found.xs, found.xt))
    return principal(ours, theirs, components, rng)


def through_kernel(source: Array, target: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Features (n, p), (m, p) of a Gaussian kernel of the median width on some landmarks."""
    landmarks = pick_landmarks(source, target, min(_LANDMARKS, len(source) + len(target)), rng)
    kernel = kernel_map(landmarks, median_gamma(source, target, rng))
    return kernel(source), kernel(target)


def _figures(weighing: Weighing, trust: float) -> dict[str, object]:
    n = len(weighing.weights)
    return {
        "effective_sample_size": round(weighing.effective, 1),
        "effective_share": round(weighing.effective / n, 4),
        "clipped_items": weighing.clipped,
        "uniform": weighing.uniform,
        "explained": round(trust, 4),
    }


def _story(weighing: Weighing, trust: float) -> list[str]:
    n = len(weighing.weights)
    carried = f"The weights of the {n} source items are worth {weighing.effective:.0f} items of equal weight"
    if weighing.uniform:
        return [
            f"{carried}, fewer than {FEWEST:.0%}: the target lies where the source has next to nothing, so all items "
            "count alike and this is the classifier without adaptation. Methods that move features fit such a shift."
        ]
    return [
        f"{carried}; the heaviest counts {weighing.weights.max():.1f} times the mean.",
        f"They do away with {trust:.0%} of the distance between the domains and are used to that extent.",
    ]
