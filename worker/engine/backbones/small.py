"""Small networks of our own for small pictures; they start from random weights.

`conv4` is the four-block network of few-shot learning (Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra: Matching
Networks for One Shot Learning, NIPS 2016): each block is a 3 x 3 convolution to 64 maps, BatchNorm, ReLU and a halving.
`resnet12` is its larger successor (Oreshkin, Rodriguez Lopez, Lacoste: TADAM, NeurIPS 2018): four residual blocks of
three convolutions each, to 64, 128, 256 and 512 maps, and the mean over what is left of the picture.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.contract.base_models import BaseModelCard
from worker.engine.backbones.backbone import Stages

MAPS = 64
RESIDUAL = (64, 128, 256, 512)
_LEAK = 0.1


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


class Residual(nn.Module):
    """(N, before, S, S) -> (N, after, S // 2, S // 2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for number in range(3):
            parts += [nn.Conv2d(after if number else before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
            parts += [nn.LeakyReLU(_LEAK)] if number < 2 else []
        self.way = nn.Sequential(*parts)
        self.short = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        self.end = nn.Sequential(nn.LeakyReLU(_LEAK), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        """Three convolutions beside a short cut."""
        found: Tensor = self.end(self.way(x) + self.short(x))
        return found


class ResNet12(nn.Module):
    """Pictures (N, 3, S, S) -> (N, 512)."""

    def __init__(self) -> None:
        super().__init__()
        before = (3, *RESIDUAL[:-1])
        self.blocks = nn.ModuleList(Residual(one, other) for one, other in zip(before, RESIDUAL, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the last maps."""
        for part in self.blocks:
            x = part(x)
        return x.mean(dim=(2, 3))


_NETWORKS: dict[str, Callable[[], nn.Module]] = {"conv4": Conv4, "resnet12": ResNet12}


def build(card: BaseModelCard) -> nn.Module:
    """The network with random weights; it has no classifier."""
    return _NETWORKS[card.architecture]()


def behead(_card: BaseModelCard, module: nn.Module) -> nn.Module:
    """There is nothing to take off."""
    return module


def rename(_card: BaseModelCard, tensors: dict[str, Tensor], _names: list[str]) -> dict[str, Tensor]:
    """Tensors of a weights file under the network's names, which are its own."""
    return tensors


def stages(card: BaseModelCard, module: nn.Module) -> Stages:
    """The network's parts from input to output, named as in the card."""
    assert isinstance(module, Conv4 | ResNet12)
    return list(zip(card.stages, [[part] for part in module.blocks], strict=True))
