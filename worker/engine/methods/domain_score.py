"""How well a network seems to do on a domain without labels; the least is kept while training."""

import math

import numpy as np
from numpy.typing import NDArray

from worker.engine.calibration import fit_temperature
from worker.engine.metrics import nll, softmax

Floats = NDArray[np.float32]
_LOST = 0.1  # a class that is given less than this part of an even share is lost


def unlabelled_loss(source: Floats, labels: NDArray[np.int64], target: Floats) -> float:
    """Honest source loss, and how unsure and how one-sided the answers on the target are; in nats, never below 0.

    Source logits (n, C) of items (n,) that were not learnt from; target logits (m, C). Information maximisation (Shi,
    Sha, ICML 2012) at the temperature that suits the source, so that mere confidence gains nothing. A class that no
    target item is given to any more costs as much as not knowing it.
    """
    temperature = fit_temperature(source, labels)
    found = nll(source, labels, temperature) if len(labels) else 0.0
    classes = target.shape[1]
    probabilities = softmax(target, temperature)
    unsure = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1).mean()
    mean = probabilities.mean(axis=0)
    one_sided = math.log(classes) + (mean * np.log(np.maximum(mean, 1e-12))).sum()
    shares = np.bincount(target.argmax(axis=1), minlength=classes) / len(target)
    lost = (shares < _LOST / classes).mean()
    return float(found + unsure + max(0.0, one_sided) + lost * math.log(classes))
