"""`adabn`: the network's BatchNorms take the statistics of the domain that they see.

Li, Wang, Shi, Liu, Hou: Revisiting Batch Normalization For Practical Domain Adaptation, ICLR Workshops 2017. With a
pretrained network that stays frozen, a linear classifier is fitted on source embeddings (n, D) made with the source's
statistics, and served on the network with the target's: nothing is trained but this. A network that learns (from
scratch, or with `freeze: none`) is trained on the source with its own statistics, while the target's are gathered.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.contract.errors import JobError
from core.contract.methods import LinearProbe
from core.contract.methods.adabn import AdaBn as Options
from worker.engine.backbones import Backbone, Base
from worker.engine.data import Items
from worker.engine.feeds import Floats, embed_all, source
from worker.engine.loading import in_order, workers
from worker.engine.methods import deep, linear_probe, settling
from worker.engine.methods.adapting import target_items
from worker.engine.methods.domains import Alignment, DomainTraining, Outputs, Top, Weights, norms
from worker.engine.methods.settling import Settled
from worker.engine.methods.supervised import move
from worker.engine.methods.worlds import World
from worker.engine.task import Task, Trained

BATCH = 64  # items whose statistics are taken together


class Nothing(Alignment):
    """No loss: statistics are all that adapts."""

    def forward(self, source: Outputs, _target: Outputs, _progress: float) -> Tensor:
        """0."""
        return source.logits.new_zeros(())


def check(options: Options, base: Base) -> None:
    """Refuse what no deep method takes, and a base model without BatchNorms: `base_model_unsuitable`."""
    settling.check(options, base)
    if not norms(base.backbone().module):
        raise JobError(
            f"{base.identity.card.id} has no BatchNorms, so none can take the target's statistics.",
            code="base_model_unsuitable",
            param="base_model",
            hint="Take `coral`, which aligns embeddings of any base model, or a base model with BatchNorms.",
        )


def run(task: Task) -> Trained:
    """Fit a linear classifier, or train where the network learns, too."""
    options = task.options
    assert isinstance(options, Options)
    still = options.freeze == "all" or (options.freeze == "auto" and task.device.type == "cpu")
    if still and not settling.is_scratch(options, task.base):
        return _frozen(task, options)
    return deep.adapt(task, _training)


def _training(world: World, neck: Top, options: Settled) -> DomainTraining:
    weights = Weights(0.0, options.label_smoothing, 0, options.epochs)
    return DomainTraining(world.backbone, neck, Nothing(), weights, freeze=options.freeze, batch_norm="domain")


def _frozen(task: Task, options: Options) -> Trained:
    merged, target, base = task.data.merged(), target_items(task), task.base.backbone()
    before = _with_statistics(task, base, merged.train, options.share)
    features = _embedded(task, before, merged.train)
    probe = linear_probe.fit(
        features,
        merged.train.labels,
        merged.outputs,
        LinearProbe(),
        rng=task.rng(),
        problem=merged.problem,
        modality=merged.source.modality,
        control=linear_probe.Control(check=task.wishes.check),
    )
    after = _with_statistics(task, base, target, options.share)
    move(after.module, torch.device("cpu"))
    return Trained(merged, probe.head, after, out_of_fold=probe.out_of_fold)


def _with_statistics(task: Task, base: Backbone, items: Items, share: float) -> Backbone:
    """A copy of the network, on the device, whose BatchNorms have the items' statistics, as far as `share` says."""
    found = replace(base, module=copy.deepcopy(base.module))
    move(found.module, task.device)
    own = [part for part in norms(found.module) if isinstance(part, _BatchNorm)]
    before = [(_mean(part).clone(), _variance(part).clone()) for part in own]
    momenta = [part.momentum for part in own]
    for part in own:
        part.reset_running_stats()
        part.momentum = None  # the mean over all batches
    _run_through(task, found.module, items, own)
    for part, (mean, variance), momentum in zip(own, before, momenta, strict=True):
        _mean(part).lerp_(mean, 1 - share)
        _variance(part).lerp_(variance, 1 - share)
        part.momentum = momentum
    return found


def _run_through(task: Task, module: nn.Module, items: Items, own: list[_BatchNorm]) -> None:
    """Show the network the items in batches; only its BatchNorms are in training mode."""
    seen = source(items, task.base, share=0.1)
    order = task.rng().permutation(len(items))
    parts = np.array_split(order, max(1, len(items) // BATCH))
    module.eval()
    for part in own:
        part.train()
    with torch.no_grad(), workers(task.threads, "statistics") as pool:
        for inputs in in_order(pool, seen.load, parts, ahead=2, check=task.wishes.check):
            module(*seen.finish(inputs, task.device))
    module.eval()


def _embedded(task: Task, backbone: Backbone, items: Items) -> Floats:
    with workers(task.threads, "embed") as pool:
        seen = source(items, task.base, share=0)
        return embed_all(backbone.module, seen, device=task.device, pool=pool, check=task.wishes.check)


def _mean(part: _BatchNorm) -> Tensor:
    assert part.running_mean is not None
    return part.running_mean


def _variance(part: _BatchNorm) -> Tensor:
    assert part.running_var is not None
    return part.running_var
