"""What depends on what the labels ask for: one class, any number of classes, or a number.

Logits are (n, C). Targets are int64 (n,) for `classification`, float32 (n, C) of zeros and ones for `multi_label`, and
float32 (n, 1), standardised, for `regression` (C = 1, and the logit is the prediction itself).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from core.contract.datasets import Problem
from worker.engine import metrics

Floats = NDArray[np.floating]
Targets = NDArray[Any]


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of the training values of a regression."""

    mean: float
    std: float

    def restore(self, standardised: Floats) -> NDArray[np.float64]:
        """Values in the user's own unit."""
        return np.asarray(standardised, dtype=np.float64) * self.std + self.mean


def outputs(problem: Problem, classes: list[str]) -> int:
    """Number of logits."""
    return 1 if problem == "regression" else len(classes)


def one_hot(problem: Problem, targets: Targets, count: int) -> NDArray[np.float64]:
    """Targets as a matrix (n, C)."""
    return np.eye(count)[targets] if problem == "classification" else np.asarray(targets, dtype=np.float64)


def loss(
    problem: Problem, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Mean cross entropy, binary cross entropy or half squared error.

    `weights` (C,) weighs classes: of the truth for `classification`, of the positives for `multi_label`. Targets of
    `classification` may be probabilities, too: float (n, C).
    """
    if problem == "classification":
        if weights is None:
            return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        # Over the number of items, not the sum of their weights: so the parts of a batch add up to the whole.
        total = functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing, reduction="sum")
        return total / len(targets)
    if problem == "multi_label":
        soft = targets * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, soft, pos_weight=weights)
    return 0.5 * functional.mse_loss(logits, targets)


def probabilities(problem: Problem, logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax or sigmoid of logits / temperature (n, C); a regression's logits as they are."""
    if problem == "classification":
        return metrics.softmax(logits, temperature)
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return 0.5 * (1 + np.tanh(scaled / 2)) if problem == "multi_label" else scaled


def nll(problem: Problem, logits: Floats, targets: Targets, temperature: float = 1.0) -> float:
    """Mean negative log likelihood in nats (per item and class for `multi_label`); half the squared error."""
    return float(np.mean(item_nll(problem, logits, targets, temperature)))


def item_nll(problem: Problem, logits: Floats, targets: Targets, temperature: float = 1.0) -> NDArray[np.float64]:
    """The same of each item (n,)."""
    if problem == "classification":
        return metrics.item_nll(logits, targets, temperature)
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if problem == "multi_label":
        return np.asarray(np.mean(np.logaddexp(0, scaled) - scaled * targets, axis=1))
    return np.asarray(0.5 * np.mean((scaled - targets) ** 2, axis=1))


def item_scores(problem: Problem, logits: Floats, targets: Targets) -> NDArray[np.float64]:
    """How well each item was answered (n,), more is better: right or wrong, its F1, or minus its squared error."""
    if problem == "classification":
        return np.asarray(logits.argmax(axis=1) == targets, dtype=np.float64)
    if problem == "multi_label":
        said, truth = np.asarray(logits > 0), np.asarray(targets > 0.5)
        both, sizes = (said & truth).sum(axis=1), said.sum(axis=1) + truth.sum(axis=1)
        return np.asarray(np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0), dtype=np.float64)
    errors: NDArray[np.float64] = np.square(np.asarray(logits, dtype=np.float64) - targets).mean(axis=1)
    return -errors


def score(problem: Problem, logits: Floats, targets: Targets) -> float:
    """Accuracy, micro-averaged F1 or R2 on these items; nan without items."""
    if len(targets) == 0:
        return float("nan")
    if problem == "classification":
        return float((logits.argmax(axis=1) == targets).mean())
    if problem == "multi_label":
        return metrics.micro_f1(logits > 0, targets > 0.5)
    return metrics.r2(logits, targets)


def score_name(problem: Problem) -> str:
    """What `score` is called in reports."""
    return {"classification": "accuracy", "multi_label": "micro_f1", "regression": "r2"}[problem]


def as_tensor(targets: Targets) -> Tensor:
    """Targets for `loss`."""
    return torch.from_numpy(targets)
