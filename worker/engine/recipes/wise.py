"""WiSE-FT: weights between those before and after fine-tuning.

Wortsman et al.: Robust fine-tuning of zero-shot models, CVPR 2022.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
SHARES = (0.25, 0.5, 0.75)
"""What `auto` tries between the start (0) and the trained weights (1)."""


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> State:
    """(1 - share) start + share end, tensor by tensor; what is no floating-point number is the end's."""
    return {
        name: torch.lerp(start[name].to(tensor.device), tensor, share) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in end.items()
    }


def copied(module: nn.Module) -> State:
    """The module's present state, to begin from."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
