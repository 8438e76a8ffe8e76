"""Networks of torchvision, by their architecture's name. Tensors keep torchvision's names."""

from itertools import pairwise

import torch
from torch import nn
from torchvision import models

from core.contract.base_models import BaseModelCard
from worker.engine.backbones.backbone import Stages, with_leftovers

# Where the last linear layer stands; what comes before it is the embedding.
_CLASSIFIER = {
    "resnet": "fc",
    "vgg": "classifier.6",
    "mobilenet_v3": "classifier.3",
    "vit": "heads",
    "convnext": "classifier.2",
}
# Stages of networks that keep their layers in one numbered list `features`: where each begins.
_CUTS = {
    "vgg16_bn": (0, 7, 14, 24, 34, 44),
    "mobilenet_v3_large": (0, 1, 2, 4, 7, 13, 16, 17),
    "convnext_tiny": (0, 1, 2, 4, 6, 8),
    "squeezenet1_1": (0, 3, 6, 9, 13),
}


def build(card: BaseModelCard) -> nn.Module:
    """The network with its ImageNet classifier, with random weights."""
    module: nn.Module = models.get_model(card.architecture, weights=None)
    return module


def behead(card: BaseModelCard, module: nn.Module) -> nn.Module:
    """Take the classifier off: the network then returns its embedding (N, D)."""
    if card.architecture.startswith("squeezenet"):  # its classifier is a convolution before the pooling
        module.set_submodule("classifier", nn.AdaptiveAvgPool2d(1))
        return module
    place = next(place for prefix, place in _CLASSIFIER.items() if card.architecture.startswith(prefix))
    module.set_submodule(place, nn.Identity())
    return module


def rename(_card: BaseModelCard, tensors: dict[str, torch.Tensor], _names: list[str]) -> dict[str, torch.Tensor]:
    """Tensors of a weights file under the network's names, which are torchvision's own."""
    return tensors


def stages(card: BaseModelCard, module: nn.Module) -> Stages:
    """The network's parts from input to output, named as in the card."""
    parts = _parts(card.architecture, module)
    return with_leftovers(module, list(zip(card.stages, parts, strict=True)))


def _parts(architecture: str, module: nn.Module) -> list[list[nn.Module]]:
    if architecture.startswith("resnet"):
        blocks = [[module.get_submodule(f"layer{number}")] for number in range(1, 5)]
        return [[module.get_submodule("conv1"), module.get_submodule("bn1")], *blocks]
    if architecture.startswith("vit"):
        layers = [[layer] for layer in module.get_submodule("encoder.layers").children()]
        return [[module.get_submodule("conv_proj")], *layers, [module.get_submodule("encoder.ln")]]
    features = list(module.get_submodule("features").children())
    cuts = _CUTS[architecture]
    parts = [features[start:end] for start, end in pairwise(cuts)]
    after = [part for part in module.get_submodule("classifier").children() if any(True for _ in part.parameters())]
    return [*parts, after] if after else parts
