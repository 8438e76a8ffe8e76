"""The network that is meta-trained: a backbone, or, on cached features, one layer in its place."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from worker.engine.backbones import Backbone
from worker.engine.feeds import Floats
from worker.engine.methods.supervised import move
from worker.engine.stages import Affine, Stage, array
from worker.engine.task import Task

WIDTH = 256  # principal axes of cached features that are kept, at most


class Embedder(nn.Module):
    """Inputs (n, …) -> embeddings (n, K): the backbone's own, or a linear map of features (n, D)."""

    def __init__(self, backbone: nn.Module | None, neck: nn.Linear | None, width: int) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.width = width
        self._still: list[nn.Module] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.backbone is not None:
            x = self.backbone(x)
        return x if self.neck is None else self.neck(x)

    def hold(self, parts: list[nn.Module]) -> None:
        """Keep parts of the backbone as they are."""
        self._still = parts
        for part in parts:
            part.requires_grad_(False)

    def set_training(self) -> None:
        """Training mode, but for what is kept."""
        self.train()
        for part in self._still:
            part.eval()

    def stages(self) -> tuple[Stage, ...]:
        """What of it comes after the backbone, as a head has it."""
        if self.neck is None:
            return ()
        return (Affine(array(self.neck.weight), array(self.neck.bias)),)


@dataclass(frozen=True)
class Built:
    """An embedder with the backbone that it trains, if it trains one."""

    module: Embedder
    backbone: Backbone | None


def on_network(task: Task, freeze: str) -> Built:
    """A copy of the base model's network, to be trained."""
    backbone = copy.deepcopy(task.base.backbone())  # others may still want the frozen one
    module = Embedder(backbone.module, None, backbone.card.width)
    module.hold(backbone.frozen(freeze))
    move(module, task.device)
    return Built(module, backbone)


def on_features(features: Floats, task: Task) -> Built:
    """A linear map of features (n, D) to their first principal axes, which it keeps the distances in; figures about 1.

    So training starts at what class means of the frozen features can do.
    """
    centre = features.mean(axis=0)
    _, spread, axes = np.linalg.svd((features - centre).astype(np.float32), full_matrices=False)
    kept = axes[: min(WIDTH, len(axes))]
    size = float(np.sqrt(np.square(spread[: len(kept)]).sum() / (len(features) * len(kept)))) or 1.0
    neck = nn.Linear(features.shape[1], len(kept))
    with torch.no_grad():
        weight = torch.from_numpy(kept / np.float32(size))
        neck.weight.copy_(weight)
        neck.bias.copy_(-weight @ torch.from_numpy(centre.astype(np.float32)))
    return Built(Embedder(None, neck, len(kept)).to(task.device), None)
