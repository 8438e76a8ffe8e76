"""The loss that a recipe makes of a problem: soft targets, class weights, mixtures."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.contract.datasets import Problem
from core.recipes import Settled
from worker.engine import problems
from worker.engine.recipes import class_weights
from worker.engine.recipes.mixup import Mixture, draw, soft


@dataclass(frozen=True)
class Objective:
    """What is minimised."""

    problem: Problem
    outputs: int
    """Number of logits, C."""
    smoothing: float = 0.0
    weights: Tensor | None = None
    """Of the classes (C,)."""
    mixup: float = 0.0

    @classmethod
    def of(cls, options: Settled, problem: Problem, targets: NDArray[np.generic], outputs: int) -> "Objective":
        """As the options and the training targets want it."""
        smoothing = 0.0 if problem == "regression" else options.label_smoothing
        found = class_weights.balanced(problem, targets, outputs) if options.class_weights == "balanced" else None
        weights = None if found is None else torch.from_numpy(found)
        return cls(problem, outputs, smoothing, weights, options.mixup)

    def to(self, device: torch.device) -> "Objective":
        """The same on a device."""
        return replace(self, weights=None if self.weights is None else self.weights.to(device))

    def mixture(self, targets: Tensor) -> Mixture | None:
        """How the items of a batch are to be mixed, if they are."""
        return draw(len(targets), self.mixup, targets.device) if self.mixup else None

    def __call__(self, logits: Tensor, targets: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Mean over the items of a batch; with a mixture the targets are mixed as its inputs were."""
        if mixture is not None:
            targets = mixture(soft(targets, self.problem, self.outputs))
        return problems.loss(self.problem, logits, targets, smoothing=self.smoothing, weights=self.weights)
