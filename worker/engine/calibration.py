"""Confidence that means what it says: temperature scaling and its error (Guo et al., ICML 2017)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from core.contract.datasets import Problem
from worker.engine.metrics import Floats, Ints
from worker.engine.problems import Targets, nll

BINS = 15
LOWEST, HIGHEST = 0.02, 50.0


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over the confidence, each of shape (15,); the means are 0 in an empty bin."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap of accuracy and confidence, weighted by the bins' items."""
        n = self.count.sum()
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / n) if n else 0.0


def reliability(probabilities: Floats, labels: Ints, bins: int = BINS) -> Reliability:
    """Sort the items by the confidence of the top class, probabilities (n, C), labels (n,)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # Bins are (low, high], so that a confidence of exactly 1 stands in the last one.
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    safe = np.maximum(count, 1)
    return Reliability(
        confidence=np.bincount(index, weights=confidence, minlength=bins) / safe,
        accuracy=np.bincount(index, weights=right, minlength=bins) / safe,
        count=count,
    )


def fit_temperature(logits: Floats, labels: Targets, problem: Problem = "classification") -> float:
    """The temperature that minimises the negative log likelihood of `labels` (n,) under softmax(logits / T).

    For `multi_label` it is that of the sigmoid; a regression's is 1.

    A standard normal prior on log T (the weight of a single item) keeps it finite where every item is right, when
    the likelihood alone would drive T to zero. Without items T is 1.
    """
    n = len(labels)
    if n == 0 or problem == "regression":
        return 1.0

    def objective(log_t: float) -> float:
        return nll(problem, logits, labels, math.exp(log_t)) + 0.5 * log_t * log_t / n

    found = minimize_scalar(
        objective, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded", options={"xatol": 1e-4}
    )
    return math.exp(float(found.x))


def calibrated_nll(logits: Floats, labels: Targets, problem: Problem = "classification") -> float:
    """Negative log likelihood after the best temperature: what the scale of the logits cannot put right."""
    return nll(problem, logits, labels, fit_temperature(logits, labels, problem))
