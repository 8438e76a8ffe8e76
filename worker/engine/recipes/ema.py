"""A moving average of the weights, often better than the weights of any single step.

Polyak, Juditsky: Acceleration of stochastic approximation by averaging, 1992; Tarvainen, Valpola: Mean teachers are
better role models, NeurIPS 2017.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def decay_at(step: int, decay: float) -> float:
    """The decay in use at step 1, 2, …: it grows to `decay`, so that a short training forgets its start, too."""
    return min(decay, step / (step + 9))


class Average:
    """The moving average of a module's state: weights and running statistics.

    What is no floating-point number is not averaged: it is the module's own.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begins with the module's present state."""
        self._module, self.decay = module, decay
        self.state = _copy(module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the module's state after step 1, 2, …: average <- d average + (1 - d) state."""
        share = 1 - decay_at(step, self.decay)
        for name, tensor in self._module.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor, share)
            else:
                self.state[name].copy_(tensor)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The module has the averaged state for a while, then its own again, to the bit."""
        own = _copy(self._module)
        self._module.load_state_dict(self.state)
        try:
            yield
        finally:
            self._module.load_state_dict(own)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
