"""Small networks of our own for small pictures; they start from random weights.

`conv4` is the four-block network of few-shot learning (Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra: Matching
Networks for One Shot Learning, NIPS 2016): each block is a 3 x 3 convolution to 64 maps, BatchNorm, ReLU and a halving.
"""

import torch
from torch import Tensor, nn

from core.contract.base_models import BaseModelCard
from worker.engine.backbones.backbone import Stages

MAPS = 64


def block(maps: int) -> nn.Sequential:
    """(N, maps, S, S) -> (N, 64, S // 2, S // 2)."""
    convolution = nn.Conv2d(maps, MAPS, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(MAPS), nn.ReLU(), nn.MaxPool2d(2))


class Conv4(nn.Module):
    """Pictures (N, 3, S, S) -> (N, 64 (S // 16)^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(maps) for maps in (3, MAPS, MAPS, MAPS))

    def forward(self, x: Tensor) -> Tensor:
        """The last maps as one row for each picture."""
        for part in self.blocks:
            x = part(x)
        return torch.flatten(x, 1)


def build(_card: BaseModelCard) -> nn.Module:
    """The network with random weights; it has no classifier."""
    return Conv4()


def behead(_card: BaseModelCard, module: nn.Module) -> nn.Module:
    """There is nothing to take off."""
    return module


def rename(_card: BaseModelCard, tensors: dict[str, Tensor], _names: list[str]) -> dict[str, Tensor]:
    """Tensors of a weights file under the network's names, which are its own."""
    return tensors


def stages(card: BaseModelCard, module: nn.Module) -> Stages:
    """The network's parts from input to output, named as in the card."""
    assert isinstance(module, Conv4)
    return list(zip(card.stages, [[part] for part in module.blocks], strict=True))
