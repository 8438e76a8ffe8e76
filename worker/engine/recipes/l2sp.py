"""L2-SP: what was learnt before is the point that weights are drawn to, in place of zero.

Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Start:
    """Where parameters began, and how far they have gone."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Remembers the present values of those that can learn."""
        self._pairs = [(part, part.detach().clone()) for part in parameters if part.requires_grad]

    def penalty(self, strength: float) -> Tensor:
        """strength / 2 times the squared distance of all of them from their start, a scalar.

        The start is that of the module as it was built, also after a checkpoint was loaded into it.
        """
        parts = [(now - then.to(now.device)).square().sum() for now, then in self._pairs if now.requires_grad]
        return 0.5 * strength * torch.stack(parts).sum() if parts else torch.zeros(())
