"""A meta-learnt start out of a model's bundle, and a few steps from it on a few items.

Beside what every model has such a bundle holds `few_shot.initialisation` in its manifest and, of Meta-SGD,
`few_shot.rates.<name>` among its tensors: a rate for each parameter of the body, named `backbone.<name>` or
`neck.<name>`, for the head's rows (`start.weight`, (K,)) and for its biases (`start.bias`, (1,)). The head starts at
zero. On cached features the body is the layer that the bundle's head begins with.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn

from core.bundle import read_member
from core.contract.few_shot import Initialisation
from core.contract.models import ModelManifest
from core.contract.prepare import ImagePrepare
from worker.engine.backbones import Backbone, own
from worker.engine.data import Items as DataItems
from worker.engine.few_shot.embedder import Embedder, on_network
from worker.engine.few_shot.episode_norm import keep_statistics
from worker.engine.few_shot.inner import check_finite
from worker.engine.few_shot.start import RATES, Inner, Start, in_step
from worker.engine.few_shot.views import Pictures, Vectors
from worker.engine.heads import Head
from worker.engine.methods.maths.inner_loop import Adapted, Items, descend, descend_head, logits_of
from worker.engine.stages import Affine, array
from worker.engine.task import Task


@dataclass(frozen=True)
class Opened:
    """A start that can be stepped from."""

    start: Start
    backbone: Backbone | None
    """The network, if the steps may change it."""
    how: Initialisation

    def inputs(self, task: Task, items: DataItems) -> Tensor:
        """Items (n, …) as the body takes them."""
        rows, turns = np.arange(len(items)), np.zeros(len(items), dtype=np.int64)
        if self.backbone is None:
            return Vectors(task.features(items)[:, None], task.device)(rows, turns)
        config = task.base.identity.card.prepare
        assert isinstance(config, ImagePrepare)
        return Pictures(items, config, task.device, augment=False)(rows, turns)

    def adapt(self, known: Items) -> Adapted:
        """A few steps on what is known; the start stays as it is. `JobError` `inner_loop_not_finite`."""
        start, rates = self.start, self.start.rates_by_name(known.truth.shape[1])
        with torch.no_grad():
            if self.how.adapts == "all":
                found = descend(
                    start.embed,
                    start.body(),
                    [known] * self.how.inner_steps,
                    rates,
                    order=1,
                    body_steps=self.how.body_steps,
                )
            else:
                z = start.embed(start.body(), known.inputs)
                found = Adapted(start.body(), *descend_head(z, known.truth, self.how.inner_steps, rates))
            check_finite(found.loss + found.weight.sum() + sum(part.sum() for part in found.body.values()))
        return found

    def logits(self, found: Adapted, known: Items, asked: Tensor) -> Tensor:
        """What is said (m, W) of items (m, …), each answered by itself."""
        with torch.no_grad():
            return logits_of(self.start.asked(found.body, known.inputs, asked), found.weight, found.bias)

    def settle(self, found: Adapted, known: Items) -> tuple[Head, Backbone | None]:
        """Make the body what was found, its batch norms' statistics those of the known items; the plain model of it."""
        with torch.no_grad():
            for name, part in self.start.body().items():
                part.copy_(found.body[name])
        embedder = self.start.embedder.eval()
        if self.start.layout is not None:
            keep_statistics(embedder, self.start.layout, known.inputs)
        return Head(array(found.weight), array(found.bias), before=embedder.stages()), self.backbone


def open_start(task: Task, bundle: Path, found: ModelManifest, how: Initialisation) -> Opened:
    """The start that stands in a bundle; `how` says by which steps."""
    neck = _neck(own.head(bundle, found))
    if neck is None:
        built = on_network(task, str(found.method.get("freeze", "none")))
        embedder, backbone = built.module, built.backbone
    else:
        embedder, backbone = Embedder(None, neck, neck.out_features).to(task.device), None
    inner = Inner(how.inner_steps, how.inner_steps, how.inner_lr, how.body_steps, how.body_lr)
    start = Start(embedder, inner, learns_rates=how.rates, by_support=how.statistics == "support")
    tensors = load(read_member(bundle, "model.safetensors")) if how.rates else {}
    with torch.no_grad():
        for name, rate in zip(start.names, start.rates, strict=True):
            rate.copy_(tensors[RATES + name])
    return Opened(start.to(task.device).eval(), backbone, how)


def with_steps(how: Initialisation, steps: int | None, lr: float | None) -> Initialisation:
    """With other steps, where they are told."""
    lr = lr or how.inner_lr
    told = {"inner_steps": steps or how.inner_steps, "inner_lr": lr, "body_lr": in_step(how.body_lr, how.inner_lr, lr)}
    return how.model_copy(update=told)


def _neck(head: Head | None) -> nn.Linear | None:
    """The layer on cached features, if there is one."""
    first = head.before[0] if head is not None and head.before else None
    if not isinstance(first, Affine):
        return None
    layer = nn.Linear(*first.weight.shape[::-1])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(first.weight))
        layer.bias.copy_(torch.from_numpy(first.bias))
    return layer
