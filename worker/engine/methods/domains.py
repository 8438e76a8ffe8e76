"""Training on two domains at once: labelled source items, unlabelled target items, and a loss that pulls them together.

A batch holds as many target items as source items. The network is a backbone (left out where its features are cached),
a bottleneck and a linear classifier; what pulls is an `Alignment`, with a discriminator of its own where it needs one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.contract.methods.deep import BatchNorm
from worker.engine.backbones import Backbone
from worker.engine.heads import Head
from worker.engine.loop import Batch
from worker.engine.stages import Affine, Relu, Stage, Unit, array


class Outputs(NamedTuple):
    """What the network makes of items: embeddings (n, D), bottleneck features (n, K) and logits (n, C)."""

    embedding: Tensor
    hidden: Tensor
    logits: Tensor

    def first(self, count: int) -> "Outputs":
        """Of the first items alone."""
        return Outputs(*(part[:count] for part in self))

    def rest(self, count: int) -> "Outputs":
        """Of all but the first items."""
        return Outputs(*(part[count:] for part in self))


class Alignment(nn.Module, ABC):
    """A loss on both domains' outputs, with what it has to learn."""

    @abstractmethod
    def forward(self, source: Outputs, target: Outputs, progress: float) -> Tensor:
        """A scalar; `progress` in [0, 1) tells how far training is."""


class Top(nn.Module, ABC):
    """What stands on the embedding; a linear classifier comes last."""

    classifier: nn.Linear

    @abstractmethod
    def forward(self, embedding: Tensor) -> Outputs:
        """Of embeddings (n, D)."""

    @abstractmethod
    def take_statistics(self, embedding: Tensor) -> None:
        """Let running statistics, where there are some, be those of just these items (n, D)."""

    @abstractmethod
    def as_head(self) -> Head:
        """The same in evaluation mode."""


class Neck(Top):
    """Rows of length one where wanted, linear, BatchNorm, ReLU (the bottleneck), then the linear classifier."""

    def __init__(self, width: int, hidden: int, classes: int, *, unit: bool) -> None:
        super().__init__()
        self.unit = unit
        self.linear = nn.Linear(width, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, embedding: Tensor) -> Outputs:
        """Of embeddings (n, D)."""
        hidden = torch.relu(self.norm(self._mixed(embedding)))
        return Outputs(embedding, hidden, self.classifier(hidden))

    def _mixed(self, embedding: Tensor) -> Tensor:
        mixed: Tensor = self.linear(nn.functional.normalize(embedding, dim=1) if self.unit else embedding)
        return mixed

    @torch.no_grad()
    def take_statistics(self, embedding: Tensor) -> None:
        """Let the BatchNorm's running statistics be those of just these items (n, D); fewer than two change nothing."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        if len(embedding) > 1:
            made = self._mixed(embedding)
            self.norm.running_mean.copy_(made.mean(dim=0))
            self.norm.running_var.copy_(made.var(dim=0))

    def as_head(self) -> Head:
        """The same in evaluation mode: the BatchNorm becomes part of the linear map before it."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        bias = (self.linear.bias - self.norm.running_mean) * scale + self.norm.bias
        affine = Affine(array(self.linear.weight * scale[:, None]), array(bias))
        before: tuple[Stage, ...] = (Unit(), affine, Relu()) if self.unit else (affine, Relu())
        return Head(array(self.classifier.weight), array(self.classifier.bias), before=before)


@dataclass(frozen=True)
class Weights:
    """How the losses are weighed."""

    alignment: float
    smoothing: float = 0.0
    """Label smoothing of the source's."""
    warm_epochs: int = 0
    """Epochs on the source alone, before anything pulls."""
    epochs: int = 1


class DomainTraining:
    """Runs in the loop: cross entropy on the source, the alignment on both."""

    def __init__(
        self,
        backbone: Backbone | None,
        neck: Top,
        alignment: nn.Module,
        weights: Weights,
        *,
        freeze: str = "none",
        batch_norm: BatchNorm = "domain",
    ) -> None:
        self.neck, self.alignment, self.weights, self.batch_norm = neck, alignment, weights, batch_norm
        self.backbone = nn.Identity() if backbone is None else backbone.module
        self.module = nn.ModuleDict({"backbone": self.backbone, "head": neck, "alignment": alignment})
        self._still = [] if backbone is None else backbone.frozen(freeze)
        for part in self._still:
            part.requires_grad_(False)
        if batch_norm == "frozen":
            self._still += norms(self.backbone)
        self.progress = -1.0

    def train(self, epoch: int) -> None:
        """Set training mode, but for what is frozen; an epoch (from 1) of the first ones has the source alone."""
        self.module.train()
        for part in self._still:
            part.eval()
        warm = self.weights.warm_epochs
        self.progress = (epoch - 1 - warm) / max(1, self.weights.epochs - warm)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The source's inputs stand first in the batch, the target's after them; the labels are the source's."""
        source, target = self.outputs(batch.inputs)
        task = nn.functional.cross_entropy(source.logits, batch.labels, label_smoothing=self.weights.smoothing)
        if self.progress < 0:
            return {"task": task}
        pull: Tensor = self.alignment(source, target, self.progress)
        return {"task": task, "alignment": self.weights.alignment * pull}

    def outputs(self, inputs: tuple[Tensor, ...]) -> tuple[Outputs, Outputs]:
        """Of both domains.

        Each goes through the network by itself, so that BatchNorms take the statistics of one domain; running ones
        are the target's, where the network is to serve. With `shared` statistics they go through together.
        """
        half = len(inputs) // 2
        if self.batch_norm == "shared" and half == 1:
            both = self.neck(self.backbone(torch.cat(inputs)))
            return both.first(len(inputs[0])), both.rest(len(inputs[0]))
        with unmoved(self.module):
            source = self.neck(self.backbone(*inputs[:half]))
        return source, self.neck(self.backbone(*inputs[half:]))

    def deployable(self) -> Head:
        """The head as it is."""
        return self.neck.as_head()


def norms(module: nn.Module) -> list[nn.Module]:
    """All BatchNorms of a network."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


@contextmanager
def unmoved(module: nn.Module) -> Iterator[None]:
    """BatchNorms normalise by the batch, and their running statistics stay as they are."""
    parts = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [part.momentum for part in parts]
    for part in parts:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum in zip(parts, before, strict=True):
            part.momentum = momentum


def discriminator(width: int, hidden: int) -> nn.Sequential:
    """Features (n, width) -> a logit for the source (n, 1)."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )


def told_apart(logits: Tensor, first: int, weights: Tensor | None = None) -> Tensor:
    """Cross entropy of a discriminator's logits (n, 1), whose first rows are the source's; `weights` (n,) of rows."""
    truth = torch.zeros_like(logits)
    truth[:first] = 1
    weights = None if weights is None else weights[:, None]
    return nn.functional.binary_cross_entropy_with_logits(logits, truth, weight=weights)
