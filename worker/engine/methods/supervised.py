"""Supervised training of a head or a network: the classes that run in the loop, and their optimiser."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.recipes import Settled
from worker.engine import loop
from worker.engine.backbones import Backbone
from worker.engine.heads import Head, HeadModule
from worker.engine.loop import Batch
from worker.engine.recipes import l2sp, layer_decay, unfreezing
from worker.engine.recipes.objective import Objective


class Supervised(loop.Method, Protocol):
    """What learns from labels, and ends as a head."""

    def deployable(self) -> Head:
        """The head as it is served."""


class HeadTraining:
    """Trains a head on cached features (n, D)."""

    def __init__(self, head: HeadModule, objective: Objective) -> None:
        self.head, self.objective = head, objective

    @property
    def module(self) -> nn.Module:
        """The head."""
        return self.head

    def train(self, _epoch: int) -> None:
        """Set training mode."""
        self.head.train()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the problem; it is the features that are mixed."""
        mixture = self.objective.mixture(batch.labels)
        features = batch.inputs[0] if mixture is None else mixture(batch.inputs[0])
        return {"task": self.objective(self.head(features), batch.labels, mixture)}

    def deployable(self) -> Head:
        """The head as it is."""
        return self.head.as_head()


class NetworkTraining:
    """Trains a head together with those parts of the backbone that are not frozen."""

    def __init__(self, backbone: Backbone, head: HeadModule, options: Settled, objective: Objective) -> None:
        self.backbone, self.head, self.options, self.objective = backbone.module, head, options, objective
        self.stages = backbone.stages
        self.module = nn.ModuleDict({"backbone": self.backbone, "head": head})
        self._still = backbone.frozen(options.freeze)
        for part in self._still:
            part.requires_grad_(False)
        self._learning = {id(part) for part in self.backbone.parameters() if part.requires_grad}
        if options.batch_norm == "frozen":  # `requires_grad` alone leaves the running statistics moving
            self._still += [part for part in self.backbone.modules() if isinstance(part, _BatchNorm)]
        self._start = l2sp.Start(self.backbone.parameters()) if options.l2_sp else None
        self._mixes_inputs = backbone.card.modality == "image"

    def train(self, epoch: int) -> None:
        """Set training mode; what is frozen, or not yet unfrozen, stays in evaluation mode."""
        self.module.train()
        for part in [*self._still, *(self._resting(epoch) if self.options.gradual_unfreezing else [])]:
            part.eval()

    def _resting(self, epoch: int) -> list[nn.Module]:
        """The parts that do not learn yet; those that do are told to."""
        count = unfreezing.still_stages(len(self.stages), epoch, self.options.epochs)
        for number, (_, parts) in enumerate(self.stages):
            for parameter in (parameter for part in parts for parameter in part.parameters()):
                parameter.requires_grad_(number >= count and id(parameter) in self._learning)
        return [part for _, parts in self.stages[:count] for part in parts]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the problem, and the penalty on leaving the start."""
        mixture = self.objective.mixture(batch.labels)
        inputs = batch.inputs
        if mixture is not None and self._mixes_inputs:
            inputs = tuple(mixture(part) for part in inputs)
        embedding = self.backbone(*inputs)
        if mixture is not None and not self._mixes_inputs:  # words and categories cannot be mixed, what they mean can
            embedding = mixture(embedding)
        losses = {"task": self.objective(self.head(embedding), batch.labels, mixture)}
        if self._start is not None:
            losses["l2_sp"] = self._start.penalty(self.options.l2_sp)
        return losses

    def deployable(self) -> Head:
        """The head as it is."""
        return self.head.as_head()


def optimiser(method: loop.Method, options: Settled) -> torch.optim.Optimizer:
    """AdamW or Nesterov SGD; the head has its own rate, biases and norms (fewer than two axes) no weight decay.

    From random weights everything learns at the head's rate.
    """
    own = _rates(method, options)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in method.module.parameters():
        rate = own.get(id(parameter), options.head_lr)
        if parameter.requires_grad and rate > 0:
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    parts = [{"params": parts, "lr": rate, "weight_decay": decay} for (rate, decay), parts in groups.items()]
    if options.optimiser == "sgd":
        return torch.optim.SGD(parts, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(parts)


def _rates(method: loop.Method, options: Settled) -> dict[int, float]:
    """Peak learning rate of each of a backbone's parameters, by the parameter's `id`."""
    if not isinstance(method, NetworkTraining) or options.init == "scratch":
        return {}
    rates = layer_decay.rates(len(method.stages), options.backbone_lr, options.layer_decay)
    return {parameter: rates[number] for parameter, number in layer_decay.stage_numbers(method.stages).items()}


def move(module: nn.Module, device: torch.device) -> None:
    """Move a network, its convolutions in channels-last memory, which they are fastest with."""
    module.to(device=device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
