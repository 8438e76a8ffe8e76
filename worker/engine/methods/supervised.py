"""Supervised training of a head or a network: the classes that run in the loop, and their optimiser."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.contract.datasets import Problem
from core.contract.methods import FineTune
from worker.engine import loop, problems
from worker.engine.backbones import Backbone
from worker.engine.heads import Head, HeadModule
from worker.engine.loop import Batch

_FEW = 1000  # items below which BatchNorm statistics are better left alone
_SMALL_BATCH = 32


class HeadTraining:
    """Trains a head on cached features (n, D)."""

    def __init__(self, head: HeadModule, smoothing: float, problem: Problem) -> None:
        self.head, self.smoothing, self.problem = head, smoothing, problem

    @property
    def module(self) -> nn.Module:
        """The head."""
        return self.head

    def train(self) -> None:
        """Set training mode."""
        self.head.train()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the problem, with label smoothing."""
        logits = self.head(*batch.inputs)
        return {"task": problems.loss(self.problem, logits, batch.labels, smoothing=self.smoothing)}

    def deployable(self) -> Head:
        """The head as it is."""
        return self.head.as_head()


class NetworkTraining:
    """Trains a head together with those parts of the backbone that are not frozen."""

    def __init__(
        self, backbone: Backbone, head: HeadModule, options: FineTune, problem: Problem, *, still_norms: bool
    ) -> None:
        self.problem = problem
        self.backbone, self.head, self.smoothing = backbone.module, head, options.label_smoothing
        self.module = nn.ModuleDict({"backbone": self.backbone, "head": head})
        self._still = backbone.frozen(options.freeze)
        for part in self._still:
            part.requires_grad_(False)
        if still_norms:  # `requires_grad` alone leaves the running statistics moving
            self._still += [part for part in self.backbone.modules() if isinstance(part, _BatchNorm)]

    def train(self) -> None:
        """Set training mode; frozen parts and frozen norms stay in evaluation mode."""
        self.module.train()
        for part in self._still:
            part.eval()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the problem, with label smoothing."""
        logits = self.head(self.backbone(*batch.inputs))
        return {"task": problems.loss(self.problem, logits, batch.labels, smoothing=self.smoothing)}

    def deployable(self) -> Head:
        """The head as it is."""
        return self.head.as_head()


def still_norms(options: FineTune, items: int) -> bool:
    """Whether BatchNorm keeps its running statistics.

    `auto`: yes where the head was fitted to features that were made with them (other statistics make other features),
    and where items or batches are few. From random weights there are none to keep.
    """
    if options.batch_norm != "auto":
        return options.batch_norm == "frozen"
    return options.init == "pretrained" and (options.head_start or items < _FEW or options.batch_size < _SMALL_BATCH)


def optimiser(method: loop.Method, options: FineTune) -> torch.optim.Optimizer:
    """AdamW or Nesterov SGD; the head has its own rate, biases and norms (fewer than two axes) no weight decay.

    From random weights everything learns at the head's rate.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in method.module.named_parameters():
        of_backbone = name.startswith("backbone.") and options.init == "pretrained"
        rate = options.backbone_lr if of_backbone else options.head_lr
        if parameter.requires_grad and rate > 0:
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    parts = [{"params": parts, "lr": rate, "weight_decay": decay} for (rate, decay), parts in groups.items()]
    if options.optimiser == "sgd":
        return torch.optim.SGD(parts, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(parts)


def move(module: nn.Module, device: torch.device) -> None:
    """Move a network, its convolutions in channels-last memory, which they are fastest with."""
    module.to(device=device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
