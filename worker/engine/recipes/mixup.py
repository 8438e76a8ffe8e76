"""Mixtures of two items and of their targets.

Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization, ICLR 2018.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from core.contract.datasets import Problem


@dataclass(frozen=True)
class Mixture:
    """Which item each one is mixed with, and how much is left of itself."""

    partner: Tensor
    """Positions in the batch, int64 (n,)."""
    share: float

    def __call__(self, values: Tensor) -> Tensor:
        """share x_i + (1 - share) x_partner(i) of values (n, …)."""
        return torch.lerp(values[self.partner], values, self.share)


def draw(items: int, alpha: float, device: torch.device) -> Mixture:
    """One mixture for a batch, its share drawn from Beta(alpha, alpha); draws from torch's own generator of the CPU,
    whose state a checkpoint keeps."""
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Mixture(torch.randperm(items).to(device), share)


def soft(targets: Tensor, problem: Problem, outputs: int) -> Tensor:
    """Targets that can be mixed, float (n, C): of `classification` one-hot, of others what they are."""
    if problem == "classification":
        return functional.one_hot(targets, outputs).to(torch.float32)
    return targets
